"""What a trace says: figures, where the time went, pictures.

evaluation: Every figure, computed from the trace and nothing else, in both runtimes alike.
breakdown: Where the time goes: every second of every worker has one cause.
causes: What the time of a run is spent on.
packed_runs: The same, and what was trained, of large runs whose rows are kept as columns.
traffic: Bytes on the wire: of which collectives, and as a function of time.
egress: Bytes that leave each site, in the evaluated rounds and in the whole run.
whole_periods: How much of the links' profile the evaluated rounds cover, where links vary.
throughput: Throughput as papers quote it: tokens per second and accelerator, and the share of peak
  used.
collective_model: The collective model in words: which algorithm, how many workers, bytes on the
  wire.
pictures: Pictures, one kind per file; functions that take and return a matplotlib Axes.
plots: What of them other code imports.
tornado: A tornado plot: levers as horizontal bars, the largest change of the time on top.
"""
