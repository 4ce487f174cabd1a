"""Control messages: small ones that all members exchange before something may start."""

from __future__ import annotations

from concurrent.futures import Future
from datetime import timedelta
from time import sleep
from typing import Any

import torch
import torch.distributed as dist

from realrun.communication.groups import Collective, Ended
from realrun.communication.process_groups import Lane, of_members, store_of_all
from realrun.device import Host
from sim.members import named


class ControlGroup:
    """The control messages of one group, over connections of their own.

    They are gloo's whatever carries the collectives, as they are small and come from the host. In
    an all-to-all every member tells every other that it is ready to receive and then is sent its
    number: a round trip of the slowest pair, and nobody has it before all have called.

    Parameters
    ----------
    name
        As the trace has it; it says who the members are (:func:`sim.members.named`).
    timeout
        How long a peer is waited for.
    device
        Whose clock it is.
    """

    def __init__(self, name: str, timeout: timedelta, device: Host) -> None:
        self._name, self._members = name, named(name, dist.get_world_size())
        self._timeout, self._device = timeout, device
        self._lane = Lane(self._new)
        if not self._members.name:  # all ranks meet here; some of them do in the thread
            self._lane.open()

    def time_on(self, device: Host) -> None:
        """Read the ends of messages on another device's clock."""
        self._device = device

    def _new(self) -> Any:
        if not self._members.name:
            return dist.new_group(timeout=self._timeout, backend="gloo")
        return of_members(self._name, self._members, self._timeout, store_of_all(), "gloo")

    def start(self, round_trips: int, seconds: float, ended: Ended) -> Collective:
        """Exchange that many messages in turn, then let ``seconds`` pass; blocks nobody.

        Parameters
        ----------
        round_trips
            How many times each member sends to, and receives from, each other.
        seconds
            What passes after that.
        ended
            Called once, in another thread.
        """
        result: Future[None] = Future()

        def call() -> None:
            try:
                try:
                    # One number to each member: gloo sends no empty message.
                    group, sent = self._lane.open(), torch.zeros(len(self._members))
                    for _ in range(round_trips):
                        dist.all_to_all_single(torch.empty_like(sent), sent, group=group)
                    sleep(seconds)
                finally:
                    ended(self._device.now(), "")  # before a waiting thread continues
                result.set_result(None)
            except Exception as error:
                result.set_exception(error)

        self._lane.put(call)
        return Collective("control", result.result, result.done, lambda: None)

    def close(self) -> None:
        """Carry out what was called, and let go of the connections."""
        self._lane.close()
        if self._lane.process_group is not None:
            dist.destroy_process_group(self._lane.process_group)
