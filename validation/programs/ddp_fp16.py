"""DistributedDataParallel whose gradients travel in fp16, by torch's communication hook."""

import torch
import torch.distributed as dist
from model import Model, batch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
ddp = DistributedDataParallel(Model())
ddp.register_comm_hook(None, fp16_compress_hook)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
for _ in range(14):
    optimizer.zero_grad()
    ddp(batch()).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
