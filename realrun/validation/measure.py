"""The workers' side of a validation: calibrate, then run one configuration after the other.

All ranks go through the same list in the same order; rank 0 chooses networks and writes what
came out, one line per run, so that a validation that was interrupted resumes where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from realrun.calibration.launch import Calibration
from realrun.calibration.records import write
from realrun.errors import AgreedError
from realrun.lab.control import Chooser, in_a_lab
from realrun.lab.topology import topology
from realrun.processes.placement import Place
from realrun.training import Asked, Outcome, Run, opened, run_in
from realrun.validation.archive import Archive, next_calibration_file, record, trace_file
from realrun.validation.cpu_load import OtherLoad
from realrun.validation.networks import calibrated_on, networks
from realrun.validation.plan import Planned, order
from sim.figures.evaluation import figures
from sim.scenario import Scenario, Study
from sim.trace.files import save as save_trace
from sim.units import format_seconds

_AGAIN = 4  # runs of real computation after which operations are timed again


@dataclass
class Measuring:
    """One launch of workers, and what it has learnt so far."""

    study: Study
    plan: Sequence[Planned]
    archive: Archive
    place: Place
    timeout_s: float
    tell: Callable[[str], None]

    def __post_init__(self) -> None:
        world = self.place.world
        self._known = (
            [each.topology for each in networks(self.study, self.plan, world.workers)]
            if in_a_lab()
            else []
        )
        self._chooser = Chooser() if self._known and world.rank == 0 else None
        self._load = OtherLoad()
        self._calibration_file = next_calibration_file(self.archive.folder, world.workers)
        own = [each for each in self.plan if each.workers == world.workers]
        self._calibrated_on = calibrated_on(self.study, self.plan, world.workers) if own else []
        dtypes = {each.scenario.comm_dtype for each in own}
        self._calibration = Calibration(
            self.place, (own or self.plan)[0].scenario, sorted(dtypes), self.timeout_s, self.tell
        )

    # -- the whole -----------------------------------------------------------------------
    def all(self) -> None:
        """Calibrate and run what is still to be run."""
        world, about = self.place.world, self.study.validation
        assert about is not None
        todo = order(self.plan, world.workers, about.repeats, shuffled=about.shuffled)
        done = world.gathered(list(self.archive.records) if world.rank == 0 else [])[0]
        runs = [(each, repeat) for each, repeat in todo if (each.number, repeat) not in done]
        if not runs:
            return
        real = [each for each, _ in todo if each.mode == "real"]
        self._calibrate_network()
        if real:
            self._calibrate_operations(real[0], during_traffic=True)
        self._write_calibration()
        since = 0
        for place, (each, repeat) in enumerate(runs):
            if each.mode == "real":
                since += 1
                if since % _AGAIN == 0:
                    self._calibrate_operations(real[0])
                    self._write_calibration()
            self._measure(each, repeat, len(todo) - len(runs) + place, len(todo))
        if real:
            self._calibrate_operations(real[0])
            self._write_calibration()

    def _become(self, scenario: Scenario) -> list[str]:
        """Let the lab be a scenario's network; what its check measured. Nothing on a cluster."""
        if not self._known:
            return []
        world = self.place.world
        world.gathered(None)  # nobody sends any more
        checks: list[str] = []

        def choose() -> None:
            if self._chooser is not None:
                found, switch = self._chooser.choose(self._known.index(topology(scenario)))
                self._load.also(switch)
                checks.extend(found)

        world.agreed(choose)
        return checks

    # -- calibrating ---------------------------------------------------------------------
    def _calibrate_network(self) -> None:
        if not self._known:
            self._calibration.own_network()
            return
        for scenario in self._calibrated_on:
            self._become(scenario)
            self._calibration.known_network(scenario)

    def _calibrate_operations(self, each: Planned, *, during_traffic: bool = False) -> None:
        """Time the operations of the model that is really trained."""
        run = self._opened(each)
        self._calibration.operations(run)
        if during_traffic and not self._known:
            self._calibration.during_traffic(run)
        nearest = min(scenario.network.latency[0][1] for scenario in self._calibrated_on)
        for scenario in self._calibrated_on if during_traffic and self._known else ():
            if scenario.network.latency[0][1] == nearest:  # there lines are in use most
                self._become(scenario)
                self._calibration.during_traffic(run, scenario.bandwidth)
        run.shared.close()

    def _opened(self, each: Planned) -> Run:
        train = each.sections.train.model_copy(update={"emulate_speeds": False})
        sections = each.sections.model_copy(update={"train": train})
        return opened(self.place, self._asked(), replace(each.loaded, sections=sections))

    def _write_calibration(self) -> None:
        contents = self._calibration.contents()
        if contents is not None:
            write(contents, self._calibration_file)

    # -- measuring -----------------------------------------------------------------------
    def _asked(self) -> Asked:
        return Asked(timeout_s=self.timeout_s, held_out=False, warm=True, fresh=in_a_lab())

    def _measure(self, each: Planned, repeat: int, number: int, of: int) -> None:
        try:
            checks = self._become(each.scenario)
        except AgreedError as error:  # a network that this machine cannot emulate now
            self.tell(f"left out: {each.name}: {error}")
            return
        self._load.begin()
        # Paced computation of another repeat has other factors, as another replication has.
        again = replace(each.scenario, replication=repeat)
        outcome = run_in(self.place, self._asked(), replace(each.loaded, scenario=again))
        world = self.place.world
        here = world.gathered(self._load.own_s())[: world.local_workers]  # rank 0's machine
        busy = self._load.others_share(sum(here))
        if outcome is None:
            return
        if repeat == 0:
            path = trace_file(self.archive.folder, each)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_trace(outcome.trace, path)
        found = {
            **_figures(outcome),
            "order": number,
            "calibration": self._calibration_file.name,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "checks": checks,
            "busy": busy,
        }
        record(self.archive.folder, each, repeat, found)
        self.tell(
            f"{number + 1} of {of}: {each.name}: {format_seconds(found['wall_clock_s'])} a round, "
            f"{100 * found['compute_utilization']:.0f} % computing"
        )


def _figures(outcome: Outcome) -> dict[str, Any]:
    """Seconds per round of the window, and how they were spent."""
    found = figures(outcome.trace)
    rounds = found.window_rounds
    length = found.wall_clock_s / rounds
    return {
        "wall_clock_s": length,
        "inner_step_s": found.inner_step_s,
        "compute_utilization": found.compute_utilization,
        "rounds": rounds,
        "sent_bytes": found.sent_bytes_per_worker / rounds,
        "tokens_per_update": found.tokens_per_update,
        "clock_residual_s": outcome.residual_s,
        "seconds": {cause: share * length for cause, share in found.breakdown.items()},
    }
