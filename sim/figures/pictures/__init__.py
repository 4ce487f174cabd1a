"""Pictures, drawn on a matplotlib Axes; one kind per file.

saving: A figure as a file: the same bytes always.
palette: Colors and markers.
labels: Varied values and titles as text.
utilization: Compute utilization against bandwidth.
causes: Where the time went, a bar per run.
timeline: What every worker did and when.
"""
