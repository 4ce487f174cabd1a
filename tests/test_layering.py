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


def test_theory_shares_nothing_with_the_runtime() -> None:
    allowed = {"sim.theory", "sim.methods", "sim.program", "sim.scenario"}
    for path in (SIM / "theory").glob("*.py"):
        for module in imported(path):
            if module.startswith("sim"):
                assert ".".join(module.split(".")[:2]) in allowed, f"{path.name} imports {module}"


def test_resolved_scenario_knows_neither_files_nor_units() -> None:
    for name, known in (("resolved", {"sim.scenario.identity"}), ("identity", set())):
        found = {m for m in imported(SIM / "scenario" / f"{name}.py") if m.startswith("sim")}
        assert found == known
