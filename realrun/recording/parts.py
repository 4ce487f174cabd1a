"""The file of one recorded process, read back: calls, waits and marks, in their order."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SUFFIX = ".part"
SENT = ("send", "recv")

Channel = tuple[tuple[int, ...], bool]
"""Ranks of calls that are matched by their order, and whether the first sends to the second."""
SCHEMA = 1


class PartError(ValueError):
    """A file of a recorded process cannot be used; the message names it and says why."""


@dataclass
class Call:
    """One collective, as one process issued it. Times in nanoseconds of its machine's clock."""

    number: int
    operation: str
    #: Of the whole buffer; of a reduce_scatter, all_gather or all_to_all that of all shards.
    bytes: int
    #: As torch calls it, without "torch."; "" for a barrier.
    dtype: str
    #: Ranks of its process group, in its order; of a send or recv who sends, and who receives, or
    #: nobody where that is not known.
    ranks: tuple[int, ...]
    #: Whether it is a send or recv.
    directed: bool
    #: The rank that broadcasts or scatters; None of others, and where it was not noted.
    root: int | None
    begin: int
    #: When issuing it had returned.
    issued: int
    #: When its result was seen to be there; None where nobody looked.
    completed: int | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """What two calls have in common that are the same call of two steps."""
        return (self.operation, self.bytes, self.dtype, self.ranks, self.root)

    @property
    def channel(self) -> Channel:
        """What it is matched within, by its order: the calls of its members."""
        return (self.ranks, self.directed)


@dataclass(frozen=True)
class Event:
    """Something that kept the program from computing: a call, or a wait for one."""

    begin: int
    end: int
    #: Number of the call that was issued, or waited for.
    call: int
    waits: bool


@dataclass(frozen=True)
class Load:
    """How long this process, and all of its machine's processors, have computed until then: ns."""

    moment: int
    own: int
    #: None where the system does not tell.
    machine: int | None


@dataclass
class Part:
    """What one process has noted."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    #: In the order in which they began.
    events: list[Event] = field(default_factory=list)
    #: When steps began, by :func:`realrun.step`.
    marks: list[int] = field(default_factory=list)
    #: In their order.
    loads: list[Load] = field(default_factory=list)
    #: Type of a device, other than the CPU, of which a collective carried tensors.
    device: str = ""
    #: Whether the process ended by itself; one that was killed did not.
    ended: bool = False

    @property
    def rank(self) -> int:
        """Its number among all processes."""
        return int(self.about["rank"])

    @property
    def workers(self) -> int:
        """How many processes there were in all."""
        return int(self.about["workers"])


def read_part(path: Path) -> Part:
    """Read the file of one process; an incomplete last line is left out.

    Raises
    ------
    PartError
        If another line is not as it was written, or is of another version.
    """
    part = Part(path)
    groups: dict[int, tuple[int, ...]] = {}
    by_number: dict[int, Call] = {}
    of_group: dict[int, tuple[int, ...]] = {}  # ranks of the process group of a send or recv
    finished: list[tuple[list[int], int, int]] = []
    waits: list[Event] = []
    for what, *rest in _lines(path):
        if what == "begin":
            part.about = rest[0]
            if part.about.get("schema") != SCHEMA:
                raise PartError(f"{path}: was written by another version of bandwise")
        elif what == "group":
            groups[rest[0]] = tuple(rest[1])
        elif what == "call":
            number, operation, size, dtype, group, peer, begin, issued = rest
            ranks, directed, root = groups[group], operation in SENT, None
            if directed:
                of_group[number] = ranks
                ranks = () if peer is None else _between(operation, part.rank, ranks[peer])
            elif peer is not None:
                root = ranks[peer]
            call = Call(number, operation, size, dtype, ranks, directed, root, begin, issued)
            by_number[number] = call
        elif what == "source":
            call = by_number[rest[0]]
            call.ranks = _between(call.operation, part.rank, of_group[rest[0]][rest[1]])
        elif what == "wait":
            waits.append(Event(rest[1], rest[2], rest[0], waits=True))
        elif what == "finish":
            finished.append((rest[0], rest[1], rest[2]))
        elif what == "end":
            by_number[rest[0]].completed = rest[1]
        elif what == "step":
            part.marks.append(rest[0])
        elif what == "load":
            part.loads.append(Load(*rest))
        elif what == "device":
            part.device = rest[0]
        elif what == "exit":
            part.ended = True
    part.calls = sorted(by_number.values(), key=lambda call: call.begin)
    issues = [Event(call.begin, call.issued, call.number, waits=False) for call in part.calls]
    waits += _waits_of_backward(finished, by_number, [event.begin for event in waits])
    part.events = sorted([*issues, *waits], key=lambda event: (event.begin, event.call))
    return part


def _between(operation: str, own: int, other: int) -> tuple[int, int]:
    """Return who sends, and who receives."""
    return (own, other) if operation == "send" else (other, own)


def _lines(path: Path) -> Iterable[list[Any]]:
    raw = path.read_bytes().split(b"\n")
    if raw.pop():  # the last line is whole, or it does not count
        pass
    for number, line in enumerate(raw, 1):
        checksum, _, text = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            raise PartError(f"{path}: line {number} is damaged: it is not as it was written")
        found: list[Any] = json.loads(text)
        yield found


def _waits_of_backward(
    finished: Iterable[tuple[list[int], int, int]], calls: dict[int, Call], others: Iterable[int]
) -> list[Event]:
    """Return the waits at the end of backward passes, one after the other.

    A pass was noted as a whole: from before its first wait to after its last one. Calls are awaited
    in the order in which they were issued, and the last wait ends when its result is there: from
    then on the program computes. A wait for another one, which begins meanwhile (``others``), says
    that the last result was there by then.
    """
    waits: list[Event] = []
    begun = sorted(others)
    for numbers, begin, whole in finished:
        end = next((other for other in begun if begin < other < whole), whole)
        now = begin
        for number in sorted(numbers):
            completed = calls[number].completed
            until = min(end, max(now, end if completed is None else completed))
            waits.append(Event(now, until, number, waits=True))
            now = until
    return waits
