"""What a rank's command in a lab is told: its arguments and its environment."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence

from realrun.errors import RunError
from realrun.lab.devices import DEVICE, address
from realrun.lab.run import Lab
from sim.output.errors import did_you_mean

_FILLED_IN = ("rank", "address")
_BRACES = re.compile(r"\{(\w+)\}")


def checked(command: Sequence[str]) -> str:
    """Refuse a command that cannot be started; return a remark on its braces, or "".

    Raises
    ------
    RunError
        One line.
    """
    program = command[0]
    if not program:
        raise RunError("the command after -- is empty: it begins with a program")
    if shutil.which(program) is None:
        if os.path.sep in program and os.path.isdir(program):
            raise RunError(f"{program}: is a folder; a command after -- begins with a program")
        if os.path.sep in program and os.path.exists(program):
            text = f"{program}: is not executable; chmod +x it, or write its interpreter before it"
            raise RunError(text)
        known = ("python", "python3", "torchrun", "realrun", "bash", "sh", "env")
        text = f"{program}: no such command{did_you_mean(program, known)}"
        if os.path.exists(program):
            text = f"{program}: no such command; a file of this folder is written ./{program}"
        raise RunError(text)
    for word in command[1:]:
        for name in _BRACES.findall(word):
            near = did_you_mean(name, _FILLED_IN)
            if name not in _FILLED_IN and near:
                return f"{{{name}}} is not filled in{near}"
    return ""


def filled_in(command: Sequence[str], rank: int) -> list[str]:
    """Return a command with ``{rank}`` and ``{address}`` in its arguments replaced.

    Examples
    --------
    >>> filled_in(["sh", "-c", "echo {rank} {address} ${HOME} {x}"], 1)
    ['sh', '-c', 'echo 1 198.18.0.2 ${HOME} {x}']
    """
    values = {"rank": str(rank), "address": address(rank)}

    def value(found: re.Match[str]) -> str:
        return values.get(found[1], found[0])

    return [_BRACES.sub(value, word) for word in command]


def environment_of(lab: Lab, rank: int, cores: int) -> dict[str, str]:
    """Return the environment of a rank's command.

    Each namespace is a host of its own, with one worker. Threads and buffering are chosen unless
    the user has done it: all workers share this machine's cores, and lines should come when they
    are printed.
    """
    workers = lab.topology.workers
    chosen = {"OMP_NUM_THREADS": str(max(1, cores // workers)), "PYTHONUNBUFFERED": "1"}
    return {
        **chosen,
        **os.environ,
        **lab.environment,
        "RANK": str(rank),
        "WORLD_SIZE": str(workers),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "NCCL_SOCKET_IFNAME": DEVICE,
        "NCCL_HOSTID": f"lab-{rank}",  # else NCCL would pass the network by, in shared memory
    }
