"""A loss that is not finite: who is told, what stops, what is kept."""

from __future__ import annotations

from math import inf, isnan, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.ended_commands import ended, said  # noqa: E402

from realrun.checks.not_finite import LossWatch, NotFiniteError, told  # noqa: E402
from realrun.device import Host  # noqa: E402
from realrun.errors import RunError  # noqa: E402
from realrun.model.buffers import Losses  # noqa: E402
from realrun.report import check_held_out  # noqa: E402

# A module of the user's whose numbers leave what is finite on rank 1 alone, once.
MODULE = """
import os
from torch import nn

class Overflowing(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(256, 8), nn.Linear(8, 256)

    def forward(self, tokens):
        Overflowing.calls += self.training
        wrong = os.environ.get("RANK") == "1" and Overflowing.calls == 9
        return self.head(self.embedding(tokens)) * (float("inf") if wrong else 1.0)
"""
SCENARIO = """
[run]
steps = 16
[model]
module = "overflowing:Overflowing"
layer_parameters = [4352]
context = 16
param_dtype = "fp32"
[method]
name = "eager_diloco"
sync_every = 2
[[site]]
count = 2
step_time = "20 ms"
batch_tokens = 64
n_grad_accumulation = 2
[data]
kind = "synthetic"
"""


class Model:
    """What the watch asks of a model."""

    n_grad_accumulation = 2

    def __init__(self) -> None:
        self.theta = torch.zeros(3)
        self.losses = Losses(self.theta)

    def add(self, *losses: float) -> None:
        for loss in losses:
            self.losses.add(torch.tensor(loss))

    @property
    def losses_so_far(self) -> int:
        return self.losses.count

    def losses_since(self, first: int) -> Any:
        return self.losses.since(first)


def watching(policy: str) -> tuple[Model, LossWatch, list[str]]:
    model, lines = Model(), list[str]()
    return model, LossWatch(1, policy, model, Host(), lines.append), lines  # type: ignore[arg-type]


def test_the_first_one_is_named_with_rank_step_and_round() -> None:
    model, watch, lines = watching("stop")
    watch.look(0, by_steps=True)
    model.add(1.0, 2.0, 3.0, 4.0)
    watch.look(1, by_steps=True)
    model.add(1.0, inf, nan, 4.0)
    with pytest.raises(NotFiniteError) as stopped:
        watch.look(2, by_steps=True)
    assert str(stopped.value) == (
        "rank 1: the loss of inner step 2 (micro-batch 5) in round 1 is inf, all counted from 0; "
        'train.not_finite = "warn" would let the training continue'
    )
    assert stopped.value.order == 5
    assert not lines


def test_a_method_without_steps_has_micro_batches_only() -> None:
    model, watch, _ = watching("stop")
    model.add(nan)  # before the first round, as acco does
    with pytest.raises(NotFiniteError, match=r"the loss of micro-batch 0 in round 0 is nan"):
        watch.look(0, by_steps=False)


def test_a_warning_comes_once() -> None:
    model, watch, lines = watching("warn")
    for number in range(3):
        model.add(nan)
        watch.look(number + 1, by_steps=True)
    watch.check_parameters(3)
    model.theta[0] = nan
    watch.check_parameters(4)
    assert len(lines) == 1
    assert lines[0].startswith("rank 1: the loss of inner step 0 (micro-batch 0) in round 0 is nan")


def test_parameters_that_are_not_finite_are_not_kept() -> None:
    model, watch, _ = watching("stop")
    watch.check_parameters(3)
    model.theta[1] = -inf
    with pytest.raises(NotFiniteError, match=r"not finite at the start of round 4, so no check"):
        watch.check_parameters(4)


def test_losses_are_read_from_any_on_across_pages() -> None:
    losses = Losses(torch.zeros(1))
    for number in range(2100):
        losses.add(torch.tensor(float(number)))
    for first in (0, 1, 1023, 1024, 1500, 2099):
        assert losses.since(first).tolist() == list(map(float, range(first, 2100)))


def test_the_table_counts_them() -> None:
    assert told([[1.0, 2.0], [1.0]]) == ""
    assert told([[1.0, 2.0, nan], [1.0, inf, nan]]) == (
        "3 of 6 losses are not finite; the first is of rank 1, micro-batch 1 (counted from 0)"
    )


@pytest.mark.parametrize(
    ("loss", "policy", "wrong"),
    [
        (nan, "stop", True),
        (nan, "warn", False),
        (2.0, "stop", False),
        (None, "stop", False),
    ],
)
def test_a_held_out_loss_that_is_not_finite_is_an_error(
    loss: float | None, policy: str, wrong: bool
) -> None:
    outcome: Any = SimpleNamespace(validation_loss=loss, not_finite=policy)
    if wrong:
        with pytest.raises(RunError, match="the loss on text that no worker trains on is nan"):
            check_held_out(outcome)
    else:
        check_held_out(outcome)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "overflowing.py").write_text(MODULE)
    path = tmp_path / "overflowing.toml"
    path.write_text(SCENARIO)
    return path


def test_a_run_stops_and_its_last_good_checkpoint_stays(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    done = ended(str(file), "--allow-code", "--checkpoints", str(folder), "--checkpoint-every", "1")
    assert "rank 1: the loss of inner step 4 (micro-batch 8) in round 2 is " in said(done)
    kept = {path.name[:14] for path in folder.glob("*.rank-00001.*")}
    assert kept == {"round-00000001", "round-00000002"}  # whole rounds, of both ranks
    assert kept <= {path.name[:14] for path in folder.glob("*.rank-00000.*")}


def test_a_run_that_is_to_warn_ends_and_says_so(file: Path, tmp_path: Path) -> None:
    losses = tmp_path / "losses.csv"
    done = ended(
        str(file), "--allow-code", "--set", "train.not_finite=warn", "--losses", str(losses)
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1, done.stderr
    assert "rank 1: the loss of inner step 4 (micro-batch 8) in round 2 is " in warnings[0]
    words = " ".join(done.stdout.split())
    assert "losses are not finite; the first is of rank 1, micro-batch 8" in words
    rows = [line.split(",") for line in losses.read_text().splitlines()[1:]]
    assert len(rows) == 2 * 32
    assert isnan(float(rows[-1][2]))
