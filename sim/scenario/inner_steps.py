"""``site.sync_every``: inner steps of a round by site; "balanced", with which no site waits.

It gives ``sync_every`` of the method an entry per worker, so methods know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor

from sim.records.scenario import Method
from sim.scenario.balance import BALANCED, Share
from sim.scenario.context import Context
from sim.scenario.method import parameters_of, per_worker, who_takes

KEY = "sync_every"


@dataclass(frozen=True)
class Pace:
    """What a [[site]] block says of its inner steps, and how long one takes on its machines."""

    #: A number, "balanced", or None for what the method says.
    given: int | str | None
    step_seconds: float


def inner_steps(sites: Sequence[Pace], common: int) -> list[int]:
    """Return the inner steps of a round on the machines of each block.

    Balanced ones take as many whole steps as fit into the others' longest round,

        H_s = floor(T / t_s), T = max over the others of H_r t_r.

    Where all are balanced the fastest takes ``common`` steps: T = H min(t_s). A step is rounded
    down, so less than one step is waited for. 0 means that not even one fits.

    Parameters
    ----------
    common
        H of sites that say nothing.

    Examples
    --------
    >>> inner_steps([Pace("balanced", 1.0), Pace("balanced", 2.0), Pace("balanced", 0.9)], 100)
    [90, 45, 100]
    >>> inner_steps([Pace(20, 3.0), Pace("balanced", 2.0), Pace(None, 1.0)], 50)
    [20, 30, 50]
    """
    rounds = [
        (common if site.given is None else int(site.given)) * site.step_seconds
        for site in sites
        if site.given != BALANCED
    ]
    longest = max(rounds) if rounds else common * min(site.step_seconds for site in sites)

    def of(site: Pace) -> int:
        if site.given == BALANCED:
            # 1e-12: equal machines take equal steps whatever the last bit of a division says.
            return floor(longest / site.step_seconds * (1 + 1e-12))
        return common if site.given is None else int(site.given)

    return [of(site) for site in sites]


def by_site(context: Context, method: Method, blocks: Sequence[Share]) -> Method:
    """Return the method with what the sites say of ``sync_every``.

    Parameters
    ----------
    blocks
        The machine of each [[site]] block, and how many workers have it.

    Raises
    ------
    ScenarioError
        If the method does not take a number per worker, has one already, or no step fits.
    """
    given = [table.sync_every for table in context.sections.site]
    first = next((index for index, each in enumerate(given) if each is not None), None)
    if first is None or not _taken(context, method, first):
        return method
    common = method.arguments[KEY]
    if isinstance(common, tuple):
        if _typed(context, "method", KEY) and not any(
            _typed(context, "site", index, KEY) for index in range(len(given))
        ):
            return method  # what was typed is for all workers, and replaces what a file says
        raise context.refuse(
            "site",
            first,
            KEY,
            text="method.sync_every has a number for each worker; leave one of the two out",
        )
    steps = inner_steps(
        [Pace(each, block.step_seconds) for each, block in zip(given, blocks, strict=True)],
        common,
    )
    for index, (own, each) in enumerate(zip(steps, given, strict=True)):
        if own < 1:
            raise context.refuse(
                "site",
                index,
                KEY,
                text="not even one step fits into the others' round; give this site a number, or "
                "a larger method.sync_every",
            )
        if each == BALANCED:
            name = context.document.site_name(index)
            context.assume(f"site.{name}.{KEY}" if name else f"site.{KEY}", f"{own} (balanced)")
    if all(isinstance(each, int) for each in given):  # nobody takes the method's number
        context.assumed = [note for note in context.assumed if note[0] != f"method.{KEY}"]
    every = tuple(
        own for own, block in zip(steps, blocks, strict=True) for _ in range(block.workers)
    )
    # One number where all have the same: it is the same scenario as without site.sync_every.
    value = every[0] if len(set(every)) == 1 else every
    return replace(method, arguments={**method.arguments, KEY: value})


def _taken(context: Context, method: Method, first: int) -> bool:
    """Whether the method takes a number per worker.

    It is left out where it was written for several methods, or in a file for another one.
    """
    takes = parameters_of(method.program).annotations
    document = context.document
    if KEY not in takes:
        typed = any(_typed(context, "site", index, KEY) for index in range(len(document.sites)))
        if document.several or (document.written_for and not typed):
            context.left_out.append(f"site.{KEY}")
            return False
        raise context.refuse(
            "site", first, KEY, text=f"{method.name} does not take {KEY} ({who_takes(KEY)})"
        )
    if not per_worker(takes[KEY]):
        raise context.refuse(
            "site", first, KEY, text=f"{method.name} takes one {KEY} for all workers"
        )
    tables = context.sections.site
    balanced = [index for index, table in enumerate(tables) if table.sync_every == BALANCED]
    if balanced and method.arguments.get("fragment_spacing") == "nearest":
        raise context.refuse(
            "site",
            balanced[0],
            KEY,
            text='fragment_spacing = "nearest" rounds the steps of a round, which are then not '
            'balanced; take "exact", or a number',
        )
    return True


def _typed(context: Context, *path: str | int) -> bool:
    return context.document.has(*path) and context.document.origin_of(*path).typed
