"""Quantities are read as they are meant, and written so that they can be read again."""

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import units

GIGABIT = 1e9 / 8


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("1 Gbit/s", GIGABIT),
        ("1Gbit/s", GIGABIT),
        ("1Gbps", GIGABIT),
        ("1 gbps", GIGABIT),
        ("1 Gb/s", GIGABIT),
        (" 1  Gbits/sec ", GIGABIT),
        ("740 Mbits/sec", 92.5e6),
        ("100 MB/s", 100e6),
        ("100 MBytes/sec", 100e6),
        ("1 GBps", 1e9),
        ("10 GiB/s", 10 * 2**30),
        ("2.5e3 kbit/s", 312_500.0),
        ("8 bit/s", 1.0),
        ("8_000 bit/s", 1000.0),
        ("1 Tbit/s", 125e9),
        ("1.5 Gibit/s", 1.5 * 2**30 / 8),
    ],
)
def test_rates(text, bytes_per_s):
    assert units.parse_rate(text) == bytes_per_s


def test_a_bit_is_not_a_byte():
    assert units.parse_rate("1 GB/s") == 8 * units.parse_rate("1 Gb/s")
    assert units.parse_rate("1 gB/s") == 8 * units.parse_rate("1 gb/s")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30 ms", 0.03),
        ("30ms", 0.03),
        ("20 us", 20e-6),
        ("20 \u00b5s", 20e-6),
        ("20 \u03bcs", 20e-6),
        ("5 ns", 5e-9),
        ("2 min", 120.0),
        ("1.5 h", 5400.0),
        ("2 d", 172_800.0),
        ("2.3 days", 198_720.0),
        ("0 s", 0.0),
        ("3 sec", 3.0),
        (".5 s", 0.5),
    ],
)
def test_durations(text, seconds):
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("10B", 10**10),
        ("1.5M", 1_500_000),
        ("200B", 2 * 10**11),
        ("1Mi", 2**20),
        ("512Ki", 2**19),
        ("1T", 10**12),
        ("7_000", 7000),
        ("7 K", 7000),
        (48, 48),
        (2e11, 2 * 10**11),
    ],
)
def test_counts(value, count):
    result = units.parse_count(value)
    assert result == count
    assert isinstance(result, int)


@pytest.mark.parametrize("value", ["95 %", "95%", "0.95", 0.95])
def test_fractions(value):
    assert units.parse_fraction(value) == 0.95


@pytest.mark.parametrize(
    "parse",
    [units.parse_rate, units.parse_duration, units.parse_flops, units.parse_bytes],
)
@pytest.mark.parametrize("value", [1, 1.5, "1", True, None, [], "", "fast", "1 parsec", math.nan])
def test_a_unit_is_never_guessed(parse, value):
    with pytest.raises(units.UnitError):
        parse(value)


@pytest.mark.parametrize(
    "text",
    ["100 MBPS", "1 Gbit", "1 GB", "1 G", "1 Gbit/min", "1 Hz", "1e999 Gbit/s", "1 Gbit/s/s"],
)
def test_what_might_mean_two_things_is_refused(text):
    with pytest.raises(units.UnitError):
        units.parse_rate(text)


def test_si_numbers_pass_unchanged():
    assert units.parse_rate(units.Quantity(12.5)) == 12.5
    assert units.parse_duration(units.Quantity(0.25)) == 0.25


finite = st.floats(1e-8, 1e17)


@given(finite)
def test_rates_written_can_be_read(rate):
    assert units.parse_rate(units.format_rate(rate)) == pytest.approx(rate, rel=1e-3)
    assert units.parse_rate(units.format_rate(rate, 17)) == pytest.approx(rate, rel=1e-13)


@given(st.floats(1e-9, 1e9))
def test_durations_written_can_be_read(seconds):
    assert units.parse_duration(units.format_seconds(seconds)) == pytest.approx(seconds, rel=1e-2)
    again = units.parse_duration(units.format_seconds(seconds, 17))
    assert again == pytest.approx(seconds, rel=1e-13)


@given(st.integers(0, 10**18))
def test_counts_written_can_be_read(count):
    assert units.parse_count(units.format_count(count)) == pytest.approx(count, rel=1e-3)


@given(st.floats(1, 1e17))
def test_sizes_written_can_be_read(size):
    assert units.parse_bytes(units.format_bytes(size)) == pytest.approx(size, rel=1e-3)


@given(st.floats(0, 1))
def test_percentages_written_can_be_read(fraction):
    again = units.parse_fraction(units.format_percent(fraction, 17))
    assert again == pytest.approx(fraction, rel=1e-12, abs=1e-300)


@given(st.floats(1, 1e20))
def test_flops_written_can_be_read(flops):
    assert units.parse_flops(units.format_flops(flops)) == pytest.approx(flops, rel=1e-3)


@given(st.integers(1, 1023), st.sampled_from([2**10, 2**20, 2**30]))
def test_whole_binary_counts_stay_exact(number, factor):
    assert units.parse_count(units.format_count(number * factor)) == number * factor


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text):
    for parse in (units.parse_rate, units.parse_duration, units.parse_count, units.parse_fraction):
        try:
            value = parse(text)
        except units.UnitError:
            continue
        assert math.isfinite(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.format_rate(125e6), "1 Gbit/s"),
        (units.format_rate(999.96e6 / 8), "1 Gbit/s"),
        (units.format_rate(math.inf), "unlimited"),
        (units.format_seconds(0), "0 s"),
        (units.format_seconds(0.9999), "1 s"),
        (units.format_seconds(119), "119 s"),
        (units.format_seconds(7000), "117 min"),
        (units.format_seconds(2.3 * 86400), "2.3 days"),
        (units.format_seconds(-0.03), "-30 ms"),
        (units.format_count(10**10), "10B"),
        (units.format_count(1_650_688), "1.651M"),
        (units.format_count(10**18), "1e18"),
        (units.format_percent(0.5), "50 %"),
    ],
)
def test_formats(text, expected):
    assert text == expected


def test_importing_units_is_cheap():
    script = (
        "import sys, sim.units; print(sorted(set(sys.modules) & {'pydantic', 'numpy', 'simpy'}))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"
