"""Our own DiLoCo in the place of a program, in a lab: the same schedule, bytes and network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from configurations import Configuration
from measuring import in_lab, measured
from predicting import described, scenario, whole

from sim.figures.evaluation import figures
from sim.trace.files import load

STEPS = 28  # as many as the programs of DiLoCo train
_PACED = f'[run]\nsteps = {STEPS}\n\n[train]\ncompute_mode = "paced"\n\n'


def own(of: Configuration, folder: Path) -> dict[str, Any]:
    """Run our own DiLoCo, and then the program; return seconds per step and bytes of both.

    Bytes are those that a worker has sent in the whole run, as the lab's links have counted them.

    Raises
    ------
    ProgramError
        If one of them did not end well.
    """
    text = described(of, folder)
    assert text is not None
    path, trace = folder / "own.toml", folder / "own.parquet"
    path.write_text(scenario(of, _PACED + whole(text)))
    train = [sys.executable, "-m", "realrun", "train", str(path), "--backend", "gloo"]
    ours = in_lab(path, [*train, "--trace", str(trace)], {})
    seconds = figures(load(trace)).inner_step_s
    theirs = measured(of, folder)
    return {
        "own_s": seconds,
        "program_s": theirs["measured_s"],
        "own_bytes": ours["sent_bytes"],
        "program_bytes": theirs["sent_bytes"],
        **{key: max(ours[key], theirs[key]) for key in ("others", "busy_cores", "cores")},
    }
