"""Bytes per accelerator: hand calculations, published figures, and what answers say of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command_line import Bandwise

import sim
from sim.methods import METHODS
from sim.program import Program, Worker
from sim.questions.activations import activation_bytes
from sim.questions.memory import SiteMemory, by_sharding, memory, remedies
from sim.runtime import SimulationError
from sim.scenario import Scenario, load
from sim.scenario.presets import ACCELERATORS, accelerator, memory_sizes
from sim.theory import memory_bytes

PSI = 7_500_000_000
NO_ACTIVATIONS = "memory.activations=none"


def asked(method: str, *settings: str, **options: str) -> Scenario:
    given = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
    if "accelerators" not in options:
        given.setdefault("--step-time", "1s")
    return load(None, {"--method": method, **given}, [NO_ACTIVATIONS, *settings])


def of(method: str, *settings: str, **options: str) -> SiteMemory:
    (found,) = memory(asked(method, *settings, **options)).per_site
    return found


# -- published figures ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("gigabytes", "method", "settings"),
    [
        (120, "ddp", ()),
        (31, "ddp", ("method.zero1=true",)),
        (150, "diloco", ()),
        (180, "delayed_diloco", ("method.outer_sync_delay=1",)),  # CO2: one round late
        (46, "dpu", ()),
        (46, "wp", ()),
        (46, "acco", ()),
    ],
)
def test_table_1_of_acco_comes_out_in_its_convention(
    gigabytes: int, method: str, settings: tuple[str, ...]
) -> None:
    """arXiv:2406.02613: 7.5B parameters, 64 workers, 16 bytes per parameter with ddp."""
    found = of(method, *settings, model="7.5B", sites="64")
    assert round(found.total_bytes / 1e9) == gigabytes


def test_streaming_diloco_costs_2_percent_where_diloco_costs_66() -> None:
    """arXiv:2501.18512: 100B parameters in 108 layers, three to a fragment, 12 bytes each."""
    counted = ("memory.convention=streaming_diloco",)
    plain = of("ddp", *counted, model="100B").total_bytes
    assert plain == 12 * 10**11
    diloco = of("diloco", *counted, model="100B").total_bytes
    assert diloco / plain - 1 == pytest.approx(8 / 12)
    on_host = of(
        "streaming_diloco",
        *counted,
        "train.outer_state=host",
        "method.layers_per_fragment=3",
        model="100B",
    )
    assert on_host.total_bytes / plain - 1 == pytest.approx(8 / 12 / 36)
    assert round(100 * (on_host.total_bytes / plain - 1)) == 2
    assert on_host.host_bytes == 8 * 10**11


@pytest.mark.parametrize(
    ("sharding", "gigabytes"), [("none", 120), ("zero1", 31.4), ("zero2", 16.6), ("zero3", 1.9)]
)
def test_the_stages_of_zero_come_out_as_published(sharding: str, gigabytes: float) -> None:
    """Rajbhandari et al. 2020, arXiv:1910.02054, figure 1: 7.5B parameters on 64 devices."""
    found = of("ddp", f"site.sharding={sharding}", model="7.5B", accelerators="64 x V100")
    assert found.persistent_bytes / 1e9 == pytest.approx(gigabytes, abs=0.05)


# -- a second method -----------------------------------------------------------------------
@given(
    parameters=st.integers(10**6, 10**11),
    workers=st.integers(2, 12),
    method=st.sampled_from(["ddp", "zero1", "diloco", "acco", "dpu", "wp"]),
)
def test_counting_agrees_with_the_closed_forms(parameters: int, workers: int, method: str) -> None:
    name, settings = ("ddp", ["method.zero1=true"]) if method == "zero1" else (method, [])
    scenario = asked(name, *settings, model=str(parameters), sites=str(workers))
    (found,) = memory(scenario).per_site
    assert found.total_bytes == pytest.approx(memory_bytes(method, parameters, workers), rel=1e-4)


# -- by hand -------------------------------------------------------------------------------
def test_every_part_of_a_streaming_worker_is_counted_by_hand() -> None:
    """Four layers of 1000 in two fragments, applied late: bf16, on two accelerators."""
    found = of(
        "streaming_diloco",
        "model.layer_parameters=[1000, 1000, 1000, 1000]",
        "method.num_fragments=2",
        "method.sync_every=4",
        "method.fragment_sync_delay=1",
        "site.sharding=zero3",
        accelerators="2 x H100",
    )
    assert found.parts == {
        "weights": 4000 * 2 / 2,
        "gradients": 4000 * 2 / 2,
        "optimizer": 4000 * 12 / 2,
        "outer_parameters": 4000 * 2 / 2,
        "outer_momentum": 4000 * 2 / 2,
        # One fragment of 2000: applied a step after it is sent, and the next is sent after two.
        "buffers": 2000 * 2 / 2,
        # One layer's weights and gradients, of which half is there anyhow.
        "layer": 1000 * (2 + 2) / 2,
    }


@given(
    fragments=st.integers(1, 6),
    spacing=st.integers(1, 5),
    delay=st.integers(1, 40),
    pattern=st.sampled_from(["strided", "sequential"]),
)
def test_buffers_are_the_fragments_that_are_in_flight_at_one_time(
    fragments: int, spacing: int, delay: int, pattern: str
) -> None:
    """One leaves every H / P steps and is applied tau steps later, just after others leave."""
    found = of(
        "streaming_diloco",
        f"model.layer_parameters={[1000] * fragments}",
        f"method.num_fragments={fragments}",
        f"method.sync_every={fragments * spacing}",
        f"method.fragment_sync_delay={delay}",
        f"method.fragment_pattern={pattern}",
    )
    assert found.parts["buffers"] == 1000 * 2 * (delay // spacing + 1)


@pytest.mark.parametrize(("method", "copies"), [("delayed_diloco", 1), ("eager_diloco", 2)])
@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("fragments", [1, 4])
def test_a_fragment_that_is_late_by_rounds_overlaps_its_next_one_alone(
    method: str, copies: int, rounds: int, fragments: int
) -> None:
    """P fragments in each of k rounds, and the one that leaves while its oldest is applied."""
    found = of(
        method,
        f"model.layer_parameters={[1000] * fragments}",
        f"method.num_fragments={fragments}",
        f"method.outer_sync_delay={rounds}",
        "method.sync_every=8",
    )
    assert found.parts["buffers"] == 1000 * 2 * copies * (fragments * rounds + 1)


def test_a_short_run_has_no_more_in_flight_than_it_sends() -> None:
    """A single round: what is sent after its last step is used up before another pass."""
    settings = ("model.layer_parameters=[1000, 1000]", "method.outer_sync_delay=3")
    assert "buffers" not in of("delayed_diloco", *settings, "run.rounds=1").parts
    assert of("delayed_diloco", *settings, "run.rounds=2").parts["buffers"] == 2000 * 2


def test_parameters_that_come_back_are_whole_until_zero3_shares_out_weights() -> None:
    """The buffer holds the gradient, N / 4 from ZeRO-2, and then the parameters, N until ZeRO-3."""
    found = by_sharding(asked("acco", model="1B", accelerators="4 x H100"))
    buffers = {sharding: each.per_site[0].parts["buffers"] for sharding, each in found.items()}
    assert buffers == {"none": 2e9, "zero1": 2e9, "zero2": 2e9, "zero3": 2e9 / 4}


def test_sharding_moves_one_kind_of_state_after_another() -> None:
    found = by_sharding(asked("diloco", model="1B", accelerators="4 x H100"))
    parts = {sharding: each.per_site[0].parts for sharding, each in found.items()}
    for part, first in {
        "optimizer": "zero1",
        "outer_parameters": "zero1",
        "outer_momentum": "zero1",
        "gradients": "zero2",
        "weights": "zero3",
    }.items():
        whole, divided = parts["none"][part], False
        for sharding, each in parts.items():
            divided |= sharding == first
            assert each[part] == (whole / 4 if divided else whole), (sharding, part)


def test_a_blocking_outer_gradient_takes_the_place_of_the_gradients() -> None:
    assert "buffers" not in of("diloco", model="1B").parts
    wide = of("diloco", "memory.outer_gradient_bytes=4 B", model="1B")
    assert wide.parts["buffers"] == 10**9 * (4 - 2)


def test_outer_state_on_the_host_leaves_the_device() -> None:
    here, there = (of("diloco", f"train.outer_state={p}", model="1B") for p in ("device", "host"))
    moved = {"outer_parameters", "outer_momentum"}
    assert there.host_parts == {part: here.parts[part] for part in moved}
    # One fragment, the whole model: it visits the device with its momentum.
    assert there.parts["outer_room"] == 4 * 10**9
    assert not moved & set(there.parts)


def test_frozen_parameters_are_weights_alone() -> None:
    found = of("ddp", "model.frozen_parameters=7B", model="20M")
    assert found.parts["weights"] == 2 * (20e6 + 7e9)
    assert found.parts["gradients"] == 2 * 20e6
    assert found.parts["optimizer"] == 12 * 20e6


def test_fp32_parameters_have_no_master_copy() -> None:
    found = of("ddp", "model.param_dtype=fp32", model="1B")
    assert found.total_bytes == (4 + 4 + 8) * 1e9


def keeps_three(worker: Worker) -> Program:
    """Send the difference of all layers and look at it three rounds later."""
    model, started = worker.model, []
    whole = range(model.num_layers)
    number = 0
    while worker.next_round(steps=1):
        yield worker.compute(model.inner_step)
        yield worker.compute(model.outer_gradient, whole, number % 3)
        started.append(worker.all_reduce(model.delta(whole, number % 3), "bf16"))
        number += 1
    yield from started


def test_a_method_of_the_users_is_counted_from_its_text() -> None:
    scenario = sim.make_scenario(
        model="1B", step_time="1 s", activations="none", method=keeps_three
    )
    row = sim.memory(scenario, [keeps_three]).frame().iloc[0]
    assert row["outer_parameters_bytes"] == 2e9
    assert row["outer_momentum_bytes"] == 0
    assert row["buffers_bytes"] == 3 * 2e9


def never_ends(worker: Worker) -> Program:
    """Begin rounds for ever."""
    while True:
        worker.next_round(steps=1)
        yield worker.compute(worker.model.inner_step)


def breaks(worker: Worker) -> Program:
    """Fail in the first round."""
    worker.next_round(steps=1)
    yield worker.compute(worker.model.inner_step)
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("method", "said"), [(never_ends, "since next_round answered False"), (breaks, "breaks failed")]
)
def test_a_method_that_cannot_be_counted_says_why(method: Any, said: str) -> None:
    scenario = sim.make_scenario(model="1B", step_time="1 s", method=method)
    with pytest.raises(SimulationError, match=said):
        memory(scenario.resolved)


# -- activations ---------------------------------------------------------------------------
def test_activations_follow_the_formula_by_hand() -> None:
    """2205.05198: s b h (34 + 5 a s / h) per layer; here s = 4, b = 2, h = 16, a = 2, L = 3."""
    given = {"tokens": 8, "width": 16, "layers": 3, "sequence": 4, "heads": 2}
    assert activation_bytes("stored", **given) == 3 * 8 * 16 * (34 + 5 * 2 * 4 / 16)
    assert activation_bytes("selective", **given) == 3 * 8 * 16 * 34
    assert activation_bytes("recomputed", **given) == 3 * 8 * 16 * 2 + 8 * 16 * 34
    assert activation_bytes("none", **given) == 0
    logits = activation_bytes("selective", vocabulary=100, **given)
    assert logits == 3 * 8 * 16 * 34 + 4 * 8 * (16 + 100)


def test_the_micro_batch_is_one_sequence_unless_the_scenario_counts_them() -> None:
    settings = ["memory.residual_width=1000", "memory.sequence_tokens=2048"]
    options = {"--model": "1B", "--layers": "10", "--accelerators": "4 x H100"}
    one = memory(load(None, {**options, "--batch-tokens": "64Ki"}, settings)).worst
    assert one.parts["activations"] == 10 * 2048 * 1000 * 34
    few = {**options, "--batch-tokens": "64Ki", "--n-grad-accumulation": "2"}
    assert memory(load(None, few, settings)).worst.parts["activations"] == (
        10 * (65536 / 2 / 4) * 1000 * 34
    )


WIDE = ("--model", "10B", "--accelerators", "64 x H100", "--bandwidth", "10Gbit/s")
_TIMES, _MEMORY = "site.n_grad_accumulation", "memory.micro_batch_tokens"


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "--method", "diloco"),
        ("required", "--method", "diloco", "--target", "50%"),
        ("required", "--method", "diloco", "--target", "50%", "--of", "comm_dtype"),
        ("compare", "--methods", "ddp,diloco"),
    ],
)
def test_what_memory_assumes_of_micro_batches_is_listed_behind_what_times_do(
    words: tuple[str, ...], bandwise: Bandwise
) -> None:
    command, *own = words
    assumed = bandwise(command, *WIDE, *own, "--json").json["assumed"]
    assert (assumed[_TIMES], assumed[_MEMORY]) == ("1", "2048 (one sequence); for memory only")
    names = list(assumed)
    assert names.index(_MEMORY) == names.index(_TIMES) + 1
    given = bandwise(command, *WIDE, *own, "--n-grad-accumulation", "1", "--json").json["assumed"]
    assert not {_TIMES, _MEMORY} & set(given)


def test_memory_lists_its_micro_batch_and_not_that_of_times(bandwise: Bandwise) -> None:
    """Writing out what is listed gives the same bytes again."""
    ran = bandwise("memory", *WIDE, "--methods", "diloco", "--json").json
    assert _TIMES not in ran["assumed"]
    assert ran["assumed"][_MEMORY] == "2048 (one sequence)"
    typed = bandwise(
        "memory", *WIDE, "--methods", "diloco", "--set", f"{_MEMORY}=2048", "--json"
    ).json
    assert typed["memory"] == ran["memory"]
    assert _MEMORY not in typed["assumed"]
    result = sim.memory(sim.make_scenario(model="10B", accelerators="64 x H100"), ["ddp"])
    assert _TIMES not in result.provenance.assumed
    assert _MEMORY in result.provenance.assumed


def test_a_batch_of_less_than_a_sequence_is_called_so(bandwise: Bandwise) -> None:
    short = ("memory", *WIDE, "--batch-tokens", "64Ki", "--methods", "ddp", "--json")
    note = "1024 (an accelerator's part of the batch)"
    assert bandwise(*short).json["assumed"][_MEMORY] == note


def test_a_decoders_dimensions_are_used() -> None:
    scenario = load(
        None, {"--step-time": "1s", "--method": "ddp"}, ["model.kind=gpt", "model.size=100M"]
    )
    (found,) = memory(scenario).per_site
    layers, output = 13 * 1024 * 704 * 34, 4 * 1024 * (704 + 32768)
    assert found.parts["activations"] == layers + output
    assert not any("residual_width" in note for note in found.notes)


# -- what is there -------------------------------------------------------------------------
def test_every_accelerator_has_a_memory() -> None:
    for name, each in ACCELERATORS.items():
        assert each.memory, name
        assert list(each.memory) == sorted(set(each.memory)), name
        assert accelerator(f"{name} {each.memory[-1]}GB") is each
        assert memory_sizes(f"{name} {each.memory[-1]}GB") == (each.memory[-1] * 1e9,)


def record(total: float, *sizes: float) -> SiteMemory:
    return SiteMemory(("a",), "X", 1, "none", False, {"weights": total}, {}, sizes)


@pytest.mark.parametrize(
    ("total", "sizes", "fits", "available"),
    [
        (30, (), None, None),
        (30, (40,), True, 40),
        (50, (40,), False, 40),
        (30, (40, 80), True, 40),
        (50, (40, 80), None, 80),
        (90, (40, 80), False, 80),
    ],
)
def test_a_name_with_two_sizes_is_decided_only_where_both_agree(
    total: float, sizes: tuple[float, ...], fits: bool | None, available: float | None
) -> None:
    found = record(total, *sizes)
    assert (found.fits, found.available_bytes) == (fits, available)


def test_the_least_sharding_that_fits_is_taken() -> None:
    """1B: 16 GB plain; 2 + 2 + 12/8; 2 + (2 + 12)/8; 16/8, and a layer of 1/24 in full."""
    needed = {
        size: of("ddp", f"site.memory={size}", model="1B", accelerators="8 x H100").sharding
        for size in ("17 GB", "6 GB", "4 GB", "3 GB", "1 GB")
    }
    assert list(needed.values()) == ["none", "zero1", "zero2", "zero3", "zero3"]
    given = of("ddp", "site.memory=17 GB", "site.sharding=zero2", model="1B", accelerators="8xH100")
    assert (given.sharding, given.sharding_given) == ("zero2", True)


def test_unlike_sites_are_counted_each_and_the_worst_is_the_fullest() -> None:
    scenario = load(
        None,
        {"--method": "ddp", "--model": "1B", "--sites": "big,small,other"},
        [
            "site.accelerators=1 x H100",
            "site.small.accelerators=1 x RTX 4090",
            NO_ACTIVATIONS,
        ],
    )
    found = memory(scenario)
    assert [each.sites for each in found.per_site] == [("big", "other"), ("small",)]
    assert found.worst.site == "small"
    assert found.fits is True


def test_what_would_help_is_found_by_trying() -> None:
    """10B on 8: 214 GB plain; with ZeRO-1 2 + 2 + 16/8 bytes each, 60 GB, and activations."""
    scenario = asked("diloco", "site.sharding=none", model="10B", accelerators="8 x H100")
    found = remedies(scenario, "site-1")
    assert found.enough == {'site.sharding = "zero1"': pytest.approx(60e9)}
    lacking = remedies(asked("diloco", model="10B", accelerators="1 x H100"), "site-2")
    assert not lacking.enough
    assert lacking.together_bytes == pytest.approx((16 + 4) * 1e10)  # the room for outer state
    assert lacking.accelerators == 4  # 20 bytes each over 2 are 100 GB


def test_a_batch_that_is_computed_at_once_is_to_be_divided() -> None:
    """1Mi tokens on 8 accelerators are 64 sequences of 2048 each."""
    given = {"--model": "10B", "--accelerators": "8 x H100", "--method": "diloco"}
    asked = {**given, "--n-grad-accumulation": "1"}
    way = "site.n_grad_accumulation = 64"
    found = remedies(load(None, asked), "site-1")
    assert found.enough[way] == memory(load(None, given)).worst.total_bytes
    assert memory(load(None, {**asked, "--n-grad-accumulation": "64"})).fits
    assert way not in remedies(load(None, {**asked, "--n-grad-accumulation": "64"}), "site-1").all


# -- what answers say ----------------------------------------------------------------------
SMALL = ("--model", "10B", "--accelerators", "1 x H100", "--bandwidth", "10Gbit/s")


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "--method", "diloco"),
        ("required", "--method", "diloco", "--target", "50%"),
        ("compare", "--methods", "ddp,diloco"),
        ("memory", "--methods", "ddp,diloco"),
    ],
)
def test_every_answer_says_what_does_not_fit(words: tuple[str, ...], bandwise: Bandwise) -> None:
    command, *own = words
    said = " ".join(bandwise(command, *SMALL, *own).out.split())
    assert "Does NOT fit: diloco at site-1 (and 1 like it) needs 2" in said
    assert "largest part: optimizer, 120 GB. Enough: " in said
    wide = (*SMALL, "--set", "site.memory=1TB")
    assert "fit" not in bandwise(command, *wide, *own).out.replace("fits", "")


def test_nothing_is_said_where_the_memory_is_not_known(bandwise: Bandwise) -> None:
    ran = bandwise("simulate", "--model", "10B", "--step-time", "1s", "--json")
    assert ran.json["fits_in_memory"] is None
    assert "NOT fit" not in bandwise("simulate", "--model", "10B", "--step-time", "1s").out


def test_memory_in_json_adds_up(bandwise: Bandwise) -> None:
    data = bandwise("memory", "--model", "10B", "--accelerators", "8 x A100 80GB", "--json").json
    assert [each["method"] for each in data["memory"]] == list(METHODS)
    for each in data["memory"]:
        assert each["available_bytes"] == 80e9
        named = ("total_bytes", "persistent_bytes", "host_bytes", "available_bytes")
        of_parts = sum(s for k, s in each.items() if k.endswith("_bytes") and k not in named)
        assert of_parts == pytest.approx(each["total_bytes"])


def test_memory_decides_no_hash() -> None:
    plain = load(None, {"--model": "10B", "--accelerators": "8 x A100"})
    other = load(
        None,
        {"--model": "10B", "--accelerators": "8 x A100 80GB"},
        ["site.sharding=zero3", "memory.convention=realrun", "site.memory=64GB"],
    )
    assert plain.sha256 == other.sha256
