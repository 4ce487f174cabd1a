"""One run for programs: JSON in two parts, the evaluated rounds and the whole run; one CSV row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.figures.breakdown import listed
from sim.output import intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.figures.evaluation import Figures
    from sim.questions.alternative import Alternative
    from sim.questions.replications import Interval
    from sim.records.scenario import Scenario

SCHEMA = 2


def evaluated_rounds(result: Figures, *, measured: bool = False) -> dict[str, Any]:
    """Return the figures of the evaluated rounds; they belong together and to nothing else."""
    return {
        "rounds": result.window_rounds,
        "skipped_rounds": result.skipped_rounds,
        "is_whole_run": result.whole_run,
        "steady": result.steady,
        "backlog_s_per_round": result.backlog_s,
        "figures_are_bounds": result.lower_bound,
        "wall_clock_s": result.wall_clock_s,
        "tokens": result.window_tokens,
        "updates": result.window_updates,
        "tokens_per_update": result.tokens_per_update,
        "tokens_per_s": result.tokens_per_s,
        "inner_step_s": result.inner_step_s,
        "compute_utilization": result.compute_utilization,
        **throughput(result),
        "sent_bytes_per_worker": result.sent_bytes_per_worker,
        "mean_bandwidth_bytes_per_s": result.mean_bandwidth_bytes_per_s,
        "peak_bandwidth_bytes_per_s": result.peak_bandwidth_bytes_per_s,
        "breakdown": listed(result.breakdown, measured=measured),
    }


def throughput(result: Figures) -> dict[str, Any]:
    """Return tokens per second and accelerator and MFU, where all accelerators are known."""
    found = result.throughput
    if found is None:
        return {}
    return {
        "accelerators": found.accelerators,
        "tokens_per_s_per_accelerator": found.tokens_per_s_per_accelerator,
        "mfu_end_to_end_fraction": found.mfu,
    }


def whole_run(result: Figures) -> dict[str, Any]:
    """Return the figures from the start to the horizon, the end awaited."""
    return {
        "total_wall_clock_s": result.total_wall_clock_s,
        "total_is_lower_bound": result.total_is_lower_bound,
        "extrapolated": result.extrapolated,
        "tokens": result.tokens,
        "updates": result.updates,
        "rounds": result.rounds,
    }


def data(
    scenario: Scenario,
    result: Figures,
    model: str,
    interval: Interval | None = None,
    alternatives: Sequence[Alternative] = (),
    *,
    measured: bool = False,
) -> dict[str, Any]:
    """Return what ``--json`` prints.

    Amounts (seconds, tokens, updates, rounds, bytes) stand in the part that they belong to.
    Ratios, and what names its part, keep their places of schema 1 as well.
    """
    from sim.figures.collective_model import records
    from sim.output import cost_fields, site_shares
    from sim.questions.cost import cost
    from sim.version import __version__

    part = evaluated_rounds(result, measured=measured)
    if interval is not None:
        part |= {"wall_clock_low_s": interval.low, "wall_clock_high_s": interval.high}
    whole = whole_run(result)
    kept = (
        "steady",
        "compute_utilization",
        "tokens_per_s",
        "tokens_per_update",
        "inner_step_s",
        "mean_bandwidth_bytes_per_s",
        "peak_bandwidth_bytes_per_s",
        "breakdown",
    )
    return {
        "schema": SCHEMA,
        "version": __version__,
        "prediction": "measured" if measured else "simulated; nothing was trained",
        "scenario": scenario.name or None,
        "scenario_sha256": scenario.sha256,
        "method": scenario.method.name,
        "workers": len(scenario.workers),
        "sites": len(scenario.sites),
        **({} if interval is None else intervals.fields(interval)),
        "declares_updates": result.declares_updates,
        "evaluated_rounds": part,
        "whole_run": whole,
        **{key: whole[key] for key in ("total_wall_clock_s", "total_is_lower_bound")},
        "extrapolated": result.extrapolated,
        **{key: part[key] for key in kept},
        "breakdown_by_worker": [
            {
                "rank": worker.rank,
                "site": scenario.sites[worker.site].name,
                **listed(spent, measured=measured),
            }
            for worker, spent in zip(scenario.workers, result.breakdown_by_worker, strict=True)
        ],
        "sites_in_a_round": site_shares.records(scenario),
        **({} if measured else {"cost": cost_fields.data(cost(scenario, result))}),
        **{found.of.record: found.data() for found in alternatives},
        "collective_model": model,
        "collectives": records(result.exchanges, scenario),
        "assumed": dict(scenario.assumed),
        "warnings": [] if measured else list(scenario.warnings),
        "left_out": list(scenario.left_out),
    }


def row(
    scenario: Scenario,
    result: Figures,
    model: str,
    interval: Interval | None = None,
    *,
    measured: bool,
) -> dict[str, Any]:
    """Return the one row of ``--format csv``.

    ``tokens``, ``updates``, ``rounds`` and ``total_wall_clock_s`` are of the whole run,
    ``evaluated_tokens``, ``evaluated_updates``, ``window_rounds``, ``wall_clock_s`` and all else
    of the evaluated rounds.
    """
    flat = data(scenario, result, model, interval, measured=measured)
    whole, part, flat_cost = flat["whole_run"], flat["evaluated_rounds"], flat.get("cost", {})
    flat = {key: value for key, value in flat.items() if not isinstance(value, dict | list)}
    del flat["collective_model"]
    return {
        **flat,
        **{key: part[key] for key in part if key.startswith("wall_clock")},
        "evaluated_tokens": result.window_tokens,
        "evaluated_updates": result.window_updates,
        "tokens": whole["tokens"],
        "updates": whole["updates"],
        "rounds": whole["rounds"],
        "window_rounds": part["rounds"],
        "skipped_rounds": part["skipped_rounds"],
        "window_is_whole_run": part["is_whole_run"],
        "sent_bytes_per_worker": part["sent_bytes_per_worker"],
        **throughput(result),
        **{key: value for key, value in flat_cost.items() if key != "sites"},
        "collective_model": model,
        **{f"{cause}_fraction": share for cause, share in part["breakdown"].items()},
    }
