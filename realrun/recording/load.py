"""How busy the processors were while a program was recorded: with its ranks, and with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realrun.recording.parts import Load, Part

_LEAST_NS = 100_000_000
_LEAST_OF_ALL_NS = 1_000_000_000  # the system counts all in hundredths of a second

Span = tuple[int, int]
"""From when to when, in nanoseconds of a machine's clock."""


def load_of(parts: Sequence[Part], spans: Sequence[Span]) -> dict[str, Any]:
    """Return the fullest machine's cores, and how many of them ranks and others kept busy.

    Parameters
    ----------
    parts
        Of all ranks.
    spans
        Of each rank, what is kept of it.

    Returns
    -------
    dict
        ``cores``, ``busy_cores`` (of the ranks) and ``others_busy_cores``; empty where no machine
        says it.
    """
    machines: dict[str, list[tuple[Part, Span]]] = {}
    for part, span in zip(parts, spans, strict=True):
        machines.setdefault(part.about["clock"] or f"rank {part.rank}", []).append((part, span))
    found = [each for ranks in machines.values() if (each := _of_machine(ranks)) is not None]
    return max(found, key=lambda each: each["busy_cores"] / each["cores"], default={})


def _of_machine(ranks: Sequence[tuple[Part, Span]]) -> dict[str, Any] | None:
    cores = ranks[0][0].about.get("cores")
    taken = [_between(part.loads, span) for part, span in ranks]
    if not cores or any(each is None for each in taken):
        return None
    own = machine = 0.0
    for first, last in filter(None, taken):
        length = last.moment - first.moment
        own += (last.own - first.own) / length
        if last.machine is None or first.machine is None:
            continue
        if length >= _LEAST_OF_ALL_NS:
            machine = max(machine, (last.machine - first.machine) / length)
    others = max(0.0, machine - own)
    return {
        "cores": cores,
        "busy_cores": round(own, 2),
        "others_busy_cores": round(others, 2) if machine else None,
    }


def _between(loads: Sequence[Load], span: Span) -> tuple[Load, Load] | None:
    """Return the looks nearest to the begin and the end of what is kept."""
    if not loads:
        return None
    first = max((e for e in loads if e.moment <= span[0]), key=_moment, default=loads[0])
    last = min((e for e in loads if e.moment >= span[1]), key=_moment, default=loads[-1])
    return (first, last) if last.moment - first.moment >= _LEAST_NS else None


def _moment(load: Load) -> int:
    return load.moment
