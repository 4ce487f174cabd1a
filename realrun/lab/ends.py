"""How commands in a lab ended, and what they sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from realrun.lab.traffic import Traffic


@dataclass
class Ended:
    """How a rank's command ended.

    ``status`` as subprocess has it: negative for a signal. ``by_lab`` is whether it was ended
    because another one had failed, or the lab could not continue. ``left`` are names of processes
    that it left behind.
    """

    rank: int
    status: int
    seconds: float
    by_lab: bool = False
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ran:
    """What became of a command: its end on each rank, and what was sent.

    ``trouble`` is why the lab itself could not continue, if it could not. ``busy_cores`` is how
    many of the machine's cores computed, in the mean; None of a run that was too short to say.
    """

    ends: list[Ended]
    traffic: Traffic
    trouble: str | None = None
    busy_cores: float | None = None

    @property
    def first_failed(self) -> Ended | None:
        """The rank that failed first."""
        failed = [end for end in self.ends if end.status and not end.by_lab]
        return min(failed, key=lambda end: end.seconds, default=None)
