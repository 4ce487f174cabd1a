"""A model that counts what its worker comes to hold, in parameters and not in bytes.

Which state exists follows from the verbs that a program calls; how many bytes an element has is
somebody else's convention.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sim.models.sized import Sized, SizedBuffer
from sim.records.scenario import ModelSize

Slot = tuple[range, int]

# Verbs during which gradients are computed.
_PASSES = frozenset(["inner_step", "accumulate", "forward", "backward"])


class _Peak:
    """The most that a sum has been."""

    def __init__(self) -> None:
        self._now = self.most = 0

    def add(self, elements: int) -> None:
        self._now += elements
        self.most = max(self.most, self._now)


class Held(Sized):
    """Counts elements of state, each under what it is.

    Parameters
    ----------
    size, n_grad_accumulation, batch_tokens
        As :class:`sim.models.sized.Sized` takes them.
    rank, workers
        This worker and M; it owns slice ``rank`` of M where the optimizer is sharded.
    """

    def __init__(
        self,
        size: ModelSize,
        n_grad_accumulation: int,
        batch_tokens: float,
        rank: int,
        workers: int,
    ) -> None:
        super().__init__(size, n_grad_accumulation, batch_tokens)
        self._rank, self._workers = rank, workers
        self._optimized: set[int] = set()  # layers
        self._outer: set[int] = set()
        self._momentum: set[int] = set()
        self._whole = range(self.num_layers)
        #: Elements of the slices on which the sharded optimizer runs.
        self.shard = 0
        #: Whether an update works on copies of its own: hand_over was called.
        self.handed = False
        #: Outer gradients: (layers, slot) -> elements.
        self.deltas: dict[Slot, int] = {}
        #: This worker's part of what it has sent, kept by eager updates.
        self.fresh: dict[Slot, int] = {}
        #: Those outer gradients that are needed while gradients are computed.
        self.overlapping: set[Slot] = set()
        self._needed: set[Slot] = set()  # written, and not used up
        self._since: list[tuple[Slot, int]] = []  # what was written, used up (< 0) since a pass
        self._overlapping, self._others, self._kept_apart = _Peak(), _Peak(), _Peak()
        #: Outer parameters and momentum that one outer step works on, where that is most.
        self.visiting = (0, 0)

    @property
    def trained(self) -> int:
        """All trained parameters."""
        return self._elements(self._whole)

    @property
    def optimized(self) -> int:
        """Parameters with optimizer state, the sharded optimizer's apart."""
        return self._of(self._optimized)

    @property
    def outer_parameters(self) -> int:
        """Parameters that are kept as they were at the last outer step."""
        return self._of(self._outer)

    @property
    def outer_momentum(self) -> int:
        """Parameters with momentum of the outer optimizer."""
        return self._of(self._momentum)

    @property
    def most_overlapping(self) -> int:
        """Most elements at one time of outer gradients that are needed during passes.

        An outer gradient is needed from when it is computed until an outer step has used it. To
        be read at the program's end: what no pass has followed is taken as used up before one.
        """
        self._sort()
        return self._overlapping.most

    @property
    def most_others(self) -> int:
        """Most elements at one time of outer gradients that are used up before the next pass.

        To be read at the program's end, too.
        """
        self._sort()
        return self._others.most

    @property
    def most_fresh(self) -> int:
        """Most elements at one time of this worker's part of what is in flight."""
        return self._kept_apart.most

    def size(self) -> float:
        """Return a number that grows whenever something is added."""
        return float(
            self.optimized
            + self.shard
            + self.handed
            + self.outer_parameters
            + self.outer_momentum
            + sum(self.deltas.values())
            + sum(self.fresh.values())
            + len(self.overlapping)
            + self._overlapping.most
            + self._others.most
            + self._kept_apart.most
            + sum(self.visiting)
        )

    def _of(self, layers: Collection[int]) -> int:
        return sum(self._layer_parameters[layer] for layer in layers)

    def perform(
        self, verb: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any], times: int
    ) -> None:
        """Note what a verb of the model needs; an operation of the user's adds nothing."""
        if verb.__name__ in _PASSES:
            self.overlapping |= self._needed
            self._sort()
        super().perform(verb, args, kwargs, times)
        handed_over = verb.__name__ in ("accumulate", "hand_over", "publish")
        if not handed_over and getattr(verb, "__self__", None) is self:
            verb(*args, **kwargs)

    def inner_step(self) -> None:
        """Needs the inner optimizer's state of all layers."""
        self._optimized.update(self._whole)

    def inner_optimizer(self, layers: range) -> None:
        """Needs the inner optimizer's state of some layers."""
        self._optimized.update(layers)

    def optimizer_shard(self, phase: str, gradients: Sequence[SizedBuffer] = ()) -> None:
        """Needs it of this worker's slices."""
        sizes = [buffer.elements for buffer in gradients] or [self.trained]
        rank, m = self._rank, self._workers
        self.shard = max(self.shard, sum(n * (rank + 1) // m - n * rank // m for n in sizes))

    def hand_over(self, phase: str) -> None:
        """Needs what an update in the background works on."""
        self.handed = True
        super().hand_over(phase)

    def delta(self, layers: range, slot: int = 0) -> SizedBuffer:
        """Outer gradients of some layers; needed until an outer step has used them."""
        self._write(layers, slot)
        return super().delta(layers, slot)

    def outer_gradient(self, layers: range, slot: int = 0) -> None:
        """Needs the outer parameters, and a place for the difference."""
        self._outer.update(layers)
        self._visit(layers, with_momentum=False)
        self._write(layers, slot)

    def outer_step(
        self, layers: range, slot: int, lr: float, momentum: float, nesterov: bool, alpha: float
    ) -> None:
        """Needs outer parameters and momentum, and uses up the outer gradient."""
        self._step(layers, momentum)
        self._use_up(layers, slot)

    def eager_outer_step(
        self,
        layers: range,
        fresh: int | None,
        stale: int | None,
        lr: float,
        momentum: float,
        nesterov: bool,
    ) -> None:
        """The same; keeps this worker's part of what it has just sent."""
        self._step(layers, momentum)
        if fresh is not None:
            self.fresh[layers, fresh] = self._elements(layers)
            self._kept_apart.add(self._elements(layers))
        if stale is not None:
            # Until here, next to the one just sent: both are in the sum.
            self._kept_apart.add(-self.fresh.get((layers, stale), 0))
            self._use_up(layers, stale)

    def _write(self, layers: range, slot: int) -> None:
        self.deltas[layers, slot] = self._elements(layers)
        if (layers, slot) not in self._needed:
            self._needed.add((layers, slot))
            self._since.append(((layers, slot), self._elements(layers)))

    def _use_up(self, layers: range, slot: int) -> None:
        if (layers, slot) in self._needed:
            self._needed.remove((layers, slot))
            self._since.append(((layers, slot), -self._elements(layers)))

    def _sort(self) -> None:
        """Add up what happened since the last pass: only now it is known what was used up."""
        for key, elements in self._since:
            peak = self._overlapping if key in self.overlapping else self._others
            peak.add(elements)
        self._since.clear()

    def _step(self, layers: range, momentum: float) -> None:
        self._outer.update(layers)
        # The first step makes the momentum, the second one finds it.
        self._visit(layers, with_momentum=self._momentum.issuperset(layers))
        if momentum > 0:
            self._momentum.update(layers)

    def _visit(self, layers: range, *, with_momentum: bool) -> None:
        elements = self._elements(layers)
        visiting = (elements, elements if with_momentum else 0)
        self.visiting = max(self.visiting, visiting, key=sum)
