"""Move the modules of sim and realrun into packages, and rewrite whoever names them.

    python move.py

Only names change: imports, dotted names in texts and strings, and paths of files. A new package
gets a docstring with a line per file. Run once, in a clean checkout.
"""

from __future__ import annotations

import ast
import re
import subprocess
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent
PACKAGES: dict[str, tuple[str, str]] = {
    "sim.storage": (
        "Files that are written whole and read checked.",
        "files journal locks table_files inputs",
    ),
    "sim.processes": (
        "Other processes of a command, and what may end it.",
        "parallel signals free_memory",
    ),
    "sim.text": ("Text from elsewhere, as one line that harms nobody.", "visible told"),
    "sim.trace": (
        "What happened in a run, simulated or measured.",
        "trace:table trace_files:files perfetto layers",
    ),
    "sim.network": (
        "What a collective costs on the links, and how several share them.",
        "collectives:schedules network:links gloo messages wires:message_links",
    ),
    "sim.models": (
        "Models that programs train in virtual time.",
        "models:sized quadratic rounding",
    ),
    "sim.runtime": (
        "",
        "compute:computation progress limits window backlog trace_context:context",
    ),
    "sim.figures": (
        "What a trace says: figures, where the time went, pictures.",
        "figures:evaluation breakdown traffic throughput collective_model plots",
    ),
    "sim.questions": (
        "What is asked of many runs.",
        "replications effort variations study study_folder result_files comparison "
        "required:target_search requirements:target_tables reproduce overlap",
    ),
    "sim.output": (
        "What both command lines take and print.",
        "cli.program:program cli.options:options cli.errors:errors cli.output:show "
        "cli.tables:tables cli.run_report:run_report cli.run_record:run_record "
        "cli.intervals:intervals cli.traces:traces",
    ),
    "realrun.runtime": (
        "The programs of one process on torch.distributed.",
        "runtime:worker activities process:shared clock",
    ),
    "realrun.communication": (
        "Collectives on gloo and NCCL, and what int8 and FP4 make of them.",
        "collectives:groups process_groups transfers nccl connections quantize packing "
        "packing_triton",
    ),
    "realrun.model": (
        "The replica that a worker trains.",
        "model:replica module_state stages build gpt paced outer outer_state sharded optimizers "
        "buffers randomness memory",
    ),
    "realrun.data": ("Text, and which worker sees what of it.", "data:batches corpus shards"),
    "realrun.processes": (
        "How a run's processes start, meet and end.",
        "launch forks namespaces rendezvous roll_call placement",
    ),
    "realrun.state": (
        "What a run keeps: checkpoints, models, losses.",
        "checkpoint checkpoint_folder resuming saved tensor_files loss_files room",
    ),
    "realrun.checks": (
        "What is looked at during training.",
        "not_finite replica_check replicas evaluating",
    ),
    "realrun.cli": ("", "fork_server"),
}
RENAMED = {"subsets": "variations"}


def moves() -> dict[str, str]:
    """Old module -> new module."""
    found = {}
    for package, (_, names) in PACKAGES.items():
        top = package.partition(".")[0]
        for word in names.split():
            old, _, new = word.partition(":")
            was = next((o for o, n in RENAMED.items() if n == old), old)
            found[f"{top}.{was}"] = f"{package}.{new or old}"
    return found


MOVES = moves()
# A module of ours after "import": which name, and what it is called there.
_FROM = re.compile(
    r"^(?P<indent>[ \t]*)from (?P<package>sim|realrun|sim\.cli) import "
    r"(?:\((?P<many>[^)]*)\)|(?P<few>[^\n#(]+?))(?P<rest>[ \t]*(?:#[^\n]*)?)$",
    re.MULTILINE,
)
_NAMES = re.compile(
    r"(?<![\w./])(" + "|".join(re.escape(n) for n in sorted(MOVES, key=len, reverse=True)) + r")\b"
    r"(?!/|\.py\b|\.toml\b)"
)
_PATHS = re.compile(
    r"(?<![\w.])("
    + "|".join(re.escape(n.replace(".", "/")) for n in sorted(MOVES, key=len, reverse=True))
    + r")\.py\b"
)


def rewritten(text: str) -> str:
    """Return a text with the new names."""
    text = _FROM.sub(_imports, text)
    text = _NAMES.sub(lambda found: MOVES[found[1]], text)
    return _PATHS.sub(
        lambda found: MOVES[found[1].replace("/", ".")].replace(".", "/") + ".py", text
    )


def _imports(found: re.Match[str]) -> str:
    package, indent = found["package"], found["indent"]
    stay, lines = [], []
    for item in (found["many"] or found["few"]).split(","):
        words = item.split()
        if not words:
            continue
        new = MOVES.get(f"{package}.{words[0]}")
        if new is None:
            stay.append(item.strip())
            continue
        place, _, name = new.rpartition(".")
        alias = words[2] if len(words) == 3 else words[0]
        # Protected from the second pass, which would take the package for the module it was.
        place = place.replace(".", "\0.", 1)
        lines.append(f"from {place} import {name}" + (f" as {alias}" if alias != name else ""))
    if not lines:
        return found[0]
    if stay:
        lines.insert(0, f"from {package} import {', '.join(stay)}")
    return "\n".join(f"{indent}{line}{found['rest']}" for line in lines)


def said(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def path_of(module: str) -> Path:
    """Return the file of a module."""
    return ROOT / (module.replace(".", "/") + ".py")


def main() -> None:
    """Move, then rewrite, then sort imports."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    texts = [p for p in tracked if Path(p).suffix in (".py", ".md", ".toml", ".ipynb", ".yml")]
    texts = [p for p in texts if p not in ("move.py", "CHANGELOG.md")]
    (ROOT / "moving").mkdir()
    for old in MOVES:  # by way of a name that nothing has
        subprocess.run(["git", "mv", path_of(old), ROOT / "moving" / f"{old}.py"], check=True)
    for old, new in MOVES.items():
        path_of(new).parent.mkdir(exist_ok=True)
        subprocess.run(["git", "mv", ROOT / "moving" / f"{old}.py", path_of(new)], check=True)
    by_old = {old.replace(".", "/") + ".py": path_of(new) for old, new in MOVES.items()}
    for name in texts:
        path = by_old.get(name, ROOT / name)
        text = path.read_text()
        new_text = rewritten(text).replace("\0", "")
        if new_text != text:
            path.write_text(new_text)
    for package, (about, names) in PACKAGES.items():
        init = ROOT / package.replace(".", "/") / "__init__.py"
        if about and not init.exists():
            files = [word.partition(":")[2] or word for word in names.split()]
            lines = [
                textwrap.fill(
                    f"{each}: {said(init.parent / f'{each}.py')}", 100, subsequent_indent="  "
                )
                for each in files
            ]
            init.write_text('"""' + about + "\n\n" + "\n".join(lines) + '\n"""\n')
            subprocess.run(["git", "add", init], check=True)
    for command in (
        "check --fixable I --fix --exit-zero",
        "check --select E402 --add-noqa",
        "check --fixable I,RUF100 --fix --exit-zero",
        "format",
    ):
        subprocess.run(["ruff", *command.split(), "--quiet", "."], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
