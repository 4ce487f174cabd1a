"""The settings that are searched: every combination of values that are in use or published."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from math import ceil, inf
from typing import Any

from sim.network.schedules import ALGORITHMS
from sim.planning.limits import Limits
from sim.planning.settings import ALGORITHM, ORDER, Setting
from sim.program import QUANTIZED
from sim.records.scenario import Scenario
from sim.scenario.method import parameters_of
from sim.scenario.rings import best_order

SYNC_EVERY = (5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000)
DELAYS = (0, 1, 2, 3, 5, 10)
ROUNDS_LATE = (1, 2)
FRAGMENTS = (2, 4, 8, 16, 32)
MOST_FRAGMENTS = 64
"""Of up to as many layers each may be a fragment of its own."""

BUCKETS = tuple(25 * 2**20 * times for times in (1, 4, 16))

METHODS = ("ddp", "acco", "diloco", "streaming_diloco")
"""Methods that are searched unless others are named, the preferred first among equals."""

Axes = Mapping[str, Sequence[Any]]


def axes_of(
    base: Scenario, fixed: Collection[str] = (), limits: Limits | None = None
) -> dict[str, list[Any]]:
    """Return what may be varied of a method on these links: key -> values.

    Parameters
    ----------
    base
        A scenario of the method, with its arguments.
    fixed
        Keys that keep the scenario's values.
    limits
        Rounds as long as they allow are searched, too.
    """
    model = base.model
    fragments = {p for p in (*FRAGMENTS, ceil(model.layers / 3)) if 1 < p <= model.layers}
    if 1 < model.layers <= MOST_FRAGMENTS:
        fragments.add(model.layers)
    takes = dict(parameters_of(base.method.program).annotations)
    if "exchange" in takes:  # buckets of an outer step: none of them leaves earlier than the others
        del takes["bucket_bytes"]
    known: dict[str, Sequence[Any]] = {
        "overlap": ("none", "bucket", "layer") if "bucket_bytes" in takes else ("none", "layer"),
        "bucket_bytes": BUCKETS,
        "sync_every": sorted({*SYNC_EVERY, *_longest(base, limits)}),
        "num_fragments": sorted(fragments),
        "fragment_sync_delay": DELAYS,
        "outer_sync_delay": ROUNDS_LATE,
        "comm_dtype": (model.param_dtype, *QUANTIZED),
    }
    if "num_fragments" in takes and "layers_per_fragment" not in takes:
        del known["num_fragments"]  # whole rounds late: fragments change little
    found = {f"method.{name}": list(values) for name, values in known.items() if name in takes}
    collectives = base.network.collectives
    if len(base.workers) > 1 and collectives.algorithm != "gloo" and not collectives.tables:
        found[ALGORITHM] = list(ALGORITHMS)
        orders = {collectives.order or tuple(range(len(base.sites))): collectives.order}
        orders.setdefault(ring_of(base), ring_of(base))
        if len(orders) > 1:
            found[ORDER] = list(orders.values())
    return {key: values for key, values in found.items() if key not in fixed and values}


def _longest(base: Scenario, limits: Limits | None) -> list[int]:
    """Return the most inner steps between outer steps that limits allow."""
    if limits is None or limits.sync_every is None:
        return []
    most = limits.sync_every
    if limits.tokens_per_update is not None:
        most = min(most, int(limits.tokens_per_update / base.tokens_per_step))
    return [most] if most >= 1 else []


def settings_of(base: Scenario, axes: Axes) -> Iterator[Setting]:
    """Return every combination, each once in effect: buckets matter to one kind of overlap."""
    for values in product(*axes.values()):
        setting = Setting(base.method.name, tuple(zip(axes, values, strict=True)))
        overlap = setting.get("method.overlap", base.method.arguments.get("overlap"))
        buckets = axes.get("method.bucket_bytes", ())
        if overlap == "bucket" or not buckets:
            yield setting
        elif setting.get("method.bucket_bytes") == buckets[0]:
            yield setting.without("method.bucket_bytes")


def ring_of(scenario: Scenario) -> tuple[int, ...]:
    """Return the order of the sites in the ring that is best over these links."""
    sites = range(len(scenario.sites))
    latency = scenario.network.latency
    return best_order(
        [[scenario.rate(a, b) if a != b else inf for b in sites] for a in sites],
        [[latency.between(a, b) if a != b else 0.0 for b in sites] for a in sites],
    )
