"""Sites with several workers, where nobody says how collectives are carried out: by site."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.recordings import written

from realrun.islands import by_accelerator
from sim.questions.replications import predicted
from sim.records.flat_ring import KEY, with_flat_ring
from sim.records.scenario import Scenario
from sim.scenario import load, sweep
from sim.theory import hierarchical_seconds

OPTIONS = {"--model": "1B", "--method": "ddp", "--bandwidth": "1 Gbit/s", "--rtt": "40 ms"}
ONE_WORKER = "f508b454dd37e8deb16d88a58127518d01176e384353275275e3083aaefd288d"
FOUR_WORKERS = "290004635f827387a064f00072bda7123cca1b74da7cd12093767f6a21f1ad72"


def asked(*settings: str, **options: str) -> Scenario:
    changed = {**OPTIONS, **{f"--{key.replace('_', '-')}": text for key, text in options.items()}}
    return load(None, changed, list(settings))


def algorithm(scenario: Scenario) -> str:
    return scenario.network.collectives.algorithm


def test_several_workers_at_several_sites_exchange_by_site() -> None:
    found = asked(workers="4")
    assert algorithm(found) == "hierarchical"
    assert dict(found.assumed)[KEY] == "hierarchical (sites have several workers)"
    assert found.sha256 == asked(workers="4", algorithm="hierarchical").sha256


def test_one_site_with_several_workers_is_enough() -> None:
    found = asked("site.a.workers=3", sites="a,b")
    assert algorithm(found) == "hierarchical"
    assert predicted(found).figures.wall_clock_s > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sites": "5"},
        {"sites": "1", "workers": "8"},
        {"workers": "4", "algorithm": "ring"},
    ],
)
def test_otherwise_it_is_a_ring(options: dict[str, str]) -> None:
    assert algorithm(asked(**options)) == "ring"


def test_accelerators_of_an_island_are_no_workers() -> None:
    island = asked("site.inside.method=ddp", accelerators="16 x H100")
    assert algorithm(island) == "ring"
    several = asked("site.inside.method=ddp", accelerators="16 x H100", workers="2")
    assert algorithm(several) == "hierarchical"


def test_links_inside_a_site_that_has_one_worker_change_nothing() -> None:
    assert algorithm(asked("network.within.bandwidth=100 Gbit/s")) == "ring"


def test_a_recorded_program_keeps_the_ring_of_its_backend(tmp_path: Path) -> None:
    step = [("computes", 0.1), ("sends", "all_reduce", 1e6), ("waits", 0, 0)]
    path = written(tmp_path / "four.parquet", [[step] * 3] * 4)
    found = load(path, {"--workers": "2", "--sites": "2"})
    assert [site.workers for site in found.sites] == [2, 2]
    assert algorithm(found) == "ring"


@pytest.mark.parametrize(
    ("calibration", "expected"),
    [
        ('backend = "gloo"\n[machine.worker]\nmessage_s = 1e-4\n', "gloo"),
        ('backend = "gloo"\n[machine.worker]\ninner_step_s = 0.1\n', "ring"),
        ('backend = "nccl"\n[machine.worker]\ninner_step_s = 0.1\n', "ring"),
        ("[machine.worker]\ninner_step_s = 0.1\n", "hierarchical"),
    ],
)
def test_a_hardware_file_of_a_backend_keeps_what_that_one_runs(
    tmp_path: Path, calibration: str, expected: str
) -> None:
    path = tmp_path / "measured.toml"
    path.write_text(f"[calibration]\nschema = 1\n{calibration}")
    assert algorithm(asked(workers="2", hardware=str(path))) == expected


def test_what_realrun_runs_is_a_ring_over_all_workers() -> None:
    found = by_accelerator(asked(workers="2"))
    stated = asked(workers="2", algorithm="ring")
    assert algorithm(found) == "ring"
    assert found.sha256 == stated.sha256
    assert dict(found.assumed)[KEY] == "ring"
    named = asked(workers="2", algorithm="hierarchical")
    assert algorithm(by_accelerator(named)) == "hierarchical"
    assert with_flat_ring(named) is named


def test_hashes_are_those_of_before() -> None:
    """As computed when all scenarios without an algorithm had a ring."""
    assert asked().sha256 == ONE_WORKER
    assert asked(workers="4", algorithm="ring").sha256 == FOUR_WORKERS


def test_equal_sites_take_the_time_of_the_formula() -> None:
    within = ["network.within.bandwidth=100 GB/s", "network.within.rtt=0 s"]
    scenario = asked(*within, workers="4", step_time="1 s", method="diloco", sync_every="1")
    step = predicted(scenario).figures.inner_step_s
    outer_gradient = 2e9  # bf16
    exchange = hierarchical_seconds(2, 4, outer_gradient, 125e6, 0.02, 100e9, 0.0)
    assert step == pytest.approx(1 + exchange, rel=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        ["site.a.workers=3"],
        ["network.per=pair", "site.workers=2", "site.b.uplink=0.5 Gbit/s"],
        ["site.workers=2", 'network.profile=[["0 s", 1.0], ["50 s", 0.5]]',
         "network.profile_period=100 s"],
        ["site.workers=2", "network.loss=0.01 %", "network.window=4 MB"],
        ["site.a.workers=2", "site.b.workers=3", "method.zero1=true"],
        ["site.a.workers=2", "method.comm_dtype=int8"],
    ],
)  # fmt: skip
def test_every_kind_of_network_has_it(settings: list[str]) -> None:
    found = asked(*settings, sites="a,b,c")
    assert algorithm(found) == "hierarchical"
    assert 0 < predicted(found).figures.compute_utilization < 1


def test_a_sweep_over_workers_takes_what_each_point_takes() -> None:
    study = sweep(None, OPTIONS, [], ["site.workers=1,2"])
    assert [algorithm(case.scenario) for case in study.cases()] == ["ring", "hierarchical"]
