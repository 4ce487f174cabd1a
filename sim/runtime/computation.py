"""How long each operation takes on one worker, with its jitter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.operations import OPERATIONS, Operation
from sim.records.scenario import Jitter, Machine

_MOST_FACTORS = 200_000_000  # draws at once: some seconds
_BLOCK = 1024  # factors drawn at once, so that how they are consumed cannot change them
_JITTER_STREAM = 0  # one random stream per worker and purpose


class Factors:
    """Stream of micro-batch factors of one worker: the same numbers for every method.

    Each ``replication`` has a stream of its own.
    """

    def __init__(self, jitter: Jitter, seed: int, stream: int, replication: int = 0) -> None:
        self._jitter = jitter
        self.constant = not jitter.random
        if not self.constant:
            further = (replication,) if replication else ()
            sequence = np.random.SeedSequence(seed, spawn_key=(stream, _JITTER_STREAM, *further))
            self._random = np.random.Generator(np.random.PCG64(sequence))
            self._drawn: NDArray[np.float64] = np.empty(0)
            self._next = 0

    def sum(self, count: int) -> float:
        """Sum of the next ``count`` factors.

        Raises
        ------
        ValueError
            If that many must be drawn at once that it would take minutes.
        """
        if self.constant:
            return float(count)
        if count > _MOST_FACTORS:
            raise ValueError(
                f"site.jitter: {count} micro-batches between two synchronisations would each "
                f"be drawn; at most {_MOST_FACTORS} can be: leave jitter out, its mean is 1"
            )
        total = 0.0
        while True:
            taken = self._drawn[self._next : self._next + count]
            total += float(taken.sum())
            self._next += len(taken)
            count -= len(taken)
            if count == 0:
                return total
            self._drawn, self._next = self._draw(), 0

    def _draw(self) -> NDArray[np.float64]:
        jitter, random = self._jitter, self._random
        if jitter.distribution == "empirical":
            return random.choice(np.array(jitter.samples), _BLOCK)
        if jitter.distribution == "normal":  # truncated at zero: draw those again
            factors = random.normal(1.0, jitter.cv, _BLOCK)
            while (below := factors <= 0).any():
                factors[below] = random.normal(1.0, jitter.cv, int(below.sum()))
            return factors
        if jitter.distribution == "lognormal":
            sigma2 = np.log1p(jitter.cv**2)
            return random.lognormal(-sigma2 / 2, np.sqrt(sigma2), _BLOCK)
        if jitter.distribution == "gamma":
            shape = jitter.cv**-2
            return random.gamma(shape, 1 / shape, _BLOCK)
        raise ValueError(f"jitter: no distribution {jitter.distribution!r}")


class Computation:
    """Seconds per operation of one worker (formulas: docs/background/time.md).

    Parameters
    ----------
    machine
        The worker's times at speed 1.
    layers
        L.
    shards
        Over how many workers sharded optimizers are divided.
    factors
        Jitter; consumed in the order in which operations are asked for.
    """

    def __init__(self, machine: Machine, layers: int, shards: int, factors: Factors) -> None:
        self._factors = factors
        self._layers = layers
        self._shards = shards
        self._accumulation = machine.n_grad_accumulation
        speed = self._speed = machine.speed
        self._backward = machine.backward_ratio  # of a forward pass
        passes = (1 + self._backward) * layers * machine.n_grad_accumulation
        self._layer_s = machine.step_seconds / passes / speed
        self._first_layer = machine.first_layer_backward
        backward_layers = layers - (1 - self._first_layer)
        self._micro_batch_s = self._layer_s * (layers + self._backward * backward_layers)
        self._whole_s = {
            row.name: self._whole(row, machine.seconds_of(row.name))
            for row in OPERATIONS.values()
            if row.scales_with != "micro-batches"
        }
        self._factor = 1.0  # of the micro-batch under way

    def _whole(self, row: Operation, seconds: float) -> float:
        """Seconds of the whole model that one worker computes, at its speed."""
        return seconds / (self._shards if row.scales_with == "workers" else 1) / self._speed

    def seconds(
        self,
        operation: str,
        layers: range | None,
        times: int,
        declared: Operation | None = None,
    ) -> float:
        """Undisturbed seconds of ``times`` runs of an operation; draws their factors.

        ``inner_step`` counts the gradient part alone: its optimizer is charged as
        ``inner_optimizer``. ``declared``: what a program says of an operation of its own.

        Raises
        ------
        KeyError
            For an operation that no scenario has a time for.
        """
        if operation == "forward" and layers is not None:
            if layers.start == 0 and not self._factors.constant:
                self._factor = self._factors.sum(1)
            return len(layers) * self._layer_s * self._factor * times
        if operation == "backward" and layers is not None:
            count = len(layers) - (1 - self._first_layer if layers.start == 0 else 0)
            return self._backward * count * self._layer_s * self._factor * times
        if operation == "accumulate":
            return self._micro_batch_s * self._factors.sum(times)
        if operation == "inner_step":
            return self._micro_batch_s * self._factors.sum(times * self._accumulation)
        if declared is None:
            row, whole = OPERATIONS[operation], self._whole_s[operation]
        else:
            row, whole = declared, self._whole(declared, declared.seconds)
        if layers is not None and row.scales_with == "layers":
            whole *= len(layers) / self._layers
        return whole * times
