"""PostLocalSGDOptimizer: parameters are averaged in every fourth step."""

import torch
import torch.distributed as dist
from model import Model, batch
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.optim import PostLocalSGDOptimizer

dist.init_process_group("gloo")
model = Model()
optimizer = PostLocalSGDOptimizer(
    optim=torch.optim.SGD(model.parameters(), lr=0.01),
    averager=PeriodicModelAverager(period=4, warmup_steps=0),
)
for _ in range(30):
    optimizer.zero_grad()
    model(batch()).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
