"""Optimizers without torch's compiler, and tensors without contents."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from realrun.model.contentless import Contentless
from realrun.model.functional import SGD, AdamW, Optimizer


def stepped(optimizer: Optimizer | torch.optim.Optimizer, of: list[nn.Parameter]) -> list[Tensor]:
    numbers = torch.Generator().manual_seed(1)
    for _ in range(5):
        for parameter in of:
            parameter.grad = torch.randn(parameter.shape, generator=numbers)
        optimizer.step()
    return [parameter.detach() for parameter in of]


def parameters() -> list[nn.Parameter]:
    numbers = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(size, generator=numbers)) for size in (37, 5)]


def test_adamw_steps_as_torchs_class_does_bit_for_bit():
    ours, theirs = parameters(), parameters()
    found = stepped(AdamW(ours, 0.01, (0.9, 0.95), 0.1), ours)
    expected = stepped(torch.optim.AdamW(theirs, 0.01, (0.9, 0.95), weight_decay=0.1), theirs)
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_steps_as_torchs_class_does_bit_for_bit(momentum: float, nesterov: bool):
    ours, theirs = parameters(), parameters()
    own = SGD(ours, 0.7, momentum, nesterov=nesterov)
    other = torch.optim.SGD(theirs, lr=0.7, momentum=momentum, nesterov=nesterov)
    assert all(map(torch.equal, stepped(own, ours), stepped(other, theirs)))
    for parameter, state in zip(theirs, own.state, strict=True):
        kept = {key: value for key, value in other.state[parameter].items() if value is not None}
        assert state.keys() == kept.keys()
        assert all(torch.equal(value, kept[key]) for key, value in state.items())


def test_without_contents_a_result_has_the_size_and_dtype_that_torch_gives_it():
    def results() -> list[Tensor]:
        a, b = torch.empty(6, device="meta"), torch.empty(6, device="meta", dtype=torch.float32)
        wide = torch.empty(6, device="meta", dtype=torch.float64)
        out = torch.empty(3, device="meta")
        made = [a + b, a - b / 3, a.add(b, alpha=2), torch.cat([a, b[:2]]), a * wide, wide + a[0]]
        made += [
            torch.zeros_like(wide),
            a.clone(),
            a[:, None] * b,
            torch.sub(a[:3], b[:3], out=out),
        ]
        a += b
        a[1:3] = b[1:3]
        return [*made, a, a.lerp_(b, 0.5), a.mul_(2).addcmul_(b, b, value=0.1), -a, a / a.norm()]

    expected = [(each.shape, each.dtype, each.device) for each in results()]
    with Contentless():
        found = [(each.shape, each.dtype, each.device) for each in results()]
    assert found == expected


def test_tensors_with_contents_are_computed_there_as_well():
    with Contentless():
        assert torch.equal(torch.ones(3).add_(torch.ones(3)), torch.full((3,), 2.0))
        assert torch.equal(torch.cat([torch.ones(1), torch.zeros(1)]), torch.tensor([1.0, 0.0]))


def test_neither_a_rehearsal_nor_an_optimizer_imports_torchs_compiler():
    program = """
import sys, torch
from torch import nn
from realrun.model.functional import SGD, AdamW
from realrun.model.memory import state_bytes
from sim.methods import METHODS
from sim.scenario import load
for name in METHODS:
    settings = [f"method.name={name}", "model.layer_parameters=[600, 400]", "run.rounds=3"]
    assert state_bytes(load(None, {"--step-time": "1s"}, settings), 0)[0]["optimizer"]
parameter = nn.Parameter(torch.zeros(2))
parameter.grad = torch.ones(2)
adam, sgd = AdamW([parameter], 0.1, (0.9, 0.9), 0.0), SGD([parameter], 0.1, 0.9, nesterov=True)
for optimizer in adam, sgd:
    optimizer.step()
assert "torch._dynamo" not in sys.modules
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
