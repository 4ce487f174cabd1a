"""Files that a disk or a careless copy has damaged: refused, or read as they were.

Flipped bits, cut ends, zeroed and swapped blocks. results.csv is a file that people edit, so
nothing can tell an edit from damage: of one that was cut off, whole rows may be read. A journal
is cut off wherever a process was killed, so its last line may be missing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzz_oracle import Outcome, judged

_RUN = ("--model", "1B", "--step-time", "1s", "--rounds", "3", "--sync-every", "5")


@cache
def _originals() -> Path:
    """Write one file of each kind."""
    import sys

    from sim.cli import main
    from sim.journal import append

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for arguments in (
        ("simulate", *_RUN, "--trace", str(folder / "trace.parquet")),
        ("simulate", *_RUN, "--trace", str(folder / "trace.csv")),
        ("sweep", *_RUN, "--over", "bandwidth=1..10Gbit/s:6", "--out", str(folder), "--jobs", "1"),
    ):
        sys.argv = ["bandwise", *arguments]
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"bandwise {' '.join(arguments)} failed") from end
    for number in range(20):
        append(folder / "runs.jsonl", {"run": number, "seconds": number * 1.1, "text": "é" * 9})
    _write_checkpoint(folder / "checkpoint")
    return folder


def _checkpoints(folder: Path) -> Any:
    from realrun.checkpoint import Checkpoints

    return Checkpoints(folder, 0, 1, {"model": "m"}, lambda own: [own])


def _write_checkpoint(folder: Path) -> None:
    try:
        import torch

        from realrun.checkpoint import State
    except ImportError:
        return
    generator = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(300, generator=generator) for name in ("theta", "outer")}
    _checkpoints(folder).save(1, State(tensors, {"tokens": 12.0}))


def _trace(path: Path) -> Any:
    from sim.trace_files import load

    trace = load(path)
    return trace.frame().to_csv(), trace.total_s, repr(trace.context)


def _results(path: Path) -> Any:
    from sim.cli import plot

    return plot._results(path).to_csv(index=False)


def _journal(path: Path) -> Any:
    from sim.journal import read

    return read(path)


def _checkpoint(path: Path) -> Any:
    found = _checkpoints(path.parent).latest()
    if found is None:
        return None
    number, state = found
    return number, state.notes, {name: t.tolist() for name, t in state.tensors.items()}


def _same(was: Any, now: Any, cut: bool) -> bool:
    return bool(was == now)


def _whole_rows(was: str, now: str, cut: bool) -> bool:
    return not cut or was.startswith(now)


def _all_but_last(was: list[Any], now: list[Any], cut: bool) -> bool:
    return was[: len(now)] == now and (cut or len(now) >= len(was) - 1)


Reader = Callable[[Path], Any]
#: Kind -> the file below the originals, how it is read, and what may be read from a damaged one.
KINDS: dict[str, tuple[str, Reader, Callable[[Any, Any, bool], bool]]] = {
    "trace.parquet": ("trace.parquet", _trace, _same),
    "trace.csv": ("trace.csv", _trace, _same),
    "results.parquet": ("results.parquet", _results, _same),
    "results.csv": ("results.csv", _results, _whole_rows),
    "journal": ("runs.jsonl", _journal, _all_but_last),
    "checkpoint": ("checkpoint/round-00000001.rank-00000.safetensors", _checkpoint, _same),
}


def damaged(random: Random, content: bytes) -> tuple[str, bytes]:
    """Return what happened to a file, and the file."""
    data = bytearray(content)
    size = len(data)
    action = random.choice(("flip", "flip", "cut", "zero", "swap"))
    block = min(random.choice((1, 16, 64, 512, 4096)), max(1, size // 3))
    first, second = (random.randrange(max(1, size - block)) for _ in range(2))
    if action == "flip":
        for _ in range(random.choice((1, 1, 3))):
            data[random.randrange(size)] ^= 1 << random.randrange(8)
    elif action == "cut":
        del data[random.randrange(size) :]
    elif action == "zero":
        data[first : first + block] = bytes(len(data[first : first + block]))
    elif abs(first - second) >= block:
        one, other = data[first : first + block], data[second : second + block]
        data[first : first + block], data[second : second + block] = other, one
    return action, bytes(data)


def outcome(seed: int, number: int) -> tuple[str, Outcome]:
    """Damage one file, read it, and judge what came of it; its kind, too."""
    originals = _originals()
    kinds = [kind for kind, (name, *_) in KINDS.items() if (originals / name).exists()]
    kind = kinds[number % len(kinds)]
    return kind, outcome_of(kind, seed, number)


def outcome_of(kind: str, seed: int, number: int) -> Outcome:
    """Damage the file of one kind."""
    originals = _originals()
    name, read, allowed = KINDS[kind]
    action, data = damaged(Random(f"{seed} {kind} {number}"), (originals / name).read_bytes())
    folder = Path(tempfile.mkdtemp())
    try:
        path = folder / Path(name).name
        path.write_bytes(data)
        was = _undamaged(kind)
        return judged(lambda: _verdict(lambda: read(path), was, allowed, action))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _undamaged(kind: str) -> Any:
    name, read, _ = KINDS[kind]
    return read(_originals() / name)


def _verdict(
    read: Callable[[], Any], was: Any, allowed: Callable[[Any, Any, bool], bool], action: str
) -> Outcome:
    from sim.cli.errors import as_line

    try:
        now = read()
    except Exception as error:
        line = as_line(error)
        if line is None and type(error) is not ValueError:  # which plot and simulate reword
            raise
        return Outcome("refused")
    if allowed(was, now, action == "cut"):
        return Outcome("answered")
    return Outcome("read as if whole", action)
