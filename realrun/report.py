"""What a training run tells: progress while it lasts, figures at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING

import typer

from realrun.checks import not_finite
from realrun.errors import RunError
from realrun.peak import peak_of
from sim.figures.throughput import throughput
from sim.units import format_count

if TYPE_CHECKING:
    from torch import Tensor

    from realrun.training import Outcome
    from sim.output.tables import Table
    from sim.records.scenario import Scenario

_EVERY_S = 2.0
_SHOWN = 20  # evaluations in the table for people


@contextmanager
def progress(horizon_tokens: float | None) -> Iterator[Callable[[float, Tensor], None]]:
    """Print tokens, their rate and the loss on standard error, every two seconds.

    The rate is that since the last line. What is yielded takes the tokens that all workers
    together have seen, and a loss.
    """
    last, seen = perf_counter(), None
    asked = "" if horizon_tokens is None else f" of {format_count(horizon_tokens, 3)}"

    def step(tokens: float, loss: Tensor) -> None:
        nonlocal last, seen
        now = perf_counter()
        if seen is None:
            last, seen = now, tokens  # a resumed run does not begin with none
        elif now - last >= _EVERY_S:
            rate = format_count((tokens - seen) / (now - last), 3)
            last, seen = now, tokens
            done = format_count(tokens, 3)
            typer.echo(
                f"realrun: {done}{asked} tokens, {rate} tokens/s, loss {float(loss):.3f}", err=True
            )

    yield step


def show(outcome: Outcome, scenario: Scenario, form: str) -> None:
    """Print what was measured, in the table that ``bandwise simulate`` prints."""
    from realrun.doctor.machine import usable_cores
    from sim.figures.evaluation import figures
    from sim.output.run_report import report
    from sim.output.show import show as printed
    from sim.scenario.cores import shared

    result = figures(outcome.trace)
    if _trained(outcome):  # sleeps need no accelerator
        peaks = [(1, peak_of(device)) for device in outcome.devices]
        used = throughput(outcome.trace.context.flops_per_token, result.tokens_per_s, peaks)
        result = replace(result, throughput=used)
    made = report(scenario, result, _heading(outcome), measured=True)
    for key in ("collective_model", "collectives", "assumed"):
        del made.data[key]  # the machine's own links were used
    made.data.update(
        prediction="measured",
        device=outcome.device,
        backend=outcome.backend,
        clock_residual_s=outcome.residual_s,
        first_round=outcome.first_round,
        trained_tokens=outcome.tokens,
        replicas_compared=outcome.compared,
        validation_loss=outcome.validation_loss,
        evaluations=[each._asdict() for each in outcome.evaluations],
        final_loss=_ends(outcome)[1] if _trained(outcome) else None,
        buffers_averaged=list(outcome.merged.averaged),
        buffers_of_rank_0=list(outcome.merged.from_first),
    )
    if line := shared(outcome.computed_here, usable_cores()):
        made.data["warnings"] = [*made.data["warnings"], line]
        made = replace(made, blocks=[made.blocks[0], line, *made.blocks[1:]])
    if outcome.evaluations:
        made = replace(made, blocks=[*made.blocks, _evaluations(outcome)])
    printed(made, form)


def _evaluations(outcome: Outcome) -> Table:
    """Return the evaluations on the way as a table."""
    from sim.output.tables import Column, Table

    columns = (
        Column("round", "at the start of round", "count"),
        Column("tokens", "tokens", "count"),
        Column("loss", "loss, nats per token", "number"),
    )
    rows = [
        {**each._asdict(), "loss": f"{each.loss:.3f}"} for each in outcome.evaluations[-_SHOWN:]
    ]
    number = len(outcome.evaluations)
    which = f"the last {_SHOWN} of {number}; --json has all" if number > _SHOWN else "all"
    return Table(columns, rows, f"Loss on text that no worker trains on, rank 0's model ({which})")


def _trained(outcome: Outcome) -> bool:
    return any(outcome.losses)


def _ends(outcome: Outcome) -> tuple[float, float]:
    """Mean loss of all workers at the first and at the last micro-batch."""
    own = [losses for losses in outcome.losses if losses]
    return (
        sum(losses[0] for losses in own) / len(own),
        sum(losses[-1] for losses in own) / len(own),
    )


def _heading(outcome: Outcome) -> str:
    text = (
        f"Measured on {outcome.device}, {outcome.backend}; "
        f"clocks agree to {outcome.residual_s * 1e3:.2f} ms. "
    )
    if outcome.first_round:
        text += f"Resumed at round {outcome.first_round}; figures are of the rounds since. "
    if outcome.compared is not None:
        text += (
            f"Replicas were compared: no difference in {outcome.compared} comparisons; "
            "the times include them. "
        )
    number = sum(row.operation == "evaluate" and not row.rank for row in outcome.trace.rows)
    if number:
        text += f"The times include {number} evaluation{'s' * (number > 1)}, under other. "
    if not _trained(outcome):
        return text + "Computation was paced: sleeps of the scenario's times, nothing trained."
    first, last = _ends(outcome)
    text += (
        f"Loss {first:.3f} to {last:.3f} nats per token, "
        f"{outcome.validation_loss:.3f} on text that no worker trains on.{_buffers(outcome)}"
    )
    wrong = not_finite.told(outcome.losses)
    return text + (f" {wrong}." if wrong else "")


def _buffers(outcome: Outcome) -> str:
    """Say which buffers differed between workers, and what was evaluated and saved instead."""
    averaged, kept = len(outcome.merged.averaged), len(outcome.merged.from_first)
    ways = [f"averaged ({averaged})"] * bool(averaged)
    ways += [f"taken from rank 0 ({kept})"] * bool(kept)
    if not ways:
        return ""
    return (
        " For this figure and --save, buffers that differed between workers were "
        f"{' or '.join(ways)}."
    )


def check_held_out(outcome: Outcome) -> None:
    """Refuse to end well with a loss on held-out text that is not finite.

    Raises
    ------
    RunError
        Unless ``train.not_finite = "warn"``; the table says it then.
    """
    loss = outcome.validation_loss
    if loss is not None and not isfinite(loss) and outcome.not_finite == "stop":
        raise RunError(
            f"rank 0: the loss on text that no worker trains on is {loss}; "
            'train.not_finite = "warn" would end without an error'
        )
