"""The ranks of one launch run commands one after the other, and agree in between.

A command runs in a process of its own on every rank, which meets the others in a part of its own
of the store that this launch has. So it is as if it had been started by torchrun itself: whatever
becomes of it, the next one begins afresh.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from realrun.errors import AgreedError, PeerLostError, RunError
from realrun.processes.launch import PARENT
from realrun.processes.rendezvous import AGENT_STORE, PART, met, rank_and_workers
from sim.scenario import ScenarioError
from sim.storage.locks import LockedError
from sim.text.told import first_line

_TOLD = (ScenarioError, RunError, LockedError, ValueError, OSError)  # what is said in a line
_ASKED_EVERY_S = 30.0  # a connection that is idle for long may be dropped
_HEARD_S = 10.0


class Together:
    """All ranks of a launch, as one of them sees it.

    Parameters
    ----------
    timeout_s
        How long a rank is waited for, at first and after each command.

    Raises
    ------
    RunError
        If they do not meet.
    """

    def __init__(self, timeout_s: float) -> None:
        self.rank, self.workers = rank_and_workers()
        self._timeout_s = timeout_s
        self._store = met(timeout_s)

    def told(self, what: str, text: str) -> list[str]:
        """Tell rank 0 something, which all ranks do; return what they told, there alone.

        Raises
        ------
        PeerLostError
            If a rank does not tell it in time.
        """
        self._store.set(f"{what}/{self.rank}", text)
        if self.rank:
            return []
        found = []
        for rank in range(self.workers):
            key = f"{what}/{rank}"
            try:
                self._store.wait([key], timedelta(seconds=self._timeout_s))
            except RuntimeError as error:
                said = f"rank {rank} said nothing within {self._timeout_s:g} s ({what})"
                raise PeerLostError(said) from error
            found.append(self._store.get(key).decode())
        return found

    def decided(self, what: str, decide: Callable[[], Any]) -> Any:
        """Return on every rank what rank 0 decides, as JSON can hold it, however long that takes.

        Raises
        ------
        AgreedError
            On every rank, with the line of what went wrong on rank 0.
        PeerLostError
            If rank 0 is gone.
        """
        key = f"{what} decided"
        if self.rank == 0:
            try:
                decision = {"value": decide()}
            except _TOLD as error:
                decision = {"error": str(error) or first_line(error)}
            self._store.set(key, json.dumps(decision))
            self._heard(key)
        else:
            decision = json.loads(self._awaited(key))
            self._store.set(f"{key}/{self.rank}", "")
        if "error" in decision:
            raise AgreedError(decision["error"])
        return decision["value"]

    def _heard(self, key: str) -> None:
        """Wait until all ranks know: the store may end with this process."""
        others = [f"{key}/{rank}" for rank in range(1, self.workers)]
        with suppress(RuntimeError):  # one that is gone will not read it
            if others:
                self._store.wait(others, timedelta(seconds=_HEARD_S))

    def _awaited(self, key: str) -> str:
        try:
            while True:
                try:
                    self._store.wait([key], timedelta(seconds=_ASKED_EVERY_S))
                    return str(self._store.get(key).decode())
                except RuntimeError:
                    self._store.check([key])  # raises if the store is gone
        except RuntimeError as error:
            raise PeerLostError(f"rank {self.rank}: rank 0 is gone") from error

    def run(self, name: str, arguments: Sequence[str], printed: Path | None = None) -> list[int]:
        """Run ``python -m realrun`` with these arguments on every rank.

        Parameters
        ----------
        name
            Of no other command of this launch.
        printed
            Where rank 0 puts what it prints; None prints it.

        Returns
        -------
        list of int
            The status of every rank as subprocess has it, on rank 0; nothing elsewhere.

        Raises
        ------
        PeerLostError
            As :meth:`told`.
        """
        # Not what the launcher of this process has handed to it, like numbers of open files.
        kept = {key: value for key, value in os.environ.items() if not key.startswith("REALRUN")}
        environment = {
            **kept,
            AGENT_STORE: "True",  # this launch has the store, not the command's rank 0
            PART: name,
            PARENT: str(os.getpid()),
        }
        command = [sys.executable, "-m", "realrun", *arguments]
        sys.stdout.flush()
        if printed is None or self.rank:
            status = subprocess.run(command, env=environment).returncode
        else:
            with printed.open("wb") as file:
                status = subprocess.run(command, env=environment, stdout=file).returncode
        return [int(text) for text in self.told(name, str(status))]
