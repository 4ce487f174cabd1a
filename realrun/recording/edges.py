"""Where the steps of a recording begin and end: by marks, or by what repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from realrun.errors import RunError
from realrun.recording.parts import Channel, Part
from realrun.recording.steps import boundaries, period

_NS = 1e-9


def edges_of(parts: Sequence[Part]) -> list[list[int]]:
    """Return for each rank the places among its events at which steps begin, and the last ends."""
    if any(part.marks for part in parts):
        return [_at_marks(part) for part in parts]
    everyone = parts[0].workers
    found = [_found(part, everyone) for part in parts]
    first = parts[0].calls
    anchors = [first[place] for place in found[0] if place < len(first)]
    if anchors[0].directed or len(anchors[0].ranks) != everyone:
        return [_before(part, calls) for part, calls in zip(parts, found, strict=True)]
    # Where steps begin is one rank's choice; the others follow it by the number of the call.
    own = _numbered(parts[0])
    wanted = [own[call.number] for call in anchors]
    edges = []
    for part in parts:
        places = {number: place for place, number in _numbered(part).items()}
        calls = {call.number: place for place, call in enumerate(part.calls)}
        there = [calls[places[each]] for each in wanted if each in places]
        # The last step ends with what was recorded last, or where another would have begun.
        if len(anchors) < len(found[0]) and len(part.calls) == len(first):
            there.append(len(part.calls))
        edges.append(_before(part, there))
    return edges


def _gaps(part: Part) -> dict[int, float]:
    """Return the seconds of computation before each call, by its number."""
    gaps: dict[int, float] = {}
    end = part.events[0].begin
    for event in part.events:
        if not event.waits:
            gaps[event.call] = max(0, event.begin - end) * _NS
        end = max(end, event.end)
    return gaps


def _in_flight(part: Part) -> dict[int, int]:
    """Return how many calls are in flight when each one is issued, by its number."""
    awaited = {event.call for event in part.events if event.waits}
    flying: set[int] = set()
    found: dict[int, int] = {}
    for event in part.events:
        if event.waits:
            flying.discard(event.call)
        else:
            found[event.call] = len(flying)
            if event.call in awaited:
                flying.add(event.call)
    return found


def _numbered(part: Part) -> dict[int, tuple[Channel, int]]:
    """Return for each call, by its number, which one of its members' it is."""
    counts: Counter[Channel] = Counter()
    numbers = {}
    for call in part.calls:
        numbers[call.number] = (call.channel, counts[call.channel])
        counts[call.channel] += 1
    return numbers


def _found(part: Part, everyone: int) -> list[int]:
    """Return the places among the calls at which steps begin, by what repeats."""
    gaps, flying = _gaps(part), _in_flight(part)
    before = [gaps[call.number] for call in part.calls]
    awaited = _awaited_after(part)
    kinds = [call.kind for call in part.calls]
    # What is awaited after a call tells equal calls apart. Where it depends on time it does not.
    repeated = period(
        [(kind, awaited[call.number]) for kind, call in zip(kinds, part.calls, strict=True)], before
    ) or period(kinds, before)
    if repeated is None:
        raise RunError(
            f"rank {part.rank}: its {len(part.calls)} collectives do not repeat at least three "
            "times; let the program run for more steps, or mark where a step begins with "
            "realrun.step()"
        )
    return boundaries(
        *repeated,
        [len(call.ranks) == everyone and not call.directed for call in part.calls],
        [flying[call.number] for call in part.calls],
        before,
    )


def _awaited_after(part: Part) -> dict[int, tuple[int, ...]]:
    """Return for each call how many calls before it those are that are awaited right after it."""
    found: dict[int, tuple[int, ...]] = {}
    last = -1
    for event in part.events:
        if not event.waits:
            last = event.call
            found[last] = ()
        elif last >= 0:
            found[last] = (*found[last], last - event.call)
    return found


def _before(part: Part, calls: Sequence[int]) -> list[int]:
    """Return the places among the events right before which those calls are issued."""
    issued = {event.call: place for place, event in enumerate(part.events) if not event.waits}
    return [
        len(part.events) if call == len(part.calls) else issued[part.calls[call].number]
        for call in calls
    ]


def _at_marks(part: Part) -> list[int]:
    if len(part.marks) < 2:
        raise RunError(
            f"rank {part.rank} marked {len(part.marks)} steps with realrun.step(); call it at the "
            "beginning of every step, on every rank"
        )
    begins = [event.begin for event in part.events]
    return [sum(begin < mark for begin in begins) for mark in part.marks]
