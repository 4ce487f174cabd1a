"""torchft's DiLoCo: `torchft_diloco.py FRAGMENTS DELAY`, every fragment is sent every 4th step."""

import os
import sys
from datetime import timedelta

import torch
from model import Model, batch
from torchft import Manager, ProcessGroupGloo
from torchft.local_sgd import DiLoCo

fragments, delay = int(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
model = Model()
inner = torch.optim.AdamW(model.parameters(), lr=4e-4)
size = len(model.layers) // fragments
parts = [model.layers[size * place : size * (place + 1)] for place in range(fragments)]
outer = [torch.optim.SGD(part.parameters(), lr=0.7, momentum=0.9, nesterov=True) for part in parts]
manager = Manager(
    pg=ProcessGroupGloo(timeout=timedelta(seconds=60)),
    load_state_dict=model.load_state_dict,
    state_dict=model.state_dict,
    min_replica_size=int(os.environ["NUM_REPLICA_GROUPS"]),
    replica_id=f"replica_{os.environ['REPLICA_GROUP_ID']}",
    hostname=os.environ["HOST_ADDRESS"],
    use_async_quorum=False,
    init_sync=False,  # all replicas begin with the same weights
)
with DiLoCo(manager, parts, inner, outer, sync_every=4, fragment_sync_delay=delay):
    for _ in range(28):
        inner.zero_grad()
        model(batch()).square().mean().backward()
        inner.step()
manager.shutdown(wait=False)
