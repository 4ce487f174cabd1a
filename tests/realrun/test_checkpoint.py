"""A run that was stopped and resumed ends with the very bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from time import sleep
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402
from support.method_cases import enlarged  # noqa: E402
from support.processes import together  # noqa: E402
from support.thorough import only_thorough  # noqa: E402
from support.training_commands import SCENARIO, begun, gone, newest, workers_of  # noqa: E402

from realrun.data import corpus  # noqa: E402
from realrun.data.batches import Data  # noqa: E402
from realrun.model.gpt import GPT, GPTConfig, loss  # noqa: E402
from realrun.model.optimizers import Inner  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.runtime.shared import MAIN, Limits, Restart, Saving, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from realrun.state.checkpoint import State  # noqa: E402
from sim.methods import METHODS  # noqa: E402
from sim.methods.inside import INSIDE  # noqa: E402

WORKERS, ROUNDS = 2, 3
CONFIG = GPTConfig(hidden=8, layers=6, heads=2, vocabulary=32, feed_forward=8, context=4)
CASES = enlarged(20, WORKERS)  # several buckets a layer


def made(rank: int, *, outer_on_host: bool = False) -> tuple[TorchModel, Any]:
    drawn = corpus.synthetic(5_000, CONFIG.vocabulary, seed=0)
    data = Data(drawn, vocabulary=CONFIG.vocabulary, context=CONFIG.context, workers=WORKERS)
    decoder = GPT(CONFIG, seed=0)
    batches = data.batches(rank, 2)
    model = TorchModel(
        decoder.stages(),
        loss,
        batches,
        decoder.layer_parameters(),
        rank=rank,
        workers=WORKERS,
        inner=Inner(learning_rate=1e-2, warmup_steps=5, steps=40),
        param_dtype="fp32",
        tokens_per_step=16.0,
        outer_on_host=outer_on_host,
    )
    return model, batches


def run(
    rank: int,
    case: Any,
    came: State | None,
    replay: list[float] | None,
    *,
    outer_on_host: bool = False,
) -> dict[int, State]:
    """Train to the end, from a state if there is one; the states at the rounds on the way."""
    method, arguments = case
    model, batches = made(rank, outer_on_host=outer_on_host)
    shared = Shared(rank, WORKERS, model, Limits(rounds=ROUNDS))
    states: dict[int, State] = {}

    def save(number: int) -> None:
        tensors, numbers = model.state()
        tensors["observed"] = torch.tensor(shared.observed, dtype=torch.float64)
        notes = json.dumps({"model": numbers, "data": batches.state()})
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        states[number] = State(copies, json.loads(notes))

    shared.saving = Saving(1, save)
    if replay is not None:
        shared.replay = {MAIN: deque(replay)}
    if came is not None:
        batches.restore(came.notes["data"])
        tensors = {name: tensor.clone() for name, tensor in came.tensors.items()}
        model.restore(tensors, came.notes["model"])
        shared.restart = Restart(came.notes["round"], deque(came.tensors["observed"].tolist()))
    program = TorchWorker(shared)
    program.drive((METHODS | INSIDE)[method](program, **arguments))
    save(ROUNDS + 1)  # when what was in flight is applied
    states[ROUNDS + 1].notes["calls"] = {
        group: count for group, count in shared.calls.items() if group != "sharded_update"
    }  # a spawned program is not run again
    shared.close()
    return states


def differences(a: State, b: State) -> list[str]:
    if a.tensors.keys() != b.tensors.keys():
        return sorted(a.tensors.keys() ^ b.tensors.keys())
    found = [name for name in a.tensors if not torch.equal(a.tensors[name], b.tensors[name])]
    return found + [key for key in a.notes if a.notes[key] != b.notes[key]]


def worker(rank: int, out: Path) -> None:
    wrong: dict[int, dict[str, list[str]]] = {}
    for number, case in enumerate(CASES):
        whole = run(rank, case, None, None)
        observed = whole[ROUNDS + 1].tensors["observed"].tolist()
        wrong[number] = {}
        for round_ in range(1, ROUNDS + 1):
            state = whole[round_]
            state.notes["round"] = round_
            resumed = run(rank, case, state, observed)
            wrong[number][str(round_)] = differences(resumed[ROUNDS + 1], whole[ROUNDS + 1])
            assert min(resumed) == min(round_ + 1, ROUNDS + 1)  # it did not start again
        if "diloco" in case[0]:
            resumed = run(rank, case, whole[ROUNDS - 2], observed, outer_on_host=True)
            wrong[number]["on host"] = differences(resumed[ROUNDS + 1], whole[ROUNDS + 1])
            resumed[ROUNDS - 1].notes["round"] = ROUNDS - 1
            back = run(rank, case, resumed[ROUNDS - 1], observed)
            wrong[number]["back"] = differences(back[ROUNDS + 1], whole[ROUNDS + 1])
    (out / f"{rank}.json").write_text(json.dumps(wrong))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, list[str]]]]:
    out = tmp_path_factory.mktemp("resumed")
    together(WORKERS, worker, out)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(WORKERS)]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n][0]}-{n}")
def test_resuming_at_any_round_changes_no_bit(compared: Any, number: int) -> None:
    nothing: dict[str, list[str]] = {str(round_): [] for round_ in range(1, ROUNDS + 1)}
    if "diloco" in CASES[number][0]:  # from there to outer state on the host, and back
        nothing |= {"on host": [], "back": []}
    assert [rank[str(number)] for rank in compared] == [nothing] * WORKERS


def last_states(folder: Path) -> list[dict[str, Any]]:
    states = []
    for rank in range(WORKERS):
        name = f"round-{newest(folder):08d}.rank-{rank:05d}.safetensors"
        with safe_open(folder / name, framework="pt") as file:
            states.append({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    return states


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize(
    ("method", "steps", "victim"),
    [
        pytest.param(
            'name = "streaming_diloco"\nsync_every = 4\nnum_fragments = 3\n'
            'fragment_sync_delay = 5\ncomm_dtype = "bf16"',
            120,
            "who started them",
            id="streaming_diloco",
        ),
        pytest.param(
            'name = "acco"\ncomm_dtype = "fp32"', 200, "a worker", id="acco", marks=only_thorough
        ),
    ],
)
def test_killed_at_any_moment_it_ends_with_the_same_bits(
    method: str, steps: int, victim: str, tmp_path: Path
) -> None:
    """Twenty kills of each kind: benchmarks/kills.py."""
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO.format(method=method, steps=steps))
    whole, killed, trace = tmp_path / "whole", tmp_path / "killed", tmp_path / "whole.parquet"
    losses = tmp_path / "whole.csv", tmp_path / "killed.csv"
    undisturbed = begun(file, whole, "--trace", str(trace), "--losses", str(losses[0]))
    _, said = undisturbed.communicate(timeout=600)
    assert undisturbed.returncode == 0, said
    assert newest(whole) >= 3  # a busy machine makes acco's rounds longer, and fewer

    more = ("--replay", str(trace), "--losses", str(losses[1]))
    process = begun(file, killed, *more)
    while not newest(killed) and process.poll() is None:
        sleep(0.01)
    sleep(random.Random(method).uniform(0, 0.3))
    workers = workers_of(process.pid)
    assert process.poll() is None, "it has ended before it could be killed"
    os.kill(workers[-1] if victim == "a worker" else process.pid, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    if victim == "a worker":
        assert process.returncode == 2
        lines = [line for line in said.splitlines() if "tokens/s" not in line]
        assert len(lines) == 1
        assert "rank 1 was killed by SIGKILL" in lines[0]
        assert not [path for path in killed.iterdir() if path.name.startswith(".")]
    assert gone(workers), "workers were left behind"

    last = begun(file, killed, *more)
    _, said = last.communicate(timeout=600)
    assert last.returncode == 0, said
    assert newest(killed) == newest(whole)
    for a, b in zip(last_states(killed), last_states(whole), strict=True):
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert losses[0].read_bytes() == losses[1].read_bytes()
    assert not [path for path in killed.iterdir() if path.name.startswith(".")]
    assert not losses[1].with_name("killed.csv.parts").exists()


def test_an_old_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    """One that the repository keeps, of round 3 of 4: the run ends where it ended then."""
    kept = Path(__file__).parents[1] / "golden" / "kept"
    shutil.copytree(kept / "checkpoints", tmp_path / "checkpoints")
    command = [sys.executable, "-m", "realrun", "train", str(kept / "tiny.toml"), "--json"]
    done = subprocess.run(
        [*command, "--checkpoints", str(tmp_path / "checkpoints")],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["evaluated_rounds"]["rounds"] == 1  # not the three of a run from the start
    # On another processor a sum may be rounded in another order.
    assert result["final_loss"] == pytest.approx(2.888615608215332, rel=1e-4)
