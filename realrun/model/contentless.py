"""Tensors of torch's meta device, whose arithmetic is left out: they have sizes and no contents.

torch computes on that device in Python and imports its compiler for it, which takes two seconds.
The usual operations need none of that: what writes into a tensor has nothing to do, and what
makes one needs its size alone. Any other function is torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# What writes into its first tensor.
_WRITING = {
    *("__iadd__", "__isub__", "__imul__", "__itruediv__", "add_", "sub_", "mul_", "div_", "neg_"),
    *("addcdiv_", "addcmul_", "clamp_", "copy_", "fill_", "lerp_", "sqrt_", "zero_"),
}

# What has the size of its tensors and, in the programs that are rehearsed, the dtype of the first.
_ELEMENTWISE = {
    *("__add__", "__sub__", "__mul__", "__truediv__", "__rtruediv__", "__rsub__", "__neg__"),
    *("add", "sub", "mul", "div", "neg", "sqrt", "clone", "zeros_like", "ones_like", "empty_like"),
}


class Contentless(TorchFunctionMode):
    """In here tensors on the meta device are not computed."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what a function of torch returns, as far as its size goes."""
        options, name = dict(kwargs or {}), func.__name__
        first = args[0] if args else None
        if name == "cat" and not options and _vectors(args):
            parts = args[0]
            return torch.empty(sum(map(len, parts)), dtype=parts[0].dtype, device=parts[0].device)
        if isinstance(out := options.get("out"), Tensor) and out.is_meta:
            return out
        if isinstance(first, Tensor) and first.is_meta:
            if name == "__setitem__":
                return None
            if name in _WRITING:
                return first
            if name in _ELEMENTWISE and _alike(args) and not options.keys() - {"alpha"}:
                return torch.empty(first.shape, dtype=first.dtype, device=first.device)
        return func(*args, **options)


def _alike(args: Iterable[Any]) -> bool:
    """Whether the result has shape and dtype of the first tensor."""
    first, *others = (each for each in args if isinstance(each, Tensor))
    return all(
        not each.dim() or (each.shape == first.shape and each.dtype == first.dtype)
        for each in others
    )


def _vectors(args: tuple[Any, ...]) -> bool:
    """Whether these are vectors of the meta device, of one dtype, and nothing else."""
    parts = args[0] if len(args) == 1 else ()
    alike = len({each.dtype for each in parts}) == 1
    return alike and all(each.is_meta and each.dim() == 1 for each in parts)
