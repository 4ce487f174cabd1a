"""Which network namespaces processes are in, told apart for good.

The number in ``net:[4026532597]`` is given again as soon as a namespace has ended. Its cookie
(SO_NETNS_COOKIE, socket(7), Linux 5.14) is not, until the machine starts again.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from realrun.processes.namespaces import enter, enter_in_thread

_SO_NETNS_COOKIE = 71


def networks(processes: Iterable[int]) -> set[int]:
    """Cookies of the namespaces that any of these processes is in or holds open."""
    found: dict[str, int] = {}
    with ExitStack() as open_files:  # while a namespace is open, no other gets its number
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        open_files.callback(os.close, home)
        for path in (path for process in processes for path in _places(process)):
            try:
                name = os.readlink(path)
                if not name.startswith("net:") or name in found:
                    continue
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                open_files.callback(os.close, handle)
                found[name] = enter_in_thread(handle, lambda: _cookie_and_back(home))
            except OSError:  # the process has ended
                continue
    return set(found.values())


def everywhere() -> set[int]:
    """Cookies of the namespaces that any other process of this machine is in or holds open."""
    others = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return networks(process for process in others if process != os.getpid())


def _cookie_and_back(home: int) -> int:
    """Of the namespace that this thread is in.

    A thread that was joined is listed for a moment longer: if it were still there, this process
    would seem to be in the namespace it asked about.
    """
    try:
        with socket.socket() as anything:
            cookie = anything.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    finally:
        enter(home)
    return int.from_bytes(cookie, "little")


def _places(process: int) -> Iterator[Path]:
    folder = Path(f"/proc/{process}")
    yield folder / "ns" / "net"
    yield from (task / "ns" / "net" for task in _listed(folder / "task"))
    yield from _listed(folder / "fd")


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []
