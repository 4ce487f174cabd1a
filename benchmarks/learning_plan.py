"""Which runs there are: the methods, with what the papers found about them, and the pilot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from learning_statistics import Claim

HERE = Path(__file__).parent / "learning"
BASE = HERE / "learning.toml"
BATCH_TOKENS = 512  # of all workers together, in one step
WARMUP_STEPS = 30
SYNC_EVERY = 15
WORKERS = (2, 4)
PILOT_SEED = 100
# From the pilot, see summary.md: with the defaults' momentum, 0.9, so few rounds end worse than
# plain averaging does.
LEARNING_RATE = 0.0015
OUTER = {"outer_lr": 0.7, "outer_momentum": 0.6}
FEWER_STEPS = 5  # between synchronisations, in an experiment
MORE_TOKENS = 460_800  # three times the base file's, in an experiment
START_SEED = 200  # of the first of the trained parameters that experiments begin with
SMALL_RATE = 0.0003  # of some that begin so: a fifth
STARTED = ", started trained"
LATE_SHARES = (0.0, 0.5, 0.75)  # of one worker alone: of DiLoCo, of eager with 2 and with 4
ALONE = "alone, late share "
EAGER_OUTER = ((1.0, 0.0), (0.7, 0.0), (0.7, 0.3))  # smaller outer steps, in experiments
PILOT_RATES = (0.00075, 0.0015, 0.003)
PILOT_OUTER = ((0.4, 0.9), (0.7, 0.6), (0.7, 0.3))  # outer learning rate, momentum


@dataclass(frozen=True)
class Configuration:
    """A method with its arguments, as ``--set method.KEY=VALUE`` takes them.

    ``batches_per_update`` in which the micro-batches of an update arrive: acco's two halves.
    ``replayed``: how many micro-batches enter an update is that of a fast network, simulated,
    and not what the load of this machine makes of it. ``late_share``: one worker alone, that
    share of whose outer gradient is applied a round late (learning_alone.py).
    """

    name: str
    method: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    claim: Claim | None = None
    batches_per_update: int = 1
    replayed: bool = False
    late_share: float | None = None


def _in_rounds(name: str, method: str, claim: Claim | None, **arguments: object) -> Configuration:
    return Configuration(name, method, {"sync_every": SYNC_EVERY, **arguments}, claim)


def _streaming() -> Iterator[Configuration]:
    for delay in (0, 1, 5):
        for dtype in ("bf16", "fp4"):
            if dtype == "fp4":
                text, than = "fp4 costs nothing", f"streaming {delay} bf16"
            elif delay:
                text, than = "a delay up to 5 costs next to nothing", "streaming 0 bf16"
            else:
                text, than = "near diloco", "diloco"
            claim = Claim(f"{text} (arXiv:2501.18512)", "near", than)
            yield _in_rounds(
                f"streaming {delay} {dtype}",
                "streaming_diloco",
                claim,
                fragment_sync_delay=delay,
                comm_dtype=dtype,
                **OUTER,
            )


CONFIGURATIONS = (
    Configuration("ddp", "ddp"),
    _in_rounds(
        "local_sgd",
        "local_sgd",
        Claim("outer Nesterov is better than averaging (arXiv:2311.08105)", "worse", "diloco"),
    ),
    _in_rounds("diloco", "diloco", Claim("near ddp (arXiv:2311.08105)", "near", "ddp"), **OUTER),
    *_streaming(),
    _in_rounds(
        "eager", "eager_diloco", Claim("near diloco (arXiv:2502.12996)", "near", "diloco"), **OUTER
    ),
    _in_rounds(
        "delayed",
        "delayed_diloco",
        Claim("worse than diloco (arXiv:2502.12996)", "worse", "diloco"),
        **OUTER,
    ),
    Configuration(
        "acco",
        "acco",
        claim=Claim("near ddp (arXiv:2406.02613)", "near", "ddp"),
        batches_per_update=2,
        replayed=True,
    ),
    Configuration(
        "dpu",
        "dpu",
        claim=Claim("worse than ddp (arXiv:2406.02613)", "worse", "ddp"),
        replayed=True,
    ),
)


@dataclass(frozen=True)
class Planned:
    """A run to be made."""

    configuration: Configuration
    workers: int
    seed: int
    learning_rate: float = LEARNING_RATE
    tokens: int | None = None  # another horizon than the base file's
    after: Planned | None = None  # begins with the parameters of this run

    @property
    def settings(self) -> dict[str, object]:
        """What is laid over the base file.

        The total batch of a step is kept, whatever the number of workers: every run then takes
        as many steps on as many tokens, and ddp learns alike with 2 and with 4.
        """
        chosen = self.configuration
        share = chosen.batches_per_update
        method = {f"method.{key}": value for key, value in chosen.arguments.items()}
        horizon = {} if self.tokens is None else {"run.tokens": self.tokens}
        return {
            "method.name": chosen.method,
            **method,
            "site.count": self.workers,
            "site.batch_tokens": BATCH_TOKENS // (self.workers * share),
            "train.learning_rate": self.learning_rate,
            "train.warmup_steps": WARMUP_STEPS * share,
            "train.seed": self.seed,
            "run.seed": self.seed,
            **horizon,
        }

    @property
    def key(self) -> str:
        """Sixteen digits that stand for every setting of the run, the base file's among them."""
        from sim.scenario import sections

        given = sections(str(BASE), {}, self.assignments).model_dump(exclude_none=True)
        if not given["memory"]:
            del given["memory"]  # a section that came after the results
        identity = [given, self.configuration.replayed]
        if self.configuration.late_share is not None:
            identity += ["late share", self.configuration.late_share]
        if self.after is not None:
            identity += ["after", self.after.key]
        text = json.dumps(identity, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def assignments(self) -> list[str]:
        """The settings as --set takes them."""
        return [f"{key}={value}" for key, value in self.settings.items()]

    def __str__(self) -> str:
        return (
            f"{self.configuration.name}, {self.workers} workers, seed {self.seed}, "
            f"learning rate {self.learning_rate:g}"
        )


def planned(configurations: Sequence[Configuration], seeds: int) -> list[Planned]:
    """Return all runs, seed by seed, so that what is finished first is already a comparison."""
    return [
        Planned(configuration, workers, seed)
        for seed in range(seeds)
        for workers in WORKERS
        for configuration in configurations
    ]


def pilot() -> list[Planned]:
    """Return the runs that choose the settings: one seed that is not used again."""
    default = (  # outer settings: those of the methods' signatures
        Configuration("ddp", "ddp"),
        _in_rounds("diloco", "diloco", None),
        _in_rounds(
            "streaming 1 bf16",
            "streaming_diloco",
            None,
            fragment_sync_delay=1,
            comm_dtype="bf16",
        ),
    )
    rates = [(configuration, rate) for rate in PILOT_RATES for configuration in default]
    averaging = _in_rounds("local_sgd", "local_sgd", None)
    outer = [
        _in_rounds("diloco", "diloco", None, outer_lr=rate, outer_momentum=momentum)
        for rate, momentum in PILOT_OUTER
    ]
    tried = [*rates, *((configuration, LEARNING_RATE) for configuration in (averaging, *outer))]
    chosen = _in_rounds("diloco", "diloco", None, **OUTER)
    again = [  # tried besides; the inner rate with the chosen outer settings came after the runs
        (default[0], WORKERS[0], 0.006),
        (averaging, WORKERS[0], 0.003),
        (chosen, WORKERS[0], 0.003),
        (chosen, WORKERS[1], 0.0015),
        (chosen, WORKERS[1], 0.003),
    ]
    return [
        *(Planned(configuration, WORKERS[0], PILOT_SEED, rate) for configuration, rate in tried),
        *(
            Planned(configuration, workers, PILOT_SEED, rate)
            for configuration, workers, rate in again
        ),
    ]


def experiments() -> list[Planned]:
    """Return runs that say why some results are as they are; findings.md says which and why."""
    by_name = {configuration.name: configuration for configuration in CONFIGURATIONS}
    more_rounds = [
        replace(by_name[name], arguments={**by_name[name].arguments, "sync_every": FEWER_STEPS})
        for name in ("diloco", "eager")
    ]
    every_step = replace(by_name["local_sgd"], arguments={"sync_every": 1})
    eager = by_name["eager"]
    plain, shorter, slower = (
        replace(eager, arguments={**eager.arguments, "outer_lr": rate, "outer_momentum": momentum})
        for rate, momentum in EAGER_OUTER
    )
    acco = replace(by_name["acco"], name="acco, timed here", replayed=False)
    few, many = WORKERS
    trained = [Planned(by_name["ddp"], few, START_SEED + seed) for seed in range(2)]

    def started(configuration: Configuration, workers: int, seed: int, rate: float) -> Planned:
        named = replace(configuration, name=f"{configuration.name}{STARTED}")
        return Planned(named, workers, seed, rate, after=trained[seed])

    return [
        *(Planned(each, few, seed) for seed in range(3) for each in more_rounds),
        *(Planned(every_step, few, seed) for seed in range(2)),
        *(Planned(plain, few, seed) for seed in range(2)),
        *(
            Planned(by_name[name], few, seed, tokens=MORE_TOKENS)
            for seed in range(2)
            for name in ("ddp", "diloco", "eager")
        ),
        *(Planned(acco, workers, seed) for seed in range(2) for workers in WORKERS),
        *(Planned(plain, many, seed) for seed in range(2)),
        Planned(shorter, few, 0),
        *(Planned(slower, workers, 0) for workers in WORKERS),
        *(
            started(configuration, workers, seed, LEARNING_RATE)
            for seed in range(2)
            for configuration, workers in (
                (by_name["diloco"], few),
                (eager, few),
                (by_name["diloco"], many),
                (eager, many),
                (by_name["local_sgd"], few),
                (plain, few),
            )
        ),
        *(
            started(by_name[name], few, seed, SMALL_RATE)
            for seed in range(2)
            for name in ("diloco", "eager")
        ),
        *(Planned(each, 1, seed) for seed in range(2) for each in _alone()),
    ]


def _alone() -> Iterator[Configuration]:
    for share in LATE_SHARES:
        yield replace(_in_rounds(f"{ALONE}{share:g}", "diloco", None, **OUTER), late_share=share)
