"""The answer says that collectives go by site unasked, and what a flat ring would give."""

from __future__ import annotations

import pytest
from support.command_line import Bandwise

import sim
from sim.web import answers
from sim.web.inputs import read

ASKED = ("--model", "1B", "--method", "diloco", "--bandwidth", "1Gbit/s")
SEVERAL = ("--workers", "4")
LINE = 'network.collective.algorithm = "hierarchical" was assumed'


@pytest.mark.parametrize("method", ["ddp", "diloco", "streaming_diloco"])
def test_the_figures_are_those_of_a_ring_that_is_asked_for(bandwise: Bandwise, method: str) -> None:
    asked = ("simulate", *ASKED, *SEVERAL, "--method", method)
    told = bandwise(*asked, "--json").json
    ring = bandwise(*asked, "--algorithm", "ring", "--json").json
    flat = told["flat_ring"]
    assert flat["assumed_algorithm"] == "hierarchical"
    for key in ("compute_utilization", "tokens_per_s", "inner_step_s", "total_wall_clock_s"):
        assert flat[key] == ring[key]
    assert flat["inner_step_s"] > told["inner_step_s"]
    out = bandwise(*asked).out
    assert LINE in out
    share = f"{100 * flat['compute_utilization']:.1f} %"
    assert f'a flat "ring" would give a compute utilization of {share}' in " ".join(out.split())
    assert "flat_ring" not in ring


@pytest.mark.parametrize(
    "more",
    [
        (),
        (*SEVERAL, "--algorithm", "hierarchical"),
        (*SEVERAL, "--comm-dtype", "int8"),
        (*SEVERAL, "--method", "ddp", "--set", "method.zero1=true"),
        (*SEVERAL, "--sites", "1"),
    ],
)
def test_nothing_is_said_where_a_ring_would_be_the_same_or_was_not_replaced(
    bandwise: Bandwise, more: tuple[str, ...]
) -> None:
    ran = bandwise("simulate", *ASKED, *more)
    assert "flat" not in ran.out
    assert "flat_ring" not in bandwise("simulate", *ASKED, *more, "--json").json


def test_it_is_left_out_where_it_takes_long(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim.questions.alternative.AT_ONCE_S", 0.0)
    asked = ("simulate", *ASKED, *SEVERAL)
    assert "was not simulated as well" in bandwise(*asked).out
    assert bandwise(*asked, "--json").json["flat_ring"] == {
        "assumed_algorithm": "hierarchical",
        "simulated": False,
    }


def test_random_times_are_those_of_the_same_replication(bandwise: Bandwise) -> None:
    asked = ("simulate", *ASKED, *SEVERAL, "--jitter", "lognormal:0.2", "--replications", "1")
    told, ring = (bandwise(*asked, *more, "--json").json for more in ((), ("--algorithm", "ring")))
    assert told["flat_ring"]["compute_utilization"] == ring["compute_utilization"]


def test_python_and_the_page_say_it_too() -> None:
    given = {"model": "1B", "method": "diloco", "bandwidth": "1 Gbit/s", "workers": 4}
    found = sim.simulate(sim.make_scenario(**given), sensitivity=False)  # type: ignore[arg-type]
    assert found.figures["flat_ring"]["simulated"]
    assert LINE in repr(found)
    assert LINE in found.to_html().replace("&quot;", '"')
    shown = answers.point(read([(key, str(value)) for key, value in given.items()]))
    assert shown["figures"]["flat_ring"] == found.figures["flat_ring"]
    assert LINE in shown["html"].replace("&quot;", '"')


@pytest.mark.parametrize("command", ["compare", "required"])
def test_other_answers_name_it_among_what_was_assumed(bandwise: Bandwise, command: str) -> None:
    asked = (command, "--model", "1B", "--bandwidth", "1Gbit/s", *SEVERAL)
    said = " ".join(bandwise(*asked).out.split())
    assert "1Mi tokens per step and hierarchical collectives among them" in said
    assert "hierarchical collectives" not in bandwise(*asked, "--algorithm", "tree").out
    assumed = bandwise(*asked, "--json").json["assumed"]
    assert "hierarchical (sites have several workers)" in str(assumed)


def test_a_plan_is_given_what_a_simulation_is(bandwise: Bandwise) -> None:
    asked = ("--model", "1B", "--bandwidth", "1Gbit/s", *SEVERAL, "--tokens", "1B")
    ran = bandwise("plan", *asked, "--methods", "diloco", "--no-sensitivity")
    (given,) = [line for line in ran.out.splitlines() if line.startswith("as given")]
    assert given.endswith("hierarchical")
