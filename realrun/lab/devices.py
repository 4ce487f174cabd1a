"""The one network device of a worker's namespace: a TUN that the switch reads and writes."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path

DEVICE = "lab0"
PREFIX = 15
_FIRST = IPv4Address("198.18.0.1")  # a range kept for benchmarks, RFC 2544
TUN = "/dev/net/tun"
_MTU = 1500

# linux/if_tun.h
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x1, 0x1000, 0x4000
_CHECKSUM, _SEGMENTATION = 0x1, 0x2
# linux/rtnetlink.h, if_link.h, if_addr.h
_NEWLINK, _NEWADDR, _REQUEST, _ACK, _CREATE, _ERROR = 16, 20, 0x1, 0x4, 0x400, 2
_IFF_UP = 0x1
_IFLA_MTU, _IFLA_TXQLEN, _IFLA_GSO_MAX_SIZE = 4, 13, 41
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

_LARGEST_BURST = 65536
SMALLEST_BURST = 4096  # of which the kernel takes its own headers; two full segments remain
_QUEUE = 10_000  # packets that may wait to be read; beyond it they would be lost
_SYSCTL = Path("/proc/sys/net")


def address(rank: int) -> str:
    """Return a worker's address in its lab.

    Examples
    --------
    >>> address(0), address(300)
    ('198.18.0.1', '198.18.1.45')
    """
    return str(_FIRST + rank)


def opened(rank: int, rate: float, window: int) -> int:
    """Make the device of the namespace that this thread is in, and set the namespace up.

    Parameters
    ----------
    rank
        Whose it is.
    rate
        Of the fastest link from here, bytes/s: no burst is longer than half a millisecond.
    window
        Bytes that a connection may have under way.

    Returns
    -------
    int
        The open device: reads and writes a ``virtio_net_hdr`` of 10 bytes and a packet of
        up to 64 KB, which the kernel has neither cut to the MTU nor given a checksum.
    """
    _settings(window)
    tun = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), flags))
    fcntl.ioctl(tun, _TUNSETOFFLOAD, _CHECKSUM | _SEGMENTATION)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        _ask(kernel, _NEWLINK, _link("lo"))
        own = IPv4Address(address(rank)).packed
        where = struct.pack("BBBBi", socket.AF_INET, PREFIX, 0, 0, socket.if_nametoindex(DEVICE))
        _ask(kernel, _NEWADDR, where + _attribute(_IFA_LOCAL, own) + _attribute(_IFA_ADDRESS, own))
        options = {_IFLA_MTU: _MTU, _IFLA_TXQLEN: _QUEUE, _IFLA_GSO_MAX_SIZE: _burst(rate)}
        _ask(kernel, _NEWLINK, _link(DEVICE, options))
    return tun


def limit_bursts(rate: float) -> None:
    """Let no burst be longer than half a millisecond at another rate, bytes/s."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        _ask(kernel, _NEWLINK, _link(DEVICE, {_IFLA_GSO_MAX_SIZE: _burst(rate)}))


def _burst(rate: float) -> int:
    return int(min(max(rate * 0.5e-3, SMALLEST_BURST), _LARGEST_BURST))


def _settings(window: int) -> None:
    """Let nothing but the link limit a connection.

    No packet is lost on the link, so a sender that sends until its window is full finds the
    link's rate; pacing and delay-based guesses would add their own model of it.
    """
    for name, value in {
        "ipv4/tcp_wmem": f"4096 {window} {window}",
        "ipv4/tcp_rmem": f"4096 {window} {window}",
        "ipv4/tcp_congestion_control": "reno",
        "ipv4/tcp_slow_start_after_idle": "0",
        "ipv6/conf/all/disable_ipv6": "1",
        "ipv6/conf/default/disable_ipv6": "1",
    }.items():
        path = _SYSCTL / name
        if path.exists():
            path.write_text(value)


def _link(name: str, options: dict[int, int] | None = None) -> bytes:
    index = socket.if_nametoindex(name)
    head = struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP)
    numbers = (options or {}).items()
    return head + b"".join(_attribute(kind, struct.pack("I", number)) for kind, number in numbers)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("HH", len(value) + 4, kind) + value + bytes(-len(value) % 4)


def _ask(kernel: socket.socket, kind: int, body: bytes) -> None:
    """Send one request over netlink; raise what the kernel answers."""
    flags = _REQUEST | _ACK | (_CREATE if kind == _NEWADDR else 0)
    kernel.send(struct.pack("IHHII", len(body) + 16, kind, flags, 1, 0) + body)
    answer = kernel.recv(65536)
    _, answered = struct.unpack_from("IH", answer)
    (status,) = struct.unpack_from("i", answer, 16)
    if answered == _ERROR and status:
        raise OSError(-status, os.strerror(-status))
