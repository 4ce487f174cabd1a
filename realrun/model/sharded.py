"""The optimizer in shards: ZeRO-1, and the updates of ACCO, DPU and WP during computation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from realrun.model import optimizers
from realrun.model.buffers import Flat, joined, put
from realrun.model.optimizers import Inner, Shard


class Handed:
    """What an update in the background works on: copies of its own.

    ``count`` holds micro-batches and tokens. ``kept`` is the gradient sum of an estimate round,
    which counts once more in the update.
    """

    def __init__(self, theta: Tensor, whole: str) -> None:
        self.gradient = Flat("gradient", whole, torch.zeros_like(theta))
        self.parameters = Flat("parameters", whole, theta.clone())
        self.count = Flat("count", "", theta.new_zeros(2, dtype=torch.float64))
        self.committed = theta.clone()  # fp32 master; this worker's slice counts
        self._kept = torch.zeros_like(theta)
        self._kept_numbers = [0, 0]

    def take(
        self,
        gradient: Tensor,
        n_grad_accumulation: int,
        micro_batches: int,
        tokens: int,
        phase: str,
    ) -> None:
        """Take gradient sum and count over; what was divided as it was added up is so no longer."""
        torch.add(self._kept, gradient, alpha=n_grad_accumulation, out=self.gradient.tensor)
        numbers = [micro_batches + self._kept_numbers[0], tokens + self._kept_numbers[1]]
        self.count.tensor[0], self.count.tensor[1] = numbers
        if phase == "estimate":
            self._kept.copy_(self.gradient.tensor)
            self._kept_numbers = numbers
        else:
            self._kept.zero_()
            self._kept_numbers = [0, 0]

    def state(self) -> tuple[dict[str, Tensor], list[int]]:
        """What a run is resumed from."""
        tensors = {
            "gradient": self.gradient.tensor,
            "parameters": self.parameters.tensor,
            "count": self.count.tensor,
            "committed": self.committed,
            "kept": self._kept,
        }
        return tensors, self._kept_numbers

    def restore(self, tensors: Mapping[str, Tensor], numbers: Sequence[int]) -> None:
        """Take over what :meth:`state` returned."""
        for name, tensor in self.state()[0].items():
            tensor.copy_(tensors[name])
        self._kept_numbers = list(numbers)


class Sharded:
    """AdamW on the slices that this worker owns.

    Rank i's slice of a buffer of n values is n i // M up to n (i + 1) // M.
    """

    def __init__(self, rank: int, workers: int, inner: Inner) -> None:
        self._rank, self._workers, self._inner = rank, workers, inner
        self._at: list[slice] = []
        self._shard: Shard | None = None
        self._written: list[slice] = []  # by others, since the last step

    def zero1(self, theta: Tensor, gradient: Tensor, buffers: Sequence[Flat]) -> None:
        """Step from the mean gradient that was reduce-scattered in place."""
        own = self._owned([(buffer.start, buffer.elements) for buffer in buffers])
        self._follow(theta)
        put(self._made(theta, own).step(joined(gradient, own)), theta, own)
        gradient.zero_()

    def written(self, theta: Tensor, parts: Iterable[slice]) -> None:
        """Continue from parameters that something else has written: an outer step, an average.

        Between two steps the slices are kept in fp32, which what was gathered may not be.
        """
        if self._shard is not None:
            self._written += parts
            self._follow(theta)

    def _follow(self, theta: Tensor) -> None:
        if self._shard is None or not self._at:  # known once a step has been taken here
            return
        at = 0
        for own in self._at:
            for part in self._written:
                first, last = max(own.start, part.start), min(own.stop, part.stop)
                if first < last:
                    here = slice(at + first - own.start, at + last - own.start)
                    self._shard.parameter.data[here] = theta[first:last]
            at += own.stop - own.start
        self._written.clear()

    def update(self, handed: Handed, phase: str, at: float | None) -> None:
        """Step from what was handed over, the learning rate read at ``at``.

        ``phase``: "update" commits, "estimate" does not, "predict" commits and then steps once
        more without committing.
        """
        own = self._owned([(0, handed.gradient.elements)])
        gradient = joined(handed.gradient.tensor, own) / handed.count.tensor[0]
        shard = self._made(handed.committed, own)
        stepped = shard.step(gradient, at, keep=phase != "estimate")
        if phase != "estimate":
            put(stepped, handed.committed, own)
        if phase == "predict":
            stepped = shard.step(gradient, at, keep=False)
        put(stepped, handed.parameters.tensor, own)

    def _owned(self, spans: Sequence[tuple[int, int]]) -> list[slice]:
        if not self._at:
            m, rank = self._workers, self._rank
            self._at = [slice(at + n * rank // m, at + n * (rank + 1) // m) for at, n in spans]
        return self._at

    def _made(self, start: Tensor, own: Sequence[slice]) -> Shard:
        if self._shard is None:
            self._shard = Shard(joined(start, own), self._inner)
        return self._shard

    def state(self) -> tuple[dict[str, Tensor], int]:
        """What a run is resumed from: tensors, and the steps taken."""
        if self._shard is None:
            return {}, 0
        moments = optimizers.tensors_of(self._shard.optimizer, "adamw")
        return {"parameter": self._shard.parameter, **moments}, self._shard.taken

    def restore(self, tensors: Mapping[str, Tensor], taken: int, like: Tensor) -> None:
        """Take over what :meth:`state` returned, on the device of ``like``."""
        if tensors:
            self._shard = Shard(tensors["parameter"].to(like.device), self._inner)
            self._shard.taken = taken
            optimizers.restore(self._shard.optimizer, "adamw", tensors)


def under(name: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors whose names begin with ``name/``, without it.

    Examples
    --------
    >>> under("outer", {"outer/a/b": 1, "theta": 2})
    {'a/b': 1}
    """
    start = f"{name}/"
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
