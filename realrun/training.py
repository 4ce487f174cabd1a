"""One worker's share of a training run: from the scenario to the trace at the end."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from realrun.checks import replicas
from realrun.checks.evaluating import Evaluated, Evaluating
from realrun.checks.not_finite import LossWatch
from realrun.checks.replica_check import ReplicaCheck, declared_equal
from realrun.data.batches import Batches, Data, open_data
from realrun.device import timed_on
from realrun.loggers.logger import LogTo
from realrun.loggers.of_run import Loggers
from realrun.model import module_state, randomness
from realrun.model.build import about, build
from realrun.model.memory import check_memory, checkpoint_bytes
from realrun.model.paced import PacedModel
from realrun.model.replica import TorchModel
from realrun.processes.placement import Place, meet, name_of, sharing
from realrun.processes.rendezvous import rank_and_workers
from realrun.runnable import check_runnable, inner_optimizer, limits, sequences
from realrun.runtime.clock import gathered, offset_to_first
from realrun.runtime.groups_ahead import make_groups_ahead
from realrun.runtime.shared import Pace, Shared
from realrun.runtime.worker import TorchWorker
from realrun.state import loss_files, saved
from realrun.state.checkpoint_folder import alone_in
from realrun.state.loss_stream import LossStream
from realrun.state.resuming import defaults, identity, resumed
from realrun.state.room import CHECKPOINTS, check_room
from sim import __version__
from sim.program import QUANTIZED, kept_equal
from sim.runtime.computation import Computation, Factors
from sim.runtime.context import context_of, sent_shares
from sim.scenario import Loaded, ScenarioError
from sim.trace.table import Context, Trace
from sim.units import format_count

_VALIDATION = 8, 64  # sequences, batches: the same whatever is trained how
OnStep = Callable[[float, Tensor], None]


@dataclass(frozen=True)
class Asked:
    """How to train.

    ``replay`` repeats a trace's observations. ``checkpoints`` is a folder to resume from and to
    write to, every ``checkpoint_every`` rounds. ``device`` is "auto", "cpu" or "cuda"; ``backend``
    "auto", "gloo" or "nccl"; ``timeout_s`` is how long a peer is waited for. ``save`` is where rank
    0 will write the trained model (:mod:`realrun.state.saved`), ``losses`` those of all ranks
    (:mod:`realrun.state.loss_files`); ``start`` is a saved model, with whose parameters and buffers
    training begins. ``held_out`` asks for the loss on text that no worker trains on, which takes a
    while. ``warm`` says that these processes have sent each other something before: nothing is then
    set up by a first collective. ``fresh`` asks for connections of the run's own
    (:class:`realrun.communication.groups.Group`). ``check_replicas`` compares at every round what
    the method keeps equal on all workers. ``evaluate_every`` is the number of rounds between two
    evaluations of the loss on held-out text. ``log`` is where rank 0 logs losses while it trains.
    """

    replay: Trace | None = None
    checkpoints: Path | None = None
    checkpoint_every: int = 100
    device: str = "auto"
    backend: str = "auto"
    timeout_s: float = 300.0
    save: Path | None = None
    losses: Path | None = None
    start: Path | None = None
    held_out: bool = True
    warm: bool = False
    fresh: bool = False
    check_replicas: bool = False
    evaluate_every: int | None = None
    log: tuple[LogTo, ...] = ()


@dataclass
class Outcome:
    """What rank 0 knows at the end.

    The trace; how far clocks may be off (s); losses of every rank by micro-batch, nats per
    token (none where computation was paced); mean loss on held-out data of rank 0's
    parameters; the round that this run began with; which buffers differed between workers and
    how evaluation and ``save`` have merged them; how many comparisons of replicas found no
    difference (None if none was asked for); what was to happen where a loss is not finite.
    """

    trace: Trace
    residual_s: float
    losses: list[list[float]]
    validation_loss: float | None
    tokens: float
    first_round: int
    device: str
    backend: str
    merged: replicas.Merged
    compared: int | None = None
    not_finite: str = "stop"
    #: Losses on held-out data on the way, where that was asked for.
    evaluations: tuple[Evaluated, ...] = ()
    #: The trained module, to be saved, if that was asked for.
    module: nn.Module | None = None
    #: Each rank's device by name; "" where several ranks share one.
    devices: tuple[str, ...] = ()
    #: What a logger has lost, in lines.
    not_logged: tuple[str, ...] = ()
    #: Workers that computed on rank 0's cores; 0 where computation was no work of a CPU.
    computed_here: int = 0


def run_worker(
    loaded: Loaded, asked: Asked, on_step: OnStep = lambda tokens, loss: None
) -> Outcome | None:
    """Train this process's replica; rank, world size and address come from the environment.

    Parameters
    ----------
    loaded, asked
        What to train, and how.
    on_step
        Called on rank 0 with the tokens that all workers together have seen, and its last loss.

    Returns
    -------
    Outcome
        On rank 0; None elsewhere.

    Raises
    ------
    ScenarioError, RunError
        On every rank, if the run cannot begin or continue.
    """
    check_runnable(loaded.scenario, loaded.sections, rank_and_workers()[1])
    with meet(asked.device, asked.backend, asked.timeout_s) as place:
        return run_in(place, asked, loaded, on_step)


def run_in(
    place: Place, asked: Asked, loaded: Loaded, on_step: OnStep = lambda tokens, loss: None
) -> Outcome | None:
    """Train among processes that have met; they may do so several times. See `run_worker`."""
    return opened(place, asked, loaded, on_step).train()


def opened(
    place: Place, asked: Asked, loaded: Loaded, on_step: OnStep = lambda tokens, loss: None
) -> Run:
    """Open a run on all ranks, once it is known that every rank's state fits."""
    world, scenario, file = place.world, loaded.scenario, loaded.sections
    if file.train.compute_mode != "paced":
        world.agreed(
            lambda: check_memory(
                scenario,
                rank=world.rank,
                workers_here=sharing(place.device, world.local_workers),
                device=place.device,
                outer_on_host=file.train.outer_state == "host",
                workers_on_host=world.local_workers,
            )
        )
        if asked.checkpoints is not None:
            folder = asked.checkpoints
            size = checkpoint_bytes(scenario, world.rank) * world.local_workers
            there = sum(path.stat().st_size for path in folder.glob("round-*"))
            world.agreed(
                lambda: check_room(
                    "--checkpoints", folder, CHECKPOINTS * size - there, "three rounds of them"
                )
            )
    return world.agreed(lambda: Run(place, asked, loaded, on_step))


class Run:
    """What one rank has opened and made for a run."""

    def __init__(self, place: Place, asked: Asked, loaded: Loaded, on_step: OnStep) -> None:
        self.asked, self.loaded = asked, loaded
        self.scenario, self.file = loaded.scenario, loaded.sections
        scenario = loaded.scenario
        self.world, self.device, self.backend = place.world, place.device, place.backend
        world, device = place.world, place.device
        self.machine = scenario.workers[world.rank].machine
        ends = limits(scenario)
        #: What takes this rank's losses while it trains: its file and, on rank 0, the loggers.
        self.streams: list[LossStream] = []
        self.loggers = Loggers(asked.log if place.world.rank == 0 else ())
        self.data: Data | None = None
        self.batches: Batches | None = None
        self.paced = self.file.train.compute_mode == "paced"
        if self.paced:
            for option, given in (
                ("--checkpoints", asked.checkpoints is not None),
                ("--save", asked.save is not None),
                ("--log", bool(asked.log)),
            ):
                if given:
                    raise ScenarioError(
                        f'{option}: train.compute_mode = "paced" trains nothing; leave one out'
                    )
            self.model: Any = PacedModel(
                scenario.model, self.machine.n_grad_accumulation, self.machine.batch_tokens, device
            )
        else:
            self.model = self._trained(on_step)
        self.shared = Shared(
            world.rank,
            world.workers,
            self.model,
            ends,
            scenario.network.collectives.quantize_block,
            site=scenario.ranks_by_site[scenario.workers[world.rank].site],
            timeout=timedelta(seconds=asked.timeout_s),
            fresh=asked.fresh,
            device=timed_on(device),
            by_tokens=scenario.run.average_by == "tokens",
            pace=self._pace() if self.paced else None,
            slower=self._slower(),
            replay=self._replayed(),
            check=self._check() if asked.check_replicas else None,
            evaluating=self._evaluating() if asked.evaluate_every is not None else None,
            late=world.late,
        )
        if world.roll is not None:
            world.roll.follow(self.shared.calls)
        if not self.paced:
            self.shared.watch = LossWatch(
                world.rank, self.not_finite, self.model, self.shared.device, self._warn
            )

    @property
    def not_finite(self) -> str:
        """What happens where a loss is not finite: "stop" or "warn"."""
        return self.file.train.not_finite or "stop"

    def _warn(self, line: str) -> None:
        """Tell what one rank warns of; only the first rank that does is heard."""
        if self.world.first_to_say("not_finite"):
            sys.stderr.write(f"realrun: warning: {line}\n")
            sys.stderr.flush()

    def _evaluating(self) -> Evaluating:
        if self.paced:
            raise ScenarioError(
                '--evaluate-every: train.compute_mode = "paced" trains nothing; leave one out'
            )
        assert self.asked.evaluate_every is not None

        def tell(found: Evaluated) -> None:
            sys.stderr.write(
                f"realrun: round {found.round}, {format_count(found.tokens, 3)} tokens, loss "
                f"{found.loss:.3f} on text that no worker trains on\n"
            )
            sys.stderr.flush()
            self.loggers.evaluated(found.tokens, found.loss)

        world = self.world
        return Evaluating(
            self.asked.evaluate_every, self._held_out_loss, world.gathered, world.rank, tell
        )

    def _check(self) -> ReplicaCheck:
        if self.paced:
            raise ScenarioError(
                '--check-replicas: train.compute_mode = "paced" trains nothing; leave one out'
            )
        equal = declared_equal(self.scenario.method)
        return ReplicaCheck(equal, self.model, self.world.workers, self.world.gathered)

    def _trained(self, on_step: OnStep) -> TorchModel:
        file, scenario, machine, rank = self.file, self.scenario, self.machine, self.world.rank
        seed = file.train.seed or 0
        folder = self.loaded.folder
        built = build(file.model, scenario.model, seed=seed, folder=folder)
        if self.asked.start is not None:
            with about("--start"):
                saved.begin_from(self.asked.start, built.module, built.stages)
        if self.asked.save is not None:
            with about("--save"):
                saved.check_can_be_saved(built.module)
            if rank == 0:
                check_room("--save", self.asked.save, saved.size(built.module), "the weights")
        with about("model"):
            module_state.check_extra_state(built.module)
        module_state.move(built.module, self.device)
        # Dropout and the like: other numbers on every worker, the same in every run.
        randomness.seed_all(seed * self.world.workers + rank)
        self.data = open_data(
            file.data,
            vocabulary=built.vocabulary,
            context=built.context,
            workers=self.world.workers,
            seed=seed,
            folder=folder,
        )
        self.sequences = sequences(scenario, rank, built, file.train)
        self.batches = self.data.batches(rank, self.sequences, self.device)

        def on_loss(done: int, loss: Tensor) -> None:
            for stream in self.streams:
                stream.look()
            if rank:
                return
            on_step(done * self._tokens_per_micro_batch(), loss)

        return TorchModel(
            built.stages,
            built.loss,
            self.batches,
            built.parameters_by_layer,
            rank=rank,
            workers=self.world.workers,
            shards=scenario.shards,
            averaging=scenario.averaging,
            n_grad_accumulation=machine.n_grad_accumulation,
            inner=inner_optimizer(file.train, scenario),
            param_dtype=scenario.model.param_dtype,
            tokens_per_step=scenario.tokens_per_step,
            autocast=torch.bfloat16 if self.device.type == "cuda" else None,
            outer_on_host=file.train.outer_state == "host",
            on_loss=on_loss if rank == 0 or self.asked.losses is not None else None,
            module=built.module,
        )

    def _tokens_per_micro_batch(self) -> float:
        """Tokens that all workers together train on for each micro-batch of this one."""
        per_step: float = self.scenario.tokens_per_step * self.model.pace
        return per_step / self.machine.n_grad_accumulation

    def _pace(self) -> Pace:
        scenario, worker = self.scenario, self.scenario.workers[self.world.rank]
        factors = Factors(
            worker.machine.jitter, scenario.run.seed, worker.random_stream, scenario.replication
        )
        return Pace(Computation(worker.machine, scenario.model.layers, scenario.shards, factors))

    def _slower(self) -> float:
        """How many times slower than the fastest this worker is to be, if that is asked for."""
        if self.paced or not self.file.train.emulate_speeds:
            return 1.0
        return max(w.machine.speed for w in self.scenario.workers) / self.machine.speed

    def _replayed(self) -> dict[str, deque[float]] | None:
        if self.asked.replay is None:
            return None
        logged = self.asked.replay.observations()
        return {
            program: deque(answers)
            for (rank, program), answers in logged.items()
            if rank == self.world.rank
        }

    # -- running -------------------------------------------------------------------------
    def train(self) -> Outcome | None:
        """Run the program to its end; the trace on rank 0."""
        folder, rank = self.asked.checkpoints, self.world.rank
        with ExitStack() as held:
            if folder is not None:
                self.world.agreed(lambda: held.enter_context(alone_in(folder, rank)))
            return self._train()

    def _train(self) -> Outcome | None:
        world, shared, scenario = self.world, self.shared, self.scenario
        first_round, noted = 0, dict[str, Any]()
        if self.asked.checkpoints is not None:
            assert self.batches is not None
            first_round, noted = resumed(
                self.asked.checkpoints,
                self.asked.checkpoint_every,
                world,
                shared,
                self.batches,
                identity(self.loaded),
                defaults(self.loaded),
                self.device,
                self._noted,
            )
        if shared.evaluating is not None:
            shared.evaluating.restore(noted.get("evaluating", {}))
        if not self.paced:
            self._agree_on_the_start(first_round)
        if self.asked.log:
            tokens = noted.get("tokens", 0.0) if first_round else None
            notes = noted.get("log", {})
            world.agreed(lambda: self.loggers.open(self._described(), tokens, notes))
        if self.asked.fresh:
            world.agreed(lambda: make_groups_ahead(shared, scenario))
        shared.time_on(timed_on(self.device))  # nothing until here is in a measured time
        with world.exchanging():
            before = offset_to_first(shared, world.control)
        worker = TorchWorker(shared)
        file = self._begin_streams()
        try:
            try:
                worker.drive(scenario.method.program(worker, **scenario.method.arguments))
            finally:
                if file is not None:  # first: a logger may be waiting for a network
                    file.close()
        except BaseException:
            self.loggers.close(failed=True)
            raise
        with world.exchanging():
            after = offset_to_first(shared, world.control)
        shared.close()
        context = self._context()
        with world.exchanging():
            found = gathered(shared, context, before, after, world.control)
        losses = world.gathered([] if self.paced else self.model.losses)
        merged = replicas.Merged()
        if not self.paced and (self.asked.save is not None or self.asked.held_out):
            merged = replicas.merge_buffers(replicas.buffers(self.model.module), world)
        alone = sharing(self.device, world.local_workers) == 1
        devices = world.gathered(name_of(self.device) if alone else "")
        if found is None:
            return None
        trace, residual = found
        shares = sent_shares(scenario, trace.rows)
        trace.context = replace(trace.context, sent_share=shares)
        tokens = sum(
            len(own) * w.machine.batch_tokens / w.machine.n_grad_accumulation
            for own, w in zip(losses, scenario.workers, strict=True)
        )
        held_out = self._validation_loss()
        if held_out is not None:
            self.loggers.evaluated(tokens, held_out)
        on_cores = not self.paced and self.device.type == "cpu"
        return Outcome(
            trace,
            residual,
            losses,
            held_out,
            tokens,
            first_round,
            name_of(self.device),
            self.backend,
            merged,
            compared=None if shared.check is None else shared.check.compared,
            not_finite=self.not_finite,
            evaluations=() if shared.evaluating is None else tuple(shared.evaluating.found),
            module=None if self.asked.save is None else self.model.module,
            devices=tuple(devices),
            not_logged=tuple(self.loggers.close()),
            computed_here=self.world.local_workers if on_cores else 0,
        )

    def _begin_streams(self) -> LossStream | None:
        """Let what asks for losses have them; return the stream of this rank's own file."""
        if self.paced:
            return None
        model, device = self.model, self.shared.device
        self.streams += self.loggers.follow(model, device, self._tokens_per_micro_batch)
        if self.asked.losses is None:
            return None
        file = LossStream(loss_files.PartFile(self.asked.losses, self.world.rank), model, device)
        self.streams.append(file)
        return file

    def _noted(self) -> dict[str, Any]:
        """What a checkpoint holds besides the state of model and data."""
        evaluating = self.shared.evaluating
        return {
            "evaluating": {} if evaluating is None else evaluating.state(),
            "tokens": self.model.losses_so_far * self._tokens_per_micro_batch(),
            "log": self.loggers.notes(),
        }

    def _described(self) -> dict[str, Any]:
        """What loggers keep of the run: the scenario as given, what was assumed, its hash."""
        scenario = self.scenario
        given = self.file.model_dump(exclude_none=True, exclude_defaults=True)
        found = {
            "scenario": given,
            "scenario_sha256": scenario.sha256,
            "assumed": dict(scenario.assumed),
            "method": scenario.method.name,
            "workers": len(scenario.workers),
            "tokens_per_step": scenario.tokens_per_step,
            "bandwise": __version__,
        }
        described: dict[str, Any] = json.loads(json.dumps(found, default=str))
        return described

    def _agree_on_the_start(self, first_round: int) -> None:
        """Let all ranks begin with rank 0's parameters and buffers.

        A resumed run continues with each rank's own. Those that the method keeps equal are
        compared, and frozen parameters are rank 0's.
        """
        world, module = self.world, self.model.module
        if first_round:
            replicas.make_equal(module_state.frozen(module), world)
            method = self.scenario.method
            if kept_equal(method.program, method.arguments) == "parameters":
                when = (
                    f"in the checkpoints of round {first_round}, and {method.name} keeps them "
                    "equal; remove that round's files to resume from an earlier one"
                )
                replicas.check_equal(replicas.parameters(module), world, when)
            return
        everything = replicas.parameters(module) | replicas.buffers(module)
        replicas.make_equal(everything, world)
        module_state.share_extra_state(module, world)
        self.model.begin()

    def _quantized(self) -> bool:
        return self.scenario.comm_dtype in QUANTIZED

    def _context(self) -> Context:
        """What the figures must know, as the simulator writes it."""
        return replace(
            context_of(self.scenario),
            measured=True,
            # gloo has two threads per group; ours that carries int8 and fp4 is one.
            concurrent=1 if self._quantized() or self.backend == "nccl" else 2,
            first_collective_s=0.0 if self.asked.warm else inf,
            # Those of the scenario were not the ones that computed.
            accelerators=(),
            peak_flops=(),
        )

    def _validation_loss(self) -> float | None:
        """Return the loss at the end, where it is asked for and anything is trained."""
        return None if self.data is None or not self.asked.held_out else self._held_out_loss()

    def _held_out_loss(self) -> float:
        """Mean loss on batches that no worker trains on."""
        assert self.data is not None
        batches = self.data.validation(*_VALIDATION, self.device)
        losses: list[float] = [self.model.loss_on(*batch) for batch in batches]
        return sum(losses) / len(losses)
