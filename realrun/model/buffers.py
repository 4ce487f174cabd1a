"""What collectives carry: flat tensors under a name, and slices of one vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sim.trace.layers import numbered


@dataclass
class Flat:
    """A buffer of the program's vocabulary: a flat tensor under a name."""

    name: str
    detail: str
    tensor: Tensor
    start: int = 0  # where in the model's vector

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return self.tensor.numel()

    @property
    def values(self) -> Any:
        """The same numbers as a numpy array: the simulator can train a model on the CPU, too."""
        return self.tensor.numpy()


@dataclass
class Delta(Flat):
    """An outer gradient.

    ``sent`` is set when it is sent: what the wire's dtype left of this worker's values, or what
    returns it until the result is there. The copy is made only if someone reads it.
    """

    sent: Any = None
    parts: Sequence[Delta] = ()  # in which it is sent, if it is not sent whole

    def as_sent(self) -> Tensor:
        """What the wire's dtype left of this worker's values; to be asked once they are sent."""
        if self.parts:
            return torch.cat([part.as_sent() for part in self.parts])
        assert self.sent is not None  # set when the buffer was sent
        return torch.as_tensor(self.sent() if callable(self.sent) else self.sent)


def parted(buffer: Flat, edges: Sequence[int]) -> Sequence[Flat]:
    """Parts of a buffer between edges, views of its tensor; an outer gradient remembers its own."""
    if isinstance(buffer, Delta) and len(buffer.parts) == len(edges) - 1:
        return buffer.parts
    parts = [
        type(buffer)(buffer.name, numbered(buffer.detail, place, len(edges) - 1), part)
        for place, part in enumerate(buffer.tensor.tensor_split(list(edges[1:-1])))
    ]
    if isinstance(buffer, Delta):
        buffer.parts = [part for part in parts if isinstance(part, Delta)]
    return parts


class Layout:
    """Where the layers lie in a model's flat vector, one after the other.

    Examples
    --------
    >>> layout = Layout([3, 2, 4])
    >>> layout.run(range(1, 3)), layout.size(range(0, 3, 2))
    (slice(3, 9, None), 7)
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        edges = [sum(sizes[:layer]) for layer in range(len(sizes) + 1)]
        self.slices = [slice(a, b) for a, b in pairwise(edges)]

    def run(self, layers: range) -> slice:
        """Consecutive layers as one slice."""
        return slice(self.slices[layers[0]].start, self.slices[layers[-1]].stop)

    def of(self, layers: range) -> list[slice]:
        """Return where some layers are, one by one."""
        return [self.slices[layer] for layer in layers]

    def size(self, layers: range) -> int:
        """How many parameters some layers have."""
        return sum(self.slices[layer].stop - self.slices[layer].start for layer in layers)

    def parts(self, layers: range) -> Iterator[tuple[slice, slice]]:
        """For each layer, its slice of the whole and of the layers' own vector."""
        at = 0
        for layer in layers:
            whole = self.slices[layer]
            size = whole.stop - whole.start
            yield whole, slice(at, at + size)
            at += size


def joined(vector: Tensor, slices: Sequence[slice]) -> Tensor:
    """Copy slices of a vector into one."""
    return torch.cat([vector[part] for part in slices])


def put(values: Tensor, into: Tensor, slices: Sequence[slice]) -> None:
    """Write what :func:`joined` has joined back to where it lay."""
    at = 0
    for part in slices:
        size = part.stop - part.start
        into[part] = values[at : at + size]
        at += size


class Losses:
    """Numbers that stay on the device: reading one would wait for it."""

    _PAGE = 1024

    def __init__(self, like: Tensor, so_far: Sequence[Tensor] | Tensor = ()) -> None:
        self._like = like
        self.pages: list[Tensor] = []
        self.count = 0
        for loss in so_far:
            self.add(loss)

    def add(self, loss: Tensor) -> None:
        """Remember one more."""
        if self.count % self._PAGE == 0:
            self.pages.append(self._like.new_empty(self._PAGE))
        self.pages[-1][self.count % self._PAGE] = loss
        self.count += 1

    def since(self, first: int) -> Tensor:
        """Return those from number ``first`` on, of which there must be one at least."""
        page, last = first // self._PAGE, (self.count - 1) // self._PAGE
        pages = self.pages[page] if page == last else torch.cat(self.pages[page:])
        return pages[first - page * self._PAGE : self.count - page * self._PAGE]

    def all(self) -> Tensor:
        """Return all of them; shape [count]."""
        return torch.cat([*self.pages, self._like.new_empty(0)])[: self.count]
