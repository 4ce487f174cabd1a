"""The collectives that are on the wire, in virtual time, and how they share links."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

import numpy as np
from numpy.typing import NDArray

from sim.clock import SAME_INSTANT, Clock, Timer
from sim.network.filling import progressive_filling
from sim.network.prices import Cost


class Flow:
    """One collective on the wire."""

    __slots__ = (
        "cost",
        "end_at",
        "group",
        "left",
        "on_end",
        "speed",
        "timer",
        "transmit_at",
        "updated",
    )

    def __init__(
        self, cost: Cost, transmit_at: float, on_end: Callable[[], None], group: str
    ) -> None:
        self.cost = cost
        self.group = group
        self.transmit_at = transmit_at
        self.left = cost.transmit_s
        self.updated = transmit_at
        self.speed = 1.0
        self.end_at = inf
        self.on_end = on_end
        self.timer: Timer | None = None


def uses(flows: list[Flow]) -> NDArray[np.float64]:
    """What flows use of each link, and of the connections that those of one group share."""
    links = flows[0].cost.links
    if all(flow.cost.links is links for flow in flows):
        use = np.array([flow.cost.use for flow in flows])
    else:
        links = np.unique(np.concatenate([flow.cost.links for flow in flows]))
        use = np.zeros((len(flows), len(links)))
        for row, flow in zip(use, flows, strict=True):
            row[np.searchsorted(links, flow.cost.links)] = flow.cost.use
    columns: dict[tuple[str, int], int] = {}
    for flow in flows:
        for pair in flow.cost.pairs.tolist():
            columns.setdefault((flow.group, pair), len(columns))
    if not columns:
        return use
    shared = np.zeros((len(flows), len(columns)))
    for row, flow in zip(shared, flows, strict=True):
        row[[columns[flow.group, pair] for pair in flow.cost.pairs.tolist()]] = flow.cost.pair_use
    return np.hstack([use, shared])


class Flows:
    """The collectives now on the wire, in virtual time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flows: list[Flow] = []
        self.next_end = inf

    def start(self, cost: Cost, extra_s: float, on_end: Callable[[], None], group: str) -> None:
        """Put a collective of a group on the wire now; ``extra_s`` is added to its latency."""
        flow = Flow(cost, self._clock.now + cost.latency_s + extra_s, on_end, group)
        self._flows.append(flow)
        if len(self._flows) == 1:
            self.next_end = flow.end_at = flow.transmit_at + cost.transmit_s
            seconds = self.next_end - self._clock.now
            flow.timer = self._clock.after(seconds, partial(self._end, flow), first=True)
        else:
            self._share()

    def end_before(self, instant: float) -> None:
        """End what ends up to ``instant`` now: at one instant collectives end first."""
        while self.next_end <= instant:
            flow = min(self._flows, key=lambda flow: flow.end_at)
            assert flow.timer is not None
            flow.timer.cancel()
            self._end(flow)

    def _share(self) -> None:
        """Recompute the speeds of all flows after one began, started transmitting or ended."""
        now = self._clock.now
        transmitting = []
        for flow in self._flows:
            if flow.transmit_at <= now * (1 + SAME_INSTANT):
                flow.left -= (now - flow.updated) * flow.speed
                flow.updated = now
                transmitting.append(flow)
        if len(transmitting) > 1:
            speeds = progressive_filling(uses(transmitting))
            for flow, speed in zip(transmitting, speeds.tolist(), strict=True):
                flow.speed = speed
        elif transmitting:
            transmitting[0].speed = 1.0
        alone = len(self._flows) == 1
        for flow in self._flows:
            if flow.updated == now or alone:
                self._schedule(flow, flow.updated + max(0.0, flow.left) / flow.speed, end=True)
            else:
                self._schedule(flow, flow.transmit_at, end=False)
        self.next_end = min((flow.end_at for flow in self._flows), default=inf)

    def _schedule(self, flow: Flow, at: float, *, end: bool) -> None:
        if flow.timer is not None:
            flow.timer.cancel()
        flow.end_at = at if end else inf
        action = partial(self._end, flow) if end else self._share
        seconds = at - self._clock.now
        flow.timer = self._clock.after(seconds if seconds > 0 else 0.0, action, first=True)

    def _end(self, flow: Flow) -> None:
        flow.timer = None  # it knows the flow: both go once nothing else knows them
        self._flows.remove(flow)
        if self._flows:
            self._share()
        else:
            self.next_end = inf
        flow.on_end()
