"""What happens to a collective that is ready: what it costs, the wire, what it slows down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sim.network import Cost, Links, Wire
from sim.runtime.device import Device

Kind = tuple[str, str, float]
"""Operation, dtype and bytes of a collective: what its time depends on."""


class _Load(NamedTuple):
    """What a kind of collective costs and takes alone, and the bytes/s that each rank then sends.

    There are no rates where nothing is slowed down by them.
    """

    cost: Cost
    seconds: float
    rates: tuple[float, ...]


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
        Seconds that a group's first collective takes longer.
    """

    def __init__(
        self, links: Links, wire: Wire, devices: Mapping[int, Device], first_s: float
    ) -> None:
        self._links = links
        self._wire = wire
        self._devices = devices
        self._first_s = first_s
        self._disturbs = any(device.disturbed for device in devices.values())
        self._loads: dict[Kind, _Load] = {}
        #: For each "operation dtype" so far, bytes sent by each rank per byte of the buffer.
        self.sent_share: dict[str, tuple[float, ...]] = {}

    def carry(self, kind: Kind, group: str, call: int, ended: Callable[[], None]) -> float:
        """Put a collective of a group on the wire.

        Returns
        -------
        float
            Seconds that it takes alone.
        """
        cost, seconds, _ = self._loads.get(kind) or self._load(kind)
        extra = self._first_s if call == 0 else 0.0
        if self._disturbs:
            for rank in self._devices:
                self.begins(kind, rank)
            undisturbed = ended

            def ended() -> None:
                for rank in self._devices:
                    self.ends(kind, rank)
                undisturbed()

        self._wire.start(cost, extra, ended, group)
        return seconds + extra

    def alone_s(self, kind: Kind) -> float:
        """Seconds of a collective alone, were it not its group's first."""
        return self._load(kind).seconds

    def first_extra(self, call: int) -> float:
        """Seconds that a group's first collective takes longer."""
        return self._first_s if call == 0 else 0.0

    def begins(self, kind: Kind, rank: int) -> None:
        """Note that a rank is sending its part of a collective."""
        self._devices[rank].communicates(+1, self._rate(kind, rank))

    def ends(self, kind: Kind, rank: int) -> None:
        """Note that a rank's part of a collective has ended."""
        self._devices[rank].communicates(-1, self._rate(kind, rank))

    def _rate(self, kind: Kind, rank: int) -> float:
        rates = self._load(kind).rates
        return rates[rank] if rates else 0.0

    def _load(self, kind: Kind) -> _Load:
        found = self._loads.get(kind)
        if found is None:
            operation, dtype, size = kind
            cost = self._links.cost(operation, dtype, size)
            key = f"{operation} {dtype}"
            if key not in self.sent_share:
                share = self._links.sent_share(operation, dtype)
                self.sent_share[key] = tuple(share.tolist())
            rates: tuple[float, ...] = ()
            seconds = cost.seconds
            if self._disturbs and seconds > 0:
                rates = tuple(share * size / seconds for share in self.sent_share[key])
            found = self._loads[kind] = _Load(cost, seconds, rates)
        return found
