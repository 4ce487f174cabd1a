"""What happens to a collective that is ready: what it costs, the wire, what it slows down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sim.clock import Clock
from sim.members import Members
from sim.network.flows import Flows
from sim.network.links import Links
from sim.network.prices import Cost
from sim.runtime.device import Device

Kind = tuple[str, str, float]
"""Operation, dtype and bytes of a collective: what its time depends on."""


class _Load(NamedTuple):
    """What a kind of collective costs and takes alone, and the bytes/s that each member then sends.

    There are no rates where nothing is slowed down by them.
    """

    cost: Cost
    seconds: float
    rates: dict[int, float]


class Transport:
    """The way of a group's collectives through the network.

    Parameters
    ----------
    members
        Whose they are.
    links
        What they cost.
    flows
        What they share.
    devices
        Of the members that are simulated, by rank; computation is slowed down while a collective
        is under way.
    first_s
        Seconds that the group's first collective takes longer.
    sent_share
        Filled in: for each operation, dtype and members ("all_reduce bf16[0,3]") the bytes sent by
        each member per byte of the buffer.
    clock
        Virtual time.
    """

    def __init__(
        self,
        members: Members,
        links: Links,
        flows: Flows,
        devices: Mapping[int, Device],
        first_s: float,
        sent_share: dict[str, tuple[float, ...]],
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._members = members
        self._links = links
        self._flows = flows
        self._devices = devices
        self._first_s = first_s
        self._sent_share = sent_share
        self._disturbs = any(device.disturbed for device in devices.values())
        self._loads: dict[Kind, _Load] = {}
        self._latest: dict[Kind, tuple[float, _Load]] = {}

    def carry(self, kind: Kind, group: str, call: int, ended: Callable[[], None]) -> float:
        """Put a collective on the wire.

        Returns
        -------
        float
            Seconds that it takes alone.
        """
        cost, seconds, _ = self._loads.get(kind) or self._load(kind)
        extra = self._first_s if call == 0 else 0.0
        if self._disturbs:
            rates = [(rank, self.begins(kind, rank)) for rank in self._devices]
            undisturbed = ended

            def ended() -> None:
                for rank, rate in rates:
                    self.ends(rank, rate)
                undisturbed()

        self._flows.start(cost, extra, ended, group)
        return seconds + extra

    def alone_s(self, kind: Kind) -> float:
        """Seconds of a collective that begins now, alone, were it not the group's first."""
        return self._load(kind).seconds

    def first_extra(self, call: int) -> float:
        """Seconds that the group's first collective takes longer."""
        return self._first_s if call == 0 else 0.0

    def begins(self, kind: Kind, rank: int) -> float:
        """Note that a rank is sending its part of a collective, and return its bytes/s."""
        rate = self._load(kind).rates.get(rank, 0.0)
        self._devices[rank].communicates(+1, rate)
        return rate

    def ends(self, rank: int, rate: float) -> None:
        """Note that a rank's part of a collective, at that rate, has ended."""
        self._devices[rank].communicates(-1, rate)

    def _load(self, kind: Kind) -> _Load:
        found = self._loads.get(kind)
        if found is None:
            (operation, dtype, size), members = kind, self._members
            if self._links.varies:
                now = self._clock.now
                latest = self._latest.get(kind)
                if latest is not None and latest[0] == now:
                    return latest[1]
                cost = self._links.cost_from(now, operation, dtype, size, members)
                if latest is not None and latest[1].cost is cost:
                    return latest[1]
            else:
                cost = self._links.cost(operation, dtype, size, members)
            key = f"{operation} {dtype}{members.name}"
            if key not in self._sent_share:
                share = self._links.sent_share(operation, dtype, members)
                self._sent_share[key] = tuple(share.tolist())
            rates: dict[int, float] = {}
            seconds = cost.seconds
            if self._disturbs and seconds > 0:
                shares = zip(members.ranks, self._sent_share[key], strict=True)
                rates = {rank: share * size / seconds for rank, share in shares}
            found = _Load(cost, seconds, rates)
            if self._links.varies:  # at another time it is another one
                self._latest[kind] = self._clock.now, found
            else:
                self._loads[kind] = found
        return found
