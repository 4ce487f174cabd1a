"""Room on a disk, looked at before hours of training rely on it."""

from __future__ import annotations

from pathlib import Path

from realrun.errors import RunError
from sim.scenario.errors import path_shown
from sim.storage.files import free_bytes
from sim.units import format_bytes

CHECKPOINTS = 3  # of each rank: two that are kept, and the one that is being written


def check_room(option: str, path: Path, needed: float, what: str) -> None:
    """Refuse what will not fit where ``path`` is.

    Parameters
    ----------
    option
        Which option of the command line names the path.
    needed
        Bytes.
    what
        Needs them, in words.

    Raises
    ------
    RunError
        With what is needed and what is free.
    """
    free = free_bytes(path)
    if needed > free:
        raise RunError(
            f"{option}: {path_shown(path)}: {what} need {format_bytes(needed, 3)}, and "
            f"{format_bytes(free, 3)} are free there; make room, or name another place"
        )
