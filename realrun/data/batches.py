"""What a worker trains on: ``[data]`` opened, read in batches, restartable at an exact position.

:mod:`realrun.data.corpus` says where tokens come from, :mod:`realrun.data.shards` who reads which.
Each epoch a worker reads all its samples once, in an order drawn from (seed, rank, epoch). Where it
is, is two numbers: epoch and position.

Shape suffixes: B sequences, T positions (``context``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from realrun.data import corpus as kinds
from realrun.data.corpus import Corpus, DataError, check_vocabulary
from realrun.data.keys import COMMON, DEFAULTS, KEYS, READERS, SAMPLES_PER_BLOCK
from realrun.data.shards import Ints, Samples, split
from realrun.data.token_files import token_file
from sim.scenario import fields
from sim.scenario.errors import did_you_mean, listed, shown
from sim.scenario.schema import DataSection
from sim.units import UnitError

Batch = tuple[Tensor, Tensor]

_DATA_STREAM = 1  # one random stream per worker and purpose; 0 is the simulator's jitter


def open_data(
    section: DataSection,
    *,
    vocabulary: int,
    context: int,
    workers: int,
    seed: int = 0,
    folder: Path | None = None,
) -> Data:
    """Open what ``[data]`` describes; without a kind, the standard library.

    Parameters
    ----------
    section
        ``sim.scenario.sections(...).data``.
    vocabulary, context
        Of the model.
    workers
        M: among how many the data are shared.
    seed
        Of the order (and of the tokens of "synthetic").
    folder
        Where a relative path begins: the scenario's; None is the working directory.

    Raises
    ------
    DataError
        One line: the key, what it is, what it may be.
    """
    kind = "stdlib" if section.kind is None else section.kind
    keys = _checked(kind, section)
    if keys["block_tokens"] is None:
        keys["block_tokens"] = SAMPLES_PER_BLOCK * context + 1
    if keys["block_tokens"] <= context:
        raise DataError(
            f"data.block_tokens: {keys['block_tokens']}: must be more than model.context = "
            f"{context}, or no sample fits into a block"
        )
    found = _corpus(kind, keys, vocabulary, seed, folder or Path())
    if found.tokens.dtype == np.uint8 and vocabulary < 256:
        raise DataError(f"model.vocabulary: {vocabulary}: the data are bytes; must be at least 256")
    return Data(
        found,
        vocabulary=vocabulary,
        context=context,
        workers=workers,
        seed=seed,
        shard=keys["shard"],
        validation_every=keys["validation_every"],
        block_tokens=keys["block_tokens"],
    )


def _checked(kind: str, section: DataSection) -> dict[str, Any]:
    if kind not in KEYS:
        words = [f'"{word}"' for word in KEYS]
        raise DataError(
            f"data.kind: {shown(kind)}: must be {listed(words)}{did_you_mean(kind, KEYS, '')}"
        )
    given = section.model_dump(exclude_none=True)
    given.pop("kind", None)
    known = (*KEYS[kind], *COMMON)
    keys = {key: DEFAULTS[key] for key in known if key in DEFAULTS}
    for key, value in given.items():
        if key not in known:
            raise _unknown(key, kind, section.kind is not None)
        try:
            keys[key] = READERS[key](value)
        except (fields.RefusedError, UnitError) as error:
            raise DataError(f"data.{key}: {shown(value)}: {error}") from None
    if "path" in known and "path" not in keys:
        raise DataError(f'data.path: missing; kind = "{kind}" needs it')
    return keys


def _unknown(key: str, kind: str, given: bool) -> DataError:
    """Return what to say of a key that a kind does not have; ``given``: somebody has named it."""
    of = [other for other, keys in KEYS.items() if key in keys]
    if not given and of:
        kinds_of = listed([f'"{other}"' for other in of])
        return DataError(f"data.kind: missing; with data.{key} it must be {kinds_of}")
    known = (*KEYS[kind], *COMMON)
    near = did_you_mean(key, known if given else READERS, "")
    return DataError(f'data.{key}: kind = "{kind}" takes {listed(known, "and")}{near}')


def _corpus(kind: str, keys: Mapping[str, Any], vocabulary: int, seed: int, folder: Path) -> Corpus:
    if kind == "stdlib":
        return kinds.standard_library()
    if kind == "synthetic":
        return kinds.synthetic(keys["tokens"], vocabulary, seed)
    path = folder / Path(keys["path"]).expanduser()
    if kind == "text":
        return kinds.text_files(path, keys["files"])
    if kind == "tokens":
        return token_file(path, keys["dtype"], vocabulary, keys["document_end"])
    given = {key: keys[key] for key in ("split", "column", "subset")}
    return kinds.huggingface(keys["path"], folder=folder, **given)


class Data:
    """A corpus, shared among workers.

    Parameters
    ----------
    corpus
        The tokens.
    vocabulary, context
        Every token is below the one; a sequence has T = the other.
    workers, seed
        As in :func:`open_data`.
    shard
        "iid" or "source".
    validation_every, block_tokens
        Which pieces are kept, and the length of a block.

    Examples
    --------
    >>> data = Data(kinds.synthetic(10_000, 256, seed=0), vocabulary=256, context=8, workers=2)
    >>> inputs_BT, targets_BT = next(data.batches(rank=0, batch=4))
    >>> inputs_BT.shape, bool((inputs_BT[:, 1:] == targets_BT[:, :-1]).all())
    (torch.Size([4, 8]), True)
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        vocabulary: int,
        context: int,
        workers: int,
        seed: int = 0,
        shard: str = "iid",
        validation_every: int = 20,
        block_tokens: int | None = None,
    ) -> None:
        self.corpus, self.vocabulary = corpus, vocabulary
        self.context, self.workers, self.seed = context, workers, seed
        block_tokens = block_tokens or SAMPLES_PER_BLOCK * context + 1
        self.shards, self.validation_shard = split(
            corpus, workers, shard, validation_every, block_tokens
        )
        self._samples = [Samples(own, context) for own in self.shards]
        self._validation = Samples(self.validation_shard, context)
        for samples, whose in [
            *((own, f"worker {rank} of {workers}") for rank, own in enumerate(self._samples)),
            (self._validation, "the validation split"),
        ]:
            if not len(samples):
                raise DataError(
                    f"data: too small: {whose} gets no sample of context + 1 = {context + 1} "
                    f"tokens out of {len(corpus.tokens):,}"
                )
        # What a saved position depends on.
        self.layout: dict[str, int | str] = {
            "corpus": corpus.fingerprint(),
            "context": context,
            "workers": workers,
            "seed": seed,
            "shard": shard,
            "validation_every": validation_every,
            "block_tokens": block_tokens,
        }

    def batches(self, rank: int, batch: int, device: torch.device | None = None) -> Batches:
        """Return a worker's endless batches of ``batch`` sequences, from the beginning."""
        return Batches(self, self._samples[rank], rank, batch, device)

    def validation(
        self, batch: int, batches: int | None = None, device: torch.device | None = None
    ) -> Iterator[Batch]:
        """Yield batches that no worker trains on: the same every time, on every worker.

        Parameters
        ----------
        batch
            B, of every batch (fewer if there is not one such batch).
        batches
            How many, evenly spread over the split; None or more than there are: all.
        device
            Where they go.
        """
        count = len(self._validation)
        batch = min(batch, count)
        number = count // batch
        if batches is not None:
            number = min(number, batches)
        chosen = np.arange(number * batch) * count // (number * batch)
        for rows in chosen.reshape(number, batch):
            yield self.read(self._validation.begins(rows), device)

    def read(self, begins: Ints, device: torch.device | None = None) -> Batch:
        """Return inputs_BT and targets_BT (int64) of the samples that begin there.

        Raises
        ------
        DataError
            If a token is outside the vocabulary.
        """
        rows = self.corpus.tokens[begins[:, None] + np.arange(self.context + 1)]
        check_vocabulary(rows, self.vocabulary, self.corpus.description)
        tokens = torch.from_numpy(rows.astype(np.int64))
        if device is not None and device.type == "cuda":
            tokens = tokens.pin_memory().to(device, non_blocking=True)
        return tokens[:, :-1], tokens[:, 1:]


class Batches:
    """A worker's training data: an endless iterator of (inputs_BT, targets_BT).

    ``state()`` says where it is, ``restore`` goes there: what follows is then bitwise the same.
    A batch at an epoch's end is filled up from the next epoch. The size of a batch may change
    at a restart, what else decides who reads what may not.
    """

    def __init__(
        self, data: Data, samples: Samples, rank: int, batch: int, device: torch.device | None
    ) -> None:
        self._data, self._samples = data, samples
        self._rank, self._batch, self._device = rank, batch, device
        self._epoch = self._position = 0
        self._order = self._drawn()

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return len(self._samples)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Batch:
        taken: list[Ints] = []
        missing = self._batch
        while missing:
            if self._position == len(self._order):
                self._epoch, self._position = self._epoch + 1, 0
                self._order = self._drawn()
            part = self._order[self._position : self._position + missing]
            self._position += len(part)
            missing -= len(part)
            taken.append(part)
        return self._data.read(self._samples.begins(np.concatenate(taken)), self._device)

    def _drawn(self) -> Ints:
        """Return this epoch's order; it depends on nothing that was drawn before."""
        key = (self._rank, _DATA_STREAM, self._epoch)
        sequence = np.random.SeedSequence(self._data.seed, spawn_key=key)
        random = np.random.Generator(np.random.PCG64(sequence))
        return random.permutation(len(self._samples))

    def state(self) -> dict[str, int | str]:
        """Return the position, with all that it depends on: numbers and texts only."""
        own = {"epoch": self._epoch, "position": self._position, "rank": self._rank}
        return {**self._data.layout, **own}

    def restore(self, state: Mapping[str, int | str]) -> None:
        """Resume where ``state`` was taken.

        Raises
        ------
        DataError
            If it was taken with other data, or shared out differently.
        """
        for key, here in self.state().items():
            if key not in state:
                raise DataError(f"the saved position in the data has no {key}")
            if key not in ("epoch", "position") and state[key] != here:
                raise DataError(
                    f"the saved position in the data does not fit: {key} was {state[key]}, "
                    f"here it is {here}"
                )
        self._epoch, self._position = int(state["epoch"]), int(state["position"])
        self._order = self._drawn()
