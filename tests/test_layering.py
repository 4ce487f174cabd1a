"""Who may import what: read from the import statements, late ones included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SIM = Path(__file__).parent.parent / "sim"
FILES = sorted(SIM.rglob("*.py"))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


def inside(path: Path, *folders: str) -> bool:
    return path.relative_to(SIM).parts[0] in folders


def test_programs_import_programs_only() -> None:
    allowed = ("sim.methods", "sim.program", "annotated_types", "__future__")
    for path in (SIM / "methods").glob("*.py"):
        for module in imported(path):
            standard = module.split(".")[0] in ("collections", "itertools", "math", "typing")
            assert standard or module.startswith(allowed), f"{path.name} imports {module}"


@pytest.mark.parametrize("module", ["torch", "realrun"])
def test_simulator_never_imports(module: str) -> None:
    for path in FILES:
        assert not {name for name in imported(path) if name.split(".")[0] == module}, path


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("simpy", {"clock.py"}),
        ("pydantic", {"scenario"}),
        ("typer", {"cli"}),
        ("rich", {"cli"}),
        ("matplotlib", {"plots.py", "cli"}),
        ("cloudpickle", {"study.py", "parallel.py"}),
    ],
)
def test_a_library_stays_in_its_room(library: str, where: set[str]) -> None:
    for path in FILES:
        if {name for name in imported(path) if name.split(".")[0] == library}:
            assert inside(path, *where), f"{path} imports {library}"


def test_only_the_command_line_imports_the_command_line() -> None:
    for path in FILES:
        if not inside(path, "cli", "__main__.py"):
            assert not {name for name in imported(path) if name.startswith("sim.cli")}, path


@pytest.mark.parametrize(
    "name", ["trace", "trace_files", "perfetto", "breakdown", "traffic", "throughput", "figures"]
)
def test_figures_need_the_trace_alone(name: str) -> None:
    found = imported(SIM / f"{name}.py")
    above = ("sim.scenario", "sim.runtime", "sim.network", "sim.trace_context")
    assert not {module for module in found if module.startswith(above)}


def test_theory_shares_nothing_with_the_runtime() -> None:
    allowed = {"sim.theory", "sim.methods", "sim.program", "sim.scenario"}
    for path in (SIM / "theory").glob("*.py"):
        for module in imported(path):
            if module.startswith("sim"):
                assert ".".join(module.split(".")[:2]) in allowed, f"{path.name} imports {module}"


def test_resolved_scenario_knows_neither_files_nor_units() -> None:
    knows = {"resolved": {"sim.scenario.identity", "sim.scenario.pairs"}}
    for name in ("resolved", "identity", "pairs"):
        found = {m for m in imported(SIM / "scenario" / f"{name}.py") if m.startswith("sim")}
        assert found == knows.get(name, set())


def named(path: Path) -> str:
    parts = path.relative_to(SIM.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files_imported(path: Path, files: dict[str, Path]) -> set[str]:
    found = imported(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names
            if names <= files.keys():  # files of a package, and nothing of its __init__
                found.discard(node.module or "")
    return found & files.keys()


def test_no_file_of_the_simulator_imports_itself_by_way_of_others() -> None:
    """Late imports and those for type checkers count: whoever needs a name knows its file."""
    files = {named(path): path for path in FILES}
    left = {name: files_imported(path, files) for name, path in files.items()}
    assert "sim.clock" in left["sim.runtime.device"]
    while done := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in done}
    assert not left, f"imports in a circle: {left}"
