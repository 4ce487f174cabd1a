"""The model that the programs import; a real one, of the same tensors as the paced one.

The times at which forward passes began are written to ``PASSES``, a folder, by rank. Run by itself
it prints the seconds of one pass forward and backward, without any communication.
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

LAYERS, WIDTH, BATCH = 8, 362, 1024
_passes: list[float] = []


class Model(torch.nn.Module):
    """Matrices one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            *(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Note the time, and pass through all layers."""
        _passes.append(time.monotonic())
        return self.layers(values)


def batch() -> torch.Tensor:
    """Return the input of one micro-batch: shape [BATCH, WIDTH]."""
    return torch.ones(BATCH, WIDTH)


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
