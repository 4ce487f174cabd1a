"""What must hold of the algorithms themselves, on the toy model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.toy_training import SIZE, same, scenario, train

from sim.methods import METHODS
from sim.models.quadratic import Quadratic
from sim.program import ArgumentError
from sim.runtime import simulate


@pytest.mark.parametrize("overlap", ["none", "bucket", "layer"])
@pytest.mark.parametrize("n", [1, 3])
def test_ddp_overlap_changes_no_number(overlap: str, n: int) -> None:
    same(
        train("ddp", 5, n=n, overlap="none"), train("ddp", 5, n=n, overlap=overlap, bucket_bytes=20)
    )


@pytest.mark.parametrize("overlap", ["none", "bucket"])
def test_reducing_after_every_micro_batch_changes_no_number(overlap: str) -> None:
    arguments = {"overlap": overlap, "bucket_bytes": 20}
    same(train("ddp", 5, n=3, **arguments), train("ddp", 5, n=3, no_sync=False, **arguments), 1e-6)


def test_reducing_after_every_micro_batch_sends_as_many_times_as_much() -> None:
    sent = [
        [
            row.bytes
            for row in simulate(scenario("ddp", n=3, no_sync=kept), rounds=2).rows
            if row.bytes
        ]
        for kept in (True, False)
    ]
    assert sent[1] == 3 * sent[0]


@pytest.mark.parametrize("other", [{"zero1": True}, {"overlap": "layer"}])
def test_reducing_after_every_micro_batch_needs_the_whole_mean(other: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="no_sync = false goes with"):
        train("ddp", 1, n=2, no_sync=False, **other)


def test_ddp_workers_stay_together() -> None:
    models = train("ddp", 7, workers=3)
    for model in models.values():
        np.testing.assert_array_equal(model.theta, models[0].theta)


def test_zero1_equals_ddp() -> None:
    same(train("ddp", 6, workers=3), train("ddp", 6, workers=3, zero1=True), 1e-6)
    torchs = train("ddp", 6, workers=3, zero1=True, zero1_exchange="torch")
    same(train("ddp", 6, workers=3), torchs, 1e-6)


def test_ddp_on_two_workers_is_one_worker_with_twice_the_batch() -> None:
    """Equal targets and no noise make the two batches the same data."""
    toy = {"noise": 0.0, "spread": 0.0}
    two = train("ddp", 8, workers=2, toy=toy)
    one = train("ddp", 8, workers=1, n=2, toy=toy)
    np.testing.assert_allclose(two[0].theta, one[0].theta, rtol=1e-6)


def test_diloco_with_h_1_and_plain_outer_sgd_averages() -> None:
    arguments = {"sync_every": 1, "outer_lr": 1.0, "outer_momentum": 0.0, "use_nesterov": False}
    same(train("diloco", 9, **arguments), train("local_sgd", 9, sync_every=1), 1e-6)


def test_streaming_with_one_fragment_no_delay_alpha_0_is_diloco() -> None:
    streaming = train(
        "streaming_diloco", 4, sync_every=5, num_fragments=1, fragment_sync_delay=0, outer_lr=0.7
    )
    same(streaming, train("diloco", 4, sync_every=5))


@pytest.mark.parametrize("delay", [0, 1, 3, 7])
def test_streaming_overlap_by_layer_changes_no_number(delay: int) -> None:
    arguments = {"sync_every": 6, "num_fragments": 3, "fragment_sync_delay": delay}
    whole = train("streaming_diloco", 5, **arguments)
    # Layer by layer a reduction is applied just before that layer's next forward: the same
    # parameters enter every gradient.
    same(whole, train("streaming_diloco", 5, overlap="layer", **arguments))


def test_diloco_overlap_by_layer_changes_no_number() -> None:
    same(train("diloco", 4, sync_every=3), train("diloco", 4, sync_every=3, overlap="layer"))


def test_alpha_one_never_uses_what_was_sent() -> None:
    apart = train("streaming_diloco", 3, sync_every=4, num_fragments=2, fragment_update_alpha=1.0)
    alone = train(
        "streaming_diloco",
        3,
        sync_every=4,
        num_fragments=2,
        fragment_update_alpha=1.0,
        outer_lr=0.01,
    )
    same(apart, alone)


@pytest.mark.parametrize("outer_sync_delay", [1, 2])
@pytest.mark.parametrize("num_fragments", [1, 3])
def test_eager_without_momentum_brings_workers_together_at_the_end(
    outer_sync_delay: int, num_fragments: int
) -> None:
    models = train(
        "eager_diloco",
        6,
        workers=3,
        sync_every=4,
        outer_sync_delay=outer_sync_delay,
        num_fragments=num_fragments,
        outer_momentum=0.0,
        use_nesterov=False,
    )
    np.testing.assert_allclose(models[0].theta, models[2].theta, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bf16", "int8", "fp4"])
def test_eager_stays_together_when_quantized(dtype: str) -> None:
    models = train(
        "eager_diloco",
        60,
        sync_every=2,
        comm_dtype=dtype,
        outer_momentum=0.0,
        use_nesterov=False,
        toy={"noise": 0.0},
    )
    gap = np.abs(models[0].theta - models[1].theta).max()
    assert gap < 0.05


def test_delayed_makes_no_outer_step_in_the_first_rounds() -> None:
    models = {rank: Quadratic(SIZE, rank, 2) for rank in range(2)}
    before = models[0].outer.copy()
    seen = []

    class Watching(Quadratic):
        def outer_step(self, *args: Any, **kwargs: Any) -> None:
            seen.append(np.array_equal(self.outer, before))
            super().outer_step(*args, **kwargs)

    models[0] = Watching(SIZE, 0, 2)
    simulate(scenario("delayed_diloco", sync_every=3, outer_sync_delay=2), rounds=3, models=models)
    assert seen == [True, False, False]  # one in round 3, two when what is in flight is applied


def test_acco_on_one_worker_equals_a_hand_written_loop() -> None:
    n, rounds, lr, momentum = 2, 5, 0.1, 0.5
    model = train("acco", rounds, workers=1, n=n)[0]
    random = Quadratic(SIZE, 0, 1, n_grad_accumulation=n, noise=0.3, momentum=momentum)
    theta, velocity = random.theta.copy(), np.zeros_like(random.theta)

    def half_batch(at: np.ndarray) -> np.ndarray:
        random.theta[:] = at
        random._gradient[:] = 0
        for _ in range(n):
            random.accumulate()
        return n * random._gradient

    estimate = half_batch(theta)
    for _ in range(rounds):
        fresh = half_batch(theta)
        predicted = theta - lr * (momentum * velocity + estimate / n)
        velocity = momentum * velocity + (estimate + fresh) / (2 * n)
        theta = theta - lr * velocity
        estimate = half_batch(predicted)
    np.testing.assert_allclose(model.theta, theta, rtol=1e-5, atol=1e-6)


def test_acco_weighs_by_micro_batches() -> None:
    """The faster worker contributes more, and both end with the same parameters."""
    models = train("acco", 6, workers=2, speeds=[1.0, 4.0])
    np.testing.assert_array_equal(models[0].theta, models[1].theta)


@pytest.mark.parametrize("method", ["acco", "dpu", "wp"])
def test_replay_repeats_what_was_observed(method: str) -> None:
    asked = scenario(method, speeds=[1.0, 0.3])
    first = {rank: Quadratic(SIZE, rank, 2) for rank in range(2)}
    second = {rank: Quadratic(SIZE, rank, 2) for rank in range(2)}
    trace = simulate(asked, rounds=5, models=first)
    slower = scenario(method, speeds=[0.5, 0.9])  # other times, the same decisions
    again = simulate(slower, rounds=5, models=second, replay=trace)
    assert again.sequence() == trace.sequence()
    same(first, second)


@pytest.mark.parametrize("method", METHODS)
def test_training_approaches_the_common_optimum(method: str) -> None:
    arguments = {} if method in ("ddp", "acco", "dpu", "wp") else {"sync_every": 5}
    rounds = 120 if method in ("ddp", "acco", "dpu", "wp") else 60
    if "diloco" in method:
        # A delayed outer step with the papers' momentum of 0.9 oscillates on so stiff a toy.
        arguments |= {"outer_lr": 0.2, "outer_momentum": 0.3}
    models = train(method, rounds, toy={"noise": 0.0}, **arguments)
    optimum = (models[0].target + models[1].target) / 2
    start = Quadratic(SIZE, 0, 2).theta
    # Between the fragments' syncs a worker's own parameters drift: where there are outer ones
    # (they moved), they count.
    outer = models[0].outer
    reached = models[0].theta if np.array_equal(outer, start) else outer
    assert np.linalg.norm(reached - optimum) < 0.1 * np.linalg.norm(start - optimum)
