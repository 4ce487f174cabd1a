"""What users write and what their files hold keeps its name, wherever the code moves.

golden/public_names.txt lists it: commands and options, keys, arguments, columns, causes, schemas,
and the paths that programs import. A name may be added; one that goes away breaks somebody.

BANDWISE_UPDATE_GOLDEN=1 pytest tests/documents/test_public_names.py   # then read the diff
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import sim
from sim.api.results import Provenance, Result
from sim.api.scenarios import Scenario
from sim.cli.app import app as bandwise
from sim.figures.causes import CAUSES
from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.output import run_record
from sim.questions.replications import predicted
from sim.questions.study import row
from sim.records.identity import SCHEMA as SCENARIO_SCHEMA
from sim.scenario import bundled, load
from sim.scenario.axes import known_keys
from sim.trace import table as trace
from sim.trace.files import SCHEMA as TRACE_SCHEMA
from sim.trace.files import load as load_trace

GOLDEN = Path(__file__).parents[1] / "golden"
KEPT = GOLDEN / "kept"
PACKAGES = ("sim.program", "sim.methods", "sim.methods.arguments", "sim.scenario", "sim.runtime")


def commands(app: typer.Typer) -> dict[str, dict[str, list[str]]]:
    """Each command's arguments and options, with what is shown with them."""
    group: Any = typer.main.get_command(app)
    found = {}
    for name in group.summaries:
        _, command, _ = group.resolve_command(None, [name])
        found[f"{group.program} {name}"] = {"takes": [*map(option, command.params)]}
    return found


def option(parameter: Any) -> str:
    names = " ".join(sorted({*parameter.opts, *parameter.secondary_opts}))
    return f"{names} {parameter.metavar or ''}".rstrip()


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Paths of what JSON holds."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        yield from sorted({path for inner in value for path in paths(inner, f"{at}[]")})
    else:
        yield at


def public(module: ModuleType) -> list[str]:
    """What a module says it has, or else all that it defines."""
    own = ast.parse(inspect.getsource(module)).body
    assigned = [each.targets[0] for each in own if isinstance(each, ast.Assign)]
    assigned += [each.target for each in own if isinstance(each, ast.AnnAssign)]
    names = [each.id for each in assigned if isinstance(each, ast.Name)]
    names += [each.name for each in own if isinstance(each, ast.FunctionDef | ast.ClassDef)]
    return getattr(module, "__all__", [name for name in names if not name.startswith("_")])


def members(kind: type) -> list[str]:
    """What a class adds to ``Result`` or what it has, fields and methods."""
    own = [kind, *(each for each in kind.__mro__[1:] if each not in (Result, object))]
    return sorted(
        {name for each in own for name in (*vars(each).get("__annotations__", {}), *vars(each))}
    )


def simulated() -> dict[str, dict[str, list[str]]]:
    found = commands(bandwise)
    scenario = load("three_sites", {}, ["run.steps=500"])
    prediction = predicted(scenario)
    record = run_record.data(scenario, prediction.figures, "", prediction.interval)
    found["scenarios"] = {
        "bundled": list(bundled()),
        "keys": known_keys(),
        "schema": [str(SCENARIO_SCHEMA)],
    }
    found["methods"] = {
        f"{program.__module__}:{program.__name__}": list(inspect.signature(program).parameters)[1:]
        for program in METHODS.values()
    }
    found["one run"] = {
        "causes": list(CAUSES),
        "json": [*dict.fromkeys(paths(record))],
        "schema": [str(run_record.SCHEMA)],
    }
    found["many runs"] = {"columns": list(row({}, scenario, prediction))}
    found["traces"] = {"columns": list(trace.COLUMNS), "schema": [str(TRACE_SCHEMA)]}
    found["Python"] = {name: sorted(public(importlib.import_module(name))) for name in PACKAGES}
    found["Python, questions"] = {
        f"sim.{name}": list(inspect.signature(getattr(sim, name)).parameters)
        for name in sim.__all__
        if name != "__version__"
    }
    found["Python, results"] = {
        kind.__name__: [name for name in members(kind) if not name.startswith("_")]
        for kind in (
            Scenario,
            Provenance,
            Result,
            *sorted(Result.__subclasses__(), key=lambda each: each.__name__),
        )
    }
    return found


def measured() -> dict[str, dict[str, list[str]]]:
    from realrun.cli.app import app as realrun
    from realrun.state.checkpoint import SCHEMA
    from realrun.validation.rows import COLUMNS
    from sim.scenario.hardware import SCHEMA as HARDWARE_SCHEMA

    found = commands(realrun)
    found["checkpoints"] = {"schema": [str(SCHEMA)]}
    found["hardware files"] = {"schema": [str(HARDWARE_SCHEMA)]}
    found["validation"] = {"columns": list(COLUMNS)}
    return found


def listed(found: dict[str, dict[str, list[str]]]) -> list[str]:
    return [
        f"{group} / {kind}: {name}"
        for group, kinds in found.items()
        for kind, names in kinds.items()
        for name in names
    ]


def held(names: list[str], part: str) -> None:
    path = GOLDEN / f"public_names_{part}.txt"
    if os.environ.get("BANDWISE_UPDATE_GOLDEN"):
        path.write_text("\n".join(names) + "\n")
    assert names == path.read_text().splitlines()


def test_what_users_of_the_simulator_write_keeps_its_name() -> None:
    held(listed(simulated()), "sim")


def test_what_users_of_the_measurements_write_keeps_its_name() -> None:
    pytest.importorskip("torch")
    held(listed(measured()), "realrun")


@pytest.mark.parametrize("name", ["predicted", "measured"])
def test_an_old_trace_has_the_figures_it_had(name: str) -> None:
    found = figures(load_trace(KEPT / f"{name}.parquet"))
    figure = {
        **run_record.evaluated_rounds(found, measured=name == "measured"),
        "whole_run": run_record.whole_run(found),
    }
    path = KEPT / f"{name}.json"
    if os.environ.get("BANDWISE_UPDATE_GOLDEN"):
        path.write_text(json.dumps(figure, indent=1) + "\n")
    was = json.loads(path.read_text())
    assert list(paths(figure)) == list(paths(was))
    assert [str(value) for value in _values(figure)] == [str(value) for value in _values(was)]


def _values(found: Any) -> list[Any]:
    if isinstance(found, dict):
        return [value for inner in found.values() for value in _values(inner)]
    return [found]
