"""A function over many items on somebody else's engine: Dask, Ray, or processes of this machine.

Each adapter uses the engine's own interface for results as they come, and hands it a bounded number
of items: neither items nor results pile up here, however many there are. An engine gives what a
lost worker had to another one; an item that keeps killing its worker ends the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, Protocol, TypeVar

from sim.processes.parallel import unordered

T = TypeVar("T")
R = TypeVar("R")

BACKENDS = ("local", "dask", "ray")
_AHEAD = 4  # items per thread of the engine that are handed out
_LEAST_AHEAD = 16
_ATTEMPTS = 3  # of an item whose worker was lost
_PATIENCE_S = 20


class EngineError(Exception):
    """An engine is not installed or is not reached; one line says which and why."""


class EngineLostError(EngineError):
    """An engine has given up while it computed."""


class Engine(Protocol):
    """Yields ``function(item)`` for every item, as they become ready."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterator[R]:
        """Yield the results."""
        ...


@contextmanager
def engine(backend: str, address: str | None = None, jobs: int = 1) -> Iterator[Engine]:
    """Open an engine, and close the connection to it at the end.

    Parameters
    ----------
    backend
        One of ``BACKENDS``.
    address
        Of Dask's scheduler ("tcp://10.0.0.1:8786") or of Ray ("10.0.0.1:6379"; by default the
        cluster that runs on this machine).
    jobs
        Processes, for "local".

    Raises
    ------
    EngineError
        If it is not installed or not reached.
    """
    if backend == "local":
        yield partial(_local, jobs)
    elif backend == "dask":
        yield from _dask_client(address)
    else:
        yield from _ray_cluster(address)


def _local(jobs: int, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    return unordered(function, items, jobs) if jobs > 1 else map(function, items)


def _dask_client(address: str | None) -> Iterator[Engine]:
    try:
        from distributed import Client
    except ImportError:
        raise EngineError("needs Dask: pip install 'bandwise[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it says, we say in a line
    try:
        client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise EngineError(f'no Dask scheduler answers at "{address}" ({reason})') from error
    with client:
        yield partial(_by_dask, client)


def _by_dask(
    client: Any, function: Callable[[T], R], items: Iterable[T]
) -> Generator[R, None, None]:
    from distributed import KilledWorker, as_completed
    from distributed.client import FutureCancelledError

    remaining = iter(items)
    submit = partial(client.submit, function, pure=False)  # the same item may be meant twice
    ahead = max(_LEAST_AHEAD, _AHEAD * sum(client.nthreads().values()))
    running = as_completed(map(submit, islice(remaining, ahead)), loop=client.loop)
    try:
        for future in running:
            result = future.result()
            future.release()
            for item in islice(remaining, 1):
                running.add(submit(item))
            yield result
    except (KilledWorker, FutureCancelledError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise EngineLostError(f"Dask has given up ({reason})") from error
    finally:
        client.cancel(list(running.futures))


def _ray_cluster(address: str | None) -> Iterator[Engine]:
    try:
        import ray
    except ImportError:
        raise EngineError("needs Ray: pip install 'bandwise[ray]'") from None
    try:
        ray.init(address or "auto", log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        where = f'at "{address}"' if address else "on this machine"
        raise EngineError(f"no Ray cluster answers {where} ({reason})") from error
    try:
        yield partial(_by_ray, ray)
    finally:
        ray.shutdown()


def _by_ray(ray: Any, function: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    remaining = iter(items)
    remote = ray.remote(max_retries=_ATTEMPTS)(function)
    ahead = max(_LEAST_AHEAD, _AHEAD * int(ray.cluster_resources().get("CPU", 1)))
    running = [remote.remote(item) for item in islice(remaining, ahead)]
    try:
        while running:
            ready, running = ray.wait(running)
            result = ray.get(ready[0])
            running += [remote.remote(item) for item in islice(remaining, 1)]
            yield result
    except ray.exceptions.RayTaskError as error:
        raise (error.cause or error) from None
    except ray.exceptions.RayError as error:
        reason = str(error).strip().partition("\n")[0]
        raise EngineLostError(f"Ray has given up ({reason})") from error
    finally:
        for each in running:
            ray.cancel(each, force=False)
