"""DistributedDataParallel with two micro-batches, of which ``no_sync`` keeps the first local."""

import torch
import torch.distributed as dist
from model import Model, batch
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
ddp = DistributedDataParallel(Model())
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
for _ in range(14):
    optimizer.zero_grad()
    with ddp.no_sync():
        ddp(batch()).square().mean().backward()
    ddp(batch()).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
