"""Wall-clock time of every method as a max-plus recurrence over workers, without events.

The state is one time per worker; everything is built from two statements. A computation adds:
t_m <- t_m + seconds / speed_m. Collective number c takes a maximum over all workers and over the
collective before it:

    ready(c) = max_m call_m(c),   end(c) = max(ready(c), end(c-1)) + D(c),

and a worker that waits for it resumes at max(t_m, end(c)). D is :func:`longest_path`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.records.scenario import Scenario
from sim.theory.costs import Costs, Seconds
from sim.theory.recurrences import RECURRENCES, Parts, averages


@dataclass(frozen=True)
class Timing:
    """What a deterministic run takes.

    ``total_s``: seconds from the start to the end of the last worker's program.
    ``round_begins_s``: [rounds + 1, workers], when each worker begins each round; the last row
    is the mark that ends the run (what is still in flight is awaited after it).
    """

    total_s: float
    round_begins_s: Seconds


def wall_clock(scenario: Scenario, rounds: int) -> Timing:
    """Times of a deterministic run of ``rounds`` rounds.

    Parameters
    ----------
    scenario
        Any method of ``METHODS``, any network and speeds.
    rounds
        How often ``next_round`` answers True.

    Raises
    ------
    ValueError
        Outside the domain: jitter, ``communication_slowdown`` or ``background_slowdown`` other than
        1, a cold start, ``transmission_slowdown``, measured tables of collectives, workers of
        different ``n_grad_accumulation``, a method of your own, or (with ``concurrent`` > 1)
        collectives that slow each other down.

    Notes
    -----
    docs/background/network.md. Max-plus recurrences of this kind: Baccelli, Cohen, Olsder and
    Quadrat 1992, "Synchronization and Linearity".

    Examples
    --------
    DiLoCo, two workers, H = 10 steps of 0.1 s, and 1e6 parameters in bf16 over 1e6 bytes/s, which
    takes 2 (1 - 1/2) 2e6 / 1e6 = 2 s: a round takes 3 s.

    >>> from sim.methods import METHODS
    >>> from sim.records import scenario as r
    >>> machine = r.Machine(step_seconds=0.1, batch_tokens=1)
    >>> scenario = r.Scenario(
    ...     run=r.Run(),
    ...     model=r.ModelSize("toy", 1_000_000, 1_000_000, (500_000, 500_000)),
    ...     method=r.Method("diloco", METHODS["diloco"], {"sync_every": 10}),
    ...     workers=(r.Worker(0, 0, machine), r.Worker(1, 1, machine)),
    ...     sites=(r.Site("a", 1), r.Site("b", 1)),
    ...     network=r.Network(((0, 1e6), (1e6, 0)), ((0, 0), (0, 0))),
    ... )
    >>> timing = wall_clock(scenario, 4)
    >>> round(timing.total_s, 9), timing.round_begins_s[:, 0].round(9).tolist()
    (12.0, [0.0, 3.0, 6.0, 9.0, 12.0])
    """
    _check_domain(scenario)
    name, arguments = (
        scenario.method.name,
        {**scenario.method.arguments, "comm_dtype": scenario.comm_dtype},
    )
    if name not in RECURRENCES:
        raise ValueError(f"method {name!r} has no recurrence; there are {', '.join(RECURRENCES)}")
    end, begins = RECURRENCES[name](Costs(scenario), rounds, **arguments)
    return Timing(float(end.max()), np.array(begins, dtype=np.float64))


def wall_clock_of_averages(
    scenario: Scenario, rounds: int, parts: Callable[[int], Parts]
) -> Timing:
    """Times of local SGD whose averages are over parts of the workers, round by round.

    Parameters
    ----------
    scenario
        Any network and speeds. Of its method only ``sync_every`` counts: inner steps of a round.
    rounds
        How many rounds.
    parts
        From a round's number, from 0, to the parts over which its workers average at its end.

    Raises
    ------
    ValueError
        As :func:`wall_clock`; and if averages of two parts share a link at the same time.

    Examples
    --------
    Two workers that average every other round, else each for itself: 3 s and 1 s by turns.

    >>> from sim.methods import METHODS
    >>> from sim.records import scenario as r
    >>> machine = r.Machine(step_seconds=0.1, batch_tokens=1)
    >>> scenario = r.Scenario(
    ...     run=r.Run(),
    ...     model=r.ModelSize("toy", 1_000_000, 1_000_000, (500_000, 500_000)),
    ...     method=r.Method("local_sgd", METHODS["local_sgd"], {"sync_every": 10}),
    ...     workers=(r.Worker(0, 0, machine), r.Worker(1, 1, machine)),
    ...     sites=(r.Site("a", 1), r.Site("b", 1)),
    ...     network=r.Network(((0, 1e6), (1e6, 0)), ((0, 0), (0, 0))),
    ... )
    >>> timing = wall_clock_of_averages(scenario, 4, lambda n: [[0], [1]] if n % 2 else [[0, 1]])
    >>> timing.round_begins_s[:, 0].round(9).tolist()
    [0.0, 3.0, 4.0, 7.0, 8.0]
    """
    _check_domain(scenario)
    sync_every = scenario.method.arguments["sync_every"]
    end, begins = averages(Costs(scenario), rounds, parts, sync_every)
    return Timing(float(end.max()), np.array(begins, dtype=np.float64))


def _check_domain(scenario: Scenario) -> None:
    machines = [worker.machine for worker in scenario.workers]
    if any(m.jitter.distribution != "constant" for m in machines):
        raise ValueError("jitter: the recurrences are deterministic")
    if any(m.communication_slowdown != 1 or m.background_slowdown != 1 for m in machines):
        raise ValueError("communication_slowdown and background_slowdown must be 1 here")
    if any(m.cold_start or m.transmission_slowdown for m in machines):
        raise ValueError("cold_start and transmission_slowdown must be empty here")
    if scenario.network.collectives.tables:
        raise ValueError("measured tables of collectives have no closed form")
    if len({m.n_grad_accumulation for m in machines}) > 1:
        raise ValueError("n_grad_accumulation must be the same for all workers")
