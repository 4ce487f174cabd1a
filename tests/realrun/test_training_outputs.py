"""What a training run writes: whole, each by itself, and where another command does not write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from realrun.cli.outputs import Outputs  # noqa: E402
from realrun.device import Host  # noqa: E402
from realrun.errors import RunError  # noqa: E402
from realrun.state import (  # noqa: E402
    loss_files,
    loss_stream,
    room,
    saved,
)
from realrun.state.checkpoint_folder import alone_in  # noqa: E402
from realrun.state.loss_stream import LossStream  # noqa: E402
from sim.output.errors import UserError  # noqa: E402
from sim.runtime import simulate  # noqa: E402
from sim.scenario import load  # noqa: E402
from sim.storage.locks import LockedError  # noqa: E402
from sim.trace.files import load as load_trace  # noqa: E402

LOSSES = [[3.0, 2.5, 2.0], [3.5, 2.25]]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def outputs(folder: Path) -> Outputs:
    return Outputs(
        folder / "trace.csv", folder / "losses.csv", folder / "model.safetensors", folder / "kept"
    )


@pytest.fixture(scope="module")
def outcome() -> Any:
    scenario = load("quick_start", {}, ["run.rounds=1"])
    return SimpleNamespace(
        trace=simulate(scenario, rounds=1), losses=LOSSES, module=nn.Linear(2, 1)
    )


def failing(kind: Callable[..., Exception]) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise kind(28, "No space left on device")

    return fail


def test_an_output_that_cannot_be_written_loses_no_other(
    outcome: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = outputs(tmp_path)
    monkeypatch.setattr("sim.trace.files.save", failing(OSError))
    monkeypatch.setattr(loss_files, "write", failing(OSError))
    with pytest.raises(RunError) as refused:
        asked.write(outcome)
    assert capsys.readouterr().err.splitlines() == [
        f"realrun: error: rank 0: --trace: {asked.trace}: could not be written: "
        "No space left on device"
    ]
    assert str(refused.value).startswith(f"rank 0: --losses: {asked.losses}: could not be")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    monkeypatch.undo()

    monkeypatch.setattr("realrun.state.tensor_files.save_file", failing(saved.SafetensorError))
    with pytest.raises(RunError, match=r"rank 0: --save: .*model\.safetensors: could not be"):
        asked.write(outcome)
    assert load_trace(tmp_path / "trace.csv").total_s == outcome.trace.total_s
    assert lines(tmp_path / "losses.csv")[:2] == ["rank,micro_batch,loss_nats_per_token", "0,0,3.0"]


def test_only_the_rank_that_writes_looks_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = outputs(tmp_path / "not here")
    monkeypatch.setenv("RANK", "1")
    asked.check()
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="--trace: there is no folder"):
        asked.check()


# -- losses --------------------------------------------------------------------------------
class Trained:
    """A model that has had some losses."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    @property
    def losses_so_far(self) -> int:
        return len(self.losses)

    def losses_since(self, first: int) -> Any:
        return torch.tensor(self.losses[first:])


def part(path: Path, rank: int, model: Trained) -> Any:
    return LossStream(loss_files.PartFile(path, rank), model, Host())  # type: ignore[arg-type]


def test_losses_are_in_a_file_of_each_rank_while_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_stream, "EVERY_S", 0.0)  # at every look
    path, model = tmp_path / "losses.csv", Trained([3.0])
    own = part(path, 1, model)
    for loss in (2.5, 2.0):
        own.look()
        model.losses.append(loss)
    assert own.close(patience_s=60.0)
    found = tmp_path / "losses.csv.parts" / "rank-00001.csv"
    columns = "rank,micro_batch,loss_nats_per_token"
    assert lines(found) == [columns, "1,0,3.0", "1,1,2.5", "1,2,2.0"]

    again = part(path, 1, Trained([3.0, 2.5, 2.0, 1.5]))  # resumed, so with those before
    again.close()
    assert lines(found) == [columns, "1,0,3.0", "1,1,2.5", "1,2,2.0", "1,3,1.5"]

    loss_files.write(LOSSES, path)
    assert [each.name for each in tmp_path.iterdir()] == ["losses.csv"]
    assert lines(path) == [columns, "0,0,3.0", "0,1,2.5", "0,2,2.0", "1,0,3.5", "1,1,2.25"]


def test_a_run_that_fails_says_where_its_losses_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "losses.csv"
    with pytest.raises(RunError, match=r"^full$"), loss_files.parts_named(path):
        raise RunError("full")
    part(path, 0, Trained([1.0])).close()
    kept = f"the losses so far are in {path}.parts"
    with pytest.raises(RunError) as failed, loss_files.parts_named(path):
        raise RunError("rank 0: full")
    assert str(failed.value) == f"rank 0: full; {kept}"
    with pytest.raises(SystemExit), loss_files.parts_named(path):
        raise SystemExit(143)
    assert capsys.readouterr().err == f"realrun: {kept}\n"
    with pytest.raises(SystemExit), loss_files.parts_named(path):
        raise SystemExit(0)
    assert capsys.readouterr().err == ""


def test_losses_that_cannot_be_written_do_not_end_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "losses.csv.parts").write_text("in the way")
    part(tmp_path / "losses.csv", 3, Trained([1.0])).close()
    assert "realrun: warning: rank 3: " in capsys.readouterr().err


# -- room and folders ----------------------------------------------------------------------
def test_what_will_not_fit_is_refused_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda path: 3e9)
    room.check_room("--save", Path("m.safetensors"), 3e9, "the weights")
    with pytest.raises(RunError) as refused:
        room.check_room("--save", Path("m.safetensors"), 4e9, "the weights")
    assert str(refused.value) == (
        "--save: m.safetensors: the weights need 4 GB, and 3 GB are free there; make room, or name "
        "another place"
    )


def test_a_folder_of_checkpoints_is_one_commands(tmp_path: Path) -> None:
    asked = outputs(tmp_path)
    with (
        alone_in(tmp_path / "kept", 1),
        pytest.raises(
            LockedError, match=rf"--checkpoints: .*kept: in use by process {os.getpid()}"
        ),
        asked.of_workers(2),
    ):
        pass
    with asked.of_workers(2), alone_in(tmp_path / "kept", 0), alone_in(tmp_path / "kept", 1):
        pass  # ranks do not exclude each other


def test_nothing_stays_of_workers_that_were_ended(tmp_path: Path) -> None:
    asked = outputs(tmp_path)
    with asked.of_workers(2):
        for folder in (tmp_path, tmp_path / "kept"):
            (folder / ".bandwise-partial-x").mkdir(parents=True)
            (folder / ".bandwise-partial-x" / "half").touch()
        (tmp_path / "kept" / ".rank-00001.lock").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert not list((tmp_path / "kept").iterdir())
