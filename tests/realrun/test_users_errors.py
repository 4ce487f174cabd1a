"""An error in the user's own code is one line with rank, stage, kind, file and line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from realrun.errors import RunError  # noqa: E402
from realrun.model.replica import TorchModel  # noqa: E402
from realrun.model.stages import ModelError, find_function, load_model  # noqa: E402
from realrun.processes import launch  # noqa: E402
from realrun.runtime.shared import Limits, Shared  # noqa: E402
from realrun.runtime.worker import TorchWorker  # noqa: E402
from sim.text.told import whose_file  # noqa: E402

MODULE = """\
import torch
from torch import nn

class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, gradient):
        raise KeyError("scale")  # line 11

class Stage(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        x = self.linear(x)
        if self.fault == "raise":
            self.deeper()
        if self.fault == "inside torch":
            return nn.functional.linear(x, torch.zeros(3, 3))  # line 24
        if self.fault == "backward":
            x = Wrong.apply(x)
        return x

    def deeper(self):
        raise ValueError("seven\\nand more")  # line 30

def mean(outputs, targets):
    return outputs.mean()

def bad_loss(outputs, targets):
    return outputs.mean() / {}["scale"]  # line 36

def made():
    raise OSError("no weights")  # line 39

def method(worker):
    worker.next_round(steps=1)
    yield worker.compute(worker.model.no_such_verb)  # line 43

def batches():
    yield torch.zeros(2, 4), None
    raise LookupError("no more text")  # line 47
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The user's module, imported from a working directory of the user's."""
    (tmp_path / "users_own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_own  # type: ignore[import-not-found]

    yield users_own
    del sys.modules["users_own"]


def trained(stages: Sequence[nn.Module], own: Any, loss: str = "mean", steps: int = 1) -> str:
    """What rank 3 says of a training of some steps."""
    layers = [list(stage.parameters()) for stage in stages]
    batches = own.batches()
    model = TorchModel(stages, getattr(own, loss), batches, layers, rank=3, workers=4)
    for _ in range(steps - 1):
        model.inner_step()
    with pytest.raises(RunError) as error:
        model.inner_step()
    return str(error.value)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "raise",
            "rank 3: model: stage 1 (Stage) failed on input of shape (2, 4): ValueError: seven "
            "(users_own.py, line 30)",
        ),
        (
            "backward",
            "rank 3: model: backward of the loss or stage 1 (Stage) failed: KeyError: 'scale' "
            "(users_own.py, line 11)",
        ),
    ],
)
def test_an_error_of_a_stage_has_its_file_and_line(own: Any, fault: str, message: str) -> None:
    assert trained([own.Stage(""), own.Stage(fault)], own) == message


def test_an_error_inside_torch_has_the_line_of_the_users_that_called_it(own: Any) -> None:
    line = trained([own.Stage("inside torch")], own)
    assert line.startswith(
        "rank 3: model: stage 0 (Stage) failed on input of shape (2, 4): Runtime"
    )
    assert line.endswith("(users_own.py, line 24)")


def test_an_error_in_the_backward_of_an_earlier_stage_names_it(own: Any) -> None:
    assert trained([own.Stage("backward"), own.Stage("")], own) == (
        "rank 3: model: backward of stage 0 (Stage) failed: KeyError: 'scale' "
        "(users_own.py, line 11)"
    )


def test_an_error_of_torchs_alone_has_no_file(own: Any) -> None:
    line = trained([nn.Linear(5, 4)], own)
    assert line.startswith("rank 3: model: stage 0 (Linear) failed on input of shape (2, 4): Runt")
    assert ".py" not in line


def test_an_error_of_the_loss_has_its_file_and_line(own: Any) -> None:
    assert trained([own.Stage("")], own, "bad_loss") == (
        "rank 3: model: the loss of outputs of shape (2, 4) failed: KeyError: 'scale' "
        "(users_own.py, line 36)"
    )


def test_an_error_of_the_data_has_its_file_and_line(own: Any) -> None:
    assert trained([own.Stage("")], own, steps=2) == (
        "rank 3: data: the next batch cannot be read: LookupError: no more text "
        "(users_own.py, line 47)"
    )


def test_a_line_of_ours_that_comes_out_of_a_stage_gets_its_rank_only(own: Any) -> None:
    stage = own.Stage("")

    def refuse(*_: object) -> None:
        raise ModelError("model.module: gives a tuple")

    stage.register_forward_hook(refuse)
    assert trained([stage], own) == "rank 3: model.module: gives a tuple"


def test_an_error_while_the_model_is_made_has_its_file_and_line(own: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_model("users_own:made")
    assert str(error.value) == (
        "users_own:made failed: OSError: no weights (users_own.py, line 39)"
    )
    (tmp_path / "half_written.py").write_text("import torch\n\ndef made(:\n")
    with pytest.raises(ModelError, match=r"SyntaxError: .* \(half_written\.py, line 3\)"):
        find_function("half_written:made")


def test_an_error_of_a_method_of_the_users_has_its_file_and_line(own: Any) -> None:
    worker = TorchWorker(Shared(3, 4, SimpleNamespace(), Limits(rounds=1)))
    with pytest.raises(RunError) as error:
        worker.drive(own.method(worker))
    assert str(error.value) == (
        "rank 3: method method failed: AttributeError: 'types.SimpleNamespace' object has no "
        "attribute 'no_such_verb' (users_own.py, line 43)"
    )


def test_whose_a_file_is() -> None:
    assert whose_file(launch.__file__) == "ours"
    assert whose_file(torch.__file__) == whose_file(nn.__file__) == "torch"
    assert whose_file(pytest.__file__) == "package"
    assert whose_file(subprocess.__file__) == "python"
    assert whose_file("<frozen importlib._bootstrap>") == "python"
    assert whose_file(__file__) == "user"


# A worker without torch: tells the launcher some lines, and ends.
WORKER = """
import os, sys
from realrun.errors import PeerLostError, RunError
from realrun.processes.launch import report
class Later(RunError):
    order = 7
rank = int(os.environ["RANK"])
error = {each}[rank]
if error is None:
    sys.exit({status} if rank else 0)
report(error, str(error), rank)
sys.exit(2)
"""


def launched(each: str, status: int = 0) -> int:
    script = WORKER.format(each=each, status=status)

    def start(
        rank: int, command: Sequence[str], environment: Any, inherited: Sequence[int]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", script], env=environment, pass_fds=inherited)

    return launch.launch([], 2, start=start)


@pytest.mark.parametrize(
    ("each", "line"),
    [
        ("None, ValueError('no such card')", "rank 1: no such card"),
        ("ValueError('no tokens'), ValueError('no tokens')", "no tokens"),
        ("PeerLostError('rank 0: gone'), RunError('rank 1: full')", "rank 1: full"),
        ("Later('rank 0: step 7'), RunError('rank 1: step 3')", "rank 1: step 3"),
    ],
)
def test_a_launcher_says_what_was_first_with_its_rank(each: str, line: str) -> None:
    with pytest.raises(RunError) as error:
        launched(f"[{each}]")
    assert str(error.value) == line


def test_a_worker_that_ends_without_a_word_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert launched("[None, None]", status=3) == 3
    assert capsys.readouterr().err == "realrun: rank 1 ended with status 3\n"
