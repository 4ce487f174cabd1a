"""DistributedDataParallel with its default buckets."""

import torch
import torch.distributed as dist
from model import Model, batch
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
ddp = DistributedDataParallel(Model())
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
for _ in range(14):
    optimizer.zero_grad()
    ddp(batch()).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
