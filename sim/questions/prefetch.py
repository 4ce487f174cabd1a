"""What fully sharded training takes if gathering hides behind nothing, where nobody said so.

A prediction lets a layer be gathered while another is computed, and lets that cost the computation
nothing. Libraries differ in what they gather ahead, and kernels that communicate take cores and
memory from those that compute, so a real step is expected between the two.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sim.methods.inside import fsdp
from sim.questions.alternative import Alternative, Unasked, alternative
from sim.questions.effort import ROW_S
from sim.questions.levers import AT_ONCE_S
from sim.scenario.islands import operations, reached

if TYPE_CHECKING:
    from sim.questions.replications import Prediction
    from sim.records.scenario import Machine, Scenario, Worker

_METHOD, _INSIDE = "method.prefetch", "site.inside.prefetch"


def without_prefetch(scenario: Scenario, prediction: Prediction) -> Alternative | None:
    """Simulate the scenario once more with ``prefetch = false``, of the method or inside islands.

    Parameters
    ----------
    scenario
        Whose ``prefetch`` is the default, at all sites.
    prediction
        Its own; the other one has the random streams of its median.

    Returns
    -------
    Alternative or None
        None where ``prefetch`` was given, or where there is none.
    """
    assumed = dict(scenario.assumed)
    if scenario.method.program is fsdp and _METHOD in assumed:
        return alternative(_unasked(_METHOD), _of_method(scenario), prediction)
    if _INSIDE not in assumed:
        return None
    insides = {worker.machine.inside for worker in scenario.workers}
    rows = sum(operations(inside, scenario.model) for inside in insides if inside is not None)
    if rows * ROW_S > AT_ONCE_S:
        return Alternative(_unasked(_INSIDE), None)
    return alternative(_unasked(_INSIDE), _inside(scenario), prediction)


def _unasked(key: str) -> Unasked:
    return Unasked(
        "without_prefetch",
        key,
        True,
        "false",
        f"--set {key}=false",
        because="which hides gathering behind computation at no cost",
    )


def _of_method(scenario: Scenario) -> Scenario:
    method = scenario.method
    arguments = {**method.arguments, "prefetch": False}
    return replace(scenario, method=replace(method, arguments=arguments))


def _inside(scenario: Scenario) -> Scenario:
    def changed(worker: Worker) -> Worker:
        return replace(worker, machine=_in_turn(worker.machine, scenario))

    return replace(scenario, workers=tuple(changed(worker) for worker in scenario.workers))


def _in_turn(machine: Machine, scenario: Scenario) -> Machine:
    inside = machine.inside
    if inside is None or "prefetch" not in dict(inside.arguments):
        return machine
    arguments = tuple({**dict(inside.arguments), "prefetch": False}.items())
    return reached(machine, replace(inside, arguments=arguments), scenario.model, scenario.run.seed)
