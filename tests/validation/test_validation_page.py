"""The page of a validation has what report.md has."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.strict_page import page

from realrun.validation.markdown import table
from realrun.validation.page import _table, as_page
from realrun.validation.report import Findings, findings, report
from realrun.validation.rows import load
from sim.output.html_blocks import block
from sim.output.html_option import PageFile

LAB = Path(__file__).parents[2] / "validation" / "lab"
TOLERANCES = {"paced": {"wall_clock": {"median": 0.03}}}
COMMAND = "realrun validate study.toml --out lab --html page.html"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return load(LAB / "report.csv")


def found(rows: pd.DataFrame, **about: str) -> Findings:
    return findings(rows, {"study": "lab", **about}, TOLERANCES, (0.5, 0.3))


def test_every_cell_and_heading_of_the_report_is_on_the_page(
    tmp_path: Path, rows: pd.DataFrame
) -> None:
    kept = found(rows)
    path = tmp_path / "page.html"
    path.write_text(as_page(kept, PageFile(path, COMMAND)))
    assert as_page(kept, PageFile(path, COMMAND)) == path.read_text()
    read = page(path)
    shown = {cell.strip() for cell in read.cells}
    text = " ".join(read.text)
    for line in report(kept).splitlines():
        if line.startswith("| "):
            assert {c.strip().replace("**", "") for c in line[1:-1].split("|")} <= shown
        elif line.startswith("## "):
            assert line[3:] in read.text
    assert len(read.named("svg")) == 4
    assert "Passed: all 2 tolerances hold." in text
    assert "Error of wall-clock, median, informative configurations: paced 0.56 %" in text
    assert "Runs that were measured, next to their predictions by simulation." in text
    assert "**" not in text
    assert COMMAND in text


def test_names_of_a_study_are_text(tmp_path: Path, rows: pd.DataFrame) -> None:
    """Those of its cases and machine too; files next to the report are not in the page."""
    rows = rows.copy()
    rows["scenario"] = rows["scenario"].str.replace(", ", " <script>&amp; ", n=1)
    path = tmp_path / "page.html"
    kept = found(rows, machine="<b> & co", timelines="[ddp](timeline-ddp.png)")
    path.write_text(as_page(kept, PageFile(path)))
    read = page(path)
    assert any("<script>&amp;" in cell for cell in read.cells)
    assert "machine: <b> & co" in read.text
    assert "timelines: ddp" in read.text


def test_a_table_in_markdown_is_read_as_it_was_written() -> None:
    written = table(["what", "n", "p95"], [["a, b", "1", "-"], ["**bold**, c", "", "**3 %**"]])
    read = _table(written.splitlines())
    assert [column.kind for column in read.columns] == ["text", "number", "number"]
    assert [list(record.values()) for record in read.records] == [
        ["a, b", "1", "-"],
        ["bold, c", "", "3 %"],
    ]
    assert read.strong == {(1, 2)}
    assert "<strong>3 %</strong>" in block(read, "name")
