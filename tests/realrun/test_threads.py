"""How many threads a worker computes with."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("torch")

from realrun.processes import placement


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, 4),
        ({"OMP_NUM_THREADS": "3"}, None),  # torch has read it
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"}, 4),  # torchrun has set it
    ],
)
def test_workers_share_the_cores_unless_the_user_says_otherwise(
    environment: dict[str, str], threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    for name in ("OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert placement._threads(2) == threads
