"""What a study covers: what was run, and what it cannot show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from realrun.validation.markdown import ENOUGH_FOR_P95, GROUPS, percent, written

if TYPE_CHECKING:
    import pandas as pd


def what_was_run(rows: pd.DataFrame, whole: pd.DataFrame, about: Mapping[str, str]) -> str:
    """List what was handed over, and what the rows themselves say."""
    lines = [f"- {name}: {text}" for name, text in about.items() if name not in ("study", "limits")]
    repeats = whole["repeats"]
    times = (
        f"{repeats.min()}"
        if repeats.min() == repeats.max()
        else f"{repeats.min()} to {repeats.max()}"
    )
    lines.append(
        f"- configurations: {len(whole)}, each measured {times} time{'s' * (times != '1')}, "
        f"{len(rows)} runs"
    )
    for mode, part in whole.groupby("compute_mode"):
        informative = part["informative"]
        lines.append(
            f"- {mode}: {len(part)} configurations, {informative.sum()} of them informative "
            f"({percent(informative.mean())})"
        )
    without = (~whole["tolerance_applies"]).sum()
    if without:
        lines.append(
            f"- reported without a target: {without} configurations with more workers than cores; "
            "they are left out of the verdict, of the figures above and of the errors by model and "
            "by cause"
        )
    busy = rows["busy"].dropna()
    if len(busy):
        lines.append(
            f"- CPU time used by others meanwhile: {percent(busy.median())} of the machine in "
            f"the median run, {percent(busy.max())} in the worst"
        )
    sent = (rows["predicted_sent_bytes"] / rows["measured_sent_bytes"] - 1).abs().dropna()
    if len(sent):
        lines.append(
            f"- bytes sent per worker and round: predicted within {percent(sent.max())} of what "
            "was counted"
        )
    return "\n".join(lines)


def limits(frame: pd.DataFrame, own: str) -> str:
    """Say in plain words what these runs cannot show."""
    lines = []
    for column, name in GROUPS.items():
        values = frame[column].unique()
        if len(values) == 1 and column != "tolerance_applies":
            lines.append(f"Not varied: {name} ({written(column, values[0])}).")
    for column, name in GROUPS.items():
        if column in ("bandwidth_bytes_per_s", "rtt_s", "workers"):
            low, high = frame[column].min(), frame[column].max()
            if low < high:
                lines.append(
                    f"Nothing is known of {name} below {written(column, low)} or above "
                    f"{written(column, high)}."
                )
    few = frame["repeats"].min()
    if few < 3:
        lines.append(
            f"Some configurations were run {'once' if few == 1 else 'twice'}: a run that was "
            "disturbed cannot be told from one that was not."
        )
    lines.append(
        "Which configurations are informative is decided by what was measured, not by what "
        "was predicted."
    )
    if len(frame) < ENOUGH_FOR_P95:
        lines.append(
            f"With {len(frame)} configurations the 95th percentile is nearly the largest error, "
            "and intervals from resampling are too narrow."
        )
    else:
        lines.append(
            "Intervals say what other configurations of the same kind would give, not other "
            "machines, links or methods."
        )
    if own:
        lines.append(own)
    return "\n".join(f"- {line}" for line in lines)
