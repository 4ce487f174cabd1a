"""The answer of a report in one or two sentences, for the head of a page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.output.tables import AtLeast, Column, at_least, at_most, count, quantity, significant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sim.figures.evaluation import Figures
    from sim.questions.comparison import Comparison, Entry
    from sim.questions.memory import Memory

_LEAST_LOSS = 5e-4


def of_run(result: Figures, *, measured: bool = False) -> str:
    """Say how long a run takes, how busy its accelerators are, and what most is lost to."""
    total = result.total_wall_clock_s
    seconds = quantity(AtLeast(total) if result.total_is_lower_bound else total, "seconds")
    took = "took" if measured else "take"
    used = quantity(at_most(result.compute_utilization, result), "percent")
    lost = result.breakdown[result.lost_to]
    why = ""
    if lost >= _LEAST_LOSS:
        cause = result.lost_to.replace("_", " ")
        why = f" Most is lost to {cause}: {quantity(lost, 'percent')}."
    return (
        f"{count(result.tokens)} tokens {took} {seconds}; compute utilization is {used} "
        f"({'whole run' if result.whole_run else 'evaluated rounds'}).{why}"
    )


def of_comparison(found: Comparison) -> str:
    """Say which method is fastest on equal tokens; of those with like updates, if that differs."""
    fastest = min(found.entries, key=lambda entry: entry.seconds)
    if len(found.entries) == 1:
        return f"{_of_method(fastest)} for {count(found.tokens)} tokens."
    text = (
        f"On {count(found.tokens)} tokens the fastest of {len(found.entries)} methods is "
        f"{_of_method(fastest)}."
    )
    if not fastest.other_updates:
        return text
    text += (
        f" Its updates have {significant(fastest.update_size)} times the median's tokens, so time "
        "alone does not say that it trains faster."
    )
    alike = [entry for entry in found.entries if not entry.other_updates]
    if alike:
        next_one = min(alike, key=lambda entry: entry.seconds)
        text += f" The fastest whose updates are like the others' is {_of_method(next_one)}."
    return text


def _of_method(entry: Entry) -> str:
    seconds = quantity(at_least(entry.seconds, entry.figures), "seconds")
    used = quantity(at_most(entry.figures.compute_utilization, entry.figures), "percent")
    return f"{entry.method}: {seconds}, compute utilization {used}"


def of_requirement(method: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Say what each target needs, from the rows of the table: one per target, or target and link.

    ``rows`` as people read them: the target stands in the first row of its links, and text where
    there is no bandwidth.
    """
    parts: dict[str, list[Mapping[str, Any]]] = {}
    target: Any = ""
    for row in rows:
        target = row["target_fraction"] or target
        parts.setdefault(target if isinstance(target, str) else f"{100 * target:g} %", []).append(
            row
        )
    if list(parts) == ["fits"]:
        return f"{method}: a round's communication fits into its computation at {_needs(rows)}."
    alike: dict[str, list[str]] = {}  # targets by what they need
    for name, own in parts.items():
        alike.setdefault(_needs(own), []).append(name)
    listed = ". ".join(f"{' and '.join(names)}: {needs}" for needs, names in alike.items())
    return f"What {method} needs for a compute utilization of {listed}."


def _needs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the bandwidth on a link; of several links the least and the most."""
    rates = [row["bandwidth_bytes_per_s"] for row in rows]
    numbers = [rate for rate in rates if not isinstance(rate, str)]
    if not numbers:
        return "any bandwidth" if rates[0] == "any" else str(rates[0])
    if len(rows) == 1:
        return f"{quantity(numbers[0], 'rate')} on {rows[0]['link']}"
    least, most = (quantity(pick(numbers), "rate") for pick in (min, max))
    return f"{least} to {most}, by link"


def of_runs(records: Sequence[Mapping[str, Any]], varied: Sequence[Column], tokens: float) -> str:
    """Say how many runs there are, and which is the fastest and which the slowest."""
    if not records:
        return ""
    key = "time_for_tokens_s"
    ends = [(name, pick(records, key=lambda r: r[key])) for name, pick in
            (("fastest", min), ("slowest", max))]  # fmt: skip
    parts = [
        f"the {name} takes {quantity(record[key], 'seconds')} for {count(tokens)} tokens at a "
        f"compute utilization of {quantity(record['compute_utilization_fraction'], 'percent')} "
        f"({labeled(record, varied)})"
        for name, record in ends[: len(records)]
    ]
    return f"Of {len(records)} runs {'; '.join(parts)}." if len(records) > 1 else f"{parts[0]}."


def labeled(record: Mapping[str, Any], varied: Sequence[Column]) -> str:
    """Write what was varied, as the table has it: "bandwidth 1 Gbit/s, rtt 20 ms"."""
    parts = []
    for column in varied:
        value = record[column.key]
        if isinstance(value, str):
            parts.append(value)
        else:
            number = f"{value:g}" if column.kind in ("text", "number") else ""
            parts.append(f"{column.title} {number or quantity(value, column.kind)}")
    return ", ".join(parts)


def of_bandwidths(records: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> str:
    """Say between which bandwidths the highest target lies, from a record per case and target."""
    from sim.questions.reproduce import printed

    target = max((record["target_fraction"] for record in records), default=0.0)
    own = [record for record in records if record["target_fraction"] == target]
    key = "required_bandwidth_bytes_per_s"
    known = [record for record in own if record[key] is not None]
    used = f"a compute utilization of {100 * target:g} %"
    if not known:
        return f"No bandwidth that was tried gives {used}." if own else ""
    least, most = (
        f"{printed(record[key])} Gbit/s ({', '.join(str(record[axis]) for axis in axes)})"
        for record in (pick(known, key=lambda each: each[key]) for pick in (min, max))
    )
    missing = len(own) - len(known)
    rest = f" {missing} of {len(own)} cases do not reach it." if missing else ""
    if len(known) == 1:
        return f"For {used}: {least}.{rest}"
    return f"For {used} cases need from {least} to {most}.{rest}"


def of_memory(found: Mapping[str, Memory]) -> str:
    """Say which method needs least memory, which most, and what does not fit."""
    from sim.scenario.errors import listed

    needed = {name: each.worst.total_bytes for name, each in found.items()}
    least, most = min(needed.values()), max(needed.values())
    size = f"{quantity(least, 'bytes')} per accelerator"
    if len(found) == 1:
        text = f"{next(iter(found))} needs {size}."
    elif least == most:
        text = f"Each of {len(found)} methods needs {size}."
    else:
        ends = [
            listed([name for name, needs in needed.items() if needs == end], "and")
            for end in (least, most)
        ]
        text = (
            f"Of {len(found)} methods the least memory is needed by {ends[0]}: {size}; the most "
            f"by {ends[1]}: {quantity(most, 'bytes')}."
        )
    verdicts = {each.fits for each in found.values()}
    short = [name for name, each in found.items() if each.fits is False]
    if len(found) == 1 and short:
        return f"{text} It does not fit."
    if short:
        return f"{text} These do not fit: {', '.join(short)}."
    if verdicts == {True}:
        return f"{text} {'It fits' if len(found) == 1 else 'All fit'}."
    return text
