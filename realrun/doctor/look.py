"""All checks of one machine, by one process on it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from realrun.doctor import machine, network, software
from realrun.doctor.finding import Finding, found, missing, ready
from realrun.islands import keys_of_count
from sim.records.islands import counted
from sim.scenario import Loaded, Scenario


@dataclass(frozen=True)
class Plan:
    """What is to be trained; without a scenario machines are looked at for their own sake.

    ``checkpoints`` is the folder, if any. ``started`` is how many processes there are, None
    where they are still to be started; ``here`` how many of them on this machine.
    """

    loaded: Loaded | None = None
    checkpoints: Path | None = None
    started: int | None = None
    here: int | None = None

    @property
    def scenario(self) -> Scenario | None:
        """What is to be trained, if anything is."""
        return None if self.loaded is None else self.loaded.scenario

    @property
    def paced(self) -> bool:
        """Whether computation is replaced by sleeps."""
        return self.loaded is not None and self.loaded.sections.train.compute_mode == "paced"

    @property
    def workers(self) -> int:
        """How many in all; 0 if nothing says."""
        return self.started or (len(self.scenario.workers) if self.scenario else 0)

    @property
    def workers_here(self) -> int:
        """How many on this machine."""
        return self.workers if self.here is None else self.here

    @property
    def several_machines(self) -> bool:
        """Whether some are elsewhere."""
        return self.workers_here < self.workers


@dataclass(frozen=True)
class Look:
    """What a process found: facts to be compared with others', and findings."""

    host: str
    facts: dict[str, str]
    findings: list[Finding]


def looked(plan: Plan, environment: Mapping[str, str] = os.environ) -> Look:
    """Look at this machine."""
    torch = found("torch", software.torch_version)
    findings = [found("python", software.python_version), torch]
    here = torch.verdict != "missing"
    cards = _cards() if here else []
    if here:
        findings += [found("gloo", software.gloo), found("nccl", software.nccl)]
        findings.append(found("gpus", partial(machine.gpus, cards, plan.workers_here)))
    if here and plan.scenario is not None:
        findings.append(found("scenario", partial(scenario_fits, plan)))
    usable, workers = machine.usable_cores(), plan.workers_here
    findings.append(found("cores", partial(machine.cores, usable, workers, plan.paced, len(cards))))
    if here:
        findings += _room(plan, cards)
    files = partial(machine.open_files, *machine.limits_of_files(), plan.workers)
    findings.append(found("open files", files))
    names = network.interfaces()
    findings.append(found("network card", partial(network.chosen_cards, environment, names)))
    far = plan.several_machines
    findings.append(found("address", partial(network.address, environment, names, far)))
    if plan.started is None:
        findings.append(found("port", partial(network.port, environment)))
    return Look(platform.node(), _facts(plan, findings, usable, environment), findings)


def looked_for_lab(plan: Plan) -> list[Finding]:
    """Look whether this machine can have a lab, and whether it can emulate the network."""
    if sys.platform != "linux":
        return [missing("namespaces", f"none on {sys.platform}", "use Linux", "lab")]
    from realrun.doctor import lab

    findings = [
        found("namespaces", lab.namespaces, "lab"),
        found("tun device", lab.tun, "lab"),
        found("tc, netem", lab.tc, "lab"),
    ]
    if plan.scenario is not None:
        findings.append(found("network", partial(lab.emulates, plan.scenario), "lab"))
    return findings


def scenario_fits(plan: Plan) -> Finding:
    """Whether the scenario can be trained by the processes that there are."""
    from realrun.model.build import check_described
    from realrun.model.stages import ModelError

    assert plan.loaded is not None
    scenario, file = plan.loaded.scenario, plan.loaded.sections
    if not plan.paced:
        try:
            check_described(file.model)
        except ModelError as error:
            what, _, fix = str(error).partition("; ")
            return missing("scenario", what, fix or "see the README, Your own model")
    if scenario.run.tokens is None and scenario.run.steps is None and scenario.run.rounds is None:
        return missing("scenario", 'run: "steady" never ends', "--steps 100, or tokens or rounds")
    workers = len(scenario.workers)
    if plan.started is not None and plan.started != workers:
        return missing(
            "scenario",
            f"{counted(scenario)}, but {plan.started} processes were started",
            f"start {workers}, or change {keys_of_count(scenario)}",
        )
    return ready("scenario", f"{counted(scenario)}, {scenario.method.name}")


def _cards() -> list[machine.Card]:
    try:
        return machine.cards()
    except (RuntimeError, AssertionError):  # gpus() says that none is seen, and why that may be
        return []


def _room(plan: Plan, cards: list[machine.Card]) -> list[Finding]:
    """Memory and disk for the state of the workers here."""
    from realrun.model.memory import free_bytes, state_bytes

    needed = 0.0

    def state() -> Finding:
        nonlocal needed
        if plan.scenario is not None and not plan.paced:
            on_device, on_host = state_bytes(plan.scenario, 0)
            needed = float(sum(on_device.values()) + sum(on_host.values()))
        if not cards:
            return machine.memory(free_bytes(), needed, plan.workers_here)
        sharing = -(-plan.workers_here // len(cards))
        return machine.memory(min(card.free for card in cards), needed, sharing, "GPU memory")

    findings = [found("memory", state)]
    if plan.checkpoints is not None:
        folder, here = plan.checkpoints, plan.workers_here
        findings.append(found("checkpoints", lambda: machine.disk(folder, needed, here)))
    return findings


def _facts(
    plan: Plan, findings: list[Finding], usable: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """What is worth comparing between machines, as text."""
    from sim import __version__

    said = {finding.check: finding.what for finding in findings}
    given = plan.loaded and plan.loaded.sections.model_dump_json(warnings=False)
    scenario = _mark(given) if given else ""
    return {
        "bandwise": __version__,
        "python": said.get("python", ""),
        "torch": said.get("torch", ""),
        "nccl": said.get("nccl", "").partition(",")[0],
        "gpus": said.get("gpus", "").partition(",")[0].partition(";")[0],
        "cores": str(usable),
        "memory": said.get("memory", said.get("GPU memory", "")).partition(" free")[0],
        "address": network.own_address(environment),
        "scenario": scenario,
    }


def _mark(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()[:8]
