"""Where a collective fails, the late rank is named as well as the rank that waited for it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from support.ended_commands import ended, said  # noqa: E402
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # noqa: E402

from realrun.processes import roll_call  # noqa: E402
from realrun.processes.roll_call import RollCall  # noqa: E402

TIMEOUT = timedelta(seconds=30)


@contextmanager
def called(calls: dict[int, int], workers: int) -> Iterator[dict[int, RollCall]]:
    """Ranks that have called the group "main" so often; a rank that is left out is silent."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
    store.set("arrived/0", "yes")

    def connect() -> Any:
        return TCPStore(
            "127.0.0.1", store.port, is_master=False, wait_for_workers=False, timeout=TIMEOUT
        )

    with ExitStack() as stack:
        found = {}
        for rank, number in calls.items():
            found[rank] = RollCall(rank, workers, connect(), connect)
            found[rank].follow({"main": number, "main[0,2]": number})
            stack.callback(found[rank].close)
        yield found


def test_the_rank_that_has_called_too_seldom_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roll_call, "_LONG", timedelta(seconds=0.2))
    with called({0: 5, 1: 4, 2: 5}, 3) as ranks:
        sleep(1.0)  # nobody asks for longer than a thread waits at once
        for waiting in (ranks[0], ranks[2], ranks[0]):  # several may ask, and again
            assert waiting.late("main", 4, 2.04) == (
                "; after 2.0 s rank 1 has not called it: still computing, or stuck"
            )
        assert "ranks 1 and 2 have not called it" in ranks[0].late("other", 0, 2.0)
        assert ranks[0].late("main", 3, 2.0) == (
            "; after 2.0 s every rank has called it: a connection is slow or cut"
        )


def test_a_rank_that_does_not_answer_is_told_from_one_that_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roll_call, "_ANSWER_S", 1.0)
    with called({0: 5, 2: 4}, 3) as ranks:
        assert (
            ranks[0]
            .late("main", 4, 1.0)
            .startswith("; after 1.0 s rank 1 does not answer: stopped, cut off or ended, and ")
        )


def test_only_members_are_late_for_a_group_of_some_ranks() -> None:
    with called({0: 5, 1: 0, 2: 4}, 3) as ranks:
        late = "; after 1.0 s rank 2 has not called it: still computing, or stuck"
        assert ranks[0].late("main[0,2]", 4, 1.0) == late
        assert "every member has called it" in ranks[0].late("main[0,2]", 3, 1.0)


def test_calls_over_the_control_group_are_counted_by_rank() -> None:
    with called({0: 0, 1: 0}, 2) as ranks:
        assert [ranks[0].count_control() for _ in range(3)] == [0, 1, 2]
        assert [ranks[1].count_control() for _ in range(2)] == [0, 1]
        assert "rank 1 has not called it" in ranks[0].late(roll_call.CONTROL, 2, 1.0)
        assert "every rank has called it" in ranks[0].late(roll_call.CONTROL, 1, 1.0)


def test_the_thread_ends_with_the_run() -> None:
    with called({0: 0}, 1) as ranks:
        thread = ranks[0]._thread
        assert thread.is_alive()
    assert not thread.is_alive()


KEEPER = """
import sys
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


def test_where_the_store_does_not_answer_whoever_keeps_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And where it is gone nothing is said of anybody."""
    monkeypatch.setattr(roll_call, "_ANSWER_S", 1.0)
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert keeper.stdout is not None
        port = int(keeper.stdout.readline())

        def connect() -> Any:
            return TCPStore(
                "127.0.0.1", port, is_master=False, wait_for_workers=False, timeout=TIMEOUT
            )

        asking, later = (RollCall(rank, 3, connect(), connect) for rank in (1, 2))
        keeper.send_signal(signal.SIGSTOP)
        assert asking.late("main", 4, 9.0) == (
            "; after 9.0 s rank 0 does not answer: stopped or cut off"
        )
    finally:
        keeper.kill()
        keeper.communicate()
    assert later.late("main", 4, 9.0) == ""


# A module of the user's in which rank 1 stops for ever.
STOPPING = """
import os, signal
from torch import nn

class Stopping(nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(256, 8), nn.Linear(8, 256)

    def forward(self, tokens):
        Stopping.calls += 1
        if os.environ.get("RANK") == "1" and Stopping.calls == 3:
            os.kill(os.getpid(), signal.SIGSTOP)
        return self.head(self.embedding(tokens))
"""
SCENARIO = """
[run]
steps = 5
[model]
module = "stopping:Stopping"
layer_parameters = [4352]
context = 16
param_dtype = "fp32"
[method]
name = "ddp"
[[site]]
count = 2
step_time = "20 ms"
batch_tokens = 64
[data]
kind = "synthetic"
"""


def test_a_stopped_worker_is_named_by_the_one_that_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "stopping.py").write_text(STOPPING)
    (tmp_path / "stopping.toml").write_text(SCENARIO)

    done = ended(str(tmp_path / "stopping.toml"), "--allow-code", "--timeout", "10 s")
    assert re.fullmatch(
        r"realrun: error: rank 0: all_reduce, call 2 of group main, failed: .*; "
        r"after \d+\.\d s rank 1 does not answer: stopped, cut off or ended",
        said(done),
    ), done.stderr
