"""The programs of one process on torch.distributed.

worker: Runs the programs of sim.methods on torch.distributed, in real time.
activities: What a program has started: a computation, a collective, another program.
shared: What the programs of one process share: model, limits, clock, groups, rows.
groups_ahead: Process groups of some ranks, made before a measured run begins.
clock: One time for all ranks, and the trace that rank 0 puts together from all of them.
"""
