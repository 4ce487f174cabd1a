"""Islands that were killed and resumed end with the very bits of ones that were not."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from time import sleep

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from support.thorough import only_thorough  # noqa: E402
from support.training_commands import SCENARIO, begun, gone, newest, workers_of  # noqa: E402

from realrun.errors import AgreedError  # noqa: E402
from realrun.islands import to_be_run  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig  # noqa: E402
from realrun.state.checkpoint import ISLAND, Checkpoints, State  # noqa: E402
from realrun.state.resuming import defaults, identity  # noqa: E402
from sim.scenario import loaded  # noqa: E402

PATIENCE_S = 600
STEPS = 120
DIMENSIONS = GPTConfig(hidden=16, layers=3, heads=2, vocabulary=256, context=16)
WORKER, STARTER = "an accelerator", "who started them"


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


def islands(method: str, accelerators: int = 2) -> list[str]:
    """Options that make islands of the workers."""
    inside = f"site.inside.method={method}", f"site.inside.accelerators={accelerators}"
    return [text for setting in inside for text in ("--set", setting)]


def kill(file: Path, folder: Path, victim: str, *more: str) -> None:
    """Begin or resume a run, and kill one of its processes after its next checkpoint."""
    before = newest(folder)
    process = begun(file, folder, *more)
    while newest(folder) == before and process.poll() is None:
        sleep(0.01)
    sleep(random.Random(victim).uniform(0, 0.1))
    workers = workers_of(process.pid)
    assert process.poll() is None, "it has ended before it could be killed"
    assert len(workers) == 4
    os.kill(workers[-1] if victim == WORKER else process.pid, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    if victim == WORKER:
        assert process.returncode == 2
        (line,) = (line for line in said.splitlines() if "tokens/s" not in line)
        assert "rank 3 was killed by SIGKILL" in line
        assert "rank 3 is of island 2, ranks 2 to 3, site site-2" in line
    assert gone(workers), "workers were left behind"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("method", "inside", "victims"),
    [
        pytest.param('name = "diloco"\nsync_every = 4', "fsdp", [WORKER, STARTER], id="fsdp"),
        pytest.param(
            'name = "streaming_diloco"\nsync_every = 4\nnum_fragments = 3\nfragment_sync_delay = 2',
            "zero1",
            [STARTER],
            id="zero1",
            marks=only_thorough,
        ),
        pytest.param(
            'name = "local_sgd"\nsync_every = 4',
            "ddp",
            [WORKER],
            id="ddp",
            marks=only_thorough,
        ),
    ],
)
def test_islands_that_were_killed_end_with_the_same_bits(
    method: str, inside: str, victims: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO.format(method=method, steps=STEPS).replace("= 32\n", "= 64\n"))
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def options(folder: Path) -> list[str]:
        return [*islands(inside), "--save", f"{folder}.safetensors", "--losses", f"{folder}.csv"]

    ended(file, whole, *options(whole))
    for victim in victims:
        kill(file, killed, victim, *options(killed))
    assert "Resumed at round " in ended(file, killed, *options(killed))

    saved = [load_file(f"{folder}.safetensors") for folder in (whole, killed)]
    assert saved[0].keys() == saved[1].keys()
    assert [name for name in saved[0] if not torch.equal(saved[0][name], saved[1][name])] == []
    made = GPT(DIMENSIONS, seed=0)
    fresh = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.load_state_dict(saved[1])  # whole, whatever was sharded
    moved = {name for name, tensor in saved[1].items() if not torch.equal(fresh[name], tensor)}
    assert moved == saved[1].keys()
    losses = whole.with_suffix(".csv").read_bytes()
    assert losses == killed.with_suffix(".csv").read_bytes()
    assert losses.count(b"\n") == 1 + 4 * STEPS  # of every accelerator

    if inside == "fsdp":
        found = refusal(file, whole, *islands("fsdp", accelerators=1))
        assert "site.inside.accelerators was 2, here it is 1; name another folder" in found
        own = identity(to_be_run(loaded(str(file), {}, islands("zero1")[1::2])))
        with pytest.raises(AgreedError) as refused:
            Checkpoints(whole, 0, 4, own, lambda value: [value]).latest()
        assert 'inside.method was "fsdp", here it is "zero1"; name another folder' in str(
            refused.value
        )


def test_a_checkpoint_that_did_not_note_the_accelerators_of_an_island_is_resumed(
    tmp_path: Path,
) -> None:
    settings = ["site.inside.method=ddp", "site.inside.accelerators=2", "run.rounds=2"]
    asked = to_be_run(loaded("quick_start", {}, settings))
    now = identity(asked)
    assert now[ISLAND] == "2"
    before = {key: value for key, value in now.items() if key != ISLAND}

    def alone(given: dict[str, str], known: dict[str, str]) -> Checkpoints:
        return Checkpoints(tmp_path, 0, 1, given, lambda value: [value], known)

    alone(before, {}).save(3, State({"theta": torch.zeros(1)}, {}))
    found = alone(now, defaults(asked)).latest()
    assert found is not None
    assert found[0] == 3
    with pytest.raises(AgreedError, match=r"site\.inside\.accelerators was nothing, here it is 2"):
        alone(now, {}).latest()
