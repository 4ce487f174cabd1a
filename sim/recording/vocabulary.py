"""How what was recorded is called in traces and programs."""

from __future__ import annotations

METHOD = "recording"
"""The name under which ``[method]`` asks for a recording."""

COMPUTATION = "computation"
"""Operation of the time between collectives, in traces of recordings and of their replays."""

ROUND_TRIPS = 1
"""Of control messages in one recorded exchange of them: a question to a coordinator, its answer."""

# What the vocabulary lacks is carried out as what sends the same bytes over the same links.
_CARRIED_AS = {
    "barrier": "all_reduce",
    "reduce": "broadcast",
    "gather": "broadcast",
    "scatter": "broadcast",
}


def written_as(operation: str) -> tuple[str, str]:
    """Return the collective as which an operation is replayed, and its name in front of the type.

    Examples
    --------
    >>> written_as("all_gather"), written_as("barrier")
    (('all_gather', 'buffer'), ('all_reduce', 'barrier'))
    """
    carried = _CARRIED_AS.get(operation)
    return (operation, "buffer") if carried is None else (carried, operation)
