"""Predict programs of libraries, run them in a lab, and compare; `make programs`.

Configurations are drawn by seed from programs, networks and numbers of workers. Each program is
recorded on loopback with two ranks; all configurations are predicted from the recording and from
the description of the program, before the first of them is run, into ``predictions.csv``. Every
run adds a row to ``runs.csv``. What has its rows is not run again. Then comes ``report.md``.

    python benchmarks/programs [--out FOLDER] [--configurations N] [--repetitions N] [--seed N]
                               [--again] [--report] [--minutes N]

Linux and root: `realrun lab` makes network namespaces. The programs need torchft:
``pip install --group programs``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from configurations import Configuration, drawn
from measuring import DISTURBED, measured
from predicting import ProgramError, predictions
from report import LOST, Result, page


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
    runs: dict[Configuration, list[tuple[float, float]]] = {}
    for row in _rows(out / "runs.csv"):
        one = float(row["measured_s"]), float(row["others"])
        runs.setdefault(Configuration.read(row), []).append(one)
    found = []
    for row in _rows(out / predictions):
        of = Configuration.read(row)
        if of in runs:
            numbers = {
                key: float(value) for key, value in row.items() if key[-2:] == "_s" and value
            }
            found.append(Result(of, numbers, runs[of]))
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


def _run(out: Path, repetitions: int, end: float) -> None:
    """Run every configuration as often as is asked; what was disturbed is run once more."""
    path = out / "runs.csv"
    rows: list[Mapping[str, Any]] = list(_rows(path))
    for repetition in range(repetitions):
        for of in _order(out):
            ours = [row for row in rows if Configuration.read(dict(row)) == of]
            quiet = [row for row in ours if float(row["others"]) < DISTURBED]
            if len(quiet) > repetition or len(ours) > repetition + 1:
                continue
            if monotonic() > end:
                return
            try:
                rows.append({**of._asdict(), **measured(of, out)})
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
    parser.add_argument("--report", action="store_true", help="write the report alone")
    given = parser.parse_args()
    end = monotonic() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = drawn(given.configurations, given.seed)
    if not given.report:
        _predict(given.out, wanted, again=given.again)
        if not given.again and not given.predict:
            _run(given.out, given.repetitions, end)
    first = _results(given.out, "first_predictions.csv")
    (given.out / "report.md").write_text(page(_results(given.out), first, len(wanted)))


if __name__ == "__main__":
    main()
