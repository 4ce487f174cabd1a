"""Collectives of real processes over some of the workers, against numpy."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.collective_reference import CASES, own_values, received

pytest.importorskip("torch")

import torch
from support.processes import together
from support.toy_training import SIZE, scenario
from support.two_levels import around, at_once, two_levels

from realrun.communication.groups import Collective, Group
from realrun.device import Host
from realrun.errors import RunError
from realrun.model.buffers import Flat
from realrun.runtime.shared import Limits, Shared
from realrun.runtime.worker import TorchWorker
from sim.members import members_of
from sim.models.quadratic import Quadratic
from sim.program import QUANTIZED, Program
from sim.records.scenario import Method, Run
from sim.runtime import simulate
from sim.trace.table import Row, Trace

WORKERS, BLOCK, ROUNDS = 4, 32, 5
TOKENS = (1.0, 2.0, 1.0, 4.0)
TOY: dict[str, Any] = {"noise": 0.3, "momentum": 0.5}
PROGRAMS: list[tuple[Callable[..., Program], dict[str, Any]]] = [
    (two_levels, {"sync_every": 2, "average_every": 3}),
    (two_levels, {"sync_every": 1, "average_every": 4}),
    (at_once, {}),
    (around, {}),
]


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
    results["trained"] = [trained(rank, program, arguments) for program, arguments in PROGRAMS]
    results["nobody came"] = nobody_came(rank)
    (folder / f"{rank}").write_bytes(pickle.dumps(results))


def trained(rank: int, program: Callable[..., Program], arguments: dict[str, Any]) -> Any:
    """A program's rows, and the toy's parameters afterwards."""
    model = Quadratic(SIZE, rank, WORKERS, **TOY)
    limits = Limits(rounds=ROUNDS, batch_tokens=TOKENS)
    shared = Shared(rank, WORKERS, model, limits, BLOCK, by_tokens=True)
    worker = TorchWorker(shared)
    worker.drive(program(worker, **arguments))
    shared.close()
    rows = [[getattr(row, name) for name in Row.__slots__] for row in shared.rows]
    return rows, model.theta, model.outer


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


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_real_processes_give_the_simulators_trace_and_parameters(
    ranks: list[dict[str, Any]], number: int
) -> None:
    """By the tokens of the members, and the second time in groups of the same names."""
    program, arguments = PROGRAMS[number]
    plain = scenario("local_sgd", WORKERS)
    workers = tuple(
        replace(each, machine=replace(each.machine, batch_tokens=tokens))
        for each, tokens in zip(plain.workers, TOKENS, strict=True)
    )
    collectives = replace(plain.network.collectives, quantize_block=BLOCK)
    asked = replace(
        plain,
        run=Run(average_by="tokens"),
        workers=workers,
        method=Method(program.__name__, program, arguments),
        network=replace(plain.network, collectives=collectives),
    )
    models = {rank: Quadratic(SIZE, rank, WORKERS, **TOY) for rank in range(WORKERS)}
    simulated = simulate(asked, rounds=ROUNDS, models=models)
    found = [each["trained"][number] for each in ranks]
    rows = [Row(*row) for own, _, _ in found for row in own]
    assert simulated.sequence() == Trace(rows, simulated.context, 0.0).sequence()
    for rank, (_, theta, outer) in enumerate(found):
        np.testing.assert_allclose(theta, models[rank].theta, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(outer, models[rank].outer, rtol=1e-5, atol=1e-7)


def test_a_mistake_is_a_line_with_rank_and_collective() -> None:
    worker = TorchWorker(Shared(2, WORKERS, Quadratic(SIZE, 2, WORKERS), Limits(rounds=1)))
    with pytest.raises(RunError) as refused:
        worker.broadcast(worker.model.handed_count(), "fp32", over=(0, 1))
    assert str(refused.value) == (
        "rank 2 (main): broadcast: over=(0, 1): called by rank 2, which is not in it"
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
