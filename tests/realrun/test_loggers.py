"""Losses while a run trains, in TensorBoard and W&B: each point once, and no run dies of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.training_commands import SCENARIO  # noqa: E402

from realrun.cli import log_option  # noqa: E402
from realrun.cli.log_option import logs  # noqa: E402
from realrun.device import Host  # noqa: E402
from realrun.errors import RunError  # noqa: E402
from realrun.loggers import of_run, opening  # noqa: E402
from realrun.loggers.logged import HELD_OUT, LOSS, RATE  # noqa: E402
from realrun.loggers.logger import LogTo  # noqa: E402
from realrun.loggers.of_run import Loggers  # noqa: E402
from realrun.loggers.weights_and_biases import WeightsAndBiases  # noqa: E402
from realrun.state import loss_stream  # noqa: E402
from sim.output.errors import UserError  # noqa: E402

RECORDED = Path(__file__).parents[1] / "support" / "recorded_wandb"


# -- the option ------------------------------------------------------------------------------
@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_option, "missing", lambda to: "")


@pytest.mark.usefixtures("installed")
def test_what_is_asked_for() -> None:
    assert logs([]) == ()
    assert logs(["tensorboard:runs/a:b", "wandb:team/project"]) == (
        LogTo("tensorboard", "runs/a:b"),
        LogTo("wandb", "team/project"),
    )


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("written", "line"),
    [
        (
            ["tensorbord:runs"],
            '--log: unknown "tensorbord"; did you mean "tensorboard"? (one of tensorboard, wandb)',
        ),
        (["tensorboard"], '--log: "tensorboard": write tensorboard:FOLDER'),
        (["wandb: "], '--log: "wandb: ": write wandb:PROJECT'),
        (
            ["wandb:what?"],
            '--log: "wandb:what?": a project of W&B is NAME or ENTITY/NAME, without # % : ? \\',
        ),
        (["wandb:a", "wandb:b"], "--log: wandb is given twice; give it once"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(written: list[str], line: str) -> None:
    with pytest.raises(UserError) as refused:
        logs(written)
    assert str(refused.value) == line


@pytest.mark.usefixtures("installed")
def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(UserError, match=r"--log tensorboard:.*runs is a file; name a folder"):
        logs([f"tensorboard:{tmp_path / 'runs'}"])


def test_what_is_not_installed_is_named_before_anything_starts_on_rank_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError) as refused:
        logs(["wandb:demo"])
    assert str(refused.value) == (
        '--log wandb:demo: needs the package wandb; pip install "bandwise[wandb]"'
    )
    folder = ModuleSpec("wandb", None)  # as of a folder of that name in the working directory
    monkeypatch.setattr(opening, "find_spec", lambda name: folder)
    with pytest.raises(UserError, match="needs the package wandb"):
        logs(["wandb:demo"])
    monkeypatch.setenv("RANK", "1")
    assert logs(["wandb:demo"]) == (LogTo("wandb", "demo"),)


# -- what a logger is given ------------------------------------------------------------------
class Trained:
    """A model that has had some losses."""

    def __init__(self, *losses: float) -> None:
        self.losses = list(losses)

    @property
    def losses_so_far(self) -> int:
        return len(self.losses)

    def losses_since(self, first: int) -> Any:
        return torch.tensor(self.losses[first:])


class Curves:
    """A logger that keeps its points; from a number of micro-batches on it raises."""

    note = "seven"

    def __init__(self, full_at: int = 1_000_000) -> None:
        self.full_at, self.ended = full_at, ""
        self.points: list[tuple[int, float, dict[str, float]]] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def add(self, micro_batches: int, tokens: float, values: Mapping[str, float]) -> None:
        if micro_batches >= self.full_at:
            raise OSError(28, "No space left on device")
        self.points.append((micro_batches, tokens, dict(values)))

    def flush(self) -> None:
        pass

    def close(self, *, failed: bool) -> None:
        self.may_end.wait()
        self.ended = "failed" if failed else "finished"


Following = Callable[[Curves, Trained], tuple[Loggers, Any]]


@pytest.fixture
def following(monkeypatch: pytest.MonkeyPatch) -> Following:
    """Loggers of which one is given, looking at a model at every look."""

    def follow(curves: Curves, model: Trained) -> tuple[Loggers, Any]:
        monkeypatch.setattr(of_run, "opened", lambda to, config, resumed: curves)
        monkeypatch.setattr(loss_stream, "EVERY_S", 0.0)
        loggers = Loggers([LogTo("tensorboard", "runs")])
        loggers.open({}, None, {})
        (stream,) = loggers.follow(model, Host(), lambda: 32.0)  # type: ignore[arg-type]
        return loggers, stream

    return follow


def test_losses_come_with_tokens_of_all_workers_and_the_rate(following: Following) -> None:
    curves, model = Curves(), Trained()
    loggers, stream = following(curves, model)
    model.losses += [3.0, 2.5]
    stream.look()
    loggers.evaluated(64.0, 2.75)
    model.losses.append(2.0)
    assert loggers.close() == []
    assert [(number, tokens) for number, tokens, _ in curves.points] == [
        (1, 32.0),
        (2, 64.0),
        (2, 64.0),
        (3, 96.0),
    ]
    first, second, evaluated, last = [values for *_, values in curves.points]
    assert (first, second, evaluated) == ({LOSS: 3.0}, {LOSS: 2.5}, {HELD_OUT: 2.75})
    assert last[LOSS] == 2.0
    assert last[RATE] > 0
    assert loggers.notes() == {"tensorboard": "seven"}
    assert curves.ended == "finished"


def test_a_resumed_run_logs_what_comes_after_its_checkpoint(following: Following) -> None:
    curves, model = Curves(), Trained(9.0, 8.0)
    loggers, _ = following(curves, model)
    model.losses.append(7.0)
    loggers.close()
    assert curves.points == [(3, 96.0, {LOSS: 7.0})]


def test_a_logger_that_fails_is_told_once_and_again_at_the_end(
    following: Following, capsys: pytest.CaptureFixture[str]
) -> None:
    curves, model = Curves(full_at=2), Trained()
    loggers, stream = following(curves, model)
    for loss in (3.0, 2.5, 2.0):
        model.losses.append(loss)
        stream.look()
    loggers.evaluated(96.0, 2.0)
    line = (
        "rank 0: --log tensorboard:runs: OSError: [Errno 28] No space left on device; nothing is "
        "logged there after 32 tokens"
    )
    assert loggers.close() == [line]
    assert capsys.readouterr().err == f"realrun: warning: {line}, and the training continues\n"
    assert [values for *_, values in curves.points] == [{LOSS: 3.0}]
    assert curves.ended == "finished"


def test_a_logger_that_does_not_end_is_not_waited_for(
    following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_run, "_FINISH_S", 0.05)
    curves = Curves()
    curves.may_end.clear()
    loggers, _ = following(curves, Trained(1.0))
    assert loggers.close() == ["rank 0: --log tensorboard:runs: did not finish within 0 s"]
    curves.may_end.set()


def test_what_cannot_be_opened_ends_the_run_before_it_trains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no such entity\nand more")

    monkeypatch.setattr(of_run, "opened", refuse)
    with pytest.raises(RunError) as refused:
        Loggers([LogTo("wandb", "team/x")]).open({}, None, {})
    assert str(refused.value) == (
        "rank 0: --log wandb:team/x: cannot be opened: RuntimeError: no such entity"
    )


# -- TensorBoard itself ----------------------------------------------------------------------
def test_tensorboard_reads_what_was_written_and_a_resumed_run_doubles_nothing(
    tmp_path: Path,
) -> None:
    if opening.missing(LogTo("tensorboard", "runs")):
        pytest.skip("the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from realrun.loggers.tensorboard_events import TensorBoard

    def written(losses: dict[int, float], tokens: float | None) -> None:
        events = TensorBoard(tmp_path, {"scenario_sha256": "abc"}, tokens)
        for step, loss in losses.items():
            events.add(step // 10, step, {LOSS: loss})
        events.flush()
        events.close(failed=False)

    def shown() -> list[tuple[int, float]]:
        found = EventAccumulator(str(tmp_path)).Reload()
        assert "abc" in str(found.Tensors("scenario/text_summary")[0].tensor_proto)
        return [(each.step, each.value) for each in found.Scalars(LOSS)]

    written({10: 5.0, 20: 4.0, 30: 9.0}, None)
    assert shown() == [(10, 5.0), (20, 4.0), (30, 9.0)]
    written({30: 3.0, 40: 2.0}, 20.0)  # from a checkpoint of 20 tokens on
    assert shown() == [(10, 5.0), (20, 4.0), (30, 3.0), (40, 2.0)]
    written({10: 1.0}, None)  # another run takes the folder over
    assert shown() == [(10, 1.0)]


# -- W&B, as far as it is called -------------------------------------------------------------
@pytest.fixture
def recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], list[Any]]]:
    """A package of the same interface that records; gives the arguments of a call's calls."""
    for name in ("MODE", "API_KEY", "CACHE_DIR", "ERROR_REPORTING", "X_DISABLE_STATS"):
        monkeypatch.setenv(f"WANDB_{name}", "")  # so that what is set is taken back
        monkeypatch.delenv(f"WANDB_{name}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_RECORD", str(tmp_path / "calls"))
    monkeypatch.syspath_prepend(str(RECORDED))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    yield lambda call: calls(tmp_path / "calls", call)
    sys.modules.pop("wandb", None)


def calls(file: Path, call: str) -> list[Any]:
    made = [json.loads(line) for line in file.read_text().splitlines()]
    return [arguments for name, arguments in made if name == call]


def test_without_a_key_a_run_of_wandb_stays_in_its_folder(
    recorded: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = WeightsAndBiases("team/demo", {"scenario_sha256": "abc"}, "")
    run.add(1, 32.0, {LOSS: 3.0})
    run.flush()
    run.close(failed=True)
    (init,) = recorded("init")
    assert (init["entity"], init["project"], init["mode"]) == ("team", "demo", "offline")
    assert init["config"] == {"scenario_sha256": "abc"}
    assert recorded("define_metric")[1] == {"name": "*", "step_metric": "tokens"}
    assert recorded("log") == [{"step": 1, "values": {"tokens": 32.0, LOSS: 3.0}}]
    assert recorded("finish") == [{"exit_code": 1}]
    said = capsys.readouterr().err
    assert said.startswith("realrun: --log wandb:team/demo: no key is set, so the run stays in")
    assert os.environ["WANDB_CACHE_DIR"] == str(tmp_path / "wandb")


@pytest.mark.parametrize("where", ["environment", "netrc", "mode"])
def test_a_key_or_a_mode_that_is_set_decides(
    recorded: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if where == "environment":
        monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    elif where == "netrc":
        (tmp_path / "netrc").write_text("machine api.wandb.invalid login user password x\n")
    else:
        monkeypatch.setenv("WANDB_MODE", "offline")
    WeightsAndBiases("demo", {}, "")
    (init,) = recorded("init")
    assert (init["entity"], init["mode"]) == (None, None)
    assert capsys.readouterr().err == ""


def test_a_resumed_run_of_wandb_adds_no_step_twice(recorded: Any) -> None:
    first = WeightsAndBiases("demo", {}, "")
    for step in (1, 2, 3):
        first.add(step, 32.0 * step, {LOSS: 1.0})
    first.flush()  # the checkpoint was written after step 2, and then the run was killed
    second = WeightsAndBiases("demo", {}, first.note)
    for step in (3, 4):
        second.add(step, 32.0 * step, {LOSS: 1.0})
    second.flush()
    third = WeightsAndBiases("demo", {}, first.note)
    third.add(4, 128.0, {LOSS: 1.0})
    third.add(5, 160.0, {LOSS: 1.0})
    assert [each["step"] for each in recorded("log")] == [1, 2, 3, 4, 5]
    assert [each["resume"] for each in recorded("init")] == [None, "allow", "allow"]
    assert {each["id"] for each in recorded("init")[1:]} == {first.note}


def test_wandb_itself_keeps_a_run_in_its_folder_without_the_network(tmp_path: Path) -> None:
    try:  # its records: other tests import what stands for it
        version("wandb")
    except PackageNotFoundError:
        pytest.skip("the extra [wandb] is not installed")
    script = (
        "from realrun.loggers.weights_and_biases import WeightsAndBiases\n"
        "run = WeightsAndBiases('demo', {'a': 1}, '')\n"
        "run.add(1, 32.0, {'loss/train': 3.0})\n"
        "run.flush()\n"
        "run.close(failed=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path), "WANDB_DIR": "."},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert file.stat().st_size > 0
    assert {path.name for path in tmp_path.iterdir()} == {"wandb"}


# -- the command -----------------------------------------------------------------------------
def trained(
    folder: Path, steps: int, *more: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    file = folder / "run.toml"
    method = 'name = "diloco"\nsync_every = 3'
    text = SCENARIO.format(steps=30, method=method).replace("count = 2", "count = 1")
    file.write_text(text.replace('schedule = "cosine"\n', ""))
    return subprocess.run(
        [
            *(sys.executable, "-m", "realrun", "train", str(file), "--set", f"run.steps={steps}"),
            *("--log", "wandb:demo", "--evaluate-every", "2", "--json", *more),
        ],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(RECORDED), os.environ.get("PYTHONPATH", "")]),
            "WANDB_DIR": str(folder),
            "WANDB_RECORD": str(folder / "calls"),
            "WANDB_MODE": "offline",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_resumed_run_continues_its_curves_and_its_evaluations(tmp_path: Path) -> None:
    kept = ("--checkpoints", str(tmp_path / "kept"), "--checkpoint-every", "2")
    first = trained(tmp_path, 15, *kept)
    assert first.returncode == 0, first.stderr
    # As after a kill: what was trained since the checkpoint of round 4 is lost, but was logged.
    (tmp_path / "kept" / "round-00000005.rank-00000.safetensors").unlink()
    second = trained(tmp_path, 24, *kept)
    assert second.returncode == 0, second.stderr
    found = json.loads(second.stdout)
    assert found["first_round"] == 4
    rounds = [each["round"] for each in found["evaluations"]]
    assert rounds == [2, 4, 6]

    logged = calls(tmp_path / "calls", "log")
    steps = [each["step"] for each in logged if LOSS in each["values"]]
    assert steps == list(range(1, 25))
    assert all(each["values"]["tokens"] == 32 * each["step"] for each in logged)
    held_out = [each["values"] for each in logged if HELD_OUT in each["values"]]
    assert [values["tokens"] / 96 for values in held_out] == [2, 4, 5, 6, 8]
    losses = [each["loss"] for each in found["evaluations"]] + [found["validation_loss"]]
    assert [held_out[number][HELD_OUT] for number in (0, 1, 3, 4)] == losses
    begun = calls(tmp_path / "calls", "init")
    assert [each["id"] for each in begun] == [None, "fresh"]
    assert begun[0]["config"]["scenario_sha256"] == json.loads(first.stdout)["scenario_sha256"]
    assert begun[0]["config"]["scenario"]["method"] == {"name": "diloco", "sync_every": 3}


def test_a_run_outlives_its_logger(tmp_path: Path) -> None:
    done = trained(tmp_path, 12, "--losses", str(tmp_path / "l.csv"), WANDB_FULL_AT="5")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 1 + 12
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    line = (
        "realrun: warning: rank 0: --log wandb:demo: OSError: [Errno 28] No space left on device; "
        "nothing is logged there after 128 tokens"
    )
    assert warnings == [f"{line}, and the training continues", line]
