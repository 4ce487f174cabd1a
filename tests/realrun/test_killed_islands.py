"""Islands that were killed and resumed end with the very bits of ones that were not."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from time import sleep

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from support.thorough import only_thorough  # noqa: E402
from support.training_commands import SCENARIO, begun, gone, newest, workers_of  # noqa: E402

from realrun.model.gpt import GPT, GPTConfig  # noqa: E402

PATIENCE_S = 600
ROUNDS = 30
DIMENSIONS = GPTConfig(hidden=16, layers=3, heads=2, vocabulary=256, context=16)


def ended(file: Path, folder: Path, *more: str) -> str:
    """Run the command to its end, which is a good one; what it printed."""
    process = begun(file, folder, *more)
    printed, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    return printed


def refusal(file: Path, folder: Path, *more: str) -> str:
    """Return the one line with which the command ends."""
    process = begun(file, folder, *more)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    (line,) = said.splitlines()
    return line


def set_to(**keys: object) -> list[str]:
    """Two islands of two accelerators, or what is given of them."""
    inside = {"accelerators": 2, **keys}
    settings = [f"site.inside.{key}={value}" for key, value in inside.items()]
    return [text for setting in settings for text in ("--set", setting)]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("method", "steps", "inside", "victim"),
    [
        pytest.param(
            'name = "diloco"\nsync_every = 4', 4 * ROUNDS, "fsdp", "an accelerator", id="fsdp"
        ),
        pytest.param(
            'name = "streaming_diloco"\nsync_every = 4\nnum_fragments = 3\n'
            "fragment_sync_delay = 2",
            4 * ROUNDS,
            "zero1",
            "who started them",
            id="zero1",
        ),
        pytest.param(
            'name = "local_sgd"\nsync_every = 4',
            4 * ROUNDS,
            "ddp",
            "an accelerator",
            id="ddp",
            marks=only_thorough,
        ),
    ],
)
def test_islands_that_were_killed_end_with_the_same_bits(
    method: str, steps: int, inside: str, victim: str, tmp_path: Path
) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO.format(method=method, steps=steps).replace("= 32\n", "= 64\n"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    islands = set_to(method=inside)

    def outputs(folder: Path) -> Sequence[str]:
        return "--save", f"{folder}.safetensors", "--losses", f"{folder}.csv"

    ended(file, whole, *islands, *outputs(whole))

    process = begun(file, killed, *islands, *outputs(killed))
    while not newest(killed) and process.poll() is None:
        sleep(0.01)
    sleep(random.Random(method).uniform(0, 0.3))
    workers = workers_of(process.pid)
    assert len(workers) == 4
    assert process.poll() is None, "it has ended before it could be killed"
    os.kill(workers[-1] if victim == "an accelerator" else process.pid, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    if victim == "an accelerator":
        assert process.returncode == 2
        (line,) = (line for line in said.splitlines() if "tokens/s" not in line)
        assert "rank 3 was killed by SIGKILL" in line
        assert "rank 3 is of island 2, ranks 2 to 3" in line
    assert gone(workers), "workers were left behind"

    printed = ended(file, killed, *islands, *outputs(killed))
    assert "Resumed at round " in printed

    saved = [load_file(f"{folder}.safetensors") for folder in (whole, killed)]
    assert saved[0].keys() == saved[1].keys()
    assert [name for name in saved[0] if not torch.equal(saved[0][name], saved[1][name])] == []
    made = GPT(DIMENSIONS, seed=0)
    fresh = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.load_state_dict(saved[1])  # whole, whatever was sharded
    moved = {name for name, tensor in saved[1].items() if not torch.equal(fresh[name], tensor)}
    assert moved == saved[1].keys()  # and not the first accelerator's share alone
    losses = whole.with_suffix(".csv").read_bytes()
    assert losses == killed.with_suffix(".csv").read_bytes()
    assert losses.count(b"\n") == 1 + 4 * steps  # of every accelerator

    if inside == "fsdp":
        found = refusal(file, whole, *set_to(method="zero1"))
        assert 'inside.method was "fsdp", here it is "zero1"; name another folder' in found
        found = refusal(file, whole, *set_to(method="fsdp", accelerators=1))
        assert "site.inside.accelerators was 2, here it is 1; name another folder" in found
