"""One table of operations: what a row brings with it, and what a program declares of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from annotated_types import Ge
from support.plain_scenario import machine, plain

from sim.figures.evaluation import figures
from sim.models.quadratic import Quadratic
from sim.models.sized import Sized
from sim.operations import OPERATIONS, Operation
from sim.program import Model, Program, operation
from sim.runtime import SimulationError, simulate
from sim.storage.files import DamagedError
from sim.trace import files as trace_files

# What the interpreter is given before anything else of ours is imported: one more row, as if it
# stood in the table.
ROW = """
    from sim.operations import OPERATIONS, Operation

    OPERATIONS["compress"] = Operation("compress", "quantize", "layers", "compress_time")
"""
HARDWARE = """\
[calibration]
schema = 1
[machine.worker]
parameters = 1000
compress_s = 0.25
"""
SCENARIO = """\
hardware = "hw.toml"
[run]
rounds = 2
[model]
layer_parameters = [400, 600]
[method]
name = "mine:compressed"
[[site]]
count = 2
step_time = "1 s"
speed = 0.5
[network]
bandwidth = "1 Tbit/s"
latency = "0 s"
"""
METHOD = """\
def compressed(worker):
    model = worker.model

    def compress(layers): ...

    while worker.next_round(steps=1):
        yield worker.compute(model.inner_step)
        yield worker.compute(compress, range(1))
"""
ASKED = """
    import json
    from sim.figures.evaluation import figures
    from sim.runtime import simulate
    from sim.scenario import ScenarioError, load
    from sim.scenario.axes import over_axis

    measured, given = load("case.toml"), load("case.toml", {}, ["site.compress_time=3s"])
    found = {
        "seconds": [each.workers[0].machine.compress_seconds for each in (measured, given)],
        "hashes": len({measured.sha256, given.sha256}),
        "assumed": dict(measured.assumed)["site.compress_time"],
        "column": over_axis("compress_time=1s,2s").name,
        "breakdown": figures(simulate(given)).breakdown,
    }
    try:
        load("case.toml", {}, ["site.compres_time=3s"])
    except ScenarioError as error:
        found["advice"] = str(error)
    print(json.dumps(found))
"""


def test_a_row_brings_its_keys_its_time_and_its_cause(tmp_path: Path) -> None:
    for name, text in (("hw.toml", HARDWARE), ("case.toml", SCENARIO), ("mine.py", METHOD)):
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-c", textwrap.dedent(ROW) + textwrap.dedent(ASKED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["seconds"] == [0.25, 3.0]
    assert found["hashes"] == 2
    assert found["assumed"] == "250 ms (hw.toml, machine worker)"
    assert found["column"] == "site.compress_time_s"
    assert "did you mean site.compress_time?" in found["advice"]
    # At half the speed 2 s for the step, and of 6 s for both layers 3 s for one.
    assert found["breakdown"]["quantize"] == pytest.approx(3 / 5)
    assert found["breakdown"]["compute"] == pytest.approx(2 / 5)


def test_a_calibration_times_and_writes_every_row_with_a_key_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    from realrun.calibration.operations import Timings
    from realrun.calibration.records import Computed, hardware

    row = Operation("compress", "quantize", "layers", "compress_time")
    monkeypatch.setitem(OPERATIONS, "compress", row)
    timings = Timings({"accumulate": [1.0], "compress": [2.0], "outer_step": [3.0]})
    import torch

    contents = hardware(
        [],
        None,
        Computed([timings], 10, 1.0, 1),
        [],
        parameters=10,
        workers=1,
        workers_here=1,
        device=torch.device("cpu"),
        backend="gloo",
        concurrent=1,
    )
    record = contents["machine"]["worker"]
    assert (record["compress_s"]["mean"], record["outer_step_s"]["mean"]) == (2.0, 3.0)


@pytest.mark.parametrize("model", [Model, Sized, Quadratic])
def test_every_row_but_packing_is_a_verb_of_the_models(model: type) -> None:
    assert [name for name in OPERATIONS if not hasattr(model, name)] == ["quantize"]


# -- of a program's own ------------------------------------------------------------------------
def sparse(
    worker: Any, *, sync_every: int = 2, sparsify_seconds: Annotated[float, Ge(0)] = 0.5
) -> Program:
    """DiLoCo that sends the larger half of each outer gradient."""
    model = worker.model
    whole = range(model.num_layers)

    @operation("quantize", seconds=sparsify_seconds)
    def sparsify(layers: range) -> None:
        for layer in layers:
            delta = model.delta(range(layer, layer + 1)).tensor
            delta[delta.abs() < delta.abs().median()] = 0.0

    while worker.next_round(steps=sync_every):
        yield worker.compute(model.inner_step, times=sync_every)
        for layer in whole:
            part = range(layer, layer + 1)
            yield worker.compute(model.outer_gradient, part)
            yield worker.compute(sparsify, part)
            yield worker.all_reduce(model.delta(part), "fp32")
            yield worker.compute(model.outer_step, part, 0, 1.0, 0.0, False, 0.0, commits=True)


def test_an_operation_of_the_program_takes_the_time_that_it_declares() -> None:
    """2 steps of 1 s, half of 0.5 s and 2 s on the wire for each layer."""
    scenario = plain(sparse)
    found = figures(simulate(scenario))
    spent = {cause: part for cause, part in found.breakdown.items() if part > 1e-12}
    assert spent == {
        "compute": pytest.approx(2 / 6.5),
        "quantize": pytest.approx(0.5 / 6.5),
        "exposed_communication": pytest.approx(4 / 6.5),
    }
    twice = [machine(speed=2.0)] * 2
    (row, *_) = [
        row
        for row in simulate(plain(sparse, {"sparsify_seconds": 3.0}, machines=twice)).rows
        if row.operation == "sparsify"
    ]
    assert (row.detail, row.work_s) == ("0", 0.75)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist = pytest.importorskip("torch.distributed")
    dist.init_process_group(
        "gloo",
        init_method=f"file://{tmp_path}/store",
        rank=0,
        world_size=1,
        timeout=timedelta(seconds=30),
    )
    yield
    dist.destroy_process_group()


def test_realrun_runs_and_times_the_operation_that_the_simulator_charges(world: None) -> None:
    import torch

    from realrun.model.replica import TorchModel
    from realrun.runtime.clock import Offset, gathered
    from realrun.runtime.shared import Limits, Shared
    from realrun.runtime.worker import TorchWorker

    torch.manual_seed(0)
    stages = [torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)]
    batch = torch.ones(4, 8), torch.zeros(4, 8)
    model = TorchModel(
        stages,
        torch.nn.functional.mse_loss,
        iter(lambda: batch, None),
        [list(stage.parameters()) for stage in stages],
    )
    shared = Shared(0, 1, model, Limits(rounds=2))
    worker = TorchWorker(shared)
    worker.drive(sparse(worker))
    shared.close()
    assert [int((model.delta(range(n, n + 1)).tensor == 0).sum()) for n in (0, 1)] == [35, 35]

    simulated = simulate(plain(sparse, workers=1, layers=(72, 72)), rounds=2)
    still = Offset(0.0, 0.0)
    found = gathered(shared, simulated.context, still, still)
    assert found is not None
    measured = found[0]
    assert measured.sequence() == simulated.sequence()
    assert measured.context.causes == {"sparsify": "quantize"}
    assert figures(measured).breakdown["quantize"] > 0


def test_a_paced_run_sleeps_as_long_as_an_operation_declares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    from realrun.device import Host
    from realrun.runtime.shared import Limits, Pace, Shared
    from realrun.runtime.worker import TorchWorker
    from sim.records.scenario import Jitter
    from sim.runtime.computation import Computation, Factors

    @operation("optimizer", seconds=0.02, scales_with="nothing")
    def short(layers: range) -> None: ...

    slept: list[float] = []
    monkeypatch.setattr("realrun.runtime.worker.sleep", slept.append)
    monkeypatch.setattr(Host, "now", lambda host: 0.0)
    size = plain(layers=(1, 1)).model
    pace = Pace(Computation(machine(), 2, 1, Factors(Jitter(), 0, 0)))
    shared = Shared(0, 1, Sized(size, 1, 1.0), Limits(), pace=pace)
    TorchWorker(shared).compute(short, range(1))
    assert slept == [0.02]
    assert [row.operation for row in shared.rows] == ["short"]


def test_layers_that_are_given_by_name_are_known_to_both_runtimes() -> None:
    pytest.importorskip("torch")
    from realrun.model.memory import state_bytes
    from realrun.runtime.shared import Limits, Shared
    from realrun.runtime.worker import TorchWorker

    def named(worker: Any) -> Program:
        yield worker.compute(worker.model.inner_optimizer, layers=range(1))
        yield worker.compute(worker.model.outer_gradient, layers=range(1, 2))

    scenario = plain(named, workers=1)
    shared = Shared(0, 1, Quadratic(scenario.model, 0, 1), Limits())
    worker = TorchWorker(shared)
    worker.drive(named(worker))
    done = [("inner_optimizer", "0"), ("outer_gradient", "1")]
    for rows in (shared.rows, simulate(scenario).rows):
        assert [(row.operation, row.detail) for row in rows] == done
    on_device, _ = state_bytes(scenario, 0)
    assert on_device["optimizer"] > 0


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_saved_trace_keeps_what_was_declared(tmp_path: Path, suffix: str) -> None:
    path, scenario = tmp_path / f"trace{suffix}", plain(sparse)
    trace = simulate(scenario, rounds=3)
    trace_files.save(trace, path)
    again = trace_files.load(path)
    assert again.context.causes == {"sparsify": "quantize"}
    before, after = (figures(each).breakdown for each in (trace, again))
    assert after == pytest.approx(before)
    trace.context.causes["sparsify"] = "magic"
    trace_files.save(trace, path)
    with pytest.raises(DamagedError, match="sparsify has the cause magic"):
        trace_files.load(path)


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"cause": "waiting", "seconds": 1.0}, 'cause "waiting" must be one of compute, '),
        ({"cause": "compute", "seconds": -1.0}, "seconds must be finite and not negative"),
        ({"cause": "compute", "seconds": float("nan")}, "seconds must be finite"),
        ({"cause": "compute", "seconds": 1.0, "scales_with": "luck"}, "must be one of layers, "),
    ],
)
def test_what_cannot_be_declared_is_refused(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        operation(**declared)


def test_a_name_that_means_something_else_is_refused() -> None:
    def accumulate() -> None: ...

    with pytest.raises(ValueError, match="accumulate is an operation of every model"):
        operation("compute", seconds=1.0)(accumulate)

    @operation("compute", seconds=1.0)
    def wait() -> None: ...

    def waits(worker: Any) -> Program:
        yield worker.compute(wait)

    with pytest.raises(SimulationError, match="wait means something else in a trace"):
        simulate(plain(waits))


def test_one_name_has_one_cause() -> None:
    def undecided(worker: Any) -> Program:
        for cause in ("compute", "optimizer"):

            @operation(cause, seconds=1.0)  # type: ignore[arg-type]
            def change() -> None: ...

            yield worker.compute(change)

    with pytest.raises(SimulationError, match="change was declared as compute before, and now as"):
        simulate(plain(undecided))
