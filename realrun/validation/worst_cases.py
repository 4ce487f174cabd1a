"""Single cases: the worst configurations, what is extrapolated."""

from __future__ import annotations

from math import isnan
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
_NOTABLE = 0.15  # an error of wall-clock above which an answer must have warned
SHARED = "MORE WORKERS THAN CORES"
"""What is said of a prediction of real computation by more workers than a machine has cores."""
APART = "IN STEP OR NOT"
"""What is said of a prediction that differs where ranks do not begin at one instant."""


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
                f"{', EXTRAPOLATED' if row['extrapolated'] else ''}"
                f"{'' if row['tolerance_applies'] else f', {SHARED}'}"
                f"{_apart(row['out_of_step_s'])}",
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


def _apart(seconds: float) -> str:
    """Say what a round takes where ranks do not begin at one instant."""
    return "" if isnan(seconds) else f", {APART}: {format_seconds(seconds)} if not"


def warned(frame: pd.DataFrame) -> str:
    """Say how many large errors there are, and which of them no answer has warned of."""
    import pandas as pd

    large = frame[frame["error"].abs() > _NOTABLE]
    if large.empty:
        return f"No error of wall-clock is above {percent(_NOTABLE)}."
    reasons = {
        SHARED: ~large["tolerance_applies"],
        "EXTRAPOLATED": large["extrapolated"] != "",
        APART: large["out_of_step_s"].notna(),
    }
    said = ", ".join(f"{name} in {found.sum()}" for name, found in reasons.items() if found.any())
    silent = large[~pd.concat(reasons, axis=1).any(axis=1)]
    text = f"Errors of wall-clock above {percent(_NOTABLE)}: {len(large)}. "
    text += f"Predictions warned beforehand: {said}. " if said else ""
    if silent.empty:
        return text + "None came without a warning."
    return text + f"Without a warning: {'; '.join(silent['scenario'])}."


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
