"""From a document to a scenario: fill in what no one gave, and settle what depends on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from sim import units
from sim.methods import BY_COUNTS, METHODS
from sim.program import QUANTIZED
from sim.recording.vocabulary import METHOD as RECORDING
from sim.records.connections import noted
from sim.records.scenario import Machine, Method, ModelSize, Run, Scenario, Site, Worker
from sim.scenario.advice import hinted
from sim.scenario.balance import BALANCED, Share, balanced
from sim.scenario.checking import validated
from sim.scenario.consent import METHOD, check_code
from sim.scenario.context import Context
from sim.scenario.cores import warning
from sim.scenario.document import DEFAULT_METHOD, DEFAULT_SITES, Document
from sim.scenario.errors import FILE_CUTOFF, nearest, shown
from sim.scenario.hardware import Hardware, MachineRecord, read_hardware
from sim.scenario.inner_steps import by_site
from sim.scenario.links import NetworkReader, per_site
from sim.scenario.machines import MachineReader
from sim.scenario.memory import memory_keys, site_memory
from sim.scenario.method import (
    ArgumentsError,
    MethodError,
    arguments_of,
    find_method,
    parameters_of,
    per_worker,
    who_takes,
)
from sim.scenario.models import DEFAULT_CONTEXT, resolve_model
from sim.scenario.reading import siblings, there
from sim.scenario.recorded import (
    check_workers,
    note_filled,
    on_algorithm,
    recording_warnings,
    replayed,
    with_recording,
)
from sim.scenario.schema import SiteSection, usable_name
from sim.scenario.tariffs import one_currency, tariff
from sim.scenario.tensors import with_tensors
from sim.scenario.varying import check_varying, network_shape, site_profile

# Collectives over more take minutes to lay out.
MOST_WORKERS = 10_000
MOST_SITES = MOST_WORKERS


def resolve(document: Document, hardware: Hardware | None = None) -> Scenario:
    """Return the scenario that a document means.

    Parameters
    ----------
    document
        A file, with options and settings laid over it.
    hardware
        Measurements in place of the file that the document names.

    Raises
    ------
    ScenarioError
        One line: where, which key, what was written and what to write instead.
    """
    document = with_recording(document)
    if not document.sites:
        document = replace(document, sites=[{}])
    context = Context(document, validated(document))
    context.hardware = _hardware(context) if hardware is None else hardware
    run = _run(context)
    model = resolve_model(context)
    method = _method(context, model)
    sites, machines, measured = _sites(context, model)
    method = by_site(context, method, _blocks(context, sites, machines))
    model = with_tensors(context, model, method)
    _check_arguments(context, method, model, sum(site.workers for site in sites))
    _check_passes(context, method, machines)
    reader = NetworkReader(
        context,
        [site.name for site in sites],
        quantized=method.arguments.get("comm_dtype") in QUANTIZED,
        groups=any(site.workers > 1 for site in sites),
        machines=measured,
    )
    network = reader.network()
    bandwidth, latency = reader.within()
    goodput = context.sections.network.goodput or 1.0
    if network.per == "site":
        sites = [site.with_bandwidth(reader.line) for site in sites]
    else:
        sites = [replace(site, from_network=()) for site in sites]
    sites = [
        replace(
            site,
            uplink=site.uplink * goodput,
            downlink=site.downlink * goodput,
            within_bandwidth=bandwidth,
            within_latency=latency,
        )
        for site in sites
    ]
    places = (i for i, site in enumerate(sites) for _ in range(site.workers))
    workers = tuple(Worker(rank, i, machines[i]) for rank, i in enumerate(places))
    scenario = Scenario(
        run=run,
        model=model,
        method=on_algorithm(context, method, network.collectives.algorithm),
        workers=workers,
        sites=tuple(sites),
        network=network,
        name=context.sections.name or document.stem,
        assumed=tuple(context.assumed),
        left_out=tuple(context.left_out),
        memory=memory_keys(context, model),
        warnings=(*_warnings(context, measured, len(workers)), *recording_warnings(method)),
        site_keys=_site_keys(context, sites),
    )
    check_varying(context, scenario)
    means = scenario.unequal_tokens and method.name not in BY_COUNTS
    if means and context.sections.train.average_by is None:
        context.assume("train.average_by", "workers (unweighted means, as in torch DDP)")
    if scenario.random and run.replications is None:
        context.assume("run.replications", "as many as it takes, 7 or 9")
    scenario = replace(scenario, assumed=tuple(context.assumed))
    unlimited = reader.assumes_window(network.collectives.algorithm)
    return noted(scenario) if unlimited else scenario


def _warnings(context: Context, measured: Sequence[MachineRecord], workers: int) -> tuple[str, ...]:
    """Return what goes with every prediction from measured computation."""
    hardware = context.hardware
    if hardware is None or context.sections.train.compute_mode == "paced":
        return ()
    if not any(record.inner_step_s is not None for record in measured):
        return ()
    known = all(map(_interference_known, measured, context.sections.site))
    found = warning(hardware.processors, hardware.label, workers, interference=known)
    return () if found is None else (found,)


def _interference_known(record: MachineRecord, site: SiteSection) -> bool:
    """Whether a file or a scenario says how much communication slows computation down."""
    return any(
        value is not None
        for value in (
            record.communication_slowdown,
            record.communication_s_per_byte,
            record.transmission_slowdown,
            site.communication_slowdown,
            site.communication_byte_time,
            site.transmission_slowdown,
        )
    )


def _hardware(context: Context) -> Hardware | None:
    name = context.sections.hardware
    if name is None:
        return None
    path, label = context.file(name, "hardware")
    itself = context.document.folder / f"{context.document.stem}.toml"
    if not there(path):
        others = {Path(other).stem: other for other in siblings(path, ".toml")}
        others.pop(itself.stem, None)
        near = nearest(path.stem, others, FILE_CUTOFF)
        hint = f'; did you mean "{others[near]}"?' if near is not None else ""
        raise context.refuse("hardware", text=f"there is no file {label}{hint}")
    if context.document.label and path.resolve() == itself.resolve():
        raise context.refuse("hardware", text="is this scenario itself; name a hardware file")
    return read_hardware(path, label)


def _run(context: Context) -> Run:
    run = context.sections.run
    if run.tokens is None and run.steps is None and run.rounds is None:
        context.assume("run.steps", "steady")
    if run.seed is None:
        context.assume("run.seed", "0")
    return Run(
        tokens=None if run.tokens is None else float(run.tokens),
        steps=run.steps if isinstance(run.steps, int) else None,
        rounds=run.rounds,
        seed=run.seed or 0,
        skip_rounds=run.skip_rounds,
        measured_rounds=run.measured_rounds,
        replications=run.replications,
        average_by=context.sections.train.average_by or "workers",
        start_skew_s=run.start_skew or 0.0,
    )


def _method(context: Context, model: ModelSize) -> Method:
    section = context.sections.method
    name = section.name or DEFAULT_METHOD
    if section.name is None:
        context.assume("method.name", name)
    check_code(context.document, METHOD)
    try:
        function = find_method(name, context.document.folder)
        takes = parameters_of(function).annotations
    except MethodError as error:
        raise context.refuse("method", "name", text=str(error)) from None
    given = dict(section.model_extra or {})
    for key in sorted(context.document.inherited & set(given)):
        # Written for another method, or for several: it stays if this one takes it, and such a
        # value. What the other method does not take either is a mistake.
        if context.document.written_for in METHODS and not who_takes(key):
            continue
        try:
            arguments_of(name, function, {**_needed(takes, given), key: given[key]})
        except ArgumentsError:
            value = given.pop(key)
            context.left_out.append(f"method.{key}" + f" = {shown(value)}" * (key in takes))
    try:
        arguments, assumed = arguments_of(name, function, given)
    except ArgumentsError as error:
        if error.key not in given or error.key in takes:
            path = ("method", error.key) if error.key else ("method",)
            raise context.refuse(*path, text=str(error)) from None
        raise context.refuse_key("method", error.key, text=_other(name, error, takes)) from None
    for key, value in assumed.items():
        context.assume(f"method.{key}", _shown(key, value))
    if arguments.get("comm_dtype", "") is None:
        arguments["comm_dtype"] = model.param_dtype
        context.assume("method.comm_dtype", f"{model.param_dtype} (model.param_dtype)")
    if name == RECORDING:
        replayed(context, arguments)
        note_filled(context)
    return Method(str(name), function, arguments)


def _needed(takes: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key in takes}


def _other(name: str, error: ArgumentsError, takes: Mapping[str, Any]) -> str:
    """Say what an argument that the method does not take may have meant."""
    hint = "" if who_takes(error.key) else hinted(error.key, ("method",), name, takes)
    return f"unknown key; {hint}" if hint else str(error)


def _shown(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if key.endswith("_bytes") and isinstance(value, int):
        return units.format_bytes(value)
    if isinstance(value, float):
        return f"{value:g} s" if key.endswith("_time") else f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_arguments(context: Context, method: Method, model: ModelSize, workers: int) -> None:
    """Check what a signature alone cannot say: arguments against the model and the workers."""
    annotations = parameters_of(method.program).annotations
    for key, value in method.arguments.items():
        if isinstance(value, tuple) and per_worker(annotations[key]) and len(value) != workers:
            raise context.refuse(
                "method", key, text=f"has {len(value)} entries for {workers} workers; one for each"
            )
    if method.name == RECORDING:
        check_workers(context, method.arguments, workers)
    fragments = method.arguments.get("num_fragments")
    if isinstance(fragments, int) and fragments > model.layers:
        raise context.refuse(
            "method", "num_fragments", text=f"must be at most {model.layers}, the model's layers"
        )
    by_layer = method.arguments.get("overlap") == "layer" and "sync_every" in method.arguments
    if by_layer and context.sections.train.clip_norm is not None:
        raise context.refuse(
            "train",
            "clip_norm",
            text='clipping needs all layers at once, which overlap = "layer" does not wait for; '
            "leave one of them out",
        )


def _check_passes(context: Context, method: Method, machines: Sequence[Machine]) -> None:
    """Refuse workers that would call different numbers of collectives."""
    counts = {machine.n_grad_accumulation for machine in machines}
    if method.arguments.get("no_sync") is False and len(counts) > 1:
        raise context.refuse(
            "method",
            "no_sync",
            text="every micro-batch is reduced then, and sites have different "
            f"n_grad_accumulation ({', '.join(map(str, sorted(counts)))}); give all the same",
        )


def _sites(
    context: Context, model: ModelSize
) -> tuple[list[Site], list[Machine], list[MachineRecord]]:
    """Return the sites one by one, each one's machine, and what was measured of the machines."""
    sites: list[Site] = []
    machines: list[Machine] = []
    measured: list[MachineRecord] = []
    readers: list[MachineReader] = []
    shares: list[Share] = []
    tables = context.sections.site
    described = context.document.described
    known: dict[str, int] = {}
    shape = network_shape(context)
    total = 0
    for index, table in enumerate(tables):
        reader = MachineReader(context, index, model)
        count = _count(table, described)
        if table.count is None and not described:
            reader.assumed.append(("count", str(count)))
        elif table.count is None and len(tables) == 1:
            reader.assumed.append(("count", "1"))
        workers = table.workers
        if workers is None:
            workers = 1
            reader.assumed.append(("workers", "1"))
        machine = reader.machine()
        for key in () if per_site(context) else ("uplink", "downlink"):
            if getattr(table, key) is None:
                reader.assumed.append((key, "unlimited"))
        lines = {key: getattr(table, key) for key in ("uplink", "downlink")}
        from_network = tuple(key for key, rate in lines.items() if rate is None)
        lines |= dict.fromkeys(from_network, inf)
        memory = site_memory(context, index, reader.accelerator)
        costs = tariff(context, index, reader.assumed)
        profile = site_profile(context, index, shape)
        for number in range(min(count, MOST_SITES + 1)):
            name = _name(context, index, number, count, len(sites))
            other = known.setdefault(name, len(sites))
            if other < len(sites):
                raise context.refuse(
                    "site", index, "name", text=f"is also the name of site {other + 1}"
                )
            total += workers
            context.block_of.append(index)
            site = Site(name, workers, **lines, from_network=from_network)
            sites.append(replace(site, memory=memory, tariff=costs, profile=profile))
        measured.append(reader.found.record)
        readers.append(reader)
        unit = _sequence(context) * machine.n_grad_accumulation
        shares.append(Share(machine, count * workers, reader.balanced, unit))
        if len(sites) > MOST_SITES:
            raise context.refuse(
                "site", index, "count", text=f"more than {MOST_SITES:,} sites cannot be simulated"
            )
        if total > MOST_WORKERS:
            raise context.refuse(
                "site",
                index,
                "workers",
                text=f"more than {MOST_WORKERS:,} workers in all cannot be simulated; let one "
                'worker stand for an island of many accelerators, like accelerators = "64 x H100"',
            )
    one_currency(context)
    for reader, share, machine in zip(readers, shares, _balanced(context, shares), strict=True):
        if share.balanced:
            reader.note_balanced(share.machine, machine)
        machines += [machine] * _count(reader.site, described)
    _note_sites(context, [reader.assumed for reader in readers])
    if context.document.assumed_count:
        context.assume("site.count", str(DEFAULT_SITES))
    return sites, machines, measured


def _blocks(context: Context, sites: Sequence[Site], machines: Sequence[Machine]) -> list[Share]:
    """Return the machine of each [[site]] block, and how many workers have it."""
    found: list[Share] = []
    place = 0
    for table in context.sections.site:
        count = _count(table, context.document.described)
        found.append(Share(machines[place], count * sites[place].workers, balanced=False))
        place += count
    return found


def _site_keys(context: Context, sites: Sequence[Site]) -> frozenset[str]:
    """Return the keys that name single sites, or that are computed from all of them."""
    tables = [context.sections.site[block] for block in context.block_of]
    found = {
        f"site.{site.name}.sync_every"
        for site, table in zip(sites, tables, strict=True)
        if table.sync_every is not None
    }
    if context.sections.network.order is not None:
        found.add("network.order")
    if any(table.batch_tokens == BALANCED for table in tables):
        found.add("site.batch_tokens")
    return frozenset(found)


def _balanced(context: Context, shares: list[Share]) -> list[Machine]:
    """Return the machine of each block, with the batches that balance chooses."""
    machines = balanced(shares)
    for index, (share, machine) in enumerate(zip(shares, machines, strict=True)):
        if machine.batch_tokens < 1:
            raise context.refuse(
                "site",
                index,
                "batch_tokens",
                text=f"in the time of the other sites' steps not even {share.unit} tokens fit; "
                "give this site a number, or the others more",
            )
    return machines


def _sequence(context: Context) -> int:
    """Return the tokens of one sequence where it is known what a sequence is, else 1."""
    model = context.sections.model
    if model.context is not None:
        return model.context
    return DEFAULT_CONTEXT if model.kind is not None or model.module is not None else 1


def _count(table: SiteSection, described: bool) -> int:
    return table.count if table.count is not None else (1 if described else DEFAULT_SITES)


def _name(context: Context, index: int, number: int, count: int, place: int) -> str:
    name = context.sections.site[index].name
    if name is None:
        return f"site-{place + 1}"
    if not usable_name(name):
        raise context.refuse(
            "site", index, "name", text="cannot be a site's name: it means something else in --set"
        )
    return name if count == 1 else f"{name}-{number + 1}"


def _note_sites(context: Context, notes: list[list[tuple[str, str]]]) -> None:
    """List what was assumed for all sites once, the rest under each site's name."""
    common = [note for note in notes[0] if all(note in other for other in notes)]
    for key, value in common:
        context.assume(f"site.{key}", value)
    for index, own in enumerate(notes):
        for key, value in own:
            if (key, value) not in common:
                context.assume(f"site.{context.document.site_name(index)}.{key}", value)
