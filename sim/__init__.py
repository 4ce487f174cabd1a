"""Predict how long a distributed training run takes and how busy its accelerators are."""

from sim.version import __version__ as __version__
