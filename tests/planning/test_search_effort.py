"""What a search takes is said before it is begun, and nothing is simulated twice."""

from __future__ import annotations

import pytest

from sim.output import effort as spoken
from sim.planning.asked import Asked, asked_of
from sim.planning.effort import expected
from sim.planning.limits import Limits
from sim.planning.search import Search
from sim.planning.settings import Setting
from sim.questions import replications
from sim.runtime import simulate
from sim.scenario import load
from sim.scenario.loading import document_of

SITES = {"--model": "1B", "--sites": "3", "--bandwidth": "1Gbit/s"}


def asked(**options: str) -> Asked:
    given = {f"--{name}": value for name, value in options.items()}
    return asked_of(document_of(None, {**SITES, **given}, []))


def test_a_long_search_is_announced_with_what_is_quicker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quick = asked(method="diloco")
    spoken.foresee_plan(quick)
    assert expected(quick).seconds < spoken.LONG_PLAN_S
    assert capsys.readouterr().err == ""
    by_messages = asked(method="diloco", algorithm="gloo", **{"comm-dtype": "bf16"})
    spoken.foresee_plan(by_messages)
    said = " ".join(capsys.readouterr().err.split())
    assert expected(by_messages).seconds > spoken.LONG_PLAN_S
    assert said.startswith("bandwise: about 16 settings have to be simulated, which takes about")
    assert "another --algorithm is computed" in said


def test_random_times_add_the_replications_of_what_is_chosen() -> None:
    still, random = asked(method="diloco"), asked(method="diloco", jitter="normal:0.1")
    assert expected(random).seconds > 2 * expected(still).seconds


def test_a_value_that_is_the_default_is_not_simulated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []

    def counted(scenario, **other):
        runs.append(scenario)
        return simulate(scenario, **other)

    monkeypatch.setattr(replications, "simulate", counted)
    base = load(None, {**SITES, "--method": "ddp", "--overlap": "bucket"})
    search = Search({"ddp": base}, {"ddp": {}}, Limits(), 1e9)
    plain = Setting("ddp", (("method.overlap", "bucket"),))
    spelled = plain.with_value("method.bucket_bytes", 25 * 2**20)
    points = [search.simulated(search.candidate(base, each)) for each in (plain, spelled)]
    assert len(runs) == 1
    assert points[0].token_s == points[1].token_s
    assert points[1].setting == spelled
