"""Workers that shared cores: what a training run says of its own figures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.plain_scenario import plain

from realrun.checks.replicas import Merged
from realrun.report import show
from realrun.training import Outcome
from sim.runtime import simulate

LINE = "More workers than cores: 2 workers computed on 1 core"


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """What rank 0 of two workers knows, on a machine with one core."""
    monkeypatch.setattr("realrun.doctor.machine.usable_cores", lambda: 1)
    trace = simulate(plain(), rounds=6)
    trace.context = replace(trace.context, measured=True)
    merged = Merged((), ())
    losses = [[2.0, 1.0]] * 2
    return Outcome(trace, 0.0, losses, 1.0, 12.0, 0, "CPU", "gloo", merged, devices=("", ""))


@pytest.mark.parametrize(("together", "said"), [(2, [LINE]), (1, []), (0, [])])
def test_a_measurement_on_shared_cores_says_so(
    outcome: Outcome, capsys: pytest.CaptureFixture[str], together: int, said: list[str]
) -> None:
    outcome.computed_here = together
    show(outcome, plain(), "json")
    found = json.loads(capsys.readouterr().out)["warnings"]
    assert [line[: len(LINE)] for line in found] == said
    show(outcome, plain(), "table")
    assert ("More workers than cores" in capsys.readouterr().out) == bool(said)
