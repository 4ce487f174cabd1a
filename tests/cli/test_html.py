"""--html: a page that says what the table says, needs nothing else, and runs nothing."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from support.command_line import Bandwise
from support.strict_page import Read, page

from sim.output.html_blocks import Picture, table
from sim.output.html_option import quoted
from sim.output.html_page import MOST_BYTES, Inputs, Page, Part, as_html_page, written
from sim.output.svg import as_svg
from sim.output.tables import Column, Report, Table

ASKED = ("--model", "1B", "--bandwidth", "1Gbit/s", "--sync-every", "20", "--rounds", "6")
NASTY = """
name = '<script>alert(1)</script> & "co"'
[model]
parameters = "1B"
[method]
name = "diloco"
sync_every = 5
[run]
rounds = 8
[network]
bandwidth = "1 Gbit/s"
[[site]]
name = "<script>x</script>&amp;"
step_time = "1 s"
[[site]]
name = "oslo <i> &amp"
step_time = "2 s"
"""


def test_the_page_of_a_run_has_every_cell_of_its_table(tmp_path: Path, bandwise: Bandwise) -> None:
    path = tmp_path / "run.html"
    ran = bandwise("simulate", *ASKED, "--format", "markdown", "--html", path)
    assert ran.status == 0
    assert ran.err.endswith(f"bandwise: wrote {path}\n")
    read = page(path)
    shown = {cell.strip().replace("\\|", "|") for line in ran.out.splitlines()
             if line.startswith("| ") for cell in line[1:-1].split(" | ")}  # fmt: skip
    assert {cell for cell in shown if cell.strip("-:")} <= {cell.strip() for cell in read.cells}
    assert len(read.named("svg")) == 1  # what equal workers do; bars would all be alike
    text = " ".join(read.text)
    assert "A prediction by simulation: nothing was trained." in text
    assert shlex.join(["bandwise", "simulate", *ASKED]) in text
    given = dict(zip(read.cells, read.cells[1:], strict=False))
    assert given["network.bandwidth"] == "1Gbit/s"
    assert given["method.outer_lr"] == "0.4"


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", *ASKED),
        ("compare", *ASKED, "--methods", "ddp,diloco"),
        ("required", *ASKED, "--target", "50%"),
        ("memory", *ASKED, "--accelerators", "8 x H100"),
        ("sweep", *ASKED, "--over", "rtt=10ms,100ms", "--jobs", "1"),
        ("plan", *ASKED, "--method", "diloco", "--algorithm", "ring"),
        ("required", *ASKED, "--target", "50%", "--of", "rtt"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_same_question_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for _ in range(2):
        assert bandwise(*arguments, "--html", "page.html").status == 0
        found.append(Path("page.html").read_bytes())
    assert found[0] == found[1]
    assert page(Path("page.html")).named("svg")


def test_a_page_about_memory_says_first_what_fits(tmp_path: Path, bandwise: Bandwise) -> None:
    path = tmp_path / "memory.html"
    asked = ("memory", *ASKED, "--accelerators", "1 x H100", "--set", "site.memory=20 GB")
    found = bandwise(*asked, "--json", "--html", path).json
    read = page(path)
    short = [each["method"] for each in found["memory"] if each["fits"] is False]
    assert short
    size = min(each["total_bytes"] for each in found["memory"])
    least = [each["method"] for each in found["memory"] if each["total_bytes"] == size]
    assert least == ["acco", "dpu", "wp"]
    answer = next(text for text in read.text if "the least memory" in text)
    assert f"least memory is needed by acco, dpu and wp: {size / 1e9:.1f} GB per" in answer
    assert answer.endswith(f"These do not fit: {', '.join(short)}.")
    assert len(read.named("svg")) == 1


def test_a_page_of_a_sweep_says_what_was_varied(tmp_path: Path, bandwise: Bandwise) -> None:
    path = tmp_path / "sweep.html"
    ran = bandwise("sweep", *ASKED, "--over", "rtt=10ms,100ms", "--jobs", "1", "--html", path)
    assert ran.status == 0, ran.err
    read = page(path)
    place = read.cells.index("--over")
    assert read.cells[place - 2 : place] == ["rtt", "10ms,100ms"]
    assert any("Of 2 runs the fastest" in text for text in read.text)


def test_the_answer_has_the_figures_of_json(tmp_path: Path, bandwise: Bandwise) -> None:
    path = tmp_path / "run.html"
    run = bandwise("simulate", *ASKED, "--json", "--html", path).json
    read = Read(path.read_text())
    answer = next(text for text in read.text if "compute utilization is" in text)
    assert f"utilization is {100 * run['compute_utilization']:.1f} %" in answer
    assert "exposed communication" in answer
    assert run["scenario_sha256"] in read.cells


def test_a_study_has_its_curves_and_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(
        'name = "small"\n[model]\nparameters = "1B"\n[method]\nname = "diloco"\nsync_every = 5\n'
        '[[site]]\ncount = 2\nstep_time = "1 s"\n[run]\nrounds = 8\n[study.axis]\n'
        '"network.bandwidth" = ["1 Gbit/s", "10 Gbit/s"]\n'
    )
    assert bandwise("study", "small.toml", "--out", "out", "--html", "page.html").status == 0
    read = page(Path("page.html"))
    assert len(read.named("svg")) == 2
    assert "study.axis.network.bandwidth" in read.cells
    assert "network.bandwidth" not in read.cells  # what is varied was not assumed
    assert "network.rtt" in read.cells
    assert any("Of 2 runs the fastest" in text for text in read.text)
    assert not any("Next:" in text for text in read.text)


def test_names_are_text_whatever_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "a&b <i>.toml"
    Path(name).write_text(NASTY)
    odd = "--set=run.seed=3"
    for command in (("simulate",), ("compare", "--methods", "ddp,diloco")):
        ran = bandwise(*command, name, odd, "--html", "<b>&.html")
        assert ran.status == 0, ran.err
        read = page(Path("<b>&.html"))
        text = " ".join(read.text)
        assert '<script>alert(1)</script> & "co"' in text
        assert "<script>x</script>&amp;" in read.cells
        assert name in read.cells
        again = shlex.join(["bandwise", *command, name, odd, "--html", "<b>&.html"])
        assert again in read.text
    assert any("<script>x</script>&amp;" in text for text in read.text)


def test_a_method_of_the_users_is_run_by_the_command_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    """Its name, with signs of HTML in its file's, is text; importing it happens once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine_html.py").write_text(
        "with open('imported', 'a') as file:\n    file.write('x')\n\n\n"
        "def mine(worker):\n    while worker.next_round(steps=1):\n"
        "        yield worker.compute(worker.model.inner_step, commits=True)\n"
    )
    ran = bandwise("simulate", "--model", "1B", "--method", "mine_html:mine", "--html", "page.html")
    assert ran.status == 0, ran.err
    assert "mine_html:mine" in page(Path("page.html")).cells
    assert Path("imported").read_text() == "x"


def test_the_file_is_tried_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.html").mkdir()
    for name, text in (
        ("page.pdf", 'error: --html: "page.pdf" must end in .html or .htm'),
        ("none/page.html", "error: --html: there is no folder none"),
        ("folder.html", "error: --html: folder.html is a folder"),
    ):
        ran = bandwise("simulate", *ASKED, "--html", name)
        assert ran.status == 2
        assert ran.out == ""
        assert text in ran.err


def test_inputs_are_those_of_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    """A file that is edited while a command runs does not change what the page says of it."""
    monkeypatch.chdir(tmp_path)
    path = Path("mine.toml")
    path.write_text(NASTY)
    show = __import__("sim.cli.simulate", fromlist=["show"]).show

    def edited(*arguments: object) -> None:
        path.write_text(NASTY.replace("sync_every = 5", "sync_every = 7"))
        show(*arguments)

    monkeypatch.setattr("sim.cli.simulate.show", edited)
    assert bandwise("simulate", path, "--html", "page.html").status == 0
    cells = page(Path("page.html")).cells
    assert cells[cells.index("method.sync_every") + 1] == "5"


def test_a_quoted_word_is_the_word_again() -> None:
    for word in ("plain", "two words", "it's", "a\x1b[31mb'", "new\nline\\", "\u202etxt", "50%"):
        shown = quoted(word)
        assert shown.isprintable()
        done = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True)
        assert done.stdout == word.encode()


def test_a_page_that_would_be_too_large_loses_pictures_and_says_so() -> None:
    pictures = [Picture(f"Picture {n}.", f"<svg>{'x' * 900_000}</svg>") for n in range(4)]
    text = written(Page("Large", "", "", [Part("Pictures", pictures)]))
    assert len(text.encode()) < MOST_BYTES
    assert text.count("<svg>") == 2
    assert "Left out, because the page would be too large: Picture 2." in text


def test_a_table_of_many_rows_says_how_many_are_not_shown() -> None:
    rows = [{"n": number} for number in range(1_000)]
    text = table(Table([Column("n", "n", "number")], rows), "rows")
    assert text.count("<tr>") == 501
    assert "500 more rows are not shown here." in text


def test_a_report_without_an_answer_is_a_page_too() -> None:
    """A command needs nothing but the report that it shows anyway."""
    report = Report(["Text.\n  typed < here"], {}, Table([], []))
    read = Read(as_html_page(report, Inputs()))
    assert "typed < here" in read.text


def test_styles_and_names_of_a_picture_stay_inside_it() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    ax.bar([1, 2], [1, 2], hatch="//", label='url(#x) id="y" </svg>&')
    ax.legend()
    first, second = (as_svg(figure, "<title> & more", name) for name in ("one", "two"))
    assert "<style" not in first
    used = set(re.findall(r"url\(#([\w-]+)\)", first.replace("url(#x)", "")))
    assert used
    assert used <= set(re.findall(r' id="([\w-]+)"', first))
    assert all(name.startswith("one-") for name in used)
    assert re.search(r'<pattern.*fill="#[0-9a-f]{6}"', first)  # a color is no reference
    assert not used & set(re.findall(r' id="([\w-]+)"', second))
    assert "&lt;/svg&gt;&amp;" in first


def test_python_returns_the_same_page_without_a_command(tmp_path: Path, bandwise: Bandwise) -> None:
    import sim

    path = tmp_path / "page.html"
    bandwise("simulate", "--model", "1B", "--steps", "200", "--html", path)
    typed = Read(path.read_text())
    result = sim.simulate(sim.make_scenario(model="1B", steps=200))
    (tmp_path / "python.html").write_text(result.to_html())
    called = page(tmp_path / "python.html")
    assert set(called.cells) ^ set(typed.cells) <= {"--model", "--steps", "model", "steps", "200"}
    assert not called.named("pre")
    assert json.dumps(result.figures["scenario_sha256"])[1:-1] in called.cells
