"""A plan on one screen: what to run and why, the alternatives, and what to change next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.output import cost_fields, intervals, site_shares, varying_links
from sim.output.comparison_report import LOSS
from sim.output.memory_report import fit
from sim.output.tables import (
    PREDICTION,
    STEADY,
    Block,
    Column,
    Report,
    Section,
    Table,
    assumptions,
    at_least,
    at_most,
    count,
    quantity,
    significant,
)
from sim.scenario.balance import BALANCED

if TYPE_CHECKING:
    from sim.planning.asked import Asked
    from sim.planning.decision import Change, Plan
    from sim.planning.search import Point
    from sim.questions.cost import Cost

_FIGURES = (
    Column("compute_utilization", "utilization", "percent"),
    Column("time_for_tokens_s", "time", "seconds"),
    Column("tokens_per_update", "tokens per update", "count"),
    Column("sent_bytes_per_worker", "sent per worker", "bytes"),
)
_SETTING = Column("setting", "setting")
_MOST_ROWS = 8

# Abbreviations would have to be looked up: the words of the options, without what says nothing.
_WORDS = {
    "sync_every": "every {}",
    "num_fragments": "{} fragments",
    "fragment_sync_delay": "delay {}",
    "outer_sync_delay": "{} rounds late",
    "comm_dtype": "{}",
    "algorithm": "{}",
}


@dataclass(frozen=True)
class _Row:
    """A setting: what it is here, what it costs, and its record for programs."""

    which: str
    point: Point
    cost: Cost
    record: dict[str, Any]


def report(plan: Plan, asked: Asked) -> Report:
    """Return what was found."""
    from sim.output.run_report import subject
    from sim.planning.evidence import evidence
    from sim.version import __version__

    best = plan.recommended
    chosen = {which: _row(which, point) for which, point in _chosen(plan)}
    for row in chosen.values():
        row.record["cost_by_site"] = cost_fields.data(row.cost)["sites"]
    priced = cost_fields.columns([row.cost for row in chosen.values()])
    front = [_row("front", point) for point in plan.front]
    why = _why(plan, chosen)
    blocks: list[Block] = [
        f"{PREDICTION}\n{subject(asked.given).removeprefix(f'{asked.given.name}: ')}",
        Table(
            [Column("which", ""), *_FIGURES, *priced, _SETTING],
            _merged(chosen.values()),
            f"{count(plan.tokens)} tokens, target {100 * plan.target:g} % compute utilization",
        ),
        Section("Why", why),
        f"To type it:\n  {best.setting.typed()}",
    ]
    random = intervals.of_several(
        "each is the median of",
        {
            which: (row.point.prediction.interval, row.point.figures.wall_clock_s)
            for which, row in chosen.items()
        },
    )
    blocks += [random] if random else []
    by_site = {"recommended": chosen["recommended"].cost}
    if plan.cheapest is not None and plan.cheapest.setting != best.setting:
        by_site["cheapest"] = chosen["cheapest"].cost
    blocks += cost_fields.money_by_site(by_site)
    blocks.append(Section("What binds", _binding(plan)))
    blocks += varying_links.said(best.scenario, best.figures)
    memory = fit({"recommended": best.scenario, "as given": plan.given.scenario})
    assumed = memory.listed(tuple(plan.assumed.items()))
    blocks += memory.lines
    blocks += [_next(plan.changes), *_balance(plan.changes)] if plan.changes else []
    blocks.append(_front(front))
    blocks.append(Section("Limits", _limits(plan)))
    learned = [f"{each.text}{' (worse)' if each.worse else ''}" for each in evidence(best.scenario)]
    measured = "; ".join(learned) or "nothing of this kind was measured"
    blocks.append(
        f"Measured in our trainings (1.1M parameters, 300 steps): {measured}. {LOSS}",
    )
    blocks += [*assumptions(assumed), STEADY]
    data = {
        "schema": 1,
        "prediction": "simulated; nothing was trained; final loss is not predicted",
        "tokens": plan.tokens,
        "target_fraction": plan.target,
        "reached": plan.reached,
        **{which.replace(" ", "_"): row.record for which, row in chosen.items()},
        "front": [row.record for row in front],
        "changes": [_change_record(change) for change in plan.changes],
        "fits_in_memory": memory.by_method["recommended"],
        "binds": {"what": plan.binds[0], "which": plan.binds[1] or None},
        "bandwidth_factor_needed": _factor(plan),
        "limits": _limits_record(plan),
        "searched": {
            "settings": plan.considered,
            "within_limits": plan.admissible,
            "simulated": plan.simulated,
            "excluded": dict(plan.excluded),
        },
        "measured": [
            {
                "what": each.what,
                "against": each.against,
                "two_workers_nats_per_token": each.two_workers,
                "four_workers_nats_per_token": each.four_workers,
                "worse": each.worse,
            }
            for each in evidence(best.scenario)
        ],
        "assumed": dict(assumed),
        "version": __version__,
        "scenario_sha256": best.scenario.sha256,
    }
    flat = [Column("which", "which"), *_FIGURES, *priced, Column("typed", "typed")]
    return Report(
        blocks,
        data,
        Table(flat, [row.record for row in (*chosen.values(), *front)]),
        f"Plan for {count(plan.tokens)} tokens",
        f"Train with {shown(best)}: {quantity(best.seconds, 'seconds')}, compute utilization "
        f"{quantity(best.utilization, 'percent')}, {count(best.tokens_per_update)} tokens per "
        f"update. {why}",
    )


def _chosen(plan: Plan) -> tuple[tuple[str, Point], ...]:
    cheapest = () if plan.cheapest is None else (("cheapest", plan.cheapest),)
    return (
        ("recommended", plan.recommended),
        ("fastest", plan.fastest),
        ("leanest", plan.leanest),
        *cheapest,
        ("as given", plan.given),
    )


def _merged(rows: Iterable[_Row]) -> list[dict[str, Any]]:
    """Return a row per setting, under all that it is."""
    merged: dict[Any, dict[str, Any]] = {}
    for row in rows:
        setting = row.point.setting
        if setting in merged:
            merged[setting]["which"] += f", {row.which}"
        else:
            cost = cost_fields.shown(row.cost)
            merged[setting] = {**row.record, **cost, "setting": shown(row.point)}
    return list(merged.values())


def shown(point: Point) -> str:
    """Say a setting in few words."""
    words = [point.scenario.method.name]
    arguments = dict(point.scenario.method.arguments)
    collectives = point.scenario.network.collectives
    if arguments.get("num_fragments") is None and arguments.get("layers_per_fragment"):
        layers = point.scenario.model.layers
        arguments["num_fragments"] = -(-layers // arguments["layers_per_fragment"])
    for key, text in _WORDS.items():
        if key == "algorithm":
            value = collectives.algorithm if len(point.scenario.workers) > 1 else None
        elif key == "comm_dtype" and key in arguments:
            value = point.scenario.comm_dtype
        else:
            value = arguments.get(key)
        if value is not None:
            words.append(text.format(value))
    if (overlap := arguments.get("overlap")) not in (None, "none"):
        size = arguments.get("bucket_bytes")
        words.append(f"overlap by {overlap}")
        if overlap == "bucket" and size:
            words[-1] = f"overlap by {size / 2**20:g} MiB buckets"
    return ", ".join(words)


def _row(which: str, point: Point) -> _Row:
    from sim.questions.cost import cost

    found = cost(point.scenario, point.figures, point.tokens)
    return _Row(which, point, found, {**_record(which, point), **cost_fields.fields(found)})


def _record(which: str, point: Point) -> dict[str, Any]:
    figures = point.figures
    return {
        "which": which,
        "typed": point.setting.typed(),
        "method": point.scenario.method.name,
        "values": dict(point.setting.values),
        "compute_utilization": at_most(point.utilization, figures),
        "time_for_tokens_s": at_least(point.seconds, figures),
        "tokens_per_update": point.tokens_per_update,
        "sent_bytes_per_worker": point.sent_per_token * point.tokens,
        "lost_to": figures.lost_to,
        "scenario_sha256": point.scenario.sha256,
    }


def _why(plan: Plan, chosen: Mapping[str, _Row]) -> str:
    """Return the rule by which the setting was recommended, and what it costs."""
    best = plan.recommended
    if plan.reached:
        rule = (
            f"Of the settings within the limits that reach {100 * plan.target:g} %, the "
            f"recommended one has the fewest tokens per update ({count(best.tokens_per_update)}); "
        )
    else:
        rule = (
            f"No setting within the limits reaches {100 * plan.target:g} %: at most "
            f"{100 * max(p.utilization for p in plan.front):.1f} %. Of those that take at most 1 % "
            "longer than the fastest, the recommended one has the fewest tokens per update "
            f"({count(best.tokens_per_update)}); "
        )
    rule += (
        "among equals the least delay, then the widest type on the wire; of what learns alike it "
        "is the fastest."
    )
    layers = best.scenario.method.arguments.get("overlap") == "layer"
    clipped = " Overlap by layer excludes clipping by the global norm." if layers else ""
    return f"{rule} {_price_of_gentleness(chosen)}{clipped}"


def _price_of_gentleness(chosen: Mapping[str, _Row]) -> str:
    """Say what the recommended setting takes and costs more than the fastest and the cheapest."""
    others = [name for name in ("fastest", "cheapest") if name in chosen]
    best = chosen["recommended"]
    said = [f"{_difference(best, chosen[name])} against the {name}" for name in others]
    return f"What gentler learning costs: {'; '.join(said)}."


def _difference(row: _Row, other: _Row) -> str:
    longer = 100 * (row.point.seconds / other.point.seconds - 1)
    said = [f"{longer:+.1f} % time" if abs(longer) >= 0.05 else "no more time"]
    here, there = row.cost, other.cost
    if here.money is not None and there.money is not None:
        more = here.money - there.money
        currency = f" {here.currency}" if here.currency else " of money"
        said.append(f"{more:+,.0f}{currency}" if abs(more) >= 0.5 else "no more money")
    return " and ".join(said)


def _are(links: str) -> str:
    """Return a link, or several that are as full as each other, with their verb."""
    return f"links are {links}" if ", " in links else f"link is {links}"


def _binding(plan: Plan) -> str:
    what, name = plan.binds
    lost = plan.recommended.figures
    share = f"{100 * lost.breakdown[lost.lost_to]:.1f} % of the time"
    if what == "accelerators":
        return "The accelerators: hardly anything is lost. Only faster or more of them would help."
    if what == "site":
        text = f"{share} is spent waiting for the slowest site: {name}."
    elif what == "link":
        text = f"{share} is spent on exposed communication: the fullest {_are(name)}."
    elif what == "latency":
        text = f"{share} is spent on exposed communication, most of it latency, not bandwidth."
    else:
        text = f"{share} goes to {what.replace('_', ' ')}."
    needed = plan.needed
    if needed is not None and needed.outcome == "reached":
        slowest = min(needed.bandwidth.values())
        text += (
            f" With {significant(needed.factor)} times the bandwidth, "
            f"{quantity(slowest, 'rate')} on the slowest link, it would reach the target."
        )
    elif needed is not None and needed.outcome == "not reached":
        text += f" No bandwidth is enough: at most {100 * needed.best_utilization:.0f} %"
        text += f", waiting for {needed.waiting_for}." if needed.waiting_for else "."
    return text


def _next(changes: Sequence[Change]) -> Table:
    rows = [
        {
            "change": f"{change.key.rpartition('.')[2]} {change.after} instead of {change.before}",
            "compute_utilization": change.point.utilization,
            "time_for_tokens_s": change.point.seconds,
            "tokens_per_update": change.point.tokens_per_update,
            "beyond": "; ".join(change.beyond) or "within the limits",
        }
        for change in changes[:3]
    ]
    columns = [Column("change", "change"), *_FIGURES[:3], Column("beyond", "limits")]
    return Table(columns, rows, "What one change of the recommended setting would give")


def _balance(changes: Sequence[Change]) -> list[str]:
    """Say how balance is typed, and what each site's gradient weighs then."""
    return [
        f"Balanced with {change.point.setting.option(change.key)}: "
        f"{site_shares.sentence(change.point.scenario)}"
        for change in changes
        if change.after == BALANCED
    ]


def _change_record(change: Change) -> dict[str, Any]:
    balance = change.after == BALANCED
    return {
        "key": change.key,
        "before": change.before,
        "after": change.after,
        "beyond": list(change.beyond),
        **({"by_site": site_shares.records(change.point.scenario)} if balance else {}),
        **_record("change", change.point),
    }


def _front(front: Sequence[_Row]) -> Table:
    """Return the trade-off between time and tokens per update, bytes next to them."""
    rows, least = [], float("inf")
    for row in front:  # by time
        if row.point.tokens_per_update < least * (1 - 1e-6):
            least = row.point.tokens_per_update
            rows.append({**row.record, "setting": shown(row.point)})
    left = len(rows) - _MOST_ROWS
    more = f"; {left} slower ones are in --json" if left > 0 else ""
    return Table(
        [*_FIGURES, _SETTING],
        rows[:_MOST_ROWS],
        f"The least time for ever fewer tokens per update{more}",
    )


def _limits(plan: Plan) -> str:
    from sim.planning.limits import largest

    limits = plan.limits
    said = []
    if limits.sync_every is not None:
        said.append(f"at most {limits.sync_every} inner steps between outer steps")
    if limits.staleness is not None:
        said.append(f"results at most {limits.staleness} inner steps late")
    if limits.tokens_per_update is not None:
        said.append(f"at most {count(limits.tokens_per_update)} tokens per update")
    if limits.growth is not None:
        said.append(f"a batch that grows while communicating at most {limits.growth:g} times")
    if not limits.quantized_gradients:
        said.append("gradients of every step not quantized")
    if any(site.memory.sizes for site in plan.given.scenario.sites):
        said.append("what fits into the accelerators' memory")
    if limits.measured:
        said.append("nothing that learned worse in our trainings")
    why = ", ".join(f"{number:,} for {text}" for text, number in largest(plan.excluded))
    return (
        f"{_sentence('; '.join(said))}. Of {plan.considered:,} settings {plan.admissible:,} are "
        f"left, {plan.simulated} were simulated; the others cannot be better, as their bounds show."
        + (f" Excluded: {why}." if why else "")
    )


def _limits_record(plan: Plan) -> dict[str, Any]:
    limits = plan.limits
    return {
        "sync_every": limits.sync_every,
        "staleness_steps": limits.staleness,
        "tokens_per_update": limits.tokens_per_update,
        "growth": limits.growth,
        "quantized_gradients": limits.quantized_gradients,
        "measured": limits.measured,
        "methods_named": list(limits.named),
    }


def _factor(plan: Plan) -> float | None:
    needed = plan.needed
    return needed.factor if needed is not None and needed.outcome == "reached" else None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
