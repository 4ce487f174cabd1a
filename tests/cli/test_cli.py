"""The command line: what is printed where, in which format, with which exit status."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from math import inf, nan
from pathlib import Path

import pytest
from support.command_line import Bandwise, Ran

from sim.cli import app, main
from sim.cli.app import COMMANDS
from sim.methods import METHODS
from sim.output.tables import as_json
from sim.scenario import OPTIONS
from sim.scenario.signatures import arguments

SMALL = ("--model", "1B", "--sites", "2", "--rounds", "3")
STUDY = """
name = "small"
[run]
steps = "steady"
[model]
name = "1B"
[method]
name = "diloco"
sync_every = 10
[[site]]
count = 2
[network]
bandwidth = "1 Gbit/s"
per = "pair"
[study]
ask = "required_bandwidth"
targets = ["50 %", "95 %"]
grid = { bandwidth = "0.1 Gbit/s .. 1000 Gbit/s", points = 9 }
printing = "grid_point_reaching"
compare_with = "published.csv"
[study.axis.method]
"DiLoCo" = {}
"data-parallel" = { method = { name = "ddp" } }
"""


def in_a_process(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "sim.cli"]
    return subprocess.run(
        [sys.executable, *start, *arguments], capture_output=True, text=True, check=False
    )


def test_without_arguments_it_shows_three_questions(bandwise: Bandwise) -> None:
    ran = bandwise()
    assert ran.status == 0
    assert ran.out.count("?\n  bandwise ") == 3


def test_the_questions_it_shows_have_answers(bandwise: Bandwise) -> None:
    for line in re.findall(r"^  (bandwise .*)$", bandwise().out, re.MULTILINE):
        ran = bandwise(*line.split()[1:])
        assert ran.status == 0, line
        assert all(said.startswith("compare: ") for said in ran.err.splitlines()), line
        assert "nothing was trained" in ran.out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_explains_itself(bandwise: Bandwise, command: str, flag: str) -> None:
    ran = bandwise(command, flag)
    assert ran.status == 0
    assert f"Usage: bandwise {command}" in ran.out
    assert " ".join(COMMANDS[command].split()) in " ".join(ran.out.split())


def test_help_has_an_option_for_every_key_in_its_panel(bandwise: Bandwise) -> None:
    text = bandwise("simulate", "-h").out
    for option, described in OPTIONS.items():
        assert option in text
        assert f" {described.panel} " in text


def test_the_version_is_printed(bandwise: Bandwise) -> None:
    assert re.fullmatch(r"bandwise \d+\.\d+\.\d+\n", bandwise("--version").out)


def test_simulate_says_first_that_nothing_was_trained(bandwise: Bandwise) -> None:
    ran = bandwise("simulate", *SMALL)
    assert ran.status == 0
    assert ran.out.startswith("A prediction by simulation: nothing was trained.")
    for part in ("utilization", "wall-clock", "tokens per update", "Where the time went"):
        assert part in ran.out
    assert "all_reduce (bf16): ring over 2 workers" in ran.out
    assert re.search(r"^network\.rtt +30 ms$", ran.out, re.MULTILINE)
    assert "network.bandwidth" in ran.out


def test_simulate_json_has_the_promised_keys(bandwise: Bandwise) -> None:
    data = bandwise("simulate", *SMALL, "--json").json
    assert {
        "method",
        "evaluated_rounds",
        "whole_run",
        "total_wall_clock_s",
        "compute_utilization",
        "breakdown",
        "peak_bandwidth_bytes_per_s",
        "tokens_per_update",
        "collective_model",
        "assumed",
        "scenario_sha256",
    } <= set(data)
    assert sum(data["breakdown"].values()) == pytest.approx(1)
    assert data["assumed"]["network.rtt"] == "30 ms"


def test_what_was_derived_is_listed(bandwise: Bandwise) -> None:
    machine = ("--accelerators", "64 x H100", "--batch-tokens", "1Mi", "--mfu", "40%")
    ring = ("--sites", "a,b,c", "--set", "network.collective.order=best", "--rounds", "3")
    ran = bandwise("simulate", "--model", "10B", *machine, *ring)
    assert "Not given, so assumed, derived or read from the hardware file" in ran.out
    rate = "64 x 989 TFLOP/s x 40 %"
    assert f"site.step_time                 2.48 s (6 x parameters x tokens / ({rate}))" in ran.out
    assert re.search(r"network\.collective\.order +a, b, c \(the best\)", ran.out)


def test_a_horizon_rounded_up_to_whole_rounds_is_said(bandwise: Bandwise) -> None:
    asked = ("simulate", "--model", "1B", "--batch-tokens", "1M", "--sync-every", "300")
    steps = bandwise(*asked, "--steps", "1000").out
    assert "1200 steps: 1000 asked, rounded up to whole rounds" in steps
    tokens = bandwise(*asked, "--tokens", "2B").out
    assert "for 2.4B tokens (2B asked)" in tokens
    assert "asked" not in bandwise(*asked, "--steps", "600").out
    assert "asked" not in bandwise(*asked, "--tokens", "2.4B").out


def test_each_worker_has_its_rank_and_site_in_json(bandwise: Bandwise) -> None:
    data = bandwise("simulate", *SMALL, "--sites", "a,b", "--workers", "2", "--json").json
    workers = data["breakdown_by_worker"]
    assert [(w["rank"], w["site"]) for w in workers] == [(0, "a"), (1, "a"), (2, "b"), (3, "b")]


def test_json_is_short_for_format_json(bandwise: Bandwise) -> None:
    assert bandwise("simulate", *SMALL, "--json") == bandwise(
        "simulate", *SMALL, "--format", "json"
    )


def test_what_is_no_number_is_null_in_json() -> None:
    text = as_json({"a": [nan, inf, 1.5], "b": {"c": -inf}})
    assert json.loads(text) == {"a": [None, None, 1.5], "b": {"c": None}}


def test_csv_has_si_numbers_under_names_that_say_so(bandwise: Bandwise) -> None:
    (row,) = csv.DictReader(io.StringIO(bandwise("simulate", *SMALL, "--format", "csv").out))
    data = bandwise("simulate", *SMALL, "--json").json
    assert float(row["total_wall_clock_s"]) == data["total_wall_clock_s"]
    assert float(row["compute_fraction"]) == data["breakdown"]["compute"]


def test_markdown_tables_are_whole(bandwise: Bandwise) -> None:
    out = bandwise("compare", *SMALL, "--methods", "ddp,diloco", "--format", "markdown").out
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert rows[0].startswith("| method")


def test_output_into_a_pipe_has_no_colors_and_nothing_is_cut(bandwise: Bandwise) -> None:
    for command in (("compare", *SMALL), ("simulate", *SMALL), ("methods",), ("scenarios",)):
        out = bandwise(*command).out
        assert "\x1b" not in out
        assert "…" not in out
        assert not re.search(r" $", out, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_a_terminal_without_breaking_words(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    from rich.console import Console

    monkeypatch.setattr("sim.output.show._console", lambda: Console(width=width, markup=False))
    for command in (("compare", *SMALL), ("required", *SMALL), ("simulate", *SMALL)):
        lines = bandwise(*command).out.splitlines()
        assert max(map(len, lines)) <= width
        assert not {"utilizati", "communica"} & {word for line in lines for word in line.split()}


def test_set_reaches_any_key(bandwise: Bandwise) -> None:
    ran = bandwise("simulate", *SMALL, "--set", "network.rtt=80ms", "--json")
    assert "network.rtt" not in ran.json["assumed"]


def test_a_trace_is_written_replayed_and_drawn(bandwise: Bandwise, tmp_path: Path) -> None:
    trace = tmp_path / "trace.parquet"
    first = bandwise("simulate", *SMALL, "--method", "acco", "--trace", trace, "--json")
    assert first.err == f"bandwise: wrote {trace}\n"
    again = bandwise("simulate", *SMALL, "--method", "acco", "--replay", trace, "--json")
    assert again.json["total_wall_clock_s"] == first.json["total_wall_clock_s"]
    picture = tmp_path / "timeline.png"
    drawn = bandwise("plot", trace, "--kind", "timeline", "--end", "5s", "--out", picture)
    assert (drawn.status, picture.stat().st_size > 1000) == (0, True)
    assert "rounds 2 and 3" not in drawn.err


def test_of_a_long_trace_two_rounds_are_drawn(bandwise: Bandwise, tmp_path: Path) -> None:
    trace, picture = tmp_path / "trace.parquet", tmp_path / "timeline.svg"
    local = ("--method", "diloco", "--sync-every", "3", "--rounds", "6")
    bandwise("simulate", *SMALL[:4], *local, "--trace", trace)
    drawn = bandwise("plot", trace, "--kind", "timeline", "--out", picture)
    assert re.match(r"bandwise: drawn are rounds 2 and 3 of \d+; --begin", drawn.err)


def test_a_picture_has_a_title(bandwise: Bandwise, tmp_path: Path) -> None:
    from sim.figures import plots
    from sim.trace.files import load

    trace = tmp_path / "trace.parquet"
    bandwise("simulate", *SMALL, "--method", "diloco", "--trace", trace)
    assert plots.title_of_trace(load(trace)) == "diloco, 2 workers at site-1 and site-2"


def test_compare_relates_methods_on_equal_tokens(bandwise: Bandwise) -> None:
    sites = ("--sites", "a,b,c", "--set", "site.a.speed=0.5", "--set", "site.b.speed=2")
    # So fast that acco computes few micro-batches while it communicates.
    asked = ("compare", "--model", "1B", *sites, "--bandwidth", "40Gbit/s", "--methods", "ddp,acco")
    ran = bandwise(*asked)
    assert "Final loss is not predicted" in ran.out
    assert "without b" in ran.out
    data = bandwise(*asked, "--json").json
    assert [row["method"] for row in data["methods"]] == ["ddp", "acco"]
    assert {row["left_out"] for row in data["without"]} == {"a", "b", "c"}
    for row in data["methods"]:
        assert row["time_for_tokens_s"] * row["speed_up_over_best_site"] == pytest.approx(
            data["best_single_site"]["time_for_tokens_s"]
        )
        assert row["updates"] * row["tokens_per_update"] == pytest.approx(data["tokens"])


def test_compare_takes_all_six_methods_by_default(bandwise: Bandwise) -> None:
    rows = csv.DictReader(io.StringIO(bandwise("compare", *SMALL, "--format", "csv").out))
    assert [row["method"] for row in rows] == [
        "ddp",
        "local_sgd",
        "diloco",
        "streaming_diloco",
        "eager_diloco",
        "acco",
    ]


def test_required_finds_the_bandwidth_or_says_who_is_waited_for(bandwise: Bandwise) -> None:
    slow = ("--sites", "paris,osaka", "--set", "site.osaka.step_time=0.2s")
    asked = ("required", "--model", "1B", "--method", "diloco", *slow, "--target", "50%,95%")
    data = bandwise(*asked, "--json").json["required"]
    assert [answer["target_fraction"] for answer in data] == [0.5, 0.95]
    assert [answer["outcome"] for answer in data] == ["reached", "not reached"]
    assert data[0]["compute_utilization"] == pytest.approx(0.5, abs=0.01)
    assert data[1]["waiting_for"] == "osaka"
    assert "not reached: at most 75 %, waiting for osaka" in bandwise(*asked).out


def test_required_sizes_one_link_by_name(bandwise: Bandwise) -> None:
    asked = ("required", "--model", "1B", "--sites", "a,b", "--link", "a.uplink", "--target", "30%")
    rows = list(csv.DictReader(io.StringIO(bandwise(*asked, "--format", "csv").out)))
    assert [row["link"] for row in rows] == ["a.uplink"]


def test_what_no_rtt_reaches_names_other_quantities_that_can_be_asked_for(
    bandwise: Bandwise,
) -> None:
    asked = ("--model", "1B", "--step-time", "1s", "--bandwidth", "2Gbit/s", "--method", "diloco")
    asked = ("required", *asked, "--target", "99%")
    out = " ".join(bandwise(*asked, "--of", "rtt").out.split())
    assert "not reached: " in out
    assert "rtt (min)" not in out  # no value, no unit
    assert "No rtt that was tried reaches 99 %. Another quantity may: --of " in out
    named = re.findall(r"--of (\w+)", out)
    assert named == ["sync_every", "comm_dtype", "batch_tokens", "bandwidth"]  # diloco has no delay
    for name in ("sync_every", "bandwidth"):
        assert "not reached" not in bandwise(*asked, "--of", name).out


def test_required_finds_other_quantities_in_every_format(bandwise: Bandwise) -> None:
    asked = ("required", "--model", "1B", "--method", "diloco", "--bandwidth", "10Gbit/s")
    asked = (*asked, "--target", "50%,95%", "--of")
    data = bandwise(*asked, "rtt", "--json").json
    assert (data["of"], [each["outcome"] for each in data["required"]]) == (
        "rtt",
        ["reached", "not reached"],
    )
    assert data["required"][0]["rtt_s"] == pytest.approx(8.4, rel=1e-2)
    assert data["required"][0]["evaluated_rounds"]["compute_utilization"] >= 0.5
    assert "not reached: 86.2 % with 0 s" in bandwise(*asked, "rtt").out
    rows = list(csv.DictReader(io.StringIO(bandwise(*asked, "comm_dtype", "--format", "csv").out)))
    assert [row["comm_dtype"] for row in rows] == ["fp32", "fp4"]


def test_required_replaces_what_a_file_says_of_the_quantity(
    bandwise: Bandwise, tmp_path: Path
) -> None:
    text = '[model]\nname = "1B"\n[method]\nname = "diloco"\nsync_every = {}\n'
    found = []
    for steps in (3, 70):
        (tmp_path / "run.toml").write_text(text.format(steps))
        asked = ("required", str(tmp_path / "run.toml"), "--of", "sync_every", "--target", "50%")
        found.append(bandwise(*asked, "--json").json["required"])
    assert found[0] == found[1]


def test_sweep_multiplies_its_axes_and_keeps_results(bandwise: Bandwise, tmp_path: Path) -> None:
    over = ("--over", "bandwidth=0.1..10Gbit/s:3", "--over", "sync_every=10,100")
    ran = bandwise(
        "sweep", "--model", "1B", "--sites", "2", *over, "--jobs", "1", "--out", tmp_path, "--json"
    )
    assert len(ran.json["results"]) == 6
    assert "6 of 6 runs" in ran.err
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"results.csv", "results.parquet", "utilization.png", "utilization.svg"}
    for kind, results in (("utilization", "results.csv"), ("breakdown", "results.parquet")):
        picture = tmp_path / f"{kind}.pdf"
        drawn = bandwise("plot", tmp_path / results, "--kind", kind, "--out", picture)
        assert drawn == Ran(0, "", f"bandwise: wrote {picture}\n")


@pytest.fixture
def small_study(tmp_path: Path) -> Path:
    (tmp_path / "small.toml").write_text(STUDY)
    (tmp_path / "published.csv").write_text(
        "method,target,gbit_per_s\nDiLoCo,50 %,3.2\ndata-parallel,50 %,100.0\n"
    )
    return tmp_path / "small.toml"


def test_study_prints_the_table_beside_the_published(
    bandwise: Bandwise, small_study: Path, tmp_path: Path
) -> None:
    ran = bandwise("study", small_study, "--out", tmp_path / "out", "--jobs", "1")
    assert ran.status == 0
    assert re.search(r"DiLoCo +\S+ \(3\.2\)", ran.out)
    assert ran.out.splitlines()[-1] == f"  bandwise reproduce {small_study}"
    assert "18 of 18 runs" in ran.err
    assert (tmp_path / "out" / "utilization.svg").exists()


def test_reproduce_fails_outside_the_tolerance(bandwise: Bandwise, small_study: Path) -> None:
    ran = bandwise("reproduce", small_study, "--jobs", "1", "--within", "0", "--json")
    exact = all(cell["grid_steps"] == 0 for cell in ran.json["table"])
    assert ran.json["passed"] == exact
    assert ran.status == (0 if exact else 1)
    wide = bandwise("reproduce", small_study, "--jobs", "1", "--within", "9")
    assert wide.status == 0
    assert "As the study expects: 0 of 2 cells" in wide.out


def test_methods_lists_every_method_with_its_paper(bandwise: Bandwise) -> None:
    listed = bandwise("methods", "--json").json
    assert [method["method"] for method in listed] == list(METHODS)
    assert all(method["arxiv"] and method["papers"] for method in listed)


def test_a_method_that_is_named_is_shown_with_its_arguments(bandwise: Bandwise) -> None:
    shown = bandwise("methods", "streaming_diloco", "ddp")
    assert "Arguments of streaming_diloco" in shown.out
    assert "Arguments of ddp" in shown.out
    assert "Layers of a fragment" in shown.out
    rows = {
        row["argument"]: row
        for method in bandwise("methods", "ddp", "acco", "--json").json
        for row in method["arguments"]
    }
    assert rows["bucket_bytes"]["default"] == "26214400"
    assert rows["overlap"]["allowed"] == '"none", "bucket" or "layer"'


@pytest.mark.parametrize("name", METHODS)
def test_every_argument_of_ours_has_a_sentence(name: str) -> None:
    without = [each.name for each in arguments(METHODS[name]) if not each.meaning]
    assert not without, f"{name}: no text under Parameters for {', '.join(without)}"


def test_cite_prints_an_entry_for_every_paper_named(bandwise: Bandwise) -> None:
    entries = bandwise("methods", "--cite").out
    for method in bandwise("methods", "--json").json:
        for number in method["arxiv"]:
            assert f"{{{number}}}" in entries
    assert bandwise("methods", "diloco", "--cite").out.count("@article") == 1


def test_a_method_of_ones_own_is_described_and_may_lack_bibtex(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own_described.py").write_text(
        'def half(worker):\n    """Do half.\n\n    Notes\n    -----\n'
        '    Author et al. 2026, "Title", arXiv:9999.99999.\n    """\n    yield\n'
    )
    monkeypatch.chdir(tmp_path)
    (row,) = bandwise("methods", "own_described:half", "--json").json
    assert row == {
        "method": "own_described:half",
        "summary": "Do half.",
        "papers": ["Author et al. 2026"],
        "arxiv": ["9999.99999"],
        "arguments": [],
    }
    cited = bandwise("methods", "own_described:half", "--cite")
    assert (cited.status, cited.out) == (0, "no BibTeX yet for arXiv:9999.99999\n")


def test_our_own_methods_all_have_bibtex(bandwise: Bandwise) -> None:
    assert "no BibTeX" not in bandwise("methods", "--cite").out


def test_scenarios_are_listed_and_shown(bandwise: Bandwise) -> None:
    names = [row["name"] for row in bandwise("scenarios", "--json").json]
    assert "three_sites" in names
    assert bandwise("simulate", "three_sites").status == 0
    assert "[[site]]" in bandwise("scenarios", "--show", "three_sites").out


def test_init_writes_a_file_that_simulates_and_keeps_what_is_there(
    bandwise: Bandwise, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    assert bandwise("init", file, "--sites", "paris,dallas,osaka").status == 0
    assert bandwise("simulate", file).status == 0
    refused = bandwise("init", file)
    assert refused == Ran(
        2, "", f"bandwise: error: {file}: is there already; --force overwrites it\n"
    )
    assert bandwise("init", file, "--force").status == 0


MISTAKES = [
    ("simulat", 'no such command "simulat"; did you mean "simulate"?'),
    ("simulate --bandwith 1Gbit/s", '--bandwith: no such option; did you mean "--bandwidth"?'),
    ("serve --port 0x", '--port: "0x": must be a valid integer'),
    ("sweep --jobs 0", '--jobs: "0": must be greater than or equal to 1'),
    ("serve --port=1 --port=70000", '--port: "70000": must be less than or equal to 65535'),
    ("required --find rtt", '--find: no such option; did you mean "--of"?'),
    ("required --model 1B --no-sensitivity", "--no-sensitivity: no such option; leave it out: "),
    ("simulate --rtt", "--rtt: needs a value, like 30ms"),
    ("simulate --json=1", "--json: takes no value"),
    ("simulate a b", 'unexpected "b"; see bandwise simulate -h'),
    ("simulate --model 1B --format jsno", '--format: unknown "jsno"; did you mean "json"?'),
    ("simulate --model 1B --bandwidth 5", '--bandwidth: "5": no unit; write it like "1 Gbit/s"'),
    ("simulate nowhere.toml", "nowhere.toml: no such file"),
    ("simulate --model 1B --trace here.txt", '--trace: "here.txt" must end in .parquet'),
    ("simulate --model 1B --trace no/x.csv", "--trace: there is no folder no"),
    ("simulate --model 1B --replay no.csv", "no.csv: No such file or directory"),
    (
        "simulate --model 1B --method ddp --overlap layer --set method.zero1=true",
        "method.ddp: zero1 = true goes with",
    ),
    ("simulate --json --format csv --model 1B", "--json: says the same as --format json"),
    (
        "compare --model 1B --methods ddp,dilco",
        '--methods: unknown "dilco"; did you mean "diloco"?',
    ),
    ("required --model 1B --sites 2 --target 5x", '--target: "5x": unknown unit'),
    ("required --model 1B --sites 2 --target 0%", '--target: "0%": must be above 0 %'),
    ("required --model 1B --sites 2 --target 100%", '--target: "100%": must be below 100 %'),
    ("simulate --goodput 90%", "--goodput: no such option; use --set network.goodput=90%"),
    ("simulate --outer-lr=0.3", "--outer-lr: no such option; use --set method.outer_lr=0.3"),
    ("simulate --peak", "--peak: no such option; use --set site.peak=..."),
    (
        "simulate --model 1B --jitter 0.3",
        '--jitter: "0.3": needs a distribution; did you mean "lognormal:0.3"?',
    ),
    ("plot no.csv --out x.png --end 3s", "--end: is for --kind timeline"),
    ("methods nowhere:half_time", "nowhere:half_time: there is no module nowhere"),
    ("required --model 1B --sites 1", "the scenario has one site, so there is no link to size"),
    (
        "required --model 1B --sites a,b --set network.per=pair --link a-c",
        '--link: unknown "a-c"; did you mean "a-b"?',
    ),
    ("required --of rt", '--of: unknown "rt"; did you mean "rtt"? (one of bandwidth, rtt,'),
    (
        "required --model 1B --of rtt --latency 3ms",
        "--latency: --of rtt finds its value; leave one of the two options out",
    ),
    (
        "required --model 1B --of comm_dtype --set method.comm_dtype=int8",
        "--set method.comm_dtype: --of comm_dtype finds its value",
    ),
    ("required --model 1B --of rtt --link a-b", "--link sizes a bandwidth: leave it out"),
    ("required --model 1B --method ddp --of delay", "ddp takes neither outer_sync_delay ("),
    (
        "required --model 1B --sites 1 --of rtt",
        "the scenario has one site, so there is no round trip",
    ),
    ("sweep --model 1B", "--over: missing"),
    ("sweep --model 1B --over rtt=1ms --jobs x", "--jobs: "),
    ("study", "FILE is missing; see bandwise study -h"),
    ("study three_sites", "--out: is missing; write --out DIR"),
    ("study three_sites --out /dev/null", "--out: /dev/null is a file; name a folder"),
    ("plot no.csv --out x.png", "no.csv: no such file"),
    ("plot /dev --out x.png", "/dev: is a folder"),
    ("plot no.csv --out x.gif", '--out: "x.gif" must end in .png, .svg or .pdf'),
    ("plot no.csv --out x.png --kind pie", '--kind: unknown "pie"'),
    ("reproduce nothing", 'no published table "nothing"'),
    ("methods dilco", 'NAME: unknown "dilco"; did you mean "diloco"?'),
    ("methods --cite --json", "--cite: prints BibTeX"),
    ("scenarios --show three", '--show: unknown "three"; did you mean "three_sites"?'),
    ("init mine.tml", 'FILE: "mine.tml" must end in .toml'),
    ("init no/mine.toml", "FILE: there is no folder no"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_status_2(
    bandwise: Bandwise,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = bandwise(*arguments.split())
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"bandwise: error: {message}")
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_trace_or_result_is_refused(bandwise: Bandwise, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    for command in (
        ("simulate", *SMALL, "--replay", wrong),
        ("plot", wrong, "--out", tmp_path / "x.png"),
        ("plot", wrong, "--kind", "timeline", "--out", tmp_path / "x.png"),
    ):
        ran = bandwise(*command)
        assert ran.status == 2
        assert str(wrong) in ran.err
        assert ran.err.count("\n") == 1


def test_ctrl_c_is_one_line_and_status_130(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.questions.replications.predicted", interrupted)
    assert bandwise("simulate", *SMALL) == Ran(130, "", "bandwise: interrupted\n")


@pytest.mark.parametrize(
    ("end", "ran"),
    [
        (KeyboardInterrupt(), Ran(130, "", "bandwise: interrupted\n")),
        (SystemExit(143), Ran(143, "", "")),  # of the handler, which has said why
    ],
)
def test_cleaning_up_that_fails_after_ctrl_c_or_a_signal_is_not_told(
    end: BaseException, ran: Ran, bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            raise end
        finally:
            raise AttributeError("cleaning up")

    monkeypatch.setattr("sim.questions.replications.predicted", interrupted)
    assert bandwise("simulate", *SMALL) == ran


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("sim.questions.replications.predicted", broken)
    monkeypatch.setattr(sys, "argv", ["bandwise", "simulate", *SMALL])
    with pytest.raises(RuntimeError, match="ours"):
        main()


@pytest.mark.parametrize(
    "arguments",
    [
        ("sim.cli", "simulate", *SMALL),
        ("sim.cli", "methods"),
        ("sim.cli", "-h"),
        ("sim.cli", "simulate", "-h"),
        ("realrun", "-h"),
    ],
    ids=" ".join,
)
def test_a_reader_that_stops_reading_is_no_error(arguments: tuple[str, ...]) -> None:
    if arguments[0] == "realrun":
        pytest.importorskip("torch")
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


def test_nobody_who_reads_an_error_is_no_error() -> None:
    process = subprocess.Popen([sys.executable, "-m", "sim.cli", "nope"], stderr=subprocess.PIPE)
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait() == 141


def test_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys; import sim.cli; print(*sys.modules)"
    loaded = set(in_a_process(code=code).stdout.split())
    assert not loaded & {"numpy", "pandas", "matplotlib", "pydantic", "simpy", "rich"}


def test_simulate_does_without_pandas_and_matplotlib() -> None:
    code = (
        "import sys, contextlib; from sim.cli import main; sys.argv[0] = 'bandwise'\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "assert not {'pandas', 'pyarrow', 'matplotlib', 'cloudpickle'} & set(sys.modules)"
    )
    ran = in_a_process("simulate", *SMALL, code=code)
    assert ran.returncode == 0, ran.stderr


def test_the_app_is_importable_for_others() -> None:
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["simulate", *SMALL, "--json"])
    assert result.exit_code == 0
    assert CliRunner().invoke(app, ["simulate", "--nonsense"]).exit_code == 2
