"""Whether the files of all processes belong together: of one program, and every call matched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from realrun.errors import RunError
from realrun.recording.parts import Channel, Part


def check_ranks(parts: Sequence[Part], workers: int) -> None:
    """Refuse ranks of several programs, and one that is missing."""
    for part in parts:
        if part.workers != workers:
            raise RunError(
                f"two programs were recorded: rank {parts[0].rank} is one of {workers} processes, "
                f"rank {part.rank} one of {part.workers}; record one at a time"
            )
    missing = sorted(set(range(workers)) - {part.rank for part in parts})
    if missing:
        raise RunError(
            f"of {workers} processes rank {missing[0]} called no collective, or has written "
            "elsewhere; join the folders of all machines"
        )


def check_directed(parts: Sequence[Part]) -> None:
    """Refuse a recv of which nobody knows who sent."""
    for part in parts:
        if any(call.directed and not call.ranks for call in part.calls):
            raise RunError(
                f"rank {part.rank} receives from any rank and has not waited for it, so who sent "
                "is not known; give recv its source"
            )


def check_even(parts: Sequence[Part]) -> None:
    """Refuse ranks of which one issued fewer collectives of a group than another.

    Nor may one have received what nobody sent, or the other way round.
    """
    counts: dict[Channel, dict[int, int]] = {}
    for part in parts:
        issued = Counter(call.channel for call in part.calls if len(call.ranks) > 1)
        for channel, count in issued.items():
            counts.setdefault(channel, dict.fromkeys(channel[0], 0))[part.rank] = count
    for (ranks, directed), by_rank in counts.items():
        most, fewest = max(by_rank, key=by_rank.__getitem__), min(by_rank, key=by_rank.__getitem__)
        if by_rank[most] == by_rank[fewest]:
            continue
        if directed:
            sender, receiver = ranks
            raise RunError(
                f"rank {sender} sent {by_rank[sender]} times to rank {receiver}, which received "
                f"{by_rank[receiver]}; each recv must meet a send"
            )
        group = "all ranks" if len(ranks) == parts[0].workers else f"ranks {list(ranks)}"
        raise RunError(
            f"rank {fewest} issued {by_rank[fewest]} collectives over {group}, rank {most} "
            f"{by_rank[most]}; every member must issue the same ones"
        )
