"""One H per worker: a slow site takes fewer inner steps in a round, and nobody waits for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.plain_scenario import machine, plain
from support.toy_training import same, scenario, train

from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.program import ArgumentError
from sim.questions.variations import with_sites
from sim.records.scenario import Run
from sim.runtime import simulate
from sim.scenario import ScenarioError, load
from sim.trace.table import ROUND

CASES: list[tuple[str, dict[str, Any]]] = [
    ("local_sgd", {}),
    ("diloco", {}),
    ("diloco", {"overlap": "layer"}),
    ("streaming_diloco", {"num_fragments": 3, "fragment_sync_delay": 2}),
    ("streaming_diloco", {"num_fragments": 3, "overlap": "layer"}),
    ("streaming_diloco", {"num_fragments": 2, "fragment_spacing": "nearest"}),
    ("delayed_diloco", {"num_fragments": 2}),
    ("eager_diloco", {"outer_sync_delay": 2}),
]
IDS = [f"{method}-{number}" for number, (method, _) in enumerate(CASES)]


@pytest.mark.parametrize(("method", "arguments"), CASES, ids=IDS)
def test_equal_entries_change_no_number(method: str, arguments: dict[str, Any]) -> None:
    same(
        train(method, 3, sync_every=(6, 6), **arguments),
        train(method, 3, sync_every=6, **arguments),
    )


@pytest.mark.parametrize(("method", "arguments"), CASES, ids=IDS)
def test_every_worker_takes_its_own_steps_and_sends_the_same_in_the_same_order(
    method: str, arguments: dict[str, Any]
) -> None:
    trace = simulate(
        plain(method, {"sync_every": (6, 10), **arguments}, layers=(4, 3, 3)), rounds=4
    )
    steps = [0, 0]
    sent: list[list[tuple[str, str, float]]] = [[], []]
    for row in trace.rows:
        if row.operation == "inner_step":
            steps[row.rank] += row.times
        elif row.operation == "backward":
            steps[row.rank] += row.times * row.detail.startswith("0")
        elif row.bytes > 0:
            sent[row.rank].append((row.operation, row.detail, row.bytes))
    assert steps == [24, 40]
    assert sent[0] == sent[1]


def test_a_slow_worker_with_fewer_steps_lets_nobody_wait() -> None:
    """Half as fast and half as many steps: both reach the average at the same time."""
    machines = [machine(1.0), machine(2.0)]
    common = plain("diloco", {"sync_every": 10}, machines=machines)
    own = plain("diloco", {"sync_every": (10, 5)}, machines=machines)
    waiting = [figures(simulate(case)).breakdown["waiting"] for case in (common, own)]
    assert waiting[0] > 0.2
    assert waiting[1] == pytest.approx(0.0, abs=1e-9)


def test_tokens_of_a_round_are_the_sum_over_the_workers_own_steps() -> None:
    asked = plain("diloco", {"sync_every": (3, 5)}, run=Run(rounds=4))
    workers = tuple(
        replace(worker, machine=replace(worker.machine, batch_tokens=tokens))
        for worker, tokens in zip(asked.workers, (100.0, 10.0), strict=True)
    )
    result = figures(simulate(replace(asked, workers=workers)))
    assert result.tokens == 4 * (3 * 100 + 5 * 10)


@pytest.mark.parametrize("method", ["diloco", "streaming_diloco", "eager_diloco"])
def test_all_workers_stop_in_the_round_that_reaches_the_tokens_of_the_steps_asked(
    method: str,
) -> None:
    """12 steps of two workers with one token each are 24 tokens: three rounds of 3 + 5."""
    asked = plain(method, {"sync_every": (3, 5), "num_fragments": 1}, run=Run(steps=12))
    if method == "diloco":
        asked = plain(method, {"sync_every": (3, 5)}, run=Run(steps=12))
    trace = simulate(asked)
    began = [
        [row.times for row in trace.rows if row.operation == ROUND and row.rank == rank]
        for rank in range(2)
    ]
    assert began == [[3, 3, 3, 0], [5, 5, 5, 0]]


def test_a_site_left_out_takes_its_steps_with_it() -> None:
    three = plain("diloco", {"sync_every": (3, 5, 7)}, workers=3)
    assert with_sites(three, [0, 2]).method.arguments["sync_every"] == (3, 7)


@pytest.mark.parametrize("method", [m for m in METHODS if "diloco" in m or m == "local_sgd"])
def test_a_file_or_an_option_gives_one_number_per_worker(method: str) -> None:
    options = {"--method": method, "--model": "1B", "--sites": "2", "--sync-every": "[30, 60]"}
    assert load(None, options, []).method.arguments["sync_every"] == (30, 60)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("[30, 60, 90]", "has 3 entries for 2 workers; one for each"),
        ("[30, 0]", "must be a whole number of at least 1, or a list of them (one per worker)"),
        ("30,60", "must be a whole number of at least 1, or a list of them (one per worker)"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(given: str, answer: str) -> None:
    options = {"--method": "diloco", "--model": "1B", "--sites": "2", "--sync-every": given}
    with pytest.raises(ScenarioError, match="sync-every") as refused:
        load(None, options, [])
    assert answer in str(refused.value)


def test_a_program_that_announces_too_few_entries_is_refused() -> None:
    def announces(worker, *, steps):
        while worker.next_round(steps=steps):
            yield worker.compute(worker.model.inner_step)

    asked = plain("ddp", {})
    method = replace(asked.method, program=announces, arguments={"steps": (1, 2, 3)})
    with pytest.raises(ArgumentError, match=r"has 3 entries for 2 workers"):
        simulate(replace(asked, method=method), rounds=1)


def test_layer_by_layer_fragments_that_leave_together_must_do_so_everywhere() -> None:
    asked = scenario("streaming_diloco", sync_every=(2, 6), num_fragments=3, overlap="layer")
    with pytest.raises(ArgumentError, match="sync_every = 2 is less than the 3 fragments"):
        simulate(asked, rounds=1)


def test_training_with_unequal_steps_approaches_the_mean_of_the_workers_optima() -> None:
    """The faster worker pulls harder: the fixed point lies between the workers' targets."""
    plain_sgd = {"outer_lr": 0.5, "outer_momentum": 0.0, "use_nesterov": False}
    toy = {"noise": 0.0, "momentum": 0.0}
    models = train("diloco", 80, sync_every=(2, 4), toy=toy, **plain_sgd)
    # A worker that takes H steps of rate a moves by (1 - (1 - a)^H) of the way to its target.
    moved = [1 - 0.9**2, 1 - 0.9**4]
    targets = [models[0].target, models[1].target]
    expected = sum(m * c for m, c in zip(moved, targets, strict=True)) / sum(moved)
    assert models[0].theta == pytest.approx(expected, abs=1e-3)


def test_a_cosine_ends_with_the_horizon_on_every_worker() -> None:
    """The learning rate is read at an average worker's steps, so that it is common to all."""
    torch = pytest.importorskip("torch")
    from realrun.model.optimizers import FINAL_RATE, Inner
    from realrun.model.replica import TorchModel

    def replica(rank: int) -> TorchModel:
        stage = torch.nn.Linear(2, 1)
        batches = iter(lambda: (torch.ones(1, 2), torch.ones(1, 1)), None)
        inner = Inner(learning_rate=1e-3, steps=60)
        return TorchModel(
            [stage],
            torch.nn.functional.mse_loss,
            batches,
            [list(stage.parameters())],
            rank=rank,
            workers=2,
            inner=inner,
        )

    arguments = {"sync_every": (2, 4)}
    asked = plain("local_sgd", arguments, layers=(3,), run=Run(steps=60))
    models = {rank: replica(rank) for rank in range(2)}
    simulate(asked, models=models, rounds=50)  # the horizon of 60 steps is 20 rounds
    taken = [models[rank]._steps[0] for rank in range(2)]
    rates = [models[rank]._optimizers[0].lr for rank in range(2)]
    assert taken == [40, 80]
    assert rates == pytest.approx([1e-3 * FINAL_RATE] * 2, rel=0.02)
