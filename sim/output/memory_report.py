"""Bytes per accelerator as a report, and what other answers say where a worker does not fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim.output.answers import of_memory
from sim.output.tables import (
    Block,
    Column,
    Report,
    Table,
    assumptions,
    left_out,
    quantity,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sim.questions.memory import Memory, SiteMemory
    from sim.records.scenario import Scenario

COUNTED = (
    "Counted from the methods' texts under a convention: nothing was run. Data, copies on the "
    "wire, the driver's context and fragmentation are not counted."
)


@dataclass(frozen=True)
class Fit:
    """Whether the workers of some methods fit into their accelerators."""

    #: Method -> whether it fits; None where that is not known.
    by_method: dict[str, bool | None]
    #: What to print: a line, or none where all fit or nothing is known.
    lines: list[str]
    #: Key and value of what was assumed for memory, and not for times.
    assumed: list[tuple[str, str]] = field(default_factory=list)

    def listed(self, assumed: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return what was assumed, and behind the micro-batches of times those of memory."""
        places = [i for i, (key, _) in enumerate(assumed) if _is_of_micro_batches(key)]
        after = places[-1] + 1 if places else len(assumed)
        return [*assumed[:after], *self.assumed, *assumed[after:]]


def fit(cases: Mapping[str, Scenario]) -> Fit:
    """Look whether workers fit, where accelerators and their memory are known.

    Parameters
    ----------
    cases
        Method -> its scenario.
    """
    from sim.program import ArgumentError
    from sim.questions.memory import memory
    from sim.runtime import SimulationError

    found: dict[str, Memory] = {}
    for name, scenario in cases.items():
        if any(site.memory.sizes for site in scenario.sites):
            try:
                found[name] = memory(scenario)
            except (SimulationError, ArgumentError):
                continue  # a program that needs the times of a run; nothing is known of it
    known = {name: found[name].fits if name in found else None for name in cases}
    assumed = _micro_batches(found.values(), "; for memory only")
    short = {name: found[name].worst for name, fits in known.items() if fits is False}
    if not short:
        return Fit(known, [], assumed)
    name = max(short, key=lambda each: short[each].total_bytes)
    others = [
        f"{other} ({quantity(each.total_bytes, 'bytes')})"
        for other, each in short.items()
        if other != name
    ]
    also = f" Nor do: {', '.join(others)}." if others else ""
    return Fit(known, [f"{_short(name, short[name], cases[name])}{also}"], assumed)


def _is_of_micro_batches(key: str) -> bool:
    return key.startswith("site.") and key.endswith(".n_grad_accumulation")


def _micro_batches(found: Iterable[Memory], remark: str = "") -> list[tuple[str, str]]:
    """Return the micro-batches that memory assumes where the scenario gives none."""
    from sim.questions.memory import MICRO_BATCH

    sites = [site for each in found for site in each.per_site]
    values = list(dict.fromkeys(s.assumed_micro_batch for s in sites if s.assumed_micro_batch))
    return [(MICRO_BATCH, f"{' or '.join(values)}{remark}")] if values else []


def _short(method: str, site: SiteMemory, scenario: Scenario) -> str:
    """Say of a worker that it does not fit, how much is needed for what, and what would help."""
    from sim.questions.memory import PARTS, RECOMPUTED, remedies

    there, largest = site.available_bytes or 0.0, site.largest
    found = remedies(scenario, site.site)
    state_fits = "activations" in site.parts and site.persistent_bytes <= there
    verdict = "Does NOT fit"
    if state_fits and RECOMPUTED in found.enough:
        verdict = "Fits only if more of the activations, an estimate, is recomputed"
    text = (
        f"{verdict}: {method} at {_sites(site)} needs {quantity(site.total_bytes, 'bytes')} per "
        f"accelerator, which has {quantity(there, 'bytes')}{_under(site)}; largest part: "
        f"{PARTS[largest]}, {quantity(site.parts[largest], 'bytes')}."
    )
    ways = [f"{name} ({quantity(size, 'bytes')})" for name, size in found.enough.items()]
    if not ways and found.together_fits:
        together = quantity(found.together_bytes, "bytes")
        ways.append(f"{' and '.join(found.all)} ({together})")
    if found.accelerators is not None:
        what = f" x {site.accelerator}" if site.accelerator else ""
        with_it = f" with {RECOMPUTED}" if found.accelerators_recomputing else ""
        ways.append(f"{found.accelerators}{what} per worker{with_it}")
    return f"{text} Enough: {', or '.join(ways)}." if ways else f"{text} It needs larger ones."


def _under(site: SiteMemory) -> str:
    """Name the sharding, where there is something to share out."""
    if site.accelerators == 1:
        return ""
    word = "without sharding" if site.sharding == "none" else f"under {site.sharding}"
    return f" ({word}, {site.accelerators} per worker)"


def _sites(site: SiteMemory) -> str:
    others = len(site.sites) - 1
    return site.site if not others else f"{site.site} (and {others} like it)"


def report(cases: Mapping[str, Scenario]) -> Report:
    """Return what the workers of some methods hold; ``cases`` are the methods' scenarios."""
    from sim.questions.memory import PARTS, by_sharding, memory
    from sim.version import __version__

    found = {name: memory(scenario) for name, scenario in cases.items()}
    records = [_record(name, each) for name, m in found.items() for each in m.per_site]
    used = [part for part in PARTS if any(record[f"{part}_bytes"] for record in records)]
    scenario = next(iter(cases.values()))
    several = any(len(each.per_site) > 1 for each in found.values())
    shared = any(each.accelerators > 1 for m in found.values() for each in m.per_site)
    known = any(record["available_bytes"] is not None for record in records)
    on_host = any(record["host_bytes"] for record in records)
    shown = [{key: value if value != 0.0 else None for key, value in r.items()} for r in records]
    columns = [
        Column("method", "method"),
        *([Column("sites", "sites")] if several else []),
        *([Column("sharding", "sharding")] if shared else []),
        *(Column(f"{part}_bytes", PARTS[part], "bytes") for part in used),
        Column("total_bytes", "in all", "bytes"),
        *([Column("available_bytes", "memory", "bytes")] if known else []),
        *([Column("fits_shown", "fits")] if known else []),
        *([Column("host_bytes", "on the host", "bytes")] if on_host else []),
    ]
    blocks: list[Block] = [
        COUNTED,
        Table(columns, shown, f"Bytes per accelerator{_of(scenario)}", one_unit=True),
    ]
    totals = {name: by_sharding(case) for name, case in cases.items()} if shared else {}
    if totals:
        blocks.append(_by_sharding(totals, several=several))
    worst = fit(cases)
    blocks += [*worst.lines, *_open(found), _convention(found), _activations(scenario, found)]
    # Without a number of micro-batches memory assumes their size, and times that there is one.
    common = [
        pair
        for pair in scenario.assumed
        if not pair[0].startswith("method.") and not _is_of_micro_batches(pair[0])
    ]
    common += _micro_batches(found.values())
    blocks += [*left_out(cases.values()), *assumptions(common)]
    data = {
        "schema": 1,
        "prediction": "counted; nothing was run",
        "version": __version__,
        "convention": _convention_data(found),
        "outer_state": "host" if scenario.memory.outer_on_host else "device",
        "activations": scenario.memory.activations,
        "memory": [
            {key: value for key, value in record.items() if not key.endswith("_shown")}
            for record in records
        ],
        "total_bytes_by_sharding": {
            name: {sharding: m.worst.total_bytes for sharding, m in each.items()}
            for name, each in totals.items()
        },
        "assumed": dict(common),
        "assumed_of_activations": _notes(found),
        "left_out": {name: list(case.left_out) for name, case in cases.items()},
        "scenario_sha256": {name: case.sha256 for name, case in cases.items()},
    }
    flat = [Column(key, key) for key in records[0] if not key.endswith("_shown")]
    title = f"Memory of {scenario.name}" if scenario.name else "Memory"
    return Report(blocks, data, Table(flat, records), title, of_memory(found))


def _record(method: str, site: SiteMemory) -> dict[str, Any]:
    from sim.questions.memory import PARTS

    fits = {True: "yes", False: "NO", None: "–"}[site.fits]
    if site.fits is None and site.sizes:
        fits = f"with {quantity(site.available_bytes or 0.0, 'bytes')}"
    return {
        "method": method,
        "sites": ", ".join(site.sites) if len(site.sites) < 4 else _sites(site),
        "accelerator": site.accelerator or None,
        "accelerators_per_worker": site.accelerators,
        "sharding": site.sharding,
        "sharding_given": site.sharding_given,
        **{f"{part}_bytes": site.parts.get(part, 0.0) for part in PARTS},
        "total_bytes": site.total_bytes,
        "persistent_bytes": site.persistent_bytes,
        "host_bytes": site.host_bytes,
        "available_bytes": site.available_bytes,
        "fits": site.fits,
        "fits_shown": fits,
    }


def _of(scenario: Scenario) -> str:
    """Name what the first site's workers run on, where it is known and the same everywhere."""
    kinds = {
        (scenario.sites[worker.site].memory.accelerator, worker.machine.accelerators)
        for worker in scenario.workers
    }
    name, count = next(iter(kinds))
    return f", {count} x {name} per worker" if len(kinds) == 1 and name else ""


def _by_sharding(totals: Mapping[str, Mapping[str, Memory]], *, several: bool) -> Table:
    rows = []
    for name, each in totals.items():
        for number, site in enumerate(each["none"].per_site):
            sizes = {word: m.per_site[number].total_bytes for word, m in each.items()}
            rows.append({"method": name, "sites": _sites(site), **sizes})
    first = next(iter(totals.values()))
    titles = {"none": "no sharding", "zero1": "ZeRO-1", "zero2": "ZeRO-2", "zero3": "ZeRO-3"}
    columns = [
        Column("method", "method"),
        *([Column("sites", "sites")] if several else []),
        *(Column(word, titles[word], "bytes") for word in first),
    ]
    return Table(columns, rows, "In all, by what a worker's accelerators share out", one_unit=True)


def _open(found: Mapping[str, Memory]) -> list[str]:
    """Say which memory is not known, or is one of several."""
    lines: dict[str, None] = {}
    for each in (site for m in found.values() for site in m.per_site):
        if len(each.sizes) > 1:
            sizes = " or ".join(quantity(size, "bytes") for size in each.sizes)
            lines[
                f"{each.accelerator} has {sizes}: name it, like "
                f'"{each.accelerators} x {each.accelerator} {each.sizes[-1] / 1e9:.0f}GB", or '
                "give site.memory."
            ] = None
        elif not each.sizes:
            lines[
                "The memory of an accelerator is not known; give site.accelerators or site.memory."
            ] = None
        if each.accelerators == 1 and not each.accelerator:
            lines["A worker is counted as one accelerator: site.accelerators is not given."] = None
    return list(lines)


def _convention(found: Mapping[str, Memory]) -> str:
    each = next(iter(found.values())).convention
    shared = "share memory where their lives do not overlap" if each.sharing else "are kept apart"
    return (
        f'Convention "{each.name}", bytes per parameter: weights {each.weights:g}, gradients '
        f"{each.gradients:g}, optimizer {each.optimizer:g}, outer parameters "
        f"{each.outer_parameters:g}, outer momentum {each.outer_momentum:g}, outer gradients "
        f"{each.outer_gradients:g}; buffers {shared}."
    )


def _convention_data(found: Mapping[str, Memory]) -> dict[str, Any]:
    each = next(iter(found.values())).convention
    return {
        "name": each.name,
        "weight_bytes": each.weights,
        "gradient_bytes": each.gradients,
        "optimizer_bytes": each.optimizer,
        "outer_parameter_bytes": each.outer_parameters,
        "outer_momentum_bytes": each.outer_momentum,
        "outer_gradient_bytes": each.outer_gradients,
    }


def _notes(found: Mapping[str, Memory]) -> list[str]:
    sites = (site for each in found.values() for site in each.per_site)
    return list(dict.fromkeys(note for site in sites for note in site.notes))


def _activations(scenario: Scenario, found: Mapping[str, Memory]) -> str:
    """Say what the estimate of activations rests on."""
    kept = scenario.memory.activations
    if kept == "none":
        return 'Activations are not counted: memory.activations = "none".'
    notes = _notes(found)
    assumed = f" Assumed: {'; '.join(notes)}." if notes else ""
    return (
        f"Activations are an estimate (arXiv:2205.05198, without tensor parallelism), "
        f'memory.activations = "{kept}".{assumed}'
    )
