"""What only a GPU can show: skipped where there is none.

One process with NCCL, two with gloo that share the GPU. The rows of a trace are the simulator's,
the parameters nearly those of the same training on the CPU, and times are the GPU's own.
``make gpu`` runs these and then measures.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed as dist  # noqa: E402
import torch.multiprocessing as mp  # noqa: E402

from realrun.communication.packing import pack, unpack  # noqa: E402
from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Data  # noqa: E402
from realrun.device import timed_on  # noqa: E402
from realrun.errors import PeerLostError  # noqa: E402
from realrun.model.buffers import Layout  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig, loss  # noqa: E402
from realrun.model.optimizers import Inner  # noqa: E402
from realrun.model.outer import Outer  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.methods import METHODS  # noqa: E402
from sim.program import QUANTIZED, Program  # noqa: E402
from sim.records.scenario import Method, Run  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.runtime.context import context_of  # noqa: E402
from sim.scenario import Scenario, load  # noqa: E402
from sim.trace.table import LOOK, Row, Trace  # noqa: E402

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="no GPU here, torch.cuda.is_available() is False; run `make gpu` where there is one",
    ),
    pytest.mark.filterwarnings("default"),  # what CUDA's libraries warn of is not ours
]

GPU = torch.device("cuda", 0)
CONFIG = GPTConfig(hidden=32, layers=4, heads=2, vocabulary=64, feed_forward=64, context=32)
ROUNDS, BATCH, ACCUMULATION = 4, 2, 2
STREAMING = {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 3}
ALONE: list[tuple[str, dict[str, Any]]] = [  # with NCCL
    ("ddp", {}),
    ("ddp", {"comm_dtype": "bf16", "overlap": "layer"}),
    ("ddp", {"comm_dtype": "int8", "zero1": True}),
    ("diloco", {"sync_every": 3}),
    ("streaming_diloco", STREAMING),
    ("streaming_diloco", {**STREAMING, "comm_dtype": "fp4"}),
    ("eager_diloco", {"sync_every": 3, "comm_dtype": "fp4"}),
    ("acco", {}),
    ("acco", {"comm_dtype": "fp4"}),
]
SHARED: list[tuple[str, dict[str, Any]]] = [  # two with gloo
    ("ddp", {}),
    ("ddp", {"zero1": True}),
    ("streaming_diloco", {**STREAMING, "comm_dtype": "fp4"}),
    ("acco", {"comm_dtype": "fp4"}),
]
CASES = {1: ALONE, 2: SHARED}
# Of the way that the parameters have come. On a CPU those that begin a millionth apart end 0.02 %
# of it apart; with int8 and fp4 on the wire, where a value between two levels may go the other
# way, 1.4 %.
APART, QUANTIZED_APART = 0.005, 0.05
BACKEND = {1: "nccl", 2: "gloo"}


def scenario(workers: int, number: int) -> Scenario:
    method, arguments = CASES[workers][number]
    dimensions = [f"model.{key}={value}" for key, value in asdict(CONFIG).items()]
    found = load(
        "quick_start",
        settings=[
            *dimensions,
            f"site.count={workers}",
            f"site.n_grad_accumulation={ACCUMULATION}",
        ],
    )
    asked = Method(method, METHODS[method], {"comm_dtype": "fp32", **arguments})
    return replace(found, run=Run(), method=asked)


def replica(rank: int, workers: int, device: torch.device | None = None) -> TorchModel:
    decoder = GPT(CONFIG, device=device)
    drawn = corpus.synthetic(20_000, CONFIG.vocabulary, seed=0)
    data = Data(drawn, vocabulary=CONFIG.vocabulary, context=CONFIG.context, workers=workers)
    return TorchModel(
        decoder.stages(),
        loss,
        data.batches(rank, BATCH, device),
        decoder.layer_parameters(),
        rank=rank,
        workers=workers,
        n_grad_accumulation=ACCUMULATION,
        inner=Inner(learning_rate=1e-3),
        param_dtype="fp32",
    )


class Unhurried(TorchModel):
    """Computes for 5 ms more, so that a method that computes always has not too much to replay."""

    def accumulate(self) -> None:
        spin(0.005)
        super().accumulate()


def spin(seconds: float) -> None:
    """Keep the current stream busy; the clock is at most 2 GHz, so it may take longer."""
    torch.cuda._sleep(round(seconds * 2e9))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def join(rank: int, workers: int, port: int, seconds: float = 120.0) -> None:
    torch.cuda.set_device(GPU)
    torch.set_num_threads(1)
    dist.init_process_group(
        BACKEND[workers],
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=workers,
        timeout=datetime.timedelta(seconds=seconds),
    )


def process(rank: int, workers: int, port: int, out: str) -> None:
    join(rank, workers, port)
    for number, (method, _) in enumerate(CASES[workers]):
        asked, model = scenario(workers, number), replica(rank, workers, GPU)
        if method == "acco":
            model.__class__ = Unhurried
        block = asked.network.collectives.quantize_block
        shared = Shared(rank, workers, model, Limits(rounds=ROUNDS), block, device=timed_on(GPU))
        worker = TorchWorker(shared)
        worker.drive(asked.method.program(worker, **asked.method.arguments))
        shared.close()
        rows = [tuple(getattr(row, name) for name in Row.__slots__) for row in shared.rows]
        state = model.theta.cpu(), torch.tensor(model.losses)
        torch.save((rows, state), Path(out) / f"{number}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Where processes left rows and state of every case, by how many they were."""
    out = {workers: tmp_path_factory.mktemp(f"of-{workers}") for workers in CASES}
    for workers, folder in out.items():
        mp.spawn(process, (workers, free_port(), str(folder)), nprocs=workers)
    return out


def moved(model: TorchModel, reached: torch.Tensor) -> float:
    """How far apart two trainings have ended, as a part of how far the one has come."""
    start = replica(0, 1).theta
    return float((reached - model.theta).norm() / (model.theta - start).norm())


@pytest.mark.parametrize(
    ("workers", "number"),
    [(workers, number) for workers, cases in CASES.items() for number in range(len(cases))],
    ids=lambda value: str(value),
)
def test_a_gpu_trains_as_the_simulator_does_on_the_cpu(
    trained: dict[int, Path], workers: int, number: int
) -> None:
    saved = [torch.load(trained[workers] / f"{number}-{rank}.pt") for rank in range(workers)]
    rows = [Row(*row) for own, _ in saved for row in own]
    asked = scenario(workers, number)
    models = {rank: replica(rank, workers) for rank in range(workers)}
    measured = Trace(rows, context_of(asked), 0.0)
    looks = any(row.operation == LOOK for row in rows)
    simulated = simulate(asked, rounds=ROUNDS, models=models, replay=measured if looks else None)
    assert simulated.sequence() == measured.sequence()
    apart = QUANTIZED_APART if asked.method.arguments["comm_dtype"] in QUANTIZED else APART
    for rank, (_, (theta, losses)) in enumerate(saved):
        assert moved(models[rank], theta) < apart
        torch.testing.assert_close(losses, torch.tensor(models[rank].losses), rtol=1e-3, atol=0)
    for row in rows:
        assert row.begin_s <= row.end_s, row
    main = [row for row in rows if row.program == "main" and row.rank == 0 and row.call < 0]
    assert [row.begin_s for row in main] == sorted(row.begin_s for row in main)


class Busy:
    """A model that computes for 10 ms at a time, and notes whether all before had ended."""

    num_layers, n_grad_accumulation, committed_tokens = 1, 1, 0.0

    def __init__(self) -> None:
        self.idle: list[bool] = []

    def perform(self, verb: Any, args: Any, kwargs: Any, times: int) -> None:
        for _ in range(times):
            verb(*args, **kwargs)

    def accumulate(self) -> None:
        self.idle.append(torch.cuda.current_stream().query())
        spin(0.010)


class Numbers:
    name, detail, elements = "delta", "", 1000

    def __init__(self) -> None:
        self.tensor = torch.ones(self.elements, device=GPU)


def looking(rank: int, port: int, out: str) -> None:
    join(rank, 1, port)
    real, model = dist.all_reduce, Busy()

    def slow(tensor: Any, **rest: Any) -> Any:
        spin(0.300)  # on the stream of the group
        return real(tensor, **rest)

    dist.all_reduce = slow

    def program(worker: Any) -> Program:
        yield worker.all_reduce(Numbers(), "fp32")  # NCCL is set up
        model.idle.clear()
        reduction = worker.all_reduce(Numbers(), "fp32")
        while not reduction.done:
            yield worker.compute(model.accumulate)
        yield reduction

    shared = Shared(0, 1, model, Limits(), device=timed_on(GPU))
    worker = TorchWorker(shared)
    worker.drive(program(worker))
    shared.close()
    rows = [(r.operation, r.call, r.begin_s, r.end_s) for r in shared.rows]
    Path(out).write_text(json.dumps([rows, model.idle]))
    dist.destroy_process_group()


def test_done_drains_so_that_the_host_does_not_run_ahead(tmp_path: Path) -> None:
    mp.spawn(looking, (free_port(), str(tmp_path / "told")), nprocs=1)
    rows, idle = json.loads((tmp_path / "told").read_text())
    assert all(idle)
    batches = [(begin, end) for operation, _, begin, end in rows if operation == "accumulate"]
    begin, end = next((b, e) for what, call, b, e in rows if what == "all_reduce" and call == 1)
    took = sum(e - b for b, e in batches) / len(batches)
    assert took < (end - begin) / 10
    # As many as fit, and the one that was begun before the end.
    assert len(batches) == pytest.approx((end - begin) / took, rel=0.15, abs=2)
    assert batches[-1][0] - took < end < batches[-1][1] + took


def losing(rank: int, port: int, out: str) -> None:
    """A collective that is called and cannot begin: to NCCL that is a peer that does not come."""
    join(rank, 1, port, seconds=2.0)
    shared = Shared(
        0, 1, Busy(), Limits(), device=timed_on(GPU), timeout=datetime.timedelta(seconds=2)
    )

    def program(worker: Any) -> Program:
        yield worker.all_reduce(Numbers(), "fp32")
        yield worker.compute(spin, 6.0)
        yield worker.all_reduce(Numbers(), "fp32")
        yield worker.compute(spin, 0.01)

    worker = TorchWorker(shared)
    with pytest.raises(PeerLostError) as caught:
        worker.drive(program(worker))
    Path(out).write_text(str(caught.value))
    dist.destroy_process_group()


def test_a_timeout_of_nccl_is_one_line_and_not_a_signal(tmp_path: Path) -> None:
    mp.spawn(losing, (free_port(), str(tmp_path / "said")), nprocs=1)
    assert (tmp_path / "said").read_text() == (
        "rank 0: all_reduce, call 1 of group main, failed: the timeout has passed"
    )


def profiled(rank: int, port: int, out: str) -> None:
    """Micro-batches of which the GPU has more than the host needs to call them."""
    join(rank, 1, port)
    config = GPTConfig(hidden=1024, layers=6, heads=8, vocabulary=4096, context=512)
    decoder = GPT(config, device=GPU)
    drawn = corpus.synthetic(200_000, config.vocabulary, seed=0)
    data = Data(drawn, vocabulary=config.vocabulary, context=config.context, workers=1)
    model = TorchModel(decoder.stages(), loss, data.batches(0, 8, GPU), decoder.layer_parameters())
    shared = Shared(0, 1, model, Limits(), device=timed_on(GPU))

    def program(worker: Any, times: int) -> Program:
        yield worker.compute(model.accumulate, times=times)

    worker = TorchWorker(shared)
    worker.drive(program(worker, 3))
    cuda = torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[cuda]) as profile:
        worker.drive(program(worker, 10))
    shared.close()
    busy = sum(
        event.time_range.elapsed_us()
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
    )
    row = shared.rows[-1]
    Path(out).write_text(json.dumps([busy / 1e6, row.end_s - row.begin_s]))
    dist.destroy_process_group()


def test_a_rows_time_is_that_of_its_kernels(tmp_path: Path) -> None:
    mp.spawn(profiled, (free_port(), str(tmp_path / "took")), nprocs=1)
    kernels, row = json.loads((tmp_path / "took").read_text())
    assert kernels == pytest.approx(row, rel=0.05)


@pytest.mark.parametrize("dtype", ["int8", "fp4"])
@pytest.mark.parametrize("elements", [1, 257, 3_000_001])
def test_quantized_on_a_gpu_has_the_bits_of_the_cpu(dtype: str, elements: int) -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randn(elements, generator=random) * torch.exp(
        4 * torch.randn(elements, generator=random)
    )
    wire = pack(values, dtype)
    packed = pack(values.to(GPU), dtype)
    assert torch.equal(packed.cpu(), wire)
    read = unpack(packed, elements, dtype).cpu()
    assert torch.equal(read.view(torch.int32), unpack(wire, elements, dtype).view(torch.int32))


def outer(*, on_host: bool) -> Outer:
    theta = torch.linspace(-1, 1, 100_000, device=GPU)
    return Outer(theta, Layout([60_000, 40_000]), 2, on_host=on_host)


def outer_steps(outer: Outer, times: int) -> None:
    for _ in range(times):
        for fragment in (range(0, 1), range(1, 2)):
            outer._theta.mul_(0.99).add_(0.01)
            outer.gradient(fragment, 0)
            outer.step(fragment, 0, 0.7, 0.9, True, 0.25)


def test_outer_state_on_the_host_has_the_bits_of_that_on_the_gpu() -> None:
    there, here = outer(on_host=True), outer(on_host=False)
    for each in (there, here):
        outer_steps(each, 6)
    assert there.parameters.is_pinned()
    assert here.parameters.is_cuda
    assert torch.equal(there._theta, here._theta)
    for name, values in here.tensors().items():
        assert torch.equal(there.tensors()[name].cpu(), values.cpu()), name


def test_outer_state_on_the_host_does_not_stop_the_host() -> None:
    there = outer(on_host=True)
    outer_steps(there, 1)  # its momentum has a place from now on
    torch.cuda.synchronize()
    spin(0.5)
    outer_steps(there, 3)
    assert not torch.cuda.current_stream().query()


def realrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """On the first GPU alone, however many there are."""
    return subprocess.run(
        [sys.executable, "-m", "realrun", "train", "quick_start", *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": first_gpu(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def first_gpu() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


@pytest.mark.parametrize(("workers", "backend"), [(1, "nccl"), (2, "gloo")])
def test_the_command_trains_on_a_gpu(workers: int, backend: str) -> None:
    done = realrun("--json", "--set", f"site.count={workers}", "--set", "run.steps=30")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["backend"], told["device"]) == (backend, torch.cuda.get_device_name(GPU))
    assert told["final_loss"] < 5  # from ln 256 = 5.5


def test_a_run_goes_on_from_its_checkpoint_on_a_gpu(tmp_path: Path) -> None:
    def told(steps: int, *more: str) -> Any:
        done = realrun("--json", "--set", "site.count=1", "--set", f"run.steps={steps}", *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    keep = ("--checkpoints", str(tmp_path), "--checkpoint-every", "1")
    told(20, *keep)
    resumed, straight = told(40, *keep, "--set", "train.outer_state=host"), told(40)
    assert resumed["first_round"] == 2  # of ten steps each
    # Not bitwise: attention adds up its gradients in no fixed order.
    assert resumed["final_loss"] == pytest.approx(straight["final_loss"], rel=0.02)


def test_a_model_that_does_not_fit_the_gpu_is_refused() -> None:
    done = realrun("--set", "site.count=1", "--set", "model.hidden=65536", "--set", "run.steps=1")
    assert done.returncode == 2
    assert "does not fit" in done.stderr
    assert "on this GPU" in done.stderr
