"""Every file that the simulator writes appears whole: read from its source text."""

from __future__ import annotations

import ast
from pathlib import Path

SIM = Path(__file__).parents[2] / "sim"
WRITERS = {"write_text", "write_bytes", "savefig", "to_csv", "to_parquet", "write_table"}
# What makes the others, and lines that are added to a file one by one.
APART = {SIM / "storage" / name for name in ("files.py", "journal.py", "locks.py")}


def opens_to_write(call: ast.Call) -> bool:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    modes = [a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return any(set(mode) <= set("wxabrt+") and set(mode) & set("wxa+") for mode in modes)


def writes_elsewhere(tree: ast.AST) -> list[int]:
    """Return the lines that write outside a block of ``with replacing(...)``."""
    found: list[int] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.With):
            inside = inside or any("replacing(" in ast.unparse(item) for item in node.items)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            writes = name in WRITERS or (name == "open" and opens_to_write(node))
            in_memory = "content" in [ast.unparse(given) for given in node.args]
            if writes and not inside and not in_memory:
                found.append(node.lineno)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(tree, False)
    return found


def test_every_file_is_written_inside_replacing() -> None:
    for path in SIM.rglob("*.py"):
        if path not in APART:
            assert writes_elsewhere(ast.parse(path.read_text())) == [], path


def test_a_write_elsewhere_is_found() -> None:
    text = "with replacing(p) as q:\n    q.write_text('')\np.open('w')\np.open()\nf.savefig(p)"
    assert writes_elsewhere(ast.parse(text)) == [3, 5]
