"""When a ring has passed on its parts, where its links are unequal.

Member i begins to send to the next one when it has sent and received what came before. In one
round it is busy for ``o_i`` and what it sends is there after ``a_i >= o_i``, so that

    x_i(r + 1) = max(x_i(r) + o_i, x_(i-1)(r) + a_(i-1)),

which is the longest path of R steps around the ring: at each member it stays, for ``o_i``, or
moves on, for ``a_i``. A path from s to e that moves n = e - s times stays R - n times, best all of
them at the member whose ``o`` is the largest on its way:

    x_e(R) = max over s of x_s(0) + a_s + ... + a_(e-1) + (R - n) max(o_s, ..., o_e).

Members whose ``o`` is the same are a class. Among the paths that pass one whose ``o`` is at least
c, a stay of c each is a lower bound, and for the largest ``o`` on its way it is the path itself. So
for each class a running maximum over s finds the best path to every e. That takes time with the
members times the classes; going through the rounds takes it with the square of the members.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS_PER_CLASS = 16  # that are gone through in the time that a class takes

Seconds = NDArray[np.float64]
"""By member, in the order of the ring."""


def around(
    enters: Seconds, occupied: Seconds, sent: Seconds | None, delay: Seconds, repeat: int
) -> None:
    """Let every member of a ring send to the next one, ``repeat`` times; changes ``enters``.

    Parameters
    ----------
    enters
        When each begins.
    occupied
        How long each is busy with what it sends.
    sent
        How long that takes on its own, where who waits for acknowledgements is busy for longer.
    delay
        Latency of the link to the next member.
    repeat
        How often.
    """
    classes = np.unique(occupied)
    twice_around = repeat == 2 * (len(enters) - 1)
    if twice_around and _ROUNDS_PER_CLASS * len(classes) <= repeat:
        arrives = occupied + delay if sent is None else np.maximum(occupied, sent + delay)
        enters[...] = _by_classes(enters, occupied, arrives, classes)
    else:
        _by_rounds(enters, occupied, sent, delay, repeat)


def _by_rounds(
    enters: Seconds, occupied: Seconds, sent: Seconds | None, delay: Seconds, repeat: int
) -> None:
    """Go through the rounds; nothing is copied, and nothing looked up."""
    leaves, arrives = np.empty_like(enters), np.empty_like(enters)
    unhindered = np.empty_like(enters)
    for _ in range(repeat):
        np.add(enters, occupied, out=leaves)
        np.add(leaves, delay, out=arrives)
        if sent is not None:  # who waits for acknowledgements has waited for the latency
            np.add(enters, sent, out=unhindered)
            np.add(unhindered, delay, out=unhindered)
            np.maximum(leaves, unhindered, out=arrives)
        np.maximum(leaves[1:], arrives[:-1], out=enters[1:])
        enters[0] = max(leaves[0], arrives[-1])


def _by_classes(enters: Seconds, occupied: Seconds, arrives: Seconds, classes: Seconds) -> Seconds:
    """Return when each member ends after two rounds less than twice around the ring."""
    members = len(enters)
    repeat = 2 * members - 2
    # Three times around, so that no path to a member of the last one begins before the first.
    place = np.arange(3 * members)
    moved = np.concatenate([[0.0], np.cumsum(np.tile(arrives, 3))])
    begins = np.tile(enters, 3) - moved[:-1]
    stays = np.tile(occupied, 3)
    ends = place[2 * members :]
    found = np.full(members, -np.inf)
    for each in classes.tolist():
        gains = begins + each * place
        # A path of up to once around begins here or later, and none that begins so is too long.
        early = members + 1
        best = np.maximum.accumulate(gains[early:])
        passed = np.maximum.accumulate(np.where(stays >= each, place, 0))[2 * members :]
        found = np.maximum(found, best[passed - early] + (repeat - ends) * each + moved[ends])
        if each == classes[-1]:  # longer paths pass all members
            before = np.maximum.accumulate(gains[members:1:-1])[::-1]
            longer = ends[:-1]
            more = before[longer - 2 * members] + (repeat - longer) * each + moved[longer]
            found[:-1] = np.maximum(found[:-1], more)
    return found
