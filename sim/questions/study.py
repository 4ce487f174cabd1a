"""Many runs: base plus axes, in parallel processes, into one table; resumable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.figures.breakdown import listed
from sim.figures.collective_model import in_words
from sim.figures.whole_periods import evaluated_periods
from sim.processes.parallel import WorkerLostError, unordered
from sim.questions.cost import cost
from sim.questions.method_text import of_simulator
from sim.questions.replications import Prediction, predicted
from sim.questions.study_folder import Rows, StudyError, StudyFolder, identity_of
from sim.questions.variations import with_bandwidth
from sim.records.scenario import Scenario
from sim.storage.locks import locked
from sim.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study

__all__ = ["BANDWIDTH", "StudyError", "row", "run"]

SCHEMA = 1
BANDWIDTH = "network.bandwidth_bytes_per_s"
_CHUNK = 10  # runs per task: small enough for the progress bar, large enough to send away


@dataclass(frozen=True)
class _Task:
    number: int
    labels: dict[str, Any]
    scenarios: tuple[tuple[dict[str, Any], Scenario], ...]


def row(labels: Mapping[str, Any], scenario: Scenario, prediction: Prediction) -> dict[str, Any]:
    """One run as a flat record: what was varied, schema, version, hash, then the figures.

    SI units and fractions, named in the columns. ``total_wall_clock_s``, ``tokens`` and
    ``updates`` are of the whole run; ``evaluated_tokens``, ``evaluated_updates`` and all else of
    the evaluated rounds, which take ``wall_clock_s``.
    """
    result, interval = prediction.figures, prediction.interval
    throughput = result.throughput
    record: dict[str, Any] = {
        **labels,
        "schema": SCHEMA,
        "version": __version__,
        "scenario_sha256": scenario.sha256,
        "method.name": scenario.method.name,
        "workers": len(scenario.workers),
        "compute_utilization_fraction": result.compute_utilization,
        "wall_clock_s": result.wall_clock_s,
        "total_wall_clock_s": result.total_wall_clock_s,
        "total_is_lower_bound": result.total_is_lower_bound,
        "extrapolated": result.extrapolated,
        "evaluated_tokens": result.window_tokens,
        "evaluated_updates": result.window_updates,
        "figures_are_bounds": result.lower_bound,
        "steady": result.steady,
        "inner_step_s": result.inner_step_s,
        "tokens": result.tokens,
        "tokens_per_s": result.tokens_per_s,
        "updates": result.updates,
        "tokens_per_update": result.tokens_per_update,
        "sent_bytes_per_worker": result.sent_bytes_per_worker,
        "mean_bandwidth_bytes_per_s": result.mean_bandwidth_bytes_per_s,
        "peak_bandwidth_bytes_per_s": result.peak_bandwidth_bytes_per_s,
        "replications": interval.replications,
        "wall_clock_low_s": interval.low,
        "wall_clock_high_s": interval.high,
        "collective_model": in_words(result.exchanges, scenario).replace("\n", " | "),
    }
    periods = evaluated_periods(scenario, result)
    if periods is not None:
        record["evaluated_periods"] = periods
    if throughput is not None:
        record["tokens_per_s_per_accelerator"] = throughput.tokens_per_s_per_accelerator
        record["mfu_end_to_end_fraction"] = throughput.mfu
    found = cost(scenario, result)
    if found.accelerator_hours is not None:
        record["accelerator_hours"] = found.accelerator_hours
    if found.money is not None:
        record |= {"money": found.money, "currency": found.currency}
        record["money_is_lower_bound"] = found.money_is_lower_bound
    if found.energy_kwh is not None:
        record["energy_kwh"] = found.energy_kwh
        record["energy_is_lower_bound"] = found.energy_is_lower_bound
    if found.money is not None or found.energy_kwh is not None:
        record["egress_tb"] = found.egress_tb
    record.update({f"{cause}_fraction": part for cause, part in listed(result.breakdown).items()})
    return record


def _run_task(task: _Task) -> tuple[int, Rows]:
    rows = []
    for labels, scenario in task.scenarios:
        rows.append(row({**task.labels, **labels}, scenario, predicted(scenario)))
    return task.number, rows


def run(
    study: Study,
    out: Path | None = None,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Run every case of a study (at every point of its grid) and write the results to ``out``.

    Finished runs are kept in ``out``/progress.jsonl until all are done, and are not repeated
    when the same study is started again. Then results.csv and results.parquet are written.
    Where these are of the very same study already, they are returned.

    Parameters
    ----------
    study
        Base, axes and grid; see :func:`sim.scenario.load_study`.
    out
        Folder, made if it does not exist; None keeps nothing.
    jobs
        Processes.
    on_progress
        Called with runs done and runs in all.
    tell
        Called with a line that says what was found in ``out``.

    Returns
    -------
    pandas.DataFrame
        One row per run, in the order of the cases.

    Raises
    ------
    StudyError
        If ``out`` holds something of another study, or a worker process was killed.
    LockedError
        If another process works in ``out``.
    DamagedError
        If a file in ``out`` is not as it was written.
    """
    if out is None:
        return framed(_computed(study, {}, jobs, on_progress))
    identity = identity_of(study)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        folder = StudyFolder(out, identity)
        frame = folder.results()
        total = _runs(study)
        if frame is not None:
            tell(f"{out} holds the finished results of this study; nothing is computed again")
            on_progress(total, total)
            return frame
        finished = folder.finished(total)
        if finished:
            kept = sum(map(len, finished.values()))
            tell(f"{out} holds {kept} finished runs of {total}; the others are computed")
        frame = framed(_computed(study, finished, jobs, on_progress, folder.keep))
        folder.finish(frame)
    return frame


def _runs(study: Study) -> int:
    return len(study.cases()) * (1 if study.grid is None else len(study.grid))


def _tasks_per_case(study: Study) -> int:
    return 1 if study.grid is None else ceil(len(study.grid) / _CHUNK)


def _tasks(study: Study) -> Iterator[_Task]:
    number = 0
    for case in study.cases():
        rates = (None,) if study.grid is None else study.grid
        for start in range(0, len(rates), _CHUNK):
            points = [at_rate(case.scenario, rate) for rate in rates[start : start + _CHUNK]]
            yield _Task(number, dict(case.labels), tuple(points))
            number += 1


def at_rate(scenario: Scenario, rate: float | None) -> tuple[dict[str, Any], Scenario]:
    """Return a scenario at a point of the grid, if there is one, and the label of the point."""
    return ({}, scenario) if rate is None else ({BANDWIDTH: rate}, with_bandwidth(scenario, rate))


def _computed(
    study: Study,
    finished: Mapping[int, Rows],
    jobs: int,
    on_progress: Callable[[int, int], None],
    keep: Callable[[int, Rows], None] = lambda task, rows: None,
) -> dict[int, Rows]:
    """Run the tasks that are not finished yet; return the rows of all."""
    found = dict(finished)
    done, total = sum(map(len, found.values())), _runs(study)
    on_progress(done, total)
    waiting = (task for task in _tasks(study) if task.number not in found)
    remaining = len(study.cases()) * _tasks_per_case(study) - len(found)
    with closing(_in_parallel(waiting, min(jobs, remaining))) as results:
        for number, rows in results:
            found[number] = rows
            keep(number, rows)
            done += len(rows)
            on_progress(done, total)
    return found


def _in_parallel(tasks: Iterator[_Task], jobs: int) -> Generator[tuple[int, Rows], None, None]:
    if jobs <= 1:
        yield from map(_run_task, tasks)
        return
    try:
        with closing(unordered(_run_task, map(_portable, tasks), jobs)) as results:
            yield from results
    except WorkerLostError as error:
        raise StudyError(
            f"{error}; the same command with a smaller --jobs continues with what is finished"
        ) from error


def _portable(task: _Task) -> _Task:
    for _, scenario in task.scenarios:
        send_whole(scenario)
    return task


def send_whole(scenario: Scenario) -> None:
    """Have a method of the user's sent as a whole: other processes may not find its module."""
    import cloudpickle

    program = scenario.method.program
    if program.__module__ in sys.modules and not of_simulator(program):
        cloudpickle.register_pickle_by_value(sys.modules[program.__module__])


def framed(finished: Mapping[int, Rows]) -> pd.DataFrame:
    """Return the rows of tasks as one table, in the order of their numbers."""
    import pandas as pd

    frame = pd.DataFrame([record for number in sorted(finished) for record in finished[number]])
    if BANDWIDTH in frame:  # next to the other labels
        labels = list(frame.columns)
        labels.remove(BANDWIDTH)
        labels.insert(labels.index("schema"), BANDWIDTH)
        frame = frame[labels]
    return frame
