"""Who takes part in a collective: all workers, or some of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from operator import index


@dataclass(frozen=True)
class Members:
    """Workers that communicate with each other: a process group's ranks.

    Examples
    --------
    >>> pair = members_of((3, 0), workers=4)
    >>> pair.ranks, pair.name, len(pair), pair.place(3), 2 in pair
    ((0, 3), '[0,3]', 2, 1, False)
    >>> pair == members_of([0, 3], workers=4), members_of(range(4), workers=4) == everyone(4)
    (True, True)
    """

    #: Ascending.
    ranks: tuple[int, ...] = field(hash=False)
    #: Says which they are, behind the name of a program's group: "[0,3]"; "" for all workers.
    name: str

    def __len__(self) -> int:
        return len(self.ranks)

    def __contains__(self, rank: int) -> bool:
        return rank in self.ranks

    def place(self, rank: int) -> int:
        """Return which of the members a rank is, from 0: slices of buffers go by it."""
        return self.ranks.index(rank)


@lru_cache(maxsize=64)
def everyone(workers: int) -> Members:
    """Return all of that many workers."""
    return Members(tuple(range(workers)), "")


def members_of(over: Iterable[int] | None, workers: int, caller: int | None = None) -> Members:
    """Return the members that ``over=`` of a collective names.

    Parameters
    ----------
    over
        Ranks, in any order; None stands for all.
    workers
        How many there are in all.
    caller
        The rank that calls the collective, if it is known.

    Raises
    ------
    ValueError
        If they are no ranks, if one of them is there twice, or if the caller is not.
    """
    if over is None:
        return everyone(workers)
    try:
        ranks = tuple(map(index, over))
    except TypeError:
        raise ValueError(f"over={over!r}: not a tuple of ranks") from None
    members = _members(ranks, workers)
    if caller is not None and caller not in members:
        raise ValueError(f"over={members.ranks}: called by rank {caller}, which is not in it")
    return members


@lru_cache(maxsize=4096)
def _members(ranks: tuple[int, ...], workers: int) -> Members:
    if not ranks:
        raise ValueError("over=(): no rank is in it")
    ordered = tuple(sorted(ranks))
    for rank, following in pairwise(ordered):
        if rank == following:
            raise ValueError(f"over={ordered}: rank {rank} is in it twice")
    for rank in (ordered[0], ordered[-1]):
        if not 0 <= rank < workers:
            raise ValueError(f"over={ordered}: there is no rank {rank}, only 0 to {workers - 1}")
    return everyone(workers) if len(ordered) == workers else Members(ordered, _written(ordered))


def _written(ranks: tuple[int, ...]) -> str:
    """Write ranks as Python would index them: "[0,3]", "[4:8]", "[0:24:8]"."""
    if len(ranks) > 2:
        step = ranks[1] - ranks[0]
        if step and ranks == tuple(range(ranks[0], ranks[-1] + 1, step)):
            return f"[{ranks[0]}:{ranks[-1] + 1}{f':{step}' if step > 1 else ''}]"
    return f"[{','.join(map(str, ranks))}]"


_CONTROL = " control"


def control_group(group: str, members: Members) -> str:
    """Return how traces name the control messages of a program's group.

    Examples
    --------
    >>> control_group("main", everyone(4)), control_group("main", members_of((0, 3), 4))
    ('main control', 'main control[0,3]')
    """
    return f"{group}{_CONTROL}{members.name}"


def is_control(group: str) -> bool:
    """Whether a group of a trace is one of control messages.

    Examples
    --------
    >>> is_control("main control[0,3]"), is_control("main[0,3]")
    (True, False)
    """
    return group.partition("[")[0].endswith(_CONTROL)


_TO = " to "


def group_of(group: str, operation: str, members: Members) -> str:
    """Return how traces name what carries an operation for a program's group.

    Those of the same members are one group, in which calls are matched by their number. What one
    rank sends to another is matched with what that one receives from it, whatever else they do.

    Examples
    --------
    >>> pair = members_of((0, 3), workers=4)
    >>> group_of("main", "all_reduce", everyone(4)), group_of("main", "all_reduce", pair)
    ('main', 'main[0,3]')
    >>> group_of("main", "send", pair), group_of("main", "send_from_1", pair)
    ('main 0 to 3[0,3]', 'main 3 to 0[0,3]')
    """
    if not is_send(operation):
        return f"{group}{members.name}"
    first, second = members.ranks
    sender, receiver = (second, first) if root_of(operation) else (first, second)
    return f"{group} {sender}{_TO}{receiver}{members.name}"


def is_transfer(group: str) -> bool:
    """Whether a group of a trace is of what one rank sends to another.

    Examples
    --------
    >>> is_transfer("main 3 to 0[0,3]"), is_transfer("main[0,3]")
    (True, False)
    """
    return _TO in group.partition("[")[0]


def named(group: str, workers: int) -> Members:
    """Return the members that the name of a group in a trace says.

    Raises
    ------
    ValueError
        If it does not name any.

    Examples
    --------
    >>> [named(group, workers=8).ranks for group in ("main[0,3]", "main[4:8]", "side[0:7:3]")]
    [(0, 3), (4, 5, 6, 7), (0, 3, 6)]
    >>> len(named("main", workers=8))
    8
    """
    _, bracket, ranks = group.partition("[")
    if not bracket:
        return everyone(workers)
    if ":" not in ranks:
        return members_of(map(int, ranks[:-1].split(",")), workers)
    run = range(*map(int, ranks[:-1].split(":")[:3]))
    if len(run) > workers:
        raise ValueError(f"{group}: more than {workers} ranks")
    return members_of(run, workers)


# Whose buffer is sent is part of the operation's name: its cost depends on it.
BROADCAST = "broadcast"
_FROM = f"{BROADCAST}_from_"
SEND = "send"
_SENT_FROM = f"{SEND}_from_"


def broadcast_from(root: int | None, members: Members) -> str:
    """Return the operation that sends the buffer of a member, by default the first one's, to all.

    Raises
    ------
    ValueError
        If the rank is no member.

    Examples
    --------
    >>> some = members_of((1, 4, 7), workers=9)
    >>> [broadcast_from(root, some) for root in (None, 1, 7)]
    ['broadcast', 'broadcast', 'broadcast_from_2']
    """
    if root is None:
        return BROADCAST
    if root not in members:
        raise ValueError(f"root={root}: not one of the members")
    place = members.place(root)
    return f"{_FROM}{place}" if place else BROADCAST


def sent_by(sender: int, members: Members) -> str:
    """Return the operation that sends the buffer of one of two members to the other.

    Examples
    --------
    >>> pair = members_of((1, 4), workers=9)
    >>> sent_by(1, pair), sent_by(4, pair)
    ('send', 'send_from_1')
    """
    place = members.place(sender)
    return f"{_SENT_FROM}{place}" if place else SEND


def is_send(operation: str) -> bool:
    """Whether an operation is from one member to one other.

    Examples
    --------
    >>> is_send("send"), is_send("send_from_1"), is_send("broadcast_from_1")
    (True, True, False)
    """
    return operation == SEND or operation.startswith(_SENT_FROM)


def root_of(operation: str) -> int:
    """Return the place among the members of who broadcasts, or sends.

    Examples
    --------
    >>> root_of("broadcast"), root_of("broadcast_from_2"), root_of("send_from_1")
    (0, 2, 1)
    """
    for prefix in (_FROM, _SENT_FROM):
        if operation.startswith(prefix):
            return int(operation.removeprefix(prefix))
    return 0


def family(operation: str) -> str:
    """Return an operation without whose buffer it sends; to send is to broadcast to one.

    Examples
    --------
    >>> family("broadcast_from_2"), family("send"), family("all_reduce")
    ('broadcast', 'broadcast', 'all_reduce')
    """
    return BROADCAST if is_send(operation) or operation.startswith(_FROM) else operation
