"""Start a script as one torchft replica group of one process: `torchft_replica.py SCRIPT ...`.

torchft expects of each replica group what torchrun gives it, a number of its own, and a lighthouse.
Here rank N of the launcher is replica group N, and rank 0 has the lighthouse as well.
"""

import os
import runpy
import socket
import sys
import time

from torch.distributed import TCPStore
from torchft.coordination import LighthouseServer

rank, replicas = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
head, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def own_address() -> str:
    """Return the address from which this process reaches rank 0."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect((head, port))
        return str(one.getsockname()[0])


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


meeting = TCPStore(head, port, is_master=rank == 0, wait_for_workers=False)
if rank == 0:
    lighthouse = LighthouseServer(
        bind="0.0.0.0:0", min_replicas=replicas, join_timeout_ms=60_000, quorum_tick_ms=10
    )
    meeting.set("lighthouse", f"http://{head}:{lighthouse.address().rpartition(':')[2]}")
address = own_address()
store_port = free_port()
store = TCPStore(address, store_port, is_master=True, wait_for_workers=False)
os.environ |= {
    "TORCHFT_LIGHTHOUSE": meeting.get("lighthouse").decode(),
    "REPLICA_GROUP_ID": str(rank),
    "NUM_REPLICA_GROUPS": str(replicas),
    "HOST_ADDRESS": address,
    "RANK": "0",
    "WORLD_SIZE": "1",
    "MASTER_ADDR": address,
    "MASTER_PORT": str(store_port),
}
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:  # the lighthouse and the first store are the others', too
    meeting.add("ended", 1)
    while rank == 0 and meeting.add("ended", 0) < replicas:
        time.sleep(0.05)
