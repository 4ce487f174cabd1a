"""The first operation after a pause takes longer."""

from __future__ import annotations

from sim.records.scenario import Machine


def cold_start_s(machine: Machine, pause_s: float) -> float:
    """How much longer the first operation after a pause takes, in seconds.

    Examples
    --------
    >>> machine = Machine(step_seconds=1, batch_tokens=1, cold_start=((0.1, 0.002), (0.3, 0.004)))
    >>> [round(cold_start_s(machine, pause), 6) for pause in (0.0, 0.05, 0.2, 9.0)]
    [0.0, 0.001, 0.003, 0.004]
    """
    if pause_s <= 0 or not machine.cold_start:
        return 0.0
    import numpy as np  # late: loading a scenario needs none

    pauses, seconds = zip(*machine.cold_start, strict=True)
    return float(np.interp(pause_s, (0.0, *pauses), (0.0, *seconds)))
