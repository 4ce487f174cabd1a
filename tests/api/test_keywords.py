"""Keywords are the options of the command line, the methods' arguments and the sections."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any, get_type_hints

import pytest

import sim
from sim.api.keywords import Keywords
from sim.scenario import OPTIONS
from sim.scenario.keywords import keyword_axis, keyword_changes
from sim.scenario.method import method_arguments
from sim.scenario.schema import SECTIONS


def options() -> set[str]:
    return {option.removeprefix("--").replace("-", "_") for option in OPTIONS}


def test_every_option_argument_and_section_is_a_keyword_and_no_other() -> None:
    sections = {path[0] for path in SECTIONS if len(path) == 1}
    assert set(get_type_hints(Keywords)) == {
        *options(), *method_arguments(), *sections, "name", "settings",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["make_scenario", "load"])
def test_help_shows_every_keyword(name: str) -> None:
    parameters = inspect.signature(getattr(sim, name)).parameters
    assert set(parameters) >= set(get_type_hints(Keywords))
    assert all(p.kind != inspect.Parameter.VAR_KEYWORD for p in parameters.values())


EXAMPLES = {
    "model": "7B",
    "sites": 3,
    "jitter": "lognormal:0.05",
    "hardware": "cluster.toml",
    "method": "ddp",
    "mfu": 0.4,
    "comm_dtype": "int8",
    "overlap": "layer",
    "accelerators": "64 x H100",
    "algorithm": "tree",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_keyword_sets_the_key_that_its_option_sets(option: str) -> None:
    name = option.removeprefix("--").replace("-", "_")
    (change,) = keyword_changes({name: EXAMPLES.get(name, 3)})
    expected = "model.parameters" if name == "model" else OPTIONS[option].key
    assert ".".join(change.path) == expected


def test_none_leaves_a_keyword_out() -> None:
    assert keyword_changes(dict.fromkeys(get_type_hints(Keywords))) == []


def test_an_axis_has_the_labels_of_the_command_line() -> None:
    assert keyword_axis("rtt", [0.03]).points[0].label == 0.03
    assert keyword_axis("rtt", ["30 ms"]).name == "network.rtt_s"
    assert [p.label for p in keyword_axis("sites", [2, 3]).points] == [2, 3]
    assert keyword_axis("sites", [2, 3]).name == "site.count"
    assert [p.label for p in keyword_axis("sync_every", [10, [10, 20]]).points] == [
        "10",
        "[10, 20]",
    ]


def in_a_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )  # fmt: skip
    return done.stdout


def test_the_package_imports_nothing_until_it_is_asked() -> None:
    code = "import sys; before = set(sys.modules); import sim; print(*set(sys.modules) - before)"
    assert set(in_a_process(code).split()) == {"sim", "sim.version"}
    code = "import sys, sim; sim.make_scenario; print(*sys.modules)"
    loaded = set(in_a_process(code).split())
    assert not loaded & {"numpy", "pandas", "matplotlib", "pydantic", "simpy", "pyarrow"}


def test_the_package_lists_what_it_offers() -> None:
    names = {"make_scenario", "load", "simulate", "sweep", "compare", "plan", "required"}
    names |= {"reproduce", "memory"}
    assert set(sim.__all__) == {*names, "__version__"} <= set(dir(sim))
    for name in names:
        assert inspect.getdoc(getattr(sim, name))
    with pytest.raises(AttributeError, match="has no attribute 'simulat'"):
        sim.simulat  # type: ignore[attr-defined]  # noqa: B018


def test_a_scenario_shows_what_was_assumed() -> None:
    scenario: Any = sim.make_scenario(model="10B", sync_every=30)
    assert repr(scenario).startswith("streaming_diloco, 10B parameters, 2 workers at 2 sites.")
    assert "network.bandwidth" in repr(scenario)
    assert "<td" in scenario._repr_html_()
