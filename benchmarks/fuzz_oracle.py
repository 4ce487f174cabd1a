"""Whether a command took an input well: it answered, or refused it in one line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fuzz_inputs import Input

CPU_SECONDS = 10
CPU_SECONDS_OF_A_PLAN = 40  # it simulates dozens of settings
MEMORY_BYTES = 2 * 2**30


_EXPECTED = re.compile(r"bandwise: |.*: \d+ of \d+ runs$")  # messages, and progress


class TookTooLong(BaseException):
    """An input has taken all the time that one may take."""


@dataclass(frozen=True)
class Outcome:
    """``kind``: answered, refused, or what went wrong; ``detail`` says where."""

    kind: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.kind not in ("answered", "refused")


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Give what runs a limit of processor time; raise :class:`TookTooLong` beyond."""

    def stop(*_: object) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def limit_memory() -> None:
    """Let this process have 2 GiB on top of what it has now: beyond, MemoryError."""
    status = Path("/proc/self/status").read_text()
    has = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    most = has * 1024 + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def outcome(asked: Input) -> Outcome:
    """Run an input in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for name, text in asked.files.items():
            Path(name).write_bytes(text.encode("latin-1", "replace"))
        plan = asked.kind == "plan"
        limit = CPU_SECONDS_OF_A_PLAN if plan else CPU_SECONDS
        return judged(lambda: _run(asked.arguments), limit)


def judged(run: Callable[[], Outcome], seconds: float = CPU_SECONDS) -> Outcome:
    """Return an outcome, or how it failed to come about."""
    try:
        with limited(seconds):
            return run()
    except TookTooLong as error:
        return Outcome("too long", _place(error))
    except MemoryError as error:
        return Outcome("too large", _place(error))
    except Exception as error:
        return Outcome("traceback", f"{type(error).__name__}: {str(error)[:200]} {_place(error)}")


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/sim/" in f.filename or "/realrun/" in f.filename] or frames
    return f"at {Path(ours[-1].filename).name}:{ours[-1].name}" if ours else ""


def _run(arguments: tuple[str, ...]) -> Outcome:
    if arguments[0] == "load_study":
        return _loaded(arguments[1])
    from sim.cli import main

    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, ["bandwise", *arguments]
    status: Any = 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("always")
            main()
    except SystemExit as end:
        status = end.code or 0
    finally:
        sys.argv = argv
    return _verdict(status, out.getvalue(), err.getvalue(), "--json" in arguments)


def _loaded(name: str) -> Outcome:
    from sim.output.errors import as_line
    from sim.scenario import load_study

    try:
        load_study(name)
    except Exception as error:
        line = as_line(error)
        if line is None:
            raise
        return _verdict(2, "", f"bandwise: error: {line}\n", json_asked=False)
    return Outcome("answered")


def _verdict(status: Any, out: str, err: str, json_asked: bool) -> Outcome:
    if "Traceback (most recent call last)" in err:
        return Outcome("traceback", err[-300:])
    if "Warning:" in err:
        return Outcome("warning", err[:300])
    if status == 0:
        if json_asked and out.startswith("{"):
            json.loads(out, parse_constant=_no_number)
        return Outcome("answered")
    if status not in (1, 2):
        return Outcome("status", f"{status}: {err[-200:]}")
    lines = [line for line in err.split("\n") if line.startswith("bandwise: error:")]
    rest = [line for line in err.split("\n") if line and not _EXPECTED.match(line)]
    text = lines[0].removeprefix("bandwise: error:").strip() if lines else ""
    if len(lines) != 1 or rest or not text:
        return Outcome("not one line", err[:300])
    if not text.isprintable():
        return Outcome("control characters", repr(text[:200]))
    if len(text) > 2000:
        return Outcome("endless line", text[:200])
    return Outcome("refused")


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def smaller(asked: Input, seconds: float = 20.0) -> Input:
    """Leave out arguments and lines of files as long as it fails in the same way."""
    wanted = _signature(outcome(asked))
    until = time.monotonic() + seconds

    def fails(candidate: Input) -> bool:
        return time.monotonic() < until and _signature(outcome(candidate)) == wanted

    for name in asked.files:
        size = 1 << (asked.files[name].count("\n") + 1).bit_length()
        while size and time.monotonic() < until:
            lines = asked.files[name].split("\n")
            for at in range(len(lines) - 1, -1, -size):
                shorter = lines[: max(0, at - size + 1)] + lines[at + 1 :]
                candidate = replace(asked, files={**asked.files, name: "\n".join(shorter)})
                if len(shorter) < len(lines) and fails(candidate):
                    asked, lines = candidate, shorter
            size //= 2
    for at in range(len(asked.arguments) - 1, 0, -1):
        candidate = replace(asked, arguments=asked.arguments[:at] + asked.arguments[at + 1 :])
        if fails(candidate):
            asked = candidate
    return asked


def _signature(found: Outcome) -> tuple[str, str, str]:
    words = found.detail.split(" ")
    return found.kind, words[0], words[-1]


def quiet_environment() -> None:
    """Nothing may open a window or use more processors than this process."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
