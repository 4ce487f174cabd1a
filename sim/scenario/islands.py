"""[site.inside]: the step of a worker of many accelerators, simulated once for each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from statistics import fmean
from typing import Any

from sim.operations import OPERATIONS
from sim.program import ArgumentError
from sim.records.islands import PROGRAMS, scenario_of
from sim.records.scenario import Inside, Jitter, Machine, ModelSize, Run
from sim.runtime import simulate
from sim.runtime.errors import SimulationError
from sim.scenario.balance import BALANCED
from sim.scenario.context import Context
from sim.scenario.errors import ScenarioError, listed
from sim.scenario.interconnects import read_interconnect
from sim.scenario.method import ArgumentsError, arguments_of
from sim.scenario.nodes import NODES, unlike
from sim.scenario.samples import normalised
from sim.scenario.schema import InsideSection
from sim.units import format_percent, format_rate, format_seconds

DEFAULT_NODE = "DGX H100"
DEFAULT_NODE_RTT, DEFAULT_RTT = 6e-6, 20e-6
MOST_ACCELERATORS = 1024
"""Of one island whose every accelerator is simulated."""

_STEPS = 64  # simulated where an accelerator's times vary
_OPERATIONS = 400_000  # simulated at most for them
_SKIPPED = 1  # steps at the beginning, before which nothing is gathered ahead

Assumed = list[tuple[str, str]]


@dataclass(frozen=True)
class Step:
    """What the step of an island has come to."""

    #: Seconds of the whole step, its optimizer included: the mean.
    seconds: float
    #: Of its optimizer alone.
    optimizer_seconds: float
    #: Part of the rest during which an accelerator waits for communication.
    exposed: float
    #: Factors of single steps, where they vary.
    factors: tuple[float, ...] = ()


def with_inside(
    context: Context, index: int, machine: Machine, model: ModelSize, assumed: Assumed
) -> Machine:
    """Return the machine of a worker with ``inside``, with the times that it then reaches.

    Parameters
    ----------
    index
        Of the ``[[site]]`` table.
    machine
        Times of the kernels alone: of an inner step shared by all accelerators, and of the
        operations of the whole model.
    assumed
        Takes what nobody has given.
    """
    site = context.sections.site[index]
    section = site.inside
    assert section is not None
    if site.batch_tokens == BALANCED:
        raise context.refuse(
            *("site", index, "batch_tokens"),
            text="a step with inside does not grow in proportion to its tokens; give a number",
        )
    inside = _read(context, index, section, machine, model, assumed)
    try:
        found = reached(machine, inside, model, context.sections.run.seed or 0)
    except (ArgumentError, SimulationError) as error:
        raise context.refuse_key("site", index, "inside", text=str(error)) from None
    kernels, passes = machine.step_seconds / machine.speed, found.step_seconds / found.speed
    hidden = f"{format_percent(found.exposed_inside)} of it waits for communication inside"
    said = f"{format_seconds(passes)} (simulated inside: {format_seconds(kernels)} of kernels"
    assumed[:] = [note for note in assumed if note[0] != "step_time"]
    assumed.append(("step_time", f"{said}; {hidden})"))
    return found


def reached(machine: Machine, inside: Inside, model: ModelSize, seed: int) -> Machine:
    """Return the machine of a worker with the times that it reaches with what happens inside.

    Times of the machine itself take no part; those of the kernels are ``inside.accelerator``'s.

    Raises
    ------
    sim.program.ArgumentError
        Where the arguments of what happens inside do not go together.
    sim.runtime.SimulationError
        Where it cannot be simulated.
    """
    step = _simulated(inside, model, seed)
    jitter = Jitter()
    if step.factors:
        # One factor per micro-batch makes the outer run's steps vary as these do.
        spread = machine.n_grad_accumulation**0.5
        wider = tuple(max(0.0, 1 + (factor - 1) * spread) for factor in step.factors)
        factors, cv = normalised(wider)
        jitter = Jitter("empirical", cv, factors)
    times: dict[str, Any] = {
        OPERATIONS["inner_optimizer"].field: step.optimizer_seconds * machine.speed
    }
    return replace(
        machine,
        step_seconds=(step.seconds - step.optimizer_seconds) * machine.speed,
        **times,
        first_layer_backward=1.0,
        jitter=jitter,
        accelerators=inside.accelerators,
        inside=inside,
        exposed_inside=step.exposed,
    )


def _read(
    context: Context,
    index: int,
    section: InsideSection,
    machine: Machine,
    model: ModelSize,
    assumed: Assumed,
) -> Inside:
    def of(key: str, default: Any, shown: str) -> Any:
        given = getattr(section, key)
        if given is None:
            assumed.append((f"inside.{key}", shown))
            return default
        return given

    def refuse(key: str, text: str) -> ScenarioError:
        return context.refuse("site", index, "inside", key, text=text)

    count = section.accelerators or machine.accelerators
    if section.accelerators and machine.accelerators not in (0, section.accelerators):
        raise refuse(
            "accelerators",
            f"site.accelerators says {machine.accelerators}; leave one of the two out",
        )
    if not count:
        raise context.refuse_key(
            *("site", index, "inside"),
            text='needs the number of accelerators: site.accelerators = "64 x H100", or '
            "inside.accelerators = 64",
        )
    if count > MOST_ACCELERATORS:
        raise context.refuse_key(
            *("site", index, "inside"),
            text=f"{count:,} accelerators of one worker cannot be simulated one by one, at most "
            f"{MOST_ACCELERATORS:,}; leave inside out, and give mfu",
        )
    if machine.batch_tokens < count:
        raise context.refuse(
            *("site", index, "batch_tokens"),
            text=f"is shared by {count} accelerators, which leaves less than one token for each",
        )
    node = NODES[section.node or DEFAULT_NODE]
    note = f" ({section.node})" if section.node else ""
    gives = ("per_node", "within_node", "between_nodes")
    if section.node and all(getattr(section, key) is not None for key in gives):
        assumed.append(("inside.node", f"not used ({listed(gives, 'and')} are given)"))
    elif section.node:
        other = unlike(section.node, context.sections.site[index].accelerators)
        assumed += [("inside.node", other)] if other else []
    most = min(node.accelerators, count)
    per_node = of("per_node", most, f"{most}{note}")
    several = count > per_node
    within = of("within_node", read_interconnect(node.within), f"{_named(node.within)}{note}")
    node_rtt = of("node_rtt", DEFAULT_NODE_RTT, format_seconds(DEFAULT_NODE_RTT))
    between, rtt = read_interconnect(node.between), DEFAULT_RTT
    if several:
        between = of("between_nodes", between, f"{_named(node.between)}{note}")
        rtt = of("rtt", rtt, format_seconds(rtt))
    for key in () if several else ("between_nodes", "rtt"):
        if getattr(section, key) is not None:
            raise refuse(key, f"there is one node only: per_node is {per_node}, of {count}")
    arguments = _arguments(context, index, section, model, assumed)
    return Inside(
        section.method,
        tuple(arguments.items()),
        count,
        min(per_node, count),
        replace(machine, batch_tokens=machine.batch_tokens / count, accelerators=1),
        within,
        node_rtt / 2,
        between,
        rtt / 2,
        of("algorithm", "ring", "ring"),
        of("exchange", "sharded", "sharded"),
    )


def _named(link: str) -> str:
    return f"{link}, {format_rate(read_interconnect(link))}"


def _arguments(
    context: Context, index: int, section: InsideSection, model: ModelSize, assumed: Assumed
) -> Mapping[str, Any]:
    """Return the arguments of what happens inside, checked as a method's are."""
    program, fixed = PROGRAMS[section.method]
    keys = ("prefetch", "reshard", "bucket_bytes", "comm_dtype")
    given = {key: getattr(section, key) for key in keys if getattr(section, key) is not None}
    try:
        found, left = arguments_of(section.method, program, {**fixed, **given})
    except ArgumentsError as error:
        raise context.refuse("site", index, "inside", error.key, text=str(error)) from None
    found = {key: value for key, value in found.items() if key not in fixed}
    if found.get("comm_dtype") is None:
        found["comm_dtype"] = model.param_dtype
        assumed.append(("inside.comm_dtype", f"{model.param_dtype} (model.param_dtype)"))
    used = {key: value for key, value in left.items() if key in keys and key != "comm_dtype"}
    for key, value in used.items():
        assumed.append((f"inside.{key}", str(value).lower()))
    return found


def operations(inside: Inside, model: ModelSize) -> int:
    """Return about how many operations are simulated for an island; 0 where all do the same."""
    return _steps(inside, model) * _in_a_step(inside, model) if _varies(inside) else 0


def _varies(inside: Inside) -> bool:
    return inside.accelerator.jitter.random


def _in_a_step(inside: Inside, model: ModelSize) -> int:
    return inside.accelerators * model.layers * inside.accelerator.n_grad_accumulation * 8


def _steps(inside: Inside, model: ModelSize) -> int:
    if not _varies(inside):
        return 1
    return max(8, min(_STEPS, _OPERATIONS // _in_a_step(inside, model)))


@lru_cache(maxsize=256)
def _simulated(inside: Inside, model: ModelSize, seed: int) -> Step:
    """Simulate steps of an island: one where all are alike, else enough to see how they vary."""
    machine = inside.accelerator
    rounds = _SKIPPED + _steps(inside, model) + 1
    island = scenario_of(inside, model, Run(rounds=rounds, seed=seed))
    trace = simulate(island, rounds=rounds)
    # A step has begun when the last accelerator begins it.
    begins = [float(max(ranks)) for ranks in trace.round_begins()]
    taken = [after - before for before, after in pairwise(begins[_SKIPPED:rounds])]
    seconds = fmean(taken)
    shards = 1 if inside.method == "ddp" else inside.accelerators
    optimizer = machine.seconds_of("inner_optimizer") / machine.speed / shards
    kernels = machine.step_seconds / machine.speed
    exposed = max(0.0, 1 - kernels / (seconds - optimizer)) if seconds > optimizer else 0.0
    if exposed < 1e-12:
        exposed = 0.0
    return Step(
        seconds, optimizer, exposed, tuple(t / seconds for t in taken) if _varies(inside) else ()
    )
