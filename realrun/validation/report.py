"""report.md: what was predicted and measured, for a person who decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from realrun.validation import pictures
from realrun.validation.configurations import configurations
from realrun.validation.coverage import limits, what_was_run
from realrun.validation.error_tables import by_cause, by_group, by_model, noise_floor
from realrun.validation.markdown import between, factor, table
from realrun.validation.method_order import methods_in_order
from realrun.validation.rows import checked, save
from realrun.validation.statistics import errors, median_of, ratio, size_of_errors
from realrun.validation.verdict import Check, Tolerances, checks
from realrun.validation.worst_cases import extrapolated, warned, worst
from sim.storage.files import replacing
from sim.text.visible import visible
from sim.units import format_percent

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.30
"""From which share of communication a configuration is informative, unless a study says so."""


@dataclass(frozen=True)
class Findings:
    """All that the report writes about.

    ``rows`` are runs, ``table`` configurations, ``about`` texts on what was run, ``held`` the
    tolerances' checks, ``threshold`` the share of communication that makes one informative.
    """

    rows: pd.DataFrame
    table: pd.DataFrame
    about: Mapping[str, str]
    held: Sequence[Check]
    threshold: float

    @property
    def passed(self) -> bool:
        """Whether all tolerances hold."""
        return all(check.passed for check in self.held)

    @property
    def targeted(self) -> pd.DataFrame:
        """Configurations with a target; all of them if none has one."""
        applies = self.table["tolerance_applies"]
        return self.table[applies] if applies.any() else self.table


def write(
    rows: pd.DataFrame,
    about: Mapping[str, str],
    tolerances: Tolerances,
    informative: tuple[float, float] | None,
    folder: Path,
    on_found: Callable[[Findings], None] = lambda found: None,
) -> bool:
    """Write report.csv, report.md and the pictures into a folder.

    Parameters
    ----------
    rows
        Measured runs next to their predictions, see :data:`realrun.validation.rows.COLUMNS`.
    about
        What was run, in texts: machine, versions, date, links, load. "study" becomes the
        title; "limits" goes to the section of that name.
    tolerances
        Compute mode -> quantity -> "median" or "p95" -> largest absolute error (0.03: 3 %).
    informative
        Which part of the configurations must be informative, and from which share of
        communication one is; None demands nothing, with the share ``THRESHOLD``.
    folder
        Is made if it is not there.
    on_found
        Called with the findings when all is written.

    Returns
    -------
    bool
        Whether all tolerances hold; True if none was stated.

    Raises
    ------
    ValueError
        One line, if rows are incomplete or contradict each other, or a tolerance is of
        something that is not measured.
    """
    found = findings(rows, about, tolerances, informative)
    text = report(found)
    folder.mkdir(parents=True, exist_ok=True)
    save(found.rows, folder / "report.csv")
    pictures.save(found.rows, found.table, folder)
    with replacing(folder / "report.md") as partial:
        partial.write_text(visible(text))
    on_found(found)
    return found.passed


def findings(
    rows: pd.DataFrame,
    about: Mapping[str, str],
    tolerances: Tolerances,
    informative: tuple[float, float] | None,
) -> Findings:
    """Return what a report is written from; parameters and errors as for :func:`write`."""
    share, threshold = informative or (0.0, THRESHOLD)
    rows = checked(rows)
    measured = configurations(rows, threshold)
    return Findings(rows, measured, about, checks(measured, tolerances, share), threshold)


def report(found: Findings) -> str:
    """Return the whole text, in Markdown."""
    whole, targeted = found.table, found.targeted
    parts = [
        f"# Validation: {found.about.get('study', 'predicted and measured')}",
        verdict(found.held),
        figures(found),
        "Errors are predicted over measured minus 1. Brackets are 95 % intervals, from "
        "resampled configurations. A configuration's measurement is the median of its repeats. "
        f"Informative are configurations that spent at least {format_percent(found.threshold)} of "
        "the measured time on exposed communication and waiting; the others are easy, because "
        "any model predicts computation.",
        "![Predicted against measured seconds per round](predicted_measured.png)",
        "## What was run",
        what_was_run(found.rows, found.table, found.about),
        "## Tolerances",
        tolerances_table(found.held),
        "## Error by model",
        by_model(targeted),
        "![Cumulative distribution of errors](errors.png)",
        "## Error by group",
        by_group(whole),
        "![Error by method](methods.png)",
        "## Noise floor",
        noise_floor(found.rows, whole),
        "## Where the error comes from",
        by_cause(targeted),
        "![Predicted and measured causes of lost time](causes.png)",
        "## Order of methods",
        methods_in_order(whole),
        "## The worst configurations",
        warned(whole),
        worst(whole),
        "## Extrapolated",
        extrapolated(whole),
        "## Limits",
        limits(whole, found.about.get("limits", "")),
    ]
    return "\n\n".join(parts) + "\n"


def verdict(held: Sequence[Check]) -> str:
    """Say in a line whether all tolerances hold, and which do not."""
    if not held:
        return "**No tolerances were stated; nothing is decided here.**"
    broken = [check for check in held if not check.passed]
    if not broken:
        return f"**Passed: all {len(held)} tolerances hold.**"
    listed = "; ".join(f"{check.what} {_seen(check)} (limit {_limit(check)})" for check in broken)
    return f"**Failed: {len(broken)} of {len(held)} tolerances do not hold.** {listed}."


def _limit(check: Check) -> str:
    return f"{'at least' if check.at_least else 'at most'} {format_percent(check.limit)}"


def _seen(check: Check) -> str:
    return between(check.seen) if check.seen.count else "was not seen"


def figures(found: Findings) -> str:
    """Write the three figures that decide most, each compute mode by itself."""
    targeted = found.targeted
    modes = sorted(targeted["compute_mode"].unique())
    parts = [targeted[targeted["informative"] & (targeted["compute_mode"] == m)] for m in modes]
    wall_clock = [errors(part) for part in parts]
    exposed = [median_of(size_of_errors(part, "exposed_communication")) for part in parts]
    ratios = [ratio(part, "calibrated", "bandwidth only") for part in parts]
    lines = [
        ["error of wall-clock, median", *(between(e.median) for e in wall_clock)],
        ["error of exposed communication, median", *(between(e) for e in exposed)],
        [
            "median error of wall-clock over that of a model of bandwidth only",
            *(between(r, factor) for r in ratios),
        ],
        ["configurations", *(str(len(part)) for part in parts)],
    ]
    return table(["informative configurations", *modes], lines)


def tolerances_table(held: Sequence[Check]) -> str:
    """Write every tolerance, what was seen and whether it holds."""
    if not held:
        return "None were stated."
    lines = [
        [
            check.what,
            _limit(check),
            _seen(check),
            str(check.seen.count),
            "yes" if check.passed else "**no**",
            "yes" if check.clear else "no",
        ]
        for check in held
    ]
    return (
        "Of informative configurations with a target; the share is of all with a target.\n\n"
        + table(["what", "limit", "seen", "configurations", "holds", "whole interval"], lines)
        + '\n\n"whole interval" says whether the interval keeps to the limit, too: where it does '
        "not, other configurations might have decided otherwise."
    )
