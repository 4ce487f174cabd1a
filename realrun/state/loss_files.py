"""Losses as files: each rank's while it trains, and those of all ranks at the end.

Next to ``losses.csv`` a run has a folder ``losses.csv.parts`` with a file per rank, on that rank's
machine, to which its losses are added every two seconds. It is removed once ``losses.csv`` is
there; after a failure it stays, and the next run of the same command overwrites it. A run that is
resumed from checkpoints has the losses of all its rounds, the earlier ones included.
"""

from __future__ import annotations

import csv
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter, sleep
from typing import TYPE_CHECKING, Any

from realrun.errors import RunError
from sim.scenario.errors import path_shown
from sim.storage.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from realrun.device import Host
    from realrun.model.replica import TorchModel

_COLUMNS = ("rank", "micro_batch", "loss_nats_per_token")
_EVERY_S = 2.0
_POLL_S = 0.05


class Part:
    """One rank's losses, written by a thread during the run.

    Parameters
    ----------
    path
        The file of all ranks.
    rank, model, device
        Whose losses they are, and what computes them.
    """

    def __init__(self, path: Path, rank: int, model: TorchModel, device: Host) -> None:
        self._path, self._rank = _folder(path) / f"rank-{rank:05d}.csv", rank
        self._model, self._device = model, device
        self._seen, self._due = 0, perf_counter() + _EVERY_S
        self._copied: SimpleQueue[tuple[int, Tensor, Any] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="losses", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Take the losses that have come, if the last time is long ago; waits for nothing."""
        if perf_counter() >= self._due:
            self._take()

    def _take(self) -> None:
        self._due = perf_counter() + _EVERY_S
        first, self._seen = self._seen, self._model.losses_so_far
        if first < self._seen:
            # On a GPU behind what it still computes; the mark tells when they are there.
            losses = self._model.losses_since(first).to("cpu", non_blocking=True)
            self._copied.put((first, losses, self._device.mark()))

    def close(self) -> None:
        """Write what is left; not for long, where the device has failed."""
        with suppress(RuntimeError):
            self._take()
        self._copied.put(None)
        self._thread.join(_EVERY_S)

    def _write(self) -> None:
        try:
            while (copied := self._copied.get()) is not None:
                first, losses, mark = copied
                while not self._device.passed(mark):
                    sleep(_POLL_S)
                # A resumed run begins with the losses of all rounds before, so nothing is lost.
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a" if first else "w", newline="") as file:
                    writer = csv.writer(file)
                    if not first:
                        writer.writerow(_COLUMNS)
                    writer.writerows(
                        (self._rank, first + n, loss) for n, loss in enumerate(losses.tolist())
                    )
        except OSError as error:
            sys.stderr.write(
                f"realrun: warning: rank {self._rank}: {path_shown(self._path)}: {error.strerror}; "
                "no losses are written until the end\n"
            )


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
