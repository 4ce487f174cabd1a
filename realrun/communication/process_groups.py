"""A process group that its members make by themselves, and the thread that issues its calls.

`torch.distributed.new_group` takes part of all ranks. With ``use_local_synchronization=True`` the
members suffice, but in torch 2.13 the name by which they find each other then counts the process
groups that a rank has made so far: two members of which one has made more never find each other.
So here the name is ours.

To make one waits for all members, and one rank may make several: in its calling threads, ranks
that first call overlapping groups in different orders would wait for each other in a circle. So
each is made in a thread of its own, where its calls wait until it is there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

from sim.members import Members

_made: Counter[str] = Counter()  # by name; a process may carry out several runs


def store_of_all() -> Any:
    """Return the store by which all ranks have met, over a connection of its own.

    Of one connection several threads may not wait at once.
    """
    store: Any = c10d._get_default_store()
    return store.clone() if hasattr(store, "clone") else store  # which older torch lacks


def of_members(
    name: str, members: Members, timeout: timedelta, store: Any, backend: str | None = None
) -> Any:
    """Return a process group of some ranks, made by all of them and no other; blocks.

    Parameters
    ----------
    name
        The same at all members, and no other group's.
    members
        Whom it has; this rank is one of them.
    timeout
        For them to come, and then for each collective.
    store
        Shared by all ranks; no other thread waits for it.
    backend
        By default that of all ranks.

    Raises
    ------
    RuntimeError
        If a member does not come.
    """
    _made[name] += 1
    own_name: Any = f"{name} {_made[name]}"
    group, _ = c10d._new_process_group_helper(
        len(members),
        members.place(dist.get_rank()),
        list(members.ranks),
        backend or dist.get_backend(),
        store,
        own_name,
        timeout=timeout,
    )
    c10d._world.pg_group_ranks[group] = {rank: members.place(rank) for rank in members.ranks}
    return group


class Lane:
    """A process group, and a thread that carries out calls on it, one after the other.

    Parameters
    ----------
    make
        Gives the process group.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.process_group: Any = None  # until it is made
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A daemon: where a peer is lost, the process must not wait for the thread to end.
        self._thread = threading.Thread(target=self._serve, name="collectives", daemon=True)

    def open(self) -> Any:
        """Return the process group; the first call makes it."""
        if self.process_group is None:
            self.process_group = self._make()
        return self.process_group

    def opened(self) -> Future[Any]:
        """Have the process group made by the thread; the first call makes it."""
        made: Future[Any] = Future()

        def call() -> None:
            try:
                made.set_result(self.open())
            except Exception as error:
                made.set_exception(error)

        self.put(call)
        return made

    def put(self, call: Callable[[], None]) -> None:
        """Have something done after all that was put before; it raises nothing."""
        self._calls.put(call)
        if not self._thread.is_alive():
            self._thread.start()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def close(self) -> None:
        """Carry out what was put, and end the thread."""
        if self._thread.is_alive():
            self._calls.put(None)
            self._thread.join()
