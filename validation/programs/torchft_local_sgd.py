"""torchft's LocalSGD: parameters are averaged after every fourth step."""

import os
from datetime import timedelta

import torch
from model import Model, batch
from torchft import Manager, ProcessGroupGloo
from torchft.local_sgd import LocalSGD

torch.manual_seed(0)
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
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
with LocalSGD(manager, model, optimizer, sync_every=4):
    for _ in range(28):
        optimizer.zero_grad()
        model(batch()).square().mean().backward()
        optimizer.step()
manager.shutdown(wait=False)
