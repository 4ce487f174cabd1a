"""Collectives that share links whose capacity varies over time.

Each has done a fraction of what it transmits. In a state of the links it alone would transmit all
of it in D0 seconds; at relative speed phi the fraction grows by phi / D0 per second. When the state
changes, what is done is kept and the rest proceeds at the new pace.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from sim.clock import SAME_INSTANT, Clock, Timer
from sim.network.filling import progressive_filling
from sim.network.flows import Flow, Flows, uses
from sim.network.prices import Cost
from sim.network.states import LinksError, States

MOST_CHANGES = 5_000_000
"""While something is on the wire; some minutes."""


class VaryingFlows(Flows):
    """The collectives now on the wire, over links that vary.

    Parameters
    ----------
    clock
        Virtual time.
    states
        What the links' factors are, over time.
    """

    def __init__(self, clock: Clock, states: States) -> None:
        super().__init__(clock)
        self._states = states
        self._until = inf
        self._change: Timer | None = None
        self._changes = 0

    def start(self, cost: Cost, extra_s: float, on_end: Callable[[], None], group: str) -> None:
        """Put a collective of a group on the wire now; ``extra_s`` is added to its latency."""
        flow = Flow(cost, self._clock.now + cost.latency_s + extra_s, on_end, group)
        flow.left, flow.speed = 1.0, 0.0  # of the whole; per second
        self._flows.append(flow)
        if self._change is None:  # nobody has watched the links meanwhile
            self._watch(self._clock.now)
        self._share()

    def _watch(self, instant: float) -> None:
        """Note the state that begins at an instant, now, and wait for the next one."""
        self._state, self._until = self._states.at(instant)
        if self._until < inf:
            seconds = max(0.0, self._until - self._clock.now)
            self._change = self._clock.after(seconds, self._changed, first=True)

    def _changed(self) -> None:
        self._change = None
        if not self._flows:
            return
        self._changes += 1
        if self._changes > MOST_CHANGES:
            raise LinksError(
                f"links changed {MOST_CHANGES:,} times while something was sent; let the profile "
                "have fewer and longer pieces"
            )
        # What ends at this instant is not held up by what follows.
        before = self._until
        self._watch(before)
        self.end_before(self._clock.now * (1 + SAME_INSTANT))
        if self._flows:
            self._share()

    def _share(self) -> None:
        now = self._clock.now
        moving = []
        alone = len(self._flows) == 1
        for flow in self._flows:
            begun = flow.transmit_at <= now * (1 + SAME_INSTANT)
            if begun:
                flow.left -= (now - flow.updated) * flow.speed
                flow.updated = now
            if begun or alone:
                moving.append(flow)
        waiting = [flow for flow in moving if not self._priced(flow)]
        moving = [flow for flow in moving if flow not in waiting]
        speeds = [1.0] * len(moving)
        if len(moving) > 1:
            speeds = progressive_filling(uses(moving)).tolist()
        for flow, speed in zip(moving, speeds, strict=True):
            whole = flow.cost.transmit_s
            flow.speed = speed / whole if whole > 0 else 1.0
            flow.left = flow.left if whole > 0 else 0.0
            self._schedule(flow, flow.updated + max(0.0, flow.left) / flow.speed, end=True)
        for flow in waiting:
            flow.speed = 0.0
            self._wait(flow)
        for flow in self._flows:
            if flow not in moving and flow not in waiting:
                self._schedule(flow, flow.transmit_at, end=False)
        self.next_end = min((flow.end_at for flow in self._flows), default=inf)

    def _priced(self, flow: Flow) -> bool:
        """Give a flow its cost in the state of the links; false where one of them is down."""
        assert flow.cost.at is not None
        cost = flow.cost.at(self._state)
        if cost is not None:
            flow.cost = cost
        return cost is not None

    def _wait(self, flow: Flow) -> None:
        if flow.timer is not None:
            flow.timer.cancel()
        flow.timer, flow.end_at = None, inf
