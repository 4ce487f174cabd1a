"""Thousands of mutated inputs and damaged files: none may end in a traceback, hang, or swell.

    python benchmarks/fuzz.py [--seed 1] [--inputs 10000] [--damaged 500] [--minutes 15]
    python benchmarks/fuzz.py --again out/fuzz/scenario-17.json

An input is right if it is answered, or refused in one line without control characters, within
10 s of processor time and 2 GiB. A damaged file is right if it is refused, or read as it was.
Inputs run one after the other in a few processes; one that dies or hangs is replaced. What
fails is made smaller and written to a folder, to be repeated with --again. Status 1 if any does.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_damage
import fuzz_inputs
import fuzz_oracle
from fuzz_oracle import Outcome

HANGS_S = 90.0  # of wall-clock on a busy machine, where the limit of processor time did not help


def one(seed: int, number: int, inputs: int) -> tuple[str, Outcome]:
    """Run one: an input, or beyond their number a damaged file."""
    if number >= inputs:
        kind, found = fuzz_damage.outcome(seed, number - inputs)
        return f"damaged {kind}", found
    asked = fuzz_inputs.made(seed, number)
    return asked.kind, fuzz_oracle.outcome(asked)


def bounded() -> None:
    """Refuse long simulations earlier than usual: it is inputs that are tried here."""
    from sim import limits

    limits.MOST_ROWS = limits.MOST_MESSAGES = 100_000


def _work(pipe: Connection, seed: int, inputs: int) -> None:
    """Run the numbers that come, and say what came of each."""
    fuzz_oracle.quiet_environment()
    import matplotlib.pyplot  # noqa: F401 - so that no input pays for it
    import pandas  # noqa: F401
    import pyarrow.parquet  # noqa: F401

    import sim.cli  # noqa: F401

    bounded()
    fuzz_oracle.limit_memory()
    while (number := pipe.recv()) is not None:
        pipe.send((number, *one(seed, number, inputs)))


class Worker:
    """A process, and the number that it is at."""

    def __init__(self, seed: int, inputs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, seed, inputs), daemon=True)
        self.process.start()
        other.close()
        self.number: int | None = None
        self.since = time.monotonic()

    def give(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def taken(self) -> tuple[str, Outcome] | None:
        """What came of its number; None while it is at work."""
        if not self.pipe.poll():
            if time.monotonic() - self.since < HANGS_S:
                return None
            self.process.kill()
            return "?", Outcome("hangs", f"{HANGS_S:.0f} s")
        try:
            _, kind, found = self.pipe.recv()
        except EOFError:
            self.process.join()
            return "?", Outcome("died", f"status {self.process.exitcode}")
        return kind, found


def run(seed: int, inputs: int, damaged: int, jobs: int, seconds: float, out: Path) -> int:
    """Run them all; print counts per kind and return how many failed."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    failures: list[tuple[int, str, Outcome]] = []
    numbers = iter(range(inputs + damaged))
    begun = time.monotonic()
    workers = [Worker(seed, inputs) for _ in range(jobs)]
    busy: list[Worker] = []
    for each in workers:
        each.give(next(numbers))
        busy.append(each)
    while busy:
        wait([each.pipe for each in busy], timeout=1.0)
        for each in list(busy):
            taken = each.taken()
            if taken is None:
                continue
            busy.remove(each)
            kind, found = taken
            assert each.number is not None
            if kind == "?":
                kind = _kind(seed, each.number, inputs)
            counts[kind][found.kind] += 1
            if found.failed:
                failures.append((each.number, kind, found))
            following = next(numbers, None) if time.monotonic() - begun < seconds else None
            if not each.process.is_alive():
                each = Worker(seed, inputs)
            if following is not None:
                each.give(following)
                busy.append(each)
            else:
                each.pipe.send(None)
    _report(counts, failures, time.monotonic() - begun)
    _keep(seed, inputs, failures, out)
    return len(failures)


def _kind(seed: int, number: int, inputs: int) -> str:
    if number < inputs:
        return fuzz_inputs.made(seed, number).kind
    return "damaged"


def _report(
    counts: dict[str, Counter[str]], failures: list[tuple[int, str, Outcome]], took: float
) -> None:
    for kind in sorted(counts):
        each = ", ".join(f"{count} {what}" for what, count in sorted(counts[kind].items()))
        print(f"{kind:24} {each}")
    print(f"{sum(map(Counter.total, counts.values()))} inputs in {took:.0f} s")
    seen: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], int] = {}
    for number, kind, found in failures:
        key = (found.kind, f"{kind} {found.detail}")
        seen[key] += 1
        first.setdefault(key, number)
    for (what, detail), count in seen.most_common(40):
        print(f"{count:5} x {what}: {detail!r} (first: {first[what, detail]})")


def _keep(seed: int, inputs: int, failures: list[tuple[int, str, Outcome]], out: Path) -> None:
    """Write the first of each way to fail, made smaller, so that it can be repeated."""
    kept: set[tuple[str, str]] = set()
    for number, kind, found in failures:
        key = (found.kind, found.detail[-40:])
        if key in kept or len(kept) >= 30:
            continue
        kept.add(key)
        out.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {"seed": seed, "number": number, "outcome": asdict(found)}
        if number < inputs:
            asked = fuzz_inputs.made(seed, number)
            if found.kind == "traceback":
                asked = _smaller(asked)
            record["input"] = asdict(asked)
        path = out / f"{kind.replace(' ', '-')}-{number}.json"
        path.write_text(json.dumps(record, indent=1))
        print(f"kept {path}")


def _smaller(asked: fuzz_inputs.Input) -> fuzz_inputs.Input:
    bounded()
    return fuzz_oracle.smaller(asked)


def again(path: Path) -> int:
    """Run what was kept, here, with its traceback."""
    record = json.loads(path.read_text())
    if "input" not in record:
        print(*fuzz_damage.outcome(record["seed"], record["number"]))
        return 1
    given = record["input"]
    asked = fuzz_inputs.Input(
        given["kind"], given["number"], tuple(given["arguments"]), given["files"]
    )
    print("bandwise", *asked.arguments)
    for name, text in asked.files.items():
        print(f"--- {name}\n{text}")
    found = fuzz_oracle.outcome(asked)
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
    seconds = asked.minutes * 60
    failed = run(asked.seed, asked.inputs, asked.damaged, asked.jobs, seconds, asked.out)
    print(f"{failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
