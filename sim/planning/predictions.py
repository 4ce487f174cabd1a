"""What a search simulates, several settings at a time where an engine computes.

A search asks for one setting after another, and what it finds may exclude the next ones. With an
engine those that would be next, as far as is known yet, are computed at the same time. They count
only once they are asked for, so that a search finds the same with any engine and without one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import islice

from sim.processes.engines import Engine
from sim.questions.replications import Prediction, predicted
from sim.questions.study import send_whole
from sim.records.scenario import Scenario
from sim.runtime import simulate

AT_ONCE = 8
"""Settings that are computed together, at most: more are rarely of use for what comes next."""

_Key = tuple[str, int | None]


def _key(scenario: Scenario) -> _Key:
    return scenario.sha256, scenario.run.replications


class Predictions:
    """Predictions of scenarios, each made once.

    Parameters
    ----------
    engine
        Where they are made; None makes each here, when it is asked for.
    at_once
        How many are given to it together, at most :data:`AT_ONCE`; where it has fewer processes,
        as many.
    """

    def __init__(self, engine: Engine | None = None, at_once: int = AT_ONCE) -> None:
        self._engine = engine
        self._at_once = at_once
        self._made: dict[_Key, Prediction | Exception] = {}

    def of(self, scenario: Scenario, following: Iterable[Scenario] = ()) -> Prediction:
        """Return the prediction of a scenario.

        Parameters
        ----------
        scenario
            What is predicted.
        following
            What may be asked for next, the likeliest first; read as far as there is an engine to
            make it on.

        Raises
        ------
        EngineError
            If the engine gives up.
        Exception
            As :func:`sim.questions.replications.predicted` does.
        """
        if self._engine is None:
            return predicted(scenario)
        if _key(scenario) not in self._made:
            self._make(self._engine, scenario, following)
        found = self._made[_key(scenario)]
        if isinstance(found, Exception):
            raise found
        return found

    def _make(self, engine: Engine, first: Scenario, following: Iterable[Scenario]) -> None:
        others = (each for each in following if _key(each) not in self._made)
        wanted = {_key(each): each for each in (first, *islice(others, self._at_once - 1))}
        for scenario in wanted.values():
            send_whole(scenario)
        self._made |= dict(engine(_attempted, wanted.values()))


def _attempted(scenario: Scenario) -> tuple[_Key, Prediction | Exception]:
    """Predict a scenario; an error is of consequence only if its prediction is asked for."""
    try:
        found = predicted(scenario)
    except Exception as error:
        return _key(scenario), error
    # A trace is large to send; it is simulated again should anyone ask for it.
    again = partial(simulate, replace(scenario, replication=found.replication))
    return _key(scenario), replace(found, _trace=again)
