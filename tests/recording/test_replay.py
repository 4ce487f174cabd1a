"""A recording replayed: its computations, and the simulator's collectives between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from support.recordings import Did, written

from sim.recording.files import load as load_recording
from sim.records.scenario import Scenario
from sim.runtime import simulate
from sim.scenario import ScenarioError, load

RATE = 125e6  # bytes/s of 1 Gbit/s
MEGABYTE = 1e6
LINK = {"--bandwidth": "1Gbit/s", "--latency": "10ms"}


def scenario(
    path: Path, options: dict[str, str] | None = None, settings: Sequence[str] = ()
) -> Scenario:
    return load(str(path), LINK | (options or {}), settings)


def step_s(found: Scenario, rounds: int = 6) -> float:
    begins = simulate(found, rounds=rounds).round_begins().max(axis=1)
    return float(begins[-1] - begins[1]) / (rounds - 1)


def ring(size: float, workers: int) -> float:
    """Seconds of an all-reduce by ring."""
    return 2 * (workers - 1) * (size / workers / RATE + 0.010)


def blocking(*seconds: float, size: float = MEGABYTE) -> list[list[Did]]:
    """Steps that compute that long, and wait for an all-reduce."""
    return [
        [("computes", each), ("sends", "all_reduce", size), ("waits", 0, 0)] for each in seconds
    ]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_a_blocking_program_takes_its_computation_and_the_collective(
    tmp_path: Path, workers: int
) -> None:
    path = written(tmp_path / "r.parquet", [blocking(*[0.2] * 3)] * 2)
    found = scenario(path, {"--sites": str(workers)})
    assert step_s(found) == pytest.approx(0.2 + ring(MEGABYTE, workers), rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "like"),
    [
        (["network.collective.algorithm=gloo"], "all_reduce"),
        (["network.collective.algorithm=gloo", "method.reduce_scatter=sharded"], "all_to_all"),
        ([], "reduce_scatter"),
        (["method.reduce_scatter=torch"], "all_reduce"),
    ],
)
def test_torchs_reduce_scatter_on_gloo_takes_as_long_as_an_all_reduce(
    tmp_path: Path, settings: list[str], like: str
) -> None:
    def steps(operation: str) -> list[list[Did]]:
        return [[("computes", 0.1), ("sends", operation, MEGABYTE), ("waits", 0, 0)]] * 3

    four = {"--sites": "4"}
    sharded = written(tmp_path / "r.parquet", [steps("reduce_scatter")] * 2)
    other = written(tmp_path / "other.parquet", [steps(like)] * 2)
    network = [each for each in settings if each.startswith("network")]
    found = step_s(scenario(sharded, four, settings))
    assert found == pytest.approx(step_s(scenario(other, four, network)), rel=1e-9)


def test_what_is_awaited_later_is_hidden_behind_the_computation_before(tmp_path: Path) -> None:
    step: list[Did] = [
        ("computes", 0.05),
        ("sends", "all_reduce", MEGABYTE),
        ("computes", 0.3),
        ("waits", 0, 0),
    ]
    path = written(tmp_path / "r.parquet", [[step] * 4] * 2)
    assert ring(MEGABYTE, 2) < 0.3
    assert step_s(scenario(path)) == pytest.approx(0.35, rel=1e-9)
    step[2] = ("computes", 0.01)
    path = written(tmp_path / "other.parquet", [[step] * 4] * 2)
    assert step_s(scenario(path)) == pytest.approx(0.05 + ring(MEGABYTE, 2), rel=1e-9)


def test_a_collective_may_be_awaited_in_a_later_step(tmp_path: Path) -> None:
    late: list[Did] = [("waits", 1, 0), ("computes", 0.01), ("sends", "all_reduce", MEGABYTE)]
    path = written(tmp_path / "r.parquet", [[late] * 5] * 2)
    assert load_recording(path).plan.unlike == 1  # the first, which awaits nothing
    assert step_s(scenario(path)) == pytest.approx(0.01 + ring(MEGABYTE, 2), rel=1e-9)


def test_each_rank_keeps_its_own_times(tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", [blocking(0.1, 0.1), blocking(0.3, 0.3)])
    assert step_s(scenario(path)) == pytest.approx(0.3 + ring(MEGABYTE, 2), rel=1e-9)


def test_others_than_were_recorded_take_the_median_over_ranks(tmp_path: Path) -> None:
    ranks = [blocking(0.1, 0.1), blocking(0.2, 0.2), blocking(0.6, 0.6)]
    found = scenario(written(tmp_path / "r.parquet", ranks), {"--sites": "5"})
    assert step_s(found) == pytest.approx(0.2 + ring(MEGABYTE, 5), rel=1e-9)
    assumed = dict(found.assumed)
    assert "each as their median" in assumed["recording.workers"]
    assert assumed["recording.sizes"] == "all_reduce keeps its bytes"


def test_steps_are_their_median_or_each_in_turn(tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", [blocking(0.1, 0.2, 0.6)] * 2)
    collective = ring(MEGABYTE, 2)
    assert step_s(scenario(path)) == pytest.approx(0.2 + collective, rel=1e-9)
    each = scenario(path, settings=["method.steps=each"])
    assert step_s(each, rounds=7) == pytest.approx(0.3 + collective, rel=1e-9)


def test_a_faster_site_computes_faster(tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", [blocking(0.2, 0.2)] * 2)
    fast = scenario(path, settings=["site.speed=4"])
    assert step_s(fast) == pytest.approx(0.05 + ring(MEGABYTE, 2), rel=1e-9)


def test_shards_are_of_the_whole(tmp_path: Path) -> None:
    steps: list[list[Did]] = [
        [("computes", 0.1), ("sends", "all_gather", MEGABYTE), ("waits", 0, 0)]
    ] * 3
    path = written(tmp_path / "r.parquet", [steps] * 2)
    for workers in (2, 4):
        found = scenario(path, {"--sites": str(workers)})
        alone = (workers - 1) * (MEGABYTE / workers / RATE + 0.010)
        assert step_s(found) == pytest.approx(0.1 + alone, rel=1e-9)


def test_groups_of_some_ranks_are_replayed_as_they_were_and_on_no_other_number(
    tmp_path: Path,
) -> None:
    def steps(ranks: tuple[int, ...]) -> list[list[Did]]:
        return [[("computes", 0.1), ("sends", "all_reduce", MEGABYTE, ranks), ("waits", 0, 0)]] * 3

    path = written(tmp_path / "r.parquet", [steps((0, 1))] * 2 + [steps((2, 3))] * 2)
    assert step_s(scenario(path)) == pytest.approx(0.1 + ring(MEGABYTE, 2), rel=1e-9)
    with pytest.raises(ScenarioError, match=r"recorded on 4 workers, not 8.* over ranks \[0, 1\]"):
        scenario(path, {"--sites": "8"})


def test_ranks_that_do_different_things_are_as_many_as_were_recorded(tmp_path: Path) -> None:
    other = [[*step, ("computes", 0.1)] for step in blocking(0.1, 0.1)]
    path = written(tmp_path / "r.parquet", [blocking(0.1, 0.1), other])
    assert scenario(path).workers
    with pytest.raises(ScenarioError, match=r"rank 1 issues or awaits other collectives"):
        scenario(path, {"--sites": "3"})


def test_a_step_that_does_something_else_is_left_out_and_listed(tmp_path: Path) -> None:
    steps = blocking(0.1, 0.1, 0.1)
    steps[1] = [("computes", 9.0), *steps[1], ("sends", "broadcast", 8.0), ("waits", 0, 1)]
    found = scenario(written(tmp_path / "r.parquet", [steps] * 2))
    assert step_s(found) == pytest.approx(0.1 + ring(MEGABYTE, 2), rel=1e-9)
    assert dict(found.assumed)["recording.steps"].startswith("1 that did something else")


def test_the_replay_is_the_recorded_sequence(tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", [blocking(*[0.2] * 4)] * 2)
    trace = simulate(scenario(path), rounds=4)
    did = [(row.operation, row.detail, row.group, row.bytes) for row in trace.rows if not row.rank]
    step = [
        ("computation", "", "", 0.0),
        ("all_reduce", "buffer fp32", "main", MEGABYTE),
        ("wait", "", "main", 0.0),
    ]
    assert [each for each in did if each[0] != "round"] == step * 4


def test_the_hash_is_of_the_file_and_not_of_its_place(tmp_path: Path) -> None:
    first = written(tmp_path / "a.parquet", [blocking(0.1, 0.1)] * 2)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "a.parquet"
    moved.write_bytes(first.read_bytes())
    other = written(tmp_path / "c.parquet", [blocking(0.1, 0.2)] * 2)
    assert scenario(first).sha256 == scenario(moved).sha256
    assert scenario(first).method.arguments["sha256"] != scenario(other).method.arguments["sha256"]


def test_a_scenario_file_names_a_recording_and_unequal_sites(tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", [blocking(0.2, 0.2)] * 2)
    file = tmp_path / "three.toml"
    file.write_text(
        '[method]\nname = "recording"\npath = "r.parquet"\n'
        '[[site]]\nname = "paris"\n[[site]]\nname = "osaka"\nspeed = 0.5\n[[site]]\nname = "lima"\n'
        '[network]\nbandwidth = "1Gbit/s"\nlatency = "10ms"\n'
    )
    assert step_s(load(file)) == pytest.approx(0.4 + ring(MEGABYTE, 3), rel=1e-9)
    sha256 = load_recording(path).sha256
    assert load(file, settings=[f"method.sha256={sha256}"]).sha256 == load(file).sha256
    with pytest.raises(ScenarioError, match=r"method\.sha256: .*is not that of .*r\.parquet"):
        load(file, settings=["method.sha256=0123"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.parquet", b"no table", "is no recording"),
        ("recordng.parquet", None, r"no such file; did you mean .*recording\.parquet"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_line(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    written(tmp_path / "recording.parquet", [blocking(0.1, 0.1)] * 2)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ScenarioError, match=said) as raised:
        scenario(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_a_recording_without_a_path_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"method\.path: missing; give the file"):
        load(None, LINK, ["method.name=recording"])
    with pytest.raises(ScenarioError, match=r"method\.path"):
        load(None, LINK, ["method.name=recording", "method.path=3"])


def test_a_damaged_recording_is_read_as_it_was_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "r.parquet", [blocking(0.1, 0.1)] * 2)
    whole, was = path.read_bytes(), step_s(scenario(path), rounds=3)
    refused: list[str] = []
    for place in range(0, len(whole), len(whole) // 40):
        content = bytearray(whole)
        content[place] ^= 0xFF
        path.write_bytes(content)
        try:
            assert step_s(scenario(path), rounds=3) == was
        except ScenarioError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all("r.parquet" in line and "\n" not in line for line in refused)


def test_the_plan_keeps_shapes(tmp_path: Path) -> None:
    plan = load_recording(written(tmp_path / "r.parquet", [blocking(0.1, 0.2)] * 2)).plan
    assert (plan.workers, plan.steps, plan.elements, plan.dtype) == (2, 2, 250_000, "fp32")
    assert plan.ranks[0].seconds.shape == (2, 1)
    assert np.allclose(plan.ranks[0].median.seconds, [[0.15]])
    assert plan.step_s == pytest.approx(0.15)
