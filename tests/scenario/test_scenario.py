"""What a scenario file, options, settings and studies mean once everything is settled."""

import json
import tomllib
from dataclasses import dataclass, replace
from itertools import permutations
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.methods import METHODS
from sim.questions.variations import with_bandwidth, with_sites
from sim.records.scenario import Jitter, Run
from sim.scenario import (
    OPTIONS,
    ScenarioError,
    bundled,
    load,
    load_study,
    sections,
    sweep,
    template,
)
from sim.scenario.method import parameters_of
from sim.scenario.presets import ACCELERATORS, MODELS, accelerator
from sim.scenario.rings import best_order
from sim.scenario.schema import known_keys

THREE = bundled()["three_sites"]
GIGABIT = 125e6


def assumed(scenario):
    return dict(scenario.assumed)


def write(folder, text, name="case.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Defaults


def test_a_model_is_enough():
    scenario = load(None, {"--model": "10B"})
    assert [site.name for site in scenario.sites] == ["site-1", "site-2"]
    assert len(scenario.workers) == 2
    assert scenario.model.layers == 48
    assert scenario.workers[0].machine.step_seconds == 0.8
    assert scenario.rate(0, 1) == GIGABIT
    assert scenario.network.latency[1][0] == 0.015
    assert scenario.method.name == "streaming_diloco"
    assert scenario.run == replace(scenario.run, tokens=None, steps=None, rounds=None)


def test_everything_that_no_one_gave_is_listed_once_and_in_words():
    scenario = load(None, {"--model": "10B"})
    keys = [key for key, _ in scenario.assumed]
    assert len(keys) == len(set(keys))
    found = assumed(scenario)
    assert found["network.bandwidth"] == "1 Gbit/s"
    assert found["network.rtt"] == "30 ms"
    assert found["site.count"] == "2"
    assert found["method.sync_every"] == "100"
    assert found["run.steps"] == "steady"
    assert found["site.batch_tokens"] == "1Mi"


def test_what_is_given_is_not_assumed():
    options = {"--model": "10B", "--bandwidth": "2Gbit/s", "--sync-every": "50", "--rtt": "1ms"}
    found = assumed(load(None, options))
    assert not {"network.bandwidth", "network.rtt", "method.sync_every"} & set(found)


def test_keys_that_are_assumed_exist():
    known = set(known_keys()) | {
        f"method.{a}" for m in METHODS.values() for a in parameters_of(m).annotations
    }
    for name in METHODS:
        found = assumed(load(None, {"--model": "1B", "--method": name, "--workers": "2"}))
        assert set(found) <= known


@pytest.mark.parametrize("name", MODELS)
def test_presets_bring_layers_and_step_time(name):
    scenario = load(None, {"--model": name})
    preset = MODELS[name]
    assert scenario.model.parameters == preset.parameters
    assert scenario.model.layers == preset.layers
    assert scenario.workers[0].machine.step_seconds == preset.step_seconds


def test_saying_something_about_the_sites_leaves_two_of_them():
    options = {"--model": "1B", "--workers": "3", "--step-time": "1s"}
    assert len(load(None, options).workers) == 6
    assert len(load(None, {"--model": "1B"}, ["site.speed=2"]).workers) == 2
    assert len(load(None, {**options, "--sites": "3"}).workers) == 9
    assert len(load(None, {**options, "--sites": "a,b,c,d"}).workers) == 12


# Models


def test_layers_share_parameters_evenly():
    scenario = load(
        None,
        {"--model": "10", "--layers": "4", "--step-time": "1s"},
        ["method.layers_per_fragment=1"],
    )
    assert scenario.model.layer_parameters == (3, 3, 2, 2)


def test_a_size_alone_gets_a_plausible_depth():
    scenario = load(None, {"--model": "7B", "--step-time": "1s"})
    assert scenario.model.layers == 33
    assert "rule of thumb" in assumed(scenario)["model.layers"]


def test_gpt_sizes_are_exact():
    names = ("kind=gpt", "hidden=64", "layers=3", "heads=4", "vocabulary=100")
    scenario = load(None, {"--step-time": "1s"}, [f"model.{name}" for name in names])
    attention = dict.fromkeys(("query", "key", "value", "output"), 64 * 64)
    swiglu = dict.fromkeys(("gate", "up", "down"), 64 * 192)
    norms = {"before attention": 64, "before swiglu": 64}
    layer = sum((attention | swiglu | norms).values())
    embedding, final_norm = 100 * 64, 64
    assert scenario.model.layer_parameters == (layer + embedding, layer, layer + final_norm)
    assert scenario.model.name == "gpt 167K"


def test_mixture_of_experts_computes_with_the_active_parameters():
    options = {
        "--model": "671B",
        "--layers": "61",
        "--accelerators": "64 x H100",
        "--batch-tokens": "1Mi",
    }
    dense = load(None, options).workers[0].machine.step_seconds
    sparse = load(None, {**options, "--active-parameters": "67.1B"})
    assert sparse.workers[0].machine.step_seconds == pytest.approx(dense / 10)
    assert sparse.model.parameters == 671 * 10**9


# Machines


def test_step_time_from_accelerators_is_6nd_over_what_they_reach():
    options = {"--model": "10B", "--accelerators": "64 x H100", "--batch-tokens": "1Mi"}
    scenario = load(None, {**options, "--mfu": "50%"})
    expected = 6 * 10e9 * 2**20 / (64 * 989e12 * 0.5)
    assert scenario.workers[0].machine.step_seconds == pytest.approx(expected)
    assert assumed(load(None, options))["site.mfu"] == "40 %"


@pytest.mark.parametrize("text", ["64 x H100", "64x h100", "64 * NVIDIA H100", "64 × H100"])
def test_accelerators_are_written_in_several_ways(text):
    options = {"--model": "10B", "--accelerators": text, "--batch-tokens": "1Mi"}
    assert load(None, options).workers[0].machine.step_seconds == pytest.approx(2.4850, rel=1e-3)


def test_an_unknown_accelerator_needs_its_peak():
    options = {"--model": "10B", "--accelerators": "64 x Foo 9", "--batch-tokens": "1Mi"}
    scenario = load(None, options, ["site.peak=989 TFLOP/s"])
    assert scenario.workers[0].machine.step_seconds == pytest.approx(2.4850, rel=1e-3)


def test_accelerators_name_their_source():
    assert all(entry.source and 1e13 < entry.peak < 1e16 for entry in ACCELERATORS.values())
    assert accelerator("Trillium") is ACCELERATORS["TPU v6e"]


@pytest.mark.parametrize(
    "options",
    [
        {"--tokens": "200B"},
        {"--steps": "10"},
        {"--rounds": "3"},
        {},
        {"--accelerators": "64 x H100"},
        {"--accelerators": "64 x H100", "--tokens": "200B"},
    ],
)
def test_tokens_of_a_step_are_assumed_and_listed_whatever_else_is_given(options):
    scenario = load(None, {"--model": "10B", **options})
    assert scenario.workers[0].machine.batch_tokens == 2**20
    assert dict(scenario.assumed)["site.batch_tokens"] == "1Mi"


def test_empirical_jitter_is_divided_by_its_mean(tmp_path):
    write(tmp_path, "seconds\n1.0\n3.0\n", "times.csv")
    path = write(
        tmp_path,
        '[model]\nname = "1B"\n[[site]]\n'
        'jitter = { distribution = "empirical", file = "times.csv" }\n',
    )
    jitter = load(path).workers[0].machine.jitter
    assert jitter.samples == (0.5, 1.5)
    assert jitter.cv == pytest.approx(0.5)


def test_jitter_as_an_option():
    jitter = load(None, {"--model": "1B", "--jitter": "lognormal:0.05"}).workers[0].machine.jitter
    assert (jitter.distribution, jitter.cv) == ("lognormal", 0.05)


# Sites and ranks


def test_ranks_number_the_sites_in_order():
    scenario = load(None, {"--model": "1B", "--sites": "a,b"}, ["site.a.workers=2"])
    assert [(w.rank, w.site) for w in scenario.workers] == [(0, 0), (1, 0), (2, 1)]
    assert "network.within.bandwidth" in assumed(scenario)


def test_a_count_numbers_the_names(tmp_path):
    path = write(tmp_path, '[model]\nname = "1B"\n[[site]]\nname = "lab"\ncount = 2\n[[site]]\n')
    assert [site.name for site in load(path).sites] == ["lab-1", "lab-2", "site-3"]


def test_assumptions_differ_by_site_only_where_they_do(tmp_path):
    path = write(
        tmp_path, '[model]\nname = "1B"\n[[site]]\nname = "a"\nworkers = 2\n[[site]]\nname = "b"\n'
    )
    found = assumed(load(path))
    assert found["site.b.workers"] == "1"
    assert "site.a.workers" not in found
    assert "site.step_time" in found


def test_sites_can_be_chosen_by_name():
    scenario = load("three_sites", {"--sites": "osaka,paris"})
    assert [site.name for site in scenario.sites] == ["osaka", "paris"]
    assert scenario.network.bandwidth[0][1] == 0.74 * GIGABIT
    assert scenario.network.bandwidth[1][0] == 0.9 * GIGABIT
    assert scenario.workers[0].machine.step_seconds == 3.4


def test_one_described_site_can_be_multiplied():
    assert len(load("quick_start", {"--sites": "5"}).sites) == 5
    assert [s.name for s in load("quick_start", {"--sites": "x,y,z"}).sites] == ["x", "y", "z"]


# Network


def test_matrices_are_row_from_column_to():
    network = load("three_sites").network
    assert network.bandwidth[0][2] == 0.9 * GIGABIT
    assert network.bandwidth[2][0] == 0.74 * GIGABIT
    assert network.latency[0][2] == 0.115
    assert network.bandwidth[1][1] == inf


def test_order_says_whose_row_is_whose(tmp_path):
    text = THREE.read_text(encoding="utf-8")
    line = 'order = ["paris", "dallas", "osaka"]'
    assert line in text
    swapped = write(tmp_path, text.replace(line, 'order = ["osaka", "dallas", "paris"]'))
    straight, turned = load(THREE).network, load(swapped).network
    assert turned.bandwidth[2][0] == straight.bandwidth[0][2]
    assert turned.latency[1][2] == straight.latency[1][0]


def test_goodput_scales_everything_between_sites():
    scenario = load("three_sites", {}, ["network.goodput=50%"])
    plain = load("three_sites")
    assert scenario.network.bandwidth[0][1] == plain.network.bandwidth[0][1] / 2
    assert scenario.sites[2].uplink == plain.sites[2].uplink / 2
    assert scenario.sites[0].uplink == inf
    assert scenario.sites[0].within_bandwidth == plain.sites[0].within_bandwidth


def test_latency_is_half_a_round_trip():
    one = load(None, {"--model": "1B", "--rtt": "30ms"}).network
    assert one == load(None, {"--model": "1B", "--latency": "15ms"}).network


def test_the_best_ring_avoids_the_slow_link():
    order = load("three_sites").network.collectives.order
    # Both directions pass every link of three sites; only the rates differ by direction.
    assert order == (0, 2, 1)
    given = load("three_sites", {}, ["network.collective.order=given"])
    assert given.network.collectives.order == (0, 1, 2)
    named = load("three_sites", {}, ['network.collective.order=["osaka", "paris", "dallas"]'])
    assert named.network.collectives.order == (2, 0, 1)


def cost(order, bandwidth, latency):
    edges = list(zip(order, [*order[1:], order[0]], strict=True))
    return max(1 / bandwidth[a][b] for a, b in edges), sum(latency[a][b] for a, b in edges)


def matrices(size):
    rows = st.lists(
        st.lists(st.sampled_from([1.0, 2.0, 5.0]), min_size=size, max_size=size),
        min_size=size,
        max_size=size,
    )
    return st.tuples(rows, rows)


@given(st.integers(3, 5).flatmap(matrices))
def test_up_to_eight_sites_no_ring_is_better(pair):
    found = cost(best_order(*pair), *pair)
    size = len(pair[0])
    assert found == min(cost(order, *pair) for order in permutations(range(size)))


@given(matrices(10))
def test_longer_rings_are_complete_and_no_worse_than_the_given_one(pair):
    order = best_order(*pair)
    assert sorted(order) == list(range(10))
    assert order[0] == 0


def test_a_long_ring_finds_an_obvious_order():
    size = 12
    bandwidth = [
        [10.0 if (b - a) % size in (5, 7) else 1.0 for b in range(size)] for a in range(size)
    ]
    order = best_order(bandwidth, [[0.0] * size] * size)
    assert cost(order, bandwidth, [[0.0] * size] * size)[0] == 0.1


# Levels


def test_later_levels_win(tmp_path):
    path = write(tmp_path, '[model]\nname = "1B"\n[network]\nrtt = "1 ms"\n')
    assert load(path).network.latency[0][1] == 0.0005
    assert load(path, {"--rtt": "2ms"}).network.latency[0][1] == 0.001
    assert load(path, {"--rtt": "2ms"}, ["network.rtt=4ms"]).network.latency[0][1] == 0.002
    twice = ["network.rtt=4ms", "network.rtt=6ms"]
    assert load(path, {"--rtt": "2ms"}, twice).network.latency[0][1] == 0.003


def test_another_spelling_at_a_higher_level_replaces():
    assert load("three_sites", {"--steps": "10"}).run.tokens is None
    assert load("three_sites", {"--latency": "1ms"}).network.latency[0][1] == 0.001
    faster = load("three_sites", {"--accelerators": "64 x H100"})
    assert faster.workers[2].machine.step_seconds == pytest.approx(2.485, rel=1e-3)
    model = load("three_sites", {"--model": "1B"}).model
    assert (model.layers, model.parameters) == (24, 10**9)
    kept = load("three_sites", {"--model": "20B"}).model
    assert (kept.layers, kept.parameters) == (48, 2 * 10**10)
    fragments = load("three_sites", {"--num-fragments": "4"}).method.arguments
    assert (fragments["num_fragments"], fragments["layers_per_fragment"]) == (4, None)


def test_a_setting_addresses_one_site_or_all():
    one = load("three_sites", {}, ["site.osaka.step_time=3s"])
    assert [w.machine.step_seconds for w in one.workers] == [1.7, 1.7, 3.0]
    every = load("three_sites", {}, ["site.step_time=3s"])
    assert [w.machine.step_seconds for w in every.workers] == [3.0, 3.0, 3.0]
    second = load("three_sites", {}, ["site.2.step_time=3s"])
    assert [w.machine.step_seconds for w in second.workers] == [1.7, 3.0, 3.4]


def test_a_setting_reaches_into_a_table():
    scenario = load("three_sites", {}, ["site.dallas.jitter.cv=0.2"])
    jitter = scenario.workers[1].machine.jitter
    assert (jitter.distribution, jitter.cv) == ("lognormal", 0.2)
    assert load(
        "three_sites", {}, ["network.collective.algorithm=tree"]
    ).network.collectives == replace(load("three_sites").network.collectives, algorithm="tree")


def test_another_method_keeps_only_what_it_takes():
    arguments = load("three_sites", {"--method": "diloco"}).method.arguments
    assert arguments["sync_every"] == 100
    assert "layers_per_fragment" not in arguments
    assert load("three_sites", {"--method": "acco"}).method.arguments == {
        "comm_dtype": "bf16",
        "look_every": "micro_batch",
    }


def test_an_inherited_value_that_another_method_does_not_know_is_dropped(tmp_path):
    path = write(tmp_path, '[model]\nname = "1B"\n[method]\nname = "ddp"\noverlap = "bucket"\n')
    scenario = load(path, {"--method": "diloco"})
    assert scenario.method.arguments["overlap"] == "none"
    assert assumed(scenario)["method.overlap"] == "none"


def test_every_option_sets_a_key_that_exists():
    keys = set(known_keys()) | {
        "sites",
        *(f"method.{a}" for m in METHODS.values() for a in parameters_of(m).annotations),
    }
    assert {option.key for option in OPTIONS.values()} <= keys
    assert {option.panel for option in OPTIONS.values()} == {"Run", "Machines", "Network", "Method"}
    assert all(option.help.endswith(".") and option.hint for option in OPTIONS.values())


# Methods


@pytest.mark.parametrize("name", METHODS)
def test_every_method_loads_with_its_defaults(name):
    scenario = load(None, {"--model": "1B", "--method": name})
    method = scenario.method
    assert method.program is METHODS[name]
    defaults = dict(parameters_of(method.program).defaults)
    if "comm_dtype" in defaults:
        defaults["comm_dtype"] = scenario.model.param_dtype
    assert dict(method.arguments) == defaults


def test_a_delay_per_worker():
    scenario = load(None, {"--model": "1B", "--fragment-sync-delay": "[1, 4]"})
    assert scenario.method.arguments["fragment_sync_delay"] == (1, 4)


def test_amounts_of_data_as_arguments():
    scenario = load(None, {"--model": "1B", "--method": "ddp"}, ["method.bucket_bytes=4MiB"])
    assert scenario.method.arguments["bucket_bytes"] == 4 * 2**20


def test_a_method_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "def run(worker, *, every: int = 7):\n    yield\n", "my_own_method.py")
    path = write(tmp_path, '[model]\nname = "1B"\n[method]\nname = "my_own_method:run"\n')
    method = load(path).method
    assert method.program.__name__ == "run"
    assert method.arguments == {"every": 7}


# Hardware files


HARDWARE = """\
[calibration]
schema = 1
[machine.fast]
parameters = 1_000_000_000
batch_tokens = 1_000
inner_step_s = { median = 1.0, mean = 1.1 }
outer_step_s = 0.5
communication_slowdown = 1.25
cold_start = { pause_s = [0.1, 1], seconds = [0.01, 0.02] }
samples = [1.0, 3.0]
[link.a-b]
goodput_bytes_per_s = 1e6
rtt_s = 0.1
concurrent = 2
first_collective_s = 3.0
[[link.a-b.collective]]
operation = "all_reduce"
dtype = "bf16"
bytes = [10, 1000]
seconds = [1, 2]
"""


@pytest.fixture
def measured(tmp_path):
    write(tmp_path, HARDWARE, "hw.toml")
    return write(
        tmp_path,
        'hardware = "hw.toml"\n[model]\nname = "1B"\n[[site]]\nname = "b"\n'
        '[[site]]\nname = "a"\n[run]\nsteps = 3\n',
    )


def test_measured_values_fill_what_is_not_given(measured):
    scenario = load(measured)
    machine = scenario.workers[0].machine
    assert machine.step_seconds == 1.1
    assert machine.batch_tokens == 1000
    assert machine.outer_step_seconds == 0.5
    assert machine.communication_slowdown == 1.25
    assert machine.cold_start == ((0.1, 0.01), (1.0, 0.02))
    assert machine.jitter.samples == (0.5, 1.5)
    assert scenario.network.bandwidth[0][1] == 1e6
    assert scenario.network.latency[0][1] == 0.05
    collectives = scenario.network.collectives
    assert (collectives.concurrent, collectives.first_seconds) == (2, 3.0)
    assert collectives.tables[0].seconds == (1, 2)
    assert "hw.toml, machine fast" in assumed(scenario)["site.step_time"]
    assert not any("EXTRAPOLATED" in value for value in assumed(scenario).values())


def test_what_is_given_overrides_what_was_measured(measured):
    settings = ["site.step_time=9s", "network.bandwidth=8bit/s", "network.collective.concurrent=1"]
    scenario = load(measured, {}, settings)
    assert scenario.workers[0].machine.step_seconds == 9.0
    assert scenario.workers[0].machine.outer_step_seconds == 0.5
    assert scenario.rate(0, 1) == 1.0
    assert scenario.network.latency[0][1] == 0.05
    # Tables measured at another rate would contradict the one given.
    assert scenario.network.collectives.tables == ()
    assert scenario.network.collectives.concurrent == 1


def test_another_size_is_extrapolated_and_says_so(measured):
    scenario = load(measured, {"--model": "2B", "--batch-tokens": "3000"})
    machine = scenario.workers[0].machine
    assert machine.step_seconds == pytest.approx(1.1 * 2 * 3)
    assert machine.outer_step_seconds == pytest.approx(1.0)
    assert "EXTRAPOLATED" in assumed(scenario)["site.step_time"]
    assert "EXTRAPOLATED" in assumed(scenario)["site.outer_step_time"]


def test_paths_of_options_are_relative_to_the_working_directory(measured, monkeypatch):
    monkeypatch.chdir(measured.parent)
    assert load(None, {"--model": "1B", "--hardware": "hw.toml"}).network.bandwidth[0][1] == 1e6


def test_the_example_hardware_file_loads():
    path = THREE.parent / "hardware" / "example.toml"
    scenario = load(None, {"--model": "1B", "--hardware": str(path)})
    assert scenario.network.collectives.tables


# Hash


def test_the_hash_covers_what_decides_and_nothing_else(tmp_path):
    base = {"--model": "1B"}
    first = load(None, base)
    assert first.sha256 == load(None, base).sha256
    assert len(first.sha256) == 64
    # Saying what would be assumed anyway is the same question.
    assert load(None, {**base, "--rtt": "30ms", "--bandwidth": "1Gbit/s"}).sha256 == first.sha256
    different = [
        {"--rtt": "31ms"},
        {"--seed": "1"},
        {"--sync-every": "99"},
        {"--workers": "2"},
        {"--steps": "10"},
        {"--jitter": "normal:0.1"},
        {"--method": "diloco"},
    ]
    hashes = {load(None, {**base, **options}).sha256 for options in different}
    assert len(hashes) == len(different)
    assert first.sha256 not in hashes


def test_a_field_or_an_argument_with_its_default_changes_no_hash():
    @dataclass(frozen=True)
    class LaterRun(Run):
        later: float = 2.0

    def with_later(worker, *, sync_every=100, overlap="none", later=3):
        yield

    scenario = load(None, {"--model": "1B", "--method": "local_sgd", "--sync-every": "7"})
    run = LaterRun(**vars(scenario.run))
    assert replace(scenario, run=run).sha256 == scenario.sha256
    assert replace(scenario, run=replace(run, later=1.0)).sha256 != scenario.sha256

    arguments = {"sync_every": 7, "later": 3}
    later = replace(scenario.method, program=with_later, arguments=arguments)
    assert replace(scenario, method=later).sha256 == scenario.sha256
    later = replace(later, arguments={**arguments, "later": 4})
    assert replace(scenario, method=later).sha256 != scenario.sha256


def test_what_is_replaced_in_a_scenario_has_another_hash():
    scenario = load(None, {"--model": "1B", "--sites": "3"})
    rates = [with_bandwidth(scenario, rate).sha256 for rate in (1e8, 2e8)]
    assert len({scenario.sha256, *rates, with_sites(scenario, [0, 1]).sha256}) == 4


# Bundled files


@pytest.mark.parametrize("name", bundled())
def test_bundled_scenarios_load_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = load(name)
    assert scenario.workers
    assert load(name.replace("_", "-")).sha256 == scenario.sha256
    assert load(scenario.name).sha256 == scenario.sha256


def test_the_readme_lists_every_scenario():
    text = (THREE.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"[{path.name}]({path.name})" in text for path in bundled().values())


@pytest.mark.parametrize("name", ["streaming-diloco-table-4", "eager-updates"])
def test_published_tables_have_a_cell_for_every_case_and_target(name):
    study = load_study(name)
    lines = study.compare_with.read_text(encoding="utf-8").splitlines()
    import csv

    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    cells = {(row["model"], row["method"], row["target"]) for row in rows}
    expected = {
        (case.labels["model"], case.labels["method"], f"{100 * target:g} %")
        for case in study.cases()
        for target in study.targets
    }
    assert cells == expected
    assert all(float(row["gbit_per_s"]) > 0 for row in rows)


def test_train_and_data_are_checked_and_kept():
    content = sections("quick_start")
    assert content.train.learning_rate == 0.001
    assert content.model.context == 128
    assert content.data.kind == "stdlib"


def test_the_quick_start_is_small():
    assert 5e5 < load("quick_start").model.parameters < 2e6


# Template


@pytest.mark.parametrize(
    "names",
    [
        ["here"],
        ["paris", "dallas"],
        ["paris", "dallas", "osaka"],
        ["zürich", "são-paulo", "a b", "us-east-1"],
    ],
)
def test_a_template_loads_as_it_is(names, tmp_path):
    text = template(names)
    scenario = load(write(tmp_path, text))
    assert [site.name for site in scenario.sites] == names
    assert scenario.workers[0].machine.batch_tokens == 2**20
    assert text.count("EDIT") >= 4
    assert ("matrix" in text) == (len(names) > 2)


@pytest.mark.parametrize("names", [[], [""], ["a", "a"], ["workers"], ["7"], ["a.b"], ['a"b']])
def test_a_template_refuses_names_that_cannot_be_addressed(names):
    with pytest.raises(ScenarioError, match="--sites"):
        template(names)


# Studies


def test_the_published_table_is_fifteen_cases():
    study = load_study("streaming-diloco-table-4")
    assert study.axes == ("model", "method")
    assert study.targets == (0.5, 0.8, 0.9, 0.95, 0.99)
    assert study.printing == "grid_point_below"
    assert study.compare_with.is_file()
    cases = study.cases()
    assert len(cases) == 15
    last = cases[-1].scenario
    assert cases[-1].labels == {"model": "100B, 108 layers, 4.9 s", "method": "+ overlapped, FP4"}
    assert last.model.layers == 108
    assert last.workers[1].machine.step_seconds == 4.9
    assert last.method.arguments["overlap"] == "layer"
    assert last.method.arguments["comm_dtype"] == "fp4"
    assert last.method.arguments["fragment_spacing"] == "nearest"
    assert last.network.collectives.quantize_block == 0
    assert study.base.method.name == "ddp"
    assert len({case.scenario.sha256 for case in cases}) == 15


def test_the_grid_is_spaced_by_a_factor():
    numpy = pytest.importorskip("numpy")
    grid = load_study("streaming_diloco_table4").grid
    assert grid == pytest.approx(numpy.logspace(-1, 3, 50) * GIGABIT, rel=1e-12)
    assert (grid[0], grid[-1]) == (12.5e6, 125e9)


STUDY = """\
[model]
name = "1B"
[method]
name = "ddp"
overlap = "layer"
[study.axis]
"network.rtt" = ["1 ms", "20 ms"]
[study.axis.method]
base = {}
diloco = { method = { name = "diloco", sync_every = 50 }, site = { step_time = "3 s" } }
"""


def test_axes_multiply_and_lists_are_columns_in_si_units(tmp_path):
    study = load_study(write(tmp_path, STUDY))
    assert study.ask == "simulate"
    assert study.axes == ("network.rtt_s", "method")
    labels = [tuple(case.labels.values()) for case in study.cases()]
    assert labels == [(0.001, "base"), (0.001, "diloco"), (0.02, "base"), (0.02, "diloco")]
    last = study.cases()[-1].scenario
    assert last.network.latency[0][1] == 0.01
    assert [w.machine.step_seconds for w in last.workers] == [3.0, 3.0]
    assert last.method.arguments["overlap"] == "layer"


def test_options_change_the_base_of_a_study(tmp_path):
    study = load_study(write(tmp_path, STUDY), {"--bandwidth": "5Gbit/s"})
    assert {case.scenario.rate(0, 1) for case in study.cases()} == {5 * GIGABIT}


def test_a_validation_study_is_checked(tmp_path):
    text = STUDY.replace(
        "[study.axis]",
        """\
[study]
ask = "validate"
sample = 60
repeats = 3
order = "random"
compute = ["paced", "real"]
baselines = ["bandwidth_only", "alpha_beta"]
informative = { share = 0.5, communication_above = 0.3 }
[study.calibrate]
same_launch = true
bandwidth = ["100 Mbit/s", "500 Mbit/s"]
rtt = ["0 ms", "40 ms"]
[study.tolerance]
paced = { wall_clock = { median = "3 %", p95 = "8 %" }, exposed_communication = { p95 = "10 %" } }
real = { wall_clock = { median = "5 %", p95 = "12 %" }, waiting = { median = "20 %" } }
[study.axis]""",
        1,
    )
    assert load_study(write(tmp_path, text)).ask == "validate"


# Sweeps


def test_a_range_is_spaced_by_a_factor():
    study = sweep(None, {"--model": "1B"}, [], ["bandwidth=0.1..1000Gbit/s:5"])
    rates = [case.labels["network.bandwidth_bytes_per_s"] for case in study.cases()]
    assert rates == pytest.approx([GIGABIT * 10**k for k in (-1, 0, 1, 2, 3)])
    assert [case.scenario.rate(0, 1) for case in study.cases()] == rates


def test_short_and_full_keys_multiply():
    study = sweep("three_sites", {}, [], ["sync_every=10,100", "site.osaka.step_time=3s,4s"])
    labels = [tuple(case.labels.values()) for case in study.cases()]
    assert labels == [(10, 3.0), (10, 4.0), (100, 3.0), (100, 4.0)]
    assert study.cases()[1].scenario.workers[2].machine.step_seconds == 4.0


def test_a_list_shares_the_last_unit():
    study = sweep(None, {"--model": "1B"}, [], ["rtt=0,10,20ms"])
    assert [case.labels["network.rtt_s"] for case in study.cases()] == [0.0, 0.01, 0.02]


def test_an_exponent_is_no_unit():
    for values in ("1..1e3:4", "1,10,100,1e3"):
        study = sweep(None, {"--model": "1B"}, [], [f"run.seed={values}"])
        assert [case.labels["run.seed"] for case in study.cases()] == [1, 10, 100, 1000]


def test_whole_numbers_stay_whole():
    study = sweep(None, {"--model": "1B"}, [], ["sync_every=1..100:3"])
    assert [case.labels["method.sync_every"] for case in study.cases()] == [1, 10, 100]


def test_models_methods_and_numbers_of_sites_can_be_swept():
    study = sweep(None, {}, [], ["model=1B,10B", "method=ddp,acco", "sites=2,4"])
    assert study.axes == ("model.name", "method.name", "site.count")
    assert len(study.cases()) == 8
    last = study.cases()[-1]
    assert last.labels == {"model.name": "10B", "method.name": "acco", "site.count": 4}
    assert len(last.scenario.sites) == 4


def test_a_sweep_of_a_study_file_varies_its_base():
    study = sweep("streaming-diloco-table-4", {}, [], ["rtt=1ms,2ms"])
    assert len(study.cases()) == 2
    assert study.base.method.name == "ddp"


# Anything at all


junk = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**20) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(key=st.sampled_from(known_keys()), value=junk)
def test_any_value_for_any_key_is_taken_or_refused(key, value):
    taken_or_refused(f"{key}={toml(value)}")


def taken_or_refused(setting):
    try:
        scenario = load("three_sites", {}, [setting])
    except ScenarioError as error:
        message = str(error)
    else:
        message = json.dumps(scenario.assumed)
    assert message.isprintable()


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return str(value)


@given(st.text(max_size=40))
def test_any_setting_is_taken_or_refused(text):
    taken_or_refused(text)


@given(st.binary(max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    path = Path(tmp_path_factory.mktemp("any")) / "case.toml"
    path.write_bytes(content)
    with pytest.raises(ScenarioError):
        load(path)


def test_bundled_files_are_plain_toml():
    for path in bundled().values():
        assert "run" in tomllib.loads(path.read_text(encoding="utf-8"))


def test_jitter_may_be_written_in_short(tmp_path):
    file = tmp_path / "case.toml"
    file.write_text('[model]\nname = "1B"\n[[site]]\ncount = 2\njitter = "lognormal:0.3"\n')
    assert load(file).workers[0].machine.jitter == Jitter("lognormal", 0.3)
    more = load(file, {}, ["site.jitter.cv=0.5"])
    assert more.workers[0].machine.jitter == Jitter("lognormal", 0.5)


def test_sites_are_set_by_the_names_that_are_shown(tmp_path):
    model = {"--model": "1B"}
    four = load(None, {**model, "--sites": "4"}, ["site.site-4.speed=0.25", "site.workers=2"])
    assert [site.name for site in four.sites] == ["site-1", "site-2", "site-3", "site-4"]
    assert [w.machine.speed for w in four.workers] == [1, 1, 1, 1, 1, 1, 0.25, 0.25]
    two = load(None, model, ["site.site-2.speed=0.5"])
    assert [w.machine.speed for w in two.workers] == [1, 0.5]
    assert ("site.count", "2") in two.assumed

    file = tmp_path / "case.toml"
    file.write_text(
        '[model]\nname = "1B"\n[[site]]\nname = "paris"\ncount = 3\n[[site]]\nspeed = 2.0\n'
    )
    assert [site.name for site in load(file).sites] == ["paris-1", "paris-2", "paris-3", "site-4"]
    found = load(file, {}, ["site.paris-2.speed=0.5", "site.site-4.workers=2"])
    assert [site.name for site in found.sites] == [site.name for site in load(file).sites]
    assert [w.machine.speed for w in found.workers] == [1, 0.5, 1, 2, 2]
    with pytest.raises(ScenarioError, match="there is no site"):
        load(file, {}, ["site.paris-4.speed=0.5"])


def test_a_site_taken_apart_keeps_its_measured_machine(tmp_path):
    (tmp_path / "hw.toml").write_text(
        "[calibration]\nschema = 1\n[machine.paris]\ninner_step_s = 2.0\nbatch_tokens = 1e6\n"
        "[machine.rome]\ninner_step_s = 3.0\nbatch_tokens = 1e6\n"
    )
    file = tmp_path / "case.toml"
    file.write_text(
        'hardware = "hw.toml"\n[model]\nparameters = "1B"\n[[site]]\nname = "paris"\ncount = 2\n'
    )
    scenario = load(file, {}, ["site.paris-2.speed=0.5"])
    assert [w.machine.step_seconds for w in scenario.workers] == [2.0, 2.0]


def test_what_the_template_comments_out_is_valid(tmp_path):
    text = template(["paris", "dallas"])
    block = text.replace("# jitter", "jitter").replace("# uplink", "uplink")
    block = block.replace("# downlink", "downlink").replace("# accelerators", "accelerators")
    lines = [
        line.replace("# mfu", "mfu")
        for line in block.splitlines()
        if not line.startswith("step_time")
    ]
    file = tmp_path / "case.toml"
    file.write_text("\n".join(lines))
    scenario = load(file)
    assert scenario.workers[0].machine.jitter == Jitter("lognormal", 0.1)
    assert scenario.sites[0].uplink == 1.25e9
    assert scenario.workers[0].machine.step_seconds == pytest.approx(2.485, rel=1e-3)


# A module of the user's


OWN = """\
[model]
module = "mine:make"
layer_parameters = [1000, "1.2M", 7]
[[site]]
step_time = "1 s"
"""


def test_a_module_of_the_users_is_simulated_by_the_sizes_beside_it(tmp_path):
    file = write(tmp_path, OWN)  # there is no module called mine
    scenario = load(file)
    assert scenario.model.layer_parameters == (1000, 1_200_000, 7)
    assert scenario.model.parameters == scenario.model.active_parameters == 1_201_007
    assert scenario.model.name == "mine:make 1.2M"
    said = assumed(scenario)
    assert said["model.vocabulary"] == "256 (bytes)"
    assert said["model.context"] == "1024 tokens"
    given = assumed(load(file, {}, ["model.vocabulary=32Ki", "model.context=64"]))
    assert not {"model.vocabulary", "model.context"} & set(given)


def test_its_sizes_may_be_a_number_and_layers(tmp_path):
    file = write(tmp_path, OWN.replace('layer_parameters = [1000, "1.2M", 7]', "parameters = 10"))
    model = load(file, {}, ["model.layers=3"]).model
    assert model.layer_parameters == (4, 3, 3)
    assert model.name == "mine:make 10"


def test_unequal_layers_need_no_module():
    options = {"--step-time": "1s"}
    scenario = load(None, options, ["model.layer_parameters=[30, 10]"])
    assert scenario.model.layer_parameters == (30, 10)
    assert not {"model.vocabulary", "model.context", "model.layers"} & set(assumed(scenario))


@pytest.mark.parametrize(
    ("source", "replaced"), [("own", ["--model", "1B"]), ("quick_start", ["--model", "3M"])]
)
def test_another_model_replaces_all_that_was_said_of_this_one(tmp_path, source, replaced):
    source = write(tmp_path, OWN) if source == "own" else source
    section = load(source, dict([replaced])).model
    assert section.parameters in (10**9, 3 * 10**6)
    assert "mine" not in section.name


def test_a_module_replaces_a_decoder_with_its_sizes():
    sizes = ["model.module=mine:make", "model.layer_parameters=[5, 6]"]
    for settings in (sizes, sizes[::-1]):
        model = load("quick_start", {}, settings).model
        assert (model.name, model.layer_parameters) == ("mine:make 11", (5, 6))
        assert model.param_dtype == "fp32"
        assert "model.context" in assumed(load("quick_start", {}, settings))
        kept = sections("quick_start", {}, [*settings, "model.context=32"]).model
        assert (kept.context, kept.vocabulary, kept.kind) == (32, None, None)


def test_a_decoder_by_its_size() -> None:
    made = load("quick_start", {}, ["model.size=5M"])
    assert made.model.parameters == 4_885_760
    assert dict(made.assumed)["model.hidden"] == "256 (size 5M)"
    other = load("quick_start", {}, ["model.size=5M", "model.vocabulary=512"])
    assert other.model.parameters == 4_885_760 + 256 * 256
    with pytest.raises(ScenarioError, match=r"model\.hidden: \"64\": excludes model\.size"):
        load("quick_start", {}, ["model.size=5M", "model.hidden=64"])
    with pytest.raises(ScenarioError, match='did you mean "5M"'):
        load("quick_start", {}, ["model.size=5m"])
