"""Where more workers compute on a machine than it has cores: what nobody can predict well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_OR = 'for the network alone, take train.compute_mode = "paced"'


@dataclass(frozen=True)
class Processors:
    """What a hardware file says of the machine that was measured; None where it says nothing.

    ``workers`` in all, of which ``workers_on_a_machine`` were on one machine.
    """

    device: str | None = None
    cores: int | None = None
    workers: int | None = None
    workers_on_a_machine: int | None = None

    @property
    def on_a_machine(self) -> int | None:
        """Workers of a machine; all, where they are not said to have been on several."""
        return self.workers_on_a_machine or self.workers


def warning(
    measured: Processors, label: str, workers: int, *, interference: bool = True
) -> str | None:
    """Return the line that goes with a prediction from measured computation.

    Workers that share a core take turns on it, as the system decides: a step may take as long as
    two, and who waits for the network leaves the core to another. Threads that communicate need a
    core as well: where workers take all of them, these take turns with computation.

    Parameters
    ----------
    measured
        Of the hardware file.
    label
        Its name.
    workers
        Of the scenario.
    interference
        Whether it is known how much communication slows computation down.

    Examples
    --------
    >>> warning(Processors("CPU", 2, 4), "lab.toml", 4)[:46]
    'More workers than cores: lab.toml was measured'
    >>> warning(Processors("CPU", 2, 2), "lab.toml", 2) is None
    True
    >>> warning(Processors("CPU", 2, 2), "lab.toml", 2, interference=False)[:35]
    'No core left: lab.toml was measured'
    """
    cores, together = measured.cores, measured.on_a_machine
    if measured.device != "CPU" or cores is None or together is None:
        return None
    if together > cores:
        return (
            f"More workers than cores: {label} was measured with {together} workers on {cores} "
            f"cores, where they take turns; this prediction may be wrong by a factor. Measure with "
            f"at most {cores} on a machine, or, {_OR}."
        )
    if together == measured.workers and workers > cores:
        return (
            f"More workers than cores: {label} is of one machine with {cores} cores. If these "
            f"{workers} workers compute on one such machine they take turns, and the run may take "
            f"several times as long as predicted. Give each machine at most {cores}, or, {_OR}."
        )
    if together == cores and workers > 1 and not interference:
        return (
            f"No core left: {label} was measured with {together} worker{'s' * (together != 1)} on "
            f"{cores} core{'s' * (cores != 1)} and does not say how much communication slows "
            "computation down there. Both need the cores, so a step may take longer than "
            "predicted. Measure it with realrun calibrate, give site.communication_slowdown, or "
            "leave a core to communication."
        )
    return None


_FULL = 0.8  # of the cores; the rest is when ranks wait for each other
_OTHERS = 0.1


def recorded(load: Mapping[str, Any], label: str) -> list[str]:
    """Return the lines that go with a prediction from a recording: what its computation is worth.

    Threads that communicate need a core as well, the system's of a network included. Where a
    program leaves them none, computation and communication take turns, and each takes longer than
    where it has a core. How long is the system's choice, and on another machine another one.

    Parameters
    ----------
    load
        Of the recording: ``cores``, and how many of them its ranks (``busy_cores``) and other
        processes (``others_busy_cores``) kept busy; missing or None where that is not known.
    label
        Its name.

    Examples
    --------
    >>> recorded({"cores": 2, "busy_cores": 1.97, "others_busy_cores": 0.02}, "r.parquet")[0][:46]
    'Full processors: the ranks of r.parquet kept 2'
    >>> recorded({"cores": 8, "busy_cores": 1.97, "others_busy_cores": 0.02}, "r.parquet")
    []
    """
    cores, busy, others = (load.get(key) for key in ("cores", "busy_cores", "others_busy_cores"))
    lines = []
    if cores and busy is not None and busy >= _FULL * cores:
        lines.append(
            f"Full processors: the ranks of {label} kept {busy:.1f} of {cores} cores busy while "
            "they were recorded, so that computation and communication took turns; the time of a "
            "step may be wrong by tens of percent. Record fewer ranks or threads on a machine, so "
            "that cores are left."
        )
    if cores and others is not None and others >= _OTHERS * cores:
        lines.append(
            f"Busy machine: other processes used {others:.1f} of {cores} cores while {label} was "
            "recorded, and what it computes may be recorded too long. Record it again while they "
            "rest."
        )
    return lines


def shared(workers: int, cores: int) -> str | None:
    """Return the line that goes with a measurement of workers that compute on one machine.

    Parameters
    ----------
    workers
        Of that machine.
    cores
        That they may use.

    Examples
    --------
    >>> shared(4, 2)[:37]
    'More workers than cores: 4 workers co'
    >>> shared(2, 2) is None
    True
    """
    if workers <= cores:
        return None
    return (
        f"More workers than cores: {workers} workers computed on {cores} "
        f"core{'s' * (cores != 1)}, where they take turns; on a machine each the run may take a "
        f"fraction of this time. Start at most {cores} on a machine, or, {_OR}."
    )
