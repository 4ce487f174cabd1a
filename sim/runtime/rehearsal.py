"""A program run without peers: by one worker alone, to see what its model comes to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, TypeVar

from sim.program import Buffer, CollectiveCalls, Program
from sim.records.scenario import Scenario
from sim.runtime.errors import SimulationError
from sim.runtime.progress import Progress

QUIET_ROUNDS = 3  # that add nothing: then all slots have been used


Activity = TypeVar("Activity")


class Alone(CollectiveCalls[Activity]):
    """What workers without peers have in common; each carries out calls in its own way.

    Parameters
    ----------
    scenario
        Where the horizon, the batches and the sites come from.
    rank
        Which worker of the scenario it is.
    model
        What the program's verbs are carried out on: a :class:`sim.program.Model`.
    """

    def __init__(self, scenario: Scenario, rank: int, model: Any) -> None:
        self.model, self.rank, self.workers = model, rank, len(scenario.workers)
        self.site = scenario.ranks_by_site[scenario.workers[rank].site]
        self._scenario = scenario
        batches = [worker.machine.batch_tokens for worker in scenario.workers]
        self._progress = Progress(batches, scenario.tokens_per_step, rank)


class Ended:
    """An activity that was over as soon as it was begun."""

    done = True


class Rehearsal(Alone[Ended]):
    """A worker on which everything is over as soon as it is begun; see :class:`sim.program.Worker`.

    It continues for as long as rounds add to what the model holds, and not beyond the horizon.

    Parameters
    ----------
    model
        What the program's verbs are carried out on, once each: a :class:`sim.program.Model`.
    rank
        Which worker of the scenario it is.
    scenario
        Where the horizon, the batches and the sites come from.
    size
        How much the model holds now, in any unit.
    """

    def __init__(
        self, model: Any, rank: int, scenario: Scenario, size: Callable[[], float]
    ) -> None:
        super().__init__(scenario, rank, model)
        self._size_now = size
        self._rounds = self._looks = 0
        self._quiet, self._size = 0, 0.0

    @property
    def now(self) -> float:
        """A second later at every look, so that who waits for a time gets there."""
        self._looks += 1
        self.count()
        return float(self._looks)

    def next_round(self, steps: int | tuple[int, ...] | None = None) -> bool:
        """Whether another round could add to what the model holds."""
        size = self._size_now()
        self._quiet = self._quiet + 1 if size == self._size else 0
        self._size = size
        horizon = self._scenario.run.rounds or inf
        tokens = self._scenario.horizon_tokens or inf
        more = self._rounds < horizon and self._progress.tokens < tokens
        more = more and self._quiet < QUIET_ROUNDS
        self._rounds += 1
        self._progress.begin(steps)
        if why := self._progress.endless(more):
            raise self.stopped(why)
        return more

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> Ended:
        """Run a verb once."""
        self.count()
        self.model.perform(verb, args, kwargs, 1)
        return Ended()

    def spawn(self, program: Callable[..., Program], *args: Any) -> Ended:
        """Run a program to its end."""
        self.count()
        for _ in program(self, *args):
            self.count()
        return Ended()

    def count(self) -> None:
        """Refuse a program that never comes to its next round."""
        if why := self._progress.endless_round():
            raise self.stopped(why)

    def stopped(self, why: str) -> Exception:
        """Return the error about a program that does not end."""
        return SimulationError(why)

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Ended:
        self.count()
        return Ended()

    def control(
        self, round_trips: int, seconds: float = 0.0, *, over: Iterable[int] | None = None
    ) -> Ended:
        """Be over as soon as begun."""
        self.count()
        return Ended()
