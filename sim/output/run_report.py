"""One run for people: what it is, its figures, where the time goes, what was assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.output import answers, intervals, site_shares, varying_links
from sim.output.tables import (
    BOUNDS,
    DECLARES_NONE,
    PREDICTION,
    AtLeast,
    Block,
    Column,
    Report,
    Section,
    Table,
    at_least,
    at_most,
    count,
    left_out,
    quantity,
    remarks,
)
from sim.units import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sim.figures.evaluation import Figures
    from sim.questions.alternative import Alternative
    from sim.questions.replications import Interval
    from sim.records.scenario import Scenario

# What decides about a run that is measured; links and times are those of the machine.
_DECIDES = ("model.", "method.", "site.workers", "site.n_grad_accumulation")


def report(
    scenario: Scenario,
    result: Figures,
    heading: str = PREDICTION,
    *,
    measured: bool = False,
    interval: Interval | None = None,
    alternatives: Sequence[Alternative] = (),
) -> Report:
    """Return the figures of one run, predicted or measured; ``interval`` is of its wall-clock."""
    from sim.figures.collective_model import in_words
    from sim.output import cost_fields
    from sim.output.memory_report import Fit, fit
    from sim.output.run_record import data, row
    from sim.questions.cost import cost
    from sim.records.connections import windowed

    model = in_words(result.exchanges, scenario)
    slowed = None if measured else windowed(scenario)
    fits = Fit({}, []) if measured else fit({scenario.method.name: scenario})
    said = left_out([scenario]) if measured else remarks([scenario])
    blocks: list[Block] = [
        f"{heading}\n" + subject(scenario),
        *said,
        _headline(scenario, result),
        *_not_steady(result),
        *([] if measured else varying_links.said(scenario, result)),
        *fits.lines,
        *(_otherwise(found) for found in alternatives),
        _where(result),
    ]
    if interval is not None and scenario.random:
        ends = (quantity(end, "seconds") for end in (interval.low, interval.high))
        blocks.insert(2 + len(said), intervals.of_one(interval, result.wall_clock_s, *ends))
    by_site = _by_site(scenario, result)
    blocks += [by_site] if by_site is not None else []
    if not measured:
        blocks += cost_fields.by_site(cost(scenario, result))
        blocks.append(Section("Collective model", model))
        blocks += [slowed.sentence] if slowed is not None else []
    assumed = fits.listed(
        [
            (key, value)
            for key, value in scenario.assumed
            if not measured or key.startswith(_DECIDES)
        ]
    )
    blocks += assumed_values(assumed)
    flat = row(scenario, result, model, interval, measured=measured)
    found = data(scenario, result, model, interval, alternatives, measured=measured)
    if not measured:
        found["varying_links"] = varying_links.record(scenario, result)
        found["with_default_windows"] = None if slowed is None else slowed.record
        found["assumed"] = dict(fits.listed(scenario.assumed))
        found["fits_in_memory"] = fits.by_method[scenario.method.name]
    return Report(
        blocks,
        found,
        Table([Column(key, key) for key in flat], [flat]),
        subject(scenario).partition(". ")[0].removesuffix("."),
        answers.of_run(result, measured=measured),
    )


def assumed_values(assumed: Sequence[tuple[str, str]]) -> list[Table]:
    """Return a table of what nobody gave, if there is anything."""
    if not assumed:
        return []
    columns = (Column("key", "key"), Column("value", "value"))
    records = [{"key": key, "value": value} for key, value in assumed]
    return [
        Table(columns, records, "Not given, so assumed, derived or read from the hardware file")
    ]


def subject(scenario: Scenario) -> str:
    """Say what a scenario is: its method, its model, its workers."""
    from sim.methods import BY_COUNTS
    from sim.records.islands import counted

    sites, model = len(scenario.sites), scenario.model
    parameters = f"{format_count(model.parameters)} parameters"
    if model.frozen_parameters:
        parameters += f" trained, {format_count(model.frozen_parameters)} frozen"
    where = f"{counted(scenario)} at {sites} site{'s' * (sites > 1)}"
    name = f"{scenario.name}: " if scenario.name else ""
    means = ""
    if scenario.unequal_tokens and scenario.method.name not in BY_COUNTS:
        weight = "once, as torch DDP does"
        if scenario.run.average_by == "tokens":
            weight = "by the tokens of its round"
        means = f" A mean over workers counts each {weight} (train.average_by)."
    sites_do = site_shares.sentence(scenario)
    lines = f"\n{sites_do}" if sites_do else ""
    return f"{name}{scenario.method.name}, {parameters}, {where}.{means}{lines}"


def _headline(scenario: Scenario, result: Figures) -> Table:
    evaluated = f"in {result.window_rounds} evaluated rounds"
    if result.whole_run:
        evaluated = "in the whole run, too short for a steady state"
    elif result.skipped_rounds:
        evaluated += f", after {_first(result.skipped_rounds)}"
    if not result.steady:
        evaluated += "; NOT steady"
    asked, more = _rounded_up(scenario, result)
    horizon = f"for {count(result.tokens)} tokens{asked}, {result.rounds:.0f} rounds"
    if result.extrapolated:
        horizon += "; extrapolated"
    horizon += more
    inner = quantity(result.inner_step_s, "seconds")
    peak = quantity(result.peak_bandwidth_bytes_per_s, "rate")
    undeclared = "" if result.declares_updates else DECLARES_NONE
    part = "whole run" if result.whole_run else "evaluated rounds"
    total = result.total_wall_clock_s
    lines = [
        ("compute utilization", at_most(result.compute_utilization, result), "percent", evaluated),
        (
            "total wall-clock",
            AtLeast(total) if result.total_is_lower_bound else total,
            "seconds",
            horizon,
        ),
        ("tokens per update", result.tokens_per_update, "count", undeclared),
        ("updates", result.updates, "count", undeclared or "in the whole run"),
        (part, at_least(result.wall_clock_s, result), "seconds", f"{inner} per inner step"),
        ("sent per worker", result.sent_bytes_per_worker, "bytes", f"in the {part}"),
        (
            "bandwidth per worker",
            result.mean_bandwidth_bytes_per_s,
            "rate",
            f"mean; peak {peak} over an inner step",
        ),
    ]
    if result.throughput is not None:
        found = result.throughput
        lines += [
            (
                "tokens per second",
                at_most(found.tokens_per_s_per_accelerator, result),
                "number",
                f"per accelerator, {found.accelerators} of them",
            ),
            (
                "MFU, end to end",
                at_most(found.mfu, result),
                "percent",
                "model FLOPs utilization, communication and waiting included",
            ),
        ]
    return Table(
        (Column("figure", ""), Column("value", "", "number"), Column("note", "")),
        [
            {"figure": figure, "value": quantity(value, kind), "note": note}
            for figure, value, kind, note in lines
        ],
    )


def _not_steady(result: Figures) -> list[str]:
    """Say what the figures of rounds that do not repeat are."""
    if result.steady:
        return []
    if result.backlog_s > 0:
        text = (
            "NOT steady: messages queue on the links, "
            f"{quantity(result.backlog_s, 'seconds')} more a round than the rounds take. Figures "
            "are at the pace of the links: a long run keeps it, because what is in flight at its "
            "end is awaited."
        )
    else:
        text = (
            "NOT steady: rounds do not repeat; figures are a mean over the last half of what was "
            "simulated."
        )
    return [text + (BOUNDS if result.lower_bound else "")]


def _otherwise(found: Alternative) -> str:
    """Say what another value would give of a key that nobody gave."""
    of, result = found.of, found.figures
    assumed = str(of.assumed).lower() if isinstance(of.assumed, bool) else f'"{of.assumed}"'
    because = f", {of.because}" if of.because else ""
    given = f"{of.key} = {assumed} was assumed{because}; {of.other}"
    if result is None:
        return f"{given} was not simulated as well, because that takes long: {of.option} does it."
    used = quantity(at_most(result.compute_utilization, result), "percent")
    step = quantity(at_least(result.inner_step_s, result), "seconds")
    needs = f" (this needs {of.needs})" if of.needs else ""
    return f"{given} would give a compute utilization of {used} and {step} per inner step{needs}."


def _rounded_up(scenario: Scenario, result: Figures) -> tuple[str, str]:
    """Say what was asked where whole rounds make it more: next to the tokens, and at the end."""
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
    by_site: list[list[dict[str, float]]] = [[] for _ in scenario.sites]
    for worker in scenario.workers:
        by_site[worker.site].append(result.breakdown_by_worker[worker.rank])
    for index, (site, own) in enumerate(zip(scenario.sites, by_site, strict=True)):
        mean = {cause: sum(part[cause] for part in own) / len(own) for cause in result.breakdown}
        records.append({"site": site.name or f"site {index + 1}", **mean})
    first = records[0]
    shown = [c for c in result.breakdown if any(record[c] >= 5e-5 for record in records)]
    if all(abs(record[c] - first[c]) < 5e-4 for record in records for c in shown):
        return None
    columns = [Column("site", "site")]
    columns += [Column(cause, cause.replace("_", " "), "percent") for cause in shown]
    return Table(columns, records, "By site")
