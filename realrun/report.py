"""What a training run tells: progress while it lasts, figures at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from realrun.training import Outcome

_EVERY_S = 2.0


@contextmanager
def progress() -> Iterator[Callable[[int, float], None]]:
    """Print micro-batches done and the loss on standard error, every two seconds."""
    last = begin = perf_counter()

    def step(done: int, loss: float) -> None:
        nonlocal last
        now = perf_counter()
        if now - last >= _EVERY_S:
            last = now
            rate = done / (now - begin)
            tell = f"realrun: {done} micro-batches, {rate:.1f}/s, loss {loss:.3f}"
            typer.echo(tell, err=True)

    yield step


def show(outcome: Outcome, source: str, settings: list[str]) -> None:
    """Print what was measured, in the table that ``bandwise simulate`` prints."""
    from sim.cli.output import show as printed
    from sim.cli.simulate import report
    from sim.figures import figures
    from sim.scenario import load

    scenario = load(source, {}, settings)
    result = figures(outcome.trace, scenario)
    heading = (
        f"Measured on this machine; clocks agree to {outcome.residual_s * 1e3:.2f} ms. "
        f"Loss {outcome.losses[0]:.3f} to {outcome.losses[-1]:.3f} nats per token, "
        f"{outcome.validation_loss:.3f} on text that no worker trains on."
    )
    printed(report(scenario, result, heading), "table")
    typer.echo("", err=True)
