"""How the processes of a run come together, and how they agree on what went wrong.

Who is who comes from the environment that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK,
LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT); so does :mod:`realrun.processes.launch`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from realrun.errors import AgreedError, PeerLostError, RunError
from realrun.processes.launch import STORE
from realrun.processes.roll_call import CONTROL, RollCall
from sim.scenario import ScenarioError
from sim.storage.locks import LockedError
from sim.text.told import first_line

_T = TypeVar("_T")
# What is said in a line; anything else is a fault of ours.
_TOLD = (ScenarioError, RunError, LockedError, ValueError, OSError, MemoryError)
_LATE_S = 5.0  # after which torch has had its own timeout
AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"  # torchrun's: whether it keeps the store
#: Which of several commands of one launch this is: each has a part of the store of its own.
PART = "REALRUN_PART"


@dataclass(frozen=True)
class World:
    """The processes of a run, as one of them sees it.

    ``control`` is a group for small messages on the CPU, apart from all that is measured;
    ``store`` what :func:`met` returned; ``roll`` tells who is late where a collective fails.
    """

    rank: int
    workers: int
    local_rank: int
    local_workers: int
    control: Any
    store: Any = None
    roll: RollCall | None = None

    def gathered(self, value: Any) -> list[Any]:
        """Return what every rank gives, in their order."""
        values: list[Any] = [None] * self.workers
        with self.exchanging():
            dist.all_gather_object(values, value, group=self.control)
        return values

    def take_from_first(self, values: Tensor) -> None:
        """Overwrite a tensor on the CPU with that of rank 0."""
        with self.exchanging():
            dist.broadcast(values, src=0, group=self.control)

    def sum_up(self, values: Tensor) -> None:
        """Overwrite a tensor on the CPU with the sum over all ranks."""
        with self.exchanging():
            dist.all_reduce(values, group=self.control)

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Exchange something over the control group, which all ranks do.

        Raises
        ------
        PeerLostError
            Where that fails, with the ranks that are late.
        """
        call = 0 if self.roll is None else self.roll.count_control()
        began = monotonic()
        try:
            yield
        except RuntimeError as error:
            why = first_line(error) + self.late(CONTROL, call, monotonic() - began)
            raise PeerLostError(f"rank {self.rank}: a peer is gone: {why}") from error

    def late(self, group: str, call: int, waited_s: float) -> str:
        """Say in a clause who has not come to a call of a group, where that can be found out."""
        return "" if self.roll is None else self.roll.late(group, call, waited_s)

    def first_to_say(self, what: str) -> bool:
        """Whether no other rank has said this before; without a store every rank is the first."""
        return self.store is None or self.store.add(f"said/{what}", 1) == 1

    def agreed(self, prepare: Callable[[], _T]) -> _T:
        """Run what may fail on some ranks only; if it does anywhere, it does everywhere.

        Raises
        ------
        AgreedError
            With what the first rank that failed had to say, and its number where the others
            did not fail alike.
        """
        failure, result = None, None
        try:
            result = prepare()
        except _TOLD as error:
            failure = str(error) or first_line(error)
        failures = self.gathered(failure)
        said = [(rank, text) for rank, text in enumerate(failures) if text is not None]
        if said:
            rank, text = said[0]
            alike = len({text for _, text in said}) == 1 and len(said) == self.workers
            known = alike or f"rank {rank}" in text
            raise AgreedError(text if known else f"rank {rank}: {text}")
        return result  # type: ignore[return-value]


def rank_and_workers() -> tuple[int, int]:
    """Return this process's number and how many there are, before they have met."""
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def met(timeout_s: float) -> Any:
    """Meet the other processes; return the store that they share.

    Raises
    ------
    RunError
        If rank 0 cannot be reached or its port is taken.
    PeerLostError
        If a rank does not come; rank 0 says which.
    """
    rank, workers = rank_and_workers()
    place = ":".join(_address())
    try:
        store = _shared_store(timeout_s, keep=rank == 0 and not _kept_by_torchrun())
    except (RuntimeError, OSError) as error:
        raise RunError(_no_store(rank, place, timeout_s, error)) from error
    _wait_for_all(store, rank, workers, timeout_s, place)
    return store


def _address() -> tuple[str, str]:
    """Return where the store is: host and port."""
    return os.environ.get("MASTER_ADDR", "127.0.0.1"), os.environ.get("MASTER_PORT", "29500")


def _kept_by_torchrun() -> bool:
    """Whether torchrun keeps the store, which then lasts over restarts; else rank 0 does."""
    return os.environ.get(AGENT_STORE) == "True"


def _shared_store(timeout_s: float, *, keep: bool = False) -> Any:
    host, port = _address()
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    part = os.environ.get(PART, "")
    return PrefixStore(f"realrun/{attempt}/{part}", _opened(host, int(port), keep, timeout_s))


@contextmanager
def joined(backend: str, timeout_s: float, store: Any = None) -> Iterator[World]:
    """Form a group with the other processes, and leave it again.

    Parameters
    ----------
    backend
        gloo or nccl, for what is measured.
    timeout_s
        For the meeting, and afterwards for every collective.
    store
        What :func:`met` returned; without it the processes meet first.

    Raises
    ------
    RunError
        As :func:`met` does, and if the backend cannot connect the processes.
    """
    store = met(timeout_s) if store is None else store
    timeout = timedelta(seconds=timeout_s)
    rank, workers = rank_and_workers()
    try:
        dist.init_process_group(
            backend,
            store=PrefixStore("run", store),
            rank=rank,
            world_size=workers,
            timeout=timeout,
        )
        control = dist.new_group(backend="gloo", timeout=timeout)
    except RuntimeError as error:
        raise RunError(_no_group(rank, error)) from error
    roll = RollCall(
        rank,
        workers,
        store,
        lambda: _shared_store(timeout_s),
        "torchrun on the first machine" if _kept_by_torchrun() else "rank 0",
    )
    yield World(
        rank,
        workers,
        int(os.environ.get("LOCAL_RANK", rank)),
        int(os.environ.get("LOCAL_WORLD_SIZE", workers)),
        control,
        store,
        roll,
    )
    # Not where something failed: threads may be in collectives, and would take the process down
    # before it has said why.
    roll.close()
    dist.destroy_process_group()


def _opened(host: str, port: int, first: bool, timeout_s: float) -> Any:
    """Open the store; in a thread, since torch waits for ever where someone else answers."""
    results: list[Any] = []
    handed = os.environ.get(STORE)

    def attempt() -> None:
        timeout = timedelta(seconds=timeout_s)
        try:
            store = TCPStore(
                host,
                port,
                is_master=first,
                timeout=timeout,
                wait_for_workers=False,
                # Else it listens at every address of this machine, and asks nobody who he is.
                master_listen_fd=int(handed) if first and handed is not None else None,
            )
        except (RuntimeError, OSError, ValueError) as error:
            results.append(error)
        else:
            results.append(store)

    thread = threading.Thread(target=attempt, name="meeting", daemon=True)
    thread.start()
    thread.join(timeout_s + _LATE_S)
    if not results:
        raise OSError("what listens there is no store")
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def _no_group(rank: int, error: Exception) -> str:
    card = os.environ.get("GLOO_SOCKET_IFNAME")
    if card and "Unable to find address" in str(error):
        return (
            f"rank {rank}: GLOO_SOCKET_IFNAME={card}: no such network card on this machine, or "
            "it has no address; name one that it has"
        )
    return f"rank {rank}: the ranks cannot connect: {first_line(error)}"


def _no_store(rank: int, place: str, timeout_s: float, error: Exception) -> str:
    text = str(error)
    if "EADDRINUSE" in text or "ddress already in use" in text:
        return (
            f"rank {rank}: port {place.rpartition(':')[2]} is in use on this machine; "
            "give another MASTER_PORT (torchrun: --master-port)"
        )
    return f"rank {rank}: rank 0 could not be reached at {place} within {timeout_s:g} s"


def _wait_for_all(store: Any, rank: int, workers: int, timeout_s: float, place: str) -> None:
    """Wait until every rank has come; rank 0 counts, and tells who is missing."""
    store.set(f"arrived/{rank}", "yes")
    end = monotonic() + timeout_s
    if rank == 0:
        missing = []
        for other in range(1, workers):
            left = max(0.01, end - monotonic())
            try:
                store.wait([f"arrived/{other}"], timedelta(seconds=left))
            except RuntimeError:
                missing.append(str(other))
        store.set("missing", ", ".join(missing))
        if missing:
            raise RunError(
                f"rank {', '.join(missing)} of {workers} did not arrive at {place} within "
                f"{timeout_s:g} s"
            )
        return
    try:
        # Rank 0 waits as long, and has something to say.
        store.wait(["missing"], timedelta(seconds=2 * timeout_s + 5))
        missing = store.get("missing").decode()
    except RuntimeError as error:
        raise PeerLostError(f"rank {rank}: lost rank 0 at {place} while meeting") from error
    if missing:
        raise PeerLostError(f"rank {rank}: rank {missing} did not arrive")
