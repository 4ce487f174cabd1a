"""What a trace says of its run besides the rows, read off the scenario in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sim.members import named
from sim.network.links import Links
from sim.records.flops import flops_per_token
from sim.trace.table import Context, Row, share_key

if TYPE_CHECKING:
    from sim.records.scenario import Scenario


def context_of(
    scenario: Scenario, sent_share: Mapping[str, tuple[float, ...]] | None = None
) -> Context:
    """Return the context of a simulated run in which every rank has rows of its own.

    Parameters
    ----------
    scenario
        What ran where.
    sent_share
        Bytes sent by each member per byte of the buffer, for each operation, dtype and members of
        the run's collectives; see :func:`sent_shares`.
    """
    machines = [worker.machine for worker in scenario.workers]
    model = scenario.model
    return Context(
        sites=tuple(site.name for site in scenario.sites),
        site_of=tuple(worker.site for worker in scenario.workers),
        layers=model.layers,
        n_grad_accumulation=tuple(machine.n_grad_accumulation for machine in machines),
        step_s=tuple(machine.step_seconds / machine.speed for machine in machines),
        micro_batch_tokens=tuple(
            machine.batch_tokens / machine.n_grad_accumulation for machine in machines
        ),
        concurrent=scenario.network.collectives.concurrent,
        first_collective_s=scenario.network.collectives.first_seconds,
        standing_for={worker.rank: (worker.rank,) for worker in scenario.workers},
        sent_share=dict(sent_share or {}),
        method=scenario.method.name,
        horizon_rounds=scenario.run.rounds,
        horizon_tokens=scenario.horizon_tokens,
        flops_per_token=flops_per_token(
            model.parameters, model.frozen_parameters, model.active_parameters
        ),
        accelerators=tuple(machine.accelerators for machine in machines),
        peak_flops=tuple(machine.peak_flops for machine in machines),
        exposed_inside=tuple(machine.exposed_inside for machine in machines)
        if any(machine.inside is not None for machine in machines)
        else (),
    )


def sent_shares(scenario: Scenario, rows: Iterable[Row]) -> dict[str, tuple[float, ...]]:
    """Return what each member sends per byte of the buffer, for all collectives among the rows.

    The keys are those of :func:`sim.trace.table.share_key`.
    """
    links, workers = Links(scenario), len(scenario.workers)
    found: dict[str, tuple[float, ...]] = {}
    for row in rows:
        if row.bytes > 0 and (key := share_key(row)) not in found:
            dtype, members = row.detail.rpartition(" ")[2], named(row.group, workers)
            found[key] = tuple(links.sent_share(row.operation, dtype, members).tolist())
    return found
