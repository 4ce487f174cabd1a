"""A scenario's network on one machine: a namespace per worker, real rates, real latency.

``topology``   from a scenario to links, and what a machine can emulate
``devices``    the device in each
``switch``     the process that carries packets between them, in time
``check``      whether the network is what was asked for
``run``        all of it together, and workers in it
``control``    how a worker in a lab asks for another network
"""

from realrun.lab.check import Checked
from realrun.lab.run import Lab, built
from realrun.lab.topology import Topology, not_emulated, topology

__all__ = ["Checked", "Lab", "Topology", "built", "not_emulated", "topology"]
