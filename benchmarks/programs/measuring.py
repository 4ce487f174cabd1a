"""Runs of the programs in a lab, and how much of the machine others used during each."""

from __future__ import annotations

import json
import os
import resource
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from configurations import PROGRAMS, Configuration, Program
from predicting import HERE, ProgramError, command, environment, run, scenario

SKIPPED = 2  # steps at the beginning: connections, and the buckets that DDP makes again
DISTURBED = 0.1  # of the machine's processor time, used by others


def step_s(passes: Sequence[float], program: Program) -> float:
    """Return the seconds of an optimizer step, over whole periods after the first steps.

    Parameters
    ----------
    passes
        When each forward pass began.

    Examples
    --------
    >>> step_s([0, 9, 20, 21, 22, 23], Program(""))
    1.0
    >>> step_s([0, 5, 9, 12, 20, 21, 22, 23, 24], Program("", passes=2))
    2.0
    """
    begins = passes[:: program.passes]
    first = -(-SKIPPED // program.period) * program.period
    periods = (len(begins) - 1 - first) // program.period
    steps = periods * program.period
    return (begins[first + steps] - begins[first]) / steps


class Others:
    """Processor time of the machine that was not our children's, since a beginning."""

    def __init__(self) -> None:
        self._begin, self._busy, self._own = monotonic(), self._busy_s(), self._own_s()

    @staticmethod
    def _busy_s() -> float:
        user, nice, system, _, _, irq, softirq, *_ = map(
            int, Path("/proc/stat").read_text().split()[1:9]
        )
        return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def _own_s() -> float:
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in ours)

    def share(self) -> float:
        """Return the fraction of the machine that others used."""
        used = self._busy_s() - self._busy - (self._own_s() - self._own)
        return max(0.0, used / (monotonic() - self._begin) / (os.cpu_count() or 1))


def in_lab(network: Path, command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a command in a scenario's lab; return what the lab tells, and what others used.

    Raises
    ------
    ProgramError
        If the lab or the command did.
    """
    others = Others()
    lab = ["-m", "realrun", "lab", str(network), "--format", "json", "--", *command]
    told = json.loads(run(lab, environment))
    sent = sum(pair["sent_bytes"] for pair in told["pairs"] if pair["sender"] != pair["receiver"])
    return {
        "others": round(others.share(), 3),
        "busy_cores": round(told["busy_cores"] or 0.0, 2),
        "cores": told["cores"],
        "sent_bytes": sent // len(told["workers"]),
    }


def measured(of: Configuration, folder: Path) -> dict[str, Any]:
    """Run a configuration in a lab; return its seconds per optimizer step, of the slowest rank.

    Raises
    ------
    ProgramError
        If the lab did, or a rank has written no times.
    """
    network = (HERE / "descriptions" / "ddp.toml").read_text()  # the lab takes the network alone
    path = folder / "lab.toml"
    path.write_text(scenario(of, network))
    with tempfile.TemporaryDirectory() as passes:
        told = in_lab(path, command(of.program), environment(of.computation) | {"PASSES": passes})
        times = [json.loads(each.read_text()) for each in Path(passes).glob("*.json")]
    if len(times) != of.workers:
        raise ProgramError(f"{of}: {len(times)} of {of.workers} ranks have written their times")
    return {"measured_s": max(step_s(each, PROGRAMS[of.program]) for each in times), **told}
