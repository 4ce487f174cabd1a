"""Pictures: functions that take and return a matplotlib Axes; saved as the same bytes always."""

from sim.figures.pictures.causes import breakdown
from sim.figures.pictures.labels import as_it_is, labels_of, named, title_of
from sim.figures.pictures.palette import CAUSE_COLORS
from sim.figures.pictures.saving import save
from sim.figures.pictures.timeline import readable, timeline, title_of_trace
from sim.figures.pictures.utilization import BANDWIDTH, utilization

__all__ = [
    "BANDWIDTH",
    "CAUSE_COLORS",
    "as_it_is",
    "breakdown",
    "labels_of",
    "named",
    "readable",
    "save",
    "timeline",
    "title_of",
    "title_of_trace",
    "utilization",
]
