"""Checkpoints: one file per rank and round, written whole or not at all.

A file gets its name only when all its bytes are on the disk, and a round counts only once
every rank has its file: at a restart the ranks go back to the last such round. So it makes no
difference whether they share a folder or each machine has its own disk.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from realrun.errors import AgreedError, RunError
from sim.scenario.errors import path_shown
from sim.told import first_line

SCHEMA = 2  # 1 kept gradient sums that were not yet divided by n_grad_accumulation
_KEPT = 2  # rounds; the one before the last is there while the last is being written
_NAME = re.compile(r"round-(\d{8,})\.rank-(\d{5,})\.safetensors")

Gather = Callable[[Any], list[Any]]
"""What every rank gives, to every rank, in the order of the ranks."""


@dataclass
class State:
    """What a rank must remember: tensors by name, and notes that JSON can hold."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one rank in a folder.

    Parameters
    ----------
    folder
        Where they are; made if it is not there.
    rank, workers
        This rank of how many.
    identity
        What a run must have in common with the one that it goes on from: key -> text.
    gather
        How ranks tell each other what they have.
    """

    def __init__(
        self, folder: Path, rank: int, workers: int, identity: Mapping[str, str], gather: Gather
    ) -> None:
        self._folder, self._rank, self._workers = folder, rank, workers
        self._identity = {**identity, "workers": str(workers)}
        self._gather = gather

    # -- writing -------------------------------------------------------------------------
    def save(self, round_: int, state: State) -> None:
        """Write this rank's state at the beginning of a round; all ranks call it together.

        Raises
        ------
        AgreedError
            On every rank, if one of them could not write; naming it, the file and the cause.
            Earlier checkpoints are still there.
        """
        path = self._path(round_)
        failure = None
        try:
            self._write(path, round_, state)
        except (OSError, SafetensorError) as error:
            size = sum(tensor.numel() * tensor.element_size() for tensor in state.tensors.values())
            failure = (
                f"rank {self._rank}: checkpoint {path_shown(path)}: could not write its "
                f"{size / 1e6:.1f} MB: {_reason(error)}"
            )
        failures = [text for text in self._gather(failure) if text is not None]
        if failures:
            path.unlink(missing_ok=True)
            raise AgreedError(failures[0])
        for old in sorted(self._rounds())[:-_KEPT]:
            self._path(old).unlink(missing_ok=True)

    def _write(self, path: Path, round_: int, state: State) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        note = {
            "schema": SCHEMA,
            "round": round_,
            "rank": self._rank,
            "identity": self._identity,
            "notes": state.notes,
        }
        tensors = {name: tensor.detach().contiguous() for name, tensor in state.tensors.items()}
        try:
            save_file(tensors, partial, metadata={"bandwise": json.dumps(note)})
            _flush(partial)
            partial.replace(path)
            _flush(self._folder)
        finally:
            partial.unlink(missing_ok=True)

    # -- reading -------------------------------------------------------------------------
    def latest(self) -> tuple[int, State] | None:
        """Return the last round of which every rank has its file, and this rank's state then.

        None if no rank has any, or some have the very first, which was never completed. All ranks
        call it together.

        Raises
        ------
        AgreedError
            On every rank, if a file cannot be read, was written by another run, or ranks have
            no round in common.
        """
        for partial in self._folder.glob(f"*.rank-{self._rank:05d}.partial"):
            partial.unlink(missing_ok=True)
        rounds, failure = self._rounds(), None
        newest: int | None = None
        try:
            if rounds:  # first: a number of workers that differs is also a missing file
                self._check(self._read(max(rounds), notes_only=True)[0])
        except RunError as error:
            failure = str(error)
        self._agree(failure)
        everyone = self._gather(sorted(rounds))
        if not any(everyone):
            return None
        common = set.intersection(*map(set, everyone))
        if not common and max(map(len, everyone)) == 1:
            # Broken off while the first was written: once it is complete a second one follows
            # before any is removed, so somebody would have two.
            for begun in rounds:
                self._path(begun).unlink(missing_ok=True)
            return None
        if not common:
            lacking = [str(rank) for rank, own in enumerate(everyone) if not own] or ["some"]
            raise AgreedError(
                f"checkpoints in {path_shown(self._folder)}: the ranks have no round in common "
                f"(rank {', '.join(lacking[:4])} has none that the others have); bring the missing "
                "files back, or name another folder"
            )
        newest = max(common)
        state = None
        try:
            note, tensors = self._read(newest)
            self._check(note)
            state = State(tensors, note["notes"])
        except RunError as error:
            failure = str(error)
        self._agree(failure)
        for later in rounds - {r for r in rounds if r <= newest}:
            self._path(later).unlink(missing_ok=True)  # of a round that was never completed
        assert state is not None
        return newest, state

    def _agree(self, failure: str | None) -> None:
        failures = [text for text in self._gather(failure) if text is not None]
        if failures:
            raise AgreedError(failures[0])

    def _read(self, round_: int, *, notes_only: bool = False) -> tuple[Any, dict[str, Tensor]]:
        path = self._path(round_)
        where = f"rank {self._rank}: checkpoint {path_shown(path)}"
        try:
            with safe_open(path, framework="pt") as file:
                note = json.loads((file.metadata() or {})["bandwise"])
                names = () if notes_only else file.keys()
                tensors = {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RunError(
                f"{where}: cannot be read, {path.stat().st_size} bytes are there: "
                f"{_reason(error)}; remove this round's files to go on from an earlier one"
            ) from error
        if note.get("schema") != SCHEMA:
            raise RunError(f"{where}: has schema {note.get('schema')}; this version reads {SCHEMA}")
        return note, tensors

    def _check(self, note: Mapping[str, Any]) -> None:
        was = note["identity"]
        # The workers first: if they differ, most other things do.
        for key in sorted({*was, *self._identity}, key=lambda key: (key != "workers", key)):
            before, here = was.get(key, "nothing"), self._identity.get(key, "nothing")
            if before != here:
                raise RunError(
                    f"checkpoints in {path_shown(self._folder)} are of another run: {key} was "
                    f"{before}, here it is {here}; name another folder, or set it back"
                )

    def _rounds(self) -> set[int]:
        found = (_NAME.fullmatch(path.name) for path in self._folder.glob("round-*"))
        return {int(match[1]) for match in found if match and int(match[2]) == self._rank}

    def _path(self, round_: int) -> Path:
        return self._folder / f"round-{round_:08d}.rank-{self._rank:05d}.safetensors"


def _flush(path: Path) -> None:
    """Have the disk take what was written: a name must not outlive its bytes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
