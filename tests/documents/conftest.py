"""What tests of documents share: the wheel, installed where nothing of the checkout is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, ROOT]
    subprocess.run(build, check=True)
    (wheel,) = place.glob("*.whl")
    target = place / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


@pytest.fixture
def reader(installed: Path) -> dict[str, str]:
    """The environment of a person who has nothing but the wheel, in an active environment."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    found = {**os.environ, "COLUMNS": "120", "PATH": path}
    return {**found, "PYTHONPATH": os.pathsep.join(map(str, (installed, ROOT / "tests")))}
