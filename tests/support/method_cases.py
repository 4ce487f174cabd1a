"""Every method with arguments that make it do all that it can, on the toy model."""

from __future__ import annotations

from typing import Any

from sim.methods import METHODS
from sim.methods.inside import INSIDE
from support.toy_training import of_first

TOY: dict[str, Any] = {"noise": 0.3, "momentum": 0.5}


ROUNDS = 4


BLOCK = 4  # values per scale: most buffers of the toy have several, and one that is not full


ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "ddp": [
        {},
        {"overlap": "layer"},
        {"overlap": "none"},
        {"zero1": True},
        {"bucket_bytes": 20},
        {"comm_dtype": "int8", "bucket_bytes": 20},
        {"no_sync": False, "bucket_bytes": 20},
        {"zero1": True, "zero1_exchange": "torch", "bucket_bytes": 20},
        {"zero1": True, "zero1_exchange": "torch_views"},
        {"comm_dtype": "fp4", "overlap": "layer"},
        {"comm_dtype": "fp4", "zero1": True, "bucket_bytes": 5},
    ],
    "local_sgd": [
        {"sync_every": 3},
        {"sync_every": (3, 5, 1, 2)},
        {"sync_every": (3, 5, 1, 2), "participation": 0.5, "participation_seed": 3},
        {"sync_every": 3, "exchange": "tensor"},
        {"sync_every": 2, "participation": 0.5, "exchange": "bucket", "bucket_bytes": 40},
        {"sync_every": 2, "participation": 0.5, "control_round_trips": 1},
    ],
    "diloco": [
        {"sync_every": 3},
        {"sync_every": 3, "overlap": "layer"},
        {"sync_every": 3, "comm_dtype": "int8"},
        {"sync_every": 3, "overlap": "layer", "comm_dtype": "fp4"},
        {"sync_every": (3, 5, 4, 1), "comm_dtype": "bf16"},
        {"sync_every": (3, 5, 4, 1), "overlap": "layer"},
        {"sync_every": 3, "exchange": "bucket", "bucket_bytes": 10, "comm_dtype": "int8"},
        {"sync_every": 3, "overlap": "layer", "exchange": "tensor"},
        {"sync_every": 3, "control_round_trips": 2, "control_time": 0.001},
    ],
    "streaming_diloco": [
        {"sync_every": 6, "num_fragments": 3},
        {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 9, "comm_dtype": "bf16"},
        {"sync_every": 6, "num_fragments": 3, "overlap": "layer", "fragment_update_alpha": 0.5},
        {"sync_every": 6, "num_fragments": 2, "fragment_sync_delay": (0, 2, 1, 0)},
        {
            "sync_every": (3, 5, 4, 7),
            "num_fragments": 3,
            "fragment_sync_delay": (1, 6, 0, 2),
            "comm_dtype": "int8",
        },
        {"sync_every": 4, "num_fragments": 2, "fragment_sync_delay": 9, "comm_dtype": "fp4"},
        {
            "sync_every": 6,
            "num_fragments": 3,
            "fragment_sync_delay": 2,
            "overlap": "layer",
            "comm_dtype": "int8",
        },
        {"sync_every": 6, "num_fragments": 3, "fragment_sync_delay": 2, "exchange": "tensor"},
        {"sync_every": 4, "num_fragments": 2, "control_round_trips": 1},
    ],
    "delayed_diloco": [
        {"sync_every": 3},
        {"sync_every": 4, "outer_sync_delay": 2, "num_fragments": 2},
        {"sync_every": 4, "outer_sync_delay": 2, "num_fragments": 2, "comm_dtype": "int8"},
        {"sync_every": 3, "exchange": "tensor", "comm_dtype": "bf16"},
    ],
    "eager_diloco": [
        {"sync_every": 3},
        {"sync_every": 3, "comm_dtype": "bf16"},
        {"sync_every": 3, "comm_dtype": "fp4"},
        {"sync_every": (3, 5, 4, 1), "num_fragments": 2, "comm_dtype": "fp4"},
        {"sync_every": 3, "num_fragments": 2, "outer_sync_delay": 2, "comm_dtype": "int8"},
        {"sync_every": 3, "num_fragments": 2, "exchange": "tensor", "comm_dtype": "fp4"},
        {"sync_every": 3, "exchange": "bucket", "bucket_bytes": 40, "comm_dtype": "bf16"},
    ],
    "acco": [{}, {"comm_dtype": "fp4"}, {"look_every": "inner_step"}],
    "dpu": [{}, {"comm_dtype": "int8"}],
    "wp": [{}, {"comm_dtype": "fp4"}],
    "fsdp": [{}, {"prefetch": False, "comm_dtype": "bf16"}, {"reshard": False}],
}


CASES = [(method, arguments) for method in METHODS | INSIDE for arguments in ARGUMENTS[method]]


def enlarged(times: int, workers: int) -> list[tuple[str, dict[str, Any]]]:
    """The cases for a model that many times as large: larger buckets, not more of them."""
    return [
        (method, {key: times * n if key == "bucket_bytes" else n for key, n in given.items()})
        for method, given in ((name, of_first(workers, arguments)) for name, arguments in CASES)
    ]
