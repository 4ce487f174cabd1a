"""The address at which peers will look for this machine, and the port at which they meet."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence

from realrun.doctor.finding import Finding, limited, missing, ready

_GLOO, _NCCL = "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"
_GET_ADDRESS = 0x8915  # SIOCGIFADDR, linux/sockios.h
_TORCHRUN_PORT = 29500

Resolve = Callable[[str], str]


def interfaces() -> list[str]:
    """Return the names of this machine's network cards, loopback included."""
    return [name for _, name in socket.if_nameindex()]


def address_of(name: str) -> str:
    """Return a card's IPv4 address; empty if it has none or the system does not say."""
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            answer = fcntl.ioctl(any_socket, _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
    except (ImportError, OSError):
        return ""
    return socket.inet_ntoa(answer[20:24])


def resolved(host: str) -> str:
    """Return the first address of a name; empty if it has none."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return ""


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address."""
    return bool(address) and ipaddress.ip_address(address.partition("%")[0]).is_loopback


def own_address(environment: Mapping[str, str] = os.environ, resolve: Resolve = resolved) -> str:
    """Return the address that gloo will tell the others, as it finds it; empty if it cannot."""
    name = environment.get(_GLOO, "").split(",")[0]
    if name:
        return address_of(name)
    return resolve(socket.gethostname()) or "127.0.0.1"


def chosen_cards(environment: Mapping[str, str], names: Sequence[str]) -> Finding:
    """Whether the cards that the environment chooses are here."""
    said = []
    for key in (_GLOO, _NCCL):
        value = environment.get(key, "")
        if not value:
            continue
        said.append(f"{key}={value}")
        absent = [name for name in value.split(",") if not _matches(key, name, names)]
        if absent:
            return missing(
                "network card",
                f"{key}={value}: no such card here (there are {', '.join(names)})",
                f"export {key}={_outward(names)}",
            )
    return ready("network card", ", ".join(said) or "not chosen; the system's own choice")


def _matches(key: str, name: str, names: Sequence[str]) -> bool:
    if key == _GLOO:
        return name in names
    if name.startswith("^"):  # all but these
        return True
    if name.startswith("="):
        return name[1:] in names
    return any(card.startswith(name) for card in names)


def address(
    environment: Mapping[str, str],
    names: Sequence[str],
    several_machines: bool,
    resolve: Resolve = resolved,
) -> Finding:
    """Whether other machines can find this one by the address that it tells them."""
    host = socket.gethostname()
    own = own_address(environment, resolve)
    chosen = environment.get(_GLOO, "")
    if chosen and not own:
        return missing("address", f"{chosen} has no address", f"choose another card: {_GLOO}=...")
    source = chosen or f"the address of {host}"
    if not resolve(host) and not chosen:
        source = f"{host} has no address; taken instead"
    if is_loopback(own):
        if several_machines:
            return missing(
                "address",
                f"{own} ({source}): no other machine can reach it",
                f"export {_GLOO}={_outward(names)} {_NCCL}={_outward(names)}",
            )
        return ready("address", f"{own} ({source}), which reaches this machine only")
    return ready("address", f"{own} ({source})")


def _outward(names: Sequence[str]) -> str:
    """Return the first card with an address that is not loopback, to be proposed."""
    outward = [name for name in names if (own := address_of(name)) and not is_loopback(own)]
    return outward[0] if outward else "CARD"


def port(environment: Mapping[str, str], free: Callable[[int], bool] | None = None) -> Finding:
    """Whether the port at which ranks meet can be had; only where no one holds it for us yet."""
    free = free or _free
    asked = environment.get("MASTER_PORT")
    if asked is not None:
        if not asked.isdigit() or not 0 < int(asked) < 65536:
            return missing("port", f"MASTER_PORT={asked}", "MASTER_PORT must be 1 to 65535")
        if not free(int(asked)):
            return missing("port", f"MASTER_PORT={asked} is in use", "unset MASTER_PORT")
        return ready("port", f"{asked} (MASTER_PORT)")
    if not free(_TORCHRUN_PORT):
        return limited(
            "port",
            f"the system chooses a free one; torchrun's own, {_TORCHRUN_PORT}, is in use",
            "for torchrun: --master-port with another number",
        )
    return ready("port", "the system chooses a free one")


def _free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", number))  # fails where somebody listens; we never do
        except OSError:
            return False
    return True
