"""A scenario's hash: what decides the answer, and nothing else.

Only what differs from the default of its field or argument is hashed, under a schema number. A
key that is added later, with a default that means what was so before, changes no hash; the
number is raised when the same text comes to mean something else.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

SCHEMA = 1

# Fields and arguments that were renamed since: a name decides nothing.
_NAMES = {"background_slowdown": "side_slowdown", "outer_sync_delay": "rounds_late_by"}

# Fields of a scenario that are written in another form, or that decide nothing.
_APART = ("method", "workers", "network", "assumed", "left_out")

# Of a network: one number for each pair of sites.
_BY_PAIR = ("bandwidth", "latency")
_WRITTEN_OUT = 100  # sites; of more, what all pairs have in common stands for them


def sha256(scenario: Any) -> str:
    """Return the hash of a :class:`sim.records.scenario.Scenario`, in hexadecimal."""
    different = dict.fromkeys(worker.machine for worker in scenario.workers)
    machines = {machine: number for number, machine in enumerate(different)}
    return _digest(
        {
            "schema": SCHEMA,
            **_differing(scenario, apart=_APART),
            "method": _method(scenario.method, scenario.model.param_dtype),
            "network": _differing(scenario.network, apart=_BY_PAIR) | _by_pair(scenario.network),
            "machines": [_plain(machine) for machine in machines],
            "workers": [[w.site, machines[w.machine], w.random_stream] for w in scenario.workers],
        }
    )


def _method(method: Any, param_dtype: str) -> dict[str, Any]:
    """Return a method by its name, with the arguments that are not its defaults."""
    signature = inspect.signature(method.program).parameters
    # What came later is left out where it means what was so before.
    later = {key for name, key in _LATER_ARGUMENTS if name == method.name}
    before = {key for key in later if method.arguments.get(key) == param_dtype}
    if method.name == "recording":  # which file it is says its digest, wherever it lies
        before.add("path")
    return {
        **({"island": method.island} if method.island else {}),
        "name": method.name,
        "arguments": {
            _NAMES.get(key, key): value
            for key, value in method.arguments.items()
            if key not in before and (key not in signature or signature[key].default != value)
        },
    }


def _by_pair(network: Any) -> dict[str, Any]:
    """Return a network's bandwidth and latency row by row, unless that would be too much."""
    tables = {name: getattr(network, name) for name in _BY_PAIR}
    return {
        name: list(pairs)
        if len(pairs) <= _WRITTEN_OUT or pairs.common is None
        else {"common": pairs.common, "diagonal": pairs.diagonal}
        for name, pairs in tables.items()
    }


def _differing(record: Any, apart: Sequence[str] = ()) -> dict[str, Any]:
    return {
        _NAMES.get(field.name, field.name): _plain(getattr(record, field.name))
        for field in fields(record)
        if field.compare  # what is left out of comparisons decides nothing
        and field.name not in apart
        and getattr(record, field.name) != _default(field)
    }


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _differing(value)
    if not isinstance(value, tuple) or (value and type(value[0]) is float):
        return value
    return [_plain(item) for item in value]


def _digest(data: Mapping[str, Any]) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


# The rule of schema 0, under which runs were kept: every field and every argument that there
# was then, as it was resolved, and one machine per site.
_FIRST = {
    "Run": "tokens steps rounds seed skip_rounds measured_rounds",
    "ModelSize": "name parameters active_parameters layer_parameters param_dtype",
    "Jitter": "distribution cv samples",
    "Machine": (
        "step_seconds batch_tokens n_grad_accumulation first_layer_backward speed jitter "
        "optimizer_seconds outer_gradient_seconds outer_step_seconds quantize_seconds "
        "communication_slowdown background_slowdown communication_s_per_byte transmission_slowdown "
        "cold_start"
    ),
    "Site": "name workers uplink downlink within_bandwidth within_latency",
    "CollectiveTable": "operation dtype bytes seconds",
    "HostCosts": "message_s byte_s call_s element_s quantized_element_s window_bytes",
    "Collectives": "algorithm order concurrent quantize_block first_seconds tables host",
    "Network": "collectives",
}
_FIRST_ARGUMENTS = frozenset(
    [
        *("bucket_bytes", "comm_dtype", "fragment_pattern", "fragment_spacing"),
        *("fragment_sync_delay", "fragment_update_alpha", "layers_per_fragment", "num_fragments"),
        *("outer_lr", "outer_momentum", "overlap", "outer_sync_delay", "sync_every"),
        *("use_nesterov", "zero1"),
    ]
)
_LATER_ARGUMENTS = frozenset(
    [
        ("local_sgd", "comm_dtype"),
        ("local_sgd", "bucket_bytes"),
        ("diloco", "bucket_bytes"),
        ("streaming_diloco", "bucket_bytes"),
        ("delayed_diloco", "bucket_bytes"),
        ("eager_diloco", "bucket_bytes"),
    ]
)
"""Arguments that other methods had then, and this one did not."""


def sha256_of_schema_0(scenario: Any) -> str:
    """Return the hash under which a scenario was kept before hashes had a schema."""
    first = {worker.site: worker.machine for worker in reversed(scenario.workers)}
    name = scenario.method.name
    given = [
        (_NAMES.get(key, key), value)
        for key, value in scenario.method.arguments.items()
        if key in _FIRST_ARGUMENTS and (name, key) not in _LATER_ARGUMENTS
    ]
    return _digest(
        {
            "run": _as_first(scenario.run),
            "model": _as_first(scenario.model),
            "method": {
                "name": name,
                "arguments": dict(given),
            },
            "sites": [_as_first(site) for site in scenario.sites],
            "machines": [_as_first(first[site]) for site in range(len(scenario.sites))],
            "network": _as_first(scenario.network) | _by_pair(scenario.network),
            "name": scenario.name,
        }
    )


def _as_first(value: Any) -> Any:
    if is_dataclass(value):
        names = _FIRST[type(value).__name__].split()
        return {_NAMES.get(name, name): _as_first(getattr(value, name)) for name in names}
    return [_as_first(item) for item in value] if isinstance(value, tuple) else value
