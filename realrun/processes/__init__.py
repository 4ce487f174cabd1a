"""How a run's processes start, meet and end.

launch: The workers of one machine, where torchrun has not started them: one process each.
forks: Workers as forks of one process that has imported torch: many cost little more than one.
namespaces: Network namespaces without names: they end with the last process or file that is in
  them.
rendezvous: How the processes of a run come together, and how they agree on what went wrong.
roll_call: Which ranks have not come to a collective: asked only when one has failed.
processors: How long the processors of a machine have computed, for all processes together.
placement: Where a run takes place: which processes, on which devices, and what carries what they
  send.
"""
