"""``realrun`` commands that have ended, and the one line they said."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, "-m", "realrun", "train"]


def ended(
    *arguments: str, environment: dict[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        **more,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one line, progress aside."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "tokens/s" not in line]
    assert len(lines) == 1, done.stderr
    return lines[0]
