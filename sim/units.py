"""Quantities as people write them, to SI numbers and back.

Rates are bytes/s, durations seconds, counts whole numbers, fractions 0 to 1, computing power
FLOP/s. A unit is never guessed: where a quantity has one, a bare number is an error, except 0. In
rates ``b`` is a bit and ``B`` a byte, always; the prefix before it may be of either case ("gbps"
is Gbit/s), because a millibit per second is nothing that anyone means.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import isfinite


class UnitError(ValueError):
    """A quantity that cannot be read. The message says what to write instead."""


class Quantity(float):
    """A number that already is in SI units; every ``parse_`` function returns it as it is."""


MOST = 10**30
"""Beyond it no quantity of any kind lies, nor any whole number in a file."""

_MOST_DIGITS = 300  # of one number as it is written; Python converts no more than 4,300

_NUMBER = re.compile(r"([+-]?)(\d[\d_]*(?:\.\d[\d_]*)?|\.\d[\d_]*)(?:[eE]([+-]?\d{1,3}))?")

_DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "p": 10**15, "e": 10**18}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40, "pi": 2**50}
_PREFIXES = {**_DECIMAL, **_BINARY}
_PREFIX = r"([kKmMgGtTpPeE]i?)?"

_RATE = re.compile(_PREFIX + r"(bits?|Bits?|b|bytes?|Bytes?|B)(/s|/sec|/second|ps)")
_SIZE = re.compile(_PREFIX + r"(bytes?|Bytes?|B)")
_FLOPS = re.compile(_PREFIX + r"(?:FLOPs?/s(?:ec)?|flops?/s(?:ec)?|FLOPS|FLOPs|flops|Flops)")
_RATE_WITHOUT_TIME = re.compile(_PREFIX + r"(bits?|Bits?|b|bytes?|Bytes?|B)")

_BEYOND = "is beyond any sensible number"

_DURATIONS: dict[str, Fraction] = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "\u00b5s": Fraction(1, 10**6),  # micro sign
    "\u03bcs": Fraction(1, 10**6),  # Greek mu, which looks the same
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_DURATION_WORDS = {
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("usec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}
_POWERS = {"W": 1, "kW": 10**3, "MW": 10**6}
_COUNTS = {
    "": 1,
    "K": 10**3,
    "k": 10**3,
    "M": 10**6,
    "B": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def parse_rate(value: object) -> float:
    """Read a data rate and return it in bytes/s.

    Examples
    --------
    >>> parse_rate("1 Gbit/s"), parse_rate("740 Mbits/sec"), parse_rate("100 MB/s")
    (125000000.0, 92500000.0, 100000000.0)
    >>> parse_rate("10 GiB/s"), parse_rate("1gbps")
    (10737418240.0, 125000000.0)
    >>> parse_rate("10")
    Traceback (most recent call last):
        ...
    sim.units.UnitError: no unit; write it like "1 Gbit/s"
    """
    if isinstance(value, Quantity):
        return float(value)
    number, unit = _split(value, "1 Gbit/s")
    return float(number * _rate_unit(unit))


@lru_cache(maxsize=256)
def _rate_unit(unit: str) -> Fraction:
    match = _RATE.fullmatch(unit)
    if match is None:
        if _RATE_WITHOUT_TIME.fullmatch(unit):
            raise UnitError(f'"{unit}" is an amount, not a rate; write "{unit}/s"')
        if re.fullmatch(_PREFIX + r"BPS", unit):
            prefix = unit[: -len("BPS")]
            raise UnitError(
                f'"{unit}" may mean bits or bytes; write "{prefix}bit/s" or "{prefix}B/s"'
            )
        raise UnitError(f'unknown unit "{unit}" for a data rate; write it like "1 Gbit/s"')
    prefix, what, _ = match.groups()
    bits = what == "b" or what.lower().startswith("bit")
    return Fraction(_PREFIXES[(prefix or "").lower()], 8 if bits else 1)


def parse_duration(value: object) -> float:
    """Read a duration and return it in seconds.

    Examples
    --------
    >>> parse_duration("30 ms"), parse_duration("20us"), parse_duration("1.5 h")
    (0.03, 2e-05, 5400.0)
    >>> parse_duration("85")
    Traceback (most recent call last):
        ...
    sim.units.UnitError: no unit; write it like "30 ms"
    """
    if isinstance(value, Quantity):
        return float(value)
    number, unit = _split(value, "30 ms")
    factor = _DURATIONS.get(_DURATION_WORDS.get(unit, unit))
    if factor is None:
        if unit == "m":
            raise UnitError('"m" may mean minutes or milliseconds; write "min" or "ms"')
        known = ", ".join(("ns", "us", "ms", "s", "min", "h", "d"))
        raise UnitError(f'unknown unit "{unit}" for a duration; the units are {known}')
    return float(number * factor)


def parse_count(value: object) -> int:
    """Read a whole number; K, M, B, T are powers of 1000, Ki, Mi, Gi, Ti of 1024.

    Examples
    --------
    >>> parse_count("10B"), parse_count("1.5M"), parse_count("1Mi"), parse_count("7_000")
    (10000000000, 1500000, 1048576, 7000)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number, unit = _finite(value), ""
    else:
        number, unit = _split(value, "10B", unit_needed=False)
    factor = _COUNTS.get(unit)
    if factor is None:
        near = {"b": "B", "m": "M", "t": "T", "g": "B", "bn": "B", "mio": "M"}.get(unit.lower())
        hint = f'write "{near}"' if near else "write K, M, B, T or Ki, Mi, Gi, Ti"
        raise UnitError(f'unknown unit "{unit}" for a count; {hint}')
    result = number * factor
    if result.denominator != 1:
        raise UnitError("must be a whole number")
    return int(result)


def parse_fraction(value: object) -> float:
    """Read a part of a whole, as "95 %" or 0.95, and return it as 0 to 1.

    Examples
    --------
    >>> parse_fraction("95 %"), parse_fraction("95%"), parse_fraction(0.95)
    (0.95, 0.95, 0.95)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        number, unit = _finite(value), ""
    else:
        number, unit = _split(value, "95 %", unit_needed=False)
    if unit not in ("", "%"):
        raise UnitError(f'unknown unit "{unit}" for a fraction; write it like "95 %" or 0.95')
    result = number / 100 if unit else number
    if not 0 <= result <= 1:
        hint = "" if unit or result < 2 else f'; did you mean "{_plain(float(number))} %"?'
        raise UnitError("must lie between 0 and 1, that is 0 % and 100 %" + hint)
    return float(result)


def parse_flops(value: object) -> float:
    """Read computing power and return it in FLOP/s.

    Examples
    --------
    >>> parse_flops("989 TFLOP/s"), parse_flops("1.5 PFLOPS")
    (989000000000000.0, 1500000000000000.0)
    """
    if isinstance(value, Quantity):
        return float(value)
    number, unit = _split(value, "989 TFLOP/s")
    match = _FLOPS.fullmatch(unit)
    if match is None:
        raise UnitError(f'unknown unit "{unit}" for computing power; write it like "989 TFLOP/s"')
    return float(number * _PREFIXES[(match.group(1) or "").lower()])


def parse_power(value: object) -> float:
    """Read electric power and return it in watts.

    Examples
    --------
    >>> parse_power("700 W"), parse_power("1.2 kW")
    (700.0, 1200.0)
    """
    if isinstance(value, Quantity):
        return float(value)
    number, unit = _split(value, "700 W")
    factor = _POWERS.get(unit)
    if factor is None:
        known = ", ".join(_POWERS)
        raise UnitError(f'unknown unit "{unit}" for power; the units are {known}')
    return float(number * factor)


def parse_price(value: object, per: str) -> tuple[float, str]:
    """Read an amount of money per hour ("h") or per amount of data ("TB").

    Returns
    -------
    amount, currency
        Money per hour or per TB, and three letters, or none where no currency is given.

    Examples
    --------
    >>> parse_price("2.50 USD/h", "h"), parse_price("90 EUR/TB", "TB"), parse_price("2/h", "h")
    ((2.5, 'USD'), (90.0, 'EUR'), (2.0, ''))
    >>> parse_price("90 USD/GB", "TB")
    Traceback (most recent call last):
        ...
    sim.units.UnitError: unknown unit "USD/GB" for a price; write it per TB: 1 per GB is 1000 per TB
    """
    example = "2.50 USD/h" if per == "h" else "90 USD/TB"
    number, unit = _split(value, example)
    match = re.fullmatch(r"([A-Z]{3})?\s*/\s*" + per, unit)
    if match is None:
        raise UnitError(f'unknown unit "{unit}" for a price; {_price_written(unit, per)}')
    # A bare 0 takes the example's unit, not its currency.
    bare = number == 0 and (not isinstance(value, str) or "/" not in value)
    return float(number), "" if bare else match.group(1) or ""


def _price_written(given: str, per: str) -> str:
    """Say how a price is written, whose unit is another one."""
    if per == "TB" and re.fullmatch(r"([A-Z]{3})?\s*/\s*GB", given):
        return "write it per TB: 1 per GB is 1000 per TB"
    example = "2.50 EUR/h" if per == "h" else "90 EUR/TB"
    unit = "/h (per accelerator)" if per == "h" else "/TB"
    return f'the units are a currency of three capital letters and {unit}, like "{example}"'


def parse_bytes(value: object) -> float:
    """Read an amount of data and return it in bytes.

    Examples
    --------
    >>> parse_bytes("25 MiB"), parse_bytes("2 GB")
    (26214400.0, 2000000000.0)
    """
    if isinstance(value, Quantity):
        return float(value)
    number, unit = _split(value, "25 MiB")
    match = _SIZE.fullmatch(unit)
    if match is None:
        raise UnitError(f'unknown unit "{unit}" for an amount of data; write it like "25 MiB"')
    return float(number * _PREFIXES[(match.group(1) or "").lower()])


def _split(value: object, example: str, *, unit_needed: bool = True) -> tuple[Fraction, str]:
    """Take apart "1.5 Gbit/s"; exact, so that "0.1 Gbit/s" is the float nearest to it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnitError(f'must be written like "{example}"')
    if not isinstance(value, str):
        if _finite(value) == 0 and unit_needed:
            return Fraction(0), example.split()[1]
        raise UnitError(f'no unit; write it like "{example}"')
    return _split_text(value.strip(), example, unit_needed)


@lru_cache(maxsize=4096)  # thousands of sites mostly say the same
def _split_text(text: str, example: str, unit_needed: bool) -> tuple[Fraction, str]:
    match = _NUMBER.match(text)
    if match is None:
        if text.lower().lstrip("+-")[:3] in ("nan", "inf"):
            raise UnitError(f'must be a finite number; write it like "{example}"')
        raise UnitError(f'does not begin with a number; write it like "{example}"')
    unit = text[match.end() :].strip()
    if unit[:1] in (",", ".") or unit[:1].isdigit():
        raise UnitError(f'is not one number and one unit; write it like "{example}"')
    sign, digits, exponent = match.groups()
    if len(digits) > _MOST_DIGITS:
        raise UnitError("has more digits than any sensible number")
    number = Fraction(digits.replace("_", ""))
    if exponent:
        number *= Fraction(10) ** int(exponent)
    if unit_needed and not unit:
        if number == 0:  # the same in every unit
            return number, example.split()[1]
        raise UnitError(f'no unit; write it like "{example}"')
    if number > MOST:
        raise UnitError(_BEYOND)
    return (-number if sign == "-" else number), unit


def _finite(value: float) -> Fraction:
    if isinstance(value, float) and not isfinite(value):
        raise UnitError("must be a finite number")
    if abs(value) > MOST:
        raise UnitError(_BEYOND)
    # repr, not the binary value: 0.1 in a file means one tenth.
    return Fraction(value) if isinstance(value, int) else Fraction(repr(float(value)))


def _plain(value: float, digits: int = 4) -> str:
    text = f"{value:.{digits}g}"
    if "e" in text and 1e-9 < abs(value) < 1e18:
        text = f"{Decimal(text):f}"
    return text


def _binary(value: float, suffix: str) -> str | None:
    """Write a whole multiple of a power of 1024, unless three decimal digits say it exactly."""
    if not isfinite(value) or float(f"{value:.3g}") == value:
        return None
    for factor, prefix in ((2**40, "Ti"), (2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki")):
        if value % factor == 0 and abs(value) < 1024 * factor:
            return f"{value // factor:.0f}{suffix}".replace("_", prefix)
    return None


def _with_prefix(value: float, steps: list[tuple[float, str]], digits: int) -> str:
    """Write a value in the largest unit that leaves at least 1 in front, after rounding."""
    if not isfinite(value):
        return "unlimited" if value > 0 else str(value)
    chosen = steps[0]
    for factor, unit in steps:
        if abs(float(f"{value / factor:.{digits}g}")) >= 1:
            chosen = (factor, unit)
    return f"{_plain(value / chosen[0], digits)} {chosen[1]}"


def format_rate(bytes_per_second: float, digits: int = 4) -> str:
    """Write a rate in bits per second, as networks are sold.

    Examples
    --------
    >>> format_rate(125e6), format_rate(92.5e6), format_rate(0.0)
    ('1 Gbit/s', '740 Mbit/s', '0 bit/s')
    """
    prefixes = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P"))
    return _with_prefix(
        bytes_per_second * 8, [(factor, f"{p}bit/s") for factor, p in prefixes], digits
    )


def format_seconds(seconds: float, digits: int = 3) -> str:
    """Write a duration in the unit in which people say it.

    Examples
    --------
    >>> format_seconds(0.03), format_seconds(90), format_seconds(198720)
    ('30 ms', '90 s', '2.3 days')
    """
    if not isfinite(seconds):
        return str(seconds)
    size = abs(seconds)
    if size < 1 or size == 0:
        steps = [(1.0, "s")] if size == 0 else [(1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1, "s")]
        return _with_prefix(seconds, steps, digits)
    # Two of the larger unit before changing to it: "90 s" and "36 h" read better than "1.5 ...".
    factor, unit = next(
        ((factor, unit) for limit, factor, unit in _LONG if size < limit), (86400.0, "days")
    )
    return f"{_plain(seconds / factor, digits)} {unit}"


_LONG = ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172800.0, 3600.0, "h"))


def is_binary(count: float) -> bool:
    """Whether a count is written in powers of 1024, in few signs.

    Examples
    --------
    >>> is_binary(40.0 * 2**20), is_binary(50e6), is_binary(16.0)
    (True, False, False)
    """
    if not isfinite(count) or count < 1024 or count != round(count):
        return False
    text = format_count(round(count))
    return text.endswith("i") and len(text) <= 6


def format_count(count: float, digits: int = 4) -> str:
    """Write a count; an exact multiple of a power of 1024 keeps its binary prefix.

    Examples
    --------
    >>> format_count(10_000_000_000), format_count(2**20), format_count(7000), format_count(48)
    ('10B', '1Mi', '7K', '48')
    """
    if not isfinite(count):
        return str(count)
    if abs(count) < 1000:
        return _plain(count, max(digits, 3))
    if abs(count) >= 1e16:
        return f"{count:.{digits}g}".replace("e+", "e")
    binary = _binary(count, "_")
    if binary is not None:
        return binary
    if abs(count) < 10_000 and count % 1000 != 0:
        return f"{count:.0f}"
    steps = [(1e3, "K"), (1e6, "M"), (1e9, "B"), (1e12, "T")]
    return _with_prefix(count, steps, digits).replace(" ", "")


def format_bytes(size: float, digits: int = 4) -> str:
    """Write an amount of data; an exact multiple of a power of 1024 keeps its binary prefix.

    Examples
    --------
    >>> format_bytes(2e9), format_bytes(25 * 2**20), format_bytes(300)
    ('2 GB', '25 MiB', '300 B')
    """
    binary = _binary(size, " _B")
    if binary is not None:
        return binary
    units = ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"), (1e15, "PB"))
    return _with_prefix(size, list(units), digits)


def format_percent(fraction: float, digits: int = 3) -> str:
    """Write a fraction in percent.

    Examples
    --------
    >>> format_percent(0.95), format_percent(0.98765)
    ('95 %', '98.8 %')
    """
    return f"{_plain(fraction * 100, digits)} %" if isfinite(fraction) else str(fraction)


def format_flops(flops: float, digits: int = 4) -> str:
    """Write computing power.

    Examples
    --------
    >>> format_flops(989e12)
    '989 TFLOP/s'
    """
    prefixes = (
        (1.0, ""),
        (1e3, "k"),
        (1e6, "M"),
        (1e9, "G"),
        (1e12, "T"),
        (1e15, "P"),
        (1e18, "E"),
    )
    return _with_prefix(flops, [(factor, f"{p}FLOP/s") for factor, p in prefixes], digits)
