"""Throughput as papers quote it: tokens per second and accelerator, and the share of peak used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Throughput:
    """What all accelerators of a run do together, over the evaluated rounds.

    ``accelerators`` is their number, ``peak_flops`` the sum of what they could do (FLOP/s).
    ``mfu`` is the model FLOPs utilization end to end: of the whole run's peak, communication and
    waiting included; not ``site.mfu``, which is that of a step alone.
    """

    accelerators: int
    peak_flops: float
    tokens_per_s_per_accelerator: float
    mfu: float


def throughput(
    flops_per_token: float, tokens_per_s: float, accelerators: Sequence[tuple[int, float]]
) -> Throughput | None:
    """Return the throughput of a run, or None where some worker's accelerators are not known.

    MFU = 6 N x tokens/s / (sum over workers of accelerators x peak)

    Parameters
    ----------
    flops_per_token
        6 N, of the parameters that one token computes with.
    tokens_per_s
        Of all workers together.
    accelerators
        Of each worker, how many it has and the peak FLOP/s of one; 0 where it is not known.

    Notes
    -----
    6 N per token: Kaplan et al. 2020, arXiv:2001.08361. MFU: Chowdhery et al. 2022, "PaLM",
    arXiv:2204.02311, appendix B; attention is left out here.
    """
    if not accelerators or any(count <= 0 or peak <= 0 for count, peak in accelerators):
        return None
    number = sum(count for count, _ in accelerators)
    peak_flops = sum(count * peak for count, peak in accelerators)
    flops = tokens_per_s * flops_per_token
    return Throughput(number, peak_flops, tokens_per_s / number, flops / peak_flops)
