"""Other processes of a command, and what may end it.

parallel: A function in other processes, none of which outlives this one.
cores: How many cores this process may use.
engines: A function over many items on Dask, Ray, or processes of this machine.
signals: Signals that ask a process to end: what it began ends first.
free_memory: What memory this machine has free, or the container that this process runs in.
"""
