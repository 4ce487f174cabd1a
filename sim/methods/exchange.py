"""How the buffer of an outer step is averaged: what is agreed on before, and in which parts."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import accumulate
from math import ceil
from typing import NamedTuple

from sim.methods.arguments import Exchanged
from sim.program import Activity, ArgumentError, Buffer, Worker, bytes_per_element

MOST_PARTS = 100_000  # of one buffer: more would only measure our patience


class Exchange(NamedTuple):
    """How a method averages a buffer over the workers."""

    #: Type in which it travels.
    dtype: str
    #: What one collective carries.
    by: Exchanged = "whole"
    #: Of one bucket, where it leaves in buckets.
    bucket_bytes: int = 25 * 2**20
    #: Round trips of control messages before it may leave, and the seconds that they take besides.
    control_round_trips: int = 0
    control_time: float = 0.0

    def start(
        self, worker: Worker, buffer: Buffer, layers: range, over: Iterable[int] | None = None
    ) -> Generator[Activity, None, list[Activity]]:
        """Start all collectives of a buffer, in order; the mean is there when all have ended.

        What is agreed on before is awaited here: the program does not train meanwhile.

        Parameters
        ----------
        buffer
            What is averaged in place: one number per parameter of the layers.
        layers
            Whose it is.
        over
            As for :meth:`sim.program.Worker.all_reduce`.

        Returns
        -------
        list
            What is to be awaited.
        """
        if self.control_round_trips:
            yield worker.control(self.control_round_trips, self.control_time, over=over)
        elif self.control_time:
            raise ArgumentError("control_time goes with control_round_trips of at least 1")
        return [
            worker.all_reduce(part, self.dtype, over=over)
            for part in self._parts(worker, buffer, layers)
        ]

    def all_reduce(
        self, worker: Worker, buffer: Buffer, layers: range, over: Iterable[int] | None = None
    ) -> Generator[Activity]:
        """Average a buffer and wait for it; as :meth:`start`."""
        yield from (yield from self.start(worker, buffer, layers, over))

    def _parts(self, worker: Worker, buffer: Buffer, layers: range) -> Iterable[Buffer]:
        if self.by == "tensor":
            return worker.model.parts(buffer, [0, *accumulate(worker.model.tensors(layers))])
        count = 1
        if self.by == "bucket":
            count = ceil(buffer.elements * bytes_per_element(self.dtype) / self.bucket_bytes)
        if count <= 1:
            return [buffer]
        if count > MOST_PARTS:
            raise ArgumentError(
                f"bucket_bytes = {self.bucket_bytes}: would cut {buffer.elements} values into "
                f"{count} buckets; at most {MOST_PARTS} are sent"
            )
        edges = [buffer.elements * number // count for number in range(count + 1)]
        return worker.model.parts(buffer, edges)
