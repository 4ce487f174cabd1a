"""Which ranks have not come to a collective: asked only when one has failed.

A backend says that time is up, not who was late. Every process has a thread that waits for a
question in the store by which the processes met, over a connection of its own, and answers how
often its program has called each group. A rank that has failed asks all others. The one that has
called the collective too seldom is late; the one that does not answer is stopped, cut off or gone.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from time import monotonic
from typing import Any

from torch.distributed import DistError

from realrun.errors import ranks
from sim.members import Members, named

CONTROL = "control"  # the group of small messages, apart from what is measured
_ANSWER_S = 3.0
_LEAVE = "leave"
_LONG = timedelta(minutes=5)  # a connection that is idle for longer may be dropped
_LOST = (RuntimeError, DistError)  # the store's own; also where who keeps it is gone

Calls = Mapping[str, int]


class RollCall:
    """Asks the other ranks how far they are, and answers them.

    Parameters
    ----------
    rank, workers
        This rank of how many.
    store
        Shared by all, for short questions.
    connect
        Opens the same store once more, for the thread that waits.
    keeper
        Who keeps the store, in words.
    """

    def __init__(
        self,
        rank: int,
        workers: int,
        store: Any,
        connect: Callable[[], Any],
        keeper: str = "rank 0",
    ) -> None:
        self._keeper = keeper
        self._rank, self._workers, self._store = rank, workers, store
        self._connect = connect
        self._programs: Calls = {}
        self._control = 0
        self._thread = threading.Thread(target=self._answer, name="roll call", daemon=True)
        self._thread.start()

    def follow(self, calls: Calls) -> None:
        """Answer with these numbers of calls by group, which a run counts up."""
        self._programs = calls

    def count_control(self) -> int:
        """Return the number of this rank's next call in the control group."""
        self._control += 1
        return self._control - 1

    def close(self) -> None:
        """End the thread."""
        with suppress(*_LOST):
            self._ask(self._rank, _LEAVE)
            self._thread.join(_ANSWER_S)

    # -- answering -----------------------------------------------------------------------
    def _answer(self) -> None:
        with suppress(OSError, *_LOST):  # the store's process has ended: nobody asks
            store, number = self._connect(), 1
            while True:
                key = f"asked/{self._rank}/{number}"
                try:
                    store.wait([key], _LONG)
                except _LOST:
                    store.check([key])  # raises if the store is gone, not if nobody has asked
                    continue
                if store.get(key).decode() == _LEAVE:
                    return
                calls = {**self._programs, CONTROL: self._control}
                store.set(f"answer/{self._rank}/{number}", json.dumps(calls))
                number += 1

    # -- asking --------------------------------------------------------------------------
    def late(self, group: str, call: int, waited_s: float) -> str:
        """Say in a clause who has not come to a call of a group; "" if nobody can be asked.

        It takes some seconds where a rank does not answer.
        """
        answers: dict[int, Calls] = {}
        members = named(group, self._workers)
        ended = threading.Event()

        def ask() -> None:
            with suppress(*_LOST):
                self._answers(answers, members)
                ended.set()

        # In a thread: who keeps the store may be the one that is stopped, and never answers.
        asking = threading.Thread(target=ask, name="asking", daemon=True)
        asking.start()
        asking.join(_ANSWER_S + 1)
        if not ended.is_set() and asking.is_alive():
            return f"; after {waited_s:.1f} s {self._keeper} does not answer: stopped or cut off"
        if not ended.is_set():
            return ""  # the store is gone
        called = {rank: calls.get(group, 0) for rank, calls in answers.items()}
        return self._clause(called, members, call, waited_s)

    def _ask(self, rank: int, question: str = "how far") -> str:
        number = self._store.add(f"asked/{rank}", 1)
        self._store.set(f"asked/{rank}/{number}", question)
        return f"answer/{rank}/{number}"

    def _answers(self, answers: dict[int, Calls], members: Members) -> None:
        keys = {rank: self._ask(rank) for rank in members.ranks if rank != self._rank}
        end = monotonic() + _ANSWER_S
        for rank, key in keys.items():
            left = timedelta(seconds=max(0.01, end - monotonic()))
            try:
                self._store.wait([key], left)
            except _LOST:
                if not self._store.check(["arrived/0"]):  # raises if the store is gone
                    raise
                continue
            answers[rank] = json.loads(self._store.get(key))

    def _clause(self, called: dict[int, int], members: Members, call: int, waited_s: float) -> str:
        others = [rank for rank in members.ranks if rank != self._rank]
        silent = [rank for rank in others if rank not in called]
        late = [rank for rank in called if called[rank] <= call]
        parts = []
        if silent:
            do = "does" if len(silent) == 1 else "do"
            parts.append(f"{ranks(silent)} {do} not answer: stopped, cut off or ended")
        if late:
            have = "has" if len(late) == 1 else "have"
            parts.append(f"{ranks(late)} {have} not called it: still computing, or stuck")
        if not parts:
            every = "member" if members.name else "rank"
            parts.append(f"every {every} has called it: a connection is slow or cut")
        return f"; after {waited_s:.1f} s " + ", and ".join(parts)
