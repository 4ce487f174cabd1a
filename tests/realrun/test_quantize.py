"""FP4 and int8: what arrives is what the simulator says, on every rank, and so are the bytes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise, product
from math import ceil
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.processes import together
from support.thorough import examples

from realrun.communication import packing, quantize
from realrun.communication.packing import pack, packed_bytes, unpack
from realrun.errors import RunError
from realrun.model.buffers import Delta
from realrun.runtime.shared import Limits, Shared
from realrun.runtime.worker import TorchWorker
from sim.models.quadratic import Numbers
from sim.models.rounding import carried, reduced
from sim.network.schedules import schedule
from sim.program import Program, Worker, wire_bytes
from sim.trace.table import WAIT, Row

DTYPES = ("fp4", "int8")
FLOAT = np.float32
QUICK = settings(max_examples=examples(150), deadline=None)

blocks = st.sampled_from([2, 6, 32, 256])
dtypes = st.sampled_from(DTYPES)


@st.composite
def values(draw: st.DrawFn) -> NDArray[np.float32]:
    """Up to three blocks: noise over many magnitudes, exact ties, zeros, and drawn numbers."""
    size = draw(st.integers(0, 700))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.0, 3.0, 30.0]))
    noise = random.standard_normal(size) * 2.0 ** random.uniform(-spread, spread, size)
    # Multiples of 2^-8 of a power of two lie half-way between levels.
    ties = random.integers(-256, 257, size) * 2.0 ** draw(st.integers(-30, 30))
    kind = random.choice(3, size, p=draw(st.sampled_from([(1, 0, 0), (0, 1, 0), (0.4, 0.3, 0.3)])))
    out = np.choose(kind, [noise, ties, 0.0]).astype(FLOAT) if size else np.zeros(0, FLOAT)
    some = draw(st.lists(st.floats(-(2.0**126), 2.0**126, width=32), max_size=8))
    out[: len(some)] = some[:size]
    return out


def there_and_back(numbers: NDArray[Any], dtype: str, block: int) -> NDArray[np.float32]:
    wire = pack(torch.from_numpy(numbers), dtype, block)
    return np.asarray(unpack(wire, len(numbers), dtype, block).numpy())


@QUICK
@given(values(), dtypes, blocks)
def test_what_arrives_is_what_the_simulator_says(
    numbers: NDArray[np.float32], dtype: str, block: int
) -> None:
    before = numbers.copy()
    arrived = there_and_back(numbers, dtype, block)
    np.testing.assert_array_equal(arrived, carried(numbers.astype(float), dtype, block))
    np.testing.assert_array_equal(numbers, before)


@QUICK
@given(values(), dtypes, blocks)
def test_what_has_arrived_is_not_changed_by_sending_it_again(
    numbers: NDArray[np.float32], dtype: str, block: int
) -> None:
    wire = pack(torch.from_numpy(numbers), dtype, block)
    again = pack(unpack(wire, len(numbers), dtype, block), dtype, block)
    assert torch.equal(again, wire)


@QUICK
@given(values(), dtypes, blocks)
def test_error_is_bounded(numbers: NDArray[np.float32], dtype: str, block: int) -> None:
    """int8: half a step of a 127th; fp4: a third of the value, or half the lowest level."""
    error = np.abs(there_and_back(numbers, dtype, block) - numbers.astype(float))
    for first in range(0, len(numbers), block):
        part = np.abs(numbers[first : first + block].astype(float))
        peak = part.max() * (1 + 2.0**-8)  # the scale is rounded to bf16
        bound = peak / 254 if dtype == "int8" else np.maximum(part / 3, peak / 128)
        too_small = 2.0**-100 * (127 if dtype == "int8" else 1)
        assert (error[first : first + block] <= np.maximum(bound, too_small)).all()


@given(st.integers(0, 2000), dtypes, blocks)
def test_a_wire_has_the_bytes_that_the_simulator_charges(
    elements: int, dtype: str, block: int
) -> None:
    wire = pack(torch.ones(elements), dtype, block)
    assert len(wire) == packed_bytes(elements, dtype, block)
    assert len(wire) == ceil(wire_bytes(elements, dtype, block))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("odd", "block_arrives"),
    [
        (np.nan, np.nan),
        (np.inf, np.nan),
        (-np.inf, np.nan),
        (2.0**127, np.nan),
        (0.0, 0.0),
        (-0.0, 0.0),
        (1e-45, 0.0),
        (-1e-31, 0.0),
    ],
)
def test_blocks_of_no_ordinary_size(dtype: str, odd: float, block_arrives: float) -> None:
    """They are defined, equal the simulator's, and leave other blocks alone."""
    around = [127.0] * 4  # of itself exactly its scale, or 127 times it
    numbers = np.array([*around, 0.0, odd, odd / 2, 0.0, *around[:3]], FLOAT)
    arrived = there_and_back(numbers, dtype, 4)
    np.testing.assert_array_equal(arrived, [*around, *[block_arrives] * 4, *around[:3]])
    np.testing.assert_array_equal(arrived, carried(numbers.astype(float), dtype, 4))


def test_all_sixteen_codes_of_fp4() -> None:
    """E3M0 with bias 7: code c is 2**(c - 7) of the scale, 0 is zero, bit 3 the sign."""
    codes = torch.arange(16, dtype=torch.uint8)
    scale = torch.tensor([3.0], dtype=torch.bfloat16).view(torch.uint8)
    wire = torch.cat([scale, codes[0::2] | codes[1::2] << 4])
    half = [0.0] + [3 * 2.0 ** (code - 7) for code in range(1, 8)]
    assert unpack(wire, 16, "fp4", 16).tolist() == half + [-level for level in half]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_any_floating_type_is_read_as_fp32(dtype: str, kind: torch.dtype) -> None:
    numbers = torch.randn(999, generator=torch.Generator().manual_seed(0)).to(kind)
    assert torch.equal(pack(numbers, dtype), pack(numbers.float(), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_working_in_pieces_changes_nothing(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    whole = pack(numbers, dtype, 64)
    read = unpack(whole, 5000, dtype, 64)
    monkeypatch.setattr(packing, "_CHUNK", 200)
    assert torch.equal(pack(numbers, dtype, 64), whole)
    assert torch.equal(unpack(whole, 5000, dtype, 64), read)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: pack(torch.ones(4), "bf16"), ValueError, "dtype 'bf16' is not quantized"),
        (lambda: pack(torch.ones(4), "fp8"), ValueError, "'fp8'.*'int8', 'fp4'"),
        (lambda: pack(torch.ones(4), "int8", 0), ValueError, "quantize_block = 0 sends no scales"),
        (lambda: pack(torch.ones(4), "fp4", 3), ValueError, "quantize_block = 3: .*even"),
        (lambda: pack(torch.ones(2, 2), "fp4"), ValueError, r"shape \[2, 2\]"),
        (lambda: pack(torch.ones(8)[::2], "fp4"), ValueError, r"stride \(2,\)"),
        (lambda: pack(torch.ones(8).int(), "fp4"), ValueError, "torch.int32"),
        (lambda: pack(torch.ones(8, device="meta"), "fp4"), NotImplementedError, "not on meta"),
        (lambda: unpack(torch.zeros(5).byte(), 4, "int8"), ValueError, r"are 6 bytes, got.*\[5\]"),
    ],
)
def test_what_cannot_be_done_is_an_error(
    call: Callable[[], Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_cuda_without_triton_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "realrun.communication.packing_triton", None)
    with pytest.raises(NotImplementedError, match="on cuda:0 need Triton"):
        packing._kernels(torch.device("cuda:0"))


# The Triton kernels: on a GPU where there is one, else in Triton's interpreter.


def same_bits(device: str) -> None:
    """Every way of rounding, short blocks, odd lengths, sums of three: bitwise as on the CPU."""
    kernels = importlib.import_module("realrun.communication.packing_triton")
    random = np.random.default_rng(0)
    for dtype, block, size in product(DTYPES, (2, 6, 256), (1, 7, 256, 1111)):
        numbers = random.standard_normal(size) * 10.0 ** random.uniform(-3, 3)
        numbers[: size // 2] = np.round(numbers[: size // 2] * 64) * 1.5
        numbers[size // 3 : size // 3 + block] = 1e-40
        if size > 1000:
            numbers[[5, 400, 700]] = np.nan, -np.inf, 2e38
        source = torch.from_numpy(numbers.astype(FLOAT))
        parts = [source, source.flip(0).contiguous(), source * 1.3]
        wires = torch.stack([pack(part, dtype, block) for part in parts])
        for part, wire in zip(parts, wires, strict=True):
            packed = torch.zeros_like(wire, device=device)
            kernels.pack(packed, part.to(device), dtype, block)
            ours, theirs = (unpack(w, size, dtype, block) for w in (packed.cpu(), wire))
            assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7)), (dtype, block, size)
            if theirs.isfinite().all():
                assert torch.equal(packed.cpu(), wire), (dtype, block, size)
        expected, out = torch.empty(size), torch.empty(size, device=device)
        packing.sum_into(expected, wires, dtype, block, 3)
        kernels.sum_of(out, wires.to(device), dtype, block, 3)
        bits = [t.cpu().nan_to_num(7).view(torch.int32) for t in (out, expected)]
        assert torch.equal(*bits), (dtype, block, size)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_bits_of_a_cpu() -> None:
    same_bits("cuda")


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or torch.cuda.is_available(),
    reason="Triton is not installed here, or runs on the GPU itself",
)
def test_interpreted_kernels_give_the_bits_of_a_cpu() -> None:
    """In a process of its own: Triton reads the variable when it is imported."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run(
        [sys.executable, "-c", "import test_quantize; test_quantize.same_bits('cpu')"],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
        check=True,
        timeout=300,
    )


# Real processes. One launch per number of workers carries out all cases, by programs.

ALIGNED = 4 * 3 * 2 * 32  # a multiple of the workers' blocks: nothing is rounded
SIZES = (0, 1, 5, 33, 100, 777, ALIGNED)
CASES = list(product(("all_reduce", "reduce_scatter"), DTYPES, SIZES))
BLOCK = 32


def own_values(rank: int, size: int) -> NDArray[np.float32]:
    random = np.random.default_rng([rank, size])
    return (random.standard_normal(size) * 2.0 ** random.uniform(-6, 6, size)).astype(FLOAT)


def flat(rank: int, size: int) -> Delta:
    return Delta("delta", "0:1", torch.from_numpy(own_values(rank, size)))


@dataclass
class Silent:
    """A buffer that does not ask what was sent of it."""

    values: NDArray[np.float64]
    name: str = "delta"
    detail: str = ""

    @property
    def elements(self) -> int:
        return len(self.values)


class Bytes:
    """Counts what is handed to the backend for other ranks."""

    def __init__(self, rank: int, workers: int) -> None:
        self.rank, self.workers = rank, workers
        self.counted = 0
        self._all_to_all, self._all_gather = dist.all_to_all_single, quantize.all_gather_single
        dist.all_to_all_single = self.all_to_all
        quantize.all_gather_single = self.all_gather

    def all_to_all(self, out: Any, sent: Any, outs: Any, ins: list[int], **rest: Any) -> Any:
        self.counted += (sum(ins) - ins[self.rank]) * sent.element_size()
        return self._all_to_all(out, sent, outs, ins, **rest)

    def all_gather(self, out: Any, sent: Any, **rest: Any) -> Any:
        self.counted += (self.workers - 1) * sent.numel() * sent.element_size()
        return self._all_gather(out, sent, **rest)


def work(rank: int, workers: int, folder: Path) -> None:
    """Carry out every case and leave the results in a file."""
    results: dict[Any, Any] = {}
    wire = Bytes(rank, workers)

    def every_case(worker: Worker) -> Program:
        for case in CASES:
            operation, dtype, size = case
            buffer, before = flat(rank, size), wire.counted
            carried = getattr(worker, operation)(buffer, dtype)
            sent = buffer.sent()  # while it is there
            yield carried
            results[case] = buffer.tensor, sent, wire.counted - before

    def odd_ones(worker: Worker) -> Program:
        wide = Silent(own_values(rank, 777).astype(float))
        yield worker.all_reduce(wide, "fp4")
        results["double"] = torch.from_numpy(wide.values)
        spoilt = Numbers("delta", "", np.ones(100))
        if rank == 1:
            spoilt.values[40] = np.inf
        yield worker.all_reduce(spoilt, "int8")
        results["spoilt"] = torch.from_numpy(spoilt.values)

    def three_times(worker: Worker, buffer: Delta) -> Program:
        for _ in range(3):
            yield worker.all_reduce(buffer, "int8", mean=False)

    def background(worker: Worker) -> Program:
        """Several at once, in both programs, awaited in another order than called."""
        first, second, exact, spawned = (flat(rank, size) for size in (777, 100, 1000, 33))
        side = worker.spawn(three_times, spawned)
        one = worker.all_reduce(first, "int8", mean=False)
        two = worker.reduce_scatter(second, "fp4")
        three = worker.all_reduce(exact, "fp32")
        first.tensor.fill_(torch.nan)  # already sent
        yield three
        yield two
        results["not yet"] = bool(first.tensor.isnan().all())
        yield one
        yield side
        results["spawned"] = first.tensor, second.tensor, spawned.tensor

    def refused(worker: Worker) -> Program:
        errors = []
        for operation in ("all_gather", "all_to_all", "broadcast"):
            with pytest.raises(RunError) as caught:
                getattr(worker, operation)(flat(rank, 8), "int8")
            errors.append(str(caught.value))
        results["refused"] = errors
        yield from ()

    shared = Shared(rank, workers, None, Limits(), BLOCK)
    for program in (every_case, odd_ones, background, refused):
        worker = TorchWorker(shared)
        worker.drive(program(worker))
    results["rows"] = [[getattr(row, name) for name in Row.__slots__] for row in shared.rows]
    for group in shared.groups.values():
        group.close()
    results["threads"] = [t.name for t in threading.enumerate() if t.name == "collectives"]

    no_scales = Shared(rank, workers, None, Limits(), quantize_block=0)
    with pytest.raises(RunError) as caught:
        TorchWorker(no_scales).all_reduce(flat(rank, 8), "int8")
    results["no scales"] = str(caught.value)

    alone = Shared(rank, workers, None, Limits(), timeout=timedelta(seconds=2))
    alone.group("main").open()
    if rank == 0 and workers > 1:  # the others do not come
        began = monotonic()
        with pytest.raises(RunError) as caught:
            TorchWorker(alone).all_reduce(flat(rank, 100), "fp4").wait()
        results["alone"] = str(caught.value), monotonic() - began
    torch.save(results, folder / f"{rank}.pt")


@pytest.fixture(scope="module", params=[1, 2, 3, 4])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Results by rank."""
    workers, folder = request.param, tmp_path_factory.mktemp("ranks")
    together(workers, work, workers, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(workers)]


def sent_by(ranks: list[Any], size: int, dtype: str) -> list[NDArray[np.float64]]:
    return [
        carried(own_values(rank, size).astype(float), dtype, BLOCK) for rank in range(len(ranks))
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_all_reduce_gives_every_rank_what_the_simulator_says(
    ranks: list[Any], dtype: str, size: int
) -> None:
    sent = sent_by(ranks, size, dtype)
    expected = reduced(sent, dtype, BLOCK, mean=True)
    for rank, results in enumerate(ranks):
        buffer, kept, _ = results["all_reduce", dtype, size]
        np.testing.assert_array_equal(buffer.numpy(), expected)
        first = ranks[0]["all_reduce", dtype, size][0]
        assert torch.equal(buffer.view(torch.int32), first.view(torch.int32))
        np.testing.assert_array_equal(kept.numpy(), sent[rank])


def summed(sent: list[NDArray[np.float64]]) -> NDArray[np.float32]:
    total = sent[0].astype(FLOAT)
    for other in sent[1:]:
        total = total + other.astype(FLOAT)
    return total


def own_slice(rank: int, workers: int, size: int) -> slice:
    return slice(size * rank // workers, size * (rank + 1) // workers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_reduce_scatter_sums_to_the_own_slice_in_fp32(
    ranks: list[Any], dtype: str, size: int
) -> None:
    sent = sent_by(ranks, size, dtype)
    for rank, results in enumerate(ranks):
        expected = own_values(rank, size)
        own = own_slice(rank, len(ranks), size)
        expected[own] = summed(sent)[own]
        buffer, kept, _ = results["reduce_scatter", dtype, size]
        np.testing.assert_array_equal(buffer.numpy(), expected)
        np.testing.assert_array_equal(kept.numpy(), sent[rank])


@pytest.mark.parametrize("operation", ["all_reduce", "reduce_scatter"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_bytes_handed_to_the_backend_are_those_the_simulator_charges(
    ranks: list[Any], operation: str, dtype: str, size: int
) -> None:
    """Exactly, where every rank has whole blocks; else within a block per pair of ranks."""
    workers = len(ranks)
    counted = [results[operation, dtype, size][2] for results in ranks]
    rounds = schedule(operation, "ring", dtype, [list(range(workers))])
    share = sum(float(transfers.share.sum()) * transfers.repeat for transfers in rounds)
    charged = share * wire_bytes(size, dtype, BLOCK)
    if size == ALIGNED:
        assert counted == pytest.approx([charged / workers] * workers, rel=1e-12)
    pairs = workers * (workers - 1)
    assert 0 <= sum(counted) - charged <= pairs * packed_bytes(BLOCK, dtype, BLOCK)


def test_any_floating_type_and_nan(ranks: list[Any]) -> None:
    wide = reduced(sent_by(ranks, 777, "fp4"), "fp4", BLOCK, mean=True)
    for results in ranks:
        np.testing.assert_array_equal(results["double"].numpy(), wide)
        spoilt = results["spoilt"]
        # The block that one worker spoilt is NaN for all; the others are not.
        assert spoilt.isnan().sum() == (0 if len(ranks) == 1 else BLOCK)
        assert (spoilt[~spoilt.isnan()] - 1).abs().max() < 0.01


def test_several_at_once_in_two_programs(ranks: list[Any]) -> None:
    """What was called is sent, what has not been awaited is not written, threads end."""
    workers = len(ranks)
    first = reduced(sent_by(ranks, 777, "int8"), "int8", BLOCK, mean=False)
    second = summed(sent_by(ranks, 100, "fp4"))
    spawned = [own_values(rank, 33).astype(float) for rank in range(workers)]
    for _ in range(3):
        sent = [carried(numbers, "int8", BLOCK) for numbers in spawned]
        spawned = [reduced(sent, "int8", BLOCK, mean=False)] * workers
    for rank, results in enumerate(ranks):
        assert results["not yet"]
        own = own_slice(rank, workers, 100)
        np.testing.assert_array_equal(results["spawned"][0].numpy(), first)
        np.testing.assert_array_equal(results["spawned"][1].numpy()[own], second[own])
        np.testing.assert_array_equal(results["spawned"][2].numpy(), spawned[rank])
        assert results["threads"] == []


def test_quantizing_is_a_row_of_its_own_just_before_the_collective(ranks: list[Any]) -> None:
    for results in ranks:
        by_program: dict[str, list[Row]] = {}
        for row in (Row(*row) for row in results["rows"]):
            by_program.setdefault(row.program, []).append(row)
        for rows in by_program.values():
            for before, row in pairwise(rows):
                quantized = row.call >= 0 and row.detail.split()[-1:] in (["int8"], ["fp4"])
                assert quantized == (before.operation == "quantize")
                if quantized:
                    assert before.detail == row.detail.partition(" ")[2].rpartition(" ")[0]
                    assert (before.group, before.call, before.bytes) == ("", -1, 0)
                    assert before.begin_s <= before.end_s <= row.begin_s <= row.end_s
                if row.operation == WAIT and before.call == row.call:
                    assert before.end_s <= row.end_s


def test_what_is_not_carried_is_refused_in_a_line(ranks: list[Any]) -> None:
    for rank, results in enumerate(ranks):
        for operation, error in zip(
            ("all_gather", "all_to_all", "broadcast"), results["refused"], strict=True
        ):
            assert error.startswith(f"rank {rank} (main): {operation} in int8: only all_reduce")
        assert "quantize_block = 0 sends no scales" in results["no scales"]


def test_a_peer_that_never_comes_is_an_error_within_the_timeout(ranks: list[Any]) -> None:
    if len(ranks) == 1:
        assert "alone" not in ranks[0]
        return
    message, seconds = ranks[0]["alone"]
    assert message.startswith("rank 0: all_reduce, call 0 of group main, failed: ")
    assert seconds < 30
