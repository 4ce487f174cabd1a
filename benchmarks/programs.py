"""Predict programs of libraries, run them in a lab, and compare; `make programs`.

Configurations are drawn by seed from programs, networks and numbers of workers. Each program is
recorded on loopback with two ranks; each configuration is predicted from the recording and from
the description of the program, before it is run. A row per configuration goes to ``results.csv``
when it is finished; one that has its row is not run again. Then comes ``report.md``.

    python benchmarks/programs.py [--out FOLDER] [--configurations N] [--seed N] [--again]

Linux and root: `realrun lab` makes network namespaces.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

HERE = Path(__file__).parent.parent / "validation" / "programs"


class Program(NamedTuple):
    """A program of the study."""

    #: Passes forward in an optimizer step.
    passes: int = 1
    #: Optimizer steps until what it does repeats.
    period: int = 1


PROGRAMS = {
    "ddp": Program(),
    "ddp_no_sync": Program(passes=2),
    "zero": Program(),
    "post_local_sgd": Program(period=4),
    "fully_shard": Program(),
}
BANDWIDTHS = ("20 Mbit/s", "50 Mbit/s", "100 Mbit/s", "200 Mbit/s", "500 Mbit/s", "1 Gbit/s")
ROUND_TRIPS = ("0 ms", "10 ms", "20 ms", "40 ms", "80 ms")
UNEQUAL = 5  # of that many configurations one has a site whose links have half the bandwidth
SKIPPED = 2  # steps at the beginning: connections, and the buckets that DDP makes again


class Configuration(NamedTuple):
    """What is predicted and run."""

    program: str
    workers: int
    bandwidth: str
    rtt: str
    unequal: bool

    @property
    def slow_link(self) -> str:
        """Bandwidth of the slow site's links."""
        number, unit = self.bandwidth.split()
        return f"{float(number) / 2:g} {unit}"


def drawn(count: int, seed: int) -> list[Configuration]:
    """Draw different configurations; all programs come up equally often.

    Examples
    --------
    >>> len({each.program for each in drawn(5, 1)})
    5
    >>> drawn(8, 1) == drawn(20, 1)[:8]
    True
    """
    chance, found = Random(seed), []
    names = list(PROGRAMS)
    while len(found) < count:
        number = len(found)
        if number % len(names) == 0:
            chance.shuffle(names)
        one = Configuration(
            names[number % len(names)],
            chance.choice((2, 4)),
            chance.choice(BANDWIDTHS),
            chance.choice(ROUND_TRIPS),
            number % UNEQUAL == UNEQUAL - 1,
        )
        if one not in found:
            found.append(one)
    return found


def scenario(of: Configuration, described: str) -> str:
    """Return a scenario's text: that of a description, with its site repeated, on the network."""
    head, site = described.split("[[site]]")
    sites = []
    for rank in range(of.workers):
        text = f'[[site]]\nname = "site{rank}"\n{site.strip()}\n'
        if of.unequal and rank == of.workers - 1:
            text += f'uplink = "{of.slow_link}"\ndownlink = "{of.slow_link}"\n'
        sites.append(text)
    network = f'[network]\nbandwidth = "{of.bandwidth}"\nrtt = "{of.rtt}"\n'
    return "\n".join([head.strip() + "\n", *sites, network])


def _run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if ran.returncode:
        raise SystemExit(
            f"{' '.join(arguments)}: ended with {ran.returncode}\n{ran.stderr[-2000:]}"
        )
    return ran.stdout


def recording(program: str, folder: Path) -> Path:
    """Return a program's recording of two ranks on loopback, made if there is none."""
    path = folder / f"{program}.parquet"
    if not path.exists():
        script = str(HERE / f"{program}.py")
        record = ["realrun", "record", "--nproc", "2", "--out", str(path), "--"]
        _run([*record, sys.executable, script])
    return path


def predicted(text: str, folder: Path) -> float:
    """Return the predicted seconds of what repeats in a scenario's text, per optimizer step."""
    path = folder / "predicted.toml"
    path.write_text(text)
    found = json.loads(_run(["sim", "simulate", str(path), "--algorithm", "gloo", "--json"]))
    return float(found["inner_step_s"])


def measured(of: Configuration, folder: Path) -> float:
    """Run a configuration in a lab; return its seconds per optimizer step, of the slowest rank."""
    described = HERE / "descriptions" / f"{of.program}.toml"
    if not described.exists():  # the lab takes the network from it
        described = HERE / "descriptions" / "ddp.toml"
    path = folder / "lab.toml"
    path.write_text(scenario(of, described.read_text()))
    with tempfile.TemporaryDirectory() as passes:
        script = str(HERE / f"{of.program}.py")
        _run(["realrun", "lab", str(path), "--", sys.executable, script], {"PASSES": passes})
        times = [json.loads(each.read_text()) for each in Path(passes).glob("*.json")]
    if len(times) != of.workers:
        raise SystemExit(f"{of}: {len(times)} of {of.workers} ranks have written their times")
    return max(step_s(each, PROGRAMS[of.program]) for each in times)


def step_s(passes: Sequence[float], program: Program) -> float:
    """Return the seconds of an optimizer step, over whole periods after the first steps.

    Parameters
    ----------
    passes
        When each forward pass began.

    Examples
    --------
    >>> step_s([0, 9, 20, 21, 22, 23], Program())
    1.0
    >>> step_s([0, 5, 9, 12, 20, 21, 22, 23, 24], Program(passes=2))
    2.0
    """
    begins = passes[:: program.passes]
    first = -(-SKIPPED // program.period) * program.period
    periods = (len(begins) - 1 - first) // program.period
    steps = periods * program.period
    return (begins[first + steps] - begins[first]) / steps


def predictions(of: Configuration, folder: Path) -> tuple[float, float | None]:
    """Return the seconds of an optimizer step from the recording and from the description."""
    path = recording(of.program, folder)
    replayed = f'[method]\nname = "recording"\npath = "{path.absolute()}"\n\n[[site]]\n'
    found = predicted(scenario(of, replayed), folder) / PROGRAMS[of.program].period
    described = HERE / "descriptions" / f"{of.program}.toml"
    if not described.exists():
        return found, None
    return found, predicted(scenario(of, described.read_text()), folder)


def compared(
    of: Configuration, found: tuple[float, float | None], seconds: float
) -> dict[str, Any]:
    """Return a configuration's row, without the state of the machine."""
    of_recording, of_description = found
    return {
        **of._asdict(),
        "measured_s": seconds,
        "recording_s": of_recording,
        "recording_error": of_recording / seconds - 1,
        "description_s": of_description,
        "description_error": of_description and of_description / seconds - 1,
    }


def report(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the rows as a page, with the errors' medians and extremes."""
    lines = [
        "# Programs of libraries: predicted and measured",
        "",
        "Times of one optimizer step, computation paced, without a calibration. Errors are "
        "predicted over measured, less one. Two predictions: from a recording of two ranks on "
        "loopback, and from a description written before the first run.",
        "",
        "| program | workers | bandwidth | round trip | unequal | measured | from recording | "
        "from description | load |",
        "|---|---:|---:|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [row["program"], row["workers"], row["bandwidth"], row["rtt"]]
        cells += ["yes" if row["unequal"] == "True" else "", f"{float(row['measured_s']):.3f} s"]
        for kind in ("recording", "description"):
            error = row[f"{kind}_error"]
            cells.append(f"{float(row[kind + '_s']):.3f} s ({float(error):+.1%})" if error else "-")
        lines.append(f"| {' | '.join([*cells, format(float(row['load_average']), '.1f')])} |")
    lines.append("")
    for kind in ("recording", "description"):
        errors = [abs(float(row[f"{kind}_error"])) for row in rows if row[f"{kind}_error"]]
        if errors:
            lines.append(
                f"From the {kind}: median error {median(errors):.1%}, largest {max(errors):.1%}, "
                f"of {len(errors)} configurations.\n"
            )
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Run what has no row yet, and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/programs"))
    parser.add_argument("--configurations", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    again = "predict what has been measured again, by the simulator as it is now; run nothing"
    parser.add_argument("--again", action="store_true", help=again)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    results = given.out / "results.csv"
    rows: list[Mapping[str, Any]] = list(_rows(results))
    if given.again:
        for number, row in enumerate(rows):
            of = Configuration(
                row["program"],
                int(row["workers"]),
                row["bandwidth"],
                row["rtt"],
                row["unequal"] == "True",
            )
            new = compared(of, predictions(of, given.out), float(row["measured_s"]))
            rows[number] = {**row, **new}
        _write(results, rows)
    done = {tuple(row[name] for name in Configuration._fields) for row in _rows(results)}
    for of in [] if given.again else drawn(given.configurations, given.seed):
        if tuple(map(str, of)) in done:
            continue
        found = predictions(of, given.out)  # before it is run
        row = compared(of, found, measured(of, given.out))
        row |= {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
        rows.append(row)
        _write(results, rows)
        print(row, flush=True)
    (given.out / "report.md").write_text(report(_rows(results)))


if __name__ == "__main__":
    main()
