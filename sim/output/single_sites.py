"""What each site would do alone: how long it takes, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.output import cost_fields
from sim.output.tables import quantity

if TYPE_CHECKING:
    from sim.questions.comparison import Alone, Comparison


def said(result: Comparison) -> str:
    """Name the fastest site alone, and the cheapest one where that is another."""
    best = min(result.alone, key=lambda each: each.seconds)
    text = f"Best single site: {_took(best)}."
    priced = [each for each in result.alone if each.cost.money is not None]
    # A price that is not known is none that is lower.
    known = [each for each in priced if not each.cost.money_is_lower_bound]
    cheapest = min(known, key=lambda each: each.cost.money or 0.0, default=best)
    if cheapest is not best and (cheapest.cost.money or 0.0) < (best.cost.money or 0.0):
        money = cost_fields.money(cheapest.cost)
        name = cheapest.site or cheapest.cost.sites[0].site
        text += f" The cheapest is {name}: {money} in {quantity(cheapest.seconds, 'seconds')}."
    return text


def _took(best: Alone) -> str:
    text = f"{best.site or 'each'} alone, with ddp over its own links, takes "
    text += quantity(best.seconds, "seconds")
    return text if best.cost.money is None else f"{text} and costs {cost_fields.money(best.cost)}"


def records(result: Comparison) -> list[dict[str, Any]]:
    """Return a record per site that differs from the others."""
    return [
        {
            "site": each.site,
            "time_for_tokens_s": each.seconds,
            **cost_fields.fields(each.cost),
        }
        for each in result.alone
    ]
