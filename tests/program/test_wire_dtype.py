"""Gradients travel in the parameters' type unless another is chosen; parameters always do."""

from __future__ import annotations

from typing import Any

import pytest

from sim.figures.evaluation import figures
from sim.methods import METHODS
from sim.runtime import simulate
from sim.scenario import load

REPORTED = {
    "--method": "ddp",
    "--model": "212M",
    "--sites": "3",
    "--step-time": "0.4034s",
    "--batch-tokens": "8",
    "--bandwidth": "10Gbit/s",
    "--rtt": "0.1ms",
    "--steps": "100",
}
FP32 = ["model.param_dtype=fp32"]


def sent(method: str, settings: list[str], **options: str) -> dict[str, set[str]]:
    """Types on the wire by what the buffer holds."""
    given = {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    scenario = load(None, {"--model": "1B", "--method": method, **given}, settings)
    found: dict[str, set[str]] = {}
    for row in simulate(scenario, rounds=3).rows:
        if row.bytes > 0:
            name, *_, dtype = row.detail.split()
            found.setdefault(name, set()).add(dtype)
    found.pop("count", None)  # of micro-batches: two numbers in fp32
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_by_default_all_travels_in_the_parameters_type(method: str, dtype: str) -> None:
    assert set().union(*sent(method, [f"model.param_dtype={dtype}"]).values()) == {dtype}


@pytest.mark.parametrize("method", ["acco", "dpu", "wp", "ddp"])
def test_parameters_travel_in_their_own_type_whatever_gradients_do(method: str) -> None:
    settings = [*FP32, "method.zero1=true"] if method == "ddp" else FP32
    found = sent(method, settings, comm_dtype="int8")
    assert found.pop("parameters") == {"fp32"}
    assert set().union(*found.values()) == {"int8"}


@pytest.mark.parametrize("method", [name for name in METHODS if name != "local_sgd"])
def test_the_answer_lists_the_type_it_assumed(method: str) -> None:
    scenario = load(None, {"--model": "1B", "--method": method}, FP32)
    assert dict(scenario.assumed)["method.comm_dtype"] == "fp32 (model.param_dtype)"
    stated = load(None, {"--model": "1B", "--method": method, "--comm-dtype": "fp32"}, FP32)
    assert "method.comm_dtype" not in dict(stated.assumed)
    assert stated.sha256 == scenario.sha256


def bytes_a_step(**more: Any) -> float:
    scenario = load(None, {**REPORTED, **more}, FP32)
    result = figures(simulate(scenario))
    steps = result.window_tokens / scenario.tokens_per_step
    return result.sent_bytes_per_worker / steps


def test_data_parallel_training_in_fp32_sends_fp32() -> None:
    """Three workers in a ring send 2 (1 - 1/3) of the gradients each, 4 bytes per element."""
    assert bytes_a_step() == pytest.approx(2 * (2 / 3) * 212e6 * 4)
    assert bytes_a_step(**{"--comm-dtype": "bf16"}) == pytest.approx(2 * (2 / 3) * 212e6 * 2)
