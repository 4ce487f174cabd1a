"""The README's commands, typed in an empty directory with nothing but the wheel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(|text)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for kind, block in BLOCKS
    if not kind
    for line in block.splitlines()
    if line.startswith("bandwise ")
]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it where nothing of the checkout is."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = place.glob("*.whl")
    target = place / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


def run(installed: Path, line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "120"}
    command = [sys.executable, str(installed / "bin" / "bandwise"), *shlex.split(line)[1:]]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def test_the_wheel_is_what_is_run(installed: Path, empty: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import sim; print(sim.__file__)"],
        cwd=empty, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed))


def test_readme_shows_at_least_five_what_ifs() -> None:
    assert len(COMMANDS) >= 5


def test_every_command_of_the_readme_runs(installed: Path, empty: Path) -> None:
    """In order: later ones read what earlier ones wrote. What is shown is what is printed."""
    printed = ""
    for kind, block in BLOCKS:
        if kind:
            shown = [line for line in block.splitlines() if line]
            assert not [line for line in shown if line not in printed.splitlines()]
            continue
        for line in block.splitlines():
            if not line.startswith("bandwise "):
                continue
            done = run(installed, line, empty)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            printed = done.stdout + done.stderr
            assert printed.strip(), line
            assert "Traceback" not in printed


@pytest.mark.parametrize("name", ["three_sites", "quick_start", "acco_heterogeneous"])
def test_bundled_scenarios_are_found_from_anywhere(installed: Path, empty: Path, name: str) -> None:
    assert run(installed, f"bandwise simulate {name} --json", empty).returncode == 0


def test_the_tree_in_the_readme_is_the_tree() -> None:
    """Every file and folder that the README's tree names is there."""
    block = README.split("## What is where")[1].split("```")[1]
    folder = ROOT
    for line in block.splitlines():
        if not line.strip():
            continue
        name = line.split()[0]
        indented = line.startswith("  ")
        path = (folder if indented else ROOT) / name
        assert path.exists(), line
        if not indented and name.endswith("/"):
            folder = path
        for other in re.findall(r"(\w+\.py):? ", line.split(maxsplit=1)[1]):
            assert (path.parent / other).exists(), other
