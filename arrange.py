"""Arrange the tests in folders like the packages, and what several of them need in tests/support.

    python arrange.py

No test changes: names that other test files imported move to tests/support, files move, paths and
imports follow. Run once, in a clean checkout.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent
TESTS = ROOT / "tests"
# New file of tests/support: what it is, from which test file, which names.
TAKEN = {
    "toy_training": (
        "Training the toy model in virtual time, with any method.",
        "test_identities",
        "SIZE of_first scenario train same",
    ),
    "method_cases": (
        "Every method with arguments that make it do all that it can, on the toy model.",
        "test_conformance",
        "TOY ROUNDS BLOCK ARGUMENTS CASES enlarged",
    ),
    "training_commands": (
        "``realrun train`` in processes of its own: started, watched, found again in /proc.",
        "test_checkpoint",
        "SCENARIO begun children workers_of gone newest",
    ),
    "labs": (
        "Labs in tests: whether there can be one here, and which processes are a command's.",
        "test_lab",
        "NETWORK MARK METHOD refusal marked within",
    ),
    "ended_commands": (
        "``realrun`` commands that have ended, and the one line they said.",
        "test_faults",
        "COMMAND ended said",
    ),
    "toy_modules": (
        "A small torch model, what it trains on, and training it with any method.",
        "test_model",
        "INNER SIZES stages batches loss model train",
    ),
    "imports": ("What a file imports, late imports included.", "test_layering", "imported"),
}
SUPPORT = [
    "collective_reference",
    "command_line",
    "network_names",
    "plain_scenario",
    "processes",
    "scenarios_strategy",
    "sockets",
    "two_levels",
]
FOLDERS = {
    "program": "arguments_of_methods bytes_per_element endless identities laws members operations "
    "over_members updates users_method_fails weighted_means wire_dtype",
    "scenario": "advice bad_input consent frozen_parameters huge_values inputs loaded many_sites "
    "network_per one_scenario per_worker_h scenario units",
    "network": "connections costs_of_members gloo gloo_measured wires",
    "runtime": "clock failures runtime two_levels",
    "theory": "against_theory theory",
    "figures": "figures plot throughput totals trace",
    "questions": "effort parallel published replications study whatif",
    "storage": "files written_whole",
    "cli": "cli outputs printed_figures visible",
    "realrun": "against_torch check_replicas checkpoint conformance cuda data device doctor "
    "failures_of_real_runs faults gpt gpt_conformance groups groups_of_members late_rank learning "
    "memory model not_finite own_model quantize realrun replicas state_beside_parameters "
    "tensor_files training_outputs users_errors",
    "lab": "lab lab_abuse",
    "validation": "kept_validation one_path validation validation_report",
    "documents": "fuzz layering notebooks public_names readme",
}
PLACE = {f"test_{name}": folder for folder, names in FOLDERS.items() for name in names.split()}


def taken(path: Path, names: set[str]) -> tuple[str, str, str]:
    """Return a file's imports, what it defines under these names, and the rest of it."""
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    body = ast.parse(text).body
    imports, found, keep = [], [], list(lines)
    for node in body:
        begin = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
        while begin and lines[begin - 1].startswith("#"):
            begin -= 1
        own = "".join(lines[begin : node.end_lineno])
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports.append(own)
            continue
        targets = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        if isinstance(node, ast.Assign):
            targets = [each.id for each in node.targets if isinstance(each, ast.Name)]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            targets = [node.target.id]
        if names & set(targets):
            found.append(own)
            keep[begin : node.end_lineno] = [""] * (node.end_lineno - begin)
    return "".join(imports).replace("  # noqa: E402", ""), "\n\n".join(found), "".join(keep)


def after_imports(text: str, line: str) -> str:
    """Add an import to a test file, behind its first import of ours or of tests."""
    lines = text.splitlines(keepends=True)
    for number, each in enumerate(lines):
        if re.match(
            r"(from|import) (sim|realrun|processes|plain_scenario|test_|network_names)", each
        ):
            lines.insert(number, line)
            return "".join(lines)
    lines.insert(next(n for n, each in enumerate(lines) if each.startswith("import ")), line)
    return "".join(lines)


def main() -> None:
    """Take out, move, rewrite, sort."""
    support = TESTS / "support"
    support.mkdir()
    (support / "__init__.py").write_text('"""What tests of several folders need."""\n')
    for name in SUPPORT:
        subprocess.run(["git", "mv", TESTS / f"{name}.py", support / f"{name}.py"], check=True)
    where = {}
    for module, (about, source, names) in TAKEN.items():
        path = TESTS / f"{source}.py"
        imports, found, rest = taken(path, set(names.split()))
        imports += "import torch\n" if "torch." in found else ""  # in tests it may be missing
        (support / f"{module}.py").write_text(f'"""{about}"""\n\n{imports}\n\n{found}\n')
        path.write_text(
            after_imports(rest, f"from support.{module} import {', '.join(names.split())}\n")
        )
        where[source] = module
    for path in [*TESTS.glob("*.py"), *support.glob("*.py")]:
        text = path.read_text()
        for source, module in where.items():
            text = re.sub(rf"\bfrom {source} import", f"from support.{module} import", text)
        for name in SUPPORT:
            text = re.sub(rf"\bfrom {name} import", f"from support.{name} import", text)
        if path.parent == TESTS and path.stem in PLACE:
            text = text.replace("Path(__file__).parent.parent", "Path(__file__).parents[2]")
            text = text.replace("Path(__file__).parents[1]", "Path(__file__).parents[2]")
            text = text.replace(
                'Path(__file__).parent / "golden"', 'Path(__file__).parents[1] / "golden"'
            )
        path.write_text(text)
    for path in sorted(TESTS.glob("test_*.py")):
        folder = TESTS / PLACE[path.stem]
        folder.mkdir(exist_ok=True)
        subprocess.run(["git", "mv", path, folder / path.name], check=True)
    tracked = subprocess.run(
        ["git", "ls-files", "*.md", "Makefile", "*.toml", "benchmarks/*.py", "tests/*.py"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in tracked:
        path = ROOT / name
        if path.exists():
            text = path.read_text()
            new = re.sub(
                r"\btests/(test_\w+)\.py",
                lambda found: (
                    f"tests/{PLACE[found[1]]}/{found[1]}.py" if found[1] in PLACE else found[0]
                ),
                text,
            )
            if new != text:
                path.write_text(new)
    subprocess.run(["git", "add", "-A"], cwd=ROOT, check=True)
    for command in (
        "check --fixable I,F401,RUF100 --fix --exit-zero",
        "check --select E402 --add-noqa",
        "check --fixable I,F401,RUF100 --fix --exit-zero",
        "format",
    ):
        subprocess.run(["ruff", *command.split(), "--quiet", "."], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
