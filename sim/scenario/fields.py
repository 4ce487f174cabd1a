"""What a single key may hold: quantities with bounds, counts, choices, matrices.

Each reader turns what is written into an SI number or raises :class:`RefusedError`. The bounds are
far outside anything sensible: they catch slips of the pen, not unusual plans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

from pydantic import PlainValidator

from sim import units
from sim.records.profiles import mistake
from sim.scenario.errors import did_you_mean, listed
from sim.text.visible import controls


class RefusedError(ValueError):
    """A value that its key does not allow. ``at`` is the place inside the value, if any."""

    def __init__(self, message: str, at: str = "", value: object = None) -> None:
        super().__init__(message)
        self.at = at
        self.value = value


@dataclass(frozen=True)
class Matrix:
    """One number in SI units per pair of sites: row = from, column = to; diagonal 0."""

    rows: tuple[tuple[float, ...], ...]


Reader = Callable[[object], Any]


def quantity(
    parse: Callable[[object], float], most: float, most_shown: str, why: str, *, zero: bool = False
) -> Callable[[object], float]:
    """Make a reader of strings with a unit; ``zero`` allows 0."""

    def read(value: object) -> float:
        number = parse(value)
        if number < 0:
            raise RefusedError("must not be negative")
        if number == 0 and not zero:
            raise RefusedError("must be more than zero")
        if number > most:
            raise RefusedError(f"must be at most {most_shown}: {why}")
        return number

    return read


def price(per: str) -> Callable[[object], tuple[float, str]]:
    """Make a reader of prices per hour ("h") or per TB: an amount and a currency."""

    def read(value: object) -> tuple[float, str]:
        amount, currency = units.parse_price(value, per)
        if amount < 0:
            raise RefusedError("must not be negative")
        if amount > 1e9:
            raise RefusedError("must be at most 1e9: nothing is sold at more")
        return amount, currency

    return read


def count(least: int, most: int, why: str, example: str | None = None) -> Callable[[object], int]:
    """Make a reader of whole numbers, as 48 or "10B"; ``example`` says how they are written."""

    def read(value: object) -> int:
        try:
            number = units.parse_count(value)
        except units.UnitError:
            if example is None:
                raise
            raise RefusedError(f"must be a whole number, like {example}") from None
        if number < least:
            raise RefusedError(f"must be at least {least}")
        if number > most:
            raise RefusedError(f"must be at most {units.format_count(most)}: {why}")
        return number

    return read


def number(
    least: float, most: float, why: str, *, above: bool = False
) -> Callable[[object], float]:
    """Make a reader of bare numbers; ``above`` excludes ``least`` itself."""

    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RefusedError("must be a number without quotes and without a unit")
        if not isfinite(value):
            raise RefusedError("must be a finite number")
        if value < least or (above and value == least):
            raise RefusedError(f"must be {'more than' if above else 'at least'} {least:g}")
        if value > most:
            raise RefusedError(f"must be at most {most:g}: {why}")
        return float(value)

    return read


def share(*, zero: bool) -> Callable[[object], float]:
    """Make a reader of fractions, as "40 %" or 0.40."""

    def read(value: object) -> float:
        part = units.parse_fraction(value)
        if part == 0 and not zero:
            raise RefusedError("must be more than zero")
        return part

    return read


def background(value: object) -> float:
    """Read which share of a link others use: less than all of it."""
    part = share(zero=True)(value)
    if part == 1:
        raise RefusedError("must be less than 100 %: nothing would be left of the link")
    return part


def at_most(
    read: Callable[[object], float], most: float, most_shown: str, why: str
) -> Callable[[object], float]:
    """Make a reader of what another one reads, up to a bound."""

    def bounded(value: object) -> float:
        number = read(value)
        if number > most:
            raise RefusedError(f"must be at most {most_shown}: {why}")
        return number

    return bounded


def choice(*names: str) -> Callable[[object], str]:
    """Make a reader of one word out of several."""

    def read(value: object) -> str:
        if value in names:
            return str(value)
        allowed = f"must be {listed(names)}"
        raise RefusedError(
            allowed + (did_you_mean(value, names, "") if isinstance(value, str) else "")
        )

    return read


def text(value: object) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str):
        raise RefusedError("must be text in quotes")
    if not value.strip():
        raise RefusedError("must not be empty")
    return _without(value, "")


def switch(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise RefusedError("must be true or false")
    return value


def name(value: object) -> str:
    """Read a text of one line."""
    return _without(text(value), "\n\t")


def _without(value: str, also: str) -> str:
    if found := controls(value, also):
        raise RefusedError(f"must not hold control characters ({found[0]})")
    return value


def jitter(value: object) -> object:
    """Read the short form, lognormal:0.05 or empirical:FILE, as the table that it means."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise RefusedError(f'needs a distribution; did you mean "lognormal:{value:g}"?')
    if not isinstance(value, str):
        return value
    distribution, colon, detail = (part.strip() for part in value.partition(":"))
    if not colon:
        if _as_number(distribution) is not None:
            raise RefusedError(f'needs a distribution; did you mean "lognormal:{distribution}"?')
        return {"distribution": distribution}
    if distribution == "empirical":
        return {"distribution": distribution, "file": detail}
    cv = _as_number(detail)
    if cv is None:
        raise RefusedError("write it like lognormal:0.05")
    return {"distribution": distribution, "cv": cv}


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def accelerators(value: object) -> str:
    """Read how many accelerators of which kind; what they are is looked up later."""
    if not isinstance(value, str) or not value.strip():
        raise RefusedError('must be how many of what, in quotes, like "64 x H100"')
    return value


def names(value: object) -> list[str]:
    """Read a list of names."""
    if not isinstance(value, list):
        raise RefusedError('must be a list of names, like ["paris", "dallas"]')
    if not value:
        raise RefusedError("must not be empty")
    for place, name in enumerate(value):
        if not isinstance(name, str):
            raise RefusedError("must be a name in quotes", f"[{place}]", name)
    return value


def function_name(value: object) -> str:
    """Read where a function of the user's is, without importing it."""
    module, _, attribute = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
        raise RefusedError('must be "package.module:function"')
    return f"{module}:{attribute}"


def replications(value: object) -> int:
    """Read how many replications: an odd number."""
    number = count(1, 999, "their median hardly moves any more", "7")(value)
    if number % 2 == 0:
        raise RefusedError("must be odd, so that the median is one of the runs, like 7")
    return number


def counts(one: Callable[[object], int], most: int) -> Callable[[object], tuple[int, ...]]:
    """Make a reader of a list of whole numbers."""

    def read(value: object) -> tuple[int, ...]:
        if not isinstance(value, list):
            raise RefusedError('must be a list of whole numbers, like [1000, "1.2M"]')
        if not value:
            raise RefusedError("must not be empty")
        if len(value) > most:
            raise RefusedError(f"must have at most {most:,} entries")
        numbers = []
        for place, entry in enumerate(value):
            try:
                numbers.append(one(entry))
            except ValueError as error:
                raise RefusedError(str(error), f"[{place}]", entry) from None
        return tuple(numbers)

    return read


def counts_of_each(
    one: Callable[[object], tuple[int, ...]], most: int
) -> Callable[[object], tuple[tuple[int, ...], ...]]:
    """Make a reader of a list of lists of whole numbers."""

    def read(value: object) -> tuple[tuple[int, ...], ...]:
        if not isinstance(value, list) or not all(isinstance(entry, list) for entry in value):
            raise RefusedError("must be a list of lists of numbers, like [[800, 200], [1000]]")
        if not value:
            raise RefusedError("must not be empty")
        if sum(map(len, value)) > most:
            raise RefusedError(f"must have at most {most:,} entries in all")
        found = []
        for place, entry in enumerate(value):
            try:
                found.append(one(entry))
            except RefusedError as error:
                raise RefusedError(str(error), f"[{place}]{error.at}", error.value) from None
        return tuple(found)

    return read


def names_or(*words: str) -> Callable[[object], str | list[str]]:
    """Make a reader of a list of names or one of a few words."""

    def read(value: object) -> str | list[str]:
        if isinstance(value, list):
            return names(value)
        if value in words:
            return str(value)
        quoted = listed([f'"{word}"' for word in words], "or")
        hint = did_you_mean(value, words, "") if isinstance(value, str) else ""
        raise RefusedError(f"must be {quoted}, or a list of site names{hint}")

    return read


def steps(value: object) -> int | str:
    """Read a number of inner steps or "steady"."""
    if value == "steady":
        return "steady"
    try:
        whole = units.parse_count(value)
    except units.UnitError:
        raise RefusedError('must be a whole number or "steady"') from None
    if whole < 1:
        raise RefusedError('must be at least 1, or "steady"')
    if whole > 10**12:
        raise RefusedError("must be at most 1T: nothing trains for longer")
    return whole


def or_balanced(number: Callable[[object], int], example: str) -> Callable[[object], int | str]:
    """Make a reader of a whole number, or "balanced"."""

    def read(value: object) -> int | str:
        if value == "balanced":
            return "balanced"
        try:
            return number(value)
        except units.UnitError:
            hint = did_you_mean(value, ["balanced"], "") if isinstance(value, str) else ""
            text = f'must be a whole number, like {example}, or "balanced"{hint}'
            raise RefusedError(text) from None

    return read


def profile(value: object) -> str | tuple[tuple[float, float], ...]:
    """Read pieces of a profile over time, each a begin and a factor, or the name of a file."""
    if isinstance(value, str):
        return text(value)
    example = '[["0 h", 1.0], ["8 h", 0.4]]'
    if not isinstance(value, list) or not value:
        raise RefusedError(f'must be pieces of a begin and a factor, like {example}, or "day.csv"')
    if len(value) > MOST_PIECES:
        raise RefusedError(f"must have at most {MOST_PIECES:,} pieces")
    pieces = []
    for place, piece in enumerate(value):
        if not isinstance(piece, list) or len(piece) != 2:
            raise RefusedError(
                'must be a begin and a factor, like ["8 h", 0.4]', f"[{place}]", piece
            )
        read = []
        for half, reader in enumerate((_read_begin, read_factor)):
            try:
                read.append(reader(piece[half]))
            except ValueError as error:
                raise RefusedError(str(error), f"[{place}][{half}]", piece[half]) from None
        pieces.append((read[0], read[1]))
    if (found := mistake(pieces)) is not None:
        raise RefusedError(found[1], f"[{found[0]}]", value[found[0]])
    return tuple(pieces)


@dataclass(frozen=True)
class OwnLink:
    """How one link varies, as written; None: as the keys of its site or of the network say."""

    profile: str | tuple[tuple[float, float], ...] | None = None
    profile_period: float | None = None
    background: float | None = None


def own_links(value: object) -> dict[str, OwnLink]:
    """Read keys of single links, by the name of each link."""
    if not isinstance(value, dict) or not value:
        raise RefusedError(
            'must be a table by link, like { "osaka.uplink" = { background = 0.3 } }'
        )
    readers = {"profile": profile, "profile_period": read_period, "background": background}
    found = {}
    for name, keys in value.items():
        if not isinstance(keys, dict) or not keys:
            raise RefusedError("must be a table, like { background = 0.3 }", f".{name}", keys)
        read: dict[str, Any] = {}
        for key, given in keys.items():
            at = f".{name}.{key}"
            if key not in readers:
                hint = did_you_mean(key, readers, f"; a link has {listed(readers, 'and')}")
                raise RefusedError(f"unknown key{hint}", at)
            try:
                read[key] = readers[key](given)
            except RefusedError as error:
                wrong = given if error.value is None else error.value
                raise RefusedError(str(error), at + error.at, wrong) from None
            except ValueError as error:
                raise RefusedError(str(error), at, given) from None
        found[name] = OwnLink(**read)
    return found


def everywhere(one: Callable[[object], float], example: str) -> Callable[[object], float | Matrix]:
    """Make a reader of one quantity for all pairs of sites, or a matrix of them."""

    def read(value: object) -> float | Matrix:
        if isinstance(value, list):
            raise RefusedError(f'a matrix is written {{ unit = "{example}", matrix = [[...]] }}')
        if not isinstance(value, dict):
            return one(value)
        for key in value:
            if key not in ("unit", "matrix"):
                raise RefusedError("unknown key; a matrix has unit and matrix", f".{key}")
        if "unit" not in value or "matrix" not in value:
            raise RefusedError(
                f'needs both, as {{ unit = "{example}", matrix = [[0, 1], [1, 0]] }}'
            )
        unit, rows = value["unit"], value["matrix"]
        if not isinstance(unit, str) or unit.strip()[:1].isdigit():
            raise RefusedError(f'must be a unit alone, like "{example}"', ".unit", unit)
        try:
            one(f"1 {unit}")
        except units.UnitError as error:
            raise RefusedError(str(error), ".unit", unit) from None
        if not isinstance(rows, list) or not rows:
            raise RefusedError("must be a list of rows, one per site", ".matrix", rows)
        return Matrix(tuple(_row(one, rows, i, unit) for i in range(len(rows))))

    return read


def _row(one: Callable[[object], float], rows: list[Any], i: int, unit: str) -> tuple[float, ...]:
    row, at = rows[i], f".matrix[{i}]"
    if not isinstance(row, list):
        raise RefusedError("must be a row: a list of numbers, one per site", at, row)
    if len(row) != len(rows):
        raise RefusedError(
            f"the matrix must be square: it has {len(rows)} rows, this row has {len(row)} numbers",
            at,
            row,
        )
    numbers = []
    for j, entry in enumerate(row):
        place = f"{at}[{j}]"
        if isinstance(entry, bool) or not isinstance(entry, int | float):
            raise RefusedError(
                "must be a number without quotes; the unit is given once", place, entry
            )
        try:
            numbers.append(0.0 if i == j else one(f"{entry!r} {unit}"))
        except ValueError as error:
            raise RefusedError(str(error), place, entry) from None
    return tuple(numbers)


_YEAR = 365 * 86400.0
_TIMEOUTS = "beyond, timeouts decide how fast TCP is, and its formula leaves them out"
_FAR = "that is further than anything here runs"

MOST_PIECES = 10_000
_read_begin = quantity(units.parse_duration, 10 * _YEAR, "3650 d", "no run takes longer", zero=True)
read_period = quantity(units.parse_duration, 10 * _YEAR, "3650 d", "no run takes longer")
read_factor = number(0, 1000, "it multiplies the bandwidth")

read_rate = quantity(units.parse_rate, 125e15, "1 Ebit/s", "no link is faster")
read_delay = quantity(units.parse_duration, 3600.0, "1 h", "no network takes longer", zero=True)

Rate = Annotated[float, PlainValidator(read_rate)]
Delay = Annotated[float, PlainValidator(read_delay)]
Rates = Annotated[float | Matrix, PlainValidator(everywhere(read_rate, "Gbit/s"))]
Delays = Annotated[float | Matrix, PlainValidator(everywhere(read_delay, "ms"))]
StepTime = Annotated[
    float,
    PlainValidator(
        quantity(units.parse_duration, _YEAR, "365 d", "an inner step does not take a year")
    ),
]
OperationTime = Annotated[
    float,
    PlainValidator(
        quantity(
            units.parse_duration, _YEAR, "365 d", "an operation does not take a year", zero=True
        )
    ),
]
ProfilePieces = Annotated[str | tuple[tuple[float, float], ...], PlainValidator(profile)]
ProfilePeriod = Annotated[float, PlainValidator(read_period)]
OwnLinks = Annotated[dict[str, OwnLink], PlainValidator(own_links)]
Background = Annotated[float, PlainValidator(background)]
Size = Annotated[
    float, PlainValidator(quantity(units.parse_bytes, 1e18, "1 EB", "no connection holds more"))
]
MemorySize = Annotated[
    float,
    PlainValidator(quantity(units.parse_bytes, 1e15, "1 PB", "no accelerator has more")),
]
BytesEach = Annotated[
    float,
    PlainValidator(
        quantity(units.parse_bytes, 1024, "1024 B", "no parameter takes more", zero=True)
    ),
]
Flops = Annotated[
    float,
    PlainValidator(
        quantity(units.parse_flops, 1e18, "1 EFLOP/s", "no single accelerator is faster")
    ),
]
Power = Annotated[
    float,
    PlainValidator(
        quantity(units.parse_power, 1e6, "1 MW", "no single accelerator takes more", zero=True)
    ),
]
Price = Annotated[tuple[float, str], PlainValidator(price("h"))]
EgressPrice = Annotated[tuple[float, str], PlainValidator(price("TB"))]
Pue = Annotated[float, PlainValidator(number(1, 10, "it is all power over that of computers"))]
Loss = Annotated[float, PlainValidator(at_most(share(zero=True), 0.1, "10 %", _TIMEOUTS))]
Fraction = Annotated[float, PlainValidator(share(zero=True))]
Share = Annotated[float, PlainValidator(share(zero=False))]
Parameters = Annotated[int, PlainValidator(count(1, 10**18, "no model is larger"))]
LayerParameters = Annotated[
    tuple[int, ...], PlainValidator(counts(count(1, 10**18, "no model is larger"), 100_000))
]
LayerTensors = Annotated[
    tuple[tuple[int, ...], ...],
    PlainValidator(
        counts_of_each(counts(count(1, 10**18, "no tensor is larger"), 100_000), 100_000)
    ),
]
Tokens = Annotated[int, PlainValidator(count(1, 10**18, "there is not that much text"))]
BatchTokens = Annotated[
    int | str,
    PlainValidator(or_balanced(count(1, 10**12, "one step does not read that much"), '"1Mi"')),
]
InnerSteps = Annotated[int | str, PlainValidator(or_balanced(count(1, 10**9, _FAR), "20"))]
Layers = Annotated[int, PlainValidator(count(1, 100_000, "no model is deeper", "48"))]
Width = Annotated[int, PlainValidator(count(1, 10**8, "no model is wider", "512"))]
Whole = Annotated[int, PlainValidator(count(0, 10**9, _FAR, "1"))]
AtLeastOne = Annotated[int, PlainValidator(count(1, 10**9, _FAR, "1"))]
Replications = Annotated[int, PlainValidator(replications)]
Workers = Annotated[int, PlainValidator(count(1, 10**6, "more cannot be simulated", "8"))]
Steps = Annotated[int | str, PlainValidator(steps)]
Slowdown = Annotated[float, PlainValidator(number(1, 1000, "it multiplies times"))]
Speed = Annotated[float, PlainValidator(number(0, 1000, "1 is the machine as given", above=True))]
Variation = Annotated[float, PlainValidator(number(0, 10, "cv is standard deviation / mean"))]
Text = Annotated[str, PlainValidator(text)]
Name = Annotated[str, PlainValidator(name)]
Accelerators = Annotated[str, PlainValidator(accelerators)]
Names = Annotated[list[str], PlainValidator(names)]
RingOrder = Annotated[str | list[str], PlainValidator(names_or("given", "best"))]
ParamDtype = Annotated[str, PlainValidator(choice("bf16", "fp16", "fp32"))]
Per = Annotated[str, PlainValidator(choice("pair", "site"))]
Schedule = Annotated[str, PlainValidator(choice("constant", "cosine"))]
OuterState = Annotated[str, PlainValidator(choice("device", "host"))]
Sharding = Annotated[str, PlainValidator(choice("none", "zero1", "zero2", "zero3"))]
MemoryConvention = Annotated[str, PlainValidator(choice("mixed", "streaming_diloco", "realrun"))]
Activations = Annotated[str, PlainValidator(choice("none", "recomputed", "selective", "stored"))]
AverageBy = Annotated[str, PlainValidator(choice("workers", "tokens"))]
ComputeMode = Annotated[str, PlainValidator(choice("real", "paced"))]
NotFinite = Annotated[str, PlainValidator(choice("stop", "warn"))]
FunctionName = Annotated[str, PlainValidator(function_name)]
ModelKind = Annotated[str, PlainValidator(choice("gpt"))]
Switch = Annotated[bool, PlainValidator(switch)]
InsideMethod = Annotated[str, PlainValidator(choice("ddp", "zero1", "fsdp"))]
InsideExchange = Annotated[str, PlainValidator(choice("sharded", "leader"))]
InsideAlgorithm = Annotated[
    str,
    PlainValidator(choice("ring", "tree", "halving_doubling", "direct", "hierarchical", "nccl")),
]
Algorithm = Annotated[
    str,
    PlainValidator(
        choice(
            "ring",
            "tree",
            "halving_doubling",
            "direct",
            "hierarchical",
            "requantized_ring",
            "nccl",
            "gloo",
        )
    ),
]
Distribution = Annotated[
    str, PlainValidator(choice("constant", "normal", "lognormal", "gamma", "empirical"))
]
Positive = Annotated[float, PlainValidator(number(0, 1e9, "that is beyond use", above=True))]
NotNegative = Annotated[float, PlainValidator(number(0, 1e9, "that is beyond use"))]
