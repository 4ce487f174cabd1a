"""The peak of the accelerator that torch names."""

from __future__ import annotations

from sim.scenario.presets import accelerator


def peak_of(device: str) -> float:
    """Return the dense peak FLOP/s of a device by torch's name for it; 0 where it is not known.

    Examples
    --------
    >>> peak_of("NVIDIA H100 80GB HBM3"), peak_of("NVIDIA GeForce RTX 4090")
    (989000000000000.0, 165200000000000.0)
    >>> peak_of("NVIDIA H100 PCIe"), peak_of("NVIDIA GeForce RTX 4090 D"), peak_of("CPU")
    (756000000000000.0, 0.0, 0.0)
    """
    known = accelerator(device)
    return 0.0 if known is None else known.peak
