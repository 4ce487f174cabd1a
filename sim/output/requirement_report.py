"""The bandwidth that targets need, as a report; and which link may be sized."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING, Any

from sim.output import intervals, varying_links
from sim.output.answers import of_requirement
from sim.output.errors import UserError, chosen
from sim.output.tables import (
    BOUNDS,
    PREDICTION,
    THROUGHPUT,
    Block,
    Column,
    Report,
    Section,
    Table,
    assumptions,
    at_least,
    at_most,
    remarks,
)

if TYPE_CHECKING:
    from sim.questions.target_search import Requirement
    from sim.records.scenario import Scenario

_COLUMNS = (
    Column("target_fraction", "target", "percent"),
    Column("link", "link"),
    Column("bandwidth_bytes_per_s", "bandwidth needed", "rate"),
    Column("compute_utilization", "utilization there", "percent"),
    Column("inner_step_s", "inner step", "seconds"),
    Column("tokens_per_update", "tokens per update", "count"),
)


def check_link(scenario: Scenario, link: str | None, option: str) -> None:
    """Refuse a link that the scenario does not have; ``option`` is how the user gave it.

    Raises
    ------
    UserError
        With the nearest of its links, or if it has none.
    """
    from sim.questions.variations import links

    known = links(scenario)
    if not known:
        raise UserError("the scenario has one site, so there is no link to size")
    if link is not None:
        chosen(option, link, known)


def report(scenario: Scenario, answers: list[Requirement], link: str | None) -> Report:
    """Return what is needed for each target; ``link`` is the one that was sized alone, if any."""
    from sim.figures.collective_model import in_words
    from sim.output.memory_report import fit
    from sim.questions.variations import scaled
    from sim.records.connections import windowed
    from sim.version import __version__

    counting = answers[0].counts_micro_batches
    rows = [row for answer in answers for row in _rows(answer, scenario, link, counting)]
    blocks: list[Block] = [
        PREDICTION,
        Table(_shown(answers), rows, f"Bandwidth that {scenario.method.name} needs"),
    ]
    random = intervals.of_several(
        "each bandwidth is the median of what is needed in",
        {
            "" if counting else f"{100 * answer.target:g} %:": (answer.interval, answer.factor)
            for answer in answers
            if answer.outcome == "reached"
        },
    )
    blocks += [random] if random else []
    if any(not answer.figures.steady for answer in answers):
        bounds = any(answer.figures.lower_bound for answer in answers)
        blocks.append(
            "NOT steady: at such a bandwidth rounds do not repeat; where messages queue on the "
            f"links, figures are at the pace of the links.{BOUNDS if bounds else ''}"
        )
    if counting:
        blocks.append(
            f"{scenario.method.name} is busy at any bandwidth, so targets do not apply: this is "
            "where a round's communication fits into its configured micro-batches. With "
            "less, updates grow larger and rarer."
        )
    blocks += varying_links.said(scenario, *(answer.figures for answer in answers))
    fits = fit({scenario.method.name: scenario})
    assumed = fits.listed(scenario.assumed)
    blocks += fits.lines
    model = in_words(answers[0].figures.exchanges, scenario)
    blocks += [Section("Collective model", model)]
    factors = [answer.factor for answer in answers if answer.outcome == "reached"]
    slowed = windowed(scaled(scenario, max(factors), link)) if factors else None
    blocks += [slowed.sentence] if slowed is not None else []
    blocks += [*remarks([scenario]), *assumptions(assumed)]
    data = {
        "schema": 2,
        "prediction": "simulated; nothing was trained",
        "method": scenario.method.name,
        "scenario_sha256": scenario.sha256,
        "version": __version__,
        "link": link,
        "required": [_data(answer, counting) for answer in answers],
        "collective_model": model,
        "with_default_windows": None if slowed is None else slowed.record,
        "fits_in_memory": fits.by_method[scenario.method.name],
        "assumed": dict(assumed),
        "warnings": list(scenario.warnings),
        "left_out": list(scenario.left_out),
    }
    columns = (
        _COLUMNS[0],
        Column("outcome", "outcome"),
        *_shown(answers)[1:],
        Column("figures_are_bounds", "figures are bounds"),
    )
    flat = [row for answer in answers for row in _flat(answer, link, counting)]
    method = scenario.method.name
    return Report(
        blocks,
        data,
        Table(columns, flat),
        f"{f'{scenario.name}: b' if scenario.name else 'B'}andwidth that {method} needs",
        of_requirement(method, rows),
    )


def _shown(answers: list[Requirement]) -> list[Column]:
    known = all(answer.figures.throughput for answer in answers)
    return [*_COLUMNS, *(THROUGHPUT if known else ())]


def _rows(
    answer: Requirement, scenario: Scenario, link: str | None, counting: bool
) -> list[dict[str, Any]]:
    """Return a row per link; one for all where they agree or there is nothing to say of each."""
    from sim.output.run_record import throughput

    figures = answer.figures
    shared = {
        "target_fraction": "fits" if counting else answer.target,
        "compute_utilization": at_most(figures.compute_utilization, figures),
        "inner_step_s": at_least(figures.inner_step_s, figures),
        "tokens_per_update": figures.tokens_per_update,
        **throughput(figures),
    }
    every = link or ("every site's link" if scenario.network.per == "site" else "every link")
    if answer.outcome == "any":
        return [{**shared, "link": every, "bandwidth_bytes_per_s": "any"}]
    if answer.outcome == "not reached":
        lost = answer.figures.lost_to.replace("_", " ")
        why = f", waiting for {answer.waiting_for}" if answer.waiting_for else f", lost to {lost}"
        text = f"not reached: at most {100 * answer.best_utilization:.0f} %{why}"
        return [{**shared, "link": every, "bandwidth_bytes_per_s": text}]
    bandwidth = answer.bandwidth
    if link is not None:
        bandwidth = {link: bandwidth[link]}
    elif len(set(bandwidth.values())) == 1:
        bandwidth = {every: next(iter(bandwidth.values()))}
    return [
        {
            **(shared if number == 0 else dict.fromkeys(shared, "")),
            "link": name,
            "bandwidth_bytes_per_s": rate,
        }
        for number, (name, rate) in enumerate(bandwidth.items())
    ]


def _flat(answer: Requirement, link: str | None, counting: bool) -> list[dict[str, Any]]:
    from sim.output.run_record import throughput

    known = answer.outcome == "reached"
    return [
        {
            "target_fraction": nan if counting else answer.target,
            "outcome": answer.outcome,
            "link": name,
            "bandwidth_bytes_per_s": rate if known else nan,
            "compute_utilization": answer.figures.compute_utilization,
            "inner_step_s": answer.figures.inner_step_s,
            "tokens_per_update": answer.figures.tokens_per_update,
            "figures_are_bounds": answer.figures.lower_bound,
            **throughput(answer.figures),
        }
        for name, rate in answer.bandwidth.items()
        if link in (None, name)
    ]


def _finite(factor: float) -> float | None:
    """Return an end of an interval; None where no bandwidth is enough."""
    return factor if factor < inf else None


def _data(answer: Requirement, counting: bool) -> dict[str, Any]:
    from sim.output.run_record import evaluated_rounds

    return {
        "target_fraction": None if counting else answer.target,
        "outcome": answer.outcome,
        "bandwidth_bytes_per_s": answer.bandwidth if answer.outcome == "reached" else None,
        "factor": answer.factor if answer.outcome == "reached" else None,
        **intervals.fields(answer.interval),
        "factor_low": _finite(answer.interval.low),
        "factor_high": _finite(answer.interval.high),
        "best_utilization": answer.best_utilization,
        "waiting_for": answer.waiting_for or None,
        "compute_utilization": answer.figures.compute_utilization,
        "inner_step_s": answer.figures.inner_step_s,
        "tokens_per_s": answer.figures.tokens_per_s,
        "tokens_per_update": answer.figures.tokens_per_update,
        "evaluated_rounds": evaluated_rounds(answer.figures),
    }
