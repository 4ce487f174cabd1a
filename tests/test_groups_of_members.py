"""Collectives of real processes over some of the workers, against numpy."""

from __future__ import annotations

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from collective_reference import CASES, own_values, received

pytest.importorskip("torch")

import torch
from processes import together

from realrun.buffers import Flat
from realrun.collectives import Collective, Group
from realrun.device import Host
from sim.members import members_of
from sim.program import QUANTIZED

WORKERS, BLOCK = 4, 32


class Groups:
    """One rank's groups by program and members; starts collectives of theirs."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.made: dict[str, Group] = {}
        self.timeout = timedelta(seconds=60)

    def start(
        self,
        over: tuple[int, ...],
        kind: tuple[str, str, bool],
        values: torch.Tensor,
        program="main",
    ) -> Collective:
        operation, dtype, mean = kind
        name = program + members_of(over, WORKERS, self.rank).name
        if name not in self.made:
            self.made[name] = Group(BLOCK, self.timeout, Host(), name=name)
        group, buffer, packed = self.made[name], Flat("delta", "0:1", values), None
        if dtype in QUANTIZED:
            group.open()
            packed = group.pack(operation, buffer, dtype)
        return group.start(operation, buffer, dtype, mean, lambda at, why: None, packed)

    def finish(self, collective: Collective) -> None:
        collective.wait()
        collective.place()


def process(rank: int, folder: Path) -> None:
    groups = Groups(rank)
    results: dict[str, Any] = {"every case": []}
    for parts, kind, size in CASES:
        over = next(ranks for ranks in parts if rank in ranks)
        values = torch.from_numpy(own_values(rank, size))
        groups.finish(groups.start(over[::-1], kind, values))
        results["every case"].append(values.numpy())
    results["in a circle"] = in_a_circle(groups)
    results["two programs"] = two_programs(groups)
    for group in groups.made.values():
        group.close()
    results["nobody came"] = nobody_came(rank)
    (folder / f"{rank}").write_bytes(pickle.dumps(results))


def in_a_circle(groups: Groups) -> list[float]:
    """Every rank's first collective is with the next, its second with the one before."""
    found = []
    for other in (1, -1):
        over = (groups.rank, (groups.rank + other) % WORKERS)
        value = torch.tensor([float(groups.rank)])
        started = groups.start(over, ("all_reduce", "fp32", False), value, program="circle")
        found.append((started, value))
    for started, _ in found:
        groups.finish(started)
    return [float(value) for _, value in found]


def two_programs(groups: Groups) -> list[float]:
    """Programs over the same ranks, which call in different orders."""
    programs = ["one", "other"][:: 1 if groups.rank % 2 else -1]
    over = (0, 1) if groups.rank < 2 else (2, 3)
    found = {}
    for program in programs:
        value = torch.tensor([float(groups.rank + (10 if program == "one" else 100))])
        started = groups.start(over, ("all_reduce", "fp32", False), value, program)
        found[program] = started, value
    for started, _ in found.values():
        groups.finish(started)
    return [float(found[program][1]) for program in ("one", "other")]


def nobody_came(rank: int) -> str:
    """What rank 0 is told that waits for a member which never calls."""
    if rank:
        return ""
    groups = Groups(rank)
    groups.timeout = timedelta(seconds=1)
    started = groups.start((0, 3), ("all_reduce", "fp32", False), torch.ones(1), "waiting")
    with pytest.raises(RuntimeError) as caught:
        groups.finish(started)
    return str(caught.value)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("members")
    together(WORKERS, process, folder)
    return [pickle.loads((folder / f"{rank}").read_bytes()) for rank in range(WORKERS)]


def test_members_receive_what_numpy_computes_of_theirs_alone(ranks: list[dict[str, Any]]) -> None:
    for number, (parts, kind, size) in enumerate(CASES):
        for over in map(tuple, map(sorted, parts)):
            for rank, values in zip(over, received(over, kind, size, BLOCK), strict=True):
                np.testing.assert_allclose(
                    ranks[rank]["every case"][number],
                    values,
                    rtol=1e-6,
                    atol=1e-6 if kind[1] in QUANTIZED else 0,
                    err_msg=f"{kind} of {size} over {over} at rank {rank}",
                )


def test_first_collectives_in_a_circle_do_not_wait_for_each_other(
    ranks: list[dict[str, Any]],
) -> None:
    found = [each["in a circle"] for each in ranks]
    assert found == [[1.0, 3.0], [3.0, 1.0], [5.0, 3.0], [3.0, 5.0]]


def test_two_programs_over_the_same_ranks_have_groups_of_their_own(
    ranks: list[dict[str, Any]],
) -> None:
    found = [each["two programs"] for each in ranks]
    assert found == [[21.0, 201.0]] * 2 + [[25.0, 205.0]] * 2


def test_a_member_that_never_comes_is_an_error_of_the_one_that_waits(
    ranks: list[dict[str, Any]],
) -> None:
    assert "timeout" in ranks[0]["nobody came"].lower()
