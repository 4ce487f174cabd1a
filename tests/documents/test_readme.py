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


def test_its_program_is_the_method() -> None:
    """Its other block of Python is run, as its commands are."""
    (program,) = (block.text for block in BLOCKS if "worker.next_round" in block.text)
    source = (ROOT / "sim" / "methods" / "diloco.py").read_text()
    assert [line for line in program.splitlines() if line not in source] == []


def test_what_it_shows_is_so(tmp_path: Path, reader: dict[str, str]) -> None:
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-m", "support.read_page", ROOT / "README.md"],
        cwd=tmp_path, env=reader, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("3 commands ran\n")


@pytest.mark.parametrize("name", ["three_sites", "quick_start", "acco_heterogeneous"])
def test_bundled_scenarios_are_found_from_anywhere(installed: Path, empty: Path, name: str) -> None:
    assert (
        run(installed, f"bandwise simulate {name} --replications 1 --json", empty).returncode == 0
    )


def test_the_wheel_has_the_api_under_both_names(installed: Path, tmp_path: Path) -> None:
    """Under the project's name also next to a sim.py of the user's."""
    (tmp_path / "sim.py").write_text("raise SystemExit('the sim.py of the user')\n")
    code = "import bandwise as b; print(b.load('three_sites').name, b.simulate.__module__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert done.stdout.split() == ["three-sites", "sim.api.simulation"], done.stderr
