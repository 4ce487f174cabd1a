"""``import bandwise`` is ``sim``, also where a sim.py of the user's lies in the folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bandwise
import sim

ROOT = Path(__file__).parents[2]

PROGRAM = """
import bandwise

def mine(worker, *, sync_every=50):
    model = worker.model
    while worker.next_round(steps=sync_every):
        yield worker.compute(model.inner_step, times=sync_every)
        yield worker.all_reduce(model.parameters(range(model.num_layers)), model.param_dtype)

scenario = bandwise.make_scenario(model="10B", method=mine, bandwidth="1 Gbit/s")
print(len(bandwise.sweep(scenario, sync_every=[10, 20], jobs=2).frame()), bandwise.__version__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sim.py that must never be run, and packages as they lie when installed."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "sim.py").write_text("raise SystemExit('the sim.py of the user')\n")
    (tmp_path / "work" / "go.py").write_text(PROGRAM)
    (tmp_path / "site").mkdir()
    for name in ("sim", "bandwise", "scenarios"):
        (tmp_path / "site" / name).symlink_to(ROOT / name)
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder / "work",
        env={**os.environ, "PYTHONPATH": str(folder / "site")},
        capture_output=True,
        text=True,
    )


def test_the_functions_are_the_same() -> None:
    assert bandwise.simulate is sim.simulate
    assert set(sim.__all__) <= set(dir(bandwise))
    with pytest.raises(AttributeError):
        bandwise.simulat  # type: ignore[attr-defined]  # noqa: B018


def test_a_sim_of_the_users_does_not_hide_ours(folder: Path) -> None:
    done = run(folder, "go.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", sim.__version__]


def test_the_command_line_runs_next_to_a_sim_of_the_users(folder: Path) -> None:
    done = run(folder, "-m", "bandwise", "--version")
    assert (done.returncode, done.stdout.split()) == (0, ["bandwise", sim.__version__])


def test_a_sim_that_was_imported_before_is_named_in_one_line(folder: Path) -> None:
    (folder / "work" / "sim.py").write_text("")
    done = run(folder, "-c", "import sim, bandwise")
    last = done.stderr.splitlines()[-1]
    place = folder / "work" / "sim.py"
    assert last == (
        f'ImportError: bandwise: another module "sim" was imported before ({place}); '
        "import bandwise first, or give that file another name"
    )
