"""What a check says: a verdict, what was found, and how to fix it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sim.text.told import first_line

Verdict = Literal["ready", "limited", "missing"]
Part = Literal["training", "lab"]
WORST: tuple[Verdict, ...] = ("missing", "limited", "ready")


@dataclass(frozen=True)
class Finding:
    """One check's result.

    ``fix`` is a command or a setting, where the verdict is not "ready". Only what is missing
    for ``training`` keeps a run from beginning.
    """

    check: str
    verdict: Verdict
    what: str
    fix: str = ""
    part: Part = "training"

    def __str__(self) -> str:
        return f"{self.check}: {self.verdict}: {self.what}" + (f"; {self.fix}" if self.fix else "")


def ready(check: str, what: str, part: Part = "training") -> Finding:
    """Nothing to do."""
    return Finding(check, "ready", what, part=part)


def limited(check: str, what: str, fix: str, part: Part = "training") -> Finding:
    """It works, but not as one may expect."""
    return Finding(check, "limited", what, fix, part)


def missing(check: str, what: str, fix: str, part: Part = "training") -> Finding:
    """It cannot work."""
    return Finding(check, "missing", what, fix, part)


def found(check: str, look: Callable[[], Finding], part: Part = "training") -> Finding:
    """Look; what goes wrong in looking is a finding as well, since a doctor must not collapse."""
    try:
        return look()
    except Exception as error:
        said = f"could not be looked at: {first_line(error)}"
        return limited(check, said, "look at it by hand", part)
