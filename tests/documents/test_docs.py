"""The documentation: it builds without a warning and fetches nothing, and what it shows is so.

Each page is read in an empty folder with nothing but the wheel (tests/support/read_page.py). What
is not run says why.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.fences import fences

from sim.methods import METHODS
from sim.output import columns, run_record
from sim.questions.replications import predicted
from sim.questions.study import row
from sim.scenario import load
from sim.scenario.axes import known_keys
from sim.trace import table as trace

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
LANGUAGES = {"", "sh", "text", "python", "toml", "{toctree}", "{eval-rst}"}
NOT_RUN = {
    "how-to/calibrate_two_machines.md": [
        "looks at the machine, whose state no test decides",
        "needs two machines",
        "needs root, and takes minutes",
    ],
    "how-to/data_and_model.md": [
        "needs the extra [datasets]",
        "waits for more until it is ended",
        "needs the extra [tensorboard]",
        "needs the extra [wandb]",
    ],
    "how-to/large_studies.md": [
        *("needs a Dask cluster", "needs Slurm", "needs a Ray cluster", "needs a Dask cluster")
    ],
    "how-to/predict_your_own_script.md": [
        "records the same again",
        "needs root",
        "a part of a training script",
    ],
    "how-to/published_and_planned_runs.md": ["takes half a minute"],
    "how-to/validate_on_a_cluster.md": [
        "needs two machines",
        "needs Slurm",
        "needs two machines",
        "needs two machines",
        "needs Slurm",
        "needs two machines",
        "needs two machines",
        "trains for a minute or two",
    ],
    "how-to/what_if_page.md": ["installs packages", "serves until it is ended"],
    "how-to/your_script_on_an_emulated_wan.md": ["needs root", "needs root", "needs root"],
    "how-to/write_a_method.md": [
        "a part of sim/methods/diloco.py",
        "a part of a method",
        "a part of sim/theory/recurrences.py",
    ],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages, warnings as errors."""
    pytest.importorskip("furo")
    out = tmp_path_factory.mktemp("docs")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", out / "trees"]
    done = subprocess.run([*build, DOCS, out / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_the_pages_fetch_nothing(site: Path) -> None:
    """No font, script, style or picture is somebody else's."""
    fetched = re.compile(
        r"<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
        r"|@import\s+[^;]*//[^;]*|url\(\s*[\"']?(?:https?:)?//[^)]*",
        re.IGNORECASE,
    )
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len([path for path in files if path.suffix == ".html"]) > len(PAGES)
    found = {path.name: fetched.findall(path.read_text(encoding="utf-8")) for path in files}
    assert not {name: each for name, each in found.items() if each}


@pytest.mark.parametrize(
    "mark",
    [
        '<link rel="stylesheet" href="https://fonts.example/x.css">',
        "<script src='//cdn.example/x.js'></script>",
        "@import url(http://fonts.example/x.css);",
    ],
)
def test_what_is_fetched_would_be_found(tmp_path: Path, mark: str) -> None:
    for number in range(len(PAGES) + 1):
        (tmp_path / f"{number}.html").write_text("<p>nothing</p>")
    test_the_pages_fetch_nothing(tmp_path)
    (tmp_path / "0.html").write_text(mark)
    with pytest.raises(AssertionError):
        test_the_pages_fetch_nothing(tmp_path)


def test_the_reference_has_every_key_method_and_column(site: Path) -> None:
    text = {path.stem: path.read_text() for path in (site / "reference").glob("*.html")}
    words = {
        name: set(re.findall(r'<span class="pre">([^<]+)</span>', text[name])) for name in text
    }
    sections = {"run", "model", "method", "site", "network", "memory", "train", "data"}
    keys = {
        key
        for key in known_keys()
        if key not in {*sections, "network.within", "network.collective"}
    }
    assert keys <= words["scenario_keys"]
    assert all(f'id="{name.replace("_", "-")}"' in text["methods"] for name in METHODS)
    assert set(trace.COLUMNS) <= words["columns"]


def test_a_key_without_a_sentence_ends_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    sphinx = pytest.importorskip("sphinx.errors")
    monkeypatch.syspath_prepend(str(DOCS / "_extensions"))
    import generated

    monkeypatch.setitem(trace.MEANINGS, "rank", " ")
    with pytest.raises(sphinx.ExtensionError, match="rank has no sentence"):
        generated.trace_columns()
    monkeypatch.setattr(generated.StudySection.model_fields["ask"], "description", None)
    with pytest.raises(sphinx.ExtensionError, match=r"study\.ask has no sentence"):
        generated.study_keys()


def test_the_columns_of_results_are_those_that_are_explained() -> None:
    options = {"--model": "1B", "--accelerators": "8 x H100", "--steps": "100"}
    priced = ["site.price=2 USD/h", "site.egress_price=50 USD/TB", "site.power=700 W"]
    varying = ['network.profile=[["0 s", 1.0], ["5 s", 0.5]]', "network.profile_period=10 s"]
    scenario = load(None, options, [*priced, *varying, "site.inside.method=fsdp"])
    found = predicted(scenario)
    study = row({}, scenario, found)
    one, measured = (
        run_record.row(scenario, found.figures, "", found.interval, measured=measured)
        for measured in (False, True)
    )
    assert set(study) == {*columns.RUNS, *columns.STUDY}
    assert {*one, *measured} == {*columns.RUNS, *columns.ONE_RUN}


def test_what_no_test_runs_says_why() -> None:
    found = {}
    for page in PAGES:
        blocks = fences((DOCS / page).read_text())
        assert {block.language for block in blocks} <= LANGUAGES, page
        if reasons := [block.not_run for block in blocks if block.not_run]:
            found[page] = reasons
    assert found == NOT_RUN


def test_every_page_is_in_the_table_of_its_part() -> None:
    """With a sentence on what it is for."""
    for page in PAGES:
        path = DOCS / page
        index = (path.parent / "index.md").read_text()
        if path.name != "index.md":
            assert re.search(rf"^\| \[[^\]]+\]\({path.name}\) \| .{{15,}} \|$", index, re.M), page


def test_every_file_that_a_page_names_exists() -> None:
    """In the font of code, with its folder; a capital word stands for a name of the reader's."""
    folders = "sim|realrun|tests|benchmarks|validation|scenarios|notebooks|docs"
    named = re.compile(rf"`((?:{folders})/[\w./-]*)`")
    found = [(page, path) for page in PAGES for path in named.findall((DOCS / page).read_text())]
    assert len(found) > 50
    missing = [
        f"{page}: {path}"
        for page, path in found
        if not (ROOT / path).exists() and not re.search(r"\bNAME\b", path)
    ]
    assert not missing, missing


RUN = [page for page in PAGES if re.search(r"^```(sh|python)", (DOCS / page).read_text(), re.M)]


@pytest.mark.parametrize("page", RUN)
def test_what_a_page_shows_is_so(page: str, tmp_path: Path, reader: dict[str, str]) -> None:
    if "realrun train" in (DOCS / page).read_text():
        pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-m", "support.read_page", DOCS / page],
        cwd=tmp_path, env=reader, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
