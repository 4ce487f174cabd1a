"""Which order of methods was predicted, and which was seen."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from realrun.validation.markdown import between, label, percent, signed_percent, table, written
from realrun.validation.order import LEAST_DIFFERENCE, SAME_MACHINES, Order, order
from sim.units import format_percent, format_seconds

if TYPE_CHECKING:
    import pandas as pd


def methods_in_order(frame: pd.DataFrame) -> str:
    """Write how many pairs of methods are predicted in the right order, which are not, and all.

    Parameters
    ----------
    frame
        Configurations, indexed 0, 1, ...
    """
    found = order(frame)
    told = (
        "Two configurations on equal machines and links, compared by seconds per inner step; "
        "a pair counts if the measured difference exceeds the spread of both over their repeats "
        f"and {format_percent(LEAST_DIFFERENCE)}."
    )
    if not found.pairs:
        return f"{told} There is no such pair."
    right = len(found.pairs) - len(found.wrong)
    # Where all are right, or all wrong, every resample is, too.
    share = between(found.share) if 0 < right < len(found.pairs) else percent(found.share.value)
    text = (
        f"{told}\n\n**{right} of {len(found.pairs)} pairs are predicted in the right order** "
        f"({share}); {found.alike} more pairs are too near to each other to tell."
    )
    if not found.wrong:
        text += " With no pair wrong, resampling gives no interval."
    parts = [text, _by_kind(frame, found)]
    if found.wrong:
        parts.append(_wrong(frame, found))
    return "\n\n".join([*parts, _side_by_side(frame)])


def _by_kind(frame: pd.DataFrame, found: Order) -> str:
    kinds: dict[tuple[str, bool], list[bool]] = {}
    for pair in found.pairs:
        one = frame.iloc[pair.faster]
        kind = (str(one["compute_mode"]), bool(one["tolerance_applies"]))
        kinds.setdefault(kind, []).append(pair.right)
    said = [
        f"{mode}{'' if applies else ' without a target'}: {sum(right)} of {len(right)}"
        for (mode, applies), right in sorted(kinds.items(), key=lambda kind: (not kind[0][1], kind))
    ]
    return f"Of these, {'; '.join(said)}."


def _place(row: pd.Series) -> str:
    return ", ".join(
        f"{name} workers" if column == "workers" else name
        for column in SAME_MACHINES
        for name in [written(column, row[column])]
    )


def _wrong(frame: pd.DataFrame, found: Order) -> str:
    lines = []
    for pair in found.wrong:
        fast, slow = frame.iloc[pair.faster], frame.iloc[pair.slower]
        lines.append(
            [
                _place(fast),
                label(fast),
                label(slow),
                signed_percent(pair.measured),
                signed_percent(pair.predicted) if pair.predicted else "equal",
            ]
        )
    header = ["in the wrong order", "faster as measured", "slower", "by, measured", "predicted"]
    return table(header, lines)


def _side_by_side(frame: pd.DataFrame) -> str:
    """Methods on the same machines and links, the fastest first, as predicted and as measured."""
    lines = []
    for _, members in frame.groupby(list(SAME_MACHINES), sort=True):
        if len(members) < 2:
            continue
        names = _short(members)
        lines.append(
            [
                _place(members.iloc[0]),
                *(
                    " < ".join(
                        f"{names[index]} {format_seconds(seconds)}"
                        for index, seconds in members[column].sort_values(kind="stable").items()
                    )
                    for column in ("predicted_per_step_s", "measured_per_step_s")
                ),
            ]
        )
    if not lines:
        return "No two methods ran on the same machines and links."
    return table(["seconds per inner step", "predicted", "measured"], lines)


def _short(members: pd.DataFrame) -> dict[Hashable, str]:
    """Name methods as shortly as tells them apart: with those arguments that differ."""
    names = {}
    for index, row in members.iterrows():
        alike = members[members["method"] == row["method"]]["arguments"]
        everywhere = set.intersection(*(set(text.split()) for text in alike))
        own = [part for part in row["arguments"].split() if part not in everywhere]
        names[index] = " ".join([row["method"], *own])
    return names
