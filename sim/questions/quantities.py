"""What ``required --of`` looks for, apart from the bandwidth: a row per quantity.

A row says in which order the values of a quantity are, how they are put into a scenario and how one
is typed. :mod:`sim.questions.quantity_search` searches them all in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, log, log1p
from typing import Any, get_args

from annotated_types import Ge

from sim.program import DTYPE_BITS, QUANTIZED, ArgumentError, wire_bytes
from sim.questions.variations import round_trip, with_batches_times, with_round_trip
from sim.records.scenario import Scenario
from sim.scenario.method import MethodError, parameters_of, who_takes
from sim.scenario.options import OPTIONS
from sim.units import format_count, format_seconds

Value = int | float | str

MOST_STEPS = 4096  # inner steps between outer steps, and inner steps of delay
MOST_ROUNDS = 64  # outer rounds of delay
MOST_TOKENS = 2**31  # of a batch
EXACT = 1000  # tokens of each micro-batch up to which batches are found exactly
LONGEST_S, SHORTEST_S = 1e4, 1e-9  # round trips; a shorter one is none
PRECISION = 1e-3  # relative, of a round trip or a larger batch
CHECKED = (1.05, 1.5, 4.0)  # factors from an answer at which utilization is looked at as well
_ONE_BY_ONE = 16  # values that are tried before larger and larger steps
_DELAYS = {"outer_sync_delay": MOST_ROUNDS, "fragment_sync_delay": MOST_STEPS}


@dataclass(frozen=True)
class Range:
    """The values of a quantity in one scenario, from the most demanded one to the easiest.

    Position 0 has the value that one would like best, like the widest type; with the positions
    the utilization grows, or does not fall.
    """

    #: Name of the value in CSV and JSON, SI unit included.
    key: str
    #: What people read over it.
    title: str
    #: The last position.
    last: int
    #: The value at a position.
    value: Callable[[int], Value]
    #: The scenario with a value.
    applied: Callable[[Value], Scenario]
    #: The options that say a value on the command line; "" where none can.
    typed: Callable[[Value], str]
    #: Positions that are simulated one by one, then steps double; 0: the whole range is halved,
    #: since utilization is taken to grow with the positions.
    one_by_one: int = 0
    #: The position of a value that is a factor less demanding than that of another position: where
    #: the range is halved, some are simulated to see whether utilization grows.
    easier: Callable[[int, float], int] | None = None
    #: What has to be known of the values.
    note: str = ""

    @property
    def runs(self) -> int:
        """How often one target's search simulates, about."""
        checked = 2 * len(CHECKED) if self.easier is not None else 0
        return self.one_by_one // 2 + ceil(log(self.last + 2, 2)) + checked


@dataclass(frozen=True)
class Quantity:
    """One row: a quantity that a target utilization may need."""

    #: What ``--of`` says.
    name: str
    #: What is found, in words; a heading continues "with which diloco reaches each target".
    found: str
    #: How many decimals or which unit: a kind of column.
    kind: str
    #: What the column of the value next to it is called, which does not reach the target.
    neighbor: str
    #: Keys of a scenario that it replaces: typing one as well is a mistake.
    replaces: tuple[str, ...]
    #: Its values in a scenario; an ArgumentError where there are none.
    range_in: Callable[[Scenario], Range]
    #: Whether the best value, at position 0, is only the end of what is tried.
    open_ended: bool = False


def _round_trips(scenario: Scenario) -> Range:
    if len(scenario.sites) < 2:
        raise ArgumentError("the scenario has one site, so there is no round trip between sites")
    steps = ceil(log(LONGEST_S / SHORTEST_S) / log1p(PRECISION))
    latency = scenario.network.latency
    alike = latency.common is not None or round_trip(scenario) == 0

    def value(position: int) -> float:
        return LONGEST_S * (1 + PRECISION) ** -position if position < steps else 0.0

    def typed(seconds: Value) -> str:
        return f"--rtt {1e3 * float(seconds):.10g}ms" if alike else ""

    return Range(
        "rtt_s",
        "rtt",
        steps,
        value,
        lambda seconds: with_round_trip(scenario, float(seconds)),
        typed,
        easier=lambda position, factor: position + round(log(factor) / log1p(PRECISION)),
        note=""
        if alike
        else "Round trips differ between pairs of sites: this is the longest one, and the others "
        "keep their proportion to it.",
    )


def _inner_steps(scenario: Scenario) -> Range:
    if not _takes(scenario, "sync_every"):
        raise ArgumentError(_takes_no(scenario, "sync_every"))
    _one_number(scenario, "sync_every", "the fewest inner steps")
    _several(scenario)
    return _counts(scenario, "sync_every", 1, MOST_STEPS)


def _delays(scenario: Scenario) -> Range:
    name = next((name for name in _DELAYS if _takes(scenario, name)), None)
    if name is None:
        takers = " nor ".join(f"{each} ({who_takes(each)})" for each in _DELAYS)
        raise ArgumentError(f"{scenario.method.name} takes neither {takers}")
    _one_number(scenario, name, "the shortest delay")
    _several(scenario)
    return _counts(scenario, name, _least(scenario, name), _DELAYS[name])


def _counts(scenario: Scenario, name: str, least: int, most: int) -> Range:
    """Return the range of an argument that is a whole number."""
    return Range(
        name,
        name,
        most - least,
        lambda position: least + position,
        partial(_with_argument, scenario, name),
        partial(_typed, f"method.{name}"),
        one_by_one=_ONE_BY_ONE,
        note=f"Every {name} up to {least + _ONE_BY_ONE - 1} is tried. Beyond, steps double up to "
        f"{most}, and the last one is halved: within it utilization is taken to grow.",
    )


def _types(scenario: Scenario) -> Range:
    if not _takes(scenario, "comm_dtype"):
        raise ArgumentError(_takes_no(scenario, "comm_dtype"))
    _several(scenario)
    # Of the types of 16 bits, which take equally long, the scenario's own.
    half = "fp16" if "fp16" in (scenario.comm_dtype, scenario.model.param_dtype) else "bf16"
    names = [name for name, bits in DTYPE_BITS.items() if bits != 16 or name == half]
    names.sort(key=lambda name: -DTYPE_BITS[name])
    block = scenario.network.collectives.quantize_block
    scales = "int8 and fp4 send no scales"
    if block:
        sizes = [wire_bytes(block, name, block) / block for name in QUANTIZED]
        scales = (
            f"int8 and fp4 send a scale of 16 bits with every {block} values, so "
            f"{sizes[0]:.4g} and {sizes[1]:.4g} bytes per value"
        )
    quantizes = any(worker.machine.seconds_of("quantize") for worker in scenario.workers)
    time = "their quantize_time is counted" if quantizes else "quantizing takes no time here"
    return Range(
        "comm_dtype",
        "comm_dtype",
        len(names) - 1,
        lambda position: names[position],
        partial(_with_argument, scenario, "comm_dtype"),
        partial(_typed, "method.comm_dtype"),
        one_by_one=len(names),
        note=f"Tried in the order {', '.join(names)}. {scales} (network.collective.quantize_block);"
        f" {time}.",
    )


def _batches(scenario: Scenario) -> Range:
    _several(scenario)
    machines = [worker.machine for worker in scenario.workers]
    mean = scenario.tokens_per_step / len(machines)
    alike = len({(each.batch_tokens, each.step_seconds) for each in machines}) == 1
    counts = {each.n_grad_accumulation for each in machines}
    unit = counts.pop() if len(counts) == 1 and alike else 1
    first = machines[0]
    given = f"{format_seconds(first.step_seconds)} for {format_count(first.batch_tokens)}"
    note = f"A step's computation takes time in proportion to its tokens: {given} here."
    if not alike:
        note = (
            "Batches differ between workers: this is their mean, and all keep their proportions; "
            "a step's computation takes time in proportion to its tokens."
        )

    def typed(tokens: Value) -> str:
        if not alike:
            return ""
        text = f"--batch-tokens {tokens}"
        if first.accelerators:  # from which the time of a step follows
            return text
        return f"{text} --step-time {first.step_seconds * float(tokens) / mean:.10g}s"

    def value(position: int) -> int:
        beyond = max(position + 1 - EXACT, 0)
        return unit * round(min(position + 1, EXACT) * (1 + PRECISION) ** beyond)

    def place(tokens: float) -> int:
        beyond = max(tokens / unit / EXACT, 1.0)
        return round(min(tokens / unit, EXACT) + log(beyond) / log1p(PRECISION)) - 1

    return Range(
        "batch_tokens",
        "batch_tokens",
        place(MOST_TOKENS),
        value,
        lambda tokens: with_batches_times(scenario, float(tokens) / mean),
        typed,
        easier=lambda position, factor: place(value(position) * factor),
        note=note,
    )


def _with_argument(scenario: Scenario, name: str, value: Value) -> Scenario:
    method = scenario.method
    return replace(scenario, method=replace(method, arguments={**method.arguments, name: value}))


def _typed(key: str, value: Value) -> str:
    option = next((name for name, each in OPTIONS.items() if each.key == key), None)
    return f"--set {key}={value}" if option is None else f"{option} {value}"


def _takes(scenario: Scenario, argument: str) -> bool:
    return argument in scenario.method.arguments or argument in _annotations(scenario)


def _annotations(scenario: Scenario) -> Mapping[str, Any]:
    try:
        return parameters_of(scenario.method.program).annotations
    except MethodError:
        return {}


def _takes_no(scenario: Scenario, argument: str) -> str:
    return f"{scenario.method.name} takes no {argument} ({who_takes(argument)})"


def _one_number(scenario: Scenario, name: str, what: str) -> None:
    if isinstance(scenario.method.arguments.get(name), tuple):
        raise ArgumentError(f"{name} is given per worker; give one number to search {what}")


def _several(scenario: Scenario) -> None:
    if len(scenario.workers) < 2:
        raise ArgumentError("the scenario has one worker, which synchronizes with nobody")


def _least(scenario: Scenario, name: str) -> int:
    """Return the least value that an argument's annotation allows; 0 where it says nothing."""
    return next(_bounds(_annotations(scenario).get(name)), 0)


def _bounds(annotation: Any) -> Iterator[int]:
    for part in get_args(annotation):
        if isinstance(part, Ge):
            yield int(part.ge)  # type: ignore[call-overload]
        yield from _bounds(part)


QUANTITIES: Mapping[str, Quantity] = {
    row.name: row
    for row in (
        Quantity(
            "rtt",
            "Longest round trip between sites",
            "seconds",
            "with 0.1 % more",
            ("network.rtt", "network.latency"),
            _round_trips,
            open_ended=True,
        ),
        Quantity(
            "sync_every",
            "Fewest inner steps between outer steps",
            "count",
            "with one step less",
            ("method.sync_every", "site.sync_every"),
            _inner_steps,
        ),
        Quantity(
            "delay",
            "Shortest delay of what is averaged",
            "count",
            "with one less",
            ("method.outer_sync_delay", "method.fragment_sync_delay"),
            _delays,
        ),
        Quantity(
            "comm_dtype",
            "Widest type on the wire",
            "text",
            "with the next wider one",
            ("method.comm_dtype",),
            _types,
        ),
        Quantity(
            "batch_tokens",
            "Fewest tokens of a worker's inner step",
            "number",
            "with 0.1 % less",
            (),  # with a step_time a batch says how long a token takes
            _batches,
        ),
    )
}

OF = ("bandwidth", *QUANTITIES)
"""All that ``--of`` takes."""
