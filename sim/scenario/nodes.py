"""Nodes that are known by name: accelerators, the links inside, and the links to other nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import PlainValidator

from sim.scenario.errors import did_you_mean
from sim.scenario.fields import RefusedError


@dataclass(frozen=True)
class Node:
    """What one node has; links by the names of :mod:`sim.scenario.interconnects`."""

    accelerators: int
    #: What they are; "" where any will do.
    kind: str
    #: Of one accelerator, to the others of its node.
    within: str
    #: Of the whole node, to other nodes: what carries collectives, not storage or management.
    between: str
    #: Who says so.
    source: str


_AWS = "AWS, EC2 instance types and EFA"
_GOOGLE = "Google Cloud, Networking and GPU machines"
_HGX = "of a DGX; an HGX board has no adapters of its own"
_PCI = "by definition; PCI-SIG"

# No data sheet states a round trip, so a node has none. Of Google's machines only the adapters of
# the accelerators are counted: a3-highgpu-8g has 4 and one more, a3-megagpu-8g 8 and one more.
NODES: dict[str, Node] = {
    "DGX A100": Node(8, "A100", "NVLink 3", "8 x InfiniBand HDR", "NVIDIA DGX A100 data sheet"),
    "HGX A100": Node(8, "A100", "NVLink 3", "8 x InfiniBand HDR", _HGX),
    "DGX H100": Node(8, "H100", "NVLink 4", "8 x InfiniBand NDR", "NVIDIA DGX H100 data sheet"),
    "HGX H100": Node(8, "H100", "NVLink 4", "8 x InfiniBand NDR", _HGX),
    "DGX H200": Node(8, "H200", "NVLink 4", "8 x InfiniBand NDR", "NVIDIA DGX BasePOD"),
    "DGX B200": Node(8, "B200", "NVLink 5", "8 x InfiniBand NDR", "NVIDIA DGX B200 user guide"),
    "PCIe 4 node": Node(8, "", "PCIe 4", "100G Ethernet", _PCI),
    "PCIe 5 node": Node(8, "", "PCIe 5", "100G Ethernet", _PCI),
    "p4d.24xlarge": Node(8, "A100", "NVLink 3", "4 x 100G Ethernet", _AWS),
    "p5.48xlarge": Node(8, "H100", "NVLink 4", "32 x 100G Ethernet", _AWS),
    "a3-highgpu-8g": Node(8, "H100", "NVLink 4", "4 x 200G Ethernet", _GOOGLE),
    "a3-megagpu-8g": Node(8, "H100", "NVLink 4", "8 x 200G Ethernet", _GOOGLE),
    "a3-ultragpu-8g": Node(8, "H200", "NVLink 4", "8 x 400G Ethernet", _GOOGLE),
    "a4-highgpu-8g": Node(8, "B200", "NVLink 5", "8 x 400G Ethernet", _GOOGLE),
}


def read_node(value: object) -> str:
    """Read the name of a node.

    Examples
    --------
    >>> read_node("dgx h100")
    'DGX H100'
    """
    if not isinstance(value, str):
        raise RefusedError('must be like "DGX H100"')
    known = {name.lower(): name for name in NODES}
    name = known.get(" ".join(value.lower().split()))
    if name is None:
        raise RefusedError(f"is no known node{did_you_mean(value, NODES)}")
    return name


def unlike(name: str, accelerators: str | None) -> str:
    """Say that a node has other accelerators than those given; "" where it may have them.

    Examples
    --------
    >>> unlike("DGX A100", "16 x H100")
    'links of a DGX A100, which has A100'
    >>> unlike("DGX H100", "16 x H100"), unlike("PCIe 5 node", "8 x H100")
    ('', '')
    """
    kind = NODES[name].kind
    if not kind or accelerators is None or kind.lower() in accelerators.lower():
        return ""
    return f"links of a {name}, which has {kind}"


NodeName = Annotated[str, PlainValidator(read_node)]
