"""Predict how long a distributed training run takes and how busy its accelerators are."""

__version__ = "0.1.0"
