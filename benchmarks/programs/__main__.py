"""Predict programs of libraries, run them in a lab, and compare; `make programs`.

Configurations are drawn by seed from programs, networks and numbers of workers. Each program is
recorded on loopback with two ranks; all configurations are predicted from the recording and from
the description of the program, before the first of them is run, into ``predictions.csv``. Every
run adds a row to ``runs.csv``. What has its rows is not run again. ``--own`` runs our own DiLoCo in
the place of torchft's, paced, each run followed by one of the program, into ``own_runs.csv``. Then
comes ``report.md``.

    python benchmarks/programs [--out FOLDER] [--configurations N] [--repetitions N] [--seed N]
                               [--again] [--own] [--report] [--minutes N]

Linux and root: `realrun lab` makes network namespaces. The programs need torchft:
``pip install --group programs``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from configurations import Configuration, drawn
from measuring import DISTURBED, measured
from own import own
from predicting import ProgramError, predictions
from report import LOST, OwnRun, Result, Run, page

_Measure = Callable[[Configuration, Path], Mapping[str, Any]]
_SAID = "_warnings"  # as the columns of predictions.csv end


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _results(out: Path, predictions: str = "predictions.csv") -> list[Result]:
    """Return what has run, in the order in which it was drawn."""
    runs: dict[Configuration, list[Run]] = {}
    for row in _rows(out / "runs.csv"):
        busy, cores = row.get("busy_cores"), row.get("cores")
        share = float(busy) / float(cores) if busy and cores else None
        run = Run(float(row["measured_s"]), float(row["others"]), share)
        runs.setdefault(Configuration.read(row), []).append(run)
    owns: dict[Configuration, list[OwnRun]] = {}
    for row in _rows(out / "own_runs.csv"):
        if float(row["others"]) < DISTURBED:
            bytes_ratio = float(row["own_bytes"]) / float(row["program_bytes"])
            one = OwnRun(float(row["own_s"]), float(row["program_s"]), bytes_ratio)
            owns.setdefault(Configuration.read(row), []).append(one)
    found = []
    for row in _rows(out / predictions):
        of = Configuration.read(row)
        if of in runs:
            numbers = {
                key: float(value) for key, value in row.items() if key[-2:] == "_s" and value
            }
            said = {key[: -len(_SAID)]: row[key] for key in row if key.endswith(_SAID)}
            found.append(Result(of, numbers, said, runs[of], owns.get(of, [])))
    return found


def _predict(out: Path, wanted: Sequence[Configuration], *, again: bool) -> None:
    path = out / "predictions.csv"
    rows: list[Mapping[str, Any]] = [] if again else list(_rows(path))
    known = {Configuration.read(dict(row)) for row in rows}
    for of in wanted:
        if of not in known:
            rows.append({**of._asdict(), **predictions(of, out)})
            _write(path, rows)
            print(rows[-1], flush=True)


def _order(out: Path) -> list[Configuration]:
    """Return what is to be run: first paced, few workers, and much lost to communication."""

    def order(row: dict[str, str]) -> tuple[bool, bool, int]:
        lost = 1 - float(row["computation_s"]) / float(row["recording_s"])
        return row["computation"] != "paced", lost < LOST, int(row["workers"])

    return [Configuration.read(row) for row in sorted(_rows(out / "predictions.csv"), key=order)]


def _run(
    path: Path, wanted: Sequence[Configuration], measure: _Measure, repetitions: int, end: float
) -> None:
    """Run every configuration as often as is asked; what was disturbed is run once more."""
    out = path.parent
    rows: list[Mapping[str, Any]] = list(_rows(path))
    for repetition in range(repetitions):
        for of in wanted:
            ours = [row for row in rows if Configuration.read(dict(row)) == of]
            quiet = [row for row in ours if float(row["others"]) < DISTURBED]
            if len(quiet) > repetition or len(ours) > repetition + 1:
                continue
            if monotonic() > end:
                return
            try:
                rows.append({**of._asdict(), **measure(of, out)})
            except ProgramError as failed:
                print(f"not measured: {failed}", flush=True)
                continue
            _write(path, rows)
            print(rows[-1], flush=True)


def main() -> None:
    """Predict and run what has no rows yet, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/programs"))
    parser.add_argument("--configurations", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run later")
    again = "predict all again, by the simulator as it is now; run nothing"
    parser.add_argument("--again", action="store_true", help=again)
    parser.add_argument("--predict", action="store_true", help="predict, and run nothing")
    alone = "run our own DiLoCo in the place of torchft's, and nothing else"
    parser.add_argument("--own", action="store_true", help=alone)
    parser.add_argument("--report", action="store_true", help="write the report alone")
    given = parser.parse_args()
    end = monotonic() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = drawn(given.configurations, given.seed)
    if given.own:
        wanted_own = [of for of in _order(given.out) if of.diloco and of.computation == "paced"]
        _run(given.out / "own_runs.csv", wanted_own, own, given.repetitions, end)
    elif not given.report:
        _predict(given.out, wanted, again=given.again)
        if not given.again and not given.predict:
            _run(given.out / "runs.csv", _order(given.out), measured, given.repetitions, end)
    first = _results(given.out, "first_predictions.csv")
    (given.out / "report.md").write_text(page(_results(given.out), first, len(wanted)))


if __name__ == "__main__":
    main()
