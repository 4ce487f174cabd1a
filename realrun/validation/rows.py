"""One row per measured run with its prediction, and report.csv that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sim.storage.files import replacing
from sim.text.visible import guarded_columns, unguarded_columns

if TYPE_CHECKING:
    import pandas as pd

MEANINGS = {
    "run": "Number of the configuration.",
    "repeat": "Number of the run among the configuration's repeats.",
    "order": "In which place of the study the run was made.",
    "scenario": "Short label of the configuration.",
    "method": "Name of the method.",
    "arguments": "Arguments of the method that the study sets.",
    "workers": "Number of workers.",
    "bandwidth_bytes_per_s": "Bandwidth of the links; bytes per second.",
    "rtt_s": "Round-trip time; seconds.",
    "heterogeneity": "What is unequal among sites and links.",
    "compute_mode": '"paced" or "real".',
    "predicted_s": "Predicted time of a round.",
    "measured_s": "Measured time of a round.",
    "predicted_per_step_s": "Predicted time per inner step of an average worker, to compare "
    "methods whose rounds differ.",
    "measured_per_step_s": "The same, measured.",
    "predicted_utilization": "Predicted compute utilization, 0 to 1.",
    "measured_utilization": "Measured compute utilization, 0 to 1.",
    "predicted_exposed_s": "Predicted exposed communication per round.",
    "measured_exposed_s": "Measured exposed communication per round.",
    "predicted_waiting_s": "Predicted waiting per round.",
    "measured_waiting_s": "Measured waiting per round.",
    "predicted_quantize_s": "Predicted time of packing values per round.",
    "measured_quantize_s": "Measured time of packing values per round.",
    "predicted_contention_s": "Predicted compute/communication interference per round.",
    "predicted_optimizer_s": "Predicted time of inner and outer optimizers per round.",
    "measured_optimizer_s": "The same, measured.",
    "predicted_compute_s": "Predicted time of forward and backward passes per round.",
    "measured_compute_s": "The same, measured, interference included.",
    "measured_other_s": "Measured time per round that has no other cause.",
    "predicted_setup_s": "Predicted time of setup per round.",
    "measured_setup_s": "Measured time of setup per round.",
    "predicted_sent_bytes": "Bytes that a worker sends per round, predicted.",
    "measured_sent_bytes": "Bytes that a worker sends per round, measured.",
    "communication_share": "Measured exposed communication and waiting over wall-clock, 0 to 1.",
    "rounds": "Rounds that were evaluated.",
    "bandwidth_only_s": "Time of a round by bytes over bandwidth alone; empty where it was not "
    "asked for.",
    "alpha_beta_s": "Time of a round by the textbook formula of latency and bandwidth; empty "
    "where it was not asked for.",
    "other_calibration_s": "Time of a round predicted from another calibration; empty where there"
    " is none.",
    "out_of_step_s": "Predicted time of a round where ranks do not begin at one instant; empty "
    "where that changes little.",
    "extrapolated": "Inputs that lie outside what was calibrated.",
    "busy": "Part of the machine's CPU time that other processes used during the run, 0 to 1.",
    "tolerance_applies": "False for what is reported without a target.",
}
"""What each column of report.csv holds, in its order.

Seconds are those of one round of the method, over a window of whole rounds, the mean of the
workers.
"""

COLUMNS = tuple(MEANINGS)

WHOLE = ("run", "repeat", "order", "workers", "rounds")
TEXTS = ("scenario", "method", "arguments", "heterogeneity", "compute_mode", "extrapolated")
NUMBERS = tuple(c for c in COLUMNS if c not in (*WHOLE, *TEXTS, "tolerance_applies"))
_LATER = ("out_of_step_s",)  # columns that older files lack
_POSITIVE = ("predicted_s", "measured_s", "predicted_per_step_s", "measured_per_step_s")
_NEEDED = (
    *_POSITIVE,
    "bandwidth_bytes_per_s",
    "rtt_s",
    "predicted_utilization",
    "measured_utilization",
    "predicted_exposed_s",
    "measured_exposed_s",
    "predicted_waiting_s",
    "measured_waiting_s",
    "communication_share",
)
OF_CONFIGURATION = (
    "scenario",
    "method",
    "arguments",
    "workers",
    "bandwidth_bytes_per_s",
    "rtt_s",
    "heterogeneity",
    "compute_mode",
    "extrapolated",
    "tolerance_applies",
)
"""What all repeats of a configuration must share."""


def checked(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the columns in order, of one type each, sorted by run and repeat.

    Columns that are not among ``COLUMNS`` follow after them.

    Raises
    ------
    ValueError
        One line: a column or number is missing, a time is not positive, a repeat is there twice,
        or repeats of one configuration say different things of it.
    """
    rows = rows.assign(**{name: np.nan for name in _LATER if name not in rows})
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    if rows.empty:
        raise ValueError("no run was measured")
    others = [name for name in rows if name not in COLUMNS]
    frame = rows[[*COLUMNS, *others]].copy()
    for name in TEXTS:
        frame[name] = frame[name].fillna("").astype(str)
    for names, kind, what in (
        (WHOLE, int, "a whole number"),
        (NUMBERS, float, "a number or empty"),
    ):
        for name in names:
            try:
                frame[name] = frame[name].astype(kind)
            except (TypeError, ValueError) as problem:
                raise ValueError(f"{name} is not {what} in every row") from problem
    if not frame["tolerance_applies"].isin([True, False]).all():
        raise ValueError("tolerance_applies is not True or False in every row")
    frame["tolerance_applies"] = frame["tolerance_applies"].astype(bool)
    frame = frame.sort_values(["run", "repeat"]).reset_index(drop=True)
    for name in _NEEDED:
        wrong = frame[name].isna()
        if name in _POSITIVE:
            wrong |= ~(np.isfinite(frame[name]) & (frame[name] > 0))
        if wrong.any():
            row = frame[wrong].iloc[0]
            what = "must be positive" if name in _POSITIVE else "is missing"
            raise ValueError(
                f"run {row['run']}, repeat {row['repeat']}: {name} {what}, not {row[name]:g}"
            )
    twice = frame.duplicated(["run", "repeat"])
    if twice.any():
        row = frame[twice].iloc[0]
        raise ValueError(f"run {row['run']}: repeat {row['repeat']} is there twice")
    for name in OF_CONFIGURATION:
        values = frame.groupby("run")[name].nunique()
        if (values > 1).any():
            raise ValueError(f"run {values.idxmax()}: {name} is not the same in all repeats")
    labels = frame.groupby("scenario")["run"].nunique()
    if (labels > 1).any():
        raise ValueError(f"scenario {labels.idxmax()}: is the label of several configurations")
    return frame


def save(rows: pd.DataFrame, path: Path) -> None:
    """Write checked rows as CSV; numbers read back exactly."""
    with replacing(path) as partial:
        guarded_columns(checked(rows)).to_csv(partial, index=False)


def load(path: Path) -> pd.DataFrame:
    """Read rows back.

    Raises
    ------
    ValueError
        One line, if the file holds something else.
    """
    import pandas as pd

    try:
        texts = dict.fromkeys(TEXTS, str)
        # The other engine's floats may differ in the last bit.
        return checked(unguarded_columns(pd.read_csv(path, dtype=texts, engine="python")))
    except OSError:
        raise
    except ValueError as problem:
        raise ValueError(f"{path}: not a validation's report.csv: {problem}") from problem
