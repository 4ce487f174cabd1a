"""Compares what a method keeps equal on all workers (``--check-replicas``).

What that is the method declares (:func:`sim.program.keeps_equal`). A digest of it is taken
where it is due, which may be at another moment on every worker, and the digests are compared at
the start of the next round. They travel over the control group; the trace has no row of it and
the program issues the same collectives as without.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from realrun.communication.groups import Collective, tensor_of
from realrun.errors import AgreedError, ranks
from realrun.model.replica import TorchModel
from sim.members import family, named
from sim.program import Buffer, Equal, kept_equal
from sim.records.scenario import Method
from sim.scenario import ScenarioError
from sim.trace.layers import written

_SIZE = 8  # bytes of a digest
_WRITTEN_BY = {"publish": "parameters", "outer_step": "outer parameters"}
_LEAVES_EQUAL = ("all_reduce", "all_gather", "broadcast")


def declared_equal(method: Method) -> Equal:
    """Return what a method has declared to keep equal with these arguments.

    Raises
    ------
    ScenarioError
        If it has declared nothing.
    """
    equal = kept_equal(method.program, method.arguments)
    if equal is None:
        raise ScenarioError(
            f"--check-replicas: {method.name} does not declare what it keeps equal on all "
            'workers; write @keeps_equal("parameters"), "outer parameters" or "received" above '
            "it (from sim.program import keeps_equal)"
        )
    return equal


class ReplicaCheck:
    """The comparison, as one worker takes part in it.

    Parameters
    ----------
    equal
        What is kept equal.
    model
        This worker's replica.
    workers
        How many replicas there are.
    gather
        What every rank gives, to every rank, in the order of the ranks.
    """

    def __init__(
        self, equal: Equal, model: TorchModel, workers: int, gather: Callable[[Any], list[Any]]
    ) -> None:
        self.equal = equal
        self.compared = 0
        self._model, self._gather = model, gather
        self._fresh: dict[str, bytes] = {}  # digests by what they are of, since the last round
        self._waiting: list[dict[str, bytes]] = [{} for _ in range(workers)]
        self._places: dict[str, Sequence[str]] = {}  # what each digest of a key is of
        self._counts: Counter[str] = Counter()

    # -- where digests are taken ---------------------------------------------------------
    def start_round(self, number: int) -> None:
        """Compare what has come up since the last round, and the parameters if they are equal.

        Those of the very first round are always: replicas begin alike.

        Raises
        ------
        AgreedError
            On every rank, with the ranks that differ and where.
        """
        where = f"the start of round {number}"
        if number == 0 or self.equal == "parameters":
            self._note(where, self._model.theta, range(self._model.num_layers), "parameter")
        self._compare(where)

    def computed(self, operation: str, layers: range | None, *, skipped: bool = False) -> None:
        """Digest what an operation of the model has written, if it is kept equal.

        ``skipped``: it was carried out before the checkpoint from which this run resumes.
        """
        if _WRITTEN_BY.get(operation) != self.equal:
            return
        layers = range(self._model.num_layers) if layers is None else layers
        where = written(layers)
        number = self._counts[where]
        self._counts[where] += 1
        if not skipped:
            outer = self.equal == "outer parameters"
            values = self._model.outer if outer else self._model.theta
            key = f"{operation} {number} of layers {where}"
            self._note(key, values, layers, self.equal.removesuffix("s"))

    def watch(
        self, collective: Collective, operation: str, buffer: Buffer, group: str, call: int
    ) -> None:
        """Digest what a collective leaves in the buffer, if that is kept equal."""
        if self.equal == "received" and family(operation) in _LEAVES_EQUAL:
            what = f"{buffer.name} {buffer.detail}".strip()
            key = f"{operation}, call {call} of group {group}"
            if named(group, len(self._waiting)).name:  # told by others, too, who know its key
                key, what = f"{operation} of {what}, call {call} of group {group}", ""

            def arrived() -> None:
                self._places[key] = [what]
                self._fresh[key] = _digest(tensor_of(buffer))

            collective.then(arrived)

    def end(self) -> None:
        """Compare what has come up since the last round; every rank must have come to it.

        Raises
        ------
        AgreedError
            As :meth:`start_round`.
        """
        self._compare("the end")
        for key in dict.fromkeys(key for waiting in self._waiting for key in waiting):
            without = [rank for rank in self._members(key) if key not in self._waiting[rank]]
            raise AgreedError(f"--check-replicas: {ranks(without)} never came to {key}")

    # -- comparing -----------------------------------------------------------------------
    def _note(self, key: str, values: Tensor, layers: range, of: str) -> None:
        chosen = [place for place in self._model.named_slices if place.layer in layers]
        self._places[key] = [f"{of} {place.name} (layer {place.layer})" for place in chosen]
        self._fresh[key] = b"".join(_digest(values[place.part]) for place in chosen)

    def _compare(self, where: str) -> None:
        """Compare what all ranks have come to by now."""
        fresh, self._fresh = self._fresh, {}
        for waiting, new in zip(self._waiting, self._gather(fresh), strict=True):
            waiting.update(new)
        for key in dict.fromkeys(key for waiting in self._waiting for key in waiting):
            members = self._members(key)
            if all(key in self._waiting[rank] for rank in members):
                digests = {rank: self._waiting[rank].pop(key) for rank in members}
                places = self._places.pop(key, [""])
                if len(set(digests.values())) > 1:
                    raise AgreedError(self._differing(key, digests, places, where))
                self.compared += 1

    def _members(self, key: str) -> tuple[int, ...]:
        """Return whose digests of a key are compared: those of the group at its end, or all."""
        return named(key, len(self._waiting)).ranks

    def _differing(
        self, key: str, digests: Mapping[int, bytes], places: Sequence[str], where: str
    ) -> str:
        """Name the ranks that differ from most, or all of them where there is no majority."""
        odd, wrong = set(), []
        for number, place in enumerate(places):
            own = {
                rank: digest[number * _SIZE : (number + 1) * _SIZE]
                for rank, digest in digests.items()
            }
            usual, count = Counter(own.values()).most_common(1)[0]
            if count < len(own):
                wrong.append(place)
                most = 2 * count > len(own)
                odd |= {rank for rank in own if not most or own[rank] != usual}
        who = ranks(sorted(odd))
        who += " differs" if len(odd) == 1 else " differ"
        who += " from each other" if len(odd) == len(digests) else " from the others"
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        found = "" if key == where else f"; found at {where}"
        what = f": {wrong[0]}" if wrong[0] else ""
        return f"--check-replicas: {who} at {key}{what}{more}{found}"


def _digest(values: Tensor) -> bytes:
    """Return a digest of a tensor's bits; the host waits until they are there."""
    bits = values.detach().cpu().contiguous().view(torch.uint8)
    return blake2b(bits.numpy().data, digest_size=_SIZE).digest()
