"""What FP4 and int8 cost on a CPU, and the bandwidth below which they pay against bf16.

With M workers, n values, S bytes of them on the wire and bandwidth W (bytes/s each way),
an all-reduce takes 2 (M - 1) / M S / W, plus T of quantizing for fp4 and int8. They pay where

    W < 2 (M - 1) / M (S_bf16 - S_quantized) / T

T is what one rank computes: packing n values, summing M wires of n / M, packing the sum,
unpacking n. What bf16 itself costs (two conversions and gloo's sum) is not deducted, and
latency is the same for both, so the true bandwidth is a little higher. MB are 10**6 bytes
of fp32 values. One core, as a rank has that shares a machine with others: with two threads on
two busy cores the same work took up to twenty times as long. Nothing here asserts a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from realrun.communication.packing import pack, sum_into, unpack
from realrun.communication.quantize import prepare
from sim.program import wire_bytes

BLOCK = 256
WORKERS = 2
SIZES = (1, 16, 64)  # MB
DTYPES = ("fp4", "int8")

size_and_dtype = pytest.mark.parametrize(
    ("megabytes", "dtype"), [(size, dtype) for dtype in DTYPES for size in SIZES]
)


@pytest.fixture(autouse=True)
def one_core() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def numbers(megabytes: int) -> torch.Tensor:
    """Shape [n]; n a multiple of the workers' blocks."""
    whole = WORKERS * BLOCK
    size = megabytes * 10**6 // 4 // whole * whole
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def per_megabyte(benchmark: Any, megabytes: int) -> float:
    """Median milliseconds per MB; pytest-benchmark has no figures when disabled."""
    if benchmark.stats is None:
        return float("nan")
    milliseconds = 1e3 * float(benchmark.stats.stats.median) / megabytes
    benchmark.extra_info["ms/MB"] = milliseconds
    return milliseconds


@size_and_dtype
def test_quantize(benchmark: Any, megabytes: int, dtype: str) -> None:
    values = numbers(megabytes)
    benchmark.pedantic(pack, (values, dtype, BLOCK), rounds=9, warmup_rounds=2)
    print(f"\nquantize {dtype}, {megabytes} MB: {per_megabyte(benchmark, megabytes):.2f} ms/MB")


@size_and_dtype
def test_prepare(benchmark: Any, megabytes: int, dtype: str) -> None:
    """What a program's thread computes, and a trace's quantize row takes."""
    arguments = ("all_reduce", numbers(megabytes), dtype, BLOCK, WORKERS)
    benchmark.pedantic(prepare, arguments, rounds=9, warmup_rounds=2)
    print(f"\nprepare {dtype}, {megabytes} MB: {per_megabyte(benchmark, megabytes):.2f} ms/MB")


@size_and_dtype
def test_dequantize(benchmark: Any, megabytes: int, dtype: str) -> None:
    values = numbers(megabytes)
    wire = pack(values, dtype, BLOCK)
    benchmark.pedantic(unpack, (wire, len(values), dtype, BLOCK), rounds=9, warmup_rounds=2)
    print(f"\ndequantize {dtype}, {megabytes} MB: {per_megabyte(benchmark, megabytes):.2f} ms/MB")


@size_and_dtype
def test_what_an_all_reduce_computes(benchmark: Any, megabytes: int, dtype: str) -> None:
    """All of an all_reduce but the sending; prints where it pays."""
    values = numbers(megabytes)
    own = len(values) // WORKERS
    total = torch.empty(own)

    def compute() -> None:
        parts = [pack(values[i * own : (i + 1) * own], dtype, BLOCK) for i in range(WORKERS)]
        sum_into(total, torch.stack(parts), dtype, BLOCK, WORKERS)
        back = pack(total, dtype, BLOCK)
        for i in range(WORKERS):
            sum_into(values[i * own : (i + 1) * own], back[None], dtype, BLOCK)

    benchmark.pedantic(compute, rounds=9, warmup_rounds=2)
    cost = per_megabyte(benchmark, megabytes)
    saved = wire_bytes(len(values), "bf16") - wire_bytes(len(values), dtype, BLOCK)
    factor = 2 * (WORKERS - 1) / WORKERS
    bandwidth = factor * saved / (cost * 1e-3 * megabytes)
    benchmark.extra_info["pays below, Mbit/s"] = bandwidth * 8e-6
    print(
        f"\n{dtype}, {megabytes} MB, {WORKERS} workers: {cost:.2f} ms/MB, "
        f"pays below {bandwidth * 8e-6:.0f} Mbit/s against bf16"
    )
