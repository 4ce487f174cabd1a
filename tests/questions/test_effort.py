"""What a prediction will take is estimated before it is begun, and what cannot fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import Bandwise

from sim.network.links import Links
from sim.output import effort as spoken
from sim.processes import free_memory
from sim.questions.effort import ROW_S, _count, effort
from sim.runtime import simulate
from sim.scenario import load

ALONE = {"--model": "1B", "--step-time": "1s"}
RUN = ("--model", "1B", "--step-time", "1s", "--method", "diloco", "--rounds", "2")


@pytest.mark.parametrize(
    "options",
    [
        {"--method": "ddp"},
        {"--method": "ddp", "--overlap": "bucket"},
        {"--method": "diloco", "--overlap": "layer"},
        {"--method": "streaming_diloco", "--sync-every": "50"},
        {"--method": "local_sgd", "--sites": "3", "--jitter": "normal:0.1"},
        {"--method": "eager_diloco", "--comm-dtype": "int8"},
        {"--method": "delayed_diloco"},
    ],
)
def test_the_rows_of_a_round_are_counted_without_simulating_it(options: dict[str, str]) -> None:
    scenario = load(None, {**ALONE, **options})
    trace = simulate(scenario, rounds=6)
    counted = _count(scenario)
    made = len(trace.rows) / 6
    expected = counted.rows / counted.rounds * len(trace.context.standing_for)
    assert made / 2 < expected < made * 2


@pytest.mark.parametrize(
    ("algorithm", "settings", "pairs"),
    [
        ("ring", [], False),
        ("direct", [], False),
        ("direct", ["network.stream_rate=100Mbit/s"], True),  # of every pair's own connection
        ("direct", ["network.per=pair"], True),
    ],
)
def test_the_memory_of_a_large_layout_is_that_of_its_transfers(
    algorithm: str, settings: list[str], pairs: bool
) -> None:
    few, many = (
        effort(
            load(None, {**ALONE, "--workers": str(workers), "--algorithm": algorithm}, settings)
        ).bytes
        for workers in (100, 1000)
    )
    assert many / few > 50 if pairs else many / few < 11


def test_the_messages_of_gloo_are_counted() -> None:
    scenario = load(None, {**ALONE, "--sites": "3", "--algorithm": "gloo", "--method": "diloco"})
    links = Links(scenario)
    assert links.by_messages
    counted = _count(scenario)
    assert counted.messages / counted.rounds == pytest.approx(2 * 2 * 2 * 2e9 / 2**20, rel=0.01)


@pytest.mark.parametrize("command", ["simulate", "required", "compare", "sweep"])
def test_what_does_not_fit_is_refused_before_it_is_begun(
    command: str, bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free_memory, "free_bytes", lambda: 1e6)
    monkeypatch.setattr("sim.runtime.run.Runtime", None)
    options = [word for word in RUN if word not in ("--method", "diloco")]
    more = ("--over", "rtt=1ms,2ms", "--jobs", "1") if command == "sweep" else ()
    pairs = ("--algorithm", "direct", "--set", "network.per=pair")
    ran = bandwise(command, *options, "--workers", "500", *pairs, *more)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
    for words in ("on 1,000 workers needs about ", "1 MB are free", "fewer workers"):
        assert words in ran.err


def test_a_study_that_does_not_fit_is_refused(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(free_memory, "free_bytes", lambda: 1e6)
    path = tmp_path / "s.toml"
    path.write_text(
        'model.parameters = "1B"\nsite = [{ count = 2, workers = 500, step_time = "1 s" }]\n'
        'network.collective.algorithm = "direct"\nnetwork.per = "pair"\n'
        '[study.axis]\n"run.seed" = [1, 2, 3]\n'
    )
    ran = bandwise("study", path, "--out", tmp_path / "out", "--jobs", "2")
    assert ran.status == 2
    assert "in 2 processes needs about 260 MB" in ran.err
    assert "fewer --jobs" in ran.err


def test_what_takes_long_is_said_and_what_does_not_is_not(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bandwise("simulate", *RUN).err == ""
    monkeypatch.setattr(spoken, "LONG_S", 0.0)
    ran = bandwise("simulate", *RUN)
    assert ran.status == 0
    assert ran.err.startswith("bandwise: this takes about ")
    assert ran.err.rstrip().endswith(" of memory")


def test_an_estimate_looks_at_some_of_many_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    one = effort(scenario := load(None, ALONE))
    monkeypatch.setattr("sim.questions.effort.effort", lambda each: asked.append(each) or one)
    spoken.foresee([scenario] * 1000)
    assert len(asked) <= 30


def test_links_that_vary_take_at_least_the_rows_of_the_run() -> None:
    file = Path(__file__).parents[2] / "scenarios" / "shared_line.toml"
    scenario = load(str(file), {"--sync-every": "5"})
    made = len(simulate(scenario).rows)
    assert effort(scenario).seconds > made * ROW_S


def test_what_is_quick_takes_one_process_and_what_is_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spoken, "cores_allowed", lambda: 8)
    scenario = load(None, {**ALONE, "--method": "diloco"})
    enough = int(spoken.QUICK_S / effort(scenario).seconds) + 1
    assert spoken.foresee([scenario], jobs=None) == 1
    assert spoken.foresee([scenario], jobs=3) == 3
    assert spoken.foresee([scenario], runs=enough, jobs=None) == 8
