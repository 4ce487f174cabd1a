"""Random scenarios for the tests that hold the simulator and the theory together.

Sizes are small, but nothing is kept simple: links unequal in both directions, workers unequal,
latency and transmission of the same order as computation. Values come mostly from short lists,
so that ties, equal workers and whole multiples occur often; those are where rules of order show.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any

from hypothesis import strategies as st

from sim.methods import METHODS
from sim.methods.inside import INSIDE
from sim.records.scenario import (
    Collectives,
    HostCosts,
    Machine,
    Method,
    ModelSize,
    Network,
    Run,
    Scenario,
    Site,
    Streams,
    Worker,
)

ALGORITHMS = ("ring", "tree", "halving_doubling", "direct", "hierarchical")
DTYPES = ("bf16", "fp32", "int8", "fp4")

rates = st.sampled_from([1e3, 2e3, 3e3, 7.5e3, 2e4, 1e5]) | st.floats(500, 1e5)
latencies = st.sampled_from([0.0, 0.01, 0.1, 0.37]) | st.floats(0, 0.5)
speeds = st.sampled_from([1.0, 1.0, 0.5, 2.0, 1.3]) | st.floats(0.3, 3)
windows = st.sampled_from([inf, inf, inf, 300.0]) | st.floats(50, 1e5)
short_times = st.sampled_from([0.0, 0.0, 0.02, 0.15]) | st.floats(0, 0.2)


@st.composite
def sites(draw: st.DrawFn, min_workers: int = 2, max_workers: int = 6) -> tuple[Site, ...]:
    """Between one and four sites, equal or not in size."""
    total = draw(st.integers(min_workers, max_workers))
    if draw(st.booleans()):
        count = draw(st.sampled_from([c for c in (1, 2, 3, 4) if total % c == 0]))
        sizes = [total // count] * count
    else:
        count = draw(st.integers(1, min(4, total)))
        cuts = sorted(draw(st.permutations(range(1, total)))[: count - 1])
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]
    return tuple(
        Site(
            name=f"s{number}",
            workers=size,
            uplink=draw(st.just(inf) | rates),
            downlink=draw(st.just(inf) | rates),
            within_bandwidth=draw(st.sampled_from([1e4, 1e6]) | rates),
            within_latency=draw(st.sampled_from([0.0, 0.001]) | latencies),
        )
        for number, size in enumerate(sizes)
    )


@st.composite
def machines(draw: st.DrawFn, micro_batches: int) -> Machine:
    return Machine(
        step_seconds=draw(st.sampled_from([0.3, 1.0, 1.0]) | st.floats(0.1, 3)),
        batch_tokens=64.0,
        n_grad_accumulation=micro_batches,
        first_layer_backward=draw(st.sampled_from([1.0, 0.5])),
        optimizer_seconds=draw(short_times),
        outer_gradient_seconds=draw(short_times),
        outer_step_seconds=draw(short_times),
        quantize_seconds=draw(short_times),
    )


def _matrix(draw: st.DrawFn, count: int, values: st.SearchStrategy[float], diagonal: float) -> Any:
    return tuple(
        tuple(diagonal if a == b else draw(values) for b in range(count)) for a in range(count)
    )


@st.composite
def networks(draw: st.DrawFn, count: int, concurrent: int = 1) -> Network:
    collectives = Collectives(
        algorithm=draw(st.sampled_from((*ALGORITHMS, "requantized_ring"))),
        order=draw(st.just(()) | st.permutations(range(count)).map(tuple)),
        concurrent=concurrent,
        quantize_block=draw(st.sampled_from([256, 0, 7])),
        first_seconds=draw(st.sampled_from([0.0, 0.0, 0.3])),
        host=HostCosts(window_bytes=draw(windows)),
    )
    return Network(
        bandwidth=_matrix(draw, count, rates, inf),
        latency=_matrix(draw, count, latencies, 0.0),
        collectives=collectives,
        streams=draw(st.just(Streams()) | streams()),
    )


@st.composite
def streams(draw: st.DrawFn) -> Streams:
    """Connections, with segments as small as the models."""
    return Streams(
        count=draw(st.integers(1, 4)),
        rate=draw(st.just(inf) | rates),
        loss=draw(st.sampled_from([0.0, 0.0, 1e-4, 0.01])),
        segment_bytes=draw(st.sampled_from([1.0, 9.0, 60.0])),
    )


@st.composite
def models(draw: st.DrawFn) -> ModelSize:
    layers = tuple(draw(st.lists(st.integers(1, 2000), min_size=1, max_size=6)))
    return ModelSize(
        name="toy",
        parameters=sum(layers),
        active_parameters=sum(layers),
        layer_parameters=layers,
        param_dtype=draw(st.sampled_from(["bf16", "fp32"])),
        layer_tensors=tuple(draw(tensors(elements)) for elements in layers),
    )


@st.composite
def tensors(draw: st.DrawFn, elements: int) -> tuple[int, ...]:
    """A layer cut into one to three tensors."""
    cuts = draw(st.lists(st.integers(1, elements), max_size=2, unique=True))
    edges = sorted({0, *cuts, elements})
    return tuple(b - a for a, b in pairwise(edges))


@st.composite
def arguments(draw: st.DrawFn, name: str, layers: int, workers: int) -> dict[str, Any]:
    """Any arguments of the method that touch time."""
    sync_every = st.integers(1, 7)
    fragments = st.integers(1, layers)
    given: dict[str, Any] = {}
    if name != "local_sgd":
        given["comm_dtype"] = draw(st.sampled_from(DTYPES))
    if name == "ddp":
        given["overlap"] = draw(st.sampled_from(["none", "bucket", "layer"]))
        given["bucket_bytes"] = draw(st.sampled_from([700, 2048, 10_000]) | st.integers(300, 9000))
        given["zero1"] = given["overlap"] != "layer" and draw(st.booleans())
        given["zero1_exchange"] = draw(st.sampled_from(["sharded", "torch", "torch_views"]))
        whole = not given["zero1"] or given["zero1_exchange"] != "sharded"
        given["no_sync"] = not whole or given["overlap"] == "layer" or draw(st.booleans())
    if name == "fsdp":
        given["prefetch"] = draw(st.booleans())
        given["reshard"] = draw(st.booleans())
    if name in ("acco", "dpu", "wp"):
        given["look_every"] = draw(st.sampled_from(["micro_batch", "inner_step"]))
    if name in ("diloco", "streaming_diloco"):
        given["overlap"] = draw(st.sampled_from(["none", "layer"]))
    if name in ("local_sgd", "diloco", "streaming_diloco", "delayed_diloco", "eager_diloco"):
        # Layer by layer, unequal workers must send the same fragments together: one at a time.
        least = layers if given.get("overlap") == "layer" else 1
        own = st.integers(least, layers + 4)
        given["sync_every"] = draw(
            sync_every | st.lists(own, min_size=workers, max_size=workers).map(tuple)
        )
        given["exchange"] = draw(st.sampled_from(["whole", "bucket", "tensor"]))
        given["bucket_bytes"] = draw(st.sampled_from([5000, 8192]) | st.integers(5000, 20_000))
        if given.get("overlap") != "layer" and draw(st.booleans()):
            given["control_round_trips"] = draw(st.integers(1, 3))
            given["control_time"] = draw(short_times)
    if name in ("delayed_diloco", "eager_diloco"):
        given["outer_sync_delay"] = draw(st.integers(1, 3))
        given["num_fragments"] = draw(fragments)
    if name == "streaming_diloco":
        if draw(st.booleans()):
            given["num_fragments"] = draw(fragments)
        else:
            given["layers_per_fragment"] = draw(st.integers(1, layers))
        given["fragment_pattern"] = draw(st.sampled_from(["strided", "sequential"]))
        given["fragment_spacing"] = draw(st.sampled_from(["exact", "nearest"]))
        delay = st.integers(0, 12)  # below, at and beyond the period
        given["fragment_sync_delay"] = draw(
            delay | st.lists(delay, min_size=workers, max_size=workers).map(tuple)
        )
    return given


@st.composite
def scenarios(
    draw: st.DrawFn,
    methods: tuple[str, ...] = tuple(METHODS),
    concurrent: int = 1,
    min_workers: int = 2,
) -> Scenario:
    """Draw a deterministic scenario in the theory's domain."""
    places = draw(sites(min_workers))
    model = draw(models())
    name = draw(st.sampled_from(methods))
    micro_batches = draw(st.integers(1, 3))
    count = sum(site.workers for site in places)
    machine = draw(machines(micro_batches))
    # Mostly one machine at several speeds: equal workers must occur.
    own = [
        draw(machines(micro_batches)) if draw(st.integers(0, 4)) == 0 else machine
        for _ in range(count)
    ]
    site_of = [number for number, site in enumerate(places) for _ in range(site.workers)]
    workers = tuple(
        Worker(rank, site, replace(kind, speed=draw(speeds)))
        for rank, (site, kind) in enumerate(zip(site_of, own, strict=True))
    )
    return Scenario(
        run=Run(),
        model=model,
        method=Method(name, (METHODS | INSIDE)[name], draw(arguments(name, model.layers, count))),
        workers=workers,
        sites=places,
        network=draw(networks(len(places), concurrent)),
        name="random",
    )


def with_links(scenario: Scenario, rate: float, wait: float) -> Scenario:
    """Multiply every rate and every latency of the network, and what is in flight with them."""
    collectives, per = scenario.network.collectives, scenario.network.streams
    window = collectives.host.window_bytes * rate * wait
    segment = per.segment_bytes * rate * wait
    network = replace(
        scenario.network,
        collectives=replace(collectives, host=replace(collectives.host, window_bytes=window)),
        streams=replace(per, rate=per.rate * rate, segment_bytes=segment),
        bandwidth=tuple(tuple(b * rate for b in row) for row in scenario.network.bandwidth),
        latency=tuple(tuple(x * wait for x in row) for row in scenario.network.latency),
    )
    sites = tuple(
        replace(
            site,
            uplink=site.uplink * rate,
            downlink=site.downlink * rate,
            within_bandwidth=site.within_bandwidth * rate,
            within_latency=site.within_latency * wait,
        )
        for site in scenario.sites
    )
    return replace(scenario, network=network, sites=sites)


def stretched(scenario: Scenario, factor: float, computation: bool = True) -> Scenario:
    """The same run, every duration ``factor`` times as long."""
    scenario = with_links(scenario, 1 / factor, factor)
    collectives = scenario.network.collectives
    collectives = replace(collectives, first_seconds=collectives.first_seconds * factor)
    scenario = replace(scenario, network=replace(scenario.network, collectives=collectives))
    arguments = dict(scenario.method.arguments)
    if "control_time" in arguments:
        arguments["control_time"] *= factor
    scenario = replace(scenario, method=replace(scenario.method, arguments=arguments))
    if not computation:
        return scenario
    names = [
        f"{name}_seconds"
        for name in ("step", "optimizer", "outer_gradient", "outer_step", "quantize")
    ]
    workers = []
    for worker in scenario.workers:
        longer = {name: getattr(worker.machine, name) * factor for name in names}
        workers.append(replace(worker, machine=replace(worker.machine, **longer)))
    return replace(scenario, workers=tuple(workers))
