"""Levers at the end of an answer: one line each, the one that saves most first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sim.output.tables import Column, Report, Section, count, significant

if TYPE_CHECKING:
    import pandas as pd

    from sim.planning.decision import Plan
    from sim.questions.comparison import Comparison
    from sim.questions.levers import Lever
    from sim.records.scenario import Scenario

LITTLE = 0.005
"""Changes of the time below this share one line."""

COLUMNS = (
    Column("lever", "lever"),
    Column("change_of_time_fraction", "change of time", "percent"),
    Column("time_for_tokens_s", "time", "seconds"),
    Column("compute_utilization", "utilization", "percent"),
    Column("tokens_per_update", "tokens per update", "count"),
    Column("money_change", "change of money", "number"),
    Column("currency", "currency"),
    Column("training_changes", "training changes"),
    Column("figures_are_bounds", "bounds"),
    Column("setting", "setting"),
)


def with_levers(report: Report, found: Sequence[Lever] | None, method: str) -> Report:
    """Return a report that ends with its levers.

    Parameters
    ----------
    report
        Whose ``data`` is a mapping.
    found
        None where they were not computed, because that takes long.
    method
        The one that they are of.
    """
    data = {
        **report.data,
        "levers_of": method,
        "levers": None if found is None else records(found),
    }
    return replace(report, blocks=[*report.blocks, _block(found, method)], data=data)


def with_levers_of_fastest(
    report: Report,
    result: Comparison,
    cases: Mapping[str, Scenario],
    sensitivity: bool | None = None,
) -> Report:
    """Return the report of a comparison that ends with the levers of its fastest method.

    Parameters
    ----------
    cases
        Method -> its scenario.
    sensitivity
        Whether they are wanted; None is where they take less than a second.
    """
    from sim.questions.levers import levers_of, within

    within_s = within(sensitivity)
    if within_s is None:
        return report
    best = min(result.entries, key=lambda entry: entry.seconds)
    scenario = cases[best.method]
    found = levers_of(scenario, best.figures, best.replication, result.tokens, within_s=within_s)
    return with_levers(report, found, best.method)


def with_levers_of_plan(report: Report, plan: Plan, sensitivity: bool | None = None) -> Report:
    """Return the report of a plan that ends with the levers of its recommended setting."""
    from sim.questions.levers import levers, within

    within_s = within(sensitivity)
    if within_s is None:
        return report
    best = plan.recommended
    found = levers(best.scenario, plan.tokens, best.prediction, within_s=within_s)
    return with_levers(report, found, best.scenario.method.name)


def records(found: Sequence[Lever]) -> list[dict[str, Any]]:
    """Return a flat record of each lever, under the keys of :data:`COLUMNS`."""
    return [
        {
            "lever": each.name,
            "change_of_time_fraction": each.change,
            "time_for_tokens_s": each.seconds,
            "compute_utilization": each.utilization,
            "tokens_per_update": each.tokens_per_update,
            "money_change": each.money_change,
            "currency": each.currency or None,
            "training_changes": each.training_changes,
            "figures_are_bounds": each.lower_bound,
            "setting": each.setting or None,
        }
        for each in found
    ]


def frame(data: dict[str, Any]) -> pd.DataFrame:
    """Return the levers in a report's data as rows; none where they were not computed."""
    import pandas as pd

    return pd.DataFrame(data.get("levers") or [], columns=[column.key for column in COLUMNS])


def _block(found: Sequence[Lever] | None, method: str) -> str | Section:
    if found is None:
        return (
            f"What to change first ({method}) takes more than a second to compute: --sensitivity "
            "does it."
        )
    if not found:
        return f"What to change first ({method}): no lever applies."
    large = [each for each in found if abs(each.change) >= LITTLE]
    small = [each.name for each in found if abs(each.change) < LITTLE]
    lines = [_line(each) for each in large]
    lines += [f"less than {100 * LITTLE:g} %: {', '.join(small)}"] if small else []
    if any(each.lower_bound for each in found):
        lines.append(
            "How fast a backlog grows in the long run is not settled for some of these times, "
            "which are at least what they say: their changes are approximate."
        )
    return Section(
        f"What to change first: change of the time for equal tokens ({method})", "\n".join(lines)
    )


def _line(lever: Lever) -> str:
    """Write one lever.

    The marks say what a simulation cannot: that other training comes of it.
    """
    typed = f" ({lever.setting})" if lever.setting else ""
    spent = "" if lever.money_change is None else f", {money(lever)}"
    notes = ["training changes"] if lever.training_changes else []
    if lever.other_updates:
        notes.append(f"{count(lever.tokens_per_update)} tokens per update")
    marked = f"; {', '.join(notes)}" if notes else ""
    return f"{lever.name}: {percent(lever.change)} time{spent}{typed}{marked}"


def money(lever: Lever) -> str:
    """Write what a lever costs more, or saves, with the prices as they are."""
    more = lever.money_change or 0.0
    if more == float("inf"):
        return "never paid; infinite"
    sign = "-" if more < 0 else "+"
    return f"{sign}{significant(abs(more))} {lever.currency}".strip()


def percent(change: float) -> str:
    """Write a relative change with its sign.

    Examples
    --------
    >>> percent(-0.0432), percent(0.5), percent(-0.3639)
    ('-4.3 %', '+50 %', '-36 %')
    """
    if change == float("inf"):
        return "never; infinite"
    return f"{'-' if change < 0 else '+'}{significant(100 * abs(change), 2)} %"
