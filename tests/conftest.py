"""What holds for all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest
from hypothesis import settings
from support.command_line import Command, Ran
from support.thorough import examples

from sim.cli import main

# Several processes of tests share the cores: threads of one would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says nothing on a machine that others use, too.
settings.register_profile("bandwise", deadline=None, max_examples=examples(100))
settings.load_profile("bandwise")

# A shell lets what it starts in the background ignore Ctrl-C, and nohup the end of the terminal;
# so would the commands that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


LONG = (
    "test_readme.py",
    "test_docs.py",
    "test_checkpoint.py",
    "test_published.py",
    "test_validation.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: a process that starts one of them last is waited for."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def bandwise(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``bandwise(*arguments)`` runs a command in this process."""
    return _in_process("bandwise", main, capsys, monkeypatch)


@pytest.fixture
def realrun(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """``realrun(*arguments)`` is what starts the workers, in this process."""
    from realrun.cli.app import app

    return _in_process("realrun", app, capsys, monkeypatch)


def _in_process(
    program: str,
    main: Callable[[], object],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        return Ran(int(left.value.code or 0), captured.out, captured.err)

    return run
