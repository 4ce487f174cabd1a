"""Results say what the command line says: the same numbers, tables and assumptions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.command_line import Bandwise

import sim
from sim.version import __version__

OPTIONS = ["--model", "10B", "--sites", "3", "--bandwidth", "1Gbit/s", "--rtt", "85ms"]
KEYWORDS: dict[str, Any] = {"model": "10B", "sites": 3, "bandwidth": "1 Gbit/s", "rtt": 0.085}


def printed(ran: Any) -> Any:
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


CALLS: dict[str, tuple[list[str], Any]] = {
    "simulate": (
        ["simulate", *OPTIONS, "--method", "diloco"],
        lambda: sim.simulate(sim.make_scenario(**KEYWORDS, method="diloco")),
    ),
    "simulate, random": (
        ["simulate", *OPTIONS, "--method", "diloco", "--jitter", "lognormal:0.1",
         "--replications", "3", "--set", "run.measured_rounds=4"],
        lambda: sim.simulate(
            sim.make_scenario(
                **KEYWORDS, method="diloco", jitter="lognormal:0.1", replications=3,
                run={"measured_rounds": 4},
            )
        ),
    ),
    "simulate, from a file": (
        ["simulate", "acco_heterogeneous", "--method", "ddp", "--set", "network.rtt=2ms"],
        lambda: sim.simulate(
            sim.load("acco_heterogeneous", method="ddp", settings={"network.rtt": 2e-3})
        ),
    ),
    "compare": (
        ["compare", *OPTIONS, "--methods", "ddp,diloco", "--sync-every", "50"],
        lambda: sim.compare(sim.make_scenario(**KEYWORDS, sync_every=50), ["ddp", "diloco"]),
    ),
    "required": (
        ["required", *OPTIONS, "--method", "diloco", "--target", "50%,95%"],
        lambda: sim.required(sim.make_scenario(**KEYWORDS, method="diloco"), [0.5, "95 %"]),
    ),
    "required, of batch_tokens": (
        ["required", *OPTIONS, "--method", "diloco", "--target", "50%,95%", "--of", "batch_tokens"],
        lambda: sim.required(
            sim.make_scenario(**KEYWORDS, method="diloco"), [0.5, "95 %"], of="batch_tokens"
        ),
    ),
    "memory": (
        ["memory", *OPTIONS, "--methods", "ddp,diloco", "--set", "site.memory=80GB"],
        lambda: sim.memory(
            sim.make_scenario(**KEYWORDS, site={"memory": "80 GB"}), ["ddp", "diloco"]
        ),
    ),
    "sweep": (
["sweep", *OPTIONS, "--over", "sync_every=10,100", "--over", "method=local_sgd,diloco",
         "--jobs", "1"],
        lambda: sim.sweep(
            sim.make_scenario(**KEYWORDS), sync_every=[10, "100"], method=["local_sgd", "diloco"]
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_figures_tables_and_rows_are_those_of_the_command_line(
    name: str, bandwise: Bandwise
) -> None:
    words, call = CALLS[name]
    result = call()
    as_printed = printed(bandwise(*words, "--json"))
    assert result.figures == as_printed
    assert repr(result) == bandwise(*words).out.rstrip("\n")
    rows = pd.read_csv(io.StringIO(bandwise(*words, "--format", "csv").out))
    frame = result.frame()
    numbers = rows.select_dtypes("number").columns.intersection(frame.columns)
    assert len(numbers) >= 5
    for column in numbers:
        mine = frame[column].astype(float).dropna()
        assert list(mine) == list(rows[column].dropna())[: len(mine)]


def test_html_has_the_same_cells_and_escapes_them() -> None:
    scenario = sim.make_scenario(**KEYWORDS, name="<b>&</b>")
    result = sim.simulate(scenario)
    html = result._repr_html_()
    share = f"{100 * result.figures['compute_utilization']:.1f} %"
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in html
    assert "<b>&</b>" not in html
    assert html.count("<table>") == html.count("</table>") == 3
    assert "<th" in html
    assert "compute utilization" in html
    assert html.count("<tr>") == html.count("</tr>")
    for text in (share, "exposed communication", "run.seed"):
        assert text in html


def test_a_result_says_where_it_comes_from() -> None:
    scenario = sim.make_scenario(**KEYWORDS, method="diloco", sync_every=50)
    found = sim.simulate(scenario).provenance
    assert found.version == __version__
    assert found.scenario_sha256 == {"diloco": scenario.sha256}
    assert found.assumed == scenario.assumed
    assert found.assumed["method.outer_lr"] == "0.7"
    assert "method.sync_every" not in found.assumed
    assert found.methods_sha256 == {}
    compared = sim.compare(scenario, ["ddp", "diloco"])
    assert set(compared.provenance.scenario_sha256) == {"ddp", "diloco"}
    assert compared.provenance.left_out == ("method.sync_every",)


def test_the_trace_is_a_table_of_all_that_happened() -> None:
    result = sim.simulate(sim.make_scenario(**KEYWORDS, method="diloco", steps=200))
    trace = result.trace
    assert set(trace["rank"]) == {0, 1, 2}
    assert set(trace["operation"]) >= {"inner_step", "all_reduce", "wait"}
    assert result.figures["total_wall_clock_s"] == pytest.approx(trace["end_s"].max())
    assert result.trace is trace


def test_sites_left_out_have_a_table_of_their_own() -> None:
    result = sim.compare(sim.make_scenario(**KEYWORDS), ["ddp", "diloco"])
    assert len(result.frame()) == len(result.without_sites()) == 2
    assert list(result.without_sites()["left_out"]) == ["any one of the 3 equal sites"] * 2


STUDY = """
name = "small"
run.steps = "steady"
model = { parameters = "1B", layers = 4 }
network = { bandwidth = "1 Gbit/s", rtt = "0 s" }
site = [{ count = 2, step_time = "0.1 s", batch_tokens = "1Mi" }]
[study]
ask = "required_bandwidth"
targets = ["50 %"]
grid = { bandwidth = "0.1 Gbit/s .. 1000 Gbit/s", points = 9 }
printing = "grid_point_reaching"
compare_with = "published.csv"
exact_cells = 1
axis.method = { "DiLoCo" = { method = { name = "diloco", sync_every = 100 } } }
"""


def test_a_published_table_is_read_off_our_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(STUDY)
    # 2 GB per 100 steps of 0.1 s, in and out of each site: 1.6 Gbit/s, and the grid has 3.2.
    Path("published.csv").write_text("method,target,rate\nDiLoCo,50 %,3.2\n")
    result = sim.reproduce("small.toml")
    assert result.figures == printed(bandwise("reproduce", "small.toml", "--json"))
    assert result.passed
    assert list(result.frame()["ours_Gbit_per_s"]) == ["3.2"]
    assert len(result.runs) == 9
    assert {path.name for path in tmp_path.iterdir()} == {"small.toml", "published.csv"}
    Path("published.csv").write_text("method,target,rate\nDiLoCo,50 %,100.0\n")
    assert not sim.reproduce(Path("small.toml")).passed
