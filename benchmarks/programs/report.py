"""The study's page: every configuration, errors, order of programs, and our own DiLoCo."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median
from typing import NamedTuple

from configurations import Configuration
from measuring import DISTURBED

LOST = 0.3  # to communication: the configurations of which most is asked
FAR = 0.15  # an error that is listed, with the line that warned of it
FULL = 0.8  # of the cores busy: where the report of `realrun lab` says so
NOISE = 0.03  # at least that far apart are two programs whose order is compared
KINDS = ("recording", "description")
_FIRST = (
    "The first predictions, made before the first run, of these runs (README.md says what has "
    "changed since):",
    "",
)


class Run(NamedTuple):
    """A run in a lab."""

    seconds: float
    #: The share of the machine that others used.
    others: float
    #: The share of the cores that were busy; None where it was not noted.
    busy: float | None = None


class OwnRun(NamedTuple):
    """A run of our own DiLoCo in the program's place, and the run of the program after it."""

    seconds: float
    program_seconds: float
    #: Bytes sent, over the program's.
    bytes_ratio: float


class Result(NamedTuple):
    """A configuration, what was predicted, and its runs."""

    of: Configuration
    #: Seconds.
    predicted: dict[str, float]
    #: How the warnings that went with the predictions begin, by kind of prediction.
    warnings: dict[str, str]
    runs: list[Run]
    own: list[OwnRun]

    @property
    def quiet(self) -> list[float]:
        """Seconds of the runs that nobody disturbed, or of all where there is none."""
        quiet = [run.seconds for run in self.runs if run.others < DISTURBED]
        return quiet or [run.seconds for run in self.runs]

    @property
    def disturbed(self) -> bool:
        """Whether there is no quiet run."""
        return all(run.others >= DISTURBED for run in self.runs)

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

    def warned(self, kind: str) -> list[str]:
        """Return what warned of that prediction: its own lines, and the lab's of full cores."""
        said = self.warnings.get(kind, "")
        lines = [f'the prediction, "{each}"' for each in said.split("; ") if each]
        busy = [run.busy for run in self.runs if run.busy is not None]
        if busy and median(busy) >= FULL:
            lines.append(f"the lab, {median(busy):.0%} of the cores busy")
        return lines


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
        "| program | workers | bandwidth | round trip | measured | our own, predicted | our own, "
        "measured | error | the program, next to it | its bytes |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        own = r.predicted.get("own_diloco_s")
        if own is None:
            continue
        of = r.of
        cells = [of.program, str(of.workers), of.bandwidth, of.rtt, f"{r.measured:.3f} s"]
        cells.append(f"{own:.3f} s ({own / r.measured - 1:+.0%})")
        if r.own:
            ours, theirs, sent = (median(each) for each in zip(*r.own, strict=True))
            cells += [f"{ours:.3f} s ({ours / theirs - 1:+.0%})", f"{own / ours - 1:+.1%}"]
            cells += [f"{theirs:.3f} s", f"{1 / sent:.3f}"]
        else:
            cells += ["-"] * 4
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _name(result: Result) -> str:
    of = result.of
    disturbed = ", disturbed" if result.disturbed else ""
    return (
        f"{of.program}, {of.computation}, {of.workers} workers, {of.bandwidth}, {of.rtt}{disturbed}"
    )


def _far(results: Sequence[Result]) -> list[str]:
    lines, silent = [], 0
    for r in results:
        for kind in KINDS:
            error = r.error(kind)
            if error is None or abs(error) <= FAR:
                continue
            warned = r.warned(kind)
            silent += not warned
            by = f"warned by {' and '.join(warned)}" if warned else "no warning"
            lines.append(f"- {_name(r)}, from the {kind}: {error:+.1%}; {by}")
    if not lines:
        return ["None."]
    return [f"{len(lines)} in all, {silent or 'none'} of them without a warning.", "", *lines]


def page(results: Sequence[Result], first: Sequence[Result], drawn: int) -> str:
    """Return the report as Markdown; ``first`` are predictions that were made before the runs."""
    far = _far(results)
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
            *far,
            "",
            "## Configurations",
            "",
            *_table(results),
            "",
            "## Our own DiLoCo for equal bytes",
            "",
            "The same schedule and bytes, each fragment sent whole and without control messages. "
            "Measured are medians of runs in the program's place, paced, each followed by a run of "
            "the program; in brackets is our own time over the program's, less one, and the error "
            'is that of the prediction. "Its bytes" are what the program sent over what our own '
            "sent, as the lab's links counted them.",
            "",
            *_own(results),
            "",
        ]
    )
