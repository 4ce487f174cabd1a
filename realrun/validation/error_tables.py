"""Tables of errors: by model, by group, by cause, and next to the noise of repeats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from realrun.validation.configurations import deviations, differences
from realrun.validation.markdown import (
    ENOUGH_FOR_P95,
    GROUPS,
    HEADER,
    between,
    both,
    error_cells,
    factor,
    percent,
    signed_percent,
    table,
    written,
)
from realrun.validation.statistics import (
    CAUSES,
    MODELS,
    cause_errors,
    errors,
    median_of,
    p95_of,
    ratio,
    size_of_errors,
)

if TYPE_CHECKING:
    import pandas as pd

_NOTHING = 5e-5  # what prints as 0.00 %


def by_model(frame: pd.DataFrame) -> str:
    """Write the calibrated model's error next to that of simpler ones and of an older one."""
    models = [name for name, column in MODELS.items() if frame[column].notna().any()]
    parts = []
    for mode, own in frame.groupby("compute_mode"):
        lines = []
        for which, part in both(own):
            for name in models:
                against = ratio(part, "calibrated", name)
                lines.append(
                    [
                        f"{which}, {name}",
                        *error_cells(errors(part, name)),
                        "-" if name == "calibrated" else between(against, factor),
                    ]
                )
        header = [f"{mode}: relative error of wall-clock", *HEADER, "calibrated / this"]
        parts.append(table(header, lines))
    absent = [name for name in MODELS if name not in models]
    if absent:
        parts.append(f"Not predicted in this study: {', '.join(absent)}.")
    parts.append(
        '"bias" is the median signed error. The last column is the calibrated model\'s median '
        "absolute error over this one's, on the same configurations: below 1 it is nearer. The "
        f"p95 of fewer than {ENOUGH_FOR_P95} configurations is nearly the largest error and has "
        "no interval, here and below."
    )
    parts.append(_quantities(frame))
    return "\n\n".join(parts)


def _quantities(frame: pd.DataFrame) -> str:
    """Write the calibrated model's error of other quantities than wall-clock."""
    lines = []
    for mode, own in frame.groupby("compute_mode"):
        for which, part in both(own):
            points = part["predicted_utilization"] - part["measured_utilization"]
            size = size_of_errors(part, "compute_utilization")
            lines.append(
                [
                    f"{mode}, {which}: compute utilization (points)",
                    str(len(part)),
                    between(median_of(size)),
                    between(p95_of(size)),
                    between(median_of(points.to_numpy()), signed_percent),
                ]
            )
        part = own[own["informative"]]
        size = size_of_errors(part, "exposed_communication")
        signed = np.where(part["predicted_exposed_s"] < part["measured_exposed_s"], -size, size)
        lines.append(
            [
                f"{mode}, informative: exposed communication (relative)",
                str(len(part)),
                between(median_of(size)),
                between(p95_of(size)),
                between(median_of(signed), signed_percent),
            ]
        )
    text = table(["calibrated", "configurations", "median", "p95", "bias"], lines)
    none = int((frame["informative"] & (frame["measured_exposed_s"] <= 0)).sum())
    if none:
        text += (
            f"\n\n{none} informative configuration{'s' * (none != 1)} measured no exposed "
            "communication: there the relative error is 0 if none was predicted, else unbounded."
        )
    return text


def by_group(frame: pd.DataFrame) -> str:
    """Write the error of wall-clock by method, bandwidth and all else that was varied."""
    modes = frame["compute_mode"].nunique() > 1
    header = [*HEADER, *(f"informative: {name}" for name in HEADER if name != "largest")]
    parts = []
    for column, name in GROUPS.items():
        if frame[column].nunique() < 2:
            continue
        keys = [column, "compute_mode"] if modes and column != "compute_mode" else [column]
        lines = []
        for key, part in frame.groupby(keys, sort=True):
            cells = error_cells(errors(part[part["informative"]]))
            del cells[HEADER.index("largest")]
            text = ", ".join(written(*pair) for pair in zip(keys, key, strict=True))
            lines.append([text, *error_cells(errors(part)), *cells])
        parts.append(table([name, *header], lines))
    return "\n\n".join(parts) or "Nothing was varied."


def noise_floor(rows: pd.DataFrame, frame: pd.DataFrame) -> str:
    """Write how far repeats lie apart, next to the error: no model can do better."""
    lines = []
    for mode, part in frame.groupby("compute_mode"):
        for which, own in both(part):
            runs = rows[rows["run"].isin(own["run"])]
            apart, pairs = deviations(runs), differences(runs)
            found = errors(own)
            lines.append(
                [
                    f"{mode}, {which}",
                    str(len(apart)),
                    between(median_of(apart)),
                    between(p95_of(apart)),
                    between(median_of(pairs)),
                    between(p95_of(pairs)),
                    percent(found.median.value),
                    percent(found.p95.value),
                ]
            )
    header = [
        "wall-clock",
        "configurations with repeats",
        "from the median: median",
        "p95",
        "between two repeats: median",
        "p95",
        "error: median",
        "p95",
    ]
    repeats = frame["repeats"]
    if repeats.max() < 2:
        return "Not measured: every configuration was run once."
    text = (
        "Repeats of one configuration differ by as much; that is the limit, no prediction can be "
        "expected to come nearer to a run than another run does.\n\n" + table(header, lines)
    )
    if (repeats <= 3).any():
        text += (
            "\n\nThe deviation from the median understates the noise with few repeats: with 2 "
            "the median lies midway between them, with 3 one of the deviations is zero. "
            "Differences between two repeats do not, but hold the noise of both."
        )
    once = int((repeats == 1).sum())
    if once:
        text += f" {once} of {len(frame)} configurations were run once and say nothing here."
    return text


def by_cause(frame: pd.DataFrame) -> str:
    """Write which causes of time are predicted too long or too short."""
    lines = []
    for mode, own in frame.groupby("compute_mode"):
        for cause in CAUSES:
            if not (cause_errors(own)[cause].abs() >= _NOTHING).any():
                continue
            cells = [
                cell
                for _, part in both(own)
                for cell in _missed(cause_errors(part)[cause].dropna().to_numpy())
            ]
            lines.append([f"{mode}: {cause}", *cells])
    header = ["configurations", "median", "p95", "bias"]
    return (
        "Predicted minus measured seconds of each cause, in percent of the measured wall-clock "
        "of the round. A run cannot tell contention from compute, so compute is compared with "
        "predicted compute and contention together; the simulator predicts nothing of other. "
        "Causes that are right everywhere, or were not measured, are left out.\n\n"
        + table(["cause", *header, *(f"informative: {name}" for name in header)], lines)
    )


def _missed(values: NDArray[np.float64]) -> list[str]:
    size = np.abs(values)
    return [
        str(len(values)),
        between(median_of(size)),
        percent(p95_of(size).value),
        between(median_of(values), signed_percent),
    ]
