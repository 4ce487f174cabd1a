"""A scenario's network on one machine: a namespace per worker, real rates, real latency.

``topology``   from a scenario to links, and what a machine can emulate
``devices``    the device in each
``switch``     the process that carries packets between them, in time
``check``      whether the network is what was asked for
``run``        all of it together, and workers in it
``control``    how a worker in a lab asks for another network
``commands``   any command, once per worker
``told``       what a rank's command is told: arguments, environment
``loop``       what commands print, send and end with, taken in until all have ended
``ends``       how they ended
``keeper``     the process in which commands are started, and with which they end
``keeper_process`` the same, seen from the process that starts it
``said``       what they print, line by line
``traffic``    what they send, second by second
``command_report``  how they ended and what they sent, as a report
"""

from realrun.lab.check import Checked
from realrun.lab.run import Lab, built
from realrun.lab.topology import Topology, not_emulated, topology

__all__ = ["Checked", "Lab", "Topology", "built", "not_emulated", "topology"]
