"""Many runs: base plus axes, in parallel processes, into one table; resumable."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim import __version__
from sim.breakdown import listed
from sim.collective_model import in_words
from sim.replications import Prediction, predicted
from sim.scenario.resolved import Scenario
from sim.subsets import with_bandwidth
from sim.visible import guarded_columns

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study

SCHEMA = 1
BANDWIDTH = "network.bandwidth_bytes_per_s"
_CHUNK = 10  # runs per task: small enough for the progress bar, large enough to send away
_PROGRESS = "progress.jsonl"
_RESULTS = ("results.csv", "results.parquet")


class StudyError(Exception):
    """A study cannot be run or resumed as asked."""


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
    if throughput is not None:
        record["tokens_per_s_per_accelerator"] = throughput.tokens_per_s_per_accelerator
        record["mfu_end_to_end_fraction"] = throughput.mfu
    record.update({f"{cause}_fraction": part for cause, part in listed(result.breakdown).items()})
    return record


def _run_task(task: _Task) -> tuple[int, list[dict[str, Any]]]:
    rows = []
    for labels, scenario in task.scenarios:
        rows.append(row({**task.labels, **labels}, scenario, predicted(scenario)))
    return task.number, rows


def run(
    study: Study,
    out: Path,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Run every case of a study (at every point of its grid) and write the results to ``out``.

    Finished runs are kept in ``out``/progress.jsonl until all are done, and are not repeated
    when the same study is started again. Then results.csv and results.parquet are written.

    Parameters
    ----------
    study
        Base, axes and grid; see :func:`sim.scenario.load_study`.
    out
        Folder; made if it is not there.
    jobs
        Processes.
    on_progress
        Called with runs done and runs in all.

    Returns
    -------
    pandas.DataFrame
        One row per run, in the order of the cases.

    Raises
    ------
    StudyError
        If ``out`` holds the progress of another study.
    """
    tasks = list(_tasks(study))
    total = sum(len(task.scenarios) for task in tasks)
    out.mkdir(parents=True, exist_ok=True)
    finished = _resume(out / _PROGRESS, _fingerprint(tasks))
    done = sum(map(len, finished.values()))
    on_progress(done, total)
    waiting = [task for task in tasks if task.number not in finished]
    with (out / _PROGRESS).open("a") as log:
        for number, rows in _in_parallel(waiting, jobs):
            finished[number] = rows
            log.write(json.dumps([number, rows]) + "\n")
            log.flush()
            done += len(rows)
            on_progress(done, total)
    frame = _frame(finished)
    csv, parquet = (out / name for name in _RESULTS)
    guarded_columns(frame).to_csv(csv, index=False)
    frame.to_parquet(parquet, index=False)
    (out / _PROGRESS).unlink()
    return frame


def _tasks(study: Study) -> Iterator[_Task]:
    number = 0
    for case in study.cases():
        points: list[tuple[dict[str, Any], Scenario]] = [({}, case.scenario)]
        if study.grid is not None:
            points = [
                ({BANDWIDTH: rate}, with_bandwidth(case.scenario, rate)) for rate in study.grid
            ]
        for start in range(0, len(points), _CHUNK):
            yield _Task(number, dict(case.labels), tuple(points[start : start + _CHUNK]))
            number += 1


def _fingerprint(tasks: list[_Task]) -> str:
    digest = hashlib.sha256(__version__.encode())
    for task in tasks:
        for labels, scenario in task.scenarios:
            digest.update(repr((task.labels, labels, scenario.sha256)).encode())
    return digest.hexdigest()


def _resume(path: Path, fingerprint: str) -> dict[int, list[dict[str, Any]]]:
    """Read finished tasks; start the file if there is none."""
    if not path.exists():
        path.write_text(json.dumps({"study_sha256": fingerprint}) + "\n")
        return {}
    lines = path.read_text().splitlines()
    try:
        known = json.loads(lines[0])["study_sha256"]
    except (IndexError, ValueError, KeyError, TypeError):
        known = "unreadable"
    if known != fingerprint:
        raise StudyError(
            f"{path}: holds the progress of another study ({known[:12]}, not {fingerprint[:12]}); "
            "choose another --out, or delete that file to start afresh"
        )
    finished = {}
    whole = []
    for line in lines[1:]:
        try:
            number, rows = json.loads(line)
        except ValueError:  # the line that was being written when the study was interrupted
            continue
        finished[number] = rows
        whole.append(line)
    path.write_text("\n".join([lines[0], *whole]) + "\n")
    return finished


def _in_parallel(tasks: list[_Task], jobs: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    if jobs <= 1 or len(tasks) <= 1:
        yield from map(_run_task, tasks)
        return
    import cloudpickle
    from joblib import Parallel, delayed

    for task in tasks:
        for _, scenario in task.scenarios:
            module = sys.modules.get(scenario.method.program.__module__)
            if module is not None and module.__name__.split(".")[0] != "sim":
                # A module of the user's, which other processes may not find: send its text.
                cloudpickle.register_pickle_by_value(module)
    parallel = Parallel(n_jobs=min(jobs, len(tasks)), return_as="generator_unordered")
    yield from parallel(delayed(_run_task)(task) for task in tasks)


def _frame(finished: dict[int, list[dict[str, Any]]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame([record for number in sorted(finished) for record in finished[number]])
    if BANDWIDTH in frame:  # beside the other labels
        labels = list(frame.columns)
        labels.remove(BANDWIDTH)
        labels.insert(labels.index("schema"), BANDWIDTH)
        frame = frame[labels]
    return frame
