"""What a researcher types first: it works, or one line says what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.command_line import Bandwise

import sim
from sim.api.calls import CallError
from sim.program import Program, Worker
from sim.questions.study import StudyError
from sim.scenario import ScenarioError


def averaging(worker: Worker, *, sync_every: int = 50, twice: bool = False) -> Program:
    """Local SGD, with an argument of its own."""
    model = worker.model
    whole = range(model.num_layers)
    while worker.next_round(steps=sync_every):
        yield worker.compute(model.inner_step, times=sync_every)
        for _ in range(1 + twice):
            yield worker.all_reduce(model.parameters(whole), model.param_dtype)
        yield worker.compute(model.average_parameters, whole, commits=True)


SHORT = {"measured_rounds": 4}


def described(**keywords: Any) -> Any:
    return sim.make_scenario(**{"model": "10B", "method": "diloco", **keywords})


def test_text_numbers_and_numbers_of_numpy_mean_the_same() -> None:
    same = [
        described(bandwidth="1 Gbit/s", rtt="30 ms", sync_every="50"),
        described(bandwidth=125e6, rtt=0.03, sync_every=50),
        described(bandwidth=np.float64(125e6), rtt=0.03, sync_every=np.int64(50)),
        described(settings={"network.bandwidth": "1Gbit/s", "method.sync_every": 50}, rtt=0.03),
        described(
            method={"name": "diloco", "sync_every": 50},
            network={"bandwidth": "1 Gbit/s", "rtt": 0.03},
        ),
    ]
    assert len({scenario.sha256 for scenario in same}) == 1


def test_a_number_for_a_bandwidth_is_bytes_per_second_and_says_so() -> None:
    scenario = described(bandwidth=1e9)
    assert scenario.resolved.rate(0, 1) == 1e9
    assert scenario.assumed["network.bandwidth"] == "8 Gbit/s (a number is in bytes/s)"
    assert "8 Gbit/s (a number is in bytes/s)" in repr(sim.simulate(scenario))
    for result in (
        sim.compare(scenario, ["diloco"]),
        sim.sweep(scenario, sync_every=[100]),
        sim.required(scenario, 0.5),
    ):
        assert "given as numbers are in bytes/s: network.bandwidth = 8 Gbit/s." in repr(result)
        assert result.figures["assumed"]["network.bandwidth"].startswith("8 Gbit/s")
    assert "network.bandwidth" not in scenario.replace(bandwidth="1 Gbit/s").assumed


def test_sites_by_number_by_name_and_one_of_them_slower() -> None:
    assert len(described(sites=3).resolved.sites) == 3
    scenario = described(sites=("paris", "osaka"), site={"osaka": {"speed": 0.5}, "workers": 2})
    assert [site.name for site in scenario.resolved.sites] == ["paris", "osaka"]
    assert [worker.machine.speed for worker in scenario.resolved.workers] == [1, 1, 0.5, 0.5]


def test_a_function_is_a_method_like_any_other() -> None:
    scenario = described(method=averaging, sync_every=20, twice=True, bandwidth="1 Gbit/s")
    assert scenario.method.endswith(":averaging")
    assert scenario.resolved.method.arguments == {"sync_every": 20, "twice": True}
    once = scenario.replace(twice=False)
    assert once.sha256 != scenario.sha256

    def time_of(each: Any) -> float:
        return float(sim.simulate(each).figures["evaluated_rounds"]["wall_clock_s"])

    assert time_of(scenario) > time_of(once)
    by_name = described(method="local_sgd", sync_every=20, bandwidth="1 Gbit/s")
    assert time_of(once) == pytest.approx(time_of(by_name), rel=1e-12)
    compared = sim.compare(described(bandwidth="1 Gbit/s"), ["ddp", averaging])
    assert list(compared.frame()["method"]) == ["ddp", scenario.method]
    assert len(compared.provenance.methods_sha256[scenario.method]) == 64


def test_methods_are_tuned_as_on_the_command_line(bandwise: Bandwise) -> None:
    asked = ("--model", "1B", "--sites", "2", "--bandwidth", "1Gbit/s", "--rtt", "80ms")
    fixed = ("--comm-dtype", "bf16", "--algorithm", "ring")
    typed = bandwise("compare", *asked, *fixed, "--tuned", "--methods", "diloco", "--json").json
    keywords = {"sites": 2, "bandwidth": "1 Gbit/s", "rtt": "80 ms", "comm_dtype": "bf16"}
    scenario = sim.make_scenario(model="1B", algorithm="ring", **keywords)
    found = sim.compare(scenario, ["diloco"], tuned=True)
    assert found.figures["tuned"] == typed["tuned"]
    assert found.figures["methods"] == typed["methods"]
    untuned = sim.compare(scenario, ["diloco"]).figures
    assert untuned["tuned"] is None


def test_a_function_that_is_local_runs_in_other_processes() -> None:
    factor = 2

    def local(worker: Worker, *, sync_every: int = 50) -> Program:
        yield from averaging(worker, sync_every=factor * sync_every)

    scenario = described(method=local, bandwidth="1 Gbit/s")
    alone = sim.sweep(scenario, sync_every=[10, 20]).frame()
    pd.testing.assert_frame_equal(alone, sim.sweep(scenario, sync_every=[10, 20], jobs=2).frame())


def test_a_sweep_has_a_row_per_point_whatever_holds_the_values() -> None:
    scenario = described(bandwidth="1 Gbit/s")
    frame = sim.sweep(scenario, bandwidth=[1e9, "10 Gbit/s"], sync_every=(30, 100)).frame()
    assert list(frame["network.bandwidth_bytes_per_s"]) == [1e9, 1e9, 1.25e9, 1.25e9]
    assert list(frame["method.sync_every"]) == [30, 100, 30, 100]
    for values in (np.array([10, 20]), pd.Series([10, 20]), range(10, 21, 10), "10,20"):
        assert list(sim.sweep(scenario, sync_every=values).frame()["method.sync_every"]) == [10, 20]
    swept = sim.sweep(scenario, method=["ddp", averaging])
    assert set(swept.provenance.methods_sha256) == {"test_first_calls:averaging"}
    methods = swept.frame()
    assert list(methods["method.name"]) == ["ddp", "test_first_calls:averaging"]
    per = sim.sweep(scenario, settings={"network.per": ["site", "pair"]}).frame()
    assert list(per["network.per"]) == ["site", "pair"]
    assert len(sim.sweep(scenario, bandwidth="1..100Gbit/s:5").frame()) == 5


def test_results_are_drawn_on_the_axes_given_or_a_new_one() -> None:
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes

    scenario = described(bandwidth="1 Gbit/s", steps=300)
    try:
        _, ax = plt.subplots()
        assert sim.sweep(scenario, bandwidth=[1e9, 2e9]).plot(ax) is ax
        varied = sim.sweep(scenario, sync_every=[30, 100])
        assert isinstance(varied.plot(), Axes)
        assert len(varied.plot(only={"method.sync_every": 30}).get_yticks()) == 1
        with pytest.raises(ValueError, match=r"only: no run with method\.sync_every = 7"):
            varied.plot(only={"method.sync_every": 7})
        assert isinstance(sim.simulate(scenario).plot(), Axes)
        assert isinstance(sim.compare(scenario, ["ddp", "diloco"]).plot(), Axes)
    finally:
        plt.close("all")


def test_what_is_random_keeps_its_interval() -> None:
    result = sim.simulate(
        described(bandwidth="1 Gbit/s", jitter="lognormal:0.1", replications=3, run=SHORT)
    )
    assert result.interval.replications == 3
    figures = result.figures["evaluated_rounds"]
    assert result.interval.low == figures["wall_clock_low_s"] < figures["wall_clock_high_s"]
    assert result.figures["replications"] == 3


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "text for a scenario": (
        lambda: sim.simulate("10B"),
        CallError,
        'simulate: takes a scenario, not the text "10B"; write sim.make_scenario(model="10B")',
    ),
    "a name for a scenario": (
        lambda: sim.compare("three_sites"),
        CallError,
        'compare: takes a scenario, not the text "three_sites"; write sim.load("three_sites")',
    ),
    "None": (
        lambda: sim.required(None, 0.9),
        CallError,
        "required: takes a scenario, not None; sim.make_scenario(...) and sim.load(...) return one",
    ),
    "a table for a scenario": (
        lambda: sim.sweep(pd.DataFrame({"a": [1]}), rtt=[0.1]),
        CallError,
        "sweep: takes a scenario, not a pandas.DataFrame; "
        "sim.make_scenario(...) and sim.load(...) return one",
    ),
    "a dict for a scenario": (
        lambda: sim.simulate({"model": "10B"}),
        CallError,
        "simulate: takes a scenario, not a dict; write sim.make_scenario(**...) with its keys",
    ),
    "a model alone": (
        lambda: sim.make_scenario("10B"),  # type: ignore[call-arg]
        CallError,
        'make_scenario: takes keywords alone; write sim.make_scenario(model="10B")',
    ),
    "a keyword of the scenario": (
        lambda: sim.simulate(described(), bandwidth="1 Gbit/s"),  # type: ignore[call-arg]
        CallError,
        "simulate: has no keyword bandwidth; the scenario holds it: "
        "sim.simulate(scenario.replace(bandwidth=...))",
    ),
    "nothing": (
        lambda: sim.simulate(),  # type: ignore[call-arg]
        CallError,
        "simulate: missing a required argument: 'scenario'; "
        "write sim.simulate(scenario, replay=..., sensitivity=...)",
    ),
    "an axes that is none": (
        lambda: sim.compare(described(bandwidth="9 Gbit/s"), ["diloco"]).plot(3),
        CallError,
        "plot: ax is a matplotlib Axes, not 3; plt.subplots() returns one",
    ),
    "a trace that is not there": (
        lambda: sim.simulate(described(), replay="run.parquet"),
        ValueError,
        "simulate: replay: run.parquet: no such file",
    ),
    "lists of methods": (
        lambda: sim.compare(described(), [["ddp", "diloco"]]),
        CallError,
        "compare: a method is a name or a function, not a list",
    ),
    "a number for whether to tune": (
        lambda: sim.compare(described(), ["diloco"], tuned=1),
        CallError,
        "compare: tuned is True or False, not 1",
    ),
    "a study for a scenario": (
        lambda: sim.load("streaming_diloco_table4"),
        ScenarioError,
        "streaming_diloco_table4.toml: study: this is a study of 15 cases, not one scenario: "
        "bandwise study streaming_diloco_table4 --out DIR runs it; for its base alone, leave "
        "[study] out of a copy",
    ),
    "a slip of the pen": (
        lambda: described(bandwith="1 Gbit/s"),
        ScenarioError,
        "bandwith: unknown key; did you mean bandwidth?",
    ),
    "another project's word": (
        lambda: described(inner_steps=100),
        ScenarioError,
        "inner_steps: unknown key; here it is called method.sync_every",
    ),
    "a key of several sections": (
        lambda: described(loss=0.01),
        ScenarioError,
        "loss: may mean model.loss or network.loss; "
        'write settings={"...": ...} with the full key',
    ),
    "several values": (
        lambda: described(bandwidth=[1, 2]),
        ScenarioError,
        "bandwidth: [1, 2]: one value makes a scenario; several are an axis: "
        "sim.sweep(scenario, bandwidth=[...]) varies it",
    ),
    "one value": (
        lambda: sim.sweep(described(), bandwidth=1e9),
        ScenarioError,
        "bandwidth: 1000000000.0: give several values, like bandwidth=[...]",
    ),
    "no axis": (
        lambda: sim.sweep(described()),
        CallError,
        'sweep: name what to vary, like bandwidth=["1 Gbit/s", "10 Gbit/s"]',
    ),
    "a negative number": (
        lambda: described(bandwidth=-1e9),
        ScenarioError,
        "bandwidth: -1000000000.0: must not be negative",
    ),
    "not a number": (
        lambda: described(rtt=float("nan")),
        ScenarioError,
        "rtt: nan: must be a finite number",
    ),
    "text without a unit": (
        lambda: described(bandwidth="1"),
        ScenarioError,
        'bandwidth: "1": no unit; write it like "1 Gbit/s"',
    ),
    "a boolean": (
        lambda: described(bandwidth=True),
        ScenarioError,
        'bandwidth: true: must be written like "1 Gbit/s"',
    ),
    "a wrong type": (
        lambda: described(bandwidth=object()),
        ScenarioError,
        "bandwidth: an object is nothing that a key can hold; give a number or text",
    ),
    "a table as a value": (
        lambda: described(bandwidth=pd.DataFrame({"a": [1.0]})),
        ScenarioError,
        "bandwidth: a pandas.DataFrame is nothing that a key can hold; give a number or text",
    ),
    "a function that is no generator": (
        lambda: described(method=lambda worker: None),
        ScenarioError,
        'method: "test_first_calls:<lambda>.<locals>.<lambda>": is not a generator function: '
        "it must yield what it waits for",
    ),
    "a method that was called": (
        lambda: described(method=averaging(None)),  # type: ignore[arg-type]
        ScenarioError,
        "method: a generator is no method; give a name or a generator function",
    ),
    "an unknown method": (
        lambda: sim.compare(described(), ["dilco"]),
        ScenarioError,
        'method: "dilco": unknown method; did you mean "diloco"? '
        '(or "package.module:function" for one of your own)',
    ),
    "a method instead of a list": (
        lambda: sim.compare(described(), averaging),
        CallError,
        'compare: methods are a list, like ["ddp", my_method], not a function',
    ),
    "a section that is none": (
        lambda: described(network="pair"),
        ScenarioError,
        'network: is a section; give a dict, like network={"per": "pair"}',
    ),
    "the same key twice": (
        lambda: described(bandwidth="1 Gbit/s", network={"bandwidth": "2 Gbit/s"}),
        ScenarioError,
        "network.bandwidth: network.bandwidth is given by bandwidth already; "
        "leave one of them out",
    ),
    "no model": (
        lambda: sim.make_scenario(),
        ScenarioError,
        'model: missing; give name = "10B" (model 10B; a preset: 1B, 10B or 100B), '
        'or parameters = "7B" (model 7B)',
    ),
    "an unknown file": (
        lambda: sim.load("three_site"),
        ScenarioError,
        'three_site: no such file, and no bundled scenario; did you mean "three_sites"?',
    ),
    "a target in percent": (
        lambda: sim.required(described(), 95),
        ValueError,
        "required: target 95: must lie between 0 and 1, that is 0 % and 100 %; "
        'did you mean "95 %"?',
    ),
    "an unknown link": (
        lambda: sim.required(described(), 0.95, link="paris"),
        ValueError,
        'link: unknown "paris" (one of site-1.uplink, site-1.downlink, site-2.uplink, '
        "site-2.downlink)",
    ),
    "an unknown table": (
        lambda: sim.reproduce("table4"),
        ValueError,
        'no published table "table4"; there are eager_updates, streaming_diloco_table4',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_is_told_in_one_line_what_to_write(name: str) -> None:
    call, kind, line = WRONG[name]
    with pytest.raises(kind) as raised:
        call()
    assert str(raised.value) == line


def test_nothing_is_written_unless_a_place_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scenario = described(bandwidth="1 Gbit/s", steps=300)
    result = sim.simulate(scenario)
    sim.sweep(scenario, sync_every=[30, 100])
    sim.compare(scenario, ["ddp"])
    assert not list(tmp_path.iterdir())
    result.save_trace("run.parquet")
    frame = sim.sweep(scenario, bandwidth=["1 Gbit/s", "2 Gbit/s"], out="swept").frame()
    names = {path.name for path in (tmp_path / "swept").iterdir()}
    assert names >= {"results.csv", "results.parquet", "utilization.png"}
    done: list[tuple[int, int]] = []
    again = sim.sweep(
        scenario, bandwidth=["1 Gbit/s", "2 Gbit/s"], out=tmp_path / "swept",
        on_progress=lambda *each: done.append(each),
    )  # fmt: skip
    pd.testing.assert_frame_equal(frame, again.frame())
    assert done == [(2, 2)]  # read, not computed
    replayed = sim.simulate(scenario, replay="run.parquet")
    assert replayed.figures["whole_run"] == result.figures["whole_run"]


def test_a_folder_of_the_command_line_is_continued_from_python(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    options = ["--model", "10B", "--method", "diloco", "--bandwidth", "1Gbit/s", "--jobs", "1"]
    folder = tmp_path / "swept"
    assert bandwise("sweep", *options, "--over", "sync_every=30,100", "--out", folder).status == 0
    done: list[tuple[int, int]] = []
    sim.sweep(
        described(bandwidth="1 Gbit/s"), sync_every=[30, 100], out=folder,
        on_progress=lambda *each: done.append(each),
    )  # fmt: skip
    assert done == [(2, 2)]
    with pytest.raises(StudyError, match=r"another study.*; choose another out, or remove"):
        sim.sweep(described(bandwidth="1 Gbit/s"), sync_every=[30, 90], out=folder)


def test_a_file_from_elsewhere_imports_nothing_unless_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs" / "method_of_theirs.py").write_text("def run(worker):\n    yield\n")
    file = tmp_path / "theirs" / "scenario.toml"
    file.write_text('model.name = "10B"\nmethod.name = "method_of_theirs:run"\n')
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(ScenarioError, match=r"if you trust it, give allow_code=True$"):
        sim.load(file)
    assert sim.load(file, allow_code=True).method == "method_of_theirs:run"
