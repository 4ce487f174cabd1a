"""What ``realrun lab`` needs, tried where nothing can be harmed: in a namespace that ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

from realrun.doctor.finding import Finding, Part, limited, missing, ready
from realrun.errors import RunError
from realrun.lab.devices import TUN, opened
from realrun.lab.topology import topology
from realrun.processes.namespaces import Namespace
from sim.scenario import Scenario

_LAB: Part = "lab"
_USER = "unshare --user --map-root-user"
_TRIED_S = 10


def namespaces(make: Callable[[], Namespace] = Namespace, user_may: bool | None = None) -> Finding:
    """Whether this process may make network namespaces, itself or as root of a user namespace."""
    if sys.platform != "linux":
        return missing("namespaces", sys.platform, "use Linux, or a virtual machine of it", _LAB)
    try:
        make().close()
    except PermissionError:
        if _user_namespaces() if user_may is None else user_may:
            return limited(
                "namespaces",
                "not by this process, but by root of a user namespace",
                f"{_USER} realrun lab ...",
                _LAB,
            )
        return missing(
            "namespaces",
            "not by this process, and user namespaces are not to be had",
            "run it as root (in a container: --privileged)",
            _LAB,
        )
    except OSError as error:
        return missing("namespaces", error.strerror or str(error), "run it as root", _LAB)
    who = "root" if os.geteuid() == 0 else "this user has the capability"
    return ready("namespaces", f"may be made ({who})", _LAB)


def _user_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return _works(["unshare", "--user", "--map-root-user", "--net", "true"])


def _works(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TRIED_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def tun(path: str = TUN, make: Callable[[], Namespace] = Namespace) -> Finding:
    """Whether a device can be made, in a namespace that ends with this."""
    if not os.path.exists(path):
        return missing(path, "not here", f"modprobe tun (in a container: --device {path})", _LAB)
    if not os.access(path, os.R_OK | os.W_OK):
        return missing(path, "this user may not open it", f"chmod 666 {path}, or as root", _LAB)
    try:
        namespace = make()
    except OSError:
        return limited(path, "here; not tried without a namespace", "first namespaces", _LAB)
    try:
        os.close(namespace.call(opened, 0, 1e6, 1 << 20))
    except OSError as error:
        how = error.strerror or str(error)
        return missing(path, f"makes no device: {how}", "run it as root, with CAP_NET_ADMIN", _LAB)
    finally:
        namespace.close()
    return ready(path, "makes devices", _LAB)


def tc(make: Callable[[], Namespace] = Namespace) -> Finding:
    """Whether the kernel's own traffic control is here, for those who know it: nobody needs it."""
    unneeded = "the lab needs neither"
    if shutil.which("tc") is None:
        return ready("tc, netem", f"no tc; {unneeded}", _LAB)
    command = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    try:
        namespace = make()
    except OSError:
        return ready("tc, netem", f"tc is here, netem was not tried; {unneeded}", _LAB)
    try:
        works = namespace.call(_works, command)
    finally:
        namespace.close()
    return ready(
        "tc, netem", f"tc is here, netem is {'' if works else 'not '}here; {unneeded}", _LAB
    )


def emulates(scenario: Scenario) -> Finding:
    """Whether the scenario's network is one that a lab can emulate."""
    try:
        found = topology(scenario)
    except RunError as error:
        key, _, text = str(error).partition(": ")
        return missing("network", f"{key}: {text}", f"--set {key}=...", _LAB)
    links = len(found.links)
    return ready(
        "network", f"{found.workers} workers, {links} links, within what a lab emulates", _LAB
    )
