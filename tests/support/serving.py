"""``bandwise serve`` as a process of its own, at any free port, ended by Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def served() -> Iterator[tuple[int, str]]:
    """Give the process and the address; afterwards it must have ended, without a traceback."""
    command = [sys.executable, "-m", "sim", "serve", "--no-open", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        try:
            assert found, line
            yield process.pid, found[0]
        finally:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[1]
    assert process.returncode in (0, 130), said
    assert "Traceback" not in said, said
