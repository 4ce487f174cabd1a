"""Methods side by side: on equal tokens, and with each site left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.output import answers, intervals, varying_links
from sim.output.tables import (
    BOUNDS,
    DECLARES_NONE,
    PREDICTION,
    STEADY,
    THROUGHPUT,
    Block,
    Column,
    Report,
    Section,
    Table,
    assumptions,
    at_least,
    at_most,
    count,
    remarks,
    significant,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sim.questions.comparison import Comparison, Entry
    from sim.records.scenario import Scenario

COMPARED = ("ddp", "local_sgd", "diloco", "streaming_diloco", "eager_diloco", "acco")
"""Methods that are compared where none is named."""

LOSS = (
    "Final loss is not predicted here: how much a method learns from a token, and how that "
    "changes with tokens per update, is for experiments to say."
)

_COLUMNS = (
    Column("method", "method"),
    Column("compute_utilization", "utilization", "percent"),
    Column("time_for_tokens_s", "time", "seconds"),
    Column("speed_up_over_best_site", "against best site (x)", "number"),
    Column("tokens_per_update", "tokens per update", "count"),
    Column("updates", "updates", "count"),
    Column("lost_to", "most lost to"),
)


def report(
    result: Comparison, cases: Mapping[str, Scenario], tuned: Mapping[str, str] | None = None
) -> Report:
    """Return what a comparison says; ``cases`` are the scenarios of its methods.

    ``tuned`` is how to type what was found for each; nothing where methods were not tuned.
    """
    from sim.figures.collective_model import in_words
    from sim.output import cost_fields, single_sites
    from sim.output.memory_report import fit
    from sim.questions.cost import cost
    from sim.records.connections import windowed
    from sim.version import __version__

    scenario = next(iter(cases.values()))
    slowed = windowed(scenario)
    fits = fit(cases)
    records = [_record(entry, result) for entry in result.entries]
    without = [_record(entry, result) for entry in result.without]
    costs = [cost(cases[entry.method], entry.figures, result.tokens) for entry in result.entries]
    for record, found in zip(records, costs, strict=True):
        record |= {**cost_fields.fields(found), "cost_by_site": cost_fields.data(found)["sites"]}
    priced = cost_fields.columns(costs)
    tokens = count(result.tokens)
    known = all(entry.figures.throughput for entry in result.entries)
    columns = [*_COLUMNS[:-1], *(THROUGHPUT if known else ()), *priced, _COLUMNS[-1]]
    shown = [_shown(record, entry) for record, entry in zip(records, result.entries, strict=True)]
    shown = [{**row, **cost_fields.shown(each)} for row, each in zip(shown, costs, strict=True)]
    blocks: list[Block] = [
        PREDICTION,
        Table(columns, shown, f"Equal tokens: {tokens}"),
        *_other_updates(result),
        _tuning(tuned),
        single_sites.said(result),
        *cost_fields.money_by_site(dict(zip(cases, costs, strict=True))),
        *fits.lines,
    ]
    random = intervals.of_several(
        "each figure is of the run of median wall-clock of",
        {entry.method: (entry.interval, entry.seconds) for entry in result.entries},
    )
    blocks += [random] if random else []
    moving = [entry for entry in result.entries if not entry.figures.steady]
    if moving:
        bounds = any(entry.figures.lower_bound for entry in moving)
        blocks.append(
            f"NOT steady: rounds of {', '.join(entry.method for entry in moving)} do not repeat; "
            "their figures are a mean over the last half of what was simulated, or at the pace of "
            f"the links where messages queue there.{BOUNDS if bounds else ''}"
        )
    blocks += varying_links.said(scenario, *(entry.figures for entry in result.entries))
    if without:
        blocks.append(_left_out(result, scenario))
    models = {e.method: in_words(e.figures.exchanges, scenario) for e in result.entries}
    blocks.append(Section("Collective model", "\n".join(f"{m}: {w}" for m, w in models.items())))
    common = fits.listed([pair for pair in scenario.assumed if not pair[0].startswith("method.")])
    own = {
        name: {key[7:]: value for key, value in case.assumed if key.startswith("method.")}
        for name, case in cases.items()
    }
    taken = "\n".join(
        f"{name}: " + ", ".join(f"{key} = {value}" for key, value in values.items())
        for name, values in own.items()
        if values
    )
    blocks += [Section("Assumed of the methods", taken)] if taken else []
    blocks += [slowed.sentence] if slowed is not None else []
    blocks += [
        LOSS,
        *remarks(cases.values()),
        *assumptions(common),
        STEADY,
        *_undeclared(result),
    ]
    data = {
        "schema": 2,
        "prediction": "simulated; nothing was trained; final loss is not predicted",
        "tokens": result.tokens,
        "best_single_site": {"site": result.best_site, "time_for_tokens_s": result.best_site_s},
        "single_sites": single_sites.records(result),
        "methods": records,
        "without": without,
        "collective_model": models,
        "varying_links": {
            entry.method: varying_links.record(cases[entry.method], entry.figures)
            for entry in result.entries
        }
        if varying_links.said(scenario)
        else None,
        "with_default_windows": None if slowed is None else slowed.record,
        "fits_in_memory": fits.by_method,
        "assumed": dict(common),
        "assumed_of_methods": own,
        "tuned": dict(tuned) if tuned else None,
        "warnings": list(dict.fromkeys(w for case in cases.values() for w in case.warnings)),
        "left_out": {name: list(case.left_out) for name, case in cases.items()},
        "version": __version__,
        "scenario_sha256": {name: case.sha256 for name, case in cases.items()},
    }
    flat = [
        Column("left_out", "left out"),
        *_COLUMNS,
        *(Column(key, key) for key in ("time_is_lower_bound", "tokens_per_update_over_median")),
        *(THROUGHPUT if known else ()),
        *(Column(column.key, column.key, column.kind) for column in priced),
    ]
    return Report(
        blocks,
        data,
        Table(flat, [*records, *without]),
        f"{scenario.name or 'Methods'} compared: {', '.join(models)}",
        answers.of_comparison(result),
    )


def _tuning(tuned: Mapping[str, str] | None) -> Block:
    """Say which settings were compared."""
    if not tuned:
        return (
            "Methods are not tuned: their arguments are given or defaults. --tuned compares each "
            "at its best."
        )
    text = "\n".join(f"  {words}" for words in tuned.values())
    return Section("Tuned, each within the limits of bandwise plan", text)


def _shown(record: dict[str, Any], entry: Entry) -> dict[str, Any]:
    """Return a row for people: updates unlike the others' are marked."""
    if not entry.other_updates:
        return record
    return {**record, "tokens_per_update": f"{count(entry.figures.tokens_per_update)} *"}


def _other_updates(result: Comparison) -> list[str]:
    """Explain the mark."""
    from sim.questions.comparison import OTHER_UPDATES

    marked = [entry for entry in result.entries if entry.other_updates]
    if not marked:
        return []
    ratios = ", ".join(f"{entry.method} {significant(entry.update_size)} times" for entry in marked)
    return [
        f"* Tokens per update differ from the median of these methods by more than a factor of "
        f"{OTHER_UPDATES:g} ({ratios}). Equal tokens are then a different number of updates, so "
        "time alone does not say which method trains faster."
    ]


def _record(entry: Entry, result: Comparison) -> dict[str, Any]:
    from sim.figures.breakdown import listed
    from sim.output.run_record import evaluated_rounds, throughput

    figures = entry.figures
    return {
        "method": entry.method,
        "left_out": entry.left_out or None,
        "compute_utilization": at_most(figures.compute_utilization, figures),
        "time_for_tokens_s": at_least(entry.seconds, figures),
        "time_is_lower_bound": figures.lower_bound,
        "speed_up_over_best_site": at_most(entry.speed_up, figures),
        **intervals.fields(entry.interval),
        "time_low_s": entry.interval.low,
        "time_high_s": entry.interval.high,
        "tokens_per_update": figures.tokens_per_update,
        "tokens_per_update_over_median": entry.update_size,
        "updates_differ": entry.other_updates,
        "updates": result.tokens / figures.tokens_per_update,
        **throughput(figures),
        "evaluated_rounds": evaluated_rounds(figures),
        "lost_to": _lost_to(entry),
        "sent_bytes_per_worker": figures.sent_bytes_per_worker,
        "peak_bandwidth_bytes_per_s": figures.peak_bandwidth_bytes_per_s,
        "breakdown": listed(figures.breakdown),
    }


def _undeclared(result: Comparison) -> list[str]:
    """Name the methods whose updates cannot be counted."""
    names = [entry.method for entry in result.entries if not entry.figures.declares_updates]
    return [f"{', '.join(names)}: {DECLARES_NONE}."] if names else []


def _lost_to(entry: Entry) -> str:
    cause = entry.figures.lost_to
    return cause.replace("_", " ") if entry.figures.breakdown[cause] >= 5e-4 else "nothing"


def _left_out(result: Comparison, scenario: Scenario) -> Table:
    """Return times: a row per site left out, a column per method."""
    rows: dict[str, dict[str, Any]] = {"": {"sites": "all sites"}}
    for entry in (*result.entries, *result.without):
        row = rows.setdefault(entry.left_out, {"sites": f"without {entry.left_out}"})
        row[entry.method] = at_least(entry.seconds, entry.figures)
    names = [entry.method for entry in result.entries]
    titles = [name if ":" in name else name.replace("_", " ") for name in names]
    columns = [Column(*each, "seconds") for each in zip(names, titles, strict=True)]
    title = f"Time for {count(result.tokens)} tokens with a site left out"
    return Table((Column("sites", "sites"), *columns), list(rows.values()), title, one_unit=True)
