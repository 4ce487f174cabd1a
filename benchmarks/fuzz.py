"""Thousands of mutated inputs and damaged files: none may end in a traceback, hang, or swell.

    python benchmarks/fuzz.py [--seed 1] [--inputs 10000] [--damaged 500] [--minutes 30]
    python benchmarks/fuzz.py --again out/fuzz/scenario-17.json

An input is right if it is answered, or refused in one line without control characters, within
10 s of processor time and 2 GiB. A damaged file is right if it is refused in a line that names
it, or read as it was. Inputs run one after the other in a few processes; one that dies or hangs
is replaced. What fails is made smaller and written to a folder, to be repeated with --again.
Status 1 if anything fails or was not tried in time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_damage
import fuzz_inputs
import fuzz_oracle
from fuzz_damage import Damage
from fuzz_inputs import Input
from fuzz_oracle import Outcome

HANGS_S = 90.0  # of wall-clock on a busy machine, where the limit of processor time did not help
MOST_KEPT = 30

Task = Input | Damage


def tasks(seed: int, inputs: int, damaged: int) -> Iterator[Task]:
    """Yield all that is to be tried."""
    yield from fuzz_damage.damages(seed, damaged)
    yield from fuzz_inputs.different(seed, inputs)


def tried(task: Task) -> Outcome:
    """Run one, here."""
    if isinstance(task, Damage):
        return fuzz_damage.outcome(task)
    return fuzz_oracle.outcome(task)


def bounded() -> None:
    """Refuse long simulations earlier than usual: it is inputs that are tried here."""
    from sim.runtime import limits

    limits.MOST_ROWS = limits.MOST_MESSAGES = 100_000


def _work(pipe: Connection) -> None:
    """Try what comes, and send back what came of it."""
    fuzz_oracle.quiet_environment()
    import matplotlib.pyplot  # noqa: F401 - so that no input pays for it
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import sim.cli  # noqa: F401

    bounded()
    fuzz_oracle.limit_memory()
    while (task := pipe.recv()) is not None:
        pipe.send(tried(task))


class Worker:
    """A process, and what it is trying."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other,), daemon=True)
        self.process.start()
        other.close()
        self.task: Task | None = None
        self.since = time.monotonic()

    def give(self, task: Task) -> None:
        self.task, self.since = task, time.monotonic()
        self.pipe.send(task)

    def outcome(self) -> Outcome | None:
        """What came of its task; None while it is at work."""
        if not self.pipe.poll():
            if time.monotonic() - self.since < HANGS_S:
                return None
            self.process.kill()
            self.process.join()
            return Outcome("hangs", f"{HANGS_S:.0f} s")
        try:
            found: Outcome = self.pipe.recv()
        except EOFError:
            self.process.join()
            return Outcome("died", f"status {self.process.exitcode}")
        return found


class Report:
    """What came of all that was tried: counts by kind, and an example of each way to fail."""

    def __init__(self, out: Path) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.failures: Counter[tuple[str, str, str]] = Counter()
        self._out = out

    def add(self, task: Task, found: Outcome) -> None:
        kind = f"damaged {task.kind}" if isinstance(task, Damage) else task.kind
        self.counts[kind][found.kind] += 1
        if not found.failed:
            return
        way = kind, found.kind, found.detail[-60:]
        self.failures[way] += 1
        if self.failures[way] == 1 and len(self.failures) <= MOST_KEPT:
            print(f"{kind} {task.number}: {found.kind}: {found.detail!r}", flush=True)
            self._keep(task, kind, found)

    def _keep(self, task: Task, kind: str, found: Outcome) -> None:
        """Write what failed, so that it can be repeated."""
        if isinstance(task, Input) and found.kind == "traceback":
            bounded()
            task = fuzz_oracle.smaller(task)
        self._out.mkdir(parents=True, exist_ok=True)
        path = self._out / f"{kind.replace(' ', '-')}-{task.number}.json"
        record = {"outcome": asdict(found), type(task).__name__.lower(): asdict(task)}
        path.write_text(json.dumps(record, indent=1))
        print(f"  kept {path}", flush=True)

    def print(self) -> None:
        """Print a table: what was tried, and what came of it."""
        names = ("kind", "inputs", "refused in a line", "answered", "failures")
        rows = [
            (kind, n.total(), n["refused"], n["answered"], n.total() - n["refused"] - n["answered"])
            for kind, n in sorted(self.counts.items())
        ]
        rows.append(("all", *(sum(row[place] for row in rows) for place in range(1, 5))))
        for row in (names, *rows):
            print(f"{row[0]:28}" + "".join(f"{cell:>19}" for cell in row[1:]))
        for (kind, what, detail), number in self.failures.most_common():
            print(f"{number:5} x {kind}: {what}: {detail!r}")

    @property
    def tried(self) -> int:
        return sum(map(Counter.total, self.counts.values()))

    @property
    def failed(self) -> int:
        return self.failures.total()


def run(given: Iterator[Task], jobs: int, seconds: float, out: Path) -> Report:
    """Try them all, or as many as there is time for."""
    report = Report(out)
    begun = told = time.monotonic()
    until = begun + seconds
    busy: list[Worker] = []
    for _ in range(jobs):
        if (task := next(given, None)) is not None:
            busy.append(Worker())
            busy[-1].give(task)
    while busy:
        wait([each.pipe for each in busy], timeout=1.0)
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"{report.tried} tried in {told - begun:.0f} s", flush=True)
        for each in list(busy):
            found = each.outcome()
            if found is None:
                continue
            assert each.task is not None
            report.add(each.task, found)
            busy.remove(each)
            task = next(given, None) if time.monotonic() < until else None
            if task is None:
                if each.process.is_alive():
                    each.pipe.send(None)
                    each.process.join()
                continue
            busy.append(each if each.process.is_alive() else Worker())
            busy[-1].give(task)
    return report


def again(path: Path) -> int:
    """Try what was kept, here, with its traceback."""
    record: dict[str, Any] = json.loads(path.read_text())
    bounded()
    if "damage" in record:
        task: Task = Damage(**record["damage"])
    else:
        given = record["input"]
        task = Input(given["kind"], given["number"], tuple(given["arguments"]), given["files"])
        print("bandwise", *task.arguments)
        for name, text in task.files.items():
            print(f"--- {name}\n{text}")
    found = tried(task)
    print(found.kind, found.detail)
    return int(found.failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--damaged", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--again", type=Path)
    asked = parser.parse_args()
    if asked.again is not None:
        return again(asked.again)
    begun = time.monotonic()
    given = tasks(asked.seed, asked.inputs, asked.damaged)
    report = run(given, asked.jobs, asked.minutes * 60, asked.out)
    report.print()
    untried = asked.inputs + asked.damaged - report.tried
    print(f"{report.tried} tried in {time.monotonic() - begun:.0f} s, {report.failed} failed")
    if untried:
        print(f"{untried} were not tried; give --minutes more")
    return int(report.failed + untried > 0)


if __name__ == "__main__":
    raise SystemExit(main())
