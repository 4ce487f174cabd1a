"""What happens to a collective that is ready: what it costs, the wire, what it slows down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sim.members import Members
from sim.network import Cost, Links, Wire
from sim.runtime.device import Device

Kind = tuple[str, str, float]
"""Operation, dtype and bytes of a collective: what its time depends on."""


class _Load(NamedTuple):
    """What a kind of collective costs alone, and the bytes/s that each member then sends.

    There are no rates where nothing is slowed down by them.
    """

    cost: Cost
    rates: dict[int, float]


class Transport:
    """The way of collectives through the network.

    Parameters
    ----------
    links
        What they cost.
    wire
        What they share.
    devices
        By rank; computation is slowed down while a collective is under way.
    first_s
        Seconds that a group's first collective takes longer, unless it has one member.
    """

    def __init__(
        self, links: Links, wire: Wire, devices: Mapping[int, Device], first_s: float
    ) -> None:
        self._links = links
        self._wire = wire
        self._devices = devices
        self._first_s = first_s
        self._disturbs = any(device.disturbed for device in devices.values())
        self._loads: dict[tuple[Kind, str], _Load] = {}  # by the members' name, too
        #: For each "operation dtype" and members so far ("all_reduce bf16[0,3]"), bytes sent by
        #: each member per byte of the buffer.
        self.sent_share: dict[str, tuple[float, ...]] = {}

    def carry(
        self, kind: Kind, members: Members, group: str, call: int, ended: Callable[[], None]
    ) -> float:
        """Put a collective of a group on the wire.

        Returns
        -------
        float
            Seconds that it takes alone.
        """
        cost, rates = self._load(kind, members)
        extra = self.first_extra(call, members)
        if rates:
            for rank, rate in rates.items():
                self._devices[rank].communicates(+1, rate)
            undisturbed = ended

            def ended() -> None:
                for rank, rate in rates.items():
                    self._devices[rank].communicates(-1, rate)
                undisturbed()

        self._wire.start(cost, extra, ended, group)
        return cost.seconds + extra

    def alone_s(self, kind: Kind, members: Members) -> float:
        """Seconds of a collective alone, were it not its group's first."""
        return self._load(kind, members).cost.seconds

    def first_extra(self, call: int, members: Members) -> float:
        """Seconds that a group's first collective takes longer."""
        return self._first_s if call == 0 and len(members) > 1 else 0.0

    def begins(self, kind: Kind, members: Members, rank: int) -> None:
        """Note that a rank is sending its part of a collective."""
        self._devices[rank].communicates(+1, self._rate(kind, members, rank))

    def ends(self, kind: Kind, members: Members, rank: int) -> None:
        """Note that a rank's part of a collective has ended."""
        self._devices[rank].communicates(-1, self._rate(kind, members, rank))

    def _rate(self, kind: Kind, members: Members, rank: int) -> float:
        return self._load(kind, members).rates.get(rank, 0.0)

    def _load(self, kind: Kind, members: Members) -> _Load:
        found = self._loads.get((kind, members.name))
        if found is None:
            operation, dtype, size = kind
            seconds = (cost := self._links.cost(*kind, members)).seconds
            key = f"{operation} {dtype}{members.name}"
            if key not in self.sent_share:
                share = self._links.sent_share(operation, dtype, members)
                self.sent_share[key] = tuple(share.tolist())
            rates = {
                rank: share * size / seconds if seconds > 0 else 0.0
                for rank, share in zip(members.ranks, self.sent_share[key], strict=True)
                if self._disturbs and rank in self._devices
            }
            found = self._loads[kind, members.name] = _Load(cost, rates)
        return found
