"""From measured collectives to the host costs of the message model (:mod:`sim.network.gloo`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
from numpy.typing import NDArray

from realrun.calibration.collectives import Measured
from sim.network.links import Links
from sim.records.scenario import HostCosts, Scenario

FITTED = ("message_s", "call_s", "element_s", "quantized_element_s")
_STEPS = {
    "message_s": 1e-5,
    "call_s": 1e-5,
    "element_s": 1e-10,
    "quantized_element_s": 1e-10,
}
_ROUNDS = 6
_SMALL = 0.02  # a residual below this counts in full, above it less and less


@dataclass(frozen=True)
class Observed:
    """Collectives that were measured on the network of a scenario."""

    scenario: Scenario
    measured: Sequence[Measured]


@dataclass(frozen=True)
class Fit:
    """Host costs, and how far the model with them is from what was measured.

    ``errors`` are predicted / measured - 1, in the order of the observations.
    """

    host: HostCosts
    errors: tuple[float, ...]

    @property
    def median_error(self) -> float:
        """Median of the absolute errors."""
        return median(abs(error) for error in self.errors)


def predicted(scenario: Scenario, host: HostCosts, measured: Measured) -> float:
    """Seconds that the message model gives for a measured collective."""
    collectives = replace(scenario.network.collectives, algorithm="gloo", host=host, tables=())
    network = replace(scenario.network, collectives=collectives)
    case = measured.case
    links = Links(replace(scenario, network=network))
    return links.cost(case.operation, case.dtype, measured.bytes).seconds


def fitted(observed: Sequence[Observed], byte_s: float) -> Fit:
    """Find the host costs with which the model comes nearest.

    ``byte_s`` is measured apart: it is small, and decides which of two messages is first.

    Relative residuals, by iterated least squares in which large ones weigh less (a repeat that
    the machine disturbed must not bend the rest); no cost is negative.
    """
    pairs = [(each.scenario, one) for each in observed for one in each.measured]
    seen = np.array([one.typical_s for _, one in pairs])
    at = np.zeros(len(FITTED))
    for _ in range(_ROUNDS):
        base = _model(pairs, at, byte_s)
        slopes = np.array(
            [
                (_model(pairs, at + step, byte_s) - base) / np.abs(step).sum()
                for step in np.diag([_STEPS[name] for name in FITTED])
            ]
        ).T
        residual = seen - base
        weight = 1 / np.sqrt(np.maximum(np.abs(residual / seen), _SMALL)) / seen
        before = at
        at = _not_negative(slopes * weight[:, None], (residual + slopes @ at) * weight)
        if np.allclose(at, before, rtol=1e-3, atol=1e-12):
            break
    errors = _model(pairs, at, byte_s) / seen - 1
    return Fit(_host(at, byte_s), tuple(float(error) for error in errors))


def _host(values: NDArray[np.float64], byte_s: float) -> HostCosts:
    return HostCosts(byte_s=byte_s, **dict(zip(FITTED, values.tolist(), strict=True)))


def _model(
    pairs: Sequence[tuple[Scenario, Measured]], values: NDArray[np.float64], byte_s: float
) -> NDArray[np.float64]:
    host = _host(values, byte_s)
    return np.array([predicted(scenario, host, one) for scenario, one in pairs])


def _not_negative(slopes: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least squares with no negative unknown: what comes out negative is left out."""
    used = [column for column in range(slopes.shape[1]) if np.any(slopes[:, column] != 0)]
    while used:
        scale = np.abs(slopes[:, used]).max(axis=0)
        found = np.linalg.lstsq(slopes[:, used] / scale, wanted, rcond=None)[0] / scale
        if (found >= 0).all():
            result = np.zeros(slopes.shape[1])
            result[used] = found
            return result
        del used[int(found.argmin())]
    return np.zeros(slopes.shape[1])
