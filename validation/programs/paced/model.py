"""The model that the programs import; a paced one, whose computation is sleep.

``PACED_STEP`` is the time of one forward and backward pass in seconds: a third of it forward. The
times at which forward passes began are written to ``PASSES``, a folder, by rank. Run by itself it
prints the seconds of one pass, without any communication.
"""

import atexit
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

LAYERS, WIDTH = 8, 362
_SECONDS = float(os.environ.get("PACED_STEP", "0.1"))
_passes: list[float] = []


class _Sleep(torch.autograd.Function):
    @staticmethod
    def forward(context, values):
        time.sleep(_SECONDS / 3 / LAYERS)
        return values.view_as(values)

    @staticmethod
    def backward(context, gradient):
        time.sleep(_SECONDS * 2 / 3 / LAYERS)
        return gradient


class Layer(torch.nn.Module):
    """A matrix, and the time that a layer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Multiply, and take time; backward, the time comes before the gradient."""
        return _Sleep.apply(self.matrix(values))


class Model(torch.nn.Module):
    """Layers one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*(Layer() for _ in range(LAYERS)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Note the time, and pass through all layers."""
        _passes.append(time.monotonic())
        return self.layers(values)


def batch() -> torch.Tensor:
    """Return the input of one micro-batch: shape [1, WIDTH]."""
    return torch.ones(1, WIDTH)


def _write() -> None:
    folder = os.environ.get("PASSES")
    if folder and _passes:
        rank = os.environ.get("REPLICA_GROUP_ID", os.environ["RANK"])
        (Path(folder) / f"{rank}.json").write_text(json.dumps(_passes))


if __name__ == "__main__":
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(24):
        optimizer.zero_grad()
        model(batch()).square().mean().backward()
        optimizer.step()
    times = [after - before for before, after in pairwise(_passes[4:])]
    sys.stdout.write(f"{median(times)}\n")
else:
    atexit.register(_write)
