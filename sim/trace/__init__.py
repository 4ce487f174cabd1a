"""What happened in a run, simulated or measured.

table: The table of what happened: one row per operation, collective, wait and observation.
row: One row of a trace, and what its columns hold.
packed: The rows of a large run, kept as columns: a quarter of the memory that objects take.
classes: The trace of a large run in short, and rows of some workers.
files: Traces as files: Parquet and CSV to read back, Chrome trace events to look at.
perfetto: Chrome trace events for a timeline viewer such as Perfetto.
layers: Layers as traces write them: which of a model's layers an operation or a buffer is about.
"""
