"""What a study that is validated says: [study] keys that only realrun reads, checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator

from sim.scenario import fields as f
from sim.scenario.fields import RefusedError, choice
from sim.scenario.tables import Record

BASELINES = choice("bandwidth_only", "alpha_beta")


def listed_once(one: Any) -> PlainValidator:
    """Make a validator of a list without repetitions."""

    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise RefusedError("must be a list")
        if not value:
            raise RefusedError("must not be empty")
        found: list[Any] = []
        for place, item in enumerate(value):
            try:
                found.append(one(item))
            except ValueError as error:
                raise RefusedError(str(error), f"[{place}]", item) from None
            if found[-1] in found[:-1]:
                raise RefusedError("is listed twice", f"[{place}]", item)
        return tuple(found)

    return PlainValidator(read)


class Informative(Record):
    """Which runs say something, and how large a share of all they must be."""

    share: f.Fraction
    communication_above: f.Fraction


class Calibrate(Record):
    """All that the calibration may see."""

    same_launch: bool | None = None
    bandwidth: Annotated[tuple[float, ...], listed_once(f.read_rate)] | None = None
    rtt: Annotated[tuple[float, ...], listed_once(f.read_delay)] | None = None


class Side(Record):
    """Which axis is compared with all else equal: how many of its values at once."""

    axis: f.Text
    values: f.AtLeastOne


class Error(Record):
    """The largest error allowed."""

    median: f.Share | None = None
    p95: f.Share | None = None


class Tolerance(Record):
    """By quantity."""

    wall_clock: Error | None = None
    exposed_communication: Error | None = None
    waiting: Error | None = None
    compute_utilization: Error | None = None


class Tolerances(Record):
    """By compute mode."""

    paced: Tolerance | None = None
    real: Tolerance | None = None

    def as_mapping(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return the limits that were given: mode -> quantity -> statistic -> fraction."""
        found: dict[str, dict[str, dict[str, float]]] = self.model_dump(exclude_none=True)
        return found


@dataclass(frozen=True)
class Validation:
    """How a study is validated.

    ``sample`` configurations of the product, with ``side_by_side`` values of an axis wherever
    all else is equal, each measured ``repeats`` times for about ``duration_s`` seconds;
    ``tolerances`` as :meth:`Tolerances.as_mapping`.
    """

    sample: int | None
    side_by_side: Side | None
    repeats: int
    duration_s: float
    shuffled: bool
    compute: tuple[str, ...]
    baselines: tuple[str, ...]
    informative: Informative | None
    calibrate: Calibrate
    tolerances: Mapping[str, Mapping[str, Mapping[str, float]]]
