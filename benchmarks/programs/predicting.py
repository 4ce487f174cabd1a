"""Predictions: from a recording on loopback, and from a description."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from configurations import PROGRAMS, Configuration

from sim.processes.cores import cores_allowed
from sim.questions.replications import predicted as simulated
from sim.scenario import load

HERE = Path(__file__).parent.parent.parent / "validation" / "programs"
# Host overhead: the round figures of docs/background/network.md, which no run of this study gave.
_GLOO = (
    "network.collective.algorithm=gloo",
    "network.collective.message_time=0.2 ms",
    "network.collective.byte_time=1 ns",
    "run.replications=1",
)
# What pass_s has measured: two workers at once, and nothing of communication.
_HARDWARE = """
[calibration]
schema = 1
device = "CPU"
cores = {cores}
workers = 2

[machine.worker]
inner_step_s = {seconds}
"""
_LONGEST_S = 400


class ProgramError(Exception):
    """A command that did not end well, in a line."""


def run(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command by this Python; return what it printed.

    Raises
    ------
    ProgramError
        If it ended with anything but 0, or took too long.
    """
    try:
        ran = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise ProgramError(f"{' '.join(arguments)}: took more than {_LONGEST_S} s") from late
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or [""])[-1]
        raise ProgramError(f"{' '.join(arguments)}: ended with {ran.returncode}: {last}")
    return ran.stdout


def command(program: str) -> list[str]:
    """Return what starts a program."""
    one = PROGRAMS[program]
    start = [str(HERE / "torchft_replica.py")] if one.torchft else []
    return [sys.executable, *start, str(HERE / f"{one.script}.py"), *one.arguments]


def environment(computation: str) -> dict[str, str]:
    """Return what lets the programs import that kind of model; one core for each of two ranks."""
    path = os.pathsep.join([str(HERE / computation), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "RUST_LOG": "warn"}


def scenario(of: Configuration, described: str) -> str:
    """Return a scenario's text: that of a description, with its site repeated, on the network."""
    head, site = described.split("[[site]]")
    sites = []
    for rank in range(of.workers):
        text = f'[[site]]\nname = "site{rank}"\n{site.strip()}\n'
        if of.unequal and rank == of.workers - 1:
            text += f'uplink = "{of.slow_link}"\ndownlink = "{of.slow_link}"\n'
        sites.append(text)
    network = f'[network]\nbandwidth = "{of.bandwidth}"\nrtt = "{of.rtt}"\n'
    return "\n".join([head.strip() + "\n", *sites, network])


def recording(program: str, computation: str, folder: Path) -> Path:
    """Return a program's recording of two ranks on loopback, made if there is none."""
    path = folder / f"{program}-{computation}.parquet"
    if not path.exists():
        record = ["-m", "realrun", "record", "--nproc", "2", "--out", str(path), "--"]
        run([*record, *command(program)], environment(computation))
    return path


def pass_s(folder: Path, computation: str) -> float:
    """Return the seconds of a pass of the model, without communication: two at once, measured."""
    path = folder / f"pass_s-{computation}.json"
    if not path.exists():
        alone = [sys.executable, str(HERE / computation / "model.py")]
        both = [
            subprocess.Popen(
                alone,
                env={**os.environ, **environment(computation)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        path.write_text(json.dumps(median(float(each.communicate()[0]) for each in both)))
    return float(json.loads(path.read_text()))


def described(of: Configuration, folder: Path) -> str | None:
    """Return a program's description, with the time of its passes; None where it has none.

    Where computation is real it names a hardware file as well, which says on how many cores two
    passes at once were measured, and that nothing communicated.
    """
    path = HERE / "descriptions" / f"{of.program}.toml"
    if not path.exists():
        return None
    passes = PROGRAMS[of.program].passes
    stated = f'step_time = "{passes * 100} ms"'
    text = path.read_text()
    if stated not in text:
        raise ProgramError(f"{path}: does not say {stated}")
    seconds = passes * pass_s(folder, of.computation)
    text = text.replace(stated, f'step_time = "{seconds} s"')
    if of.computation == "real":
        hardware = _HARDWARE.format(cores=cores_allowed(), seconds=seconds)
        (folder / "hardware.toml").write_text(hardware)
        text = f'hardware = "hardware.toml"\n\n{text}'
    return text


class Predicted(NamedTuple):
    """What a scenario's text predicts of what repeats in it."""

    #: Per inner step.
    seconds: float
    #: How the warnings that go with it begin.
    warnings: str


def predicted(text: str, folder: Path) -> Predicted:
    """Predict a scenario's text."""
    path = folder / "predicted.toml"
    path.write_text(text)
    found = load(path, settings=_GLOO)
    warnings = "; ".join(line.partition(":")[0] for line in found.warnings)
    return Predicted(simulated(found).figures.inner_step_s, warnings)


def predictions(of: Configuration, folder: Path) -> dict[str, float | str | None]:
    """Return the seconds of an optimizer step from the recording and from the description."""
    path = recording(of.program, of.computation, folder)
    replayed = f'[method]\nname = "recording"\npath = "{path.absolute()}"\n\n[[site]]\n'
    text = described(of, folder)
    recorded = predicted(scenario(of, replayed), folder)
    stated = predicted(scenario(of, text), folder) if text else None
    own = predicted(scenario(of, whole(text)), folder) if text and of.diloco else None
    return {
        "computation_s": PROGRAMS[of.program].passes * pass_s(folder, of.computation),
        "recording_s": recorded.seconds / PROGRAMS[of.program].period,
        "description_s": stated and stated.seconds,
        "own_diloco_s": own and own.seconds,
        "recording_warnings": recorded.warnings,
        "description_warnings": stated and stated.warnings,
    }


def whole(text: str) -> str:
    """Return a description of DiLoCo that sends a fragment whole, without control messages."""
    lines = [line for line in text.splitlines() if not line.startswith(("exchange", "control"))]
    return "\n".join(lines) + "\n"
