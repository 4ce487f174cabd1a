"""At which addresses processes listen, as /proc tells."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

Place = tuple[str, int]
_LISTEN = "0A"


def listening(processes: Iterable[int]) -> set[Place]:
    """Addresses and ports of all sockets of these processes at which they listen for TCP."""
    return {place for process in processes for place in _of(process)}


def reachable_from_outside(processes: Iterable[int]) -> set[Place]:
    """Those that are not on loopback."""
    return {
        (address, port)
        for address, port in listening(processes)
        if not ipaddress.ip_address(address).is_loopback
    }


def _of(process: int) -> Iterator[Place]:
    own = set()
    for handle in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(os.readlink(handle))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and f"socket:[{fields[9]}]" in own:
                address, _, port = fields[1].partition(":")
                yield _address(address), int(port, 16)


def _address(text: str) -> str:
    """An address as the kernel prints it: words of 32 bits, each as this machine stores it."""
    words = (text[i : i + 8] for i in range(0, len(text), 8))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
