"""Constants of NCCL's cost model, by release.

Source: ``src/graph/tuning.cc`` of github.com/NVIDIA/nccl. Latencies in microseconds, bandwidths in
GB/s (1e9 bytes), as there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PROTOCOLS = ("LL", "LL128", "Simple")
ALGORITHMS = ("tree", "ring")
GENERATIONS = ("volta", "ampere", "hopper", "blackwell")

ByProtocol = tuple[float, float, float]
ByNodes = tuple[float, float, float]


@dataclass(frozen=True)
class Constants:
    """What one release of NCCL takes for granted."""

    #: Latency of a collective without hops, by algorithm: LL, LL128, Simple.
    base_us: dict[str, ByProtocol]
    #: Latency of a hop by hardware ("nvlink", "pcie", "network") and algorithm.
    hop_us: dict[str, dict[str, ByProtocol]]
    #: Factor on the LL latency inside a node where a ring spans several nodes.
    ll_inside_factor: float
    #: Share of a ring's bandwidth that LL reaches over several nodes, or for an all-reduce.
    ring_ll_share: float
    #: The same on one node for everything but an all-reduce.
    ring_ll_share_on_one_node: float
    #: Share of a ring's bandwidth that LL128 reaches with one rank per node.
    ring_ll128_share_if_one_per_node: float
    #: Whether a hop inside a node costs at least the network's overhead in a ring over nodes.
    network_overhead: bool
    #: Whether network hops of a ring with one rank per node cost what they cost in a tree.
    tree_hops_if_one_per_node: bool
    #: Whether an all-reduce's ring crosses the network 2 n times for n nodes, not 2 (n - 1).
    all_reduce_crosses_twice_n: bool
    #: What a tree keeps of its bandwidth, before limits.
    tree_share: float
    #: What a tree keeps where the search for channels found no balanced trees.
    tree_pattern_share: float
    #: Factor on a ring's Simple latency for large all-reduces over nodes: Ampere on, and before.
    plateau: tuple[float, float]
    #: Factor on a tree's bandwidth by protocol, for 64 B, 128 B, 256 B, ...
    tree_correction: dict[str, tuple[float, ...]]


# llMaxBws: LL, at most, on one node, two, more. One node goes by generation, several by the
# processors' vendor. Up to 2.20 a single node of Hopper had Ampere's.
LL_MOST: dict[str, ByNodes] = {
    "volta": (39.0, 39.0, 20.4),
    "ampere": (87.7, 22.5, 19.0),
    "hopper": (141.0, 45.0, 35.0),
    "blackwell": (282.0, 90.0, 70.0),
}
LL_MOST_BY_VENDOR: dict[str, ByNodes] = {
    "intel": LL_MOST["volta"],
    "amd": LL_MOST["ampere"],
}

# Per channel, at most: perChMaxRingLL128Bws, perChMaxTreeLL128Bws, perChMaxTreeBws.
RING_LL128_MOST: dict[str, ByNodes] = {
    "volta": (20.0, 20.0, 20.0),
    "ampere": (20.0, 20.0, 20.0),
    "hopper": (36.7, 36.7, 36.7),
    "blackwell": (40.0, 40.0, 40.0),
}
TREE_LL128_MOST: dict[str, ByNodes] = {
    "volta": (20.0, 20.0, 20.0),
    "ampere": (20.0, 20.0, 20.0),
    "hopper": (36.7, 36.7, 29.0),
    "blackwell": (55.6, 31.67, 20.0),
}
TREE_MOST: dict[str, ByNodes] = {
    "volta": (26.5, 18.5, 10.0),
    "ampere": (24.0, 23.6, 17.8),
    "hopper": (38.7, 41.4, 36.0),
    "blackwell": (70.0, 42.8, 24.0),
}

# getNetOverhead: microseconds that a post to the network costs; three times that for Simple.
NETWORK_OVERHEAD_US = {"intel": 1.0, "amd": 2.0}

_RING_2_20 = {"nvlink": (0.6, 1.9, 3.4), "pcie": (1.0, 2.5, 5.7), "network": (2.7, 4.0, 14.0)}

#: NCCL 2.29.
NCCL_2_29 = Constants(
    base_us={"tree": (6.8, 14.0, 8.4), "ring": (6.6, 14.0, 8.4)},
    hop_us={
        "nvlink": {"tree": (0.6, 1.25, 4.0), "ring": _RING_2_20["nvlink"]},
        "pcie": {"tree": (1.0, 1.9, 4.0), "ring": _RING_2_20["pcie"]},
        "network": {"tree": (5.0, 8.5, 14.0), "ring": _RING_2_20["network"]},
    },
    ll_inside_factor=1.0,
    ring_ll_share=0.5,
    ring_ll_share_on_one_node=0.5,
    ring_ll128_share_if_one_per_node=0.92,
    network_overhead=True,
    tree_hops_if_one_per_node=True,
    all_reduce_crosses_twice_n=False,
    tree_share=0.92,
    tree_pattern_share=0.85,
    plateau=(1.4, 1.9),
    tree_correction={
        "LL": (*(1.0,) * 4, 0.9, 0.8, *(0.7,) * 4, 0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        "LL128": (*(1.0,) * 5, 0.9, 0.8, 0.8, 0.8, 0.7, *(0.6,) * 6, 0.8, *(0.9,) * 4),
        "Simple": (
            *(*(0.9,) * 7, 0.8, 0.7, 0.6, 0.6, *(0.5,) * 4, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8),
            *(0.9, 0.9),
        ),
    },
)

#: NCCL 2.20 (commit b647562) to about 2.22.
NCCL_2_20 = replace(
    NCCL_2_29,
    base_us={"tree": (6.8, 14.0, 0.0), "ring": (6.6, 14.0, 8.4)},
    hop_us={
        hardware: {
            "tree": (*NCCL_2_29.hop_us[hardware]["tree"][:2], 28.0),
            "ring": NCCL_2_29.hop_us[hardware]["ring"],
        }
        for hardware in NCCL_2_29.hop_us
    },
    ring_ll_share=0.25,
    ring_ll_share_on_one_node=1 / 3,
    ring_ll128_share_if_one_per_node=0.7,
    tree_hops_if_one_per_node=False,
    all_reduce_crosses_twice_n=True,
)

#: NCCL 2.18.3 to 2.18.5, read in Meta's copy (github.com/wfu-fb/nccl, commit 1f220ee).
NCCL_2_18 = replace(
    NCCL_2_20,
    hop_us={
        "nvlink": {"tree": (0.6, 1.25, 4.0), "ring": _RING_2_20["nvlink"]},
        "pcie": {"tree": (1.0, 1.9, 6.0), "ring": _RING_2_20["pcie"]},
        "network": {"tree": (5.0, 8.5, 14.0), "ring": _RING_2_20["network"]},
    },
)

#: NCCL 2.10.3 (commit 7e51592): the tables of logs from 2021 and 2022. "ampere" is A100 alone
#: there, and its limit of 235 GB/s in all is left out.
NCCL_2_10 = replace(
    NCCL_2_20,
    base_us={"tree": (4.4, 4.4, 0.0), "ring": (3.6, 10.0, 8.4)},
    hop_us={
        "nvlink": {"tree": (0.52, 1.25, 28.0), "ring": (0.47, 1.9, 3.4)},
        "pcie": {"tree": (1.0, 1.9, 28.0), "ring": (1.0, 2.5, 5.7)},
        "network": {"tree": (5.0, 8.5, 28.0), "ring": (2.7, 4.0, 9.6)},
    },
    ll_inside_factor=1.8,
    network_overhead=False,
    all_reduce_crosses_twice_n=False,
    tree_pattern_share=1.0,
    plateau=(1.9, 1.9),
)
