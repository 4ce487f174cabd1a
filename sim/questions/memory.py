"""Bytes per accelerator, by part, of one worker of each kind of site.

The method's text is run by a worker that only counts what its model comes to hold
(:class:`sim.models.held.Held`), so a method of the user's is counted as well. A convention
(:mod:`sim.records.memory_keys`) says how many bytes an element has. State that a worker's
accelerators share out is divided by their number:

    none   nothing
    zero1  optimizer state, and with it outer parameters and momentum
    zero2  also gradients and outer gradients
    zero3  also weights

With zero2 and zero3 the largest layer is there in full while it is used. Activations are an
estimate (:func:`sim.questions.activations.activation_bytes`). Not counted: data, copies on the
wire, what an operation of the user's keeps for itself, the driver's context, fragmentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, inf, sqrt
from typing import Any

from sim.models.held import Held
from sim.program import ArgumentError
from sim.questions.activations import activation_bytes
from sim.records.memory_keys import SHARDINGS, Convention
from sim.records.scenario import Scenario, Site, Worker
from sim.runtime import SimulationError
from sim.runtime.rehearsal import Rehearsal
from sim.text.told import method_failed

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "outer_parameters": "outer parameters",
    "outer_momentum": "outer momentum",
    "buffers": "buffers in flight",
    "outer_room": "room for outer state",
    "layer": "a layer in full",
    "activations": "activations",
}
"""Parts of a worker's memory, and what people call them."""

_PASSING = ("layer", "activations")  # that are there only while gradients are computed

RECOMPUTED = 'memory.activations = "recomputed"'
"""The key that keeps least of the activations, as it is written."""

MICRO_BATCH = "memory.micro_batch_tokens"

DEFAULT_SEQUENCE = 2048
_HEAD_WIDTH = 128
_DOUBLINGS = 13  # of the accelerators of a worker: some thousand times as many


@dataclass(frozen=True)
class SiteMemory:
    """One accelerator of one worker, at sites that are alike."""

    #: Names of the sites.
    sites: tuple[str, ...]
    #: What the accelerator is called; "" if the scenario does not say.
    accelerator: str
    #: Accelerators of a worker; 1 if the scenario does not say.
    accelerators: int
    #: none, zero1, zero2 or zero3.
    sharding: str
    #: Whether the scenario gives the sharding; else it is the least that fits.
    sharding_given: bool
    #: Bytes on the accelerator, by part: the keys of :data:`PARTS`, without those that are 0.
    parts: dict[str, float]
    #: Bytes in the host's memory, for each accelerator.
    host_parts: dict[str, float]
    #: Bytes that the accelerator may have, ascending.
    sizes: tuple[float, ...]
    #: What was assumed to estimate activations.
    notes: tuple[str, ...] = ()
    #: The micro-batch that was assumed for it, in tokens, and why; "" where it is given.
    assumed_micro_batch: str = ""

    @property
    def site(self) -> str:
        """The first of the sites."""
        return self.sites[0]

    @property
    def total_bytes(self) -> float:
        """All that the accelerator holds at once."""
        return sum(self.parts.values())

    @property
    def persistent_bytes(self) -> float:
        """What it holds between two steps: without activations, and without a layer in full."""
        return sum(size for part, size in self.parts.items() if part not in _PASSING)

    @property
    def host_bytes(self) -> float:
        """What is in the host's memory, for each accelerator."""
        return sum(self.host_parts.values())

    @property
    def available_bytes(self) -> float | None:
        """Bytes of the accelerator; of several that it may have, the least in which it fits."""
        enough = [size for size in self.sizes if size >= self.total_bytes]
        return enough[0] if enough else self.sizes[-1] if self.sizes else None

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None if the memory is not known, or only one of its sizes is enough."""
        if not self.sizes or self.sizes[0] < self.total_bytes <= self.sizes[-1]:
            return None
        return self.total_bytes <= self.sizes[0]

    @property
    def largest(self) -> str:
        """The part with the most bytes."""
        return max(self.parts, key=self.parts.__getitem__)


@dataclass(frozen=True)
class Memory:
    """What a scenario's workers hold, kind of site by kind of site."""

    method: str
    #: How many bytes each element was counted with.
    convention: Convention
    per_site: list[SiteMemory]

    @property
    def worst(self) -> SiteMemory:
        """The site where least is left, or most is held where no memory is known."""

        def filled(each: SiteMemory) -> tuple[float, float]:
            there = each.available_bytes
            return (each.total_bytes / there if there else 0.0, each.total_bytes)

        return max(self.per_site, key=filled)

    @property
    def fits(self) -> bool | None:
        """Whether it fits at all sites; None if that is not known of some and no other is short."""
        found = {each.fits for each in self.per_site}
        return False if False in found else None if None in found else True


@dataclass(frozen=True)
class Remedies:
    """What lets a worker fit that does not: single keys, or all of them together."""

    #: What to change -> bytes on the accelerator then; only what is enough by itself.
    enough: dict[str, float]
    #: All that could be changed.
    all: tuple[str, ...]
    #: Bytes on the accelerator with all of it changed.
    together_bytes: float
    together_fits: bool
    #: Fewest accelerators per worker, by doubling, with which it fits; None if none are enough.
    accelerators: int | None
    #: Whether they are enough only if all but the inputs of layers is recomputed.
    accelerators_recomputing: bool


def memory(scenario: Scenario) -> Memory:
    """Count what one worker of each kind of site holds.

    Raises
    ------
    SimulationError
        If the method's program fails or does not end.
    ArgumentError
        If an argument does not fit.
    """
    counted = [_counted(scenario, workers) for workers in _kinds(scenario)]
    return Memory(
        scenario.method.name, scenario.memory.convention, [each.chosen for each in counted]
    )


def by_sharding(scenario: Scenario) -> dict[str, Memory]:
    """Return :func:`memory` under each sharding, whatever the scenario says of it."""
    counted = [_counted(scenario, workers) for workers in _kinds(scenario)]
    convention = scenario.memory.convention
    return {
        sharding: Memory(
            scenario.method.name, convention, [each.under(sharding) for each in counted]
        )
        for sharding in SHARDINGS
    }


def remedies(scenario: Scenario, site: str) -> Remedies:
    """Return what would let the workers at a site fit.

    Parameters
    ----------
    site
        Its name.
    """
    changes: dict[str, dict[str, Any]] = {}
    counted = next(
        _counted(scenario, workers)
        for workers in _kinds(scenario)
        if site in [scenario.sites[worker.site].name for worker in workers]
    )
    chosen = counted.chosen
    for sharding in SHARDINGS[SHARDINGS.index(chosen.sharding) + 1 :]:
        if chosen.accelerators > 1:
            changes[f'site.sharding = "{sharding}"'] = {"sharding": sharding}
    if "outer_parameters" in chosen.parts and not scenario.memory.outer_on_host:
        changes['train.outer_state = "host"'] = {"outer_on_host": True}
    if scenario.memory.activations not in ("recomputed", "none"):
        changes[RECOMPUTED] = {"activations": "recomputed"}
    if (number := counted.micro_batches_of_a_sequence) is not None:
        tokens = counted.share_tokens / number
        changes[f"site.n_grad_accumulation = {number}"] = {"micro_batch_tokens": tokens}
    everything = counted
    enough: dict[str, float] = {}
    last: dict[str, str] = {}
    for name, change in changes.items():
        everything = everything.changed(**change)
        last[next(iter(change))] = name  # of several shardings the most
        changed = counted.changed(**change).chosen
        if changed.fits and not ("sharding" in change and enough):  # the least sharding
            enough[name] = changed.total_bytes
    together = everything.chosen
    plain = counted.fewest_accelerators
    recomputing = counted.changed(activations="recomputed").fewest_accelerators
    fewer = (recomputing or inf) < (plain or inf) and RECOMPUTED not in enough
    return Remedies(
        enough,
        tuple(last.values()),
        together.total_bytes,
        together.fits is True,
        recomputing if fewer else plain,
        fewer,
    )


def _kinds(scenario: Scenario) -> list[list[Worker]]:
    """Return the first worker of every site, those together that hold the same."""
    kinds: dict[Any, list[Worker]] = {}
    for ranks in scenario.ranks_by_site:
        worker = scenario.workers[ranks[0]]
        site, machine = scenario.sites[worker.site], worker.machine
        own = tuple(
            value[worker.rank]
            for value in scenario.method.arguments.values()
            if isinstance(value, tuple) and len(value) == len(scenario.workers)
        )
        batch = (machine.batch_tokens, machine.n_grad_accumulation)
        # Of unequal sites a program may see its own, by worker.site.
        kind = (site.memory, machine.accelerators, *batch, own, len(ranks))
        kinds.setdefault(kind, []).append(worker)
    return list(kinds.values())


def _counted(scenario: Scenario, workers: Sequence[Worker]) -> _Counted:
    return _Counted(scenario, tuple(workers), _held(scenario, workers[0]))


def _held(scenario: Scenario, worker: Worker) -> Held:
    """Run the method's text on a model that counts."""
    machine = worker.machine
    model = Held(
        scenario.model,
        machine.n_grad_accumulation,
        machine.batch_tokens,
        worker.rank % scenario.shards,
        scenario.shards,
    )
    rehearsal = Rehearsal(model, worker.rank, scenario, model.size)
    program = scenario.method.program(rehearsal, **scenario.method.arguments)
    try:
        for _ in program:
            rehearsal.count()
    except (SimulationError, ArgumentError, MemoryError):
        raise
    except Exception as error:
        if why := method_failed(program, error):
            raise SimulationError(f"rank {worker.rank}: {why}") from error
        raise
    return model


@dataclass(frozen=True)
class _Counted:
    """What one worker's model holds, on its way to bytes."""

    scenario: Scenario
    workers: tuple[Worker, ...]  # alike, one per site
    held: Held = field(repr=False)

    @property
    def _site(self) -> Site:
        return self.scenario.sites[self.workers[0].site]

    @property
    def _accelerators(self) -> int:
        return self.workers[0].machine.accelerators or 1

    def changed(
        self, sharding: str | None = None, accelerators: int | None = None, **keys: Any
    ) -> _Counted:
        """Return it under another sharding, on more accelerators, or with other keys."""
        sites = list(self.scenario.sites)
        if sharding is not None:
            place = replace(self._site.memory, sharding=sharding)
            sites[self.workers[0].site] = replace(self._site, memory=place)
        memory = replace(self.scenario.memory, **keys)
        scenario = replace(self.scenario, sites=tuple(sites), memory=memory)
        workers = self.workers
        if accelerators is not None:
            machine = replace(workers[0].machine, accelerators=accelerators)
            workers = tuple(replace(worker, machine=machine) for worker in workers)
        return replace(self, scenario=scenario, workers=workers)

    @property
    def chosen(self) -> SiteMemory:
        """Under the sharding that is given, else the least that fits, else the most."""
        given = self._site.memory.sharding
        if given is not None or not self._site.memory.sizes or self._accelerators == 1:
            return self.under(given or "none")
        each = [self.under(sharding) for sharding in SHARDINGS]
        best = [one for one in each if one.fits] or [one for one in each if one.fits is None]
        return (best or each[-1:])[0]

    @property
    def fewest_accelerators(self) -> int | None:
        """How many a worker needs, by doubling what it has; None if far more are not enough."""
        numbers = [self._accelerators << doubled for doubled in range(1, _DOUBLINGS)]
        return next((n for n in numbers if self.changed(accelerators=n).chosen.fits), None)

    @property
    def share_tokens(self) -> float:
        """Tokens of a step that one accelerator computes on."""
        return self.workers[0].machine.batch_tokens / self._accelerators

    @property
    def micro_batches_of_a_sequence(self) -> int | None:
        """How many leave each accelerator one sequence at a time; None if those given do."""
        keys = self.scenario.memory
        if not self._site.memory.micro_batches_given or keys.micro_batch_tokens is not None:
            return None
        if keys.activations == "none":
            return None
        number = ceil(self.share_tokens / (keys.sequence_tokens or DEFAULT_SEQUENCE))
        return number if number > self.workers[0].machine.n_grad_accumulation else None

    def under(self, sharding: str) -> SiteMemory:
        """Return the bytes of every part under a sharding."""
        place = self._site.memory
        device, host = self._state(sharding)
        activations, notes, micro_batch = self._activations
        device["layer"] = self._layer(sharding)
        device["activations"] = activations
        return SiteMemory(
            sites=tuple(self.scenario.sites[worker.site].name for worker in self.workers),
            accelerator=place.accelerator,
            accelerators=self._accelerators,
            sharding=sharding,
            sharding_given=place.sharding is not None,
            parts={part: device[part] for part in PARTS if device.get(part)},
            host_parts={part: host[part] for part in PARTS if host.get(part)},
            sizes=place.sizes,
            notes=notes,
            assumed_micro_batch=micro_batch,
        )

    def _state(self, sharding: str) -> tuple[dict[str, float], dict[str, float]]:
        """Return what is held between two steps: on the device, and in the host's memory."""
        held, keys, each = self.held, self.scenario.memory, self.scenario.memory.convention
        level = SHARDINGS.index(sharding)
        by = self._accelerators
        optimizer, gradients, weights = (by if level >= least else 1 for least in (1, 2, 3))
        sharded_copy = 0 if each.sharing else held.shard * each.weights
        outer_parameters = held.trained if each.outer_always else held.outer_parameters
        fresh = held.most_fresh if each.sharing else sum(held.fresh.values())
        kept_apart = fresh * each.outer_gradients / gradients
        frozen = self.scenario.model.frozen_parameters * each.weights
        device = {
            "weights": (held.trained * each.weights + frozen) / weights,
            "gradients": held.trained * each.gradients / gradients,
            "optimizer": ((held.optimized + held.shard) * each.optimizer + sharded_copy)
            / optimizer,
            "buffers": self._in_flight() / gradients + self._handed(gradients, weights),
        }
        outer = {
            "outer_parameters": outer_parameters * each.outer_parameters / optimizer,
            "outer_momentum": held.outer_momentum * each.outer_momentum / optimizer,
        }
        if not keys.outer_on_host:
            device["buffers"] += kept_apart
            return device | outer, {}
        visiting = zip(held.visiting, (each.outer_parameters, each.outer_momentum), strict=True)
        largest_fresh = max(held.fresh.values(), default=0) * each.outer_gradients
        room = max(sum(count * size for count, size in visiting), largest_fresh)
        device["outer_room"] = room / optimizer
        return device, outer | {"buffers": kept_apart}

    def _in_flight(self) -> float:
        """Return the bytes of outer gradients: the most that is in flight at one time.

        Those that are used up before the next gradient is computed can have its memory. realrun
        keeps a buffer for every fragment and slot.
        """
        held, each = self.held, self.scenario.memory.convention
        if not each.sharing:
            return sum(held.deltas.values()) * each.outer_gradients
        free = held.trained * each.gradients
        others = max(0.0, held.most_others * each.outer_gradients - free)
        return held.most_overlapping * each.outer_gradients + others

    def _handed(self, gradients: int, weights: int) -> float:
        """Return the bytes that an update in the background works on.

        One buffer is enough: the parameters come when the gradient has been used. realrun keeps
        gradient, parameters, master copy and the estimate's gradient apart.
        """
        held, each = self.held, self.scenario.memory.convention
        if not held.handed:
            return 0.0
        gradient, weight = each.gradients / gradients, each.weights / weights
        if each.sharing:
            return held.trained * max(gradient, weight)
        return held.trained * 2 * (gradient + weight)

    def _layer(self, sharding: str) -> float:
        """Return the bytes of the largest layer, as far as it is gathered or not yet scattered."""
        if self._accelerators == 1:
            return 0.0
        each, level = self.scenario.memory.convention, SHARDINGS.index(sharding)
        per_parameter = (level >= 2) * each.gradients + (level >= 3) * each.weights
        missing = 1 - 1 / self._accelerators
        return max(self.scenario.model.layer_parameters) * per_parameter * missing

    @cached_property
    def _activations(self) -> tuple[float, tuple[str, ...], str]:
        """Return the bytes of activations, what they rest on, and the assumed micro-batch."""
        keys, model = self.scenario.memory, self.scenario.model
        if keys.activations == "none":
            return 0.0, ("activations are not counted",), ""
        notes = []
        sequence, width, heads = keys.sequence_tokens, keys.width, keys.attention_heads
        if sequence is None:
            sequence = DEFAULT_SEQUENCE
            notes.append(f"memory.sequence_tokens = {sequence}")
        if width is None:
            # N = 12 L h^2: Kaplan et al. 2020, arXiv:2001.08361.
            width = max(1, round(sqrt(model.parameters / (12 * model.layers))))
            notes.append(f"memory.residual_width = {width} (sqrt(parameters / (12 layers)))")
        if heads is None:
            heads = max(1, round(width / _HEAD_WIDTH))
            if keys.activations == "stored":
                notes.append(f"memory.attention_heads = {heads} (residual_width / {_HEAD_WIDTH})")
        if keys.vocabulary is None:
            notes.append("the vocabulary is not known, so logits are not counted")
        machine, tokens, micro_batch = self.workers[0].machine, keys.micro_batch_tokens, ""
        if tokens is None:
            each = self.share_tokens / machine.n_grad_accumulation
            given = self._site.memory.micro_batches_given
            tokens = each if given else min(each, float(sequence))
            why = "one sequence" if each >= sequence else "an accelerator's part of the batch"
            why = "site.n_grad_accumulation" if given else why
            notes.append(f"{MICRO_BATCH} = {tokens:.6g} ({why})")
            micro_batch = "" if given else f"{tokens:.6g} ({why})"
        size = activation_bytes(
            keys.activations,
            tokens=tokens,
            width=width,
            layers=model.layers,
            sequence=sequence,
            heads=heads,
            vocabulary=keys.vocabulary or 0,
            per_width=keys.convention.layer_activations,
        )
        return size, tuple(notes), micro_batch
