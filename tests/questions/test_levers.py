"""Levers: each is the scenario as a person would type it, and agrees with a closed form."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
from support.plain_scenario import TOKENS, machine, plain

from sim.figures.evaluation import figures
from sim.questions import levers as module
from sim.questions.effort import effort
from sim.questions.levers import Lever, levers, levers_of
from sim.questions.replications import predicted
from sim.records.scenario import Jitter, Scenario, Site
from sim.runtime import simulate
from sim.scenario import load

THREE = ["--model", "10B", "--sites", "paris,dallas,osaka", "--bandwidth", "1Gbit/s"]
THREE += ["--rtt", "80ms"]
H100 = ["--accelerators", "64 x H100", "--set", "site.osaka.mfu=0.3"]


def read(arguments: list[str]) -> Scenario:
    """Load what a command line says; what comes later wins."""
    options, settings = {}, []
    for name, text in zip(arguments[::2], arguments[1::2], strict=True):
        if name == "--set":
            settings.append(text)
        else:
            options[name] = text
    return load(None, options, settings)


def by_name(scenario: Scenario) -> dict[str, Lever]:
    found = levers(scenario)
    assert found is not None
    return {each.name: each for each in found}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "diloco"], {"sync_every x2", "rtt halved", "comm_dtype int8"}),
        (["--method", "local_sgd", "--accelerators", "64 x H100"], {"mfu +3 points"}),
        (["--method", "diloco", "--set", "site.osaka.speed=0.8"],
         {"osaka at the pace of the others"}),
        (["--method", "diloco", *H100], {"osaka at the pace of the others", "bandwidth x2"}),
        (["--method", "diloco", "--set", "site.osaka.uplink=500Mbit/s"], {"bandwidth of osaka x2"}),
        (["--method", "streaming_diloco"], {"bandwidth x2"}),
        (["--method", "eager_diloco", "--sync-every", "40"], {"outer_sync_delay +1"}),
        (["--method", "ddp", "--overlap", "none", "--comm-dtype", "int8"],
         {"overlap of buckets", "comm_dtype fp4"}),
        (["--method", "acco", "--bandwidth", "100Gbit/s"], {"bandwidth x2"}),
        (["--method", "ddp", *H100], {"accelerators of twice the peak"}),
        (["--method", "diloco", "--set", "site.osaka.workers=2"], {"one more site like osaka"}),
        (["--method", "diloco", "--set", "site.osaka.sync_every=30"],
         {"sync_every x2", "one more site like osaka"}),
        (["--method", "diloco", "--set", "site.sync_every=30"], {"sync_every x2"}),
        (["--method", "diloco", "--set", "site.sync_every=balanced", "--set",
          "site.osaka.speed=0.5"], {"sync_every x2", "one more site like osaka"}),
    ],
)  # fmt: skip
def test_each_is_what_its_setting_predicts(arguments: list[str], expected: set[str]) -> None:
    given = [*THREE, *arguments]
    scenario = read(given)
    tokens = 1e9
    found = levers(scenario, tokens)
    assert found is not None
    assert expected <= {each.name for each in found}
    for each in found:
        if not each.setting:
            assert each.name.startswith("without ")
            continue
        typed = predicted(read([*given, *shlex.split(each.setting)])).figures
        assert each.seconds == pytest.approx(typed.time_for(tokens), rel=1e-6), each
        assert each.utilization == pytest.approx(typed.compute_utilization, rel=1e-6)
        assert each.tokens_per_update == pytest.approx(typed.tokens_per_update, rel=1e-6)


def test_the_first_line_is_a_run_of_the_command(bandwise: Callable[..., Any]) -> None:
    command = ["simulate", *THREE, "--tokens", "10B", "--method", "diloco", "--json"]
    before = bandwise(*command).json
    lever = next(each for each in before["levers"] if each["lever"] == "bandwidth x2")
    assert lever["setting"] == "--bandwidth 2Gbit/s"
    place = command.index("1Gbit/s")
    after = bandwise(*command[:place], "2Gbit/s", *command[place + 1 :]).json
    rates = [each["evaluated_rounds"]["tokens_per_s"] for each in (before, after)]
    assert lever["change_of_time_fraction"] == pytest.approx(rates[0] / rates[1] - 1, rel=1e-9)


# -- closed forms ----------------------------------------------------------------------------


def test_twice_the_bandwidth_halves_the_transfers_of_blocking_ddp() -> None:
    """A step computes for 1 s, sends 200 bytes at 100 bytes/s and has two latencies of 0.25 s."""
    scenario = plain("ddp", {"overlap": "none"}, latency=0.25)
    found = by_name(scenario)
    step_s = 1 + 2.0 + 0.5
    assert found["bandwidth x2"].seconds == pytest.approx(
        (step_s - 1.0) * 100e9 / (2 * TOKENS), rel=1e-9
    )
    assert found["bandwidth x2"].change == pytest.approx(-1.0 / step_s, rel=1e-9)
    assert found["rtt halved"].change == pytest.approx(-0.25 / step_s, rel=1e-9)
    faster = found["accelerators 10 % faster"]
    assert faster.change == pytest.approx((1 / 1.1 - 1) / step_s, rel=1e-9)
    assert found["bandwidth x2"].utilization == pytest.approx(1 / 2.5, rel=1e-9)


def test_twice_the_steps_halve_what_diloco_communicates_per_step() -> None:
    found = by_name(plain("diloco", {"sync_every": 4}))["sync_every x2"]
    assert found.change == pytest.approx((1 + 2 / 8) / (1 + 2 / 4) - 1, rel=1e-9)
    assert found.tokens_per_update == 2 * found.tokens_per_update_before == 8 * 2 * TOKENS
    assert found.other_updates
    assert found.training_changes


def test_three_points_of_mfu_are_the_share_of_a_step_that_they_save() -> None:
    scenario = read([*THREE, "--method", "ddp", "--overlap", "none", *H100[:2], "--mfu", "0.37"])
    before = predicted(scenario).figures
    lever = by_name(scenario)["mfu +3 points"]
    assert lever.setting == "--mfu 0.4"
    saved = before.compute_utilization * (1 - 0.37 / 0.40)
    assert lever.change == pytest.approx(-saved, rel=1e-6)


def test_a_slow_site_at_the_pace_of_the_others_keeps_nobody_waiting() -> None:
    machines = [machine(1.0), machine(1.0), machine(1.0, speed=0.5)]
    found = by_name(plain("ddp", {"overlap": "none"}, machines=machines, bandwidth=1e9))
    assert found["s2 at the pace of the others"].change == pytest.approx(-0.5, rel=1e-6)
    # Half the time a step, for two thirds of its tokens.
    assert found["without s2"].change == pytest.approx(0.5 * 1.5 - 1, rel=1e-6)
    assert found["without s2"].training_changes


def test_pace_counts_the_steps_of_a_round() -> None:
    """Half as many steps at half the speed: no site is the slowest."""
    machines = [machine(1.0), machine(1.0, speed=0.5)]
    found = by_name(plain("diloco", {"sync_every": (10, 5)}, machines=machines))
    assert not [name for name in found if "pace" in name or "without" in name]
    assert found["sync_every x2"].setting == "--set method.sync_every=[20,10]"


def test_a_longer_delay_is_the_shortest_that_hides_as_much() -> None:
    """A fragment needs 2.5 steps of its period of 5: three steps of delay hide it."""
    arguments = {"sync_every": 10, "num_fragments": 2, "fragment_sync_delay": 1}
    found = by_name(plain("streaming_diloco", arguments, bandwidth=40.0))
    lever = found["fragment_sync_delay +2"]
    assert lever.utilization == pytest.approx(1.0)
    assert lever.change == pytest.approx(5 / 6.5 - 1, rel=1e-9)


def test_only_the_slowest_of_unequal_links_is_a_lever_of_its_own() -> None:
    scenario = plain("ddp", {"overlap": "none"}, workers=3, bandwidth=inf)
    sites = tuple(
        Site(f"s{n}", 1, uplink=rate, downlink=rate) for n, rate in enumerate([100, 100, 50])
    )
    found = by_name(replace(scenario, sites=sites))
    alone, all_ = found["bandwidth of s2 x2"], found["bandwidth x2"]
    assert all_.change <= alone.change < -0.1
    assert "bandwidth of s2 x2" not in by_name(plain("ddp", {}, workers=3))


def test_sites_with_steps_of_their_own_keep_them_apart_when_typed() -> None:
    given = [*THREE, "--method", "diloco", "--set", "site.osaka.sync_every=50"]
    lever = by_name(read(given))["sync_every x2"]
    assert lever.setting == "--sync-every 200 --set site.osaka.sync_every=100"
    alike = by_name(read([*given[:-1], "site.sync_every=50"]))["sync_every x2"]
    assert alike.setting == "--set site.sync_every=100"


def test_a_site_is_not_offered_again_where_a_list_would_have_to_name_it() -> None:
    given = [*THREE, "--method", "diloco"]
    order = ["--set", 'network.order=["paris", "dallas", "osaka"]']
    balanced = ["--set", "site.batch_tokens=balanced", "--set", "site.osaka.speed=0.5"]
    steps = ["--set", "method.sync_every=[10, 20, 30]"]
    assert "one more site like osaka" in by_name(read(given))
    for other in (order, balanced, steps):
        assert "one more site like osaka" not in by_name(read([*given, *other]))


def test_twice_the_peak_halves_the_passes_of_blocking_ddp() -> None:
    scenario = read([*THREE, "--method", "ddp", "--overlap", "none", *H100[:2]])
    before = predicted(scenario).figures
    lever = by_name(scenario)["accelerators of twice the peak"]
    assert lever.setting == "--set site.peak=1.978PFLOP/s"
    assert lever.change == pytest.approx(-before.compute_utilization / 2, rel=1e-6)


def test_a_priced_lever_changes_the_money_as_its_time_and_its_bytes_do() -> None:
    """Hours x accelerators x price, and the bytes of every update x the price of egress."""
    prices = ["--set", "site.price=2 EUR/h", "--set", "site.egress_price=80 EUR/TB"]
    scenario = read([*THREE, "--method", "diloco", *H100[:2], *prices])
    before = predicted(scenario).figures
    hours = before.time_for(100e9) / 3600
    found = by_name(scenario)
    paid = 3 * 64 * hours * 2
    for name in ("bandwidth x2", "accelerators of twice the peak"):
        assert found[name].money_change == pytest.approx(paid * found[name].change, rel=1e-6)
    # Half as many updates, of which a worker in a ring of three sends 4/3 of 20 GB each.
    saved = 100e9 / before.tokens_per_update / 2 * 3 * (4 / 3 * 20e9) / 1e12 * 80
    twice = found["sync_every x2"]
    assert twice.money_change == pytest.approx(paid * twice.change - saved, rel=1e-6)
    assert by_name(read([*THREE, "--method", "diloco"]))["bandwidth x2"].money_change is None


# -- random timing, methods that look at the clock, bounds -----------------------------------


@pytest.mark.parametrize("replications", [1, None])
def test_a_change_is_taken_under_the_same_random_numbers(replications: int | None) -> None:
    """Without communication's time the computation of one replication is exactly 1.1 faster."""
    machines = [machine(1.0, jitter=Jitter("lognormal", 0.3))] * 3
    scenario = plain("local_sgd", {"sync_every": 5}, machines=machines, bandwidth=inf)
    scenario = replace(scenario, run=replace(scenario.run, replications=replications))
    lever = by_name(scenario)["accelerators 10 % faster"]
    assert lever.change == pytest.approx(1 / 1.1 - 1, rel=1e-9)
    other = figures(simulate(replace(scenario, replication=1000))).time_for(100e9)
    assert abs(other * 1.1 / lever.seconds - 1.21) > 1e-4  # which other streams would not give


def test_acco_computes_all_the_time_and_bandwidth_changes_its_updates_only() -> None:
    found = by_name(plain("acco", {}, bandwidth=20.0))
    assert found["bandwidth x2"].change == pytest.approx(0.0, abs=1e-6)
    assert found["bandwidth x2"].other_updates
    assert not found["bandwidth x2"].training_changes
    assert found["accelerators 10 % faster"].change == pytest.approx(1 / 1.1 - 1, rel=1e-3)


def test_bounds_are_marked_and_what_never_ends_has_no_levers() -> None:
    scenario = plain("diloco", {"sync_every": 4})
    before = predicted(scenario).figures
    bounded = levers_of(scenario, replace(before, lower_bound=True), 0, 1e9)
    assert bounded
    assert all(each.lower_bound for each in bounded)
    assert levers_of(scenario, replace(before, tokens_per_s=0.0), 0, 1e9) == []


def test_a_program_of_the_users_has_the_levers_of_what_it_takes() -> None:
    def apart(worker: Any, sync_every: int = 3, **other: Any) -> Any:
        while worker.next_round(steps=sync_every):
            yield worker.compute(worker.model.inner_step, times=sync_every)

    found = by_name(plain(apart, {}))
    assert found["sync_every x2"].change == pytest.approx(0.0, abs=1e-9)
    assert not found["sync_every x2"].other_updates  # it declares none
    assert "comm_dtype int8" not in found


# -- what is shown ---------------------------------------------------------------------------


def test_what_saves_most_is_first() -> None:
    changes = [each.change for each in levers(plain("diloco", {"sync_every": 4})) or []]
    assert len(changes) == 7 - 1  # no latency that could be halved
    assert changes == sorted(changes)


def test_every_row_applies_somewhere() -> None:
    slow = ["--set", "site.osaka.speed=0.5", "--set", "site.osaka.uplink=300Mbit/s"]
    some = [
        read([*THREE, *slow, "--method", "streaming_diloco"]),
        read([*THREE, "--method", "ddp", "--overlap", "none"]),
    ]
    for row in module.ROWS:
        assert any(list(row.candidates(scenario)) for scenario in some), row


def test_they_come_unasked_where_all_together_are_foreseen_to_take_less_than_a_second() -> None:
    cheap, dear = read([*THREE, "--method", "diloco"]), read([*THREE, "--method", "ddp"])
    assert effort(cheap).seconds * 7 < module.AT_ONCE_S < effort(dear).seconds * 4
    assert levers(cheap, within_s=module.AT_ONCE_S) == levers(cheap)
    assert levers(dear, within_s=module.AT_ONCE_S) is None


def test_what_a_method_that_looks_at_the_clock_takes_is_foreseen_from_its_own_run() -> None:
    scenario = read([*THREE, "--method", "acco"])
    assert effort(scenario).seconds * 5 < module.AT_ONCE_S
    assert levers(scenario, base=predicted(scenario), within_s=module.AT_ONCE_S) is None


def test_simulate_ends_with_a_line_per_lever(bandwise: Callable[..., Any]) -> None:
    command = ["simulate", *THREE, "--method", "diloco"]
    printed = bandwise(*command).out.splitlines()
    title = "What to change first: change of the time for equal tokens (diloco)"
    assert printed[printed.index(title) + 1 :] == [
        "sync_every x2: -36 % time (--sync-every 200); training changes, 600Mi tokens per update",
        "bandwidth x2: -36 % time (--bandwidth 2Gbit/s)",
        "comm_dtype int8: -36 % time (--comm-dtype int8); training changes",
        "one more site like osaka: -18 % time (--set site.osaka.count=2); training changes, 400Mi",
        "tokens per update",
        "accelerators twice as fast: -14 % time (--set site.speed=2)",
        "accelerators 10 % faster: -2.5 % time (--set site.speed=1.1)",
        "less than 0.5 %: rtt halved",
    ]
    assert "What to change first" not in bandwise(*command, "--no-sensitivity").out


def test_what_takes_longer_is_computed_when_it_is_asked_for(bandwise: Callable[..., Any]) -> None:
    command = ["simulate", *THREE, "--method", "ddp"]
    assert "more than a second to compute: --sensitivity does it" in " ".join(
        bandwise(*command).out.split()
    )
    assert bandwise(*command, "--json").json["levers"] is None
    assert len(bandwise(*command, "--sensitivity", "--json").json["levers"]) == 6


def test_a_comparison_has_those_of_its_fastest_method(bandwise: Callable[..., Any]) -> None:
    data = bandwise("compare", *THREE, "--methods", "diloco,local_sgd,ddp", "--json").json
    assert data["levers_of"] == "diloco"
    assert {each["lever"] for each in data["levers"]} >= {"sync_every x2", "comm_dtype int8"}
    alone = bandwise("simulate", *THREE, "--method", "diloco", "--json").json
    assert [each["change_of_time_fraction"] for each in alone["levers"]] == pytest.approx(
        [each["change_of_time_fraction"] for each in data["levers"]]
    )


def test_a_picture_without_sensitivity_is_refused(
    bandwise: Callable[..., Any], tmp_path: Path
) -> None:
    command = ["simulate", *THREE, "--method", "diloco", "--tornado"]
    ran = bandwise(*command, tmp_path / "t.png", "--no-sensitivity")
    assert ran.status != 0
    assert ran.err.count("\n") == 1
    assert "--no-sensitivity" in ran.err
    assert "must end in .png" in bandwise(*command, tmp_path / "t.gif").err


@pytest.mark.parametrize("method", ["streaming_diloco", "diloco"])
def test_nothing_in_the_picture_overlaps(method: str) -> None:
    import sim

    still = {"site.dallas.jitter": {"distribution": "constant"}}
    asked = sim.load("three_sites").replace(method=method, settings=still)
    result = sim.simulate(asked, sensitivity=True)
    for width in (5.0, 8.0):
        assert_nothing_overlaps(result.levers, width)


def assert_nothing_overlaps(levers: Any, width: float) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from sim.figures.tornado import picture

    figure = picture(levers, "title", width)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (ax,) = figure.axes
    texts = [*ax.texts, *ax.get_yticklabels(), figure.legends[0], ax.xaxis.label]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert not [other for other in boxes[:number] if box.overlaps(other)]
    inside = ax.get_window_extent()
    for text in ax.texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert inside.x0 <= box.x0 <= box.x1 <= inside.x1


def test_python_has_them_as_rows_and_draws_them() -> None:
    from matplotlib.axes import Axes

    import sim

    scenario = sim.make_scenario(model="10B", sites=3, bandwidth="1 Gbit/s", method="diloco")
    result = sim.simulate(scenario)
    assert result.levers.to_dict("records") == result.figures["levers"]
    assert isinstance(result.plot_levers(), Axes)
    compared = sim.compare(scenario, ["diloco", "ddp"])
    assert list(compared.levers["lever"]) == list(result.levers["lever"])
    without = sim.simulate(scenario, sensitivity=False)
    assert "levers" not in without.figures
    assert without.levers.empty
    with pytest.raises(ValueError, match="sensitivity=True"):
        without.plot_levers()
