"""Finished runs as a summary in Markdown, with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from statistics import fmean
from textwrap import fill

from learning_plan import (
    ALONE,
    BASE,
    BATCH_TOKENS,
    CONFIGURATIONS,
    LEARNING_RATE,
    OUTER,
    STARTED,
    SYNC_EVERY,
    WARMUP_STEPS,
    WORKERS,
    planned,
)
from learning_results import Row, read
from learning_statistics import MARGIN, Claim, Interval, difference, losses, verdict

from sim.figures.pictures.palette import METHOD_STYLES

HELD_OUT_SEQUENCES = 512


def summarise(folder: Path, seeds: int) -> None:
    """Write summary.md and the pictures from whatever is finished, and say what is missing."""
    runs = planned(CONFIGURATIONS, seeds)
    keys = [run.key for run in runs]
    rows = [row for row in read(folder / "results.csv") if row.key in keys]
    there = {row.key for row in rows}
    missing = [run for run, key in zip(runs, keys, strict=True) if key not in there]
    claims = {configuration.name: configuration.claim for configuration in CONFIGURATIONS}
    text = [_setting(seeds)]
    if missing:
        text.append(
            f"**{len(missing)} of {len(runs)} runs are missing**: "
            + "; ".join(f"{r.configuration.name} ({r.workers}, seed {r.seed})" for r in missing)
            + "."
        )
    for workers in WORKERS:
        text.append(f"## {workers} workers\n\n{table(rows, claims, workers)}")
    text.append("![held-out differences](differences.png)\n\n![training loss](curves.png)")
    tried = read(folder / "pilot.csv")
    if tried:
        text.append(_pilot_table(tried))
    tried = read(folder / "experiments.csv")
    if tried:
        text.append(experiments_table(tried, rows))
    findings = folder / "findings.md"
    if findings.exists():
        text.append(findings.read_text().strip())
    (folder / "summary.md").write_text("\n\n".join(text) + "\n")
    if rows:
        names = list(claims)
        curves(rows, names, WORKERS, folder / "curves.png")
        dots(rows, names, WORKERS, folder / "differences.png")


def _setting(seeds: int) -> str:
    from sim.scenario import load

    scenario = load(str(BASE))
    tokens = scenario.horizon_tokens or 0
    steps = tokens / BATCH_TOKENS
    rounds = f"{steps / SYNC_EVERY:,.0f} rounds"
    return _filled(
        "# Learning with every method on equal tokens",
        "Written by `make learning`; the runs are in results.csv, their common settings in "
        "learning.toml.",
        f"A decoder of {scenario.model.parameters:,} parameters on bytes of the Python standard "
        f"library. Every run: {tokens:,.0f} tokens of all workers together, {BATCH_TOKENS} per "
        f"step ({steps:,.0f} steps), whatever the number of workers: a worker among 4 has half "
        "the batch of one among 2, and ddp's updates are alike. Methods with rounds synchronise "
        f"every {SYNC_EVERY} steps ({rounds}). AdamW at {LEARNING_RATE:g}, warm-up of "
        f"{WARMUP_STEPS} steps, cosine to a tenth, no clipping (acco and dpu have none). The "
        f"learning rate and the outer settings (learning rate {OUTER['outer_lr']}, Nesterov "
        f"momentum {OUTER['outer_momentum']}) come from the pilot below, on a seed of its own: "
        f"the papers' momentum of 0.9 does not fit {rounds}. Else the methods' defaults. acco "
        "and dpu take their observations from a simulated fast network, so that an update has "
        "as many tokens as ddp's; acco's two rounds are half a batch each.",
        f"Held-out loss: rank 0's parameters at the end, on {HELD_OUT_SEQUENCES} sequences that "
        f"no worker trains on, the same for all. Mean over {seeds} seeds (initial parameters and "
        "order of the data). Brackets are 95 % intervals by Student's t; differences are paired "
        "by seed. A method is *near* another if its loss is higher by less than "
        f'{MARGIN:.0%} of the other\'s, a bound that was chosen before the pilot. "agrees": the '
        'whole interval is on the claim\'s side; "differs": all of it is on the other side; '
        '"open": the bound lies inside. "tokens per update" are those of an update of the '
        "shared parameters: an outer step where there are rounds.",
    )


def _filled(*paragraphs: str) -> str:
    return "\n\n".join(fill(paragraph, 100) for paragraph in paragraphs)


def _pilot_table(rows: Sequence[Row]) -> str:
    rates = sorted({row.learning_rate for row in rows})
    loss: dict[tuple[str, str, int], dict[float, float]] = {}
    for row in rows:
        settings = (row.configuration, row.arguments or "-", row.workers)
        loss.setdefault(settings, {})[row.learning_rate] = row.held_out_loss
    lines = [
        "## Pilot\n",
        f"Held-out loss on seed {rows[0].seed}, by inner learning rate. Outer settings are as in "
        "the arguments, else the methods' defaults (learning rate and momentum 0.7 and 0.9; "
        "streaming_diloco 0.4 and 0.9).\n",
        f"| method | arguments | workers | {' | '.join(f'{rate:g}' for rate in rates)} |",
        f"|---|---|---|{'---|' * len(rates)}",
    ]
    for (name, arguments, workers), by_rate in loss.items():
        cells = [f"{by_rate[rate]:.3f}" if rate in by_rate else "-" for rate in rates]
        lines.append(f"| {name} | {arguments} | {workers} | {' | '.join(cells)} |")
    return "\n".join(lines)


def experiments_table(tried: Sequence[Row], rows: Sequence[Row]) -> str:
    """Experiments' losses, and their difference from ddp with the same tokens and seeds."""
    lines = [
        "## Experiments\n",
        "Runs that say why; the findings below refer to them. Differences are from ddp's runs on "
        "as many tokens, and from DiLoCo's with the chosen outer settings, as many inner steps and "
        'the same start; "alone" from "alone" without delay.\n',
        "| method | arguments | workers | tokens | seeds | held-out loss | minus ddp "
        "| minus diloco | tokens per update |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, int, float, float], list[Row]] = {}
    for row in tried:
        tokens = round(row.trained_tokens, -5)
        group = (row.configuration, _own_arguments(row), row.workers, tokens, row.learning_rate)
        groups.setdefault(group, []).append(row)
    everything = [*rows, *tried]
    for (name, arguments, workers, tokens, rate), own in groups.items():
        alike = [
            row
            for row in everything
            if row.workers == workers
            and round(row.trained_tokens, -5) == tokens
            and row.learning_rate == rate
        ]
        reference = None
        if name.startswith(ALONE):
            reference = f"{ALONE}0" if name != f"{ALONE}0" else None
        elif name.startswith("eager"):
            reference = name.replace("eager", "diloco")
        every = [text for text in arguments.split(", ") if text.startswith("sync_every")]
        chosen = [row for row in alike if _own_arguments(row) == (", ".join(every) or "-")]
        cells = [
            name,
            arguments if rate == LEARNING_RATE else f"{arguments}, inner {rate:g}".strip("-, "),
            str(workers),
            f"{fmean(row.trained_tokens for row in own):,.0f}",
            str(len(own)),
            Interval.of([row.held_out_loss for row in own]).written(),
            "-" if name == "ddp" or STARTED in name else _minus(own, "ddp", alike),
            "-" if reference is None else _minus(own, reference, chosen),
            f"{fmean(row.tokens_per_update for row in own):,.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _minus(own: Sequence[Row], reference: str, among: Sequence[Row]) -> str:
    base = {row.seed: row.held_out_loss for row in among if row.configuration == reference}
    paired = [row.held_out_loss - base[row.seed] for row in own if row.seed in base]
    return Interval.of(paired).written("+") if paired else "-"


def _own_arguments(row: Row) -> str:
    """Without those that all methods with rounds have in common."""
    common = {f"{key} = {value}" for key, value in {"sync_every": SYNC_EVERY, **OUTER}.items()}
    own = [text for text in row.arguments.split(", ") if text not in common]
    return ", ".join(own) or "-"


def table(rows: Sequence[Row], claims: Mapping[str, Claim | None], workers: int) -> str:
    """Return the results at one number of workers, in Markdown."""
    lines = [
        "| method | arguments | seeds | held-out loss | minus ddp | tokens per update "
        "| papers found | measured | here |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, claim in claims.items():
        own = [row for row in rows if row.configuration == name and row.workers == workers]
        if not own:
            continue
        loss = Interval.of([row.held_out_loss for row in own])
        against_ddp = difference(rows, name, "ddp", workers)
        measured = here = papers = "-"
        if claim is not None:
            papers = claim.text
            found = difference(rows, name, claim.than, workers)
            reference = losses(rows, claim.than, workers)
            here = verdict(claim, found, fmean(reference.values()) if reference else nan)
            if found is not None:
                measured = f"{found.written('+')} against {claim.than}"
        cells = [
            own[0].method,
            _own_arguments(own[0]),
            str(loss.count),
            loss.written(),
            "-" if name == "ddp" or against_ddp is None else against_ddp.written("+"),
            f"{fmean(row.tokens_per_update for row in own):,.0f}",
            papers,
            measured,
            here,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


def smoothed(values: Sequence[float], reach: int = 2) -> list[float]:
    """Moving mean over ``reach`` values on both sides, over fewer at the ends.

    Examples
    --------
    >>> smoothed([1.0, 2.0, 6.0], reach=1)
    [1.5, 3.0, 4.0]
    """
    return [
        fmean(values[max(0, place - reach) : place + reach + 1]) for place in range(len(values))
    ]


def curves(rows: Sequence[Row], names: Sequence[str], workers: Sequence[int], path: Path) -> None:
    """Draw the mean training loss of all seeds against tokens, one panel per worker count.

    Smoothed by a moving mean; what all methods' curves then still share is the data's.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(1, len(workers), sharey=True, squeeze=False)[0]
    handles = {}
    bottom, top = [], []
    for panel, count in zip(panels, workers, strict=True):
        seen: dict[str, int] = {}
        for name in names:
            own = [row for row in rows if row.configuration == name and row.workers == count]
            if not own:
                continue
            method = own[0].method
            dash = _DASHES[seen.get(method, 0) % len(_DASHES)]
            seen[method] = seen.get(method, 0) + 1
            mean = smoothed(
                [fmean(values) for values in zip(*(row.curve for row in own), strict=True)]
            )
            part = fmean(row.trained_tokens for row in own) / len(mean)
            middles = [(number + 0.5) * part / 1e3 for number in range(len(mean))]
            (handles[name],) = panel.plot(
                middles, mean, color=METHOD_STYLES[method][0], linestyle=dash, linewidth=1.3
            )
            bottom.append(min(mean))
            top.append(mean[len(mean) // 5])
        panel.set_title(f"{count} workers")
        panel.set_xlabel("tokens of all workers, thousands")
        panel.grid(alpha=0.3)
    if bottom:
        panels[0].set_ylim(min(bottom) - 0.05, max(top))
    panels[0].set_ylabel("training loss, nats per token")
    figure.legend(list(handles.values()), list(handles), loc="outside right upper", fontsize=8)
    figure.savefig(path, dpi=110)


def dots(rows: Sequence[Row], names: Sequence[str], workers: Sequence[int], path: Path) -> None:
    """Draw the held-out loss minus ddp's with its interval, and every seed as a small dot."""
    from matplotlib.figure import Figure

    names = [name for name in names if name != "ddp"]
    figure = Figure(figsize=(11, 0.33 * len(names) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(workers), sharey=True, sharex=True, squeeze=False)[0]
    for panel, count in zip(panels, workers, strict=True):
        base = losses(rows, "ddp", count)
        for place, name in enumerate(names):
            own = losses(rows, name, count)
            found = difference(rows, name, "ddp", count)
            if found is None:
                continue
            method = next(row.method for row in rows if row.configuration == name)
            color = METHOD_STYLES[method][0]
            if found.count > 1:
                panel.plot([found.low, found.high], [place, place], color=color, linewidth=2)
            each = [own[seed] - base[seed] for seed in sorted(own.keys() & base.keys())]
            panel.plot(each, [place] * len(each), ".", color=color, markersize=5, alpha=0.5)
            panel.plot([found.mean], [place], "o", color=color, markersize=7)
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_title(f"{count} workers")
        panel.set_xlabel("held-out loss minus ddp's, nats per token")
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110)
