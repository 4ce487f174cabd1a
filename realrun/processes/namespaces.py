"""Network namespaces without names: they end with the last process or file that is in them.

So nothing is left of a lab that was killed, nobody has to clear up after it, and two labs
cannot meet. A thread enters a namespace for the length of one call; what it makes there
(a device, a socket, a process) stays there.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_NEWNET = 0x40000000  # CLONE_NEWNET, linux/sched.h; os.setns needs Python 3.12


class Namespace:
    """A new network namespace, kept by this process until it is closed.

    Raises
    ------
    PermissionError
        If this process may not make one.
    """

    def __init__(self) -> None:
        #: The file that keeps it.
        self.file = _in_thread(_new)

    def call(self, function: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        """Call a function inside; what it raises is raised here.

        Sockets and processes that it makes belong to the namespace for good. This process's
        other threads stay where they are.
        """
        return enter_in_thread(self.file, lambda: function(*arguments, **options))

    def close(self) -> None:
        """Let go; the namespace ends when nobody is in it."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


def enter_in_thread(handle: int, function: Callable[[], _T]) -> _T:
    """Call a function in the network namespace that an open file stands for."""

    def inside() -> _T:
        enter(handle)
        return function()

    return _in_thread(inside)


def enter(handle: int) -> None:
    """Have this thread enter, for good, the network namespace that an open file stands for."""
    _checked(_libc().setns(handle, _NEWNET))


def _new() -> int:
    _checked(_libc().unshare(_NEWNET))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _in_thread(function: Callable[[], _T]) -> _T:
    """Call in a thread that ends: what it entered, no other thread has."""
    result: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="namespace", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
