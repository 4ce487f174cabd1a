"""The study's page: every configuration, errors, order of programs, and our own DiLoCo."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

from configurations import Configuration
from measuring import DISTURBED

LOST = 0.3  # to communication: the configurations of which most is asked
FAR = 0.15  # an error that is listed
NOISE = 0.03  # at least that far apart are two programs whose order is compared
KINDS = ("recording", "description")
_FIRST = (
    "The first predictions, made before the first run, of these runs (README.md says what has "
    "changed since):",
    "",
)


class Result(NamedTuple):
    """A configuration, what was predicted, and its runs."""

    of: Configuration
    predicted: dict[str, float]
    #: Seconds and others' share of the machine, per run.
    runs: list[tuple[float, float]]

    @property
    def quiet(self) -> list[float]:
        """Seconds of the runs that nobody disturbed, or of all where there is none."""
        quiet = [seconds for seconds, others in self.runs if others < DISTURBED]
        return quiet or [seconds for seconds, _ in self.runs]

    @property
    def disturbed(self) -> bool:
        """Whether there is no quiet run."""
        return all(others >= DISTURBED for _, others in self.runs)

    @property
    def measured(self) -> float:
        """Median of its runs."""
        return median(self.quiet)

    @property
    def lost(self) -> float:
        """Measured fraction of the time that is no computation."""
        return 1 - self.predicted["computation_s"] / self.measured

    def error(self, kind: str) -> float | None:
        """Predicted over measured, less one."""
        found = self.predicted.get(f"{kind}_s")
        return None if found is None else found / self.measured - 1


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least of the values that at least that share does not exceed.

    Examples
    --------
    >>> quantile([0.1, 0.4, 0.2, 0.3], 0.95)
    0.4
    """
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _summary(results: Sequence[Result]) -> list[str]:
    lines = [
        "| configurations | from | number | median error | 95th percentile | largest |",
        "|---|---|---:|---:|---:|---:|",
    ]
    costly = [r for r in results if r.of.computation == "paced" and r.lost >= LOST]
    real = [r for r in results if r.of.computation == "real"]
    groups = (("paced, 30 % or more lost", costly), ("real", real), ("all", results))
    for name, some in groups:
        if some and all(r.disturbed for r in some):
            name += ", all disturbed"
        for kind in KINDS:
            errors = [abs(e) for r in some if (e := r.error(kind)) is not None]
            if errors:
                cells = f"{median(errors):.1%} | {quantile(errors, 0.95):.1%} | {max(errors):.1%}"
                lines.append(f"| {name} | {kind} | {len(errors)} | {cells} |")
    return lines


def _table(results: Sequence[Result]) -> list[str]:
    lines = [
        "| program | workers | bandwidth | round trip | unequal | computation | measured | runs | "
        "spread | lost | from recording | from description |",
        "|---|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        of = r.of
        cells = [of.program, str(of.workers), of.bandwidth, of.rtt, "yes" if of.unequal else ""]
        spread = (max(r.quiet) - min(r.quiet)) / r.measured
        cells += [of.computation, f"{r.measured:.3f} s", str(len(r.quiet))]
        cells += [f"{spread:.1%}" + (" disturbed" if r.disturbed else ""), f"{r.lost:.0%}"]
        for kind in KINDS:
            error = r.error(kind)
            known = error is not None
            cells.append(f"{r.predicted[f'{kind}_s']:.3f} s ({error:+.1%})" if known else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _order(results: Sequence[Result]) -> list[str]:
    lines = []
    for kind in KINDS:
        right, wrong = 0, []
        for a, b in combinations([r for r in results if r.error(kind) is not None], 2):
            if a.of.network != b.of.network:
                continue
            apart = abs(a.measured - b.measured)
            spread = max(max(r.quiet) - min(r.quiet) for r in (a, b))
            if apart <= max(NOISE * max(a.measured, b.measured), spread):
                continue
            name = f"{kind}_s"
            if (a.measured < b.measured) == (a.predicted[name] < b.predicted[name]):
                right += 1
            else:
                wrong.append(f"{a.of.program} and {b.of.program} at {a.of.bandwidth}, {a.of.rtt}")
        if right or wrong:
            text = f"From the {kind}: {right} of {right + len(wrong)} pairs"
            lines.append(text + (f"; wrong: {'; '.join(wrong)}." if wrong else "."))
            lines.append("")
    return lines


def _own(results: Sequence[Result]) -> list[str]:
    lines = [
        "| program | workers | bandwidth | round trip | measured | our own, predicted |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        own = r.predicted.get("own_diloco_s")
        if own is not None:
            of = r.of
            cells = [of.program, str(of.workers), of.bandwidth, of.rtt, f"{r.measured:.3f} s"]
            lines.append(f"| {' | '.join(cells)} | {own:.3f} s ({own / r.measured - 1:+.0%}) |")
    return lines


def _name(result: Result) -> str:
    of = result.of
    disturbed = ", disturbed" if result.disturbed else ""
    return (
        f"{of.program}, {of.computation}, {of.workers} workers, {of.bandwidth}, {of.rtt}{disturbed}"
    )


def page(results: Sequence[Result], first: Sequence[Result], drawn: int) -> str:
    """Return the report as Markdown; ``first`` are predictions that were made before the runs."""
    far = [
        f"- {_name(r)}, from the {kind}: {error:+.1%}"
        for r in results
        for kind in KINDS
        if (error := r.error(kind)) is not None and abs(error) > FAR
    ]
    return "\n".join(
        [
            "# Programs of libraries: predicted and measured",
            "",
            f"{len(results)} of {drawn} drawn configurations have run. Times are of one optimizer "
            "step; measured is the median of the runs during which others used less than "
            f"{DISTURBED:.0%} of the machine, or of all (disturbed) where there is none. Errors "
            "are predicted over measured, less one. Two predictions: from a recording of two ranks "
            "on loopback, and from a description written before the first run.",
            "",
            *_summary(results),
            "",
            *(_FIRST if first else []),
            *(_summary(first) if first else []),
            "",
            "## Order of programs on the same network",
            "",
            "Pairs that differ by more than 3 % and by more than the spread of their runs.",
            "",
            *_order(results),
            f"## Errors above {FAR:.0%}",
            "",
            *(far or ["None."]),
            "",
            "## Configurations",
            "",
            *_table(results),
            "",
            "## Our own DiLoCo for equal bytes",
            "",
            "The same schedule and bytes, each fragment sent whole and without control messages.",
            "",
            *_own(results),
            "",
        ]
    )
