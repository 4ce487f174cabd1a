"""What each site does in a round: inner steps, its share of the tokens, its weight in the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.methods import BY_COUNTS

if TYPE_CHECKING:
    from sim.records.scenario import Scenario

_SITES_NAMED = 8  # in a sentence; more are counted


def records(scenario: Scenario) -> list[dict[str, Any]]:
    """Return a record per site, as ``--json`` prints it.

    ``sync_every``: inner steps of each of its workers in a round, a list where they differ, None
    where the method announces none. ``batch_tokens``: tokens of an inner step of all its workers.
    ``tokens_fraction``: its share of the tokens of a round, or of a step of every worker where
    there is no ``sync_every``. ``weight_fraction``: its weight in the mean.
    """
    steps = scenario.method.arguments.get("sync_every")
    by_tokens = scenario.run.average_by == "tokens" or scenario.method.name in BY_COUNTS
    batches = [worker.machine.batch_tokens for worker in scenario.workers]
    own = list(steps) if isinstance(steps, tuple) else [steps] * len(batches)
    trained = [batch * (each or 1) for batch, each in zip(batches, own, strict=True)]
    total = sum(trained)
    found = []
    for site, ranks in zip(scenario.sites, scenario.ranks_by_site, strict=True):
        numbers = [own[rank] for rank in ranks]
        share = sum(trained[rank] for rank in ranks) / total
        found.append(
            {
                "site": site.name,
                "sync_every": numbers[0] if len(set(numbers)) == 1 else numbers,
                "batch_tokens": sum(batches[rank] for rank in ranks),
                "tokens_fraction": share,
                "weight_fraction": share if by_tokens else len(ranks) / len(batches),
            }
        )
    return found


def sentence(scenario: Scenario) -> str:
    """Say what each site does where batches or inner steps differ; "" where none do."""
    found = records(scenario)
    steps = len({str(each["sync_every"]) for each in found}) > 1
    batches = len({worker.machine.batch_tokens for worker in scenario.workers}) > 1
    if not steps and not batches:
        return ""
    what = "Tokens of an inner step by site, and its weight in the mean"
    if steps:
        first = "Inner steps of a round" + " and tokens of a step" * batches
        what = f"{first} by site, its share of the tokens and its weight in the mean"
    parts = []
    for number, each in enumerate(found):
        name = each["site"] or f"site {number + 1}"
        weight = f"{100 * each['weight_fraction']:.3g} %"
        batch = f"{each['batch_tokens']:.0f}"
        if steps:
            share = f"{100 * each['tokens_fraction']:.3g} %"
            tokens = f" x {batch}" * batches
            parts.append(f"{name} {_written(each['sync_every'])}{tokens} ({share}, {weight})")
        else:
            parts.append(f"{name} {batch} ({weight})")
        if len(parts) == _SITES_NAMED and len(found) > _SITES_NAMED:
            parts.append(f"and {len(found) - _SITES_NAMED} more sites")
            break
    return f"{what}: {', '.join(parts)}."


def _written(steps: int | list[int]) -> str:
    return " and ".join(map(str, steps)) if isinstance(steps, list) else str(steps)
