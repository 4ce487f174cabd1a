"""Event files, which TensorBoard shows: ``tensorboard --logdir FOLDER``.

The horizontal axis ("step") is tokens. Points of a later step than where a run resumes are hidden
by TensorBoard itself when the new file begins, as its ``purge_step`` says.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Event files in a folder.

    Parameters
    ----------
    folder
        Made if it is not there. Curves that are in it end where this run begins.
    config
        What is shown under "text".
    tokens
        Where the run resumes; None: it begins.
    """

    note = ""

    def __init__(self, folder: Path, config: Mapping[str, Any], tokens: float | None) -> None:
        purged = 0 if tokens is None else round(tokens) + 1
        self._hook = threading.excepthook
        threading.excepthook = self._raised
        self._writer: Any = SummaryWriter(str(folder), purge_step=purged)
        if tokens is None:
            text = json.dumps(config, indent=1, default=str)
            self._writer.add_text("scenario", f"```\n{text}\n```", 0)
        self._writer.flush()

    def add(self, micro_batches: int, tokens: float, values: Mapping[str, float]) -> None:
        """Add a point to each of these curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, round(tokens))

    def flush(self) -> None:
        """Write what was added."""
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook

    def _raised(self, what: threading.ExceptHookArgs) -> None:
        """Print the traceback of a thread, unless it is the library's.

        What its thread raises, on a full disk for example, the next call raises as well.
        """
        if not type(what.thread).__module__.startswith("tensorboard."):
            self._hook(what)
