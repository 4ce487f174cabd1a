"""What a site costs: prices and power as they are given, and what is assumed next to them."""

from __future__ import annotations

from sim.records.scenario import Tariff
from sim.scenario.context import Context


def tariff(context: Context, index: int, assumed: list[tuple[str, str]]) -> Tariff:
    """Return the tariff of a [[site]]; what nobody gave is added to ``assumed``.

    Raises
    ------
    ScenarioError
        If a key lacks the one that it goes with, or the site's two currencies differ.
    """
    site = context.sections.site[index]
    for key in ("price", "power"):
        if getattr(site, key) is not None and site.accelerators is None:
            text = 'goes with accelerators; give accelerators = "64 x H100" as well'
            raise context.refuse("site", index, key, text=text)
    for key in ("idle_power", "pue"):
        if getattr(site, key) is not None and site.power is None:
            raise context.refuse("site", index, key, text='goes with power; give power = "700 W"')
    if site.power is not None and site.idle_power is not None and site.idle_power > site.power:
        raise context.refuse("site", index, "idle_power", text="must be at most that of power")
    if site.price is not None and site.egress_price is None:
        assumed.append(("egress_price", "0"))
    if site.power is not None:
        if site.idle_power is None:
            assumed.append(("idle_power", f"{site.power:g} W, that of power"))
        if site.pue is None:
            assumed.append(("pue", "1"))
    given = [each for each in (site.price, site.egress_price) if each is not None]
    currency = next((name for _, name in given if name), "")
    return Tariff(
        None if site.price is None else site.price[0],
        None if site.egress_price is None else site.egress_price[0],
        currency,
        site.power,
        site.power if site.idle_power is None else site.idle_power,
        1.0 if site.pue is None else site.pue,
    )


def one_currency(context: Context) -> None:
    """Refuse prices in two currencies, and prices with one next to prices without; 0 is in any."""
    first: str | None = None
    for index, site in enumerate(context.sections.site):
        for key in ("price", "egress_price"):
            amount, currency = getattr(site, key) or (0.0, "")
            if amount == 0 and not currency:
                continue
            if first is not None and currency != first:
                names = [
                    f"in {name}" if name else "without a currency" for name in (currency, first)
                ]
                text = f"is {names[0]}, another price {names[1]}; one scenario has one currency"
                raise context.refuse("site", index, key, text=text)
            first = currency
