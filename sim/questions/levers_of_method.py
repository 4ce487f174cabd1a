"""Levers of the method: inner steps, delay, type on the wire, overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sim.methods import METHODS
from sim.questions.lever_candidates import MOST_NAMED, Candidate
from sim.records.scenario import Scenario, Site
from sim.scenario.method import parameters_of

LONGER = (1, 2, 4)
"""Steps or rounds by which a delay is made longer; each one more costs a run."""
_NARROWER = {"fp32": "bf16", "bf16": "int8", "fp16": "int8", "int8": "fp4"}


def sync_every(scenario: Scenario) -> Iterator[Candidate]:
    """Offer twice the inner steps between outer steps, at every site."""
    steps = _argument(scenario, "sync_every")
    if steps is None:
        return
    twice = tuple(2 * each for each in steps) if isinstance(steps, tuple) else 2 * steps
    found = _with(scenario, "sync_every x2", "sync_every", twice)
    own = [site for site in scenario.sites if f"site.{site.name}.sync_every" in scenario.site_keys]
    if own:
        found = replace(found, setting=_by_site(scenario, own, twice))
        if not found.setting:
            found = replace(found, name=f"{found.name} at each of {len(own)} sites with their own")
    yield found


def _by_site(scenario: Scenario, own: Sequence[Site], steps: int | tuple[int, ...]) -> str:
    """Return how to type the inner steps where sites have their own, which go first."""
    each = steps if isinstance(steps, tuple) else (steps,) * len(scenario.workers)
    by_site = [each[ranks[0]] for ranks in scenario.ranks_by_site]
    names = {site.name for site in own}
    common = {
        steps for site, steps in zip(scenario.sites, by_site, strict=True) if site.name not in names
    }
    if not common and len(set(by_site)) == 1:
        return f"--set site.sync_every={by_site[0]}"
    if len(own) > MOST_NAMED:
        return ""
    typed = [f"--sync-every {steps}" for steps in common]
    typed += [
        f"--set site.{site.name}.sync_every={steps}"
        for site, steps in zip(scenario.sites, by_site, strict=True)
        if site.name in names
    ]
    return " ".join(typed)


def delay(scenario: Scenario) -> Iterator[Candidate]:
    """Offer a delay that is one, two or four steps or rounds longer."""
    for name in ("fragment_sync_delay", "outer_sync_delay"):
        steps = _argument(scenario, name)
        if steps is None:
            continue
        for more in LONGER:
            longer = (
                tuple(each + more for each in steps) if isinstance(steps, tuple) else steps + more
            )
            yield _with(scenario, f"{name} +{more}", name, longer)


def comm_dtype(scenario: Scenario) -> Iterator[Candidate]:
    """Offer the next narrower type on the wire."""
    if "comm_dtype" in _defaults(scenario) and scenario.comm_dtype in _NARROWER:
        narrower = _NARROWER[scenario.comm_dtype]
        yield _with(scenario, f"comm_dtype {narrower}", "comm_dtype", narrower)


def overlap(scenario: Scenario) -> Iterator[Candidate]:
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
