"""Which layers form a fragment, and after which inner steps a fragment is sent."""

from __future__ import annotations

from itertools import pairwise

from sim.methods.arguments import Pattern, Spacing


def fragments(
    num_layers: int,
    num_fragments: int | None = None,
    layers_per_fragment: int | None = None,
    pattern: Pattern = "strided",
) -> list[range]:
    """Split layers 0..L-1 into P fragments.

    Parameters
    ----------
    num_layers
        L.
    num_fragments, layers_per_fragment
        P directly, or P = ceil(L / layers_per_fragment); not both. Neither: one fragment.
    pattern
        "strided": layer l belongs to fragment l mod P. "sequential": consecutive layers, the
        first L mod P fragments one layer longer (as ``numpy.array_split``).

    Raises
    ------
    ValueError
        If both counts are given, or there would be more fragments than layers.

    Examples
    --------
    >>> fragments(6, num_fragments=2)
    [range(0, 6, 2), range(1, 6, 2)]
    >>> fragments(5, num_fragments=2, pattern="sequential")
    [range(0, 3), range(3, 5)]
    """
    if num_fragments is not None and layers_per_fragment is not None:
        raise ValueError("give num_fragments or layers_per_fragment, not both")
    count = num_fragments or 1
    if layers_per_fragment is not None:
        count = -(-num_layers // layers_per_fragment)
    if count > num_layers:
        raise ValueError(f"num_fragments = {count}: the model has only {num_layers} layers")
    if pattern == "strided":
        return [range(p, num_layers, count) for p in range(count)]
    short, longer = divmod(num_layers, count)
    starts = [p * short + min(p, longer) for p in range(count + 1)]
    return [range(a, b) for a, b in pairwise(starts)]


def send_steps(
    sync_every: int, num_fragments: int, spacing: Spacing = "exact"
) -> tuple[int, list[int]]:
    """Period in inner steps, and for each fragment the step of the period after which it is sent.

    Steps of a period count from 1. "exact": fragment p after step floor((p+1) H / P) of every
    H. "nearest": fragments in turn, one every round(H / P) steps (half to even, at least 1),
    so the period is P times that.

    Examples
    --------
    >>> send_steps(100, 3)
    (100, [33, 66, 100])
    >>> send_steps(100, 8, "nearest")
    (96, [12, 24, 36, 48, 60, 72, 84, 96])
    """
    if spacing == "nearest":
        every = max(1, round(sync_every / num_fragments))
        return every * num_fragments, [every * (p + 1) for p in range(num_fragments)]
    if num_fragments > sync_every:
        # Several fragments would leave after the same step; the first ones after step 0.
        return sync_every, [
            max(1, (p + 1) * sync_every // num_fragments) for p in range(num_fragments)
        ]
    return sync_every, [(p + 1) * sync_every // num_fragments for p in range(num_fragments)]
