"""What was measured, as a hardware file that the simulator reads (:mod:`sim.scenario.hardware`)."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch

from realrun.calibration.collectives import Measured
from realrun.calibration.fit import FITTED, Fit
from realrun.calibration.operations import Timings, cold_start, slowdown_by_rate
from realrun.processes.placement import name_of
from sim import __version__
from sim.operations import timed
from sim.scenario.hardware import SCHEMA, entries
from sim.storage.files import replacing

_MOST_SAMPLES = 400


@dataclass
class Link:
    """What was measured on one network: bytes/s, round trip in seconds, collectives."""

    name: str
    goodput: float
    rtt_s: float
    measured: list[Measured] = field(default_factory=list)
    first_s: float | None = None


@dataclass
class Computed:
    """What was measured of one worker's computation, and at which size."""

    timings: list[Timings]  # by rank
    parameters: int
    batch_tokens: float
    n_grad_accumulation: int
    frozen_parameters: int = 0


def hardware(
    links: Sequence[Link],
    fit: Fit | None,
    computed: Computed | None,
    packing: Sequence[Mapping[str, Sequence[float]]],
    *,
    parameters: int,
    workers: int,
    workers_here: int,
    device: torch.device,
    backend: str,
    concurrent: int,
) -> dict[str, Any]:
    """Return a hardware file's contents, ready for :func:`write`.

    Parameters
    ----------
    links, fit, computed
        What was measured; None and nothing where it was not.
    packing
        By rank and dtype, seconds per element to quantize.
    parameters
        The model's.
    workers, workers_here, device, backend, concurrent
        Where it was measured: workers in all, and those on rank 0's machine;
        ``concurrent`` collectives of a group proceed at once.
    """
    machine: dict[str, Any] = {}
    per_element = [s for own in packing for seconds in own.values() for s in seconds]
    if per_element:
        machine |= {
            "parameters": parameters,
            "quantize_s": _spread([s * parameters for s in per_element]),
        }
    if computed is not None:
        machine |= _machine(computed)
    if fit is not None:
        machine |= {name: getattr(fit.host, name) for name in ("byte_s", *FITTED)}
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "backend": backend,
        "workers": workers,
        "workers_on_a_machine": workers_here,
        "device": name_of(device),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "versions": {
            "bandwise": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    if links:
        about["bandwidth_bytes_per_s"] = sorted({link.goodput for link in links})
        about["rtt_s"] = sorted({link.rtt_s for link in links})
    if computed is not None:
        about["beside"] = [list(each) for own in computed.timings for each in own.during_traffic]
    if fit is not None:
        about["collectives_measured"] = len(fit.errors)
        about["collectives_median_error"] = fit.median_error
        about["collectives_largest_error"] = max(fit.errors, key=abs)
    measured = {
        "machine": {"worker": machine} if machine else {},
        "link": {link.name: _link(link, concurrent) for link in links},
    }
    return {"calibration": {**about, "entries": entries(measured)}, **measured}


def write(contents: Mapping[str, Any], path: Path) -> None:
    """Write a hardware file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_bytes(tomli_w.dumps(contents).encode())


def _machine(computed: Computed) -> dict[str, Any]:
    def all_of(operation: str) -> list[float]:
        return [s for own in computed.timings for s in own.seconds.get(operation, [])]

    micro_batch = all_of("accumulate")
    found: dict[str, Any] = {
        "parameters": computed.parameters,
        **({"frozen_parameters": computed.frozen_parameters} if computed.frozen_parameters else {}),
        "batch_tokens": computed.batch_tokens,
        "inner_step_s": _spread([s * computed.n_grad_accumulation for s in micro_batch]),
        "samples": _factors([own.seconds["accumulate"] for own in computed.timings]),
    }
    for row in timed():
        if seconds := all_of(row.name):
            found[row.measured] = _spread(seconds)
    during_traffic = [each for own in computed.timings for each in own.during_traffic]
    if during_traffic:
        by_rate = slowdown_by_rate(during_traffic)
        found["transmission_slowdown"] = {
            "bytes_per_s": list(by_rate),
            "slowdown": list(by_rate.values()),
        }
    if cold := cold_start([own.cold for own in computed.timings]):
        found["cold_start"] = {"pause_s": list(cold), "seconds": list(cold.values())}
    return found


def _factors(by_rank: Sequence[Sequence[float]]) -> list[float]:
    """Return how much single micro-batches differ from those that other ranks ran meanwhile.

    What slows all ranks at once, or for minutes, makes none wait for another: so each is
    divided by the mean of its moment, and the deviation widened by what that mean takes away.
    """
    count = min(len(own) for own in by_rank)
    seconds = np.array([own[:count] for own in by_rank])
    ranks = len(by_rank)
    if ranks == 1:
        return [float(factor) for factor in (seconds / seconds.mean()).ravel()[-_MOST_SAMPLES:]]
    apart = seconds / seconds.mean(axis=0) - 1
    factors = 1 + apart * np.sqrt(ranks / (ranks - 1))
    return [float(factor) for factor in factors.T.ravel()[-_MOST_SAMPLES:] if factor > 0]


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    p05, middle, p95 = (float(q) for q in np.quantile(seconds, [0.05, 0.5, 0.95]))
    return {"median": middle, "p05": p05, "p95": p95, "mean": float(np.mean(seconds))}


def _alpha_beta(table: Mapping[float, float]) -> dict[str, float]:
    """Sum a table of seconds against bytes up as alpha + bytes / rate, relative errors alike."""
    if len(table) < 2:
        return {}
    sizes, seconds = np.array(list(table)), np.array(list(table.values()))
    terms = np.stack([np.ones_like(sizes), sizes], axis=1) / seconds[:, None]
    alpha, per_byte = np.linalg.lstsq(terms, np.ones_like(seconds), rcond=None)[0]
    if alpha < 0 or per_byte <= 0:
        return {}
    return {"alpha_s": float(alpha), "bytes_per_s": float(1 / per_byte)}


def _link(link: Link, concurrent: int) -> dict[str, Any]:
    tables: dict[tuple[str, str], dict[float, float]] = {}
    for one in link.measured:
        key = (one.case.operation, one.case.dtype)
        tables.setdefault(key, {})[one.bytes] = one.typical_s
    found: dict[str, Any] = {
        "goodput_bytes_per_s": link.goodput,
        "rtt_s": link.rtt_s,
        "concurrent": concurrent,
        "collective": [
            {
                "operation": operation,
                "dtype": dtype,
                "bytes": sorted(table),
                "seconds": [table[size] for size in sorted(table)],
                **_alpha_beta(table),
            }
            for (operation, dtype), table in tables.items()
        ],
    }
    if link.first_s is not None:
        found["first_collective_s"] = link.first_s
    return found
