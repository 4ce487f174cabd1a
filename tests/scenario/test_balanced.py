"""Batches that are balanced: nobody waits, and a step has the tokens it would have had."""

from math import isclose
from random import Random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sim import make_scenario
from sim.output.run_report import subject
from sim.questions.replications import predicted
from sim.records.scenario import Machine
from sim.scenario import ScenarioError, load
from sim.scenario.axes import label_of
from sim.scenario.balance import Share, balanced

SLOW = {
    "--model": "10B",
    "--sites": "paris,osaka",
    "--method": "ddp",
    "--bandwidth": "1 Tbit/s",
}


def resolved(*more):
    return load(None, SLOW, ["network.rtt=0 ms", "site.osaka.speed=0.5", *more])


def waited(scenario):
    from sim.figures.evaluation import figures
    from sim.runtime import simulate as run

    return figures(run(scenario)).breakdown["waiting"]


def seconds(machine):
    return (machine.step_seconds + machine.optimizer_seconds) / machine.speed


speeds = st.lists(st.floats(0.05, 20), min_size=1, max_size=6)


@given(speeds, st.floats(0.0, 0.01), st.integers(1, 3))
@example([12.0, 20.0, 0.05078125], 0.009765625, 1)  # the slowest one's optimizer takes longer
def test_all_steps_take_as_long_and_tokens_are_kept(speeds, optimizer, workers):
    shares = [
        Share(Machine(2.0, 2**20, speed=speed, optimizer_seconds=optimizer), workers, True)
        for speed in speeds
    ]
    machines = balanced(shares)
    assume(all(machine.batch_tokens > 0 for machine in machines))  # else it is refused
    longest = max(seconds(machine) for machine in machines)
    for share, machine in zip(shares, machines, strict=True):
        assert longest - seconds(machine) <= 1.001 * share.seconds_per_token + max(
            other.seconds_per_token for other in shares
        )
        assert isclose(machine.step_seconds / machine.batch_tokens, 2.0 / 2**20)
        assert machine.batch_tokens == int(machine.batch_tokens)
    missing = workers * (2**20 * len(speeds) - sum(m.batch_tokens for m in machines))
    assert -1e-3 <= missing <= workers * len(speeds)


@given(speeds, st.integers(1, 10**7))
def test_balanced_sites_take_as_long_as_the_slowest_of_the_others(speeds, batch):
    known = [Share(Machine(3.0, batch), 1, False), Share(Machine(1.0, batch), 1, False)]
    shares = [Share(Machine(2.0, 2**20, speed=speed), 1, True) for speed in speeds]
    for share, machine in zip(shares, balanced(known + shares)[2:], strict=True):
        assert -1e-9 <= 3.0 - seconds(machine) <= share.seconds_per_token + 1e-9


def test_ddp_waits_without_balance_and_not_with_it():
    assert waited(resolved()) > 0.1
    assert waited(resolved("site.batch_tokens=balanced")) < 1e-4


def test_a_twice_slower_site_gets_half_the_tokens_and_says_so():
    scenario = resolved("site.batch_tokens=balanced")
    fast, slow = (worker.machine for worker in scenario.workers)
    assert (fast.batch_tokens, slow.batch_tokens) == (1398101, 699050)
    assumed = dict(scenario.assumed)
    assert assumed["site.osaka.batch_tokens"] == "699050 (balanced)"
    assert "paris 1398101 (50 %), osaka 699050 (50 %)" in subject(scenario)
    by_tokens = resolved("site.batch_tokens=balanced", "train.average_by=tokens")
    assert "paris 1398101 (66.7 %), osaka 699050 (33.3 %)" in subject(by_tokens)


def test_equal_sites_keep_their_batch_and_their_hash():
    options = {**SLOW, "--sites": "3"}
    alone = load(None, options)
    same = load(None, {**options, "--batch-tokens": "balanced"})
    assert same.sha256 == alone.sha256


def test_whole_sequences_where_a_sequence_is_known():
    scenario = load(
        None,
        {"--sites": "paris,osaka", "--method": "ddp", "--bandwidth": "1 Tbit/s"},
        [
            "model.kind=gpt",
            "model.size=10M",
            "site.osaka.speed=0.3",
            "site.step_time=1 s",
            "site.n_grad_accumulation=2",
            "site.batch_tokens=balanced",
        ],
    )
    for worker in scenario.workers:
        assert worker.machine.batch_tokens % (2 * 1024) == 0
        assert worker.machine.batch_tokens > 0
    assert len({worker.machine.batch_tokens for worker in scenario.workers}) == 2


def test_realrun_takes_balanced_batches_of_whole_sequences_and_refuses_others():
    pytest.importorskip("torch")
    from types import SimpleNamespace

    from realrun.runnable import sequences

    tokens, no_batch = resolved("site.batch_tokens=balanced"), SimpleNamespace(batch=None)
    with pytest.raises(ScenarioError, match="must be a whole number of at least one"):
        sequences(tokens, 0, SimpleNamespace(context=1024), no_batch)
    whole = load(
        None,
        {"--sites": "paris,osaka", "--method": "ddp", "--bandwidth": "1 Tbit/s"},
        [
            "model.kind=gpt",
            "model.size=10M",
            "site.osaka.speed=0.3",
            "site.step_time=1 s",
            "site.batch_tokens=balanced",
        ],
    )
    found = [sequences(whole, rank, SimpleNamespace(context=1024), no_batch) for rank in (0, 1)]
    assert found == [1575, 472]


def test_a_sweep_names_the_word_without_quotes():
    assert label_of(("site", "batch_tokens"), "balanced") == "balanced"


def test_one_site_balanced_to_a_given_batch():
    scenario = resolved("site.paris.batch_tokens=1Mi", "site.osaka.batch_tokens=balanced")
    fast, slow = (worker.machine for worker in scenario.workers)
    assert (fast.batch_tokens, slow.batch_tokens) == (2**20, 2**19)


def test_python_takes_the_word():
    scenario = make_scenario(
        model="10B", method="ddp", bandwidth="1 Gbit/s", batch_tokens="balanced"
    )
    assert dict(scenario.resolved.assumed)["site.batch_tokens"] == "1048576 (balanced)"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["site.batch_tokens=balenced"], 'did you mean "balanced"'),
        (["site.batch_tokens=0"], "must be at least 1"),
        (
            ["site.paris.step_time=1 ns", "site.osaka.batch_tokens=balanced"],
            "not even 1 tokens fit",
        ),
    ],
)
def test_what_cannot_be_balanced_is_refused_in_one_line(more, said):
    with pytest.raises(ScenarioError, match=said) as error:
        resolved(*more)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", ["ddp", "diloco", "streaming_diloco"])
def test_no_other_split_of_the_same_tokens_is_faster(method):
    """Why a plan offers balanced batches and does not search for others."""

    def tokens_per_s(batches):
        given = [f"site.{name}.batch_tokens={batch}" for name, batch in batches.items()]
        # A step takes 1.7 s per Mi tokens, and twice as long in osaka.
        seconds = {name: 1.7 * batch / 2**20 for name, batch in batches.items()}
        seconds["osaka"] *= 2
        given += [f"site.{name}.step_time={step:.9f} s" for name, step in seconds.items()]
        still = "site.dallas.jitter={distribution='constant'}"
        scenario = load("three_sites", {"--method": method}, [still, *given])
        return predicted(scenario).figures.tokens_per_s

    tokens, sites = 3 * 2**20, ("paris", "dallas", "osaka")
    best = tokens_per_s({"paris": tokens * 2 // 5, "dallas": tokens * 2 // 5, "osaka": tokens // 5})
    random = Random(0)
    for _ in range(8):
        weights = [random.uniform(0.2, 2) for _ in sites]
        split = [int(tokens * weight / sum(weights)) for weight in weights]
        assert tokens_per_s(dict(zip(sites, split, strict=True))) <= best * (1 + 1e-4)
