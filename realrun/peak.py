"""The peak of the accelerator that torch names."""

from __future__ import annotations

import re

from sim.scenario.presets import accelerator

# Cards of another peak under the same name.
_OTHER_CARDS = frozenset({"pcie", "nvl", "laptop", "d", "max-q", "mobile"})
_NOT_A_NAME = frozenset({"nvidia", "amd", "tesla", "geforce", "instinct", "gpu"})


def peak_of(device: str) -> float:
    """Return the dense peak FLOP/s of a device by torch's name for it; 0 where it is not known.

    Examples
    --------
    >>> peak_of("NVIDIA H100 80GB HBM3"), peak_of("NVIDIA GeForce RTX 4090")
    (989000000000000.0, 165200000000000.0)
    >>> peak_of("NVIDIA H100 PCIe"), peak_of("CPU"), peak_of("")
    (0.0, 0.0, 0.0)
    """
    words = [word for word in re.split(r"[\s-]+", device.lower()) if word]
    if not words or _OTHER_CARDS & set(words):
        return 0.0
    words = [word for word in words if word not in _NOT_A_NAME]
    for length in (2, 1):
        known = accelerator("".join(words[:length])) if words else None
        if known is not None:
            return known.peak
    return 0.0
