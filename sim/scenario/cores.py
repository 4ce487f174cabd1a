"""Where more workers compute on a machine than it has cores: what nobody can predict well."""

from __future__ import annotations

from dataclasses import dataclass

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


def warning(measured: Processors, label: str, workers: int) -> str | None:
    """Return the line that goes with a prediction from measured computation.

    Workers that share a core take turns on it, as the system decides: a step may take as long as
    two, and who waits for the network leaves the core to another.

    Parameters
    ----------
    measured
        Of the hardware file.
    label
        Its name.
    workers
        Of the scenario.

    Examples
    --------
    >>> warning(Processors("CPU", 2, 4), "lab.toml", 4)[:46]
    'More workers than cores: lab.toml was measured'
    >>> warning(Processors("CPU", 2, 2), "lab.toml", 2) is None
    True
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
    return None


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
