"""Predictions next to measurements: the rows of a validation's report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from math import nan
from typing import TYPE_CHECKING, Any

from realrun.validation.archive import Launch, Measured
from realrun.validation.plan import Planned
from realrun.validation.predict import BASELINES, Predicted
from realrun.validation.rows import COLUMNS
from sim.figures.evaluation import Figures
from sim.questions.replications import a_round_s
from sim.records.scenario import Network
from sim.scenario.hardware import Hardware

if TYPE_CHECKING:
    import pandas as pd

_CAUSES = {
    "exposed_communication": "exposed",
    "waiting": "waiting",
    "quantize": "quantize",
    "optimizer": "optimizer",
    "compute": "compute",
    "setup": "setup",
}


def rows(measured: Sequence[Measured], predictions: Sequence[Predicted]) -> pd.DataFrame:
    """Return a row per run that was measured, next to what is predicted of it."""
    import pandas as pd

    pairs = zip(measured, predictions, strict=True)
    found = [row for each, predicted in pairs for row in _of_configuration(each, predicted)]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _of_configuration(measured: Measured, predicted: Predicted) -> Iterator[dict[str, Any]]:
    each, launch = measured.planned, measured.launch
    network = predicted.scenario.network
    shared = {
        "run": each.number,
        "scenario": each.name,
        "method": each.scenario.method.name,
        "arguments": _arguments(each),
        "workers": each.workers,
        "bandwidth_bytes_per_s": _bandwidth(each, network),
        "rtt_s": _rtt(network),
        "heterogeneity": _heterogeneity(each, network),
        "compute_mode": each.mode,
        **_predicted(predicted.figures),
        **{f"{name}_s": predicted.simpler_s.get(name, nan) for name in BASELINES},
        "other_calibration_s": predicted.by_other_s,
        "out_of_step_s": predicted.out_of_step_s,
        "extrapolated": _extrapolated(each, network, launch.hardware),
        "tolerance_applies": each.mode == "paced" or _has_cores(launch),
    }
    for record in measured.runs:
        yield {**shared, **_measured(record)}


def _has_cores(launch: Launch) -> bool:
    """Whether every worker of a launch had a core; real computation else has no target."""
    told = launch.conditions
    return (told.workers_on_a_machine or told.workers) <= told.cores


def _predicted(found: Figures) -> dict[str, Any]:
    length = a_round_s(found)
    spent = {cause: share * length for cause, share in found.breakdown.items()}
    return {
        "predicted_s": length,
        "predicted_per_step_s": found.inner_step_s,
        "predicted_utilization": found.compute_utilization,
        "predicted_contention_s": spent["contention"],
        "predicted_sent_bytes": found.sent_bytes_per_worker / found.window_rounds,
        **{f"predicted_{name}_s": spent[cause] for cause, name in _CAUSES.items()},
    }


def _measured(record: dict[str, Any]) -> dict[str, Any]:
    spent, length = record["seconds"], record["wall_clock_s"]
    return {
        "repeat": record["repeat"],
        "order": record["order"],
        "measured_s": length,
        "measured_per_step_s": record["inner_step_s"],
        "measured_utilization": record["compute_utilization"],
        "measured_other_s": spent["other"],
        "measured_sent_bytes": record["sent_bytes"],
        "communication_share": (spent["exposed_communication"] + spent["waiting"]) / length,
        "rounds": record["rounds"],
        "busy": record["busy"],
        **{f"measured_{name}_s": spent[cause] for cause, name in _CAUSES.items()},
    }


def _arguments(each: Planned) -> str:
    """Return the arguments that the study gives, as they are written."""
    given = each.sections.method.model_dump(exclude_none=True)
    return " ".join(f"{key}={value}" for key, value in given.items() if key != "name")


def _heterogeneity(each: Planned, network: Network) -> str:
    speeds = [worker.machine.speed for worker in each.scenario.workers]
    rates = _rates(each, network)
    unlike = []
    if min(speeds) < max(speeds):
        unlike.append(f"one worker {max(speeds) / min(speeds):.3g}x slower")
    if min(rates) < max(rates):
        unlike.append(f"one link {max(rates) / min(rates):.3g}x slower")
    return ", ".join(unlike) or "equal"


def _rates(each: Planned, network: Network) -> list[float]:
    """Bytes/s of every pair of sites, and of the fastest if all share a slower one's link."""
    scenario = each.scenario.on(network)
    pairs = list(permutations(range(len(scenario.sites)), 2))
    if network.per == "site":
        fastest = scenario.bandwidth
    else:
        fastest = max(network.bandwidth[i][j] for i, j in pairs)
    return [*(scenario.rate(i, j) for i, j in pairs), fastest]


def _bandwidth(each: Planned, network: Network) -> float:
    """Return the rate of the fastest pair: the one that the study's axis sets."""
    return max(_rates(each, network))


def _rtt(network: Network) -> float:
    """Return the round trip of the first pair of sites, the one that the study's axis sets."""
    return network.latency[0][1] + network.latency[1][0]


def _extrapolated(each: Planned, network: Network, hardware: Hardware) -> str:
    """Name what lies beyond everything that was calibrated."""
    beyond = [
        name
        for name, value, known in (
            ("bandwidth", _bandwidth(each, network), hardware.bandwidths),
            ("rtt", _rtt(network), hardware.rtts),
        )
        if known and not min(known) * 0.999 <= value <= max(known) * 1.001
    ]
    return ", ".join(beyond)
