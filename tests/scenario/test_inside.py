"""[site.inside]: the step of an island is simulated, and the run between islands takes its time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.program import ArgumentError
from sim.questions.replications import predicted
from sim.records.islands import accelerators_of, scenario_of
from sim.records.scenario import Run, Scenario
from sim.runtime import simulate
from sim.scenario import ScenarioError, load
from sim.theory import wall_clock

OPTIONS = {
    "--model": "1B",
    "--method": "diloco",
    "--sync-every": "4",
    "--accelerators": "16 x H100",
    "--bandwidth": "1 Gbit/s",
    "--rtt": "80 ms",
}
SLOW = ["site.inside.between_nodes=100 Gbit/s", "site.inside.rtt=50 us"]


def asked(inside: str = "fsdp", *settings: str, **options: str) -> Scenario:
    changed = {**OPTIONS, **{f"--{key.replace('_', '-')}": text for key, text in options.items()}}
    return load(None, changed, [f"site.inside.method={inside}", *settings])


@pytest.mark.parametrize("method", ["ddp", "zero1", "fsdp"])
@pytest.mark.parametrize("passes", [1, 3])
def test_the_step_is_that_of_the_recurrence(method: str, passes: int) -> None:
    found = asked(method, *SLOW, f"site.n_grad_accumulation={passes}", "site.optimizer_time=20 ms")
    machine = found.workers[0].machine
    inside = machine.inside
    assert inside is not None
    assert inside.accelerators == 16
    island = scenario_of(inside, found.model, Run(rounds=5))
    begins = wall_clock(island, 4).round_begins_s.max(axis=1)
    step = machine.step_seconds + machine.seconds_of("inner_optimizer")
    assert step == pytest.approx(begins[3] - begins[2], rel=1e-9)


def test_kernels_and_what_is_exposed_inside_make_up_the_step() -> None:
    found = asked("fsdp", *SLOW, "site.inside.prefetch=false")
    machine = found.workers[0].machine
    kernels = 6e9 * 2**20 / (16 * 989e12 * 0.5)
    assert machine.step_seconds * (1 - machine.exposed_inside) == pytest.approx(kernels, rel=1e-12)
    figures = predicted(found).figures
    inside, computed = figures.breakdown["exposed_inside"], figures.breakdown["compute"]
    assert inside / computed == pytest.approx(
        machine.exposed_inside / (1 - machine.exposed_inside), rel=1e-9
    )
    assert sum(figures.breakdown.values()) == pytest.approx(1)
    assert figures.compute_utilization == computed
    # End to end, the share of the peak is the kernels' times the time that they run.
    assert figures.throughput is not None
    assert figures.throughput.mfu == pytest.approx(0.5 * computed, rel=1e-9)


def test_a_run_without_islands_has_no_cause_inside() -> None:
    assert "exposed_inside" not in predicted(load(None, OPTIONS)).figures.breakdown


def test_links_that_hide_all_leave_the_kernels_time() -> None:
    fast = ["site.inside.within_node=100 TB/s", "site.inside.between_nodes=100 TB/s"]
    quick = ["site.inside.node_rtt=0 s", "site.inside.rtt=0 s", "site.batch_tokens=4Mi"]
    machine = asked("ddp", *fast, *quick).workers[0].machine
    assert machine.exposed_inside < 1e-3
    assert machine.step_seconds == pytest.approx(6e9 * 2**22 / (16 * 989e12 * 0.5), rel=1e-3)


def test_a_slower_site_computes_slower_and_communicates_as_fast() -> None:
    one, half = (
        asked("fsdp", *SLOW, f"site.speed={speed}").workers[0].machine for speed in (1, 0.5)
    )
    kernels = one.step_seconds * (1 - one.exposed_inside)
    assert half.step_seconds / half.speed < 2 * one.step_seconds
    assert half.step_seconds * (1 - half.exposed_inside) == pytest.approx(kernels, rel=1e-9)


def test_jitter_of_accelerators_becomes_that_of_islands() -> None:
    """All wait for the slowest of 16: the mean is longer, and varies less than one of them."""
    still = asked("ddp", *SLOW).workers[0].machine
    found = asked("ddp", *SLOW, jitter="lognormal:0.1").workers[0].machine
    assert found.step_seconds > 1.1 * still.step_seconds
    assert found.jitter.distribution == "empirical"
    assert 0.01 < found.jitter.cv < 0.1
    assert np.mean(found.jitter.samples) == pytest.approx(1)


@pytest.mark.parametrize("inside", ["ddp", "zero1", "fsdp"])
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("diloco", ()),
        ("local_sgd", ()),
        ("streaming_diloco", ("method.num_fragments=2", "method.fragment_sync_delay=1")),
        ("delayed_diloco", ()),
    ],
)
def test_written_out_as_accelerators_it_takes_the_same_time(
    inside: str, method: str, arguments: tuple[str, ...]
) -> None:
    """But for what only the written-out run has: gathering inside once in a while."""
    settings = ["site.inside.within_node=2 TB/s", "site.inside.node_rtt=1 us", "run.rounds=6"]
    found = asked(inside, *settings, *arguments, accelerators="4 x H100", method=method)
    one, other = (predicted(each).figures for each in (found, accelerators_of(found)))
    assert other.total_wall_clock_s == pytest.approx(one.total_wall_clock_s, rel=0.02)
    sent = 4 * other.sent_bytes_per_worker
    assert len(accelerators_of(found).workers) == 8
    assert sent >= one.sent_bytes_per_worker


def test_islands_of_different_kinds_are_only_simulated(tmp_path: Path) -> None:
    path = tmp_path / "kinds.toml"
    path.write_text(
        '[model]\nname = "1B"\n[method]\nname = "diloco"\n'
        '[[site]]\naccelerators = "8 x H100"\ninside = { method = "fsdp" }\n'
        '[[site]]\naccelerators = "4 x A100"\ninside = { method = "ddp" }\n'
        '[network]\nbandwidth = "1 Gbit/s"\n'
    )
    found = load(path)
    assert simulate(found, rounds=2).workers == 2
    with pytest.raises(ArgumentError, match="same method, arguments, exchange and number"):
        accelerators_of(found)


@pytest.mark.parametrize("method", ["acco", "dpu", "wp"])
def test_a_method_that_looks_at_the_clock_is_only_simulated(method: str) -> None:
    plain = {key: text for key, text in OPTIONS.items() if key != "--sync-every"}
    found = load(None, {**plain, "--method": method}, ["site.inside.method=ddp"])
    assert predicted(found).figures.inner_step_s > 0
    with pytest.raises(ArgumentError, match=f'^method.name: "{method}" .* site.workers = 16$'):
        accelerators_of(found)


def test_a_scenario_without_islands_stays_as_it_is() -> None:
    plain = load(None, OPTIONS)
    assert accelerators_of(plain) is plain


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["site.mfu=0.4"], "give compute_efficiency"),
        (["site.inside.within_node=NVLnk 4"], 'did you mean "NVLink 4"?'),
        (["site.inside.prefetch=3"], "must be true or false"),
        (["site.inside.bucket_bytes=25 MiB"], "fsdp does not take bucket_bytes"),
        (["site.inside.accelerators=8"], "site.accelerators says 16"),
        (["site.batch_tokens=balanced"], "does not grow in proportion"),
        (["site.batch_tokens=15"], "is shared by 16 accelerators"),
        (["site.inside.per_node=16", "site.inside.rtt=3 us"], "there is one node only"),
        (["site.inside.algorithm=gloo"], "must be ring"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_key(settings: list[str], says: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        asked("fsdp", *settings)
    assert says in str(refused.value)
    assert settings[-1].partition("=")[0] in str(refused.value)


def test_each_key_is_named_where_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r'^--set site.inside.exchange: "leeder"'):
        asked("fsdp", "site.inside.exchange=leeder", "site.inside.per_node=8")
    path = tmp_path / "typo.toml"
    path.write_text('[[site]]\ninside = { method = "fdsp" }\n')
    with pytest.raises(ScenarioError, match=r'typo.toml: site.inside.method: "fdsp"'):
        load(path, OPTIONS, ["site.inside.per_node=8"])
    with pytest.raises(ScenarioError, match=r"^--set site.inside.per_node: .*-8"):
        load(path, OPTIONS, ["site.inside.method=fsdp", "site.inside.per_node=-8"])


def test_compute_efficiency_needs_inside() -> None:
    with pytest.raises(ScenarioError, match="goes with inside"):
        load(None, OPTIONS, ["site.compute_efficiency=0.5"])


def test_shares_have_connections_of_their_own() -> None:
    """A 4 MiB window carries 0.42 Gbit/s over 80 ms, and 16 of them more than the link does."""

    def seconds(*settings: str) -> float:
        return predicted(asked("fsdp", *settings)).figures.inner_step_s

    window = "network.window=4 MiB"
    by_leader = asked("fsdp", window, "site.inside.exchange=leader")
    assert (by_leader.connections, asked("fsdp", window).connections) == (1, 16)
    assert seconds(window) == pytest.approx(seconds(), rel=1e-9)
    assert seconds(window, "site.inside.exchange=leader") > 1.5 * seconds()
    said = dict(asked("fsdp", "network.bandwidth=100 Gbit/s").assumed)["network.window"]
    assert said.startswith("unlimited; 16 connections with 4 MiB windows would carry 6.711 Gbit/s")
