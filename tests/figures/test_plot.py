"""Pictures of results: what is refused, with file, row and column; what is drawn readably."""

from __future__ import annotations

import itertools
import re
import warnings
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.command_line import Bandwise
from support.plain_scenario import plain

from sim.figures import plots
from sim.figures.causes import CAUSES
from sim.output.pictures import bars, curves
from sim.questions import result_files
from sim.runtime import simulate
from sim.trace.table import Row

BANDWIDTH = "network.bandwidth_bytes_per_s"


def results(**axes: list[object]) -> pd.DataFrame:
    """Made-up results of a sweep over some axes and three bandwidths."""
    values = [*axes.values(), [1e8, 1e9, 1e10]]
    frame = pd.DataFrame(itertools.product(*values), columns=[*axes, BANDWIDTH])
    frame["schema"] = 1
    frame["workers"] = 2
    used = frame[BANDWIDTH] / (frame[BANDWIDTH] + 1e9)
    frame["compute_utilization_fraction"] = used
    for cause in CAUSES:
        frame[f"{cause}_fraction"] = 0.0
    frame["compute_fraction"] = used
    frame["exposed_communication_fraction"] = 1 - used
    frame["figures_are_bounds"] = False
    return frame


def said(bandwise: Bandwise, path: Path, kind: str = "utilization") -> str:
    """The one line that refuses; no picture is left."""
    out = path.parent / "out.png"
    ran = bandwise("plot", path, "--kind", kind, "--out", out)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert not out.exists()
    return ran.err


@pytest.mark.parametrize("kind", ["utilization", "breakdown"])
@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("compute_utilization_fraction", "abc", "must be a fraction, from 0 to 1"),
        ("compute_utilization_fraction", "nan", "must be a fraction, from 0 to 1"),
        ("compute_fraction", "7.0", "must be a fraction, from 0 to 1"),
        ("waiting_fraction", "-0.5", "must be a fraction, from 0 to 1"),
        (BANDWIDTH, "0.0", "must be bytes/s, more than 0"),
        ("figures_are_bounds", "perhaps", "must be True or False"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_place(
    tmp_path: Path, bandwise: Bandwise, kind: str, column: str, value: str, rule: str
) -> None:
    frame = results().astype({column: object})
    frame.loc[1, column] = value
    path = tmp_path / "results.csv"
    frame.to_csv(path, index=False)
    text = said(bandwise, path, kind)
    assert f'{path}: row 2, column {column} is "{value}"; it {rule}' in text


def test_a_value_that_is_missing_is_refused_with_its_place(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"{BANDWIDTH},schema,compute_utilization_fraction\n1e9,1,0.5\n2e9,1,\n")
    assert "row 2, column compute_utilization_fraction is empty" in said(bandwise, path)


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, bandwise: Bandwise) -> None:
    path = tmp_path / "results.csv"
    text = results().to_csv(index=False)
    path.write_text(text[:-3])
    assert "its last line has no end" in said(bandwise, path)


@pytest.mark.parametrize(
    ("added", "says"), [(",1", "line 2 has {} values"), ("\n0.5", "line 3 has 1 values")]
)
def test_a_row_that_is_no_whole_row_is_refused_with_its_line(
    tmp_path: Path, bandwise: Bandwise, added: str, says: str
) -> None:
    path = tmp_path / "results.csv"
    results().to_csv(path, index=False)
    heading, first, *others = path.read_text().splitlines()
    path.write_text("\n".join([heading, first + added, *others, ""]))
    columns = heading.count(",") + 1
    assert f"{says.format(columns + 1)} for {columns} columns" in said(bandwise, path)


def test_a_parquet_file_with_bytes_that_are_no_text_is_refused(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    path = tmp_path / "results.parquet"
    results(case=["abcdefgh"]).to_parquet(path, compression=None)
    whole = path.read_bytes()
    for text in (b"abcdefgh", b"compute_utilization_fraction"):  # a value, a column
        path.write_bytes(whole.replace(text, b"\xb0" * len(text)))
        assert str(path) in said(bandwise, path)


def test_a_breakdown_needs_all_causes(tmp_path: Path, bandwise: Bandwise) -> None:
    path = tmp_path / "results.csv"
    frame = results()
    frame.drop(columns=[f"{cause}_fraction" for cause in CAUSES]).to_csv(path, index=False)
    assert "has no column compute_fraction" in said(bandwise, path, "breakdown")
    frame.drop(columns="exposed_communication_fraction").to_csv(path, index=False)
    text = said(bandwise, path, "breakdown")
    assert "row 1: its causes add up to 0.09091, not to 1" in text


def test_a_large_file_is_refused_before_it_is_read(
    tmp_path: Path, bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.parquet"
    results().to_parquet(path)
    monkeypatch.setattr(result_files, "_MOST_VALUES", 20)
    monkeypatch.setattr("pyarrow.parquet.read_table", None)
    assert "3 rows of" in said(bandwise, path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x00\xff\n", b"a,b\n1,2,3\n"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_no_results_is_refused(
    tmp_path: Path, bandwise: Bandwise, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"results{suffix}"
    path.write_bytes(content)
    assert str(path) in said(bandwise, path)


def labels(figure: object) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]  # type: ignore[attr-defined]


def test_three_axes_are_panels_with_one_legend() -> None:
    frame = results(
        **{
            "network.rtt_s": [0.0, 0.02, 2.0],
            "method.num_fragments": [2, 4],
            "method.sync_every": [10, 30, 100],
        }
    )
    figure = curves(frame)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["rtt 0 s", "rtt 20 ms", "rtt 2 s"]
    assert len(labels(figure)) == 6
    assert labels(figure)[0] == "num_fragments 2, sync_every 10"
    assert all(len(ax.lines) == 6 for ax in figure.axes)


def test_many_values_of_one_axis_are_shared_out_over_panels() -> None:
    figure = curves(results(**{"method.sync_every": list(range(1, 13))}))
    assert [len(ax.lines) for ax in figure.axes] == [6, 6]
    shown = [text.get_text() for ax in figure.axes for text in ax.get_legend().get_texts()]
    assert shown == [f"sync_every {steps}" for steps in range(1, 13)]


def test_curves_that_cannot_be_told_apart_are_refused_with_advice(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    path = tmp_path / "results.csv"
    results(a=list(range(9)), b=list(range(9)), c=list(range(9))).to_csv(path, index=False)
    text = said(bandwise, path)
    assert "729 curves (9 a x 9 b x 9 c) cannot be told apart" in text
    assert "--over" in text


def test_bars_have_room_for_their_labels() -> None:
    few = bars(results(case=["one"]))
    many = bars(results(case=[str(number) for number in range(20)]))
    assert many.get_figheight() > 2 * few.get_figheight()
    assert many.axes[0].get_yticklabels()[0].get_text() == "0, bandwidth 0.8 Gbit/s"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_same_picture_is_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    def drawn(name: str) -> bytes:
        path = tmp_path / f"{name}{suffix}"
        plots.save(curves(results(case=["one", "two"])), path, dpi=50)
        return path.read_bytes()

    assert drawn("one") == drawn("two")


def test_no_label_is_a_formula_or_a_warning(tmp_path: Path) -> None:
    names = ["$\\frac$", "_hidden", "\u8cc7\u6599", "two\nlines", "long " * 100]
    figure = curves(results(case=names))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.save(figure, tmp_path / "labels.svg", dpi=50)
    shown = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(shown) == 5
    assert re.fullmatch(r"long .*\.\.\..*", shown[-1])


def test_an_evaluation_in_a_timeline_is_no_quantization() -> None:
    trace = simulate(plain("diloco", {"sync_every": 2}), rounds=1)
    trace.rows.append(Row(0, "main", "evaluate", "1", "", -1, 0.0, 1, 3.0, 3.5))
    ax = plots.timeline(trace, Figure().add_subplot())
    drawn = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "other" in drawn
    assert "quantize" not in drawn
