"""Single cases: methods in the wrong order, the worst configurations, what is extrapolated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realrun.validation.markdown import (
    HEADER,
    between,
    both,
    error_cells,
    label,
    percent,
    signed_percent,
    table,
    written,
)
from realrun.validation.order import LEAST_DIFFERENCE, SAME_MACHINES, order
from realrun.validation.statistics import CAUSES, cause_errors, errors
from sim.units import format_percent, format_seconds

if TYPE_CHECKING:
    import pandas as pd


_WORST = 10


def methods_in_order(frame: pd.DataFrame) -> str:
    """Write how many pairs of methods are predicted in the right order, and which are not."""
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
        return f"{text} With no pair wrong, resampling gives no interval."
    lines = []
    for pair in found.wrong:
        fast, slow = frame.iloc[pair.faster], frame.iloc[pair.slower]
        where = ", ".join(
            f"{name} workers" if column == "workers" else name
            for column in SAME_MACHINES
            for name in [written(column, fast[column])]
        )
        lines.append(
            [
                where,
                label(fast),
                label(slow),
                signed_percent(pair.measured),
                signed_percent(pair.predicted) if pair.predicted else "equal",
            ]
        )
    header = [
        "where",
        "faster as measured",
        "slower",
        "slower by, measured",
        "predicted",
    ]
    return f"{text}\n\n{table(header, lines)}"


def worst(frame: pd.DataFrame) -> str:
    """Write the configurations with the largest errors, and which causes made them."""
    chosen = frame.loc[frame["error"].abs().sort_values(ascending=False, kind="stable").index]
    chosen = chosen.head(_WORST)
    missed = cause_errors(chosen)
    causes = [cause for cause in CAUSES if missed[cause].notna().any() and missed[cause].any()]
    lines = []
    for number, (_, row) in enumerate(chosen.iterrows()):
        own = missed[causes].iloc[number]
        most = own.abs().idxmax() if own.notna().any() else ""
        lines.append(
            [
                f"{row['scenario']}{' (informative)' if row['informative'] else ''}"
                f"{', EXTRAPOLATED' if row['extrapolated'] else ''}",
                label(row),
                format_seconds(row["predicted_s"]),
                format_seconds(row["measured_s"]),
                signed_percent(row["error"]),
                percent(row["spread"]) if row["repeats"] > 1 else "-",
                *(
                    f"**{signed_percent(own[cause])}**"
                    if cause == most and own[cause]
                    else signed_percent(own[cause])
                    for cause in causes
                ),
            ]
        )
    header = ["configuration", "method", "predicted", "measured", "error", "spread of repeats"]
    return (
        "By the absolute error of wall-clock; seconds are per round. Under each cause: predicted "
        "minus measured, in percent of the measured wall-clock; the largest is bold.\n\n"
        + table([*header, *causes], lines)
    )


def extrapolated(frame: pd.DataFrame) -> str:
    """Write the error where inputs lie outside what was calibrated against the others."""
    beyond = frame["extrapolated"] != ""
    if not beyond.any():
        return "Nothing: all inputs lie within what was calibrated."
    groups = [("within what was calibrated", frame[~beyond]), ("**EXTRAPOLATED**", frame[beyond])]
    kinds = frame[beyond].groupby("extrapolated", sort=True)
    groups += [(f"EXTRAPOLATED: {inputs}", part) for inputs, part in kinds]
    lines = [
        [f"{name}, {which}", *error_cells(errors(own))]
        for name, part in groups
        for which, own in both(part)
    ]
    return table(["relative error of wall-clock", *HEADER], lines)
