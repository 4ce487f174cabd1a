"""Finished runs, one row each, in a CSV file."""

from __future__ import annotations

import csv
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One finished run. Losses are in nats per token; ``curve`` has equal parts of the run."""

    key: str
    configuration: str
    method: str
    arguments: str
    workers: int
    seed: int
    learning_rate: float
    held_out_loss: float
    trained_tokens: float
    tokens_per_update: float
    seconds: float
    curve: tuple[float, ...]


_COLUMNS = [column.name for column in fields(Row)]


def read(path: Path) -> list[Row]:
    """Return the finished runs of a results file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> Row:
    numbers = ("learning_rate", "held_out_loss", "trained_tokens", "tokens_per_update", "seconds")
    given: dict[str, object] = dict(line)
    given |= {name: float(line[name]) for name in numbers}
    given |= {name: int(line[name]) for name in ("workers", "seed")}
    given["curve"] = tuple(float(text) for text in line["curve"].split())
    return Row(**given)  # type: ignore[arg-type]


def add(path: Path, row: Row) -> None:
    """Add a row to a results file in one step: it is there whole or not at all."""
    rows = [*read(path), row]
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for each in rows:
            values = asdict(each) | {"curve": " ".join(f"{loss:g}" for loss in each.curve)}
            writer.writerow(values[name] for name in _COLUMNS)
    os.replace(part, path)
