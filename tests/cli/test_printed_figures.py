"""What is printed says which rounds it is of, what was predicted, and what is only a bound."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.command_line import Bandwise

from sim.figures.causes import CAUSES, INSIDE
from sim.output.tables import AtLeast, AtMost, Column, Table, as_csv, as_json, cells
from sim.questions.reproduce import published_cells, read_published, reproduce

SMALL = ("--model", "1B", "--bandwidth", "10Gbit/s", "--sync-every", "5")
H100 = ("--accelerators", "8 x H100", "--batch-tokens", "256Ki")
QUEUEING = (
    *("--model", "1B", "--method", "eager_diloco", "--bandwidth", "1Gbit/s", "--set"),
    *("method.sync_every=1", "--set", "method.outer_sync_delay=100000"),
)


def test_nothing_simulated_is_called_measured(bandwise: Bandwise) -> None:
    for command in ("simulate", "compare", "required"):
        out = bandwise(command, *SMALL, *H100).out
        figures = out.split("Not given, so assumed")[0]
        assert "measured" not in figures
        assert "meanwhile" not in figures
        assert "failure" not in figures
    assert re.search(r"^evaluated rounds +\d", bandwise("simulate", *SMALL).out, re.MULTILINE)


def test_json_keeps_the_evaluated_rounds_and_the_whole_run_apart(bandwise: Bandwise) -> None:
    data = bandwise("simulate", *SMALL, "--steps", "5000", "--json").json
    part, whole = data["evaluated_rounds"], data["whole_run"]
    assert data["schema"] == 2
    assert part["tokens_per_s"] == pytest.approx(part["tokens"] / part["wall_clock_s"])
    assert part["tokens_per_update"] == pytest.approx(part["tokens"] / part["updates"])
    assert whole["rounds"] == 1000 > part["rounds"]
    assert whole["extrapolated"]
    assert not {"wall_clock_s", "tokens", "updates", "rounds"} & set(data)
    assert set(part["breakdown"]) == set(CAUSES) - {INSIDE, "other"}
    assert sum(part["breakdown"].values()) == pytest.approx(1)


def test_columns_of_csv_name_pairs_that_can_be_divided(bandwise: Bandwise) -> None:
    ran = bandwise("simulate", *SMALL, "--steps", "5000", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(ran.out))
    rate = float(row["evaluated_tokens"]) / float(row["wall_clock_s"])
    assert rate == pytest.approx(float(row["tokens_per_s"]))
    assert float(row["tokens"]) > float(row["evaluated_tokens"])
    assert "failure_fraction" not in row


def test_rows_of_a_sweep_name_pairs_that_can_be_divided(bandwise: Bandwise) -> None:
    ran = bandwise("sweep", *SMALL, *H100, "--over", "network.rtt=1ms,9ms", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert len(rows) == 2
    for row in rows:
        rate = float(row["evaluated_tokens"]) / float(row["wall_clock_s"])
        assert rate == pytest.approx(float(row["tokens_per_s"]))
        fractions = [float(row[key]) for key in row if key.removesuffix("_fraction") in CAUSES]
        assert sum(fractions) == pytest.approx(1)
        mfu, used = row["mfu_end_to_end_fraction"], row["compute_utilization_fraction"]
        assert float(mfu) == pytest.approx(0.4 * float(used))


def test_kept_results_with_other_causes_are_still_drawn(bandwise: Bandwise, tmp_path: Path) -> None:
    bandwise("sweep", *SMALL, "--over", "network.rtt=1ms,9ms", "--out", tmp_path)
    kept = tmp_path / "results.csv"
    lines = kept.read_text().splitlines()
    old = [
        lines[0] + ",failure_fraction,other_fraction",
        *(line + ",0.0,0.0" for line in lines[1:]),
    ]
    kept.write_text("\n".join(old) + "\n")
    assert not bandwise("plot", kept, "--kind", "breakdown", "--out", tmp_path / "a.png").status


def test_a_bound_is_printed_as_one_and_written_as_a_number() -> None:
    columns = (Column("a", "a", "seconds"), Column("b", "b", "percent"))
    table = Table(columns, [{"a": AtLeast(7200.0), "b": AtMost(0.5)}])
    assert cells(table) == (["a (h)", "b (%)"], [["at least 2.00", "at most 50.0"]])
    assert as_csv(table) == "a,b\n7200.0,0.5"
    assert as_json([AtLeast(1.5)]) == "[\n  1.5\n]"


def test_a_total_at_the_pace_of_the_links_says_so(bandwise: Bandwise) -> None:
    """16 Gbit of gradients at 1 Gbit/s: a step of 0.1 s takes 16 s."""
    ran = bandwise("simulate", *QUEUEING, "--steps", "2000")
    assert "NOT steady: messages queue on the links" in ran.out
    data = bandwise("simulate", *QUEUEING, "--steps", "2000", "--json").json
    assert data["total_is_lower_bound"] is False
    assert data["evaluated_rounds"]["backlog_s_per_round"] > 10
    assert data["total_wall_clock_s"] > 2000 * 10
    chosen = ("--set", "run.measured_rounds=8", "--steps", "2000")
    bounded = bandwise("simulate", *QUEUEING, *chosen)
    assert re.search(r"^total wall-clock +at least ", bounded.out, re.MULTILINE)
    assert re.search(r"^compute utilization +at most ", bounded.out, re.MULTILINE)
    assert bandwise("simulate", *QUEUEING, *chosen, "--json").json["total_is_lower_bound"]
    late = [*QUEUEING[:2], *QUEUEING[4:], *chosen, "--methods", "eager_diloco,delayed_diloco"]
    compared = bandwise("compare", *late)
    assert compared.out.count("at least") >= 2
    swept = bandwise("sweep", *QUEUEING, *chosen, "--over", "network.rtt=1ms,2ms")
    assert "at least" in swept.out
    assert "NOT steady: rounds of 2 of 2 runs" in swept.out


def test_points_of_a_curve_that_are_bounds_are_open(bandwise: Bandwise, tmp_path: Path) -> None:
    import pandas as pd
    from matplotlib.figure import Figure

    from sim.figures.plots import utilization

    asked = (*QUEUEING[:4], *QUEUEING[6:], "--set", "run.measured_rounds=8", "--steps", "50")
    bandwise("sweep", *asked, "--over", "bandwidth=1,1000Gbit/s", "--out", tmp_path)
    frame = pd.read_csv(tmp_path / "results.csv")
    assert frame["figures_are_bounds"].tolist() == [True, False]
    ax = utilization(frame, Figure().subplots())
    line, bounds = ax.get_lines()
    assert len(line.get_xdata()) == 2
    assert list(bounds.get_xdata()) == pytest.approx([1.0])


@pytest.mark.parametrize("method", ["streaming_diloco", "diloco", "ddp"])
def test_an_assumed_overlap_is_answered_with_overlap_by_layers(
    bandwise: Bandwise, method: str
) -> None:
    asked = ("simulate", "--model", "1B", "--bandwidth", "10Gbit/s", "--method", method)
    told = bandwise(*asked, "--json").json["layer_overlap"]
    layered = bandwise(*asked, "--set", "method.overlap=layer", "--json").json
    assert "layer_overlap" not in layered
    assert told["compute_utilization"] == layered["compute_utilization"]
    share = f"{100 * told['compute_utilization']:.1f} %"
    line = f'"layer" would give a compute utilization of {share}'
    assert line in " ".join(bandwise(*asked).out.split())
    given = bandwise(*asked, "--set", f"method.overlap={told['assumed_overlap']}").out
    assert "would give" not in given


def test_overlap_by_layers_is_left_out_where_it_takes_long(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.questions.overlap._MOST_EVENTS", 10)
    ran = bandwise("simulate", *SMALL)
    assert '"layer" was not simulated as well' in ran.out
    assert bandwise("simulate", *SMALL, "--json").json["layer_overlap"]["simulated"] is False
    local = bandwise("simulate", *SMALL, "--method", "local_sgd", "--json")
    assert "layer_overlap" not in local.json


def test_updates_unlike_the_others_are_marked_in_their_row(bandwise: Bandwise) -> None:
    asked = ("compare", "--model", "1B", "--methods", "local_sgd,diloco,acco", "--sync-every", "50")
    ran = bandwise(*asked, "--bandwidth", "1Gbit/s")
    marked = [line.split()[0] for line in ran.out.splitlines() if re.search(r"\d\w* \* ", line)]
    assert marked == ["acco"]
    assert "* Tokens per update differ from the median" in ran.out
    rows = bandwise(*asked, "--bandwidth", "1Gbit/s", "--json").json["methods"]
    assert [row["updates_differ"] for row in rows] == [False, False, True]
    alike = bandwise(*asked[:3], "--methods", "local_sgd,diloco", *SMALL[2:])
    assert "Equal tokens" in alike.out
    assert "* Tokens" not in alike.out


# -- published tables ------------------------------------------------------------------------

TABLE = "# A table.\nmodel,target,gbit_per_s\nsmall,50 %,{}\nsmall,95 %,{}\n"


def published(tmp_path: Path, *values: str) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE.format(*values))
    return path


def test_a_published_cell_may_say_more_than_the_grid_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = published(tmp_path, "1.0", "1000.0+")
    assert list(read_published(path).values()) == ["1.0", "1000.0+"]
    found: dict[float, float] = {0.5: 1e9 / 8, 0.95: float("inf")}
    monkeypatch.setattr(
        "sim.questions.reproduce.table",
        lambda study, frame, rule="": [({"model": "small"}, [*found.values()])],
    )
    case = SimpleNamespace(labels={"model": "small"})
    grid = [10.0 ** (power / 4) * 1e9 / 8 for power in range(-4, 13)]
    study: Any = SimpleNamespace(
        name="s", compare_with=path, grid=grid, targets=(0.5, 0.95), cases=lambda: [case]
    )
    result = reproduce(study, None)  # type: ignore[arg-type]
    assert [(cell.ours, cell.grid_steps) for cell in result.cells] == [("1.0", 0), ("1000.0+", 0)]
    found[0.95] = grid[-3]  # two points below the end: three from what lies beyond
    assert [cell.grid_steps for cell in reproduce(study, None).cells] == [0, -3]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "column"), [("about 9", "gbit_per_s"), ("-1", "gbit_per_s"), ("0", "gbit_per_s")]
)
def test_an_unreadable_cell_is_named(tmp_path: Path, value: str, column: str) -> None:
    path = published(tmp_path, "1.0", value)
    with pytest.raises(ValueError, match=rf'table.csv, line 4, column {column}: "{value}" is no'):
        read_published(path)


def test_a_bad_table_is_found_before_anything_is_simulated(
    bandwise: Bandwise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim.scenario import bundled

    source = bundled()["streaming_diloco_table4"]
    text = source.read_text()
    name = re.search(r'compare_with = "(.*)"', text)
    assert name is not None
    table = (source.parent / name[1]).read_text().replace("DiLoCo,95 %,23.3", "DiLoCo,95 %,n/a")
    target = tmp_path / name[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(table)
    (tmp_path / "study.toml").write_text(text)
    monkeypatch.setattr("sim.cli.reproduce.computed", None)
    monkeypatch.setattr("sim.cli.study.computed", None)
    for command in (("reproduce",), ("study",)):
        out = ("--out", tmp_path / "out") if command == ("study",) else ()
        ran = bandwise(*command, tmp_path / "study.toml", *out)
        assert ran.status == 2
        assert 'column gbit_per_s: "n/a" is no bandwidth' in ran.err


def test_a_row_that_the_study_has_not_is_named(tmp_path: Path) -> None:
    study: Any = SimpleNamespace(
        name="s",
        compare_with=published(tmp_path, "1.0", "2.0"),
        grid=[1.0],
        targets=(0.5,),
        cases=lambda: [SimpleNamespace(labels={"model": "small"})],
    )
    with pytest.raises(ValueError, match="no case for the row"):
        published_cells(study)
