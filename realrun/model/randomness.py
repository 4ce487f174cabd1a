"""Random numbers that a module draws: seeded on every worker, and part of a checkpoint.

torch's generators, and the global ones of Python's ``random`` and of numpy. A generator that a
module makes for itself, as ``numpy.random.default_rng()`` does, is out of reach.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

_CPU = torch.device("cpu")
_WORDS = 624  # of the Mersenne Twister, which Python and numpy both have


def seed_all(seed: int) -> None:
    """Seed torch (all devices), Python's ``random`` and numpy's global generator."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all of them for a while; afterwards they are as they were before."""
    before = state(_CPU)
    seed_all(seed)
    try:
        yield
    finally:
        restore(before, _CPU)


def state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of all of them as tensors by name.

    Parameters
    ----------
    device
        Where the model computes; the generator of a GPU is included.
    """
    _, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=False)
    twister = numpy["state"]
    tensors = {
        "random/cpu": torch.get_rng_state(),
        # The 32-bit words and the position, then the second of a pair of normal numbers if it is
        # still to be drawn; 64-bit floats hold all of them exactly.
        "random/python": _numbers([*words, *([] if gauss is None else [gauss])]),
        "random/numpy": _numbers(
            [*twister["key"].tolist(), twister["pos"], numpy["has_gauss"], numpy["gauss"]]
        ),
    }
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def restore(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Continue with the states that :func:`state` returned."""
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
    if "random/python" in tensors:
        numbers = tensors["random/python"].tolist()
        words = tuple(int(number) for number in numbers[: _WORDS + 1])
        random.setstate((3, words, numbers[-1] if len(numbers) > len(words) else None))
    if "random/numpy" in tensors:
        *key, position, has_gauss, gauss = tensors["random/numpy"].tolist()
        np.random.set_state(
            {
                "bit_generator": "MT19937",
                "state": {"key": np.array(key, dtype=np.uint32), "pos": int(position)},
                "has_gauss": int(has_gauss),
                "gauss": gauss,
            }
        )


def _numbers(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
