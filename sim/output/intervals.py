"""How a command says that something is random: median, interval, number of replications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.questions.replications import Interval


def of_one(interval: Interval, value: float, low: str, high: str) -> str:
    """Return a sentence about one prediction; ``low`` and ``high`` as people read them."""
    number = interval.replications
    if number == 1:
        return "Random times: one replication, so nothing says how far another one is from it."
    return (
        f"Random times: the median of {_number(number)} over the evaluated rounds; "
        f"{low} to {high} ({_relative(interval, value)}; {_what(number)})."
    )


def of_several(what: str, found: Mapping[str, tuple[Interval, float]]) -> str:
    """Return a sentence about several predictions, by name with their values.

    ``what`` begins it: of what each is the median. Nothing where nothing is random.
    """
    random = {name: each for name, each in found.items() if each[0].low < each[0].high}
    numbers = sorted({interval.replications for interval, _ in found.values()} - {1})
    if not numbers:
        return ""
    count = " or ".join(map(str, numbers))
    parts = [f"{name} {_relative(*each)}".strip() for name, each in random.items()]
    least = min(numbers, key=_covered)
    listed = f", {_what(least)}: {'; '.join(parts)}" if parts else "; all are alike"
    return f"Random times: {what} {count} replications{listed}."


def fields(interval: Interval) -> dict[str, Any]:
    """Return what JSON holds of an interval besides its ends."""
    return {
        "replications": interval.replications,
        "interval_coverage": interval.coverage if interval.replications > 1 else None,
    }


def _number(replications: int) -> str:
    return f"{replications} replications"


def _what(replications: int) -> str:
    from sim.questions.replications import CONFIDENCE

    covered = _covered(replications)
    if covered < CONFIDENCE:
        return f"range of {_number(replications)}, too few for a 95 % interval"
    return f"{100 * covered:.3g} % interval of the median"


def _covered(replications: int) -> float:
    from sim.questions.replications import coverage, rank_of

    return coverage(replications, rank_of(replications))


def _relative(interval: Interval, value: float) -> str:
    if not value or value == float("inf"):
        return "no interval"
    if interval.low == interval.high:
        return "all alike"
    low, high = (100 * (end / value - 1) for end in (interval.low, interval.high))
    return f"{low:+.2g} % to {high:+.2g} %"
