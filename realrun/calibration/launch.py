"""What one launch of workers measures of itself, piece by piece, and puts into one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from realrun.calibration import links
from realrun.calibration.collectives import Probe, cases
from realrun.calibration.fit import Fit, Observed, fitted
from realrun.calibration.operations import Timings, time_operations, time_while_communicating
from realrun.calibration.records import Computed, Link, hardware
from realrun.processes.placement import Place
from realrun.training import Run
from sim.program import QUANTIZED
from sim.scenario import Scenario
from sim.scenario.links import GLOO_THREADS
from sim.units import format_rate, format_seconds


@dataclass
class Calibration:
    """What has been measured so far; all ranks do the same.

    Parameters
    ----------
    place
        The processes of the launch.
    scenario
        What is to be trained; its model's size decides what is sent.
    dtypes
        In which buffers travel.
    timeout_s
        How long a peer is waited for.
    tell
        Called with a line of progress.
    """

    place: Place
    scenario: Scenario
    dtypes: Sequence[str]
    timeout_s: float
    tell: Callable[[str], None]
    _links: list[Link] = field(default_factory=list)
    _observed: list[Observed] = field(default_factory=list)
    _timings: Timings = field(default_factory=Timings)
    _packing: dict[str, list[float]] = field(default_factory=dict)
    _byte_s: float = 0.0
    _computed: bool = False
    _concurrent: int | None = None
    _fit: Fit | None = None

    # -- network -------------------------------------------------------------------------
    def known_network(self, scenario: Scenario) -> None:
        """Time collectives on links whose rate and round trip are those of a scenario."""
        rate, rtt_s = scenario.bandwidth, 2 * scenario.network.latency.between(0, 1)
        name = f"{format_rate(rate)}, {format_seconds(rtt_s)}"
        self._collectives(scenario, Link(name, rate, rtt_s), rtt_s)

    def own_network(self) -> None:
        """Measure the links as they are, by pairs of sites, and collectives on them."""
        place, scenario = self.place, self.scenario
        first = {worker.site: worker.rank for worker in reversed(scenario.workers)}
        found: dict[tuple[int, int], Link] = {}
        for a, b in combinations(sorted(first), 2):
            rtt_s = links.round_trip_s(place, first[a], first[b])
            there = links.rate(place, first[a], first[b], rtt_s)
            back = links.rate(place, first[b], first[a], rtt_s)
            name = f"{scenario.sites[a].name}-{scenario.sites[b].name}"
            self.tell(
                f"{name}: {format_rate(there)} there, {format_rate(back)} back, "
                f"{format_seconds(rtt_s)}"
            )
            found[a, b] = Link(name, min(there, back), rtt_s)
        if not found:
            return
        slowest = min(found.values(), key=lambda link: link.goodput)
        slowest.first_s = links.first_collective_s(place, self.timeout_s)
        self._concurrent = links.at_once(place, slowest.rtt_s)
        self._links += [link for link in found.values() if link is not slowest]

        def between(a: int, b: int) -> tuple[float, float]:
            link = found[min(a, b), max(a, b)]
            return link.goodput, link.rtt_s / 2

        measured = replace(scenario, network=scenario.network.with_links(between))
        self._collectives(measured, slowest, max(link.rtt_s for link in found.values()))

    def _collectives(self, scenario: Scenario, link: Link, longest_s: float) -> None:
        """Time collectives; the moment to start must reach all ranks, the farthest as well."""
        probe = Probe(self.place, scenario.network.collectives.quantize_block, self.timeout_s)
        probe.synchronise()
        link.measured = [
            probe.measured(case, longest_s)
            for case in cases(scenario.model.parameters, self.dtypes)
        ]
        self._links.append(link)
        self._observed.append(Observed(scenario, link.measured))
        self._fit = None
        for dtype, seconds in probe.packing.items():
            self._packing.setdefault(dtype, []).extend(seconds)
        self._byte_s = max(self.place.world.gathered(probe.byte_s()))
        probe.close()
        self.tell(f"timed {len(link.measured)} collectives at {link.name}")

    # -- computation ---------------------------------------------------------------------
    def operations(self, run: Run) -> None:
        """Time the operations of the model that is really trained; may be done several times."""
        dtype = next((dtype for dtype in self.dtypes if dtype in QUANTIZED), None)
        time_operations(run, self._timings, dtype)
        self._computed = True
        self.tell("timed the model's operations")

    def during_traffic(self, run: Run, rate: float | None = None) -> None:
        """Time micro-batches while collectives are under way.

        Over links of ``rate`` bytes/s; None are those measured last.
        """
        if rate is None:
            if not self._links:
                return
            rate = self._links[-1].goodput
        time_while_communicating(run, self._timings, rate)

    # -- result --------------------------------------------------------------------------
    def contents(self) -> dict[str, Any] | None:
        """Return the hardware file's contents on rank 0; all ranks call it together."""
        world, scenario = self.place.world, self.scenario
        timings: list[Timings] = world.gathered(self._timings)
        packing: list[dict[str, list[float]]] = world.gathered(self._packing)
        if world.rank:
            return None
        machine = scenario.workers[0].machine
        computed = Computed(
            timings,
            scenario.model.parameters,
            machine.batch_tokens,
            machine.n_grad_accumulation,
            scenario.model.frozen_parameters,
        )
        gloo = self.place.backend == "gloo"
        if gloo and self._observed and self._fit is None:
            self._fit = fitted(self._observed, self._byte_s)
        return hardware(
            self._links,
            self._fit,
            computed if self._computed else None,
            packing,
            parameters=scenario.model.parameters,
            workers=world.workers,
            workers_here=world.local_workers,
            device=self.place.device,
            backend=self.place.backend,
            concurrent=self._concurrent or (GLOO_THREADS if gloo else 1),
        )
