"""``bandwise simulate``: one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.errors import UserError
from sim.cli.options import Asked, Format, Json, takes_scenario
from sim.cli.output import checked_file, show, tell
from sim.cli.tables import (
    PREDICTION,
    Block,
    Column,
    Report,
    Section,
    Table,
    count,
    format_asked,
    quantity,
)
from sim.units import format_count

if TYPE_CHECKING:
    from sim.figures import Figures
    from sim.scenario.connections import Windowed
    from sim.scenario.resolved import Scenario
    from sim.trace import Trace

TRACES = (".parquet", ".csv", ".json", ".json.gz")

_TRACE = typer.Option(
    "--trace",
    metavar="FILE",
    help="Write what happened: .parquet or .csv for plot and --replay, .json or .json.gz for "
    "Perfetto.",
    rich_help_panel="Output",
    show_default=False,
)
_REPLAY = typer.Option(
    "--replay",
    metavar="TRACE",
    help="Repeat the observations of a trace instead of looking at the virtual clock.",
    rich_help_panel="Run",
    show_default=False,
)


@takes_scenario()
def simulate(
    asked: Asked,
    replay: Annotated[Path | None, _REPLAY] = None,
    trace: Annotated[Path | None, _TRACE] = None,
    form: Format = "table",
    as_json: Json = False,
) -> None:
    """Predict one run: time, utilization, where the time goes.

    Nothing is trained. Every option sets one key of a scenario file; what is not given is
    assumed, and listed.
    """
    from sim.scenario import load

    form = format_asked(form, as_json)
    if trace is not None:
        checked_file("--trace", trace, TRACES)
    scenario = load(asked.source, asked.options, asked.settings)

    from sim.figures import figures
    from sim.runtime import simulate as run

    observed = None if replay is None else logged(replay)
    with naming(scenario.method.name):
        happened = run(scenario, replay=observed)
    result = figures(happened, scenario)
    if trace is not None:
        from sim.trace_files import save

        save(happened, trace)
        tell(f"bandwise: wrote {trace}")
    show(report(scenario, result), form)


@contextmanager
def naming(method: str) -> Iterator[None]:
    """Say which method's arguments do not fit."""
    from sim.program import ArgumentError

    try:
        yield
    except ArgumentError as error:
        raise UserError(f"method.{method}: {error}") from error


def logged(path: Path) -> Trace:
    """Read the trace whose observations are to be repeated.

    Raises
    ------
    UserError
        If the file is not a trace.
    """
    from sim.trace_files import load

    try:
        return load(path)
    except ValueError as error:
        raise UserError(f"--replay: {error}") from error


# What decides about a run that is measured; links and times are those of the machine.
_DECIDES = ("model.", "method.", "site.workers", "site.n_grad_accumulation")


def report(
    scenario: Scenario, result: Figures, heading: str = PREDICTION, *, measured: bool = False
) -> Report:
    """Return the figures of one run, predicted or measured."""
    from sim.collective_model import in_words
    from sim.scenario.connections import windowed

    model = in_words(result.exchanges, scenario)
    slowed = None if measured else windowed(scenario)
    data = _data(scenario, result, model, slowed)
    if measured:
        data["prediction"] = "measured"
    blocks: list[Block] = [
        f"{heading}\n" + _subject(scenario),
        _headline(scenario, result),
        _where(result),
    ]
    by_site = _by_site(scenario, result)
    blocks += [by_site] if by_site is not None else []
    if not measured:
        blocks.append(Section("Collective model", model))
        blocks += [slowed.sentence] if slowed is not None else []
    assumed = [
        (key, value) for key, value in scenario.assumed if not measured or key.startswith(_DECIDES)
    ]
    if assumed:
        blocks.append(
            Table(
                (Column("key", "key"), Column("value", "value")),
                [{"key": key, "value": value} for key, value in assumed],
                "Not given, so assumed, derived or read from the hardware file",
            )
        )
    flat = {k: v for k, v in data.items() if not isinstance(v, dict | list)}
    flat |= {f"{cause}_fraction": part for cause, part in result.breakdown.items()}
    return Report(blocks, data, Table([Column(key, key) for key in flat], [flat]))


def _subject(scenario: Scenario) -> str:
    workers, sites = len(scenario.workers), len(scenario.sites)
    parameters = format_count(scenario.model.parameters)
    where = f"{workers} worker{'s' * (workers > 1)} at {sites} site{'s' * (sites > 1)}"
    name = f"{scenario.name}: " if scenario.name else ""
    return f"{name}{scenario.method.name}, {parameters} parameters, {where}."


def _headline(scenario: Scenario, result: Figures) -> Table:
    window = f"over {result.window_rounds} rounds"
    if result.whole_run:
        window = "over the whole run, too short for a steady state"
    elif result.skipped_rounds:
        window += f" after {_first(result.skipped_rounds)}"
    if not result.steady:
        window += "; NOT steady, rounds do not repeat"
    asked, more = _rounded_up(scenario, result)
    horizon = f"for {count(result.tokens)} tokens{asked}, {result.rounds:.0f} rounds"
    if result.extrapolated:
        horizon += "; extrapolated"
    horizon += more
    inner = quantity(result.inner_step_s, "seconds")
    peak = quantity(result.peak_bandwidth_bytes_per_s, "rate")
    lines = (
        ("compute utilization", result.compute_utilization, "percent", window),
        ("total wall-clock", result.total_wall_clock_s, "seconds", horizon),
        ("tokens per update", result.tokens_per_update, "count", ""),
        ("updates", result.updates, "count", ""),
        ("wall-clock measured", result.wall_clock_s, "seconds", f"{inner} per inner step"),
        ("sent per worker", result.sent_bytes_per_worker, "bytes", "meanwhile"),
        (
            "bandwidth per worker",
            result.mean_bandwidth_bytes_per_s,
            "rate",
            f"mean; peak {peak} over an inner step",
        ),
    )
    return Table(
        (Column("figure", ""), Column("value", "", "number"), Column("note", "")),
        [
            {"figure": figure, "value": quantity(value, kind), "note": note}
            for figure, value, kind, note in lines
        ],
    )


def _rounded_up(scenario: Scenario, result: Figures) -> tuple[str, str]:
    """Say what was asked where whole rounds make it more: beside the tokens, and at the end."""
    run = scenario.run
    if run.tokens is not None and count(result.tokens) != count(run.tokens):
        if result.tokens > run.tokens:
            return f" ({count(run.tokens)} asked)", "; rounded up to whole rounds"
    elif run.steps is not None:
        per_step = sum(worker.machine.batch_tokens for worker in scenario.workers)
        steps = result.tokens / per_step
        if steps > run.steps * (1 + 1e-9):
            return "", f"; {steps:.6g} steps: {run.steps} asked, rounded up to whole rounds"
    return "", ""


def _first(rounds: int) -> str:
    return "the first" if rounds == 1 else f"the first {rounds}"


def _where(result: Figures) -> Table:
    parts = [(cause, part) for cause, part in result.breakdown.items() if part >= 5e-5]
    return Table(
        (Column("cause", "cause"), Column("share", "share", "percent"), Column("bar", "")),
        [
            {"cause": cause.replace("_", " "), "share": part, "bar": "█" * round(40 * part)}
            for cause, part in parts
        ],
        "Where the time went (of workers x wall-clock)",
    )


def _by_site(scenario: Scenario, result: Figures) -> Table | None:
    """Return the breakdown by site, where sites differ."""
    records: list[dict[str, Any]] = []
    for index, site in enumerate(scenario.sites):
        own = [
            result.breakdown_by_worker[worker.rank]
            for worker in scenario.workers
            if worker.site == index
        ]
        mean = {cause: sum(part[cause] for part in own) / len(own) for cause in result.breakdown}
        records.append({"site": site.name or f"site {index + 1}", **mean})
    first = records[0]
    shown = [c for c in result.breakdown if any(record[c] >= 5e-5 for record in records)]
    if all(abs(record[c] - first[c]) < 5e-4 for record in records for c in shown):
        return None
    columns = [Column("site", "site")]
    columns += [Column(cause, cause.replace("_", " "), "percent") for cause in shown]
    return Table(columns, records, "By site")


def _data(
    scenario: Scenario, result: Figures, model: str, slowed: Windowed | None
) -> dict[str, Any]:
    from sim import __version__
    from sim.collective_model import records

    return {
        "schema": 1,
        "version": __version__,
        "prediction": "simulated; nothing was trained",
        "scenario": scenario.name or None,
        "scenario_sha256": scenario.sha256,
        "method": scenario.method.name,
        "workers": len(scenario.workers),
        "sites": len(scenario.sites),
        "wall_clock_s": result.wall_clock_s,
        "total_wall_clock_s": result.total_wall_clock_s,
        "extrapolated": result.extrapolated,
        "compute_utilization": result.compute_utilization,
        "tokens": result.tokens,
        "tokens_per_s": result.tokens_per_s,
        "tokens_per_update": result.tokens_per_update,
        "updates": result.updates,
        "rounds": result.rounds,
        "inner_step_s": result.inner_step_s,
        "window_rounds": result.window_rounds,
        "skipped_rounds": result.skipped_rounds,
        "window_is_whole_run": result.whole_run,
        "steady": result.steady,
        "sent_bytes_per_worker": result.sent_bytes_per_worker,
        "mean_bandwidth_bytes_per_s": result.mean_bandwidth_bytes_per_s,
        "peak_bandwidth_bytes_per_s": result.peak_bandwidth_bytes_per_s,
        "breakdown": result.breakdown,
        "breakdown_by_worker": [
            {"rank": worker.rank, "site": scenario.sites[worker.site].name, **spent}
            for worker, spent in zip(scenario.workers, result.breakdown_by_worker, strict=True)
        ],
        "collective_model": model,
        "collectives": records(result.exchanges, scenario),
        "with_default_windows": None if slowed is None else slowed.record,
        "assumed": dict(scenario.assumed),
    }
