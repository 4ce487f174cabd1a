"""A lab: a scenario's network between namespaces of this machine, and workers in it."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import isfinite
from signal import Signals
from time import monotonic

from realrun.errors import RunError
from realrun.lab.check import Checked, checked
from realrun.lab.devices import DEVICE, TUN, address, limit_bursts, opened
from realrun.lab.topology import Topology
from realrun.processes.launch import Handed, launch
from realrun.processes.namespaces import Namespace

_PORT = "29500"  # the lab's addresses are its own, so no port is taken
_LEAST_WINDOW = 1 << 20  # gloo reads in bursts; with less it leaves a slow link idle
_END_S = 5.0


class Lab:
    """What :func:`built` yields.

    ``checks`` is what was measured before it was handed over; ``switch`` the number of the
    process that carries the packets.
    """

    def __init__(
        self,
        found: Topology,
        namespaces: Sequence[Namespace],
        devices: Sequence[int],
        switch: subprocess.Popen[bytes],
        checks: Sequence[Checked],
        delivered: memoryview,
    ) -> None:
        self.topology, self.namespaces, self.checks = found, namespaces, checks
        self._devices, self._switch, self._delivered = devices, switch, delivered

    @property
    def switch(self) -> int:
        """Process number of the switch."""
        return self._switch.pid

    @property
    def environment(self) -> dict[str, str]:
        """What tells a worker where rank 0 is, and which device to use."""
        return {
            "MASTER_ADDR": address(0),
            "MASTER_PORT": os.environ.get("MASTER_PORT", _PORT),
            "GLOO_SOCKET_IFNAME": DEVICE,
        }

    def delivered(self) -> list[int]:
        """Return the bytes of payload from each rank to each other until now, row by row.

        Those of the checks are among them.
        """
        return self._delivered.tolist()

    def vary(self) -> None:
        """Let the profiles of links begin now; nothing may be under way."""
        if self.topology.profiles:
            _tell(self._switch, self.topology, self._devices, vary=True)

    def change(self, found: Topology, *, check: bool = True) -> list[Checked]:
        """Make another network of it, for as many workers; return its checks, if asked for.

        Nothing may be under way. What a connection may have under way stays as it is.

        Raises
        ------
        RunError
            If it is not as asked for.
        """
        self.topology = found
        _tell(self._switch, found, self._devices)
        for namespace, rank in zip(self.namespaces, range(found.workers), strict=True):
            namespace.call(limit_bursts, found.fastest_from(rank))
        self.checks = list(checked(found, self.namespaces)) if check else []
        return self.checks

    def run(
        self,
        arguments: Sequence[str],
        handed: Sequence[Handed] = (),
        explained: Callable[[str], str] = str,
    ) -> int:
        """Run ``python -m realrun`` with these arguments, one worker per namespace.

        Parameters
        ----------
        arguments
            Of the command line.
        handed
            What workers inherit.
        explained
            Takes the line that says why one failed, and returns what is told.

        Raises
        ------
        RunError
            With the line that says why one failed.
        """
        return launch(
            arguments,
            self.topology.workers,
            environment=self.environment,
            handed=handed,
            namespaces=[namespace.file for namespace in self.namespaces],
            trouble=self.trouble,
            explained=explained,
        )

    def trouble(self) -> str | None:
        """Say why nothing can be sent any more; None where all is well."""
        status = self._switch.poll()
        return None if status is None else _ended(status)


@contextmanager
def built(
    found: Topology,
    tell: Callable[[Checked], None] = lambda check: None,
    later: Sequence[Topology] = (),
) -> Iterator[Lab]:
    """Build a lab, check it, and take it down again.

    Parameters
    ----------
    found
        Its network.
    tell
        Called with every check that it passed.
    later
        What it will be changed into: connections get windows for the longest of all.

    Raises
    ------
    RunError
        If this machine cannot have one, or its network is not as asked for.
    """
    if sys.platform != "linux":
        raise RunError(f"a lab needs the network namespaces of Linux; this is {sys.platform}")
    with ExitStack() as parts:
        window = max(
            _LEAST_WINDOW,
            *(each.at_most.window(*pair) for each in (found, *later) for pair in each.paths),
        )
        namespaces, devices = [], []
        for rank in range(found.workers):
            namespaces.append(_namespace())
            parts.callback(namespaces[-1].close)
            fastest = found.at_most.fastest_from(rank)
            devices.append(_device(namespaces[-1], rank, fastest, window))
            parts.callback(os.close, devices[-1])
        counts = os.memfd_create("delivered")
        parts.callback(os.close, counts)
        os.ftruncate(counts, 8 * found.workers**2)
        delivered = memoryview(mmap.mmap(counts, 0)).cast("Q")
        switch = parts.enter_context(_switch(found, devices, counts))
        checks = []
        for check in checked(found, namespaces):
            checks.append(check)
            tell(check)
        yield Lab(found, namespaces, devices, switch, checks, delivered)


def _namespace() -> Namespace:
    try:
        return Namespace()
    except PermissionError as error:
        raise RunError(
            "a lab makes network namespaces, which only root may; run it as root, or as root of "
            "a user namespace: unshare --user --map-root-user realrun lab ..."
        ) from error


def _device(namespace: Namespace, rank: int, rate: float, window: int) -> int:
    if not os.path.exists(TUN):
        raise RunError(f"a lab needs {TUN}, which is not here (in a container: --device {TUN})")
    try:
        return namespace.call(opened, rank, rate, window)
    except OSError as error:
        raise RunError(f"a lab cannot make its devices: {error}") from error


@contextmanager
def _switch(
    found: Topology, devices: Sequence[int], counts: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the switch; it ends with its standard input, so with this process at the latest."""
    process = subprocess.Popen(
        [sys.executable, "-m", "realrun.lab.switch", str(counts)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[*devices, counts],
        start_new_session=True,  # Ctrl-C is for us
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        _tell(process, found, devices)
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tell(
    switch: subprocess.Popen[bytes], found: Topology, devices: Sequence[int], *, vary: bool = False
) -> None:
    """Tell the switch which network to be, and wait until it is; links vary from now on."""
    ranks = range(found.workers)
    nowhere: tuple[tuple[int, ...], float] = ((), 0.0)
    table = {
        "devices": devices,
        "rates": [link.rate for link in found.links],
        "paths": [
            [(found.paths[i, j], found.latency_s[i, j]) if i != j else nowhere for j in ranks]
            for i in ranks
        ],
        "profiles": {
            number: (each.begins, each.factors, each.period if isfinite(each.period) else None)
            for number, each in (found.profiles if vary else ())
        },
        "origin": monotonic(),
    }
    assert switch.stdin is not None
    assert switch.stdout is not None
    try:
        switch.stdin.write(json.dumps(table).encode() + b"\n")
        switch.stdin.flush()
    except BrokenPipeError:
        pass  # it ends: the next line says how
    if not switch.stdout.readline():
        raise RunError(_ended(switch.wait()))


def _ended(status: int) -> str:
    how = f"was killed by {Signals(-status).name}" if status < 0 else f"ended with {status}"
    return f"the lab's switch {how}; nothing can be sent"
