"""Single cases: the worst configurations, what is extrapolated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from realrun.validation.markdown import (
    HEADER,
    both,
    error_cells,
    label,
    percent,
    signed_percent,
    table,
)
from realrun.validation.statistics import CAUSES, cause_errors, errors
from sim.units import format_seconds

if TYPE_CHECKING:
    import pandas as pd


_WORST = 10


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
