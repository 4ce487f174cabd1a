"""What a worker's state takes in memory, known before a model is built.

The scenario's program is rehearsed on torch's meta device: the same model, the same verbs, the
same optimizers, but tensors that have a size and no contents. What they would occupy is then
counted. So the figure is that of the very run, also for a method of the user's.

Not counted: activations, data, losses, copies on the wire while they travel, frozen parameters
and buffers of the user's module. A run is refused only if it cannot fit even without them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from realrun.model.contentless import Contentless
from realrun.model.replica import TorchModel
from realrun.model.stages import ModelError
from sim.processes import free_memory
from sim.program import Buffer, declared_operation
from sim.runtime.rehearsal import Ended, Rehearsal
from sim.scenario import Scenario
from sim.trace.layers import applied_to
from sim.units import format_bytes

# Where TorchModel holds it -> what people call it. A tensor that several of them share counts
# for the first one.
_PARTS = {
    "theta": "parameters",
    "_gradient": "gradients",
    "outer": "outer parameters",
    "_outer._deltas": "outer gradients",
    "_outer._fresh": "outer gradients",
    "_optimizers": "optimizer",
    "_sharded": "optimizer",
    "_outer._optimizers": "outer optimizer",
    "_outer._state": "room for outer state",
    "_handed": "handed over",
}

# Which of them are in the host's memory where outer state is.
_ON_HOST = ("outer", "_outer._fresh", "_outer._optimizers")

# Verbs that read numbers, which a tensor without contents does not have; none adds to the state.
# What a program declares to be an operation may read some, too.
_NOT_REHEARSED = ("accumulate", "forward", "backward", "publish")


def check_memory(
    scenario: Scenario,
    *,
    rank: int,
    workers_here: int,
    device: torch.device | None = None,
    outer_on_host: bool = False,
    workers_on_host: int = 1,
) -> None:
    """Refuse a run whose state does not fit into the memory that is free now.

    To be called on all ranks before any of them builds its model.

    Parameters
    ----------
    scenario
        What is to be trained.
    rank
        The worker in question.
    workers_here
        How many share this machine's memory, or that of ``device`` if it is a GPU.
    device
        Where the state is to live; by default in the machine's memory.
    outer_on_host
        Whether outer state is to be in the machine's memory, whatever the device is.
    workers_on_host
        How many share the machine's memory, where the device is a GPU.

    Raises
    ------
    ModelError
        With what is needed, part by part, and what is free.
    """
    on_device, on_host = state_bytes(scenario, rank, outer_on_host=outer_on_host)
    if device is None or device.type == "cpu":
        _check(_added(on_device, on_host), rank, workers_here, None)
        return
    _check(on_device, rank, workers_here, device)
    _check(on_host, rank, workers_on_host, None)


def _check(parts: Mapping[str, int], rank: int, workers: int, card: torch.device | None) -> None:
    total, free = sum(parts.values()), free_bytes(card)
    if total * workers <= free:
        return
    listed = ", ".join(f"{name} {format_bytes(size, 3)}" for name, size in parts.items())
    where = "machine" if card is None else "GPU"
    sharing = "1 worker" if workers == 1 else f"{workers} workers"
    raise ModelError(
        f"model: does not fit: rank {rank} needs {format_bytes(total, 3)} ({listed}) besides "
        f"activations, and {format_bytes(free, 3)} are free for {sharing} on this {where}"
    )


def _added(*places: Mapping[str, int]) -> dict[str, int]:
    total: dict[str, int] = {}
    for parts in places:
        for name, size in parts.items():
            total[name] = total.get(name, 0) + size
    return total


def state_bytes(
    scenario: Scenario, rank: int, *, outer_on_host: bool = False
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the bytes that a worker's model comes to hold in this run, by part.

    First those on its device, then those that are in the host's memory because outer state is.

    Examples
    --------
    >>> from sim.scenario import load
    >>> settings = ["method.name=ddp", "model.layer_parameters=[600, 400]"]
    >>> on_device, _ = state_bytes(load(None, {"--step-time": "1s"}, settings), 0)
    >>> on_device["parameters"]
    4000
    """
    size, machine = scenario.model, scenario.workers[rank].machine
    model = TorchModel(
        [nn.Identity() for _ in size.layer_parameters],
        lambda outputs, targets: outputs,
        iter(()),
        [[nn.Parameter(torch.empty(n, device="meta"))] for n in size.layer_parameters],
        rank=rank,
        workers=len(scenario.workers),
        n_grad_accumulation=machine.n_grad_accumulation,
        param_dtype=size.param_dtype,
        outer_on_host=outer_on_host,
    )
    worker = _Rehearsal(model, rank, scenario)
    with Contentless():
        for _ in scenario.method.program(worker, **scenario.method.arguments):
            worker.count()
    return held_bytes(model, () if not outer_on_host else _ON_HOST)


def checkpoint_bytes(scenario: Scenario, rank: int) -> int:
    """Return about what a worker's checkpoint takes: it has all that the model holds."""
    on_device, _ = state_bytes(scenario, rank)
    return sum(on_device.values())


def held_bytes(
    model: TorchModel, on_host: Collection[str] = ()
) -> tuple[dict[str, int], dict[str, int]]:
    """Return the bytes of all tensors that a model holds between two steps, by part.

    Those of the attributes ``on_host`` come second, apart from the others.
    """
    seen: set[StorageWeakRef] = set()
    places: tuple[dict[str, int], dict[str, int]] = {}, {}
    for attribute, part in _PARTS.items():
        parts = places[attribute in on_host]
        for tensor in _tensors(attrgetter(attribute)(model)):
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            if reference not in seen:
                seen.add(reference)
                parts[part] = parts.get(part, 0) + storage.nbytes()
    return places


def _tensors(thing: Any) -> Iterator[Tensor]:
    """Yield the tensors in records, optimizers, lists and tables, with their gradients."""
    if isinstance(thing, Tensor):
        yield thing
        if thing.grad is not None:
            yield thing.grad
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield from _tensors(key)  # an optimizer's state is under its parameters
            yield from _tensors(value)
    elif isinstance(thing, list | tuple):
        for item in thing:
            yield from _tensors(item)
    elif hasattr(thing, "__dict__"):
        yield from _tensors(vars(thing))


class _Rehearsal(Rehearsal):
    """A worker whose model is on the meta device, without the passes through it."""

    def __init__(self, model: TorchModel, rank: int, scenario: Scenario) -> None:
        super().__init__(model, rank, scenario, lambda: sum(held_bytes(model)[0].values()))
        self._optimized: set[range | None] = set()

    def compute(
        self,
        verb: Callable[..., None],
        *args: Any,
        times: int = 1,
        commits: bool = False,
        **kwargs: Any,
    ) -> Ended:
        """Run a verb once, without the passes through the model."""
        self.count()
        if verb.__name__ == "inner_step":
            verb, args = self.model.inner_optimizer, (range(self.model.num_layers),)
        if verb.__name__ == "inner_optimizer":
            layers, _ = applied_to(args, kwargs)
            if layers in self._optimized:
                return Ended()  # its moments are there already
            self._optimized.add(layers)
        if verb.__name__ not in _NOT_REHEARSED and declared_operation(verb) is None:
            self.model.perform(verb, args, kwargs, 1)
        return Ended()

    def stopped(self, why: str) -> Exception:
        """Return the error about a program that does not end."""
        return ModelError(why)

    def _collective(
        self,
        operation: str,
        buffer: Buffer,
        dtype: str,
        mean: bool = False,
        over: Iterable[int] | None = None,
    ) -> Ended:
        if hasattr(buffer, "sent"):  # a copy that stays with the buffer
            tensor = buffer.tensor  # type: ignore[attr-defined]
            buffer.sent = lambda: torch.empty_like(tensor)
        return super()._collective(operation, buffer, dtype, mean, over)


def free_bytes(device: torch.device | None = None) -> float:
    """Return the bytes that are free on a GPU, or in this machine's memory.

    See :func:`sim.processes.free_memory.free_bytes`.
    """
    if device is not None and device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return free_memory.free_bytes()
