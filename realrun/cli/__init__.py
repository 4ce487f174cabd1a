"""``realrun``: train for real what ``bandwise simulate`` predicts. One command per file."""

from realrun.cli.app import main

__all__ = ["main"]
