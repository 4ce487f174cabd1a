"""The model of gloo's messages, held to what was measured (benchmarks/gloo/README.md)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from gloo import MEASURED, SIZES, Case, predicted, read, textbook

CASES = read(MEASURED)
TRIPS = [case for case in CASES if case.rtt_ms > 0]


def error(model: Callable[[Case], float], cases: list[Case]) -> float:
    """Median absolute error, relative to the fastest repeat: other work ran on the machine."""
    return median(abs(model(case) / case.min_s - 1) for case in cases)


def test_all_cases() -> None:
    assert len(CASES) == 312
    assert error(predicted, CASES) < 0.03
    assert error(textbook, CASES) > 5 * error(predicted, CASES)


def test_a_rank_that_comes_late() -> None:
    late = [case for case in CASES if case.skew_s]
    assert len(late) == 120
    assert error(predicted, late) < 0.03
    assert error(textbook, late) > 5 * error(predicted, late)


def test_a_late_ranks_request_waits_behind_its_data() -> None:
    """What the wire needs once takes it twice in all_to_all, and half as long again in a ring."""
    for operation, times in (("all_to_all", 2.0), ("all_gather", 1.5)):
        (case,) = (
            case
            for case in CASES
            if (case.operation, case.bytes, case.bandwidth_mbit_per_s) == (operation, SIZES[-1], 20)
            and (case.rtt_ms, case.skew_s > 0) == (0, True)
        )
        wire = case.bytes / 2 / (case.bandwidth_mbit_per_s * 1e6 / 8)
        assert abs((case.min_s - case.skew_s) / wire / times - 1) < 0.02
        assert abs(predicted(case) / case.min_s - 1) < 0.01


def test_several_collectives_on_a_long_line() -> None:
    several = [case for case in TRIPS if case.at_once > 1]
    assert error(predicted, several) < 0.03


def test_small_collectives_on_a_long_line() -> None:
    """Here nothing but round trips counts, and the textbook has half of them."""
    small = [case for case in TRIPS if case.at_once == 1 and case.bytes == SIZES[0]]
    assert error(predicted, small) < 0.03
    assert error(textbook, small) > 0.25
