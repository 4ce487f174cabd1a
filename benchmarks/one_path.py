"""Does the command line predict what the report of validation/lab publishes?

    python benchmarks/one_path.py [--jobs 2]

Every configuration of the study is written as a scenario file and predicted by ``bandwise
simulate FILE --hardware CALIBRATION --rounds N``, in a process of its own. Its seconds per round
must be those of report.csv to the last bit.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tomli_w

from sim.scenario import load_study
from sim.scenario.study import Case
from sim.storage import journal

LAB = Path(__file__).parent.parent / "validation" / "lab"


def published() -> list[dict[str, str]]:
    """The report's row of every configuration."""
    with (LAB / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    return list({row["run"]: row for row in rows}.values())


def asked_rounds() -> dict[str, tuple[int, str]]:
    """Rounds that each configuration was asked for, and the calibration of its last run."""
    records = journal.read(LAB / "runs.jsonl")
    return {str(r["run"]): (r["rounds_asked"], r["calibration"]) for r in records}


def named(case: Case) -> str:
    """What a case is called whatever its numbers are written like: values of its axes."""
    return " ".join(map(str, case.labels.values()))


def written(case: Case) -> dict[str, Any]:
    """A file's content that says this case alone, without arguments of another method."""
    document = case.document
    found = document.plain()
    taken = case.scenario.method.arguments
    found["method"] = {
        key: value
        for key, value in found["method"].items()
        if key not in document.inherited or taken.get(key) == value
    }
    return found


def predict(case: Case, mode: str, rounds: int, calibration: str) -> dict[str, Any]:
    """Write a case as a file and ask the command line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.toml"
        path.write_text(tomli_w.dumps(written(case)))
        command = [sys.executable, "-m", "sim.cli", "simulate", str(path), "--json"]
        command += ["--hardware", str(LAB / calibration), "--rounds", str(rounds)]
        command += ["--set", f"run.measured_rounds={rounds - 1}"]
        command += ["--set", f"train.compute_mode={mode}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{done.stderr.strip()} ({' '.join(command)})")
        found = json.loads(done.stdout)
        return {**found["evaluated_rounds"], "replications": found["replications"]}


def main() -> None:
    """Compare all sixty; end with 1 where one differs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="number of the first configuration")
    given = parser.parse_args()
    from realrun.validation.plan import planned

    study = load_study(LAB / "study.toml")
    plan = {str(each.number): each for each in planned(study)}
    by_labels = {named(case): case for case in study.cases()}
    asked = asked_rounds()

    def one(row: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
        case = by_labels[" ".join(map(str, plan[row["run"]].labels.values()))]
        return row, predict(case, row["compute_mode"], *asked[row["run"]])

    rows = [row for row in published() if int(row["run"]) >= given.first]
    differing = 0
    with ThreadPoolExecutor(given.jobs) as pool:
        for row, found in pool.map(one, rows):
            seconds = found["wall_clock_s"] / found["rounds"]
            same = seconds == float(row["predicted_s"]) and found["compute_utilization"] == float(
                row["predicted_utilization"]
            )
            differing += not same
            low, high = (
                100 * (found[f"wall_clock_{end}_s"] / found["wall_clock_s"] - 1)
                for end in ("low", "high")
            )
            print(
                f"{row['run']:>3} {'same' if same else 'DIFFERS':7} {seconds:.6f} s "
                f"(report {float(row['predicted_s']):.6f} s), {found['replications']} "
                f"replications, {low:+.2f} to {high:+.2f} %: {row['scenario']}",
                flush=True,
            )
    print(f"{differing} of {len(rows)} differ")
    sys.exit(differing > 0)


if __name__ == "__main__":
    main()
