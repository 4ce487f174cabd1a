"""What a training run writes: looked at before it begins, written one by one at its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from realrun.errors import RunError
from realrun.state import loss_files
from realrun.state.checkpoint_folder import check_free, tidy
from sim.output.show import checked_file, checked_folder
from sim.output.traces import TRACES
from sim.scenario.errors import path_shown
from sim.storage.files import clear_partial
from sim.text.told import first_line

if TYPE_CHECKING:
    from realrun.training import Outcome


@dataclass(frozen=True)
class Outputs:
    """Where a run's files go; None is not written."""

    trace: Path | None
    losses: Path | None
    save: Path | None
    checkpoints: Path | None

    def check(self) -> None:
        """Refuse what cannot be written, on the rank that writes it, before anything is computed.

        Raises
        ------
        UserError
            In a line, about the first.
        """
        if self.checkpoints is not None:
            checked_folder("--checkpoints", self.checkpoints)
        if os.environ.get("RANK", "0") != "0":
            return
        for option, path, suffixes in (
            ("--trace", self.trace, TRACES),
            ("--losses", self.losses, (".csv",)),
            ("--save", self.save, (".safetensors",)),
        ):
            if path is not None:
                checked_file(option, path, suffixes)

    @contextmanager
    def of_workers(self, workers: int) -> Iterator[None]:
        """Guard the places where workers write, and clear what they leave half written.

        Raises
        ------
        LockedError
            If another command writes checkpoints there.
        """
        if self.checkpoints is not None:
            check_free(self.checkpoints, workers)
        try:
            with loss_files.parts_named(self.losses):
                yield
        finally:
            if self.checkpoints is not None:
                tidy(self.checkpoints, workers)
            for path in (self.trace, self.losses, self.save):
                if path is not None:
                    clear_partial(path.parent)

    def write(self, outcome: Outcome) -> None:
        """Write all that can be written.

        Raises
        ------
        RunError
            About the last that cannot; a line is printed about each one before.
        """
        failed = [line for line in map(_failure, self._writers(outcome)) if line]
        for line in failed[:-1]:
            typer.echo(f"realrun: error: {line}", err=True)
        sys.stderr.flush()
        if failed:
            raise RunError(failed[-1])

    def _writers(self, outcome: Outcome) -> list[_Writer]:
        from realrun.state import saved
        from sim.trace.files import save as save_trace

        found: list[_Writer] = []
        if self.trace is not None:
            found.append(("--trace", self.trace, lambda path: save_trace(outcome.trace, path)))
        if self.losses is not None:
            found.append(
                ("--losses", self.losses, lambda path: loss_files.write(outcome.losses, path))
            )
        module = outcome.module
        if self.save is not None and module is not None:
            found.append(("--save", self.save, lambda path: saved.save(module, path)))
        return found


_Writer = tuple[str, Path, Callable[[Path], object]]


def _failure(writer: _Writer) -> str | None:
    """Write one output; return in a line why that was not possible."""
    from safetensors import SafetensorError

    option, path, write = writer
    try:
        write(path)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        return f"rank 0: {option}: {path_shown(path)}: could not be written: {why}"
    return None
