"""The README, read by a person in an empty directory with nothing but the wheel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.fences import fences

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = fences(README)
PROGRAMS = ("bandwise ", "realrun ")


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
    program, *arguments = shlex.split(line)
    command = [sys.executable, str(installed / "bin" / program), *arguments]
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


def test_it_is_no_longer_than_8_kb() -> None:
    assert len(README.encode()) <= 8000


def test_its_links_lead_somewhere() -> None:
    found = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(found) > 20
    assert [link for link in found if "://" not in link and not (ROOT / link).exists()] == []


def test_every_command_runs_and_prints_what_is_shown(installed: Path, empty: Path) -> None:
    """In order: later ones read what earlier ones wrote."""
    printed, commands = "", 0
    for block in BLOCKS:
        if block.language == "text":
            shown = [line for line in block.text.splitlines() if line]
            assert not [line for line in shown if line not in printed.splitlines()]
        for line in block.text.splitlines() if not block.language else ():
            assert line.startswith(PROGRAMS)
            done = run(installed, line, empty)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            printed, commands = done.stdout + done.stderr, commands + 1
            assert "Traceback" not in printed
    assert commands == 3


def test_its_python_runs_and_its_program_is_the_method(installed: Path, empty: Path) -> None:
    calls, program = [block.text for block in BLOCKS if block.language == "python"]
    shown = "print(table.shape, round(8e-9 * needed['bandwidth_bytes_per_s'][0], 1))"
    done = subprocess.run(
        [sys.executable, "-c", calls + shown],
        cwd=empty, env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "eager_diloco" in done.stdout  # the comparison's table
    assert re.search(r"^\(6, \d+\) 14\.8$", done.stdout, re.MULTILINE)  # as the command has it
    source = (ROOT / "sim" / "methods" / "diloco.py").read_text()
    assert [line for line in program.splitlines() if line not in source] == []


@pytest.mark.parametrize("name", ["three_sites", "quick_start", "acco_heterogeneous"])
def test_bundled_scenarios_are_found_from_anywhere(installed: Path, empty: Path, name: str) -> None:
    assert run(installed, f"bandwise simulate {name} --json", empty).returncode == 0
