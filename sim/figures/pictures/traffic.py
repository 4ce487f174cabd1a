"""What was sent between workers over time: a line per pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.figures.pictures.labels import as_it_is
from sim.figures.pictures.palette import PALETTE
from sim.figures.pictures.quantities import unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 12  # lines that can be told apart
_STYLES = ("-", "--")


def traffic(parts: Sequence[Mapping[str, Any]], ax: Axes, seconds: float) -> Axes:
    """Draw bytes/s from each worker to each other, constant between two samples.

    The lines have labels for a legend, which is the caller's: inside it would cover some.

    Parameters
    ----------
    parts
        What one worker sent to another between two instants: begin_s, end_s, sender, receiver
        and sent_bytes. What is not listed is nothing.
    ax
        Where to draw; of many pairs the busiest, which the title then says.
    seconds
        The end of the axis of time.
    """
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for part in parts:
        pairs.setdefault((part["sender"], part["receiver"]), []).append(part)
    busiest = sorted(pairs, key=lambda each: -sum(part["sent_bytes"] for part in pairs[each]))
    rates = [part["sent_bytes"] / (part["end_s"] - part["begin_s"]) for part in parts]
    factor, unit = unit_of("rate_bytes_per_s", max(rates, default=0.0))
    for number, pair in enumerate(busiest[:_MOST]):
        times, values = _steps(pairs[pair], seconds)
        ax.plot(
            times,
            [value * factor for value in values],
            drawstyle="steps-post",
            label=as_it_is(f"{pair[0]} to {pair[1]}"),
            color=PALETTE[number % len(PALETTE)],
            linestyle=_STYLES[number // len(PALETTE)],
            linewidth=1.5,
        )
    ax.set(xlabel="time (s)", ylabel=f"sent ({unit})", xlim=(0, seconds or 1.0))
    ax.set_ylim(bottom=0)
    if len(busiest) > _MOST:
        ax.set_title(f"the {_MOST} busiest of {len(busiest)} pairs", fontsize=10)
    ax.grid(alpha=0.3)
    return ax


def _steps(parts: Sequence[Mapping[str, Any]], seconds: float) -> tuple[list[float], list[float]]:
    """Return instants, and the rate from each one on, in bytes/s."""
    times, values = [0.0], [0.0]
    for part in parts:
        if part["begin_s"] > times[-1]:
            times.append(part["begin_s"])
            values.append(0.0)
        values[-1] = part["sent_bytes"] / (part["end_s"] - part["begin_s"])
        times.append(part["end_s"])
        values.append(0.0)
    return [*times, seconds], [*values, values[-1]]
