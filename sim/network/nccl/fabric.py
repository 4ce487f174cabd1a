"""The ranks and links that a collective of NCCL runs on."""

from __future__ import annotations

from dataclasses import dataclass

from sim.network.nccl.constants import GENERATIONS, NETWORK_OVERHEAD_US


@dataclass(frozen=True)
class Fabric:
    """Nodes of equal size, and what a graph of channels carries through each accelerator.

    Examples
    --------
    >>> Fabric(nodes=4, per_node=8, bandwidth_gbps=48.0).ranks
    32
    """

    #: Machines that only the network connects.
    nodes: int
    #: Ranks (accelerators) of each machine.
    per_node: int
    #: GB/s of a ring, all channels together: the bus bandwidth that Simple would reach.
    bandwidth_gbps: float
    #: The same of a tree; a ring's where it is None.
    tree_bandwidth_gbps: float | None = None
    #: Channels, which limit LL128 and trees.
    channels: int = 16
    #: Whether its trees are balanced, "Pattern 1" in logs: two ranks of a node share the network.
    balanced_trees: bool = False
    #: What connects the ranks of a node: "nvlink" or "pcie".
    inside: str = "nvlink"
    #: The accelerators' generation, one of ``GENERATIONS``.
    generation: str = "hopper"
    #: The processors' vendor, "intel" or "amd".
    vendor: str = "intel"
    #: Latency of the network card in microseconds.
    card_us: float = 0.0
    #: Latency in microseconds of the path that a hop inside a node takes, added to the hop's.
    inside_path_us: float = 0.0
    #: The same of a hop between nodes.
    between_path_us: float = 0.0
    #: All ranks, where nodes are unequal; ``per_node`` is then a mean, rounded down.
    all_ranks: int | None = None
    #: Factor on every published latency; 1 is the published model.
    latency_factor: float = 1.0
    #: Protocols that are in use.
    protocols: tuple[str, ...] = ("LL", "LL128", "Simple")

    def __post_init__(self) -> None:
        """Refuse what has no ranks, no bandwidth or an unknown name."""
        for name in ("nodes", "per_node", "channels", "bandwidth_gbps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be positive")
        known = {
            "inside": ("nvlink", "pcie"),
            "generation": GENERATIONS,
            "vendor": tuple(NETWORK_OVERHEAD_US),
        }
        for name, names in known.items():
            if getattr(self, name) not in names:
                raise ValueError(f"{name} = {getattr(self, name)!r}: one of {', '.join(names)}")

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.all_ranks or self.nodes * self.per_node
