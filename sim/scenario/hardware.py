"""Hardware files: measured times and links, written by ``realrun calibrate``.

Written by a machine, so numbers are SI and the unit is in the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from sim.operations import timed
from sim.records.scenario import CollectiveTable
from sim.scenario.cores import Processors
from sim.scenario.described import key as entry
from sim.scenario.errors import Origin, problem
from sim.scenario.fields import AtLeastOne, RefusedError, Text, number
from sim.scenario.reading import read_toml
from sim.scenario.tables import Record, checked, with_keys
from sim.storage.inputs import read

SCHEMA = 1

_seconds = number(0, 365 * 86400.0, "nothing that is measured takes a year")
_positive = number(0, 1e18, "that is beyond use", above=True)


def _mean_seconds(value: object) -> float:
    """Read a duration: a number, or the quantiles of several measurements.

    The mean is what a long run pays per operation; the median stands in where it is missing.
    """
    if not isinstance(value, dict):
        return _seconds(value)
    for key, item in value.items():
        if key not in ("mean", "median", "p05", "p95"):
            raise RefusedError("unknown key; quantiles are median, p05, p95 and mean", f".{key}")
        try:
            _seconds(item)
        except RefusedError as error:
            raise RefusedError(str(error), f".{key}", item) from None
    if "mean" not in value and "median" not in value:
        raise RefusedError("needs mean or median")
    if (
        not value.get("p05", 0)
        <= value.get("median", value.get("p05", 0))
        <= value.get("p95", float("inf"))
    ):
        raise RefusedError("must have p05 <= median <= p95")
    return float(value["mean"] if "mean" in value else value["median"])


def _ascending(value: object) -> tuple[float, ...]:
    numbers = _numbers(value)
    for place, (low, high) in enumerate(pairwise(numbers)):
        if high <= low:
            raise RefusedError("must ascend", f"[{place + 1}]", high)
    return numbers


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise RefusedError("must be a list of numbers")
    if not value:
        raise RefusedError("must not be empty")
    numbers = []
    for place, item in enumerate(value):
        try:
            numbers.append(_positive(item))
        except RefusedError as error:
            raise RefusedError(str(error), f"[{place}]", item) from None
    return tuple(numbers)


def _schema(value: object) -> int:
    if value != SCHEMA or isinstance(value, bool):
        raise RefusedError(
            f"this version reads hardware files of schema {SCHEMA}; measure again with "
            "realrun calibrate"
        )
    return SCHEMA


_Seconds = Annotated[float, PlainValidator(_mean_seconds)]
_Positive = Annotated[float, PlainValidator(_positive)]
_Slowdown = Annotated[float, PlainValidator(number(1, 1000, "it multiplies times"))]


class Calibration(BaseModel):
    """[calibration]: when and with what it was measured; further keys are kept unread."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    schema_: Annotated[int, PlainValidator(_schema)] = Field(
        alias="schema", description="Version of the format."
    )
    backend: Text | None = entry("Backend of the collectives: gloo or nccl.")
    bandwidth_bytes_per_s: Annotated[tuple[float, ...], PlainValidator(_numbers)] | None = entry(
        "Bandwidths of the networks that were measured."
    )
    rtt_s: list[_Seconds] | None = entry("Round trips of the networks that were measured.")
    device: Text | None = entry("What computed: CPU, or the GPU's name.")
    cores: AtLeastOne | None = entry("Cores of a machine.")
    workers: AtLeastOne | None = entry("Workers that were measured.")
    workers_on_a_machine: AtLeastOne | None = entry(
        "Those of them on one machine, where that is not all."
    )
    entries: list[Text] | None = entry(
        "Machines, links and collectives that the file holds; one that lacks any is refused."
    )


class Pairs(Record):
    """What was measured at some values of a quantity (ascending): two lists of one length."""

    @property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """(quantity, what was measured)."""
        at, found = (getattr(self, key) for key in type(self).model_fields)
        return tuple(zip(at, found, strict=True))


class SlowdownRecord(Pairs):
    """transmission_slowdown = { ... }: how much slower, by the line's rate."""

    bytes_per_s: Annotated[tuple[float, ...], PlainValidator(_ascending)]
    slowdown: list[_Slowdown]


class ColdStartRecord(Pairs):
    """cold_start = { ... }: how much longer the first operation takes, by the pause before."""

    pause_s: Annotated[tuple[float, ...], PlainValidator(_ascending)]
    seconds: list[_Seconds]


@with_keys({row.measured: row.meaning for row in timed()}, _Seconds)
class _Operations(Record):
    """Seconds per operation on one worker."""

    inner_step_s: _Seconds | None = entry("Time of one inner step without its optimizer.")


class MachineRecord(_Operations):
    """[machine.NAME]: seconds per operation on one worker, and the sizes they hold for."""

    parameters: _Positive | None = entry("Trained parameters of the model that was measured.")
    frozen_parameters: _Positive | None = entry("Its frozen parameters.")
    active_parameters: _Positive | None = entry("Its parameters that one token computes with.")
    batch_tokens: _Positive | None = entry("Tokens of the inner step that was measured.")
    communication_slowdown: _Slowdown | None = entry(
        "Factor by which computation is slower while a collective is on the wire."
    )
    background_slowdown: _Slowdown | None = entry(
        "Factor by which both computations are slower while two run at once."
    )
    communication_s_per_byte: _Seconds | None = entry(
        "CPU seconds stolen from computation per byte sent."
    )
    transmission_slowdown: SlowdownRecord | None = entry(
        "Factors by which computation is slower while bytes are on the link, by its rate: a table "
        "of bytes_per_s and slowdown, two lists of one length."
    )
    cold_start: ColdStartRecord | None = entry(
        "Additional time of the first operation after a pause, by its length: a table of pause_s "
        "and seconds, two lists of one length."
    )
    message_s: _Seconds | None = entry("Mean wake-up latency of gloo's threads.")
    byte_s: _Seconds | None = entry("Time per received byte that is summed or copied.")
    call_s: _Seconds | None = entry("Time per call of a collective.")
    element_s: _Seconds | None = entry("Time per element of a collective's buffer.")
    quantized_element_s: _Seconds | None = entry(
        "Time per element of an int8 or fp4 collective, sums included."
    )
    samples: Annotated[tuple[float, ...], PlainValidator(_numbers)] | None = entry(
        "Times of micro-batches as measured; only their ratios count, as jitter."
    )


class CollectiveRecord(Record):
    """[[link.NAME.collective]]: seconds against bytes.

    ``alpha_s`` and ``bytes_per_s`` sum the table up as alpha + bytes / rate, for people to read.
    """

    operation: Text = entry("Which collective, like all_reduce.", value=...)
    dtype: Text = entry("Type of its values, like bf16.", value=...)
    bytes: Annotated[tuple[float, ...], PlainValidator(_ascending)] = entry(
        "Sizes of the buffers that were timed, ascending.", value=...
    )
    seconds: Annotated[tuple[float, ...], PlainValidator(_numbers)] = entry(
        "Times of those sizes.", value=...
    )
    alpha_s: _Seconds | None = entry(
        "Fitted time of a collective without bytes, for people to read."
    )
    bytes_per_s: _Positive | None = entry("Fitted rate of the collective, for people to read.")


class LinkRecord(Record):
    """[link.NAME]: between two sites."""

    goodput_bytes_per_s: _Positive | None = entry("Network goodput in each direction.")
    rtt_s: _Seconds | None = entry("Round-trip time.")
    concurrent: AtLeastOne | None = entry("Collectives of one group that were on the wire at once.")
    first_collective_s: _Seconds | None = entry("Additional time of a group's first collective.")
    #: [[link.NAME.collective]], each a section of its own.
    collective: list[CollectiveRecord] = Field(default_factory=list)


class _File(Record):
    calibration: Calibration
    machine: dict[str, MachineRecord] = Field(default_factory=dict)
    link: dict[str, LinkRecord] = Field(default_factory=dict)


@dataclass(frozen=True)
class Hardware:
    """A checked hardware file; ``bandwidths`` and ``rtts`` are those it was measured at."""

    label: str
    machines: dict[str, MachineRecord] = field(default_factory=dict)
    links: dict[str, LinkRecord] = field(default_factory=dict)
    backend: str | None = None
    bandwidths: tuple[float, ...] = ()
    rtts: tuple[float, ...] = ()
    processors: Processors = field(default_factory=Processors)

    def machine(self, wanted: str | None, site: str) -> tuple[str, MachineRecord] | None:
        """Return the machine of a site: the one it names, of its name, or the only one."""
        if wanted is not None:
            return (wanted, self.machines[wanted]) if wanted in self.machines else None
        if site in self.machines:
            return site, self.machines[site]
        return next(iter(self.machines.items())) if len(self.machines) == 1 else None

    def link(self, a: str, b: str) -> tuple[str, LinkRecord] | None:
        """Return the link between two sites, named in either order, or the only one."""
        for name in (f"{a}-{b}", f"{b}-{a}"):
            if name in self.links:
                return name, self.links[name]
        return next(iter(self.links.items())) if len(self.links) == 1 else None


def tables_of(record: LinkRecord) -> tuple[CollectiveTable, ...]:
    """Return a link's measured collectives."""
    return tuple(
        CollectiveTable(t.operation, t.dtype, t.bytes, t.seconds) for t in record.collective
    )


def read_hardware(path: Path, label: str) -> Hardware:
    """Read a hardware file; the same file is read once."""
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _read(path, label, stamp)


def _unpaired(record: Record, *keys: str) -> str | None:
    """What is wrong, if one of two lists is longer than the other."""
    (at, values), (found, others) = ((key, len(getattr(record, key))) for key in keys)
    return None if values == others else f"has {values} {at} but {others} {found}; they are pairs"


def entries(contents: Mapping[str, Any], name: str = "") -> list[str]:
    """Return the place of every value in a hardware file, but for [calibration].

    Examples
    --------
    >>> entries({"calibration": {}, "machine": {"a": {"samples": [1.0], "step": {"mean": 2.0}}}})
    ['machine.a.samples', 'machine.a.step.mean']
    >>> entries({"link": {"a-b": {"collective": [{"bytes": [1.0]}]}}})
    ['link.a-b.collective[0].bytes']
    """
    found = []
    for key, value in contents.items():
        place = f"{name}.{key}" if name else key
        if isinstance(value, dict) and place != "calibration":
            found += entries(value, place)
        elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            for number, each in enumerate(value):
                found += entries(each, f"{place}[{number}]")
        elif name:
            found.append(place)
    return found


def _check_complete(data: Mapping[str, Any], origin: Origin) -> None:
    """Refuse a file that was cut: at a line's end what is left may well be valid TOML."""
    if not data.get("machine") and not data.get("link"):
        raise problem(origin, "", "holds no measurement, neither [machine.NAME] nor [link.NAME]")
    there = set(entries(data))
    listed = data["calibration"].get("entries", ())
    missing = [entry for entry in listed if entry not in there]
    if missing:
        raise problem(
            origin,
            missing[0],
            f"missing ({len(missing)} of {len(listed)} that calibration.entries lists); the file "
            "was cut or edited: copy it again, or remove the names from that list",
        )


@lru_cache(maxsize=32)
def _read(path: Path, label: str, stamp: int) -> Hardware:
    data = read_toml(path, label)
    origin = Origin(label)
    if "calibration" not in data:
        what = (
            "this is a scenario" if {"site", "method", "network"} & set(data) else "it is missing"
        )
        raise problem(
            origin, "calibration", f"a hardware file has [calibration] with schema = 1; {what}"
        )
    content = checked(_File, data, origin)
    _check_complete(data, origin)
    if not read(path).endswith(b"\n"):  # the last number may lack digits
        text = "its last line has no end: the file was cut off, or needs a line end there"
        raise problem(origin, "", text)
    for name, machine in content.machine.items():
        for key in ("transmission_slowdown", "cold_start"):
            measured: Pairs | None = getattr(machine, key)
            wrong = measured and _unpaired(measured, *type(measured).model_fields)
            if wrong:
                raise problem(origin, f"machine.{name}.{key}", wrong)
    for name, link in content.link.items():
        for table in link.collective:
            wrong = _unpaired(table, "bytes", "seconds")
            if wrong:
                what = f"{table.operation} in {table.dtype}"
                raise problem(origin, f"link.{name}.collective", f"{what} {wrong}")
    about = content.calibration
    return Hardware(
        label,
        content.machine,
        content.link,
        about.backend,
        about.bandwidth_bytes_per_s or (),
        tuple(about.rtt_s or ()),
        Processors(about.device, about.cores, about.workers, about.workers_on_a_machine),
    )
