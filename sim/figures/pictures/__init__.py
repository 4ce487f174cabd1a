"""Pictures, drawn on a matplotlib Axes; one kind per file.

saving: A figure as a file: the same bytes always.
palette: Colors and markers.
labels: Varied values and titles as text.
utilization: Compute utilization against bandwidth.
causes: Where the time went, a bar per run.
memory: Bytes on an accelerator, a bar per worker.
quantities: Units, scales and ticks of columns on axes.
curves: A column against another: lines or bars.
heatmap: A column as the color of cells.
pareto: Two columns to be minimized, and the front.
marks: Names of points, written next to them where they cover nothing.
speedup: Speed-up, with the ideal line.
timeline: What every worker did and when.
traffic: What workers sent to each other, over time.
"""
