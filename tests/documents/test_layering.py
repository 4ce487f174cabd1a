"""Who may import what: read from the import statements, late ones included."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support.imports import imported

SIM = Path(__file__).parents[2] / "sim"
FILES = sorted(SIM.rglob("*.py"))


def inside(path: Path, *places: str) -> bool:
    """Whether a file is one of these, or lies in one of these folders."""
    own = path.relative_to(SIM)
    return bool({own.as_posix(), *(folder.as_posix() for folder in own.parents)} & set(places))


# Of the standard library: nothing that knows a clock, or draws what others do not.
PURE = ("bisect", "collections", "functools", "hashlib", "itertools", "math", "typing")


def test_programs_import_programs_only() -> None:
    allowed = ("sim.methods", "sim.program", "annotated_types", "__future__")
    for path in (SIM / "methods").glob("*.py"):
        for module in imported(path):
            standard = module.split(".")[0] in PURE
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
        ("typer", {"cli", "output"}),
        ("rich", {"output"}),
        (
            "matplotlib",
            {
                "figures/plots.py",
                "figures/pictures",
                "figures/tornado.py",
                "output/pictures.py",
                "output/drawn_columns.py",
                "output/svg.py",
                "output/html_pictures.py",
                "output/plan_pictures.py",
                "api",
                "cli",
            },
        ),
        ("starlette", {"web/application.py"}),
        ("uvicorn", {"web/serving.py"}),
        ("distributed", {"processes/engines.py"}),
        ("ray", {"processes/engines.py"}),
        ("cloudpickle", {"questions/study.py", "processes/parallel.py"}),
    ],
)
def test_a_library_stays_in_its_room(library: str, where: set[str]) -> None:
    for path in FILES:
        if {name for name in imported(path) if name.split(".")[0] == library}:
            assert inside(path, *where), f"{path} imports {library}"


@pytest.mark.parametrize(
    ("library", "adapter"),
    [("torch.utils.tensorboard", "tensorboard_events"), ("wandb", "weights_and_biases")],
)
def test_an_optional_logger_is_imported_where_it_is_asked_for(library: str, adapter: str) -> None:
    realrun = SIM.parent / "realrun"
    using = [path for path in realrun.rglob("*.py") if library in imported(path)]
    assert using == [realrun / "loggers" / f"{adapter}.py"]
    for path in realrun.rglob("*.py"):
        at_once = [each for each in ast.parse(path.read_text()).body if "Import" in repr(each)]
        assert f"realrun.loggers.{adapter}" not in {getattr(each, "module", "") for each in at_once}


def test_who_starts_workers_of_islands_needs_no_torch() -> None:
    found = imported(SIM.parent / "realrun" / "islands.py")
    assert not {name for name in found if name.split(".")[0] in ("torch", "realrun")}


# From the bottom up: a room knows those before it.
ORDER = {
    "sim": "version units operations members clock storage processes text program methods trace "
    "recording records models network runtime theory figures scenario questions planning output "
    "api web cli __main__",
    "realrun": "errors device peak islands data communication processes recording lab model checks "
    "runtime runnable state loggers doctor training calibration report validation bundle cli "
    "__main__",
}


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_one_way(package: str) -> None:
    """Late imports and those for type checkers count."""
    root, order = SIM.parent, ORDER[package].split()
    for path in sorted((root / package).rglob("*.py")):
        own = path.relative_to(root / package).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            top, *rest = node.module.split(".")
            if top != package:
                continue
            for room in rest[:1] or [alias.name for alias in node.names]:
                if room != own and not room.startswith("__version"):
                    assert order.index(room) < order.index(own), f"{path} imports {room}"


def test_every_package_says_what_its_files_are() -> None:
    """By name, in its docstring; those of one file per command, method or check need not."""
    for init in sorted([*SIM.glob("*/__init__.py"), *SIM.parent.glob("realrun/*/__init__.py")]):
        if init.parent.name in ("cli", "methods"):
            continue
        said = ast.get_docstring(ast.parse(init.read_text())) or ""
        files = {path.stem for path in init.parent.glob("*.py")} - {"__init__"}
        missing = {name for name in files if not re.search(rf"\b{name}\b", said)}
        assert not missing, f"{init}: does not say what {', '.join(sorted(missing))} is"


@pytest.mark.parametrize(
    "name",
    [
        *(f"trace/{name}" for name in ("table", "files", "perfetto")),
        *(f"figures/{name}" for name in ("breakdown", "traffic", "throughput", "evaluation")),
    ],
)
def test_figures_need_the_trace_alone(name: str) -> None:
    found = imported(SIM / f"{name}.py")
    above = ("sim.scenario", "sim.records", "sim.runtime", "sim.network")
    assert not {module for module in found if module.startswith(above)}


def test_theory_shares_nothing_with_the_runtime() -> None:
    allowed = {"sim.theory", "sim.methods", "sim.program", "sim.records"}
    for path in (SIM / "theory").glob("*.py"):
        for module in imported(path):
            if module.startswith("sim"):
                assert ".".join(module.split(".")[:2]) in allowed, f"{path.name} imports {module}"


def test_the_table_of_operations_stands_on_nothing_of_ours() -> None:
    assert not {name for name in imported(SIM / "operations.py") if name.startswith("sim")}


KNOWN = {"connections": {"sim.units"}, "islands": {"sim.program"}}


def test_resolved_scenario_knows_neither_files_nor_units() -> None:
    for path in (SIM / "records").glob("*.py"):
        found = {m for m in imported(path) if m.startswith("sim") and m != "sim.records"}
        known = {"sim.operations", "sim.records"} | KNOWN.get(path.stem, set())
        rooms = {m for m in found if not m.startswith(("sim.records", "sim.methods"))}
        assert rooms <= known, path
        assert path.stem == "islands" or not {m for m in found if m.startswith("sim.methods")}


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
    """Late imports and those for type checkers count: code that needs a name knows its file."""
    files = {named(path): path for path in FILES}
    left = {name: files_imported(path, files) for name, path in files.items()}
    assert "sim.clock" in left["sim.runtime.device"]
    while done := {name for name, needed in left.items() if not needed & left.keys()}:
        left = {name: needed for name, needed in left.items() if name not in done}
    assert not left, f"imports in a circle: {left}"


def test_tests_lie_where_their_package_is_and_import_no_other_tests() -> None:
    tests = SIM.parent / "tests"
    rooms = {*ORDER["sim"].split(), "realrun", "lab", "validation", "documents"}
    for path in tests.rglob("test_*.py"):
        assert path.relative_to(tests).parts[0] in rooms, path
        others = {name for name in imported(path) if re.match(r"(support\.)?test_", name)}
        assert not others, f"{path} imports {others}"
