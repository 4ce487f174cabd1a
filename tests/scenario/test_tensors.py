"""Which tensors a model has, for what is sent one tensor at a time."""

from __future__ import annotations

import pytest

from sim.methods.exchange import MOST_PARTS
from sim.program import ArgumentError
from sim.records.scenario import Scenario
from sim.runtime import simulate
from sim.scenario import ScenarioError, load
from sim.theory.closed_forms import ring_seconds

LAYERS = "model.layer_parameters=[1000, 500]"


def asked(*settings: str, exchange: str = "tensor") -> Scenario:
    settings = (f"method.exchange={exchange}", "site.step_time=1s", *settings)
    return load(settings=["method.name=diloco", *settings])


def refused(*settings: str) -> str:
    with pytest.raises(ScenarioError) as error:
        asked(*settings)
    return str(error.value)


def test_a_decoder_and_a_preset_know_their_tensors() -> None:
    for settings in (("model.kind=gpt", "model.size=1M"), ("model.name=10B",)):
        model = asked(*settings).model
        assert tuple(map(sum, model.layer_tensors)) == model.layer_parameters
        assert asked(*settings, exchange="whole").model.layer_tensors == ()


def test_what_a_preset_is_taken_to_consist_of_is_listed() -> None:
    assumed = dict(asked("model.name=10B").assumed)
    assert "8 in each layer" in assumed["model.layer_tensors"]


def test_a_size_alone_has_no_tensors() -> None:
    zero1 = ["method.name=ddp", "method.zero1=true", "method.zero1_exchange=torch"]
    with pytest.raises(ScenarioError, match=r"method\.zero1_exchange.*torch_views"):
        load(settings=[*zero1, "model.parameters=7B", "site.step_time=1s"])
    assert "model.layer_tensors" in refused("model.parameters=7B")
    assert "model.layer_tensors" in refused(LAYERS)


def test_tensors_are_those_of_the_layers() -> None:
    assert "has 1 lists for 2 layers" in refused(LAYERS, "model.layer_tensors=[[1000]]")
    wrong = refused(LAYERS, "model.layer_tensors=[[900, 200], [500]]")
    assert "layer 0 have 1,100 parameters together, layer_parameters says 1,000" in wrong
    alone = refused("model.parameters=1500", "model.layer_tensors=[[1000], [500]]")
    assert "model.layer_tensors" in alone
    assert "list of lists" in refused(LAYERS, "model.layer_tensors=[1000, 500]")


def test_only_what_is_sent_by_tensors_has_another_hash() -> None:
    tensors = "model.layer_tensors=[[900, 100], [500]]"
    whole = asked(LAYERS, exchange="whole").sha256
    assert asked(LAYERS, tensors, exchange="whole").sha256 == whole
    assert asked(LAYERS, tensors).sha256 != whole
    assert (
        asked(LAYERS, "model.layer_tensors=[[1000], [500]]").sha256 != asked(LAYERS, tensors).sha256
    )


def test_tensors_travel_one_after_the_other_each_with_its_own_latency() -> None:
    """Two sites 20 ms apart at 1 MB/s: 100 + 900 and 500 values of bf16 as three rings."""
    network = ("network.bandwidth=8 Mbit/s", "network.per=pair", "network.rtt=40 ms")
    first = ("network.first_collective_time=0 s", "method.sync_every=10")
    tensors = "model.layer_tensors=[[900, 100], [500]]"
    trace = simulate(asked(LAYERS, tensors, *network, *first), rounds=3)
    sent = [row.bytes for row in trace.rows if row.rank == 0 and row.operation == "all_reduce"]
    assert sent == [1800, 200, 1000] * 3
    rings = sum(ring_seconds("all_reduce", 2, size, 1e6, 0.02) for size in sent)
    assert trace.total_s == pytest.approx(30 * 1.0 + rings, rel=1e-9)


def test_buckets_are_equal_and_no_larger_than_asked() -> None:
    bucket = ("method.bucket_bytes=1000", "method.sync_every=10")
    trace = simulate(asked(LAYERS, *bucket, exchange="bucket"), rounds=1)
    sent = [row for row in trace.rows if row.rank == 0 and row.operation == "all_reduce"]
    assert [row.bytes for row in sent] == [1000, 1000, 1000]
    assert [row.detail for row in sent] == [f"delta 0:2 {n}/3 bf16" for n in (1, 2, 3)]


def test_more_buckets_than_anyone_waits_for_are_refused() -> None:
    bucket = ("method.bucket_bytes=1", "model.parameters=1M")
    with pytest.raises(ArgumentError, match=f"at most {MOST_PARTS}"):
        simulate(asked(*bucket, exchange="bucket"), rounds=1)
