"""plan --out: tables and pictures of one question, which another question never replaces."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from support.command_line import Bandwise

import sim
from sim.output import plan_pictures
from sim.output.columns import PLAN
from sim.storage.locks import locked

SCENARIO = ("--model", "1B", "--sites", "paris,osaka", "--bandwidth", "2Gbit/s", "--rtt", "60ms")
FEW = ("--method", "diloco", "--algorithm", "ring", "--tokens", "20B")  # few settings, so quick
PRICED = ("--accelerators", "8 x H100", "--set", "site.price=2 EUR/h")
ALL = {"plan.json", "settings.csv", "changes.csv", "levers.csv", "front.png", "front.svg"}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_have_the_figures_of_json_and_the_same_question_gives_the_same_files(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    out = tmp_path / "plan"
    ran = bandwise("plan", *SCENARIO, *FEW, "--out", out, "--json")
    assert ran.status == 0, ran.err
    assert ran.err.splitlines()[-1].endswith(f"are in {out}")
    first = files(out)
    assert set(first) == ALL
    kept = json.loads(first["plan.json"])
    assert {key: kept[key] for key in ran.json} == ran.json
    settings = rows(out / "settings.csv")
    chosen = [ran.json[which] for which in ("recommended", "fastest", "leanest", "as_given")]
    assert [each["which"] for each in settings[:4]] == [each["which"] for each in chosen]
    for row, record in zip(settings, [*chosen, *ran.json["front"]], strict=True):
        assert float(row["time_for_tokens_s"]) == record["time_for_tokens_s"]
        assert float(row["tokens_per_update"]) == record["tokens_per_update"]
    assert [row["key"] for row in rows(out / "changes.csv")] == [
        each["key"] for each in ran.json["changes"]
    ]
    assert len(rows(out / "levers.csv")) == len(ran.json["levers"])
    for name in ("settings.csv", "front.png"):  # as if the command had been killed
        (out / name).unlink()
    assert bandwise("plan", *SCENARIO, *FEW, "--out", out).status == 0
    assert files(out) == first
    ran = bandwise("plan", *SCENARIO, *FEW, "--out", out, "--no-sensitivity")
    assert ran.status == 0
    assert set(files(out)) == ALL - {"levers.csv"}  # not those of another run


def test_another_question_is_refused_before_the_search_and_changes_nothing(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    out = tmp_path / "plan"
    assert bandwise("plan", *SCENARIO, *FEW, "--out", out).status == 0
    first = files(out)
    for other in (
        ("--target", "50%"),
        ("--max-staleness", "2"),
        ("--set", "site.paris.speed=0.5"),
        ("--sync-every", "20"),
    ):
        ran = bandwise("plan", *SCENARIO, *FEW, *other, "--out", out)
        assert ran.status == 2
        assert ran.err == (
            f"bandwise: error: {out}/plan.json: holds the plan of another question; choose "
            "another --out, or remove that file\n"
        )
        assert files(out) == first


def test_files_of_an_unknown_plan_are_kept(tmp_path: Path, bandwise: Bandwise) -> None:
    (tmp_path / "settings.csv").write_text("mine\n")
    ran = bandwise("plan", *SCENARIO, *FEW, "--out", tmp_path)
    assert (ran.status, files(tmp_path)) == (2, {"settings.csv": b"mine\n"})
    assert "holds settings.csv of a plan that is not known (plan.json is missing)" in ran.err
    (tmp_path / "plan.json").write_text("{")
    ran = bandwise("plan", *SCENARIO, *FEW, "--out", tmp_path)
    assert ran.status == 2
    assert "plan.json: does not say of which plan it is" in ran.err


def test_a_folder_in_use_is_left_alone(tmp_path: Path, bandwise: Bandwise) -> None:
    with locked(tmp_path):
        ran = bandwise("plan", *SCENARIO, *FEW, "--out", tmp_path)
    assert ran.status == 2
    assert f"in use by process {os.getpid()}" in ran.err
    assert not (tmp_path / "plan.json").exists()


def test_money_is_drawn_where_it_is_known(tmp_path: Path, bandwise: Bandwise) -> None:
    out = tmp_path / "plan"
    said = bandwise("plan", *SCENARIO, *FEW, *PRICED, "--out", out, "--json").json
    assert set(files(out)) == {*ALL, "cost.png", "cost.svg"}
    for point in said["front"]:  # 16 accelerators at 2 EUR per hour, and nothing else is priced
        assert point["money"] == pytest.approx(16 * 2 * point["time_for_tokens_s"] / 3600)
    tables = [each for each in out.iterdir() if each.suffix == ".csv"]
    shown = {name for table in tables for name in rows(table)[0]}
    assert shown == {*PLAN} - {"energy_kwh"}  # no power is given
    axes = plan_pictures.money(said).axes[0]
    assert axes.get_ylabel() == "cost (EUR)"
    with pytest.raises(ValueError, match="nothing is priced"):
        plan_pictures.money(bandwise("plan", *SCENARIO, *FEW, "--json").json)


def test_the_picture_names_what_was_chosen_at_its_place(bandwise: Bandwise) -> None:
    said = bandwise("plan", *SCENARIO, *FEW, "--json").json
    ax = plan_pictures.front(said).axes[0]
    names = {
        name: text.xy
        for text in ax.texts
        for name in text.get_text().split(", ")
    }  # fmt: skip
    assert set(names) == {"recommended", "fastest", "leanest", "as given"}
    unit = {"days": 86400.0, "hours": 3600.0, "s": 1.0}[ax.get_ylabel().split("(")[1][:-1]]
    assert ax.get_xlabel() == "tokens per update (Mi)"  # as the table writes them
    for name, (across, up) in names.items():
        row = said[name.replace(" ", "_")]
        assert across * 2**20 == pytest.approx(row["tokens_per_update"])
        assert up * unit == pytest.approx(row["time_for_tokens_s"])


def _dominates(one: dict, other: dict, keys: tuple[str, ...]) -> bool:
    no_worse = all(one[key] <= other[key] * (1 + 1e-9) for key in keys)
    return no_worse and any(one[key] <= other[key] * (1 - 1e-6) for key in keys)


def test_grey_settings_are_what_the_legend_says(
    bandwise: Bandwise,
) -> None:
    egress = ("--set", "site.egress_price=80 EUR/TB", "--no-sensitivity")
    said = bandwise(
        "plan", *SCENARIO, "--method", "streaming_diloco", *FEW[2:], *PRICED, *egress, "--json"
    ).json
    pictures = (
        (plan_pictures.front(said).axes[0], "tokens_per_update", "time_for_tokens_s", 1),
        (plan_pictures.money(said).axes[0], "time_for_tokens_s", "money", 2),
    )
    for ax, x, y, others in pictures:
        drawn = {line.get_label(): line for line in ax.get_lines()}
        grey = next(drawn[label] for label in drawn if str(label).startswith("dominated in these"))
        wanted = ("sent_bytes_per_worker", "tokens_per_update")[:others]
        found = 0
        for row in said["front"]:
            above = [each for each in said["front"] if _dominates(each, row, (x, y))]
            found += bool(above)
            assert all(any(row[key] < each[key] for key in wanted) for each in above)
        assert len(grey.get_xdata()) >= found > 0


def test_the_line_of_the_front_has_the_color_of_no_method(bandwise: Bandwise) -> None:
    options = ("--method", "diloco", "--set", "method.comm_dtype=fp4", *FEW[2:])
    said = bandwise("plan", *SCENARIO, *options, "--no-sensitivity", "--json").json
    drawn = {line.get_label(): line for line in plan_pictures.front(said).axes[0].get_lines()}
    assert len(drawn["Pareto front"].get_xdata()) > 1
    assert drawn["Pareto front"].get_color() != drawn["diloco"].get_color()


def test_python_writes_the_same_folder_and_draws_the_same(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    scenario = sim.make_scenario(
        model="1B", sites=["paris", "osaka"], bandwidth="2 Gbit/s", rtt="60 ms", tokens="20B",
        method="diloco", network={"collective": {"algorithm": "ring"}},
    )  # fmt: skip
    found = sim.plan(scenario, "95 %", out=tmp_path / "python")
    assert bandwise("plan", *SCENARIO, *FEW, "--out", tmp_path / "command").status == 0
    names = ("settings.csv", "changes.csv", "levers.csv", "front.svg", "front.png")
    for name in names:
        assert (tmp_path / "python" / name).read_bytes() == (
            tmp_path / "command" / name
        ).read_bytes()
    assert {text.get_text() for text in found.plot().texts} == {
        text.get_text() for text in plan_pictures.front(found.figures).axes[0].texts
    }
    assert len(found.plot_levers().patches) == len(found.levers)
    with pytest.raises(ValueError, match="nothing is priced"):
        found.plot_cost()
    with pytest.raises(Exception, match="holds the plan of another question; choose another out"):
        sim.plan(scenario, "60 %", out=tmp_path / "python")


def test_the_page_draws_the_levers_where_they_were_computed(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    page = tmp_path / "plan.html"
    caption = "What each change does to the time for equal tokens (diloco)"
    assert bandwise("plan", *SCENARIO, *FEW, "--html", page).status == 0
    assert caption in page.read_text(encoding="utf-8")
    assert bandwise("plan", *SCENARIO, *FEW, "--html", page, "--no-sensitivity").status == 0
    assert caption not in page.read_text(encoding="utf-8")
