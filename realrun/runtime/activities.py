"""What a program has started: a computation, a collective, another program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

from realrun.communication.groups import Collective
from realrun.device import Host
from realrun.errors import PeerLostError
from sim.text.told import first_line


class Starter(Protocol):
    """What an activity asks of the worker that started it."""

    device: Host

    def drain(self) -> None:
        """Let the host wait for what the device still has to do."""

    def paced_drain(self) -> None:
        """The same, where sleeps stand for computation."""

    def look(self, what: str, answer: float) -> float:
        """Log an observation; where one was logged before, answer that."""

    def lost(
        self, operation: str, group: str, call: int, why: str, waited_s: float
    ) -> PeerLostError:
        """Return what to raise where a collective has failed."""


class Activity:
    """Something started: a computation (which has ended), a collective or a spawned program."""

    def __init__(self, worker: Starter, group: str = "", call: int = -1) -> None:
        self._worker = worker
        self.group = group
        self.call = call

    @property
    def done(self) -> bool:
        """Whether it has ended; a look that is logged.

        The host waits for the device first: it would run ahead and look too often.
        """
        self._worker.drain()
        return bool(self._worker.look(f"done {self.group} {self.call}", float(self._ended())))

    def _ended(self) -> bool:
        return True

    def wait(self) -> None:
        """Block until it has ended; its result is then in place."""


class Communication(Activity):
    """A collective under way."""

    def __init__(self, worker: Starter, group: str, call: int, collective: Collective) -> None:
        super().__init__(worker, group, call)
        self._collective = collective
        self._began = perf_counter()

    def _ended(self) -> bool:
        return self._collective.ended()

    def wait(self) -> None:
        """Block until it has ended, and put the result in place.

        Raises
        ------
        PeerLostError
            With the collective that failed.
        """
        try:
            self._collective.wait()
        except RuntimeError as error:
            operation, why = self._collective.operation, first_line(error)
            waited_s = perf_counter() - self._began
            raise self._worker.lost(operation, self.group, self.call, why, waited_s) from error
        self._collective.place()
        self._worker.paced_drain()


class Spawned(Activity):
    """A program in a thread of its own."""

    def __init__(self, worker: Starter, group: str, call: int, run: Callable[[], None]) -> None:
        super().__init__(worker, group, call)
        self._device = worker.device
        self._error: BaseException | None = None
        begin = self._device.mark()

        def guarded() -> None:
            try:
                with self._device.in_background(begin):
                    run()
                    self._end = self._device.mark()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=guarded, name=f"{group}#{call}", daemon=True)
        self._thread.start()

    def _ended(self) -> bool:
        if self._thread.is_alive():
            return False
        return self._error is not None or self._device.passed(self._end)

    def wait(self) -> None:
        """Block until it has ended; raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._device.after(self._end)
