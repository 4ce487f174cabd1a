"""The answer says what a step takes if gathering hides behind nothing, where nobody said so."""

from __future__ import annotations

import pytest
from support.command_line import Bandwise

ASKED = ("simulate", "--model", "10B", "--bandwidth", "10Gbit/s", "--rtt", "1ms")
OVER_ALL = (*ASKED, "--method", "sim.methods.inside:fsdp", "--workers", "2")
ISLANDS = (
    *(*ASKED, "--method", "diloco", "--sync-every", "4", "--accelerators", "16 x H100"),
    *("--set", "site.inside.method=fsdp", "--set", "site.inside.between_nodes=100 Gbit/s"),
)


@pytest.mark.parametrize(
    ("asked", "key"), [(OVER_ALL, "method.prefetch"), (ISLANDS, "site.inside.prefetch")]
)
def test_the_figures_are_those_without_it(
    bandwise: Bandwise, asked: tuple[str, ...], key: str
) -> None:
    told = bandwise(*asked, "--json").json
    plain = bandwise(*asked, "--set", f"{key}=false", "--json").json
    found = told["without_prefetch"]
    assert found["assumed_prefetch"] is True
    for figure in ("compute_utilization", "tokens_per_s", "inner_step_s", "total_wall_clock_s"):
        assert found[figure] == plain[figure]
    assert found["inner_step_s"] > told["inner_step_s"]
    said = " ".join(bandwise(*asked).out.split())
    assert f"{key} = true was assumed, which hides gathering behind computation" in said
    assert "without_prefetch" not in plain


def test_jitter_inside_is_of_the_same_seed(bandwise: Bandwise) -> None:
    asked = (
        *("simulate", "--model", "150M", "--bandwidth", "1Gbit/s", "--accelerators", "4 x H100"),
        *("--set", "site.inside.method=fsdp", "--jitter", "lognormal:0.1", "--replications", "1"),
    )
    told = bandwise(*asked, "--json").json["without_prefetch"]
    plain = bandwise(*asked, "--set", "site.inside.prefetch=false", "--json").json
    assert told["inner_step_s"] == plain["inner_step_s"]


def test_it_is_left_out_where_it_takes_long_or_was_given(
    bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = bandwise(*OVER_ALL, "--set", "method.prefetch=true")
    assert "was assumed, which hides" not in given.out
    assert "without_prefetch" not in bandwise(*ASKED, "--json").json
    monkeypatch.setattr("sim.questions.alternative.AT_ONCE_S", 0.0)
    out = " ".join(bandwise(*OVER_ALL).out.split())
    assert "takes long: --set method.prefetch=false does it." in out
    many = ("--jitter", "lognormal:0.1", "--replications", "1")
    assert bandwise(*ISLANDS, *many, "--json").json["without_prefetch"]["simulated"] is False
