"""Compute utilizations to reach, as they are typed."""

from __future__ import annotations

from sim.output.errors import UserError


def fraction(option: str, text: str) -> float:
    """Read a utilization to reach.

    Raises
    ------
    UserError
        If it is none between 0 and 100 %.
    """
    from sim.units import UnitError, parse_fraction

    try:
        found = parse_fraction(text.strip())
    except UnitError as error:
        raise UserError(f'{option}: "{text}": {error}') from error
    if not 0 < found < 1:
        raise UserError(
            f'{option}: "{text}": must be {"above 0 %" if found <= 0 else "below 100 %"}'
        )
    return found
