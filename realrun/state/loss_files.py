"""Losses as files: each rank's while it trains, and those of all ranks at the end.

Next to ``losses.csv`` a run has a folder ``losses.csv.parts`` with a file per rank, on that rank's
machine, to which its losses are added every two seconds. It is removed once ``losses.csv`` is
there; after a failure it stays, and the next run of the same command overwrites it. A run that is
resumed from checkpoints has the losses of all its rounds, the earlier ones included.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from realrun.errors import RunError
from realrun.state.loss_stream import Losses
from sim.scenario.errors import path_shown
from sim.storage.files import replacing

_COLUMNS = ("rank", "micro_batch", "loss_nats_per_token")


class PartFile:
    """One rank's file, to which its losses are added.

    Parameters
    ----------
    path
        The file of all ranks.
    rank
        Whose losses they are.
    """

    def __init__(self, path: Path, rank: int) -> None:
        self._path, self._rank = _folder(path) / f"rank-{rank:05d}.csv", rank
        self._failed = False

    def losses(self, came: Losses) -> None:
        """Add losses; the first of all begin the file, and a resumed run comes with all."""
        if self._failed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a" if came.first else "w", newline="") as file:
                writer = csv.writer(file)
                if not came.first:
                    writer.writerow(_COLUMNS)
                writer.writerows(
                    (self._rank, came.first + n, loss) for n, loss in enumerate(came.values)
                )
        except OSError as error:
            self._failed = True
            sys.stderr.write(
                f"realrun: warning: rank {self._rank}: {path_shown(self._path)}: {error.strerror}; "
                "no losses are written until the end\n"
            )

    def evaluated(self, tokens: float, loss: float, micro_batches: int) -> None:
        """Leave it out: the file has micro-batches."""

    def close(self, *, failed: bool) -> None:
        """Nothing is open between two additions."""


def write(losses: Sequence[Sequence[float]], path: Path) -> None:
    """Write a row per rank and micro-batch, and remove the parts that are on this machine.

    Raises
    ------
    OSError
        Naming the file; the parts are then still there.
    """
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(
            (rank, number, loss)
            for rank, own in enumerate(losses)
            for number, loss in enumerate(own)
        )
    for part in _folder(path).glob("rank-*.csv"):
        part.unlink(missing_ok=True)
    with suppress(OSError):  # no part was written, or something else is there
        _folder(path).rmdir()


@contextmanager
def parts_named(path: Path | None) -> Iterator[None]:
    """Say where the losses are that a run has had when it fails, or is ended from outside."""
    try:
        yield
    except RunError as error:
        error.args = (f"{error}{_kept(path)}",)
        raise
    except (SystemExit, KeyboardInterrupt) as end:
        if getattr(end, "code", 1) and (kept := _kept(path)):
            sys.stderr.write(f"realrun: {kept.removeprefix('; ')}\n")
        raise


def _kept(path: Path | None) -> str:
    if path is None or not _folder(path).exists():
        return ""
    return f"; the losses so far are in {path_shown(_folder(path))}"


def _folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.parts")
