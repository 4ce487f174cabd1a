"""How fast collectives that share links proceed: weighted max-min, by progressive filling."""

from __future__ import annotations

from math import inf

import numpy as np
from numpy.typing import NDArray


def progressive_filling(use: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative speeds of collectives that transmit at once; shape [flows, links] -> [flows].

    All speeds grow in proportion to 1 / max_l use, none beyond 1; when a link is full the
    flows that cross it stop growing. On one shared link that divides the bandwidth equally.

    Examples
    --------
    >>> progressive_filling(np.array([[1.0], [1.0]]))
    array([0.5, 0.5])
    """
    flows = len(use)
    speed = np.zeros(flows)
    peak = use.max(axis=1, initial=0.0)
    growing = peak > 0
    speed[~growing] = 1.0
    weight = np.zeros(flows)
    weight[growing] = 1 / peak[growing]
    left = np.ones(use.shape[1])
    while growing.any():
        pull = weight[growing] @ use[growing]
        full_at = np.divide(left, pull, out=np.full_like(left, inf), where=pull > 0)
        link_step = full_at.min()
        own_step = ((1 - speed[growing]) / weight[growing]).min()
        step = min(link_step, own_step)
        speed[growing] += weight[growing] * step
        left = np.maximum(left - pull * step, 0.0)
        full = (left <= 1e-12) & (pull > 0)
        growing &= ~((use[:, full] > 0).any(axis=1)) & (speed < 1 - 1e-12)
    return np.minimum(speed, 1.0)
