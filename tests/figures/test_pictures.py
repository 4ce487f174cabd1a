"""Pictures of any columns: what is refused, and that nothing overlaps or is cut off."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from support.command_line import Bandwise

from sim.figures.breakdown import CAUSES
from sim.figures.pictures.marks import name as write_names
from sim.figures.pictures.marks import ring
from sim.figures.pictures.palette import BACKGROUND, CAUSE_COLORS, METHOD_STYLES
from sim.figures.pictures.pareto import front
from sim.figures.plots import save
from sim.figures.tornado import picture as tornado
from sim.methods import METHODS
from sim.output.drawn_columns import drawn
from sim.output.pictures import comparison, curves

BANDWIDTH = "network.bandwidth_bytes_per_s"
LONG = "a case whose name is much longer than anybody would like, number"


def results(cases: int = 4) -> pd.DataFrame:
    """Made-up results over bandwidth, round-trip time, and cases with long names."""
    rtts = [0.001, 0.02, 0.3]
    names = [f"{LONG} {number}" for number in range(cases)]
    rows = itertools.product(names, rtts, np.geomspace(1e7, 1e10, 6))
    frame = pd.DataFrame(rows, columns=["case", "network.rtt_s", BANDWIDTH])
    frame["schema"] = 1
    frame["workers"] = (frame[BANDWIDTH] / 1e7).round().astype(int)
    number = frame["case"].str.rpartition(" ")[2].astype(int)
    used = frame[BANDWIDTH] / (frame[BANDWIDTH] + 1e9 * (1 + number))
    frame["compute_utilization_fraction"] = used
    frame["wall_clock_s"] = 3e5 / used
    frame["tokens_per_s"] = 1e5 * used
    frame["tokens_per_update"] = 1e6 * (1 + number)
    return frame


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """All that is written in a figure, with the box that it covers in dots."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    found = []
    for text in figure.findobj(Text):
        shown = text.get_visible() and text.get_text().strip()
        if shown and all(ax.get_visible() for ax in [text.axes] if ax is not None):
            found.append((text, text.get_window_extent(renderer)))
    return found


def in_view(figure: Figure) -> list[tuple[str, Bbox]]:
    """Texts without those of ticks beyond their axis, which are not drawn."""
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            drawn_ticks = set(axis._update_ticks())  # type: ignore[attr-defined]
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if tick not in drawn_ticks:
                    hidden |= {id(tick.label1), id(tick.label2)}
    return [(t.get_text(), box) for t, box in texts(figure) if id(t) not in hidden]


def faults(figure: Figure) -> list[str]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    found = in_view(figure)
    whole = figure.bbox
    cut = [
        f"cut: {text}"
        for text, box in found
        if box.x0 < -1 or box.y0 < -1 or box.x1 > whole.x1 + 1 or box.y1 > whole.y1 + 1
    ]
    pairs = itertools.combinations(found, 2)
    over = [f"{a} / {b}" for (a, one), (b, two) in pairs if one.padded(-0.5).overlaps(two)]
    return cut + over


@pytest.mark.parametrize("size", [(6, 4), (8, 5), (12, 5)])
@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "curves", "x": BANDWIDTH, "y": "wall_clock_s", "color": "case"},
        {"kind": "curves", "x": BANDWIDTH, "y": "tokens_per_s", "color": "rtt", "only": "case"},
        {"kind": "curves", "x": "rtt", "y": "wall_clock_s", "color": "case", "facet": BANDWIDTH},
        {"kind": "curves", "x": "case", "y": "wall_clock_s", "color": "rtt"},
        {"kind": "heatmap", "x": BANDWIDTH, "y": "rtt", "color": "wall_clock_s"},
        {"kind": "heatmap", "x": BANDWIDTH, "y": "case", "color": "compute_utilization_fraction"},
        {"kind": "pareto", "x": "wall_clock_s", "y": "tokens_per_update", "color": "case"},
        {"kind": "speedup", "color": "case"},
    ],
)
def test_nothing_overlaps_and_nothing_is_cut_off(
    size: tuple[float, float], asked: dict[str, str]
) -> None:
    frame = results()
    asked = dict(asked)
    asked.pop("only", None)
    shown = " ".join(asked.values())
    if "case" not in shown:
        frame = frame[frame["case"] == f"{LONG} 0"]
    if "rtt" not in shown and asked["kind"] != "pareto":
        frame = frame[frame["network.rtt_s"] == 0.02]
    if asked["x" if "x" in asked else "kind"] != BANDWIDTH and "facet" not in asked:
        keep = asked["kind"] in ("pareto", "speedup")
        frame = frame if keep else frame[frame[BANDWIDTH] == 1e7]
    assert faults(drawn(frame, size=size, **asked)) == []  # type: ignore[arg-type]


def test_texts_that_overlap_would_be_found() -> None:
    figure = Figure(figsize=(4, 3))
    figure.text(0.5, 0.5, "one text")
    figure.text(0.52, 0.5, "another")
    figure.text(0.9, 0.1, "a text that is cut off")
    assert faults(figure) == ["cut: a text that is cut off", "one text / another"]


@pytest.mark.parametrize("seed", range(12))
def test_names_of_points_cover_no_point_no_line_and_no_other_name(seed: int) -> None:
    generator = np.random.default_rng(seed)
    figure = Figure(figsize=((5, 3.4), (8, 5))[seed % 2], layout="constrained")
    ax = figure.subplots()
    across, up = np.sort(generator.random(6)), np.sort(generator.random(6))[::-1]
    ax.plot(across, up, "-s")
    places = {text: (across[n], up[n]) for n, text in enumerate(("one", "a longer name", "third"))}
    ring(ax, places)
    write_names(ax, places)
    assert faults(figure) == []
    inside = ax.get_window_extent()
    points = ax.transData.transform(np.column_stack([across, up]))
    line = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(points)])
    assert len(ax.texts) == 3
    for text in ax.texts:
        box = Text.get_window_extent(text)
        assert box.x0 > inside.x0
        assert box.x1 < inside.x1
        assert not box.padded(-0.5).count_contains(line)
        apart = np.hypot(*(points[:3] - np.clip(points[:3], box.min, box.max)).T)
        own = ax.transData.transform(text.xy)
        assert text.arrow_patch is not None or tuple(points[apart.argmin()]) == tuple(own)


@pytest.mark.parametrize("seed", [16, 27, 39])
def test_the_line_of_a_name_touches_no_other_name(seed: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    generator = np.random.default_rng(seed)
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    middle = generator.uniform(0.2, 0.8, 2)
    texts = ("recommended, fastest", "leanest", "cheapest", "as given")
    places = {text: tuple(middle + generator.normal(0, 0.03, 2)) for text in texts}  # close by
    ax.set(xlim=(0, 1), ylim=(0, 1))
    across = np.sort(generator.uniform(0, 1, 12))
    ax.plot(across, np.sort(generator.uniform(0, 1, 12))[::-1], "o-")
    ring(ax, places)
    write_names(ax, places)
    FigureCanvasAgg(figure).draw()
    boxes = [Text.get_window_extent(text).padded(figure.dpi / 72) for text in ax.texts]
    bare = [box.padded(-1.5 * figure.dpi / 72) for box in boxes]
    assert not [1 for one, two in itertools.combinations(bare, 2) if one.overlaps(two)]
    joined = 0
    for number, text in enumerate(ax.texts):
        if text.arrow_patch is None:
            continue
        joined += 1
        begin, *_, end = text.arrow_patch._get_path_in_displaycoord()[0][0].vertices
        line = np.linspace(begin, end, 200)
        others = [box for place, box in enumerate(boxes) if place != number]
        assert not any(box.count_contains(line) for box in others)
    assert joined


def test_the_front_is_what_no_row_beats() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, 12, (2, 60)).astype(float)
    beaten = [
        any((a <= x and b <= y) and (a < x or b < y) for a, b in zip(first, second, strict=True))
        for x, y in zip(first, second, strict=True)
    ]
    assert front(first, second).tolist() == [not each for each in beaten]


def test_the_same_picture_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg", "a.png", "b.png"):
        figure = drawn(results(), "pareto", x="wall_clock_s", y="tokens_per_update", color="case")
        save(figure, tmp_path / name)
    for kind in ("svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--x", "bandwith", "--y", "wall_clock"], f"did you mean {BANDWIDTH}?"),
        (["--x", "bandwidth", "--y", "case", "--color", "rtt"], "--y: case is text"),
        (["--x", "bandwidth", "--y", "wall_clock"], "differ in case, network.rtt_s; write --facet"),
        (["--x", "rtt", "--y", "wall_clock", "--where", "rtt=20ms"], "is 0.02 in every run drawn"),
        (["--x", "rtt", "--y", "wall_clock", "--where", "rtt=7ms"], "there are 0.001, 0.02, 0.3"),
        (["--x", "rtt", "--y", "wall_clock", "--color", "case"], "12 can be told apart"),
        (["--kind", "heatmap", "--x", "case", "--y", "rtt"], "--color: is missing"),
        (
            [
                "--kind",
                "heatmap",
                "--x",
                "case",
                "--y",
                "wall_clock",
                "--color",
                "wall_clock",
                "--where",
                "rtt=20ms",
            ],
            "at most 40 along an axis",
        ),
        (["--x", "rtt", "--y", "wall_clock", "--size", "big"], "must be like 8x5"),
        (["--kind", "heatmap", "--log", "x"], "--log: is for --kind curves and pareto; not for h"),
        (["--kind", "speedup", "--log", "y"], "--log: is for --kind curves and pareto; not for s"),
        (
            [
                *[
                    "--x",
                    "case",
                    "--y",
                    "wall_clock",
                    "--where",
                    "rtt=20ms",
                    "--log",
                    "x",
                    "--where",
                ],
                "bandwidth=10MB/s",
            ],
            "--log: x cannot be logarithmic: case is text",
        ),
        (["--kind", "breakdown", "--color", "case"], "--color: is for --kind curves"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(
    tmp_path: Path, bandwise: Bandwise, options: list[str], says: str
) -> None:
    results(14).to_csv(tmp_path / "results.csv", index=False)
    ran = bandwise("plot", tmp_path / "results.csv", *options, "--out", tmp_path / "out.png")
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    assert says in ran.err
    assert not (tmp_path / "out.png").exists()


def test_speed_up_is_of_the_smallest_and_ideal_is_proportional() -> None:
    frame = results(1)
    frame = frame[frame["network.rtt_s"] == 0.02]
    (ax,) = drawn(frame, "speedup").axes
    measured, ideal = ax.get_lines()
    assert measured.get_ydata()[0] == 1.0
    assert measured.get_ydata()[-1] == pytest.approx(
        frame["tokens_per_s"].iloc[-1] / frame["tokens_per_s"].iloc[0]
    )
    assert ideal.get_ydata()[-1] == pytest.approx(1000.0)


def test_python_draws_columns_as_the_command_does() -> None:
    from sim import make_scenario, sweep

    scenario = make_scenario(model="1B", method="diloco", step_time="1s")
    found = sweep(scenario, sync_every=[10, 100], rtt=["1ms", "50ms"])
    ax = found.plot(x="rtt", y="compute_utilization", color="sync_every")
    assert ax.get_xlabel() == "rtt (ms)"
    with pytest.raises(ValueError, match=r"differ in method\.sync_every; write facet"):
        found.plot(x="rtt", y="compute_utilization")


def colors_of(figure: Figure) -> dict[str, set[str]]:
    """The colors of labelled lines and bars in all panels, by label."""
    found: dict[str, set[str]] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            one = handle.get_color() if hasattr(handle, "get_color") else handle[0].get_facecolor()
            found.setdefault(label, set()).add(to_hex(one).upper())
    return found


def of_methods(names: list[str]) -> pd.DataFrame:
    rows = itertools.product(names, np.geomspace(1e7, 1e10, 4))
    frame = pd.DataFrame(rows, columns=["method.name", BANDWIDTH])
    frame["schema"] = 1
    number = frame["method.name"].map(names.index)
    frame["compute_utilization_fraction"] = 0.1 * (1 + number)
    frame["wall_clock_s"] = 1e5 / (1 + number)
    frame["tokens_per_update"] = 40.0 * 2**20 * (1 + number)
    return frame


@pytest.mark.parametrize("order", [1, -1])
def test_a_method_has_one_color_in_every_kind_of_picture(order: int) -> None:
    frame = of_methods(["acco", "diloco", "ddp", "mine:program"][::order])
    kinds = [
        colors_of(drawn(frame, "curves", x=BANDWIDTH, y="wall_clock_s", color="method.name")),
        colors_of(
            drawn(frame, "pareto", x="wall_clock_s", y="tokens_per_update", color="method.name")
        ),
        colors_of(curves(frame)),
    ]
    for found in kinds:
        for method in ("acco", "diloco", "ddp"):
            assert found[method] == {METHOD_STYLES[method][0].upper()}
        assert len({color for each in found.values() for color in each}) >= 4
    assert len({frozenset(found["mine:program"]) for found in kinds}) == 1


def test_methods_and_causes_all_have_a_look_of_their_own() -> None:
    assert set(METHOD_STYLES) == set(METHODS)
    assert len({color for color, _ in METHOD_STYLES.values()}) == len(METHODS)
    assert set(CAUSE_COLORS) == set(CAUSES)
    assert BACKGROUND not in {color for color, _ in METHOD_STYLES.values()}


def test_a_value_has_one_color_where_a_panel_lacks_another() -> None:
    frame = of_methods(["acco", "diloco"]).rename(columns={"method.name": "case"})
    frame["network.rtt_s"] = 0.1
    lacking = frame[frame["case"] == "diloco"].assign(**{"network.rtt_s": 0.01})
    both = pd.concat([lacking, frame])
    figure = drawn(both, "curves", x=BANDWIDTH, y="wall_clock_s", color="case", facet="rtt")
    assert {label: len(found) for label, found in colors_of(figure).items()} == {
        "acco": 1,
        "diloco": 1,
    }


@pytest.mark.parametrize(("tokens", "label"), [(2.0**20, "(Mi)"), (1e6, "tokens per update")])
def test_an_axis_of_tokens_has_the_unit_of_the_tables(tokens: float, label: str) -> None:
    frame = of_methods(["diloco", "acco"])
    frame["tokens_per_update"] = frame["tokens_per_update"] / 2**20 * tokens
    figure = drawn(frame, "curves", x=BANDWIDTH, y="tokens_per_update", color="method.name")
    assert figure.axes[0].get_ylabel().endswith(label)
    assert (figure.axes[0].get_lines()[0].get_ydata()[0] == 40) == (tokens == 2.0**20)


def test_the_legend_of_levers_names_no_bar_that_is_not_there() -> None:
    rows = pd.DataFrame(
        {
            "lever": ["bandwidth x2", "sync_every x2"],
            "change_of_time_fraction": [-0.1, -1e-5],
            "training_changes": [False, True],
        }
    )
    (legend,) = tornado(rows).legends
    assert [text.get_text() for text in legend.get_texts()] == ["training stays the same"]


def test_a_method_that_takes_far_longer_leaves_the_others_their_bars() -> None:
    causes = {"compute": 0.5, "exposed_communication": 0.5}
    days = {"ddp": 200.0, "diloco": 2.0, "acco": 1.0}
    methods = [
        {
            "method": name,
            "breakdown": causes,
            "time_for_tokens_s": 86400 * each,
            "time_is_lower_bound": False,
        }
        for name, each in days.items()
    ]
    right = comparison(methods).axes[1]
    assert max(right.get_xlim()) < 10
    shown = {text.get_text() for text in right.texts}
    assert shown == {"200 days, beyond the axis", "2 days", "24 h"}
    assert faults(comparison(methods)) == []
