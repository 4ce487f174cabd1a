"""What a run costs, for people and programs: columns, a record, and a table by site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.output.tables import AtLeast, Column, Table, significant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sim.questions.cost import Cost

_MOST_SITES = 12


def fields(cost: Cost) -> dict[str, Any]:
    """Return the sums, of what is known, under the names of their columns."""
    known = {
        "accelerator_hours": cost.accelerator_hours,
        "egress_tb": cost.egress_tb,
        "money": cost.money,
        "energy_kwh": cost.energy_kwh,
    }
    found: dict[str, Any] = {key: value for key, value in known.items() if value is not None}
    if cost.money is not None:
        found["currency"] = cost.currency or None
        found["money_is_lower_bound"] = cost.money_is_lower_bound
    if cost.energy_kwh is not None:
        found["energy_is_lower_bound"] = cost.energy_is_lower_bound
    return found


def data(cost: Cost) -> dict[str, Any]:
    """Return the sums and the sites for JSON; what is not known is null there."""
    sites = [
        {
            "site": site.site,
            "accelerator_hours": site.accelerator_hours,
            "egress_tb": site.egress_tb,
            "money": site.money,
            "energy_kwh": site.energy_kwh,
        }
        for site in cost.sites
    ]
    return {**fields(cost), "sites": sites}


def columns(costs: Iterable[Cost]) -> list[Column]:
    """Return the columns for people, where something is priced or has its power given."""
    every = list(costs)
    priced = any(cost.money is not None for cost in every)
    powered = any(cost.energy_kwh is not None for cost in every)
    if not priced and not powered:
        return []
    currency = next((cost.currency for cost in every if cost.currency), "")
    found = [Column("accelerator_hours", "accelerator-hours", "number")]
    if priced:
        found.append(Column("money", f"cost ({currency})" if currency else "cost", "number"))
    if powered:
        found.append(Column("energy_kwh", "energy (kWh)", "number"))
    return [*found, Column("egress_tb", "egress (TB)", "number")]


def shown(cost: Cost) -> dict[str, Any]:
    """Return the sums for a row for people: lower bounds are marked."""
    row = fields(cost)
    for key, bound in (
        ("money", cost.money_is_lower_bound),
        ("energy_kwh", cost.energy_is_lower_bound),
    ):
        if bound and key in row:
            row[key] = AtLeast(row[key])
    return row


def money(cost: Cost) -> str:
    """Write what it costs, in words.

    Raises
    ------
    ValueError
        If nothing is priced.
    """
    if cost.money is None:
        raise ValueError("nothing is priced")
    least = "at least " if cost.money_is_lower_bound else ""
    return f"{least}{significant(cost.money)} {cost.currency}".strip()


def money_by_site(costs: Mapping[str, Cost]) -> list[Table]:
    """Return what each site costs: a row per site, a column per name in ``costs``.

    Nothing where fewer than two sites are priced, or there are too many to be read.
    """
    first = next(iter(costs.values()))
    places = [place for place, site in enumerate(first.sites) if site.money is not None]
    if len(places) < 2 or len(first.sites) > _MOST_SITES:
        return []
    rows = [
        {
            "site": first.sites[place].site,
            **{name: cost.sites[place].money for name, cost in costs.items()},
        }
        for place in places
    ]
    listed = [Column(name, name.replace("_", " "), "number") for name in costs]
    currency = f" ({first.currency})" if first.currency else ""
    return [Table([Column("site", "site"), *listed], rows, f"Cost by site{currency}")]


def by_site(cost: Cost) -> list[Table]:
    """Return a table with a row per site and one for all, where something is priced."""
    listed = columns([cost])
    if not listed:
        return []
    rows = [*data(cost)["sites"], {"site": "all", **shown(cost)}]
    bound = cost.money is not None and cost.money_is_lower_bound
    title = "What the whole run costs" + (" (at least: not all is priced)" if bound else "")
    return [Table([Column("site", "site"), *listed], rows, title)]
