"""All-reduces that others measured on NCCL, against its cost model."""

from __future__ import annotations

import pytest

from benchmarks.nccl import FOLDER, ONE_ROW_FROM, TWO_ROWS_FROM, Predicted, predictions, report
from sim.network.nccl.calibration import with_bandwidth, with_bandwidth_and_latency
from sim.network.nccl.choice import choose
from sim.network.nccl.fabric import Fabric

ROWS = list(predictions())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.ladder}-{row.size}")
def test_large_all_reduces_are_predicted_within_15_percent(row: Predicted) -> None:
    if row.size >= TWO_ROWS_FROM:
        error = 1e-9 if "two" in row.calibrates else 0.15
        assert row.two_rows == pytest.approx(row.measured, rel=error)
    if row.size >= ONE_ROW_FROM:
        error = 1e-9 if "one" in row.calibrates else 0.15
        assert row.one_row == pytest.approx(row.measured, rel=error)


def test_every_ladder_has_rows_that_calibrate_nothing() -> None:
    free = {row.ladder for row in ROWS if row.size >= ONE_ROW_FROM and not row.calibrates}
    assert free == {row.ladder for row in ROWS}
    assert len(free) == 3


def test_the_committed_report_is_what_the_script_writes() -> None:
    assert (FOLDER / "report.md").read_text() == report()


def test_a_fabric_is_found_again_from_the_times_it_gives() -> None:
    fabric = Fabric(4, 8, 48.0, latency_factor=1.7)
    rows = [(size, choose("all_reduce", size, fabric).seconds) for size in (2**26, 2**33)]
    found = with_bandwidth_and_latency(Fabric(4, 8, 1.0), *rows)
    assert found.bandwidth_gbps == pytest.approx(48.0, rel=1e-9)
    assert found.latency_factor == pytest.approx(1.7, rel=1e-9)


def test_times_that_no_fabric_gives_are_refused() -> None:
    fabric = Fabric(4, 8, 1.0)
    with pytest.raises(ValueError, match="bytes in 1e-06 s: the model takes"):
        with_bandwidth(fabric, (2**30, 1e-6))
    with pytest.raises(ValueError, match="more bytes and take longer"):
        with_bandwidth_and_latency(fabric, (2**30, 1.0), (2**20, 0.1))
    with pytest.raises(ValueError, match="no factor on the latencies"):
        with_bandwidth_and_latency(fabric, (2**20, 1e-9), (2**30, 1.0))
