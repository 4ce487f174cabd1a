"""The value of a quantity that targets need, as a report: ``required --of`` but the bandwidth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.output.tables import (
    BOUNDS,
    PREDICTION,
    THROUGHPUT,
    Block,
    Column,
    Report,
    Table,
    assumptions,
    at_most,
    count,
    quantity,
    remarks,
)

if TYPE_CHECKING:
    from sim.questions.quantities import Quantity, Range, Value
    from sim.questions.quantity_search import Found
    from sim.records.scenario import Scenario


def report(scenario: Scenario, answers: Sequence[Found], row: Quantity) -> Report:
    """Return the value of a quantity for each target."""
    from sim.output.memory_report import fit
    from sim.output.run_record import evaluated_rounds, throughput
    from sim.version import __version__

    offered = row.range_in(scenario)
    value = Column(offered.key, offered.title, row.kind)
    shares = (
        Column("compute_utilization", "utilization there", "percent"),
        Column("utilization_before", row.neighbor, "percent"),
        Column("tokens_per_update", "tokens per update", "count"),
        *(THROUGHPUT if all(answer.figures.throughput for answer in answers) else ()),
    )
    target = Column("target_fraction", "target", "percent")
    rows: list[dict[str, Any]] = [
        {
            "target_fraction": answer.target,
            "outcome": answer.outcome,
            offered.key: answer.value,
            "compute_utilization": answer.utilization,
            "utilization_before": answer.before,
            "tokens_per_update": answer.figures.tokens_per_update,
            "figures_are_bounds": answer.figures.lower_bound,
            "options": _typed(answer, offered),
            **throughput(answer.figures),
        }
        for answer in answers
    ]
    shown = [
        {
            **each,
            offered.key: _said(answer, row),
            "compute_utilization": at_most(answer.utilization, answer.figures),
            "utilization_before": at_most(answer.before, answer.figures),
        }
        for each, answer in zip(rows, answers, strict=True)
    ]
    method = scenario.method.name
    title = f"{row.found} with which {method} reaches each target"
    blocks: list[Block] = [PREDICTION, Table((target, value, *shares), shown, title)]
    blocks += [offered.note] if offered.note else []
    blocks += _instead(scenario, answers, row, offered.title)
    blocks += _random(answers, row)
    blocks += _exceptions(answers, row, offered.title)
    if any(not answer.figures.steady for answer in answers):
        bounds = any(answer.figures.lower_bound for answer in answers)
        blocks.append(
            "NOT steady: with such a value rounds do not repeat; where messages queue on "
            f"the links, figures are at the pace of the links.{BOUNDS if bounds else ''}"
        )
    fits = fit({method: _at_the_highest(scenario, answers, offered)})
    assumed = fits.listed([pair for pair in scenario.assumed if pair[0] not in row.replaces])
    blocks += [*fits.lines, *remarks([scenario]), *assumptions(assumed)]
    data = {
        "schema": 2,
        "prediction": "simulated; nothing was trained",
        "of": row.name,
        "method": method,
        "scenario_sha256": scenario.sha256,
        "version": __version__,
        "required": [
            {
                **{key: item for key, item in each.items() if key != "accelerators"},
                "replications": answer.replications,
                "interval_coverage": _coverage(answer),
                f"{offered.key}_low": answer.low,
                f"{offered.key}_high": answer.high,
                "exceptions": list(answer.exceptions),
                "evaluated_rounds": evaluated_rounds(answer.figures),
            }
            for each, answer in zip(rows, answers, strict=True)
        ],
        "fits_in_memory": fits.by_method[method],
        "note": offered.note,
        "assumed": dict(assumed),
        "warnings": list(scenario.warnings),
        "left_out": list(scenario.left_out),
    }
    columns = (
        target,
        Column("outcome", "outcome"),
        value,
        *shares,
        Column("options", "options"),
        Column("figures_are_bounds", "figures are bounds"),
    )
    name = f"{scenario.name}: " if scenario.name else ""
    heading = f"{row.found[0].lower() if name else row.found[0]}{row.found[1:]}"
    return Report(
        blocks,
        data,
        Table(columns, rows),
        f"{name}{heading} with which {method} reaches each target",
        _answer(method, value, shown, row),
    )


def _at_the_highest(scenario: Scenario, answers: Sequence[Found], offered: Range) -> Scenario:
    """Return the scenario with what the highest target needs: its batch, or its delay, is held."""
    reached = [answer for answer in answers if answer.outcome != "not reached"]
    if not reached:
        return scenario
    return offered.applied(max(reached, key=lambda answer: answer.target).value)


def _said(answer: Found, row: Quantity) -> Value:
    """Return what people read in place of a value that is only the end of what was tried."""
    if answer.outcome == "any" and row.open_ended:
        return f"any; {_written(answer.value, row)} was tried"
    if answer.outcome == "not reached":
        used = at_most(answer.utilization, answer.figures)
        return f"not reached: {quantity(used, 'percent')} with {_written(answer.value, row)}"
    return answer.value


def _written(value: Value, row: Quantity) -> str:
    if isinstance(value, str):
        return value
    if row.kind == "count":
        return count(value)
    return quantity(value, row.kind) if value else "0 s"


def _typed(answer: Found, offered: Range) -> str:
    return "" if answer.outcome == "not reached" else offered.typed(answer.value)


def _answer(method: str, value: Column, shown: Sequence[Mapping[str, Any]], row: Quantity) -> str:
    parts: dict[str, list[str]] = {}  # targets by what they need
    for each in shown:
        needed = each[value.key]
        text = needed if isinstance(needed, str) and row.kind != "text" else _written(needed, row)
        parts.setdefault(text, []).append(f"{100 * each['target_fraction']:g} %")
    listed = ". ".join(f"{' and '.join(names)}: {text}" for text, names in parts.items())
    return f"{row.found} with which {method} reaches a compute utilization of {listed}."


def _coverage(answer: Found) -> float | None:
    from sim.questions.replications import coverage, rank_of

    number = answer.replications
    return coverage(number, rank_of(number)) if number > 1 else None


def _instead(scenario: Scenario, answers: Sequence[Found], row: Quantity, title: str) -> list[str]:
    """Say which other quantities may reach what this one does not reach with any value."""
    from sim.program import ArgumentError
    from sim.questions.quantities import QUANTITIES

    short = [f"{100 * answer.target:g} %" for answer in answers if answer.outcome == "not reached"]
    if not short:
        return []
    others = []
    for name, other in QUANTITIES.items():
        try:
            if name != row.name and other.range_in(scenario).last > 0:
                others.append(f"--of {name}")
        except ArgumentError:  # the method has no such argument
            continue
    others.append("--of bandwidth")
    ways = others[0] if len(others) == 1 else f"{', '.join(others[:-1])} or {others[-1]}"
    return [
        f"No {title} that was tried reaches {' or '.join(short)}. Another quantity may: {ways}."
    ]


def _exceptions(answers: Sequence[Found], row: Quantity, title: str) -> list[str]:
    """Say where utilization is not monotone."""
    parts = [
        f"{100 * answer.target:g} %: {listed}"
        for answer in answers
        for listed in [", ".join(_written(value, row) for value in answer.exceptions)]
        if answer.exceptions
    ]
    if not parts:
        return []
    return [
        f"Utilization is not monotone in the {title}. Of the values that were tried around the "
        f"answers, these contradict them: {'; '.join(parts)}."
    ]


def _random(answers: Sequence[Found], row: Quantity) -> list[str]:
    """Say between which values the answers of replications lie, where something is random."""
    numbers = sorted({answer.replications for answer in answers} - {1})
    if not numbers:
        return []
    parts = []
    for answer in answers:
        ends = [
            "not reached" if end is None else _written(end, row)
            for end in (answer.low, answer.high)
        ]
        span = ends[0] if ends[0] == ends[1] else " to ".join(ends)
        parts.append(f"{100 * answer.target:g} %: {span}")
    covered = min((_coverage(answer) or 0.0) for answer in answers)
    return [
        f"Random times: each answer is the median of {' or '.join(map(str, numbers))} "
        f"replications, {100 * covered:.3g} % interval: {'; '.join(parts)}."
    ]
