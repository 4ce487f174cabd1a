"""What recording costs: the same training over a process group that is recorded, and over another.

    realrun record --nproc 2 --out r.parquet -- python benchmarks/recording.py [FOURSOMES]

Both train in the same processes, in turn, in blocks of some steps (A B B A, then B A A B), so that
what else the machine does meets both. Their modules are made again after some foursomes, now one
first and now the other, because where tensors lie makes a difference of its own. The ratio is that
of a foursome (32 by default): its median, and a 95 % interval of the median, of wall and of
processor time. Each process has one thread. "not recorded twice" is the same for two process
groups of which none is recorded. The cases are DDP in one and in several buckets, and a program
that sends one tensor at a time, as torchft does without buckets, which is the most calls for a
step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from test_overhead import median_and_interval
from torch.distributed import distributed_c10d as c10d
from torch.nn.parallel import DistributedDataParallel

from realrun.model.gpt import GPT, GPTConfig, loss

Step = Callable[[], None]
FOURSOMES = 4  # with the same modules


def by_ddp(config: GPTConfig, group: Any, bucket_mb: float) -> Step:
    """A step of DDP."""
    replica = DistributedDataParallel(GPT(config), process_group=group, bucket_cap_mb=bucket_mb)
    return step_of(replica, config, lambda: None)


def by_tensor(config: GPTConfig, group: Any) -> Step:
    """A step after which every gradient is reduced by itself, all at once."""
    decoder = GPT(config)

    def reduce() -> None:
        works = [
            dist.all_reduce(each.grad, group=group, async_op=True)
            for each in decoder.parameters()
            if each.grad is not None
        ]
        for work in works:
            work.wait()

    return step_of(decoder, config, reduce)


def step_of(module: torch.nn.Module, config: GPTConfig, reduce: Callable[[], None]) -> Step:
    """Return a step of AdamW on one sequence."""
    optimizer = torch.optim.AdamW(module.parameters())
    text = torch.randint(config.vocabulary, (1, config.context))

    def step() -> None:
        optimizer.zero_grad()
        loss(module(text), text).backward()
        reduce()
        optimizer.step()

    return step


CASES: dict[str, tuple[str, int, Callable[[GPTConfig, Any], Step]]] = {
    "1M, one bucket": ("1M", 8, lambda config, group: by_ddp(config, group, 25)),
    "5M, buckets of 1 MB": ("5M", 2, lambda config, group: by_ddp(config, group, 1)),
    "1M, one tensor at a time": ("1M", 8, by_tensor),
}
"""Size of the decoder, steps of a block, and how a step is made."""


def measured(
    make: Callable[[Any], Step], groups: Sequence[Any], block: int, foursomes: int
) -> NDArray[np.float64]:
    """Return seconds per step, shape [foursomes, groups, wall or processor]."""
    parts = []
    for number in range(-(-foursomes // FOURSOMES)):
        order = (0, 1) if number % 2 else (1, 0)
        sides = {side: make(groups[side]) for side in order}
        parts.append(in_turn([sides[0], sides[1]], block))
    return np.concatenate(parts)


def in_turn(sides: list[Step], block: int) -> NDArray[np.float64]:
    """Return the same of modules that are made."""

    def seconds(side: int) -> NDArray[np.float64]:
        dist.barrier()
        begin = np.array([perf_counter(), process_time()])
        for _ in range(block):
            sides[side]()
        return np.array([perf_counter(), process_time()]) - begin

    for side in (0, 1, 0, 1):  # warm-up
        seconds(side)
    found = np.zeros((FOURSOMES, 2, 2))
    for number in range(FOURSOMES):
        first = number % 2
        for side in (first, 1 - first, 1 - first, first):
            found[number, side] += seconds(side) / (2 * block)
    return found


def main() -> None:
    """Print the cost of every case."""
    foursomes = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    make: Any = c10d._new_process_group_helper
    recorded = dist.new_group()
    c10d._new_process_group_helper = make.__wrapped__  # the recorder's, which `record` has put in
    plain, another = dist.new_group(), dist.new_group()
    for (name, (size, block, made)), first in product(CASES.items(), (recorded, another)):
        config = GPTConfig.named(size)
        found = measured(partial(made, config), (first, plain), block, foursomes)
        name = name if first is recorded else f"{name}, not recorded twice"
        for number, kind in enumerate(("wall", "processor")):
            with_it, without = found[:, 0, number], found[:, 1, number]
            ratio, low, high = median_and_interval(with_it / without)
            if dist.get_rank() == 0:
                print(
                    f"{name}: {kind} {1e3 * np.median(with_it):.2f} ms a step to "
                    f"{1e3 * np.median(without):.2f}, ratio {ratio:.3f} [{low:.3f}, {high:.3f}]",
                    flush=True,
                )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
