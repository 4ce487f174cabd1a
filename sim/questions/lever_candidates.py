"""A changed scenario that may be a lever, and how to type values."""

from __future__ import annotations

from dataclasses import dataclass

from sim.records.scenario import Scenario
from sim.units import format_rate

MOST_NAMED = 4
"""Sites whose values are typed one by one."""


@dataclass(frozen=True)
class Candidate:
    """A changed scenario, what the change is called, and how to type it."""

    name: str
    scenario: Scenario
    setting: str = ""


def rate_text(value: float) -> str:
    """Write bytes/s as an option takes them."""
    return typed(format_rate(value, 10))


def typed(text: str) -> str:
    """Write a quantity without the space before its unit."""
    return text.replace(" ", "")
