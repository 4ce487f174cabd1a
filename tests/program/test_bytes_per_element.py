"""A compressor's traffic is predicted from a number of bytes per element."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.plain_scenario import plain
from support.toy_training import train

from sim.figures.collective_model import in_words
from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.program import bytes_per_element, wire_bytes
from sim.runtime import SimulationError, simulate
from sim.scenario import ScenarioError, load, sweep
from sim.theory import wall_clock

OPTIONS = {"--model": "1B", "--sites": "2", "--method": "diloco", "--bandwidth": "1Gbit/s"}
TAKE_IT = sorted(set(METHODS) - {"local_sgd"})


@pytest.mark.parametrize("given", ["0.125", '"0.125 B"', '"0.125B"', "0.125 B", "1.25e-1"])
def test_a_number_is_written_with_or_without_its_unit(given: str) -> None:
    found = load(None, {**OPTIONS, "--comm-dtype": given})
    assert found.method.arguments["comm_dtype"] == "0.125B"


def test_a_file_gives_a_number(tmp_path: Any) -> None:
    path = tmp_path / "case.toml"
    path.write_text('[model]\nname = "1B"\n[method]\nname = "ddp"\ncomm_dtype = 2\n')
    assert load(str(path)).method.arguments["comm_dtype"] == "2B"


@pytest.mark.parametrize("given", ["0", "-1", "9", "nan", "inf", "true", "0.125 GB", "[0.5]"])
def test_what_is_no_number_of_bytes_is_refused(given: str) -> None:
    with pytest.raises(ScenarioError, match=r"or bytes per element \(like 0.125, at most 8\)"):
        load(None, {**OPTIONS, "--comm-dtype": given})


@pytest.mark.parametrize("method", TAKE_IT)
def test_two_bytes_take_as_long_as_bf16_and_an_eighth_as_long_as_the_theory_says(
    method: str,
) -> None:
    def asked(dtype: str) -> Any:
        return plain(method, {"comm_dtype": dtype}, bandwidth=40.0, latency=0.01)

    bf16, same, small = (simulate(asked(dtype), rounds=4) for dtype in ("bf16", "2B", "0.125B"))
    assert same.total_s == bf16.total_s
    assert small.total_s == pytest.approx(wall_clock(asked("0.125B"), 4).total_s)
    reduced = {row.bytes for row in small.rows if row.operation in ("all_reduce", "reduce_scatter")}
    assert max(reduced - {8.0}) == sum(asked("bf16").model.layer_parameters) * 0.125 or (
        method == "streaming_diloco"
    )
    assert not any(row.operation == "quantize" for row in small.rows)


def test_no_scales_are_sent() -> None:
    assert wire_bytes(512, "0.5B") == 256 < wire_bytes(512, "fp4")
    assert bytes_per_element("1e-3B") == 1e-3


def test_gloos_messages_carry_so_many_bytes() -> None:
    asked = plain("diloco", {"comm_dtype": "0.125B", "sync_every": 2}, layers=(5000, 5000))
    collectives = replace(asked.network.collectives, algorithm="gloo")
    by_gloo = replace(asked, network=replace(asked.network, collectives=collectives))
    seconds = simulate(by_gloo, rounds=3).total_s
    # 1,250 bytes of which each worker sends two halves at 100 bytes/s, and a few headers.
    assert seconds == pytest.approx(3 * (2 + 12.5), rel=0.5)


def test_on_the_toy_nothing_is_left_out() -> None:
    """The number says nothing of what a compressor loses: values arrive as fp32."""
    exact = train("diloco", 3, sync_every=2, comm_dtype="fp32")
    small = train("diloco", 3, sync_every=2, comm_dtype="0.125B")
    np.testing.assert_array_equal(small[0].theta, exact[0].theta)


def test_the_answer_says_what_it_assumes_of_sums() -> None:
    asked = plain("diloco", {"comm_dtype": "0.125B"})
    words = in_words(figures(simulate(asked)).exchanges, asked)
    assert "all_reduce (0.125B)" in words
    assert "assumes that sums of compressed values keep their size" in words


def test_realrun_refuses_it_in_one_line() -> None:
    pytest.importorskip("torch")
    from realrun.runnable import check_runnable
    from sim.scenario import sections

    options = {**OPTIONS, "--comm-dtype": "0.125", "--steps": "10"}
    with pytest.raises(ScenarioError) as refused:
        check_runnable(load(None, options), sections(None, options, []), 2)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith("method.comm_dtype: 0.125B: bytes per element are only simulated")


def test_a_program_s_own_unknown_type_is_named() -> None:
    def sends(worker, *, comm_dtype: str = "0B"):
        worker.next_round(steps=1)
        yield worker.all_reduce(worker.model.parameters(range(1)), comm_dtype)

    asked = plain("ddp", {})
    method = replace(asked.method, program=sends, arguments={})
    with pytest.raises(SimulationError, match=r"'0B' is no type; one of fp32"):
        simulate(replace(asked, method=method), rounds=1)


def test_a_sweep_may_mix_types_and_numbers() -> None:
    """A column of its table holds one kind of value: text."""
    options = {key: value for key, value in OPTIONS.items() if key != "--comm-dtype"}
    cases = sweep(None, options, [], ["comm_dtype=bf16,0.125"]).cases()
    assert [case.labels["method.comm_dtype"] for case in cases] == ["bf16", "0.125"]
    assert [case.scenario.method.arguments["comm_dtype"] for case in cases] == ["bf16", "0.125B"]
