"""Control messages of one group: what an exchange waits for before it may start."""

from __future__ import annotations

from functools import partial

from sim.clock import Clock
from sim.members import Members
from sim.runtime.groups import Call, Collective, Simulated, joined


class ControlGroup:
    """The control messages of one group; they queue behind no collective, and have no bytes.

    Parameters
    ----------
    name
        The program's group, with what says that it is for control.
    members
        Who takes part.
    simulated
        Those of them that are simulated, each with all that it stands for.
    clock
        Virtual time.
    round_trip_s
        Of the slowest pair of members, in seconds.
    """

    def __init__(
        self,
        name: str,
        members: Members,
        simulated: Simulated,
        clock: Clock,
        round_trip_s: float,
    ) -> None:
        self.name = name
        self.members = members
        self.simulated = simulated
        self.calls: dict[int, Collective] = {}
        self._clock = clock
        self._round_trip_s = round_trip_s

    def arrive(self, call: Call, round_trips: int, seconds: float) -> None:
        """Note that a member has called; with the last one the messages begin to travel."""
        now = self._clock.now
        collective = joined(self.calls, call, now)
        if collective.complete(len(self.simulated), now):
            taken = round_trips * self._round_trip_s + seconds
            for each in collective.calls:
                each.row.work_s = taken
            self._clock.after(taken, partial(self._end, call.row.call, collective))

    def _end(self, number: int, collective: Collective) -> None:
        del self.calls[number]
        collective.end(self._clock.now)
        for call in collective.calls:
            call.activity.end()
