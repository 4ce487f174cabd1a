"""Predictions of what is random: medians, their intervals, and the random streams behind them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import inf
from pathlib import Path

import pytest

from sim.cli import app
from sim.figures.evaluation import figures
from sim.questions.comparison import compare
from sim.questions.replications import (
    FEWEST,
    MOST,
    NARROW,
    coverage,
    predicted,
    rank_of,
    replicated,
)
from sim.questions.study import run
from sim.questions.target_search import required
from sim.records.scenario import Jitter
from sim.runtime import simulate
from sim.runtime.computation import Factors
from sim.scenario import Scenario, ScenarioError, load, load_study, sweep

TWO = {
    "--model": "1B",
    "--sites": "2",
    "--step-time": "1s",
    "--sync-every": "4",
    "--method": "diloco",
}
RANDOM = {**TWO, "--jitter": "lognormal:0.3"}


def scenario(**options: str) -> Scenario:
    given = {**RANDOM, **{f"--{key}": text for key, text in options.items()}}
    return load(None, given, ["run.skip_rounds=1", "run.measured_rounds=4"])


# The interval


def exactly_covered(n: int, k: int) -> Fraction:
    """Count the signs: of 2^n equally likely ones, those with at least k on both sides."""
    both = sum(1 for signs in product((0, 1), repeat=n) if k <= sum(signs) <= n - k)
    return Fraction(both, 2**n)


@pytest.mark.parametrize("n", range(1, 13))
def test_an_interval_covers_what_counting_all_orders_gives(n: int) -> None:
    for k in range(1, n // 2 + 1):
        assert coverage(n, k) == exactly_covered(n, k)


def test_seven_is_the_least_odd_number_that_has_a_95_percent_interval() -> None:
    assert [n for n in range(1, 10) if coverage(n, 1) >= 0.95] == [6, 7, 8, 9]
    assert (FEWEST, MOST) == (7, 9)
    assert (rank_of(7), rank_of(9)) == (1, 2)
    assert coverage(9, 3) < 0.95 <= coverage(9, 2)


def test_what_varies_little_is_run_seven_times_and_what_varies_more_nine_times() -> None:
    narrow = replicated(lambda number: number, lambda number: 1 + NARROW * number / 6.5)
    assert (narrow.median, narrow.interval.replications) == (3, 7)
    assert (narrow.interval.low, narrow.interval.high) == (1.0, 1 + NARROW * 6 / 6.5)
    values = [5.0, 1.0, 9.0, 3.0, 8.0, 2.0, 7.0, 4.0, 6.0]
    wide = replicated(lambda number: number, values.__getitem__)
    assert wide.interval.replications == 9
    assert (values[wide.median], wide.interval.low, wide.interval.high) == (5.0, 2.0, 8.0)


@pytest.mark.parametrize(("infinite", "runs"), [(1, 9), (4, 9), (9, 7)])
def test_an_infinite_value_is_no_narrow_interval(infinite: int, runs: int) -> None:
    found = replicated(lambda number: number, lambda number: inf if number < infinite else 1.0)
    assert found.interval.replications == runs


# Random streams


def test_replication_0_draws_what_a_single_run_draws() -> None:
    jitter = Jitter("lognormal", 0.2)
    first = Factors(jitter, 5, 2)
    again = Factors(jitter, 5, 2, 0)
    assert [first.sum(1) for _ in range(5)] == [again.sum(1) for _ in range(5)]


def test_replications_workers_and_seeds_all_have_streams_of_their_own() -> None:
    jitter = Jitter("lognormal", 0.2)
    firsts = {
        Factors(jitter, seed, stream, replication).sum(1)
        for seed in range(4)
        for stream in range(4)
        for replication in range(4)
    }
    assert len(firsts) == 4**3


def test_the_same_replication_of_two_methods_draws_the_same_factors() -> None:
    """Both compute without waiting in between, so their computation takes the same time."""
    found = []
    for method in ("diloco", "local_sgd"):
        one = replace(scenario(method=method, bandwidth="1Tbit/s"), replication=3)
        trace = simulate(one, rounds=2)
        found.append([row.work_s for row in trace.rows if row.operation == "inner_step"])
    assert found[0] == found[1]
    other = simulate(replace(scenario(bandwidth="1Tbit/s"), replication=4), rounds=2)
    assert [row.work_s for row in other.rows if row.operation == "inner_step"] != found[0]


# Predictions


def test_what_is_not_random_is_run_once() -> None:
    still = scenario(jitter="constant")
    found = predicted(still)
    assert found.interval.replications == 1
    assert found.interval.low == found.interval.high == found.figures.wall_clock_s
    assert found.figures == figures(simulate(still))


def test_a_prediction_is_one_whole_run_of_median_wall_clock() -> None:
    asked = scenario(replications="3")
    runs = [replace(asked, replication=number) for number in range(3)]
    times = sorted(figures(simulate(one)).wall_clock_s for one in runs)
    found = predicted(asked)
    assert found.interval.replications == 3
    assert found.figures.wall_clock_s == times[1]
    assert (found.interval.low, found.interval.high) == pytest.approx((times[0], times[2]))
    assert found.figures == figures(simulate(runs[found.replication]))
    again = simulate(runs[found.replication])
    assert [row.end_s for row in found.trace.rows] == [row.end_s for row in again.rows]


def test_replications_are_an_odd_number() -> None:
    with pytest.raises(ScenarioError, match="must be odd"):
        scenario(replications="8")
    with pytest.raises(ScenarioError, match="must be at least 1"):
        scenario(replications="0")
    assumed = dict(scenario().assumed)
    assert assumed["run.replications"] == "as many as it takes, 7 or 9"
    assert "run.replications" not in dict(scenario(jitter="constant").assumed)


# Questions


def test_methods_are_compared_by_their_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {name: scenario(method=name, replications="3") for name in ("diloco", "local_sgd")}
    result = compare(asked)
    for entry in result.entries:
        assert entry.interval.replications == 3
        assert entry.interval.low < entry.seconds < entry.interval.high
        found = predicted(asked[entry.method]).figures
        assert entry.seconds == found.time_for(result.tokens)


def test_a_site_left_out_is_run_with_the_random_numbers_of_its_methods_median() -> None:
    asked = {"diloco": scenario(sites="3", replications="3")}
    result = compare(asked)
    assert len(result.without) == 3 or len(result.without) == 1
    for entry in result.without:
        assert entry.replication == result.entries[0].replication
        assert entry.interval.replications == 1


def test_the_bandwidth_needed_is_the_median_of_what_replications_need() -> None:
    asked = scenario(replications="3", bandwidth="100Mbit/s")
    (answer,) = required(asked, [0.5])
    alone = []
    for number in range(3):
        run_alone = replace(asked.run, replications=1)
        (one,) = required(replace(asked, run=run_alone, replication=number), [0.5])
        alone.append(one.factor)
    assert answer.interval.replications == 3
    assert answer.factor == pytest.approx(sorted(alone)[1], rel=2e-3)
    assert answer.interval.low == pytest.approx(min(alone), rel=2e-3)
    assert answer.interval.high == pytest.approx(max(alone), rel=2e-3)
    assert answer.figures.compute_utilization == pytest.approx(0.5, rel=2e-3)


def test_a_sweeps_rows_say_how_many_replications_and_how_far_apart(tmp_path: Path) -> None:
    over = ["jitter=constant,lognormal:0.3"]
    study = sweep(None, {**TWO, "--replications": "3"}, ["run.measured_rounds=4"], over)
    frame = run(study, tmp_path)
    assert list(frame["replications"]) == [1, 3]
    still, random = frame.to_dict("records")
    assert still["wall_clock_low_s"] == still["wall_clock_s"] == still["wall_clock_high_s"]
    assert random["wall_clock_low_s"] < random["wall_clock_s"] < random["wall_clock_high_s"]


def test_a_study_takes_its_number_of_replications(tmp_path: Path) -> None:
    file = tmp_path / "small.toml"
    file.write_text(
        '[model]\nparameters = "1B"\n[run]\nreplications = 3\n[[site]]\ncount = 2\n'
        'step_time = "1 s"\n[study.axis]\n"network.rtt" = ["1 ms"]\n'
    )
    assert load_study(file).base.run.replications == 3
    assert load_study(file, {"--replications": "5"}).base.run.replications == 5


def test_the_command_line_prints_median_interval_and_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cli(*words: str) -> str:
        with pytest.raises(SystemExit) as left:
            app(list(words))
        assert not left.value.code
        out = capsys.readouterr().out
        return out if "--json" in words else " ".join(out.split())

    line = [part for pair in {**RANDOM, "--replications": "7"}.items() for part in pair]
    text = cli("simulate", *line)
    assert "Random times: the median of 7 replications" in text
    assert "98.4 % interval of the median" in text
    data = json.loads(cli("simulate", *line, "--json"))
    assert data["replications"] == 7
    assert data["interval_coverage"] == 0.984375
    part = data["evaluated_rounds"]
    assert part["wall_clock_low_s"] <= part["wall_clock_s"] <= part["wall_clock_high_s"]
    few = cli("simulate", *line[:-1], "3")
    assert "range of 3 replications, too few for a 95 % interval" in few
    assert "one replication" in cli("simulate", *line[:-1], "1")
    still = cli("simulate", *[part for pair in TWO.items() for part in pair])
    assert "Random times" not in still
