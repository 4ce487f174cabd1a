"""Which tests would have failed on an earlier commit: a new test that passes there shows nothing.

    python benchmarks/earlier.py COMMIT tests/program/test_updates.py

The commit is checked out in a temporary folder, the named test files of today are laid into it
together with what they share (the files of tests/ that hold no tests), and pytest runs each of
them there. Prints how many tests fail, and the name of each that passes. Ends with 1 if one
passes that is not named in tests/holds_before.txt with a reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
REASONS = ROOT / "tests" / "holds_before.txt"
LIMIT_S = 300  # of a file's tests: a program that never ends is one of the faults


@contextmanager
def checked_out(commit: str, files: list[str]) -> Iterator[Path]:
    """Check a commit out, with these test files of today."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            shared = [p for p in (ROOT / "tests").rglob("*.py") if not p.name.startswith("test_")]
            for path in (*shared, *(ROOT / name for name in files)):
                place = tree / path.relative_to(ROOT)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def outcomes(tree: Path, file: str) -> dict[str, str]:
    """Return "passed", "failed" or "skipped" by test of one file."""
    report = tree / "report.xml"
    report.unlink(missing_ok=True)
    where = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'tests'}"}
    command = [sys.executable, "-m", "pytest", f"--junitxml={report}", file]
    try:
        quiet = subprocess.DEVNULL
        subprocess.run(command, cwd=tree, env=where, stdout=quiet, stderr=quiet, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {f"{Path(file).stem} did not end within {LIMIT_S} s": "failed"}
    return dict(map(_outcome, ElementTree.parse(report).iter("testcase")))


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    # A file that cannot be imported there is one case, which bears the file's name.
    place, _, file = f"{case.get('classname')}".rpartition("test_")
    name = f"{'test_' if place or file else ''}{file}.{case.get('name')}".strip(".")
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return name, "failed"
    return name, "skipped" if "skipped" in kinds else "passed"


def reasons() -> dict[str, str]:
    """Return why tests hold on earlier commits too: by the beginning of their names."""
    lines = REASONS.read_text().splitlines() if REASONS.exists() else []
    pairs = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {name: reason for name, _, reason in pairs}


def git(*arguments: str) -> None:
    """Run git in this repository."""
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


def main() -> None:
    """Print what fails and what passes; see the module's docstring."""
    commit, *files = sys.argv[1:]
    named = reasons()
    counts: Counter[str] = Counter()
    unnamed = 0
    with checked_out(commit, files) as tree:
        for file in files:
            found = outcomes(tree, file)
            counts.update(found.values())
            print(f"{file}: {Counter(found.values())['failed']} of {len(found)} fail", flush=True)
            for name, outcome in found.items():
                if outcome == "failed":
                    continue
                why = next((text for start, text in named.items() if name.startswith(start)), None)
                unnamed += why is None
                print(f"  {outcome}: {name}: {why or 'NO REASON GIVEN'}", flush=True)
    print(f"{commit}: " + ", ".join(f"{counts[kind]} {kind}" for kind in sorted(counts)))
    sys.exit(1 if unnamed or not counts else 0)


if __name__ == "__main__":
    main()
