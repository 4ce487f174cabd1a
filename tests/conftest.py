"""What holds for all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long an example takes says nothing on a machine that others use, too.
settings.register_profile("bandwise", deadline=None)
settings.load_profile("bandwise")

# A shell lets what it starts in the background ignore Ctrl-C, and nohup the end of the terminal;
# so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
