"""The README's commands, typed in an empty directory with nothing but the wheel."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
BLOCKS = [(kind, block) for kind, block in FENCED if kind in ("", "text")]
PROGRAMS = ("bandwise ", "realrun ")
COMMANDS = [
    line
    for kind, block in BLOCKS
    if not kind
    for line in block.splitlines()
    if line.startswith(PROGRAMS)
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
            if not line.startswith(PROGRAMS):
                continue
            done = run(installed, line, empty)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            printed = done.stdout + done.stderr
            assert printed.strip(), line
            assert "Traceback" not in printed


@pytest.mark.parametrize("method", ["ddp", "streaming_diloco", "acco"])
def test_the_readers_own_model_is_trained(installed: Path, empty: Path, method: str) -> None:
    """The module and the scenario of the README, as they stand there."""
    pytest.importorskip("torch")
    module, scenario = (
        next(block for kind, block in FENCED if kind == language and "Recurrent" in block)
        for language in ("python", "toml")
    )
    (empty / "mine.py").write_text(module)
    (empty / "mine.toml").write_text(scenario)
    predicted = run(installed, f"bandwise simulate mine.toml --method {method}", empty)
    assert predicted.returncode == 0, predicted.stderr
    done = run(
        installed, f"realrun train mine.toml --method {method} --set run.steps=40 --json", empty
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["method"] == method
    assert result["final_loss"] < 5  # from ln 256 = 5.5
    assert result["validation_loss"] < 5


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


def test_the_wheel_has_the_api_under_both_names(installed: Path, tmp_path: Path) -> None:
    """Under the project's name also next to a sim.py of the user's."""
    (tmp_path / "sim.py").write_text("raise SystemExit('the sim.py of the user')\n")
    code = "import bandwise as b; print(b.load('three_sites').name, b.simulate.__module__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert done.stdout.split() == ["three-sites", "sim.api.simulation"], done.stderr
