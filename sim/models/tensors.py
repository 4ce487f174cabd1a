"""Which tensors the layers of a model consist of, where that is known."""

from __future__ import annotations

from collections.abc import Sequence

from sim.program import ArgumentError


def tensors_of(layer_tensors: Sequence[Sequence[int]], layers: range) -> list[int]:
    """Return the elements of each tensor of some layers, in the order of the layers.

    Parameters
    ----------
    layer_tensors
        Elements of each tensor of each layer; empty where they are not known.
    layers
        Whose.

    Raises
    ------
    ArgumentError
        If no tensors are known.

    Examples
    --------
    >>> tensors_of([[6, 2], [4], [3, 3]], range(0, 3, 2))
    [6, 2, 3, 3]
    """
    if not layer_tensors:
        raise ArgumentError(
            "what is sent tensor by tensor needs the sizes of the model's tensors, which are not "
            "known; give model.layer_tensors, or a model that has them"
        )
    return [elements for layer in layers for elements in layer_tensors[layer]]
