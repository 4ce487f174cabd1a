"""Does a training that is killed again and again leave nothing, and end with the same bits?

    python benchmarks/kills.py [--kills 20] [--seed 1]

A small run with checkpoints, losses and a saved model is ended at random times, by SIGKILL and by
SIGTERM in turn, and begun again in the same folder. After every end no process of the run may be
left within five seconds, nor a file outside its own folder, nor after SIGTERM one that is half
written. What it ends with must be what an undisturbed run ends with: parameters and losses.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from safetensors.torch import load_file

SCENARIO = """
[run]
steps = {steps}
[model]
kind = "gpt"
hidden = 16
layers = 3
heads = 2
vocabulary = 256
context = 16
param_dtype = "fp32"
[method]
name = "streaming_diloco"
sync_every = 4
num_fragments = 3
fragment_sync_delay = 5
comm_dtype = "bf16"
[[site]]
count = 2
step_time = "1 ms"
batch_tokens = 32
[train]
learning_rate = 0.01
schedule = "cosine"
[data]
kind = "synthetic"
tokens = "64Ki"
"""
MARK = "BANDWISE_KILLS"
PATIENCE_S = 5.0


class Run:
    """One command, in a folder of its own, with a folder for temporary files next to it."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.folder, self.mark = folder, uuid4().hex
        self.temporary = folder.with_name("tmp")
        folder.mkdir(exist_ok=True)
        self.temporary.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "realrun", "train", str(file), "--checkpoint-every", "5"),
                *("--checkpoints", str(folder / "kept"), "--losses", str(folder / "losses.csv")),
                *("--save", str(folder / "model.safetensors")),
            ],
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(self.temporary),
                MARK: self.mark,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def processes(self) -> list[int]:
        """All processes of this run, as their environment tells."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                known = (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"{MARK}={self.mark}".encode() in known.split(b"\0"):
                found.append(int(entry.name))
        return found

    def wait_until_all_are_gone(self) -> float:
        began = monotonic()
        while left := self.processes():
            if monotonic() - began > PATIENCE_S:
                raise SystemExit(f"after {PATIENCE_S:g} s processes are left: {left}")
            sleep(0.05)
        return monotonic() - began


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith(".")]


def ended(folder: Path) -> tuple[str, dict[str, list[float]], list[dict[str, list[float]]]]:
    """Losses, saved parameters, and the tensors of the last checkpoints."""
    last = sorted((folder / "kept").glob("round-*"))[-2:]
    tensors = [load_file(path) for path in (folder / "model.safetensors", *last)]
    model, *states = ({k: t.tolist() for k, t in own.items()} for own in tensors)
    return (folder / "losses.csv").read_text(), model, states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each signal")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "scenario.toml"
        file.write_text(SCENARIO.format(steps=asked.steps))
        began = monotonic()
        whole = Run(file, Path(place) / "whole")
        _, said = whole.process.communicate()
        took = monotonic() - began
        if whole.process.returncode:
            raise SystemExit(said)
        expected = ended(whole.folder)
        print(f"undisturbed: {took:.1f} s", flush=True)

        signals = [signal.SIGKILL, signal.SIGTERM] * asked.kills
        finished, longest = 0, 0.0
        while signals or finished == 0:
            folder = Path(place) / f"killed-{finished}"
            before = hidden(folder)  # of a run that was killed; removed if this one gets that far
            run = Run(file, folder)
            try:
                # Only while there are signals left; then it may end.
                limit = chance.uniform(0.0, took) if signals else None
                _, said = run.process.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                number = signals.pop(0)
                run.process.send_signal(number)
                _, said = run.process.communicate()
                longest = max(longest, run.wait_until_all_are_gone())
                left = hidden(folder)
                rounds = len(list(folder.glob("kept/round-*.rank-00000.*")))
                print(f"{number.name}: {rounds} rounds kept, hidden: {left or 'none'}", flush=True)
                if number == signal.SIGTERM and (new := set(left) - set(before)):
                    raise SystemExit(f"left behind: {new}") from None
                if "Traceback" in said:
                    raise SystemExit(said) from None
            else:
                if run.process.returncode:
                    raise SystemExit(said)
                if ended(folder) != expected:
                    raise SystemExit("it ended with other bits")
                if hidden(folder) or (folder / "losses.csv.parts").exists():
                    raise SystemExit(f"left behind: {list(folder.rglob('*'))}")
                finished += 1
                print("it ended with the same bits", flush=True)
            # torch makes its cache there, one per user, in every process that has an optimizer.
            names = {path.name for path in run.temporary.iterdir()}
            if others := {name for name in names if not name.startswith("torchinductor_")}:
                raise SystemExit(f"left in the folder for temporary files: {others}")
        print(
            f"{2 * asked.kills} kills, {finished} runs to the end, all with the same bits; "
            f"the last process was gone after {longest:.1f} s at most"
        )


if __name__ == "__main__":
    main()
