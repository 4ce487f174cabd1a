"""The command ``bandwise``: one command per file.

Results go to standard output, progress and errors to standard error. Exit status: 0, 1 when a
check failed, 2 for a mistake of the user's (one line says which), 130 after Ctrl-C. Nothing
heavy is imported here: a command imports what it needs when it runs.
"""

from sim.cli.app import app, main

__all__ = ["app", "main"]
