"""site.inside.node: a node by its name gives accelerators, links inside and links between."""

from __future__ import annotations

import pytest

from sim.records.scenario import Inside, Scenario
from sim.scenario import ScenarioError, load
from sim.scenario.interconnects import read_interconnect
from sim.scenario.nodes import NODES

OPTIONS = {
    "--model": "1B",
    "--method": "diloco",
    "--accelerators": "16 x H100",
    "--bandwidth": "1 Gbit/s",
}


def asked(*inside: str) -> Scenario:
    return load(None, OPTIONS, [f"site.inside.{key}" for key in ("method=ddp", *inside)])


def inside_of(scenario: Scenario) -> Inside:
    found = scenario.workers[0].machine.inside
    assert found is not None
    return found


# Bytes/s in one direction: of an accelerator inside, of a node to others.
@pytest.mark.parametrize(
    ("node", "within", "between"),
    [
        ("DGX A100", 300e9, 200e9),
        ("HGX A100", 300e9, 200e9),
        ("DGX H100", 450e9, 400e9),
        ("HGX H100", 450e9, 400e9),
        ("DGX H200", 450e9, 400e9),
        ("DGX B200", 900e9, 400e9),
        ("PCIe 4 node", 31.5e9, 12.5e9),
        ("PCIe 5 node", 63e9, 12.5e9),
        ("p4d.24xlarge", 300e9, 50e9),
        ("p5.48xlarge", 450e9, 400e9),
        ("a3-highgpu-8g", 450e9, 100e9),
        ("a3-megagpu-8g", 450e9, 200e9),
        ("a3-ultragpu-8g", 450e9, 400e9),
        ("a4-highgpu-8g", 900e9, 400e9),
    ],
)
def test_a_node_has_the_rates_of_its_source(node: str, within: float, between: float) -> None:
    known = NODES[node]
    assert read_interconnect(known.within) == within
    assert read_interconnect(known.between) == between
    assert known.accelerators == 8


@pytest.mark.parametrize("node", ["DGX A100", "PCIe 4 node", "p5.48xlarge"])
def test_a_node_says_what_its_keys_would(node: str) -> None:
    found = NODES[node]
    written = f"within_node={found.within}", f"between_nodes={found.between}"
    named, spelled = asked(f"node={node}"), asked("per_node=8", *written)
    assert inside_of(named) == inside_of(spelled)
    assert named.sha256 == spelled.sha256
    assert dict(named.assumed)["site.inside.between_nodes"].endswith(f"({node})")
    assert dict(named.assumed)["site.inside.per_node"] == f"8 ({node})"


def test_a_node_with_other_accelerators_says_so() -> None:
    assert "site.inside.node" not in dict(asked("node=DGX H100").assumed)
    said = dict(asked("node=DGX A100").assumed)["site.inside.node"]
    assert said == "links of a DGX A100, which has A100"


def test_a_key_next_to_the_node_counts() -> None:
    found = inside_of(asked("node=dgx  a100", "per_node=4", "between_nodes=100G Ethernet"))
    assert (found.per_node, found.between_bandwidth) == (4, 12.5e9)
    assert found.within_bandwidth == 300e9


def test_a_node_that_says_nothing_more_is_not_used() -> None:
    given = "per_node=8", "within_node=PCIe 4", "between_nodes=100G Ethernet"
    found = asked("node=DGX B200", *given)
    assert inside_of(found) == inside_of(asked(*given))
    assert dict(found.assumed)["site.inside.node"].startswith("not used")


def test_round_trips_keep_their_defaults() -> None:
    named, plain = inside_of(asked("node=DGX A100")), inside_of(asked())
    assert named.within_latency == plain.within_latency == 3e-6
    assert named.between_latency == plain.between_latency == 10e-6


def test_an_island_that_is_smaller_than_a_node_is_one_node() -> None:
    named = load(
        None,
        {**OPTIONS, "--accelerators": "4 x A100"},
        ["site.inside.method=ddp", "site.inside.node=DGX A100"],
    )
    assert inside_of(named).per_node == 4


def test_without_a_node_links_are_those_of_a_dgx_h100() -> None:
    assert inside_of(asked()) == inside_of(asked("node=DGX H100"))
    assert dict(asked().assumed)["site.inside.per_node"] == "8"


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ("DGX-H100", 'did you mean "DGX H100"?'),
        ("p5.48xlrge", 'did you mean "p5.48xlarge"?'),
        ("9", 'must be like "DGX H100"'),
        ("Cray", "is no known node; known are DGX A100"),
    ],
)
def test_an_unknown_node_is_refused_in_one_line(node: str, says: str) -> None:
    with pytest.raises(ScenarioError, match=says.replace("?", r"\?")) as refused:
        asked(f"node={node}")
    assert "site.inside.node" in str(refused.value)
    assert "\n" not in str(refused.value)
