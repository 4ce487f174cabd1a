"""The decoder of quick_start under torch's fully_shard, as its documentation writes it.

``SCENARIO`` names the file that says model, data and training; losses and seconds per step of each
rank are written to ``OUT``. Nothing of realrun's runtime is used, but for its decoder and its data.
"""

import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from realrun.data.batches import open_data
from realrun.model import gpt
from sim.scenario import loaded

given = loaded(os.environ["SCENARIO"])
file, steps = given.sections, given.scenario.run.steps
assert isinstance(steps, int)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
config = gpt.GPTConfig.from_section(file.model)
model = torch.nn.Sequential(*gpt.GPT(config, seed=file.train.seed or 0).stages())
mesh = init_device_mesh("cpu", (world,))
for stage in model[1:-1]:
    fully_shard(stage, mesh=mesh)
fully_shard(model, mesh=mesh)  # the first and the last stage, which share the embedding
optimizer = torch.optim.AdamW(
    model.parameters(), lr=file.train.learning_rate, betas=(0.9, 0.95), weight_decay=0.1
)
data = open_data(
    file.data, vocabulary=config.vocabulary, context=config.context, workers=world, seed=0
)
sequences = int(given.scenario.workers[rank].machine.batch_tokens) // config.context
batches = data.batches(rank, sequences)
losses, ends = [], [time.monotonic()]
for _ in range(steps):
    inputs, targets = next(batches)
    loss = gpt.loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(float(loss.detach()))
    ends.append(time.monotonic())
path = Path(os.environ["OUT"]) / f"{rank}.json"
path.write_text(json.dumps({"losses": losses, "ends": ends}))
dist.destroy_process_group()
