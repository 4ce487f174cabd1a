"""Local SGD of which a share of the workers takes part in a round (FedAvg)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.toy_training import SIZE, scenario, train

from sim.figures.evaluation import figures
from sim.methods.participation import participants
from sim.models.quadratic import Quadratic
from sim.records.scenario import Run
from sim.runtime import simulate
from sim.scenario import load
from sim.theory import ring_seconds, wall_clock

WORKERS, SHARE, ROUNDS, H = 20, 0.1, 12, 5


def asked(**other):
    made = scenario("local_sgd", WORKERS, sync_every=H, participation=SHARE, participation_seed=4)
    workers = tuple(replace(each, machine=replace(each.machine, **other)) for each in made.workers)
    return replace(made, workers=workers)


def drawn(number: int) -> tuple[int, ...]:
    return participants(WORKERS, SHARE, 4, number)


def members(number: int) -> set[int]:
    return {0, *drawn(number), *drawn(number + 1)}


def test_everyone_is_drawn_equally_often_and_a_share_in_each_round() -> None:
    """Each of 20 in 200 of 2,000 rounds, give or take five standard deviations of a draw."""
    rounds = [participants(20, 0.1, 7, number) for number in range(2000)]
    assert {len(set(each)) for each in rounds} == {2}
    often = np.bincount(np.concatenate(rounds), minlength=20)
    assert np.abs(often - 200).max() < 5 * np.sqrt(2000 * 0.1 * 0.9)
    assert rounds != [participants(20, 0.1, 8, number) for number in range(2000)]


def test_who_takes_part_computes_and_sends_and_nobody_else() -> None:
    trace = simulate(asked(), rounds=ROUNDS)
    rounds = dict.fromkeys(range(WORKERS), -1)
    trained, sent = set(), set()
    for row in trace.rows:
        rounds[row.rank] += row.operation == "next_round" or row.operation == "round"
        if row.operation == "inner_step":
            trained.add((rounds[row.rank], row.rank))
            assert row.times == H
        if row.bytes:
            sent.add((rounds[row.rank], row.rank))
    assert trained == {(n, rank) for n in range(ROUNDS) for rank in drawn(n)}
    assert sent == {(n, rank) for n in range(ROUNDS) for rank in members(n)}


def test_a_round_takes_the_steps_and_the_ring_of_its_members() -> None:
    """Sum over rounds of H T + 2 (n - 1) (latency + S / (n W)); S 120 bytes, W 100, 0.1 s."""
    rings = [ring_seconds("all_reduce", len(members(n)), 120, 100, 0.1) for n in range(ROUNDS)]
    expected = ROUNDS * H * 1.0 + sum(rings)
    assert simulate(asked(), rounds=ROUNDS).total_s == pytest.approx(expected, rel=1e-12)
    assert wall_clock(asked(), ROUNDS).total_s == pytest.approx(expected, rel=1e-12)


def test_bytes_tokens_and_updates_are_those_of_the_participants() -> None:
    """A ring over n members sends 2 (n - 1) S in all; over all 20 workers it would be 38 S."""
    case = replace(
        asked(batch_tokens=3.0), run=Run(rounds=ROUNDS, skip_rounds=0, measured_rounds=ROUNDS)
    )
    found = figures(simulate(case))
    total = sum(2 * (len(members(n)) - 1) * 120 for n in range(ROUNDS))
    assert found.sent_bytes_per_worker * WORKERS == pytest.approx(total)
    assert total < 0.25 * ROUNDS * 2 * (WORKERS - 1) * 120
    assert found.tokens == pytest.approx(ROUNDS * SHARE * WORKERS * H * 3)
    assert found.updates == pytest.approx(ROUNDS)
    busy = ROUNDS * SHARE * H / found.wall_clock_s
    assert found.compute_utilization == pytest.approx(busy)


@pytest.mark.parametrize("by", ["workers", "tokens"])
def test_the_mean_is_over_those_that_trained(by: str) -> None:
    """By hand: rounds of plain local SGD on the participants' targets, from the server's copy."""
    toy = {"noise": 0.0, "lr": 0.1, "momentum": 0.0}
    models = {rank: Quadratic(SIZE, rank, WORKERS, **toy) for rank in range(WORKERS)}
    targets = {rank: model.target.copy() for rank, model in models.items()}
    server = models[0].theta.copy()
    case = replace(asked(), run=Run(average_by=by))
    simulate(case, rounds=ROUNDS, models=models)
    for number in range(ROUNDS):
        ends = []
        for rank in drawn(number):
            theta = server.copy()
            for _ in range(H):
                theta -= 0.1 * (theta - targets[rank])
            ends.append(theta)
        server = np.mean(ends, axis=0)
    np.testing.assert_allclose(models[0].theta, server, rtol=1e-5, atol=1e-6)  # sent in fp32
    for rank in members(ROUNDS - 1):
        np.testing.assert_array_equal(models[rank].theta, models[0].theta)


def test_full_participation_is_local_sgd() -> None:
    one = train("local_sgd", 4, 3, sync_every=2)
    other = train("local_sgd", 4, 3, sync_every=2, participation=1.0, participation_seed=9)
    for rank in one:
        np.testing.assert_array_equal(one[rank].theta, other[rank].theta)


def test_a_scenario_that_does_not_use_it_keeps_its_hash() -> None:
    base = {"--model": "1B", "--method": "local_sgd"}
    plain = load(None, base)
    assert plain.sha256 == load(None, base, ["method.participation=1.0"]).sha256
    assert plain.sha256 != load(None, base, ["method.participation=0.5"]).sha256
