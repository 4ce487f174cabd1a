"""Levers: what one change of network, machines or method does to the time for equal tokens.

Each lever is the scenario with one thing changed, simulated next to it. Under random timing it is
one replication, with the random streams of the one that the figures are of: two scenarios with the
same workers draw the same factors, so that their difference is that of the change.

A lever of the network or the machines leaves the training as it is, except that a method that
looks at the clock takes other tokens per update. A lever of the method, or of who takes part,
changes what is learned, of which a simulation knows nothing: it is marked ``training_changes``.

The list is data, :data:`ROWS`: a row gives the names, scenarios and settings of its candidates, and
none where it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any

from sim.figures.evaluation import Figures, figures
from sim.methods import METHODS
from sim.program import ArgumentError
from sim.questions.comparison import budget
from sim.questions.effort import effort, effort_of_looking
from sim.questions.replications import Prediction, predicted
from sim.questions.variations import faster, links, scaled, with_latency_of, with_sites
from sim.runtime import SimulationError, simulate
from sim.scenario.method import parameters_of
from sim.scenario.presets import flops_per_token
from sim.scenario.records import Scenario
from sim.units import format_rate, format_seconds

AT_ONCE_S = 1.0
"""Levers that are foreseen to take less are computed without being asked for."""
MFU_POINTS = 0.03
SPEED = 1.1
MOST_DELAY = 5
_NARROWER = {"fp32": "bf16", "bf16": "int8", "fp16": "int8", "int8": "fp4"}
_APART = 1.005  # factor from which on a site or a link is the slowest
_AS_GOOD = 1e-3  # of the time: a longer delay that gains less is not worth it
_MOST_NAMED = 4  # sites whose values are typed one by one
_MOST_PAIRS = 100  # sites up to which links of pairs are looked at one by one


@dataclass(frozen=True)
class Lever:
    """One change and what comes of it.

    ``change`` is that of the time for equal tokens, relative: -0.5 is half the time. ``setting``
    is how to type it, "" where no option says it. ``lower_bound``: this time, or the one that it is
    compared with, is at least what it says.
    """

    name: str
    seconds: float
    change: float
    utilization: float
    tokens_per_update: float
    tokens_per_update_before: float
    training_changes: bool
    setting: str
    lower_bound: bool = False

    @property
    def other_updates(self) -> bool:
        """Whether an update is of another number of tokens (a nan, undeclared, is not)."""
        before = self.tokens_per_update_before
        return abs(self.tokens_per_update - before) > 0.005 * before


@dataclass(frozen=True)
class Candidate:
    """A changed scenario, what the change is called, and how to type it."""

    name: str
    scenario: Scenario
    setting: str = ""


@dataclass(frozen=True)
class Row:
    """One kind of lever; of several candidates the first counts that is as good as any."""

    candidates: Callable[[Scenario], Iterator[Candidate]]
    training_changes: bool = False


def levers(
    scenario: Scenario,
    tokens: float | None = None,
    base: Prediction | None = None,
    *,
    within_s: float = inf,
) -> list[Lever] | None:
    """Return what each lever does, the one that saves most first.

    Parameters
    ----------
    scenario
        What is changed.
    tokens
        For how many tokens the times are; by default its horizon, else 100e9.
    base
        Its own prediction, if there is one already.
    within_s
        Seconds of one processor that all levers together may be foreseen to take.

    Returns
    -------
    list of Lever or None
        None where they are foreseen to take longer. A change that the method refuses is left out;
        so are all where the scenario never gets there (its time is zero or infinite).

    Raises
    ------
    CollectiveMismatch, Deadlock, TooLarge, ArgumentError
        As :func:`sim.runtime.simulate` does, of the scenario as it is.
    """
    if base is None:
        if effort(scenario).seconds > within_s:
            return None
        base = predicted(scenario)
    return levers_of(
        scenario, base.figures, base.replication, tokens or budget(scenario), within_s=within_s
    )


def levers_of(
    scenario: Scenario,
    before: Figures,
    replication: int,
    tokens: float,
    *,
    within_s: float = inf,
) -> list[Lever] | None:
    """As :func:`levers`, for figures that are known, of the replication of that number."""
    base_s = before.time_for(tokens)
    if not 0 < base_s < inf:
        return []
    run = replace(scenario.run, replications=1)
    one = replace(scenario, run=run, replication=replication)
    # What a method that looks at the clock does meanwhile only its own figures tell.
    each_s = effort_of_looking(one, before) if before.looks else 0.0
    foreseen_s = 0.0
    asked: list[tuple[Row, list[Candidate]]] = []
    for row in ROWS:
        found = []
        for candidate in row.candidates(one):
            if isfinite(within_s):
                foreseen_s += max(each_s, effort(candidate.scenario).seconds)
                if foreseen_s > within_s:
                    return None
            found.append(candidate)
        asked.append((row, found))

    def lever(row: Row, candidate: Candidate) -> Lever | None:
        try:
            after = figures(simulate(candidate.scenario))
        except (ArgumentError, SimulationError):
            return None
        seconds = after.time_for(tokens)
        return Lever(
            name=candidate.name,
            seconds=seconds,
            change=seconds / base_s - 1,
            utilization=after.compute_utilization,
            tokens_per_update=after.tokens_per_update,
            tokens_per_update_before=before.tokens_per_update,
            training_changes=row.training_changes,
            setting=candidate.setting,
            lower_bound=before.lower_bound or after.lower_bound,
        )

    answers = []
    for row, found in asked:
        tried = [each for candidate in found if (each := lever(row, candidate)) is not None]
        if tried:
            best = min(each.change for each in tried)
            answers.append(next(each for each in tried if each.change <= best + _AS_GOOD))
    return sorted(answers, key=lambda each: each.change)


def within(sensitivity: bool | None) -> float | None:
    """Return the seconds that levers may take; None where they are not wanted.

    Parameters
    ----------
    sensitivity
        Whether they are; None is where they take less than a second.
    """
    if sensitivity is None:
        return AT_ONCE_S
    return inf if sensitivity else None


# -- network ---------------------------------------------------------------------------------


def _bandwidth(scenario: Scenario) -> Iterator[Candidate]:
    if len(scenario.sites) > 1 and _limited(scenario):
        changed = scaled(scenario, 2.0)
        yield Candidate("bandwidth x2", changed, _bandwidth_setting(scenario, changed))


def _slowest_link(scenario: Scenario) -> Iterator[Candidate]:
    """Offer the links of one site, or of one pair of sites, where no others are as slow."""
    named = _slowest_links(scenario)
    if named is None:
        return
    title, names = named
    changed = scenario
    for name in names:
        changed = scaled(changed, 2.0, name)
    yield Candidate(f"bandwidth of {title} x2", changed, _bandwidth_setting(scenario, changed))


def _rtt(scenario: Scenario) -> Iterator[Candidate]:
    latency = scenario.network.latency
    if len(scenario.sites) < 2 or latency.common == 0:
        return
    setting = ""
    if latency.common is not None:
        setting = f"--rtt {_typed(format_seconds(latency.common, 10))}"  # half of twice one way
    yield Candidate("rtt halved", with_latency_of(scenario, 0.5), setting)


def _limited(scenario: Scenario) -> bool:
    pairs = scenario.network.bandwidth
    own = any(min(site.uplink, site.downlink) < inf for site in scenario.sites)
    return own or pairs.common != inf


def _slowest_links(scenario: Scenario) -> tuple[str, list[str]] | None:
    pairs = scenario.network.bandwidth
    if len(scenario.sites) < 2 or (pairs.common is None and len(scenario.sites) > _MOST_PAIRS):
        return None
    found: dict[str, dict[str, float]] = {}
    if pairs.common in (None, inf):  # otherwise no pair is slower than another
        rates = links(scenario)
        names = [site.name for site in scenario.sites]
        for a, one in enumerate(names):
            found[one] = {
                key: rates[key] for key in (f"{one}.uplink", f"{one}.downlink") if key in rates
            }
            for other in names[:a] if pairs.common is None else ():
                both = (f"{one}-{other}", f"{other}-{one}")
                found[f"{other}-{one}"] = {key: rates[key] for key in both if key in rates}
    slowest = sorted((min(of.values()), name) for name, of in found.items() if of)
    if not slowest or (len(slowest) > 1 and slowest[1][0] < _APART * slowest[0][0]):
        return None
    if len(slowest) == 1 and len(found) == 1:
        return None
    name = slowest[0][1]
    return name, list(found[name])


def _bandwidth_setting(before: Scenario, after: Scenario) -> str:
    """Return how to type other bandwidths, "" where a matrix would have to be written."""
    if "network.goodput" not in dict(before.assumed):
        return ""  # bandwidths are given before it, and held after it
    parts: dict[str, None] = {}
    pairs, was = after.network.bandwidth, before.network.bandwidth
    if pairs != was:
        if pairs.common is None:
            return ""
        parts[f"--bandwidth {_rate(pairs.common)}"] = None
    alike = all(
        old.uplink != new.uplink or old.downlink != new.downlink
        for old, new in zip(before.sites, after.sites, strict=True)
    )
    for old, new in zip(before.sites, after.sites, strict=True):
        for line in ("uplink", "downlink"):
            rate = getattr(new, line)
            if rate == getattr(old, line):
                continue
            if alike and line in new.from_network:
                parts[f"--bandwidth {_rate(rate)}"] = None
            elif new.name:
                parts[f"--set site.{new.name}.{line}={_rate(rate)}"] = None
            else:
                return ""
    return " ".join(parts)


# -- machines --------------------------------------------------------------------------------


def _computation(scenario: Scenario) -> Iterator[Candidate]:
    """Offer three points of MFU where it is known, else faster accelerators."""
    rates = [_mfu(scenario, rank) for rank in range(len(scenario.workers))]
    if not all(rate and rate + MFU_POINTS <= 1 for rate in rates):
        changed = faster(scenario, [SPEED] * len(rates))
        speeds = [worker.machine.speed for worker in changed.workers]
        setting = _of_sites(scenario, "speed", speeds, "--set site.speed=")
        yield Candidate("accelerators 10 % faster", changed, setting)
        return
    workers = tuple(
        replace(
            worker,
            machine=replace(
                worker.machine,
                step_seconds=worker.machine.step_seconds * rate / (rate + MFU_POINTS),
            ),
        )
        for worker, rate in zip(scenario.workers, rates, strict=True)
    )
    wanted = [rate + MFU_POINTS for rate in rates]
    setting = _of_sites(scenario, "mfu", wanted, "--mfu ")
    yield Candidate("mfu +3 points", replace(scenario, workers=workers), setting)


def _of_sites(scenario: Scenario, key: str, values: Sequence[float], of_all: str) -> str:
    """Return how to type a value of each worker: once for all, or by a few sites' names."""
    texts = [f"{value:.10g}" for value in values]
    if len(set(texts)) == 1:
        return of_all + texts[0]
    by_site = [{texts[rank] for rank in ranks} for ranks in scenario.ranks_by_site]
    names = [site.name for site in scenario.sites]
    if len(names) > _MOST_NAMED or not all(names) or any(len(each) > 1 for each in by_site):
        return ""
    return " ".join(
        f"--set site.{name}.{key}={each.pop()}" for name, each in zip(names, by_site, strict=True)
    )


def _mfu(scenario: Scenario, rank: int) -> float:
    """Return the part of peak that a worker's step was computed from; 0 where it was given."""
    machine, model = scenario.workers[rank].machine, scenario.model
    most = machine.accelerators * machine.peak_flops * machine.step_seconds
    if most <= 0:
        return 0.0
    flops = flops_per_token(model.parameters, model.frozen_parameters, model.active_parameters)
    return flops * machine.batch_tokens / most


def _balanced(scenario: Scenario) -> Iterator[Candidate]:
    """Offer the slowest site at the pace of the next slowest."""
    found = _slowest_site(scenario)
    if found is None:
        return
    site, ratio = found
    speeds = {scenario.workers[rank].machine.speed for rank in scenario.ranks_by_site[site]}
    factors = [ratio if worker.site == site else 1.0 for worker in scenario.workers]
    name = scenario.sites[site].name
    setting = ""
    if name and len(speeds) == 1:
        setting = f"--set site.{name}.speed={speeds.pop() * ratio:.10g}"
    title = f"{name or f'site {site + 1}'} at the pace of the others"
    yield Candidate(title, faster(scenario, factors), setting)


def _without(scenario: Scenario) -> Iterator[Candidate]:
    """Offer to leave out the site of the slowest computation, or else of the slowest link."""
    names = [site.name for site in scenario.sites]
    found = _slowest_site(scenario)
    if found is not None:
        site = found[0]
    else:
        link = _slowest_links(scenario)
        if link is None or link[0] not in names:
            return
        site = names.index(link[0])
    kept = [index for index in range(len(names)) if index != site]
    yield Candidate(f"without {names[site] or f'site {site + 1}'}", with_sites(scenario, kept))


def _slowest_site(scenario: Scenario) -> tuple[int, float] | None:
    """Return the site whose rounds take longest, and how many times longer than another's."""
    if len(scenario.sites) < 2:
        return None
    steps = scenario.method.arguments.get("sync_every")
    paces = []
    for index, ranks in enumerate(scenario.ranks_by_site):
        times = [
            scenario.workers[rank].machine.step_seconds
            / scenario.workers[rank].machine.speed
            * (steps[rank] if isinstance(steps, tuple) else 1)
            for rank in ranks
        ]
        paces.append((max(times), index))
    next_s, (slowest_s, site) = sorted(paces)[-2][0], max(paces)
    ratio = slowest_s / next_s if next_s > 0 else 0.0
    return (site, ratio) if ratio > _APART else None


# -- method ----------------------------------------------------------------------------------


def _sync_every(scenario: Scenario) -> Iterator[Candidate]:
    steps = _argument(scenario, "sync_every")
    if steps is not None:
        twice = tuple(2 * each for each in steps) if isinstance(steps, tuple) else 2 * steps
        yield _with(scenario, "sync_every x2", "sync_every", twice)


def _delay(scenario: Scenario) -> Iterator[Candidate]:
    for name in ("fragment_sync_delay", "outer_sync_delay"):
        delay = _argument(scenario, name)
        if delay is None:
            continue
        for more in range(1, MOST_DELAY + 1):
            longer = (
                tuple(each + more for each in delay) if isinstance(delay, tuple) else delay + more
            )
            yield _with(scenario, f"{name} +{more}", name, longer)


def _comm_dtype(scenario: Scenario) -> Iterator[Candidate]:
    if "comm_dtype" in _defaults(scenario) and scenario.comm_dtype in _NARROWER:
        narrower = _NARROWER[scenario.comm_dtype]
        yield _with(scenario, f"comm_dtype {narrower}", "comm_dtype", narrower)


def _overlap(scenario: Scenario) -> Iterator[Candidate]:
    """Offer to send buckets of gradients while the backward pass continues."""
    if scenario.method.program is METHODS["ddp"] and _argument(scenario, "overlap") == "none":
        yield _with(scenario, "overlap of buckets", "overlap", "bucket")


def _defaults(scenario: Scenario) -> dict[str, Any]:
    try:
        return dict(parameters_of(scenario.method.program).defaults)
    except (TypeError, ValueError):  # a program whose signature says nothing
        return {}


def _argument(scenario: Scenario, name: str) -> Any:
    """Return a method's argument, given or its default; None where it takes none of this name."""
    return scenario.method.arguments.get(name, _defaults(scenario).get(name))


def _with(scenario: Scenario, title: str, name: str, value: Any) -> Candidate:
    method = scenario.method
    changed = replace(method, arguments={**method.arguments, name: value})
    if isinstance(value, tuple):
        setting = f"--set method.{name}=[{','.join(map(str, value))}]"
    elif name == "outer_sync_delay":  # no option of its own
        setting = f"--set method.{name}={value}"
    else:
        setting = f"--{name.replace('_', '-')} {value}"
    return Candidate(title, replace(scenario, method=changed), setting)


def _rate(rate: float) -> str:
    return _typed(format_rate(rate, 10))


def _typed(text: str) -> str:
    return text.replace(" ", "")


ROWS: Sequence[Row] = (
    Row(_bandwidth),
    Row(_slowest_link),
    Row(_rtt),
    Row(_computation),
    Row(_balanced),
    Row(_without, training_changes=True),
    Row(_overlap),
    Row(_sync_every, training_changes=True),
    Row(_delay, training_changes=True),
    Row(_comm_dtype, training_changes=True),
)
