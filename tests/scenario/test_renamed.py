"""What an earlier version called otherwise: an error names the new name, or a file is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.command_line import Bandwise
from support.plain_scenario import plain

from sim.questions.result_files import check_breakdown
from sim.runtime import simulate
from sim.scenario import ScenarioError, load
from sim.trace import files
from sim.trace.table import Trace


@pytest.mark.parametrize(
    ("setting", "now"),
    [
        ("method.rounds_late_by=2", "outer_sync_delay"),
        ("site.side_slowdown=1.5", "background_slowdown"),
    ],
)
def test_a_key_of_an_earlier_version_is_answered_with_the_new_one(setting: str, now: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        load(None, {"--method": "eager_diloco", "--model": "1B"}, [setting])
    key = setting.partition("=")[0]
    assert str(refused.value).startswith(f"--set {key}: ")
    assert now in str(refused.value)


def test_a_cause_of_an_earlier_version_is_answered_with_the_new_one(tmp_path: Path) -> None:
    frame = pd.DataFrame({"compute_fraction": [0.9], "quantise_fraction": [0.1]})
    with pytest.raises(ValueError, match=r"column quantise_fraction: it is called quantize_fr"):
        check_breakdown(frame, tmp_path / "results.csv")


def test_a_trace_of_an_earlier_version_has_the_new_cause(tmp_path: Path) -> None:
    trace = simulate(plain("ddp"), rounds=1)
    trace.context.causes["sparsify"] = "quantise"
    files.save(Trace(trace.rows, trace.context, trace.total_s), tmp_path / "trace.parquet")
    assert files.load(tmp_path / "trace.parquet").context.cause_of("sparsify") == "quantize"


def test_a_name_decides_nothing(bandwise: Bandwise) -> None:
    """Hashes that an earlier version printed for these."""
    late = "--method", "eager_diloco", "--set", "method.outer_sync_delay=2"
    slow = "--set", "site.background_slowdown=1.5"
    hashes = {
        late: "c160e23a62ea969fd1fbea1e5c8551bcc49aea538e1ebe7877c39701f573b377",
        slow: "89e8247a200c301bbb301363090a7e5ef698ca2dc0581daebc41ce6d45975701",
    }
    for arguments, sha256 in hashes.items():
        ran = bandwise("simulate", "--model", "1B", "--bandwidth", "1Gbit/s", *arguments, "--json")
        assert ran.json["scenario_sha256"] == sha256
