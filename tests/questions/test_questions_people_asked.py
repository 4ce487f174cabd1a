"""Questions of planners, each by one command, its answer against a closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Command

TOKENS, BATCH, EVERY = 200e9, 2**20, 100
#: Model FLOPs of a worker's batch over what 64 accelerators reach of their peak.
STEP_S = 6 * 10e9 * BATCH / (64 * 989e12 * 0.40)
#: Two sites exchange 10B parameters in bf16 by ring: each sends half of them twice.
SENT = 20e9
LINK = 2e9 / 8
RUN = (
    *("--model", "10B", "--tokens", "200B", "--sites", "paris,osaka", "--mfu", "0.40"),
    *("--accelerators", "64 x H100", "--rtt", "0ms", "--method", "diloco"),
    *("--sync-every", EVERY, "--bandwidth", "2Gbit/s"),
)


def answer(bandwise: Command, *arguments: object) -> Any:
    ran = bandwise(*arguments, "--json")
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def utilization(bandwidth: float) -> float:
    compute = EVERY * STEP_S
    return compute / (compute + SENT / bandwidth)


def test_how_long_it_takes_and_how_busy_the_accelerators_are(bandwise: Command) -> None:
    found = answer(bandwise, "simulate", *RUN)
    assert found["compute_utilization"] == pytest.approx(utilization(LINK))
    rounds = -(-TOKENS // (2 * BATCH * EVERY))
    assert found["total_wall_clock_s"] == pytest.approx(rounds * (EVERY * STEP_S + SENT / LINK))


def test_what_it_costs_in_hours_money_and_egress(bandwise: Command) -> None:
    priced = ("--set", "site.price=2 EUR/h", "--set", "site.egress_price=80 EUR/TB")
    found = answer(bandwise, "simulate", *RUN, *priced)["cost"]
    rounds = -(-TOKENS // (2 * BATCH * EVERY))
    hours = 128 * rounds * (EVERY * STEP_S + SENT / LINK) / 3600
    egress = 2 * rounds * SENT / 1e12
    assert found["accelerator_hours"] == pytest.approx(hours)
    assert found["egress_tb"] == pytest.approx(egress)
    assert found["money"] == pytest.approx(2 * hours + 80 * egress)


def test_a_link_that_others_use_by_30_percent_is_one_of_70_percent(bandwise: Command) -> None:
    found = answer(bandwise, "simulate", *RUN, "--set", "network.background=30 %")
    assert found["compute_utilization"] == pytest.approx(utilization(0.7 * LINK))


def test_a_link_at_half_of_its_rate_half_of_the_time_carries_three_quarters(
    bandwise: Command, tmp_path: Path
) -> None:
    """Pieces of half a second, exchanges of minutes: less than 1 s of 330 s is uncertain."""
    (tmp_path / "day.csv").write_text("time_s,factor\n0,1\n0.5,0.5\n")
    run = [x for x in RUN if x not in ("--tokens", "200B")]
    varying = ("--set", f"network.profile={tmp_path}/day.csv", "--set", "run.rounds=3")
    found = answer(bandwise, "simulate", *run, *varying, "--set", "network.profile_period=1s")
    assert found["compute_utilization"] == pytest.approx(utilization(0.75 * LINK), rel=2e-3)


def test_what_to_buy_next_saves_what_the_closed_form_says(bandwise: Command) -> None:
    levers = answer(bandwise, "simulate", *RUN, "--sensitivity")["levers"]
    (twice,) = (lever for lever in levers if lever["setting"] == "--bandwidth 4Gbit/s")
    assert twice["compute_utilization"] == pytest.approx(utilization(2 * LINK))
    change = utilization(LINK) / utilization(2 * LINK) - 1
    assert twice["change_of_time_fraction"] == pytest.approx(change)
    assert not twice["training_changes"]


def test_which_bandwidth_a_target_needs(bandwise: Command) -> None:
    asked = tuple(word for word in RUN if word not in ("--bandwidth", "2Gbit/s"))
    rows = answer(bandwise, "required", *asked, "--target", "50%,90%")["required"]
    for row, target in zip(rows, (0.5, 0.9), strict=True):
        needed = target / (1 - target) * SENT / (EVERY * STEP_S)
        (found,) = set(row["bandwidth_bytes_per_s"].values())  # all links alike
        # The search ends where a thousandth less is not enough.
        assert needed * 0.999 <= found <= needed * 1.002


def test_whether_it_fits_into_memory(bandwise: Command) -> None:
    asked = ("--model", "10B", "--accelerators", "8 x H100", "--set", "memory.activations=none")
    for stage, per_parameter in (("none", 16), ("zero1", 4 + 12 / 8), ("zero3", 16 / 8)):
        more = ("--methods", "ddp", "--set", f"site.sharding={stage}")
        (row,) = answer(bandwise, "memory", *asked, *more)["memory"]
        largest_layer = row["layer_bytes"]  # ZeRO-3 holds one in full
        assert row["total_bytes"] - largest_layer == pytest.approx(per_parameter * 10e9)
        assert row["fits"] == (row["total_bytes"] <= 80e9) == (stage != "none")


def test_how_much_a_slow_site_should_compute(bandwise: Command) -> None:
    asked = (
        *("--model", "1B", "--sites", "paris,osaka", "--method", "diloco", "--rtt", "0ms"),
        *("--bandwidth", "1Gbit/s", "--sync-every", EVERY),
        *("--step-time", "2s", "--set", "site.osaka.step_time=4s"),
    )
    exchange = 2e9 / 1.25e8  # 1B parameters in bf16 by a ring of two
    equal = answer(bandwise, "simulate", *asked)["breakdown"]
    assert equal["waiting"] == pytest.approx((400 - 200) / 2 / (400 + exchange))
    # Of two batches the fast site takes two thirds: both compute 4/3 x 2 s, to a whole token.
    computed = EVERY * 4 / 3 * 2
    balanced = answer(bandwise, "simulate", *asked, "--batch-tokens", "balanced")["breakdown"]
    assert balanced["waiting"] == pytest.approx(0, abs=1e-6)
    assert balanced["compute"] == pytest.approx(computed / (computed + exchange), rel=1e-5)
