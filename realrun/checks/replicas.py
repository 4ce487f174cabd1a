"""Whether workers hold the same parameters and buffers, and how they come to.

Tensors are compared by digests, so that nothing but some bytes per tensor is sent where they are
equal, which they are as a rule. All functions that take a ``World`` are called by all ranks
together, and send over its control group: none of it is in a trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor, nn

from realrun.errors import AgreedError
from realrun.processes.rendezvous import World

Tensors = Mapping[str, Tensor]
Digests = Mapping[str, str]

_CHUNK_BYTES = 2**26  # that a digest brings to the host at once


def parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters by name, frozen ones included, tied ones once."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's buffers by name, persistent or not; shared ones once."""
    return dict(module.named_buffers())


def digests(tensors: Tensors) -> dict[str, str]:
    """Return a digest of every tensor's type, shape and bits.

    Examples
    --------
    >>> a, b, c = digests({"a": torch.zeros(2), "b": torch.zeros(2), "c": -torch.zeros(2)}).values()
    >>> a == b, b == c
    (True, False)
    """
    return {name: _digest(tensor) for name, tensor in tensors.items()}


def _digest(tensor: Tensor) -> str:
    found = blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=16)
    for part in torch.split(_bytes(tensor), _CHUNK_BYTES):
        found.update(part.cpu().numpy().data)
    return found.hexdigest()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def differing(everyone: Sequence[Digests]) -> list[tuple[int, str]]:
    """Return (rank, name) of all that differ from rank 0's, or that one of the two lacks.

    Parameters
    ----------
    everyone
        What :func:`digests` returned, in the order of the ranks.

    Examples
    --------
    >>> differing([{"a": "1", "b": "2"}, {"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"}])
    [(2, 'b'), (2, 'c')]
    """
    first = everyone[0]
    return [
        (rank, name)
        for rank, other in enumerate(everyone)
        for name in {**first, **other}
        if first.get(name) != other.get(name)
    ]


def compared(tensors: Tensors, world: World) -> list[tuple[int, str]]:
    """Return (rank, name) of all tensors that differ from rank 0's.

    Raises
    ------
    AgreedError
        If they come in another order: parameters then lie elsewhere in what is sent.
    """
    own = digests(tensors)
    whole = blake2b("\n".join(f"{name} {own[name]}" for name in own).encode()).hexdigest()
    if len(set(world.gathered(whole))) == 1:
        return []
    everyone = world.gathered(own)
    for rank, other in enumerate(everyone):
        if other.keys() == everyone[0].keys() and list(other) != list(everyone[0]):
            raise AgreedError(
                f"rank {rank}: the model's parameters come in another order than on rank 0; the "
                "model must be the same on every worker"
            )
    return differing(everyone)


def check_equal(tensors: Tensors, world: World, when: str) -> None:
    """Check that every rank's tensors are those of rank 0, to the bit.

    Parameters
    ----------
    tensors
        This rank's, by name.
    when
        For the message: "when training begins", and the way out if there is one.

    Raises
    ------
    AgreedError
        On every rank: which rank, and its first tensor that differs.
    """
    found = compared(tensors, world)
    if found:
        rank, name = found[0]
        raise AgreedError(f"rank {rank}: {name} differs from rank 0's {when}")


def make_equal(tensors: Tensors, world: World) -> None:
    """Write rank 0's tensors into those of all ranks, and check that they then agree.

    Only those that differ are sent.

    Raises
    ------
    AgreedError
        On every rank, if a tensor has another type or shape than rank 0's or exists on some
        ranks only, or if one still differs in the end.
    """
    unlike = {name for _, name in compared(tensors, world)}
    if not unlike:
        return
    _check_shapes(world.gathered(_shapes(tensors)))
    for name, tensor in tensors.items():  # the order of rank 0, by the check
        if name in unlike:
            values = tensor.detach().to("cpu", copy=True).contiguous()
            for part in torch.split(_bytes(values), _CHUNK_BYTES):
                world.take_from_first(part)
            with torch.no_grad():
                tensor.copy_(values)
    check_equal(tensors, world, "when training begins, although rank 0 has sent its values")


def _shapes(tensors: Tensors) -> dict[str, str]:
    return {name: f"{t.dtype} {tuple(t.shape)}" for name, t in tensors.items()}


def _check_shapes(everyone: Sequence[Mapping[str, str]]) -> None:
    first = everyone[0]
    for rank, name in differing(everyone):
        here, there = everyone[rank].get(name), first.get(name)
        raise AgreedError(
            f"rank {rank}: {name} is {here or 'missing'}, on rank 0 {there or 'missing'}; "
            "the model must be the same on every worker"
        )


@dataclass(frozen=True)
class Merged:
    """Names of the buffers that differed between workers: averaged, or taken from rank 0."""

    averaged: tuple[str, ...] = ()
    from_first: tuple[str, ...] = ()


def merge_buffers(tensors: Tensors, world: World) -> Merged:
    """Average floating-point buffers that differ between workers; others stay rank 0's own.

    For the end of a run: rank 0 evaluates and saves. The mean is that of all workers alike,
    computed in 64 bits. What is equal everywhere, or differs in type or shape, is left alone.
    """
    unlike = {name for _, name in compared(tensors, world)}
    if not unlike:
        return Merged()
    averaged = _averaged(tensors, unlike, world.gathered(_shapes(tensors)))
    for name in averaged:
        wide = torch.complex128 if tensors[name].is_complex() else torch.float64
        mean = tensors[name].detach().to("cpu", wide).contiguous()
        world.sum_up(torch.view_as_real(mean) if mean.is_complex() else mean)
        tensors[name].copy_(mean / world.workers)
    return Merged(tuple(averaged), tuple(sorted(unlike - set(averaged))))


def _averaged(
    tensors: Tensors, unlike: set[str], everyone: Sequence[Mapping[str, str]]
) -> list[str]:
    """Names that all ranks average, the same on every rank and in the same order."""

    def alike() -> Iterator[str]:
        for name in sorted(unlike):
            if len({other.get(name) for other in everyone}) == 1:
                yield name

    return [
        name for name in alike() if tensors[name].is_floating_point() or tensors[name].is_complex()
    ]
