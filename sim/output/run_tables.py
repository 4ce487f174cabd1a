"""Results of many runs as tables: what was varied, then the figures that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from sim.output import answers
from sim.output.tables import (
    BOUNDS,
    PREDICTION,
    STEADY,
    THROUGHPUT,
    AtLeast,
    AtMost,
    Block,
    Column,
    Report,
    Section,
    Table,
    assumptions,
    count,
    remarks,
)

if TYPE_CHECKING:
    import pandas as pd

    from sim.scenario import Study

_PERIODS = (Column("evaluated_periods", "periods of the links", "number"),)
_MOST_ROWS = 60  # printed for people; the files and csv, json have all
_KINDS = {"_bytes_per_s": "rate", "_bytes": "bytes", "_s": "seconds", "_fraction": "percent"}


def label(name: str) -> Column:
    """Return the column of a varied key; its unit is the end of its name."""
    for ending, kind in _KINDS.items():
        if name.endswith(ending):
            return Column(name, _title(name.removesuffix(ending)), kind)
    return Column(name, _title(name))


def _title(key: str) -> str:
    return key.rpartition(".")[2].replace("_", " ")


def runs(study: Study, frame: pd.DataFrame) -> Report:
    """Return a report with a row per run, on equal tokens."""
    from sim.figures.causes import CAUSES
    from sim.figures.plots import labels_of
    from sim.questions.comparison import budget

    tokens = budget(study.base)
    records = [{str(k): v for k, v in record.items()} for record in frame.to_dict("records")]
    losses = [cause for cause in CAUSES[1:] if f"{cause}_fraction" in frame]
    for record in records:
        worst = max(losses, key=lambda cause: record[f"{cause}_fraction"])
        lost = record[f"{worst}_fraction"] >= 5e-4
        rate = record["tokens_per_s"]
        seconds = tokens / rate if rate > 0 else inf
        bounded = record["figures_are_bounds"]
        record["time_for_tokens_s"] = AtLeast(seconds) if bounded else seconds
        if bounded:
            used = record["compute_utilization_fraction"]
            record["compute_utilization_fraction"] = AtMost(used)
        record["updates_for_tokens"] = tokens / record["tokens_per_update"]
        record["lost_to"] = worst.replace("_", " ") if lost else "nothing"
    axes = labels_of(frame)
    columns = [
        *(label(name) for name in axes),
        Column("compute_utilization_fraction", "utilization", "percent"),
        Column("time_for_tokens_s", f"time for {count(tokens)} tokens", "seconds"),
        Column("tokens_per_update", "tokens per update", "count"),
        Column("updates_for_tokens", "updates", "count"),
        *(column for column in THROUGHPUT if _known(frame, column.key)),
        *(column for column in _PERIODS if _known(frame, column.key)),
        Column("lost_to", "most lost to"),
    ]
    blocks: list[Block] = [
        PREDICTION,
        Table(columns, records[:_MOST_ROWS]),
    ]
    blocks += _not_varied(study, frame)
    if len(records) > _MOST_ROWS:
        blocks.append(f"{len(records) - _MOST_ROWS} more runs are not shown here.")
    moving = int((~frame["steady"].astype(bool)).sum())
    if moving:
        blocks.append(
            f"NOT steady: rounds of {moving} of {len(records)} runs do not repeat; their figures "
            "are a mean over the last half of what was simulated, or at the pace of the links "
            f"where messages queue there.{BOUNDS if frame['figures_are_bounds'].any() else ''}"
        )
    blocks += [*_random(frame), STEADY, *remarks(case.scenario for case in study.cases())]
    assumed = _assumed(study)
    blocks += [_model(frame), *assumptions(_listed(assumed))]
    everything = [Column(str(name), str(name)) for name in frame.columns]
    data = {
        "schema": 2,
        "prediction": "simulated; nothing was trained",
        "axes": axes,
        "tokens": tokens,
        "results": records,
        **assumed,
    }
    answer = answers.of_runs(records, columns[: len(axes)], tokens)
    return Report(blocks, data, Table(everything, records), study.name or "Runs", answer)


def _assumed(study: Study) -> dict[str, dict[str, Any]]:
    """Return what nobody gave, in all runs and, where methods are varied, in all of a method.

    What is varied is not among it.
    """
    of_methods: dict[str, dict[str, str]] = {}
    for case in study.cases():
        scenario = case.scenario
        own = dict(scenario.assumed)
        known = of_methods.setdefault(scenario.method.name, own)
        of_methods[scenario.method.name] = _alike(known, own)
    shared = next(iter(of_methods.values()), {})
    for values in of_methods.values():
        shared = _alike(shared, values)
    if study.grid is not None:
        shared.pop("network.bandwidth", None)
    rest = {
        name: {
            key.removeprefix("method."): value
            for key, value in values.items()
            if key.startswith("method.") and key not in shared
        }
        for name, values in of_methods.items()
    }
    found: dict[str, dict[str, Any]] = {"assumed": shared}
    return {**found, "assumed_of_methods": rest} if any(rest.values()) else found


def _alike(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in one.items() if other.get(key) == value}


def _listed(assumed: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    of_methods = assumed.get("assumed_of_methods", {})
    own = [(f"method.{key}", value) for each in of_methods.values() for key, value in each.items()]
    return [*assumed["assumed"].items(), *own]


def _known(frame: pd.DataFrame, column: str) -> bool:
    """Whether a column holds a number for every run."""
    return column in frame and bool(frame[column].notna().all())


def bandwidths(study: Study, frame: pd.DataFrame) -> Report:
    """Return a report of required bandwidths: a row per case, a column per target."""
    from sim.questions.reproduce import read_published
    from sim.questions.target_tables import table

    published = {} if study.compare_with is None else read_published(study.compare_with)
    rows, flat = [], []
    for labels, found in table(study, frame):
        row: dict[str, Any] = dict(labels)
        for target, rate in zip(study.targets, found, strict=True):
            beside = published.get((*labels.values(), round(100 * target)))
            row[f"{target:g}"] = cell(rate, beside)
            flat.append(
                {
                    **labels,
                    "target_fraction": target,
                    "required_bandwidth_bytes_per_s": None if rate == inf else rate,
                    "published_Gbit_per_s": beside,
                }
            )
        rows.append(row)
    axes = [Column(name, name) for name in (rows[0] if rows else {}) if name in study.axes]
    targets = [Column(f"{target:g}", f"{100 * target:g} %", "number") for target in study.targets]
    title = "Bandwidth between sites (Gbit/s) that reaches a compute utilization"
    if published:
        title += "; in brackets as published"
    extra = [Column(name, name) for name in (flat[0] if flat else {}) if name not in study.axes]
    data = {"schema": 1, "prediction": "simulated; nothing was trained", "required": flat}
    values = _assumed(study)
    data |= values
    rule = {
        "bisect": "Found by bisection, to 0.1 %.",
        "grid_point_below": "Printed is the grid point below the first that reaches the target.",
        "grid_point_reaching": "Printed is the first grid point that reaches the target.",
    }[study.printing]
    shown = Table([*axes, *targets], rows, title)
    assumed = assumptions(_listed(values))
    blocks: list[Block] = [PREDICTION, shown, rule, *_not_varied(study, frame), _model(frame)]
    blocks += [*remarks(case.scenario for case in study.cases()), *assumed]
    answer = answers.of_bandwidths(flat, [axis.key for axis in axes])
    return Report(
        blocks, data, Table([*axes, *extra], flat), study.name or "Bandwidth needed", answer
    )


def _random(frame: pd.DataFrame) -> list[str]:
    """Say how far the medians of several replications may be off, if anything is random."""
    random = frame[frame["replications"] > 1]
    if random.empty:
        return []
    width = (random["wall_clock_high_s"] - random["wall_clock_low_s"]) / random["wall_clock_s"]
    numbers = " or ".join(str(number) for number in sorted(set(random["replications"])))
    return [
        f"Random times: each run is the median of {numbers} replications; the widest interval of "
        f"the median is {100 * width.max():.2g} % of the wall-clock."
    ]


def _not_varied(study: Study, frame: pd.DataFrame) -> list[str]:
    """Name the lines that stayed as they are where the bandwidth was varied."""
    from sim.questions.study import BANDWIDTH
    from sim.questions.variations import own_lines
    from sim.scenario.errors import listed

    own = own_lines(study.base) if BANDWIDTH in frame else []
    text = f"Not varied with the bandwidth, since the scenario gives them: {listed(own, 'and')}."
    return [text] if own else []


def _model(frame: pd.DataFrame) -> Section:
    """Say in words what collectives the first run used; results.csv says it of every run."""
    words = "\n".join(str(frame["collective_model"].iloc[0]).split(" | "))
    return Section("Collective model of the first run", words)


def cell(rate: float, published: str | None) -> str:
    """Write a bandwidth in Gbit/s as published tables do, the published one next to it."""
    from sim.questions.reproduce import printed

    ours = "any" if rate == 0 else printed(rate)
    return ours if published is None else f"{ours} ({published})"
