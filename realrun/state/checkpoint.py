"""Checkpoints: one file per rank and round, written whole or not at all.

A file gets its name only when all its bytes are on the disk, and a round counts only once
every rank has its file: at a restart the ranks go back to the last such round. So it makes no
difference whether they share a folder or each machine has its own disk. A file is refused unless
all its tensors and notes are as they were written (:mod:`realrun.state.tensor_files`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from realrun.errors import AgreedError, RunError
from realrun.state import tensor_files
from sim.scenario.errors import path_shown
from sim.storage.files import DamagedError, clear_partial
from sim.text.told import first_line

# 1 kept gradient sums that were not yet divided by n_grad_accumulation; 2 had no digests, and is
# read without.
SCHEMA, _WITHOUT_DIGESTS = 3, 2
# The last: JSON with brackets within thousands of brackets.
_UNREADABLE = (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError)
_KEPT = 2  # rounds; the one before the last is there while the last is being written
_NAME = re.compile(r"round-(\d{8,})\.rank-(\d{5,})\.safetensors")
ISLAND = "site.inside.accelerators"
"""The key of a run's identity that says how many accelerators an island has."""
_FIRST = (ISLAND, "workers")

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
        What a run must have in common with the one that it resumes from: key -> text.
    gather
        How ranks tell each other what they have.
    defaults
        What the other run had of it, where its checkpoints do not say.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        workers: int,
        identity: Mapping[str, str],
        gather: Gather,
        defaults: Mapping[str, str] | None = None,
    ) -> None:
        self._defaults = defaults or {}
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
        note = {
            "schema": SCHEMA,
            "round": round_,
            "rank": self._rank,
            "identity": self._identity,
            "notes": state.notes,
        }
        tensor_files.write(path, state.tensors, {"bandwise": json.dumps(note)})

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
        clear_partial(self._folder)
        rounds, failure = self._rounds(), None
        everyone = self._gather(sorted(rounds))
        if not any(everyone):
            return None
        common = set.intersection(*map(set, everyone))
        try:
            if rounds:  # first: a number of workers that differs is also a missing file
                self._check(self._read(max(rounds), common, notes_only=True)[0])
        except RunError as error:
            failure = str(error)
        self._agree(failure)
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
            was, state = self._read(newest, common)
            self._check(was)
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

    def _read(
        self, round_: int, common: Collection[int], *, notes_only: bool = False
    ) -> tuple[Mapping[str, str], State]:
        """Return a run's identity and its state; ``common`` are the rounds that all ranks have.

        Raises
        ------
        RunError
            Naming this rank, its file and an earlier round to resume from.
        """
        path = self._path(round_)
        where = f"rank {self._rank}: checkpoint {path_shown(path)}"
        try:
            tensors, texts, sealed = tensor_files.read(path, texts_only=notes_only)
            note = json.loads(texts["bandwise"])
            schema, of = note["schema"], (note["round"], note["rank"])
            identity, notes = note["identity"], note["notes"]
        except DamagedError as error:
            way_out = self._way_out(round_, common)
            raise RunError(f"rank {self._rank}: checkpoint {error}; {way_out}") from error
        except _UNREADABLE as error:
            raise RunError(
                f"{where}: cannot be read, {path.stat().st_size} bytes are there: "
                f"{_reason(error)}; {self._way_out(round_, common)}"
            ) from error
        if schema not in (SCHEMA, _WITHOUT_DIGESTS):
            raise RunError(f"{where}: has schema {schema}; this version reads {SCHEMA}")
        # Only what an earlier version wrote may lack digests, not what has lost them.
        if not sealed and (schema != _WITHOUT_DIGESTS or texts.keys() != {"bandwise"}):
            raise RunError(f"{where}: is damaged: no digests; {self._way_out(round_, common)}")
        if of != (round_, self._rank):
            raise RunError(f"{where}: is of round {of[0]}, rank {of[1]}; give it back its name")
        return identity, State(tensors, notes)

    def _way_out(self, round_: int, common: Collection[int]) -> str:
        earlier = [other for other in common if other < round_]
        if not earlier:
            return (
                "there is no earlier round of all ranks; bring the file back from a copy, or name "
                "another folder to begin again"
            )
        return f"remove this file to resume from round {max(earlier)}"

    def _check(self, was: Mapping[str, str]) -> None:
        # How many they are first: if that differs, most other things do.
        for key in sorted({*was, *self._identity}, key=lambda key: (key not in _FIRST, key)):
            before = was.get(key, self._defaults.get(key, "nothing"))
            here = self._identity.get(key, "nothing")
            if before != here:
                of_islands = key == "workers" and ISLAND in self._identity
                raise RunError(
                    f"checkpoints in {path_shown(self._folder)} are of another run: "
                    f"{'accelerators of all islands' if of_islands else key} was {before}, here "
                    f"it is {here}; name another folder, or set it back"
                )

    def _rounds(self) -> set[int]:
        found = (_NAME.fullmatch(path.name) for path in self._folder.glob("round-*"))
        return {int(match[1]) for match in found if match and int(match[2]) == self._rank}

    def _path(self, round_: int) -> Path:
        return self._folder / f"round-{round_:08d}.rank-{self._rank:05d}.safetensors"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
