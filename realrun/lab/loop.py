"""The loop of a lab that runs commands: what they print, send and end with."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from math import isnan
from time import monotonic

from realrun.errors import RunError
from realrun.lab.ends import Ended, Ran
from realrun.lab.keeper_process import lost
from realrun.lab.run import Lab
from realrun.lab.said import Lines
from realrun.lab.traffic import SAMPLE_S, Traffic
from realrun.processes.processors import busy_s

_GRACE_S = 2.0  # for the others' reasons, after one has failed
_LEAST_S = 1.0  # the system counts in hundredths of a second


class Running:
    """The loop: what the commands print, send and end with."""

    def __init__(self, lab: Lab, program: str, keeper: subprocess.Popen[bytes]) -> None:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        self._lab, self._program, self._keeper = lab, program, keeper
        self._orders, self._answers = keeper.stdin, keeper.stdout.fileno()
        self._ends: dict[int, Ended] = {}
        self._said = b""
        self._ending = False
        self._refused = ""
        self._open = selectors.DefaultSelector()
        self._open.register(self._answers, selectors.EVENT_READ, None)

    def reads(self, reader: int, lines: Lines) -> None:
        """Hand on what comes from a pipe."""
        os.set_blocking(reader, False)
        self._open.register(reader, selectors.EVENT_READ, lines)

    def begin(self, asked: bytes) -> None:
        """Tell the keeper what to run."""
        self.traffic = Traffic(self._lab.topology.workers, self._lab.delivered(), monotonic())
        self._busy_s = busy_s()
        with suppress(BrokenPipeError):  # it ends: its answer says how
            self._orders.write(asked)
            self._orders.flush()

    def to_the_end(self) -> Ran:
        """Wait for all; see that the others end where one has failed."""
        failed_at, trouble = None, None
        while self._turn():
            now = monotonic()
            if failed_at is None and any(end.status for end in self._ends.values()):
                failed_at = now
            if self._refused or (failed_at is not None and now - failed_at >= _GRACE_S):
                self.end()
            if trouble is None and not self._ending and (trouble := self._lab.trouble()):
                self.end()
        self.traffic.sample(self._lab.delivered(), monotonic())
        busy, seconds = busy_s() - self._busy_s, self.traffic.seconds
        if self._refused:
            raise RunError(self._refused)
        workers = self._lab.topology.workers
        if len(self._ends) < workers and not self._ending:
            trouble = lost(self._keeper.wait())
        for rank in range(workers):  # killed with the keeper
            self._ends.setdefault(rank, Ended(rank, -9, self.traffic.seconds, by_lab=True))
        ends = [self._ends[rank] for rank in range(workers)]
        known = seconds >= _LEAST_S and not isnan(busy)
        return Ran(ends, self.traffic, trouble, busy / seconds if known else None)

    def end(self) -> None:
        """Have the keeper end all that it has started."""
        self._ending = True
        with suppress(OSError):
            self._orders.close()

    def drain(self) -> None:
        """End all, and hand on the last that they have to say."""
        self.end()
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Do what there is to do; return whether there is more to come."""
        left = self.traffic.last + SAMPLE_S - monotonic()
        for key, _ in self._open.select(max(0.0, min(left, SAMPLE_S / 4))):
            self._read(key.fd, key.data)
        if monotonic() >= self.traffic.last + SAMPLE_S:
            self.traffic.sample(self._lab.delivered(), monotonic())
        return bool(self._open.get_map())

    def _read(self, reader: int, lines: Lines | None) -> None:
        try:
            part = os.read(reader, 1 << 16)
        except BlockingIOError:
            return
        if lines is not None:
            lines.take(part)
        else:
            self._hear(part)
        if not part:
            self._open.unregister(reader)

    def _hear(self, part: bytes) -> None:
        *whole, self._said = (self._said + part).split(b"\n")
        for line in whole:
            self._note(json.loads(line))

    def _note(self, told: Mapping[str, object]) -> None:
        if "refused" in told:
            self._refused = self._refused or f"{self._program}: {told['refused']}"
        elif "left" in told:
            for rank, name in told["left"]:  # type: ignore[attr-defined]
                self._ends[rank].left.append(name)
        else:
            rank, status = int(told["rank"]), int(told["status"])  # type: ignore[call-overload]
            seconds = float(told["seconds"])  # type: ignore[arg-type]
            self._ends[rank] = Ended(rank, status, seconds, by_lab=self._ending)
