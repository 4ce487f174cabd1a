"""What the ranks found, put together: machines, what is not the same on all, what to do."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from realrun.doctor.finding import WORST, Finding, Verdict, limited, missing
from realrun.doctor.look import Look, Plan, looked
from realrun.doctor.network import own_address
from realrun.doctor.peers import Seen, all_reduced, in_time, looked_around, told
from realrun.errors import RunError

_CLOCKS_S = 1.0
# A run works with different ones, but is then not one experiment; with two scenarios it is none.
_COMPARED = ("bandwise", "python", "torch", "nccl", "gpus", "scenario")
_SAME = {
    "bandwise": "install the same bandwise on all machines",
    "python": "use the same Python on all machines",
    "torch": "install the same torch on all machines",
    "nccl": "install the same torch on all machines",
    "gpus": "let unequal machines be sites of their own, with their own step_time",
    "scenario": "give all machines the same scenario file and options",
}
_TRIAL = (
    "see what is said above; else choose the card (GLOO_SOCKET_IFNAME, NCCL_SOCKET_IFNAME), open "
    "the ports between the machines, and set NCCL_DEBUG=INFO"
)


@dataclass(frozen=True)
class Machine:
    """A machine of the run: its ranks, what it is, what was found on it.

    ``seen`` is its first rank's view of the first ranks of the others, by rank.
    """

    ranks: tuple[int, ...]
    host: str
    facts: dict[str, str]
    findings: tuple[Finding, ...]
    seen: dict[int, Seen] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Return the worst of its findings for training."""
        own = {finding.verdict for finding in self.findings if finding.part == "training"}
        return next(verdict for verdict in WORST if verdict in own or verdict == "ready")

    @property
    def name(self) -> str:
        """Host and ranks, as lines about it begin."""
        if self.ranks == ():
            return self.host
        first, last = self.ranks[0], self.ranks[-1]
        ranks = f"rank {first}" if first == last else f"ranks {first} to {last}"
        return f"{self.host} ({ranks})"


@dataclass(frozen=True)
class Cluster:
    """All machines, and what is between them."""

    machines: tuple[Machine, ...]
    between: tuple[Finding, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether training can run: nothing that it needs is missing."""
        found = [*self.between, *(f for machine in self.machines for f in machine.findings)]
        return not [f for f in found if f.verdict == "missing" and f.part == "training"]

    def differing(self) -> dict[str, str]:
        """Return what most machines have, for everything that is not the same on all."""
        return _differing(self.machines)


def alone(plan: Plan) -> Cluster:
    """Look at this machine, where nothing has started processes."""
    look = looked(plan)
    return Cluster((Machine((), look.host, look.facts, tuple(look.findings)),))


def together(
    plan_of: Callable[[int, int], Plan], timeout_s: float
) -> tuple[Cluster | None, Callable[[], None]]:
    """Meet the other ranks; everybody looks, and rank 0 hears what all found.

    Parameters
    ----------
    plan_of
        Takes how many processes there are, and how many on this machine.

    Returns
    -------
    Cluster
        On rank 0, None elsewhere.
    Callable
        To be called when all is said, where the process may end: a backend that hangs stays
        behind in a thread.
    """
    from realrun.processes.rendezvous import met, rank_and_workers

    rank, workers = rank_and_workers()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", workers))
    look = looked(plan_of(workers, here))
    if any(f.check == "torch" and f.verdict == "missing" for f in look.findings):
        return _of_one(rank, look, ()), _stay
    try:
        store = met(timeout_s)
    except RunError as error:
        lost = missing("meeting", str(error), "start all ranks, and check MASTER_ADDR and the port")
        if rank == 0:
            return _of_one(rank, look, (lost,)), _stay
        raise
    seen = looked_around(
        store,
        rank,
        workers,
        own_address(),
        first_here=int(os.environ.get("LOCAL_RANK", rank)) == 0,
        patience_s=timeout_s,
    )
    trial = _trial(store, timeout_s)
    store.set(f"doctor/found/{rank}", _written(look, seen, trial))
    if rank:
        told(store, "doctor/heard", timeout_s)  # rank 0 may keep the store
        return None, _leave_if(trial)
    cluster = _gathered(store, workers, timeout_s)
    store.set("doctor/heard", "yes")
    return cluster, _leave_if(trial)


def _stay() -> None:
    """Leave the process to end by itself."""


def _leave_if(trial: Finding) -> Callable[[], None]:
    return _stay if trial.verdict == "ready" else partial(os._exit, 0)


def _of_one(rank: int, look: Look, between: tuple[Finding, ...]) -> Cluster:
    return Cluster((Machine((rank,), look.host, look.facts, tuple(look.findings)),), between)


def _trial(store: Any, timeout_s: float) -> Finding:
    from realrun.processes.placement import device_and_backend

    device, backend = device_and_backend("auto", "auto")
    # The group's own limit comes later: NCCL's would end the process instead of saying so.
    attempt = partial(all_reduced, backend, 4 * timeout_s, device, store)
    return in_time("trial", attempt, timeout_s, _TRIAL)


def _written(look: Look, seen: dict[int, Seen], trial: Finding) -> str:
    place = f"{look.host} {os.environ.get('GROUP_RANK', '')}"
    own = [asdict(finding) for finding in look.findings]
    found = {rank: asdict(saw) for rank, saw in seen.items()}
    return json.dumps([place, look.host, look.facts, own, found, asdict(trial)])


def _gathered(store: Any, workers: int, timeout_s: float) -> Cluster:
    places: dict[str, list[int]] = {}
    said: dict[int, Any] = {}
    between = []
    trials = set()
    for rank in range(workers):
        text = told(store, f"doctor/found/{rank}", 2 * timeout_s)
        if text is None:
            between.append(missing("meeting", f"rank {rank} came and then said nothing", _TRIAL))
            continue
        place, *said[rank], trial = json.loads(text)
        trials.add(Finding(**trial))
        places.setdefault(place, []).append(rank)
    machines = tuple(_machine(ranks, said) for ranks in places.values())
    tried = sorted(trials, key=lambda trial: WORST.index(trial.verdict))
    return Cluster(machines, (*between, *differences(machines), *sights(machines), *tried[:1]))


def _machine(ranks: Sequence[int], said: dict[int, Any]) -> Machine:
    """One machine of what its ranks said: of each check the worst verdict counts."""
    host, facts, _, seen = said[ranks[0]]
    worst: dict[str, Finding] = {}
    for rank in ranks:
        for finding in (Finding(**each) for each in said[rank][2]):
            known = worst.setdefault(finding.check, finding)
            if WORST.index(finding.verdict) < WORST.index(known.verdict):
                worst[finding.check] = finding
    return Machine(
        tuple(ranks),
        host,
        facts,
        tuple(worst.values()),
        {int(rank): Seen(**each) for rank, each in seen.items()},
    )


def _differing(machines: Sequence[Machine]) -> dict[str, str]:
    most = {}
    for key in _COMPARED:
        values = Counter(machine.facts.get(key, "") for machine in machines)
        if len(values) > 1:
            most[key] = values.most_common(1)[0][0]
    return most


def differences(machines: Sequence[Machine]) -> list[Finding]:
    """Say what is not the same on all machines, one finding for each."""
    found = []
    for key, usual in _differing(machines).items():
        others = [
            f"{machine.facts.get(key, '')} on {machine.name}"
            for machine in machines
            if machine.facts.get(key, "") != usual
        ]
        verdict = missing if key == "scenario" else limited
        what = f"not the same everywhere: {usual}, but {', '.join(others)}"
        found.append(verdict(key, what, _SAME[key]))
    return found


def sights(machines: Sequence[Machine]) -> list[Finding]:
    """Say which machines do not reach each other, and whose time of day is another."""
    found = []
    of_rank = {machine.ranks[0]: machine for machine in machines if machine.ranks}
    for machine in machines:
        for rank, saw in machine.seen.items():
            if not saw.trouble:
                continue
            other = of_rank.get(rank)
            if other is machine:
                text = f"{machine.name} cannot listen at its own address: {saw.trouble}"
                fix = "choose a card that it has: GLOO_SOCKET_IFNAME=..."
            else:
                name = other.name if other else f"rank {rank}"
                at = other.facts.get("address", "") if other else ""
                text = f"{machine.name} cannot reach {name} at {at}: {saw.trouble}"
                fix = "open all ports between them, or choose the card: GLOO_SOCKET_IFNAME=..."
            found.append(missing("reach", text, fix))
    for rank, saw in machines[0].seen.items() if machines else ():
        if not saw.trouble and abs(saw.ahead_s) > _CLOCKS_S + saw.round_trip_s / 2:
            name = of_rank[rank].name if rank in of_rank else f"rank {rank}"
            way = "ahead of" if saw.ahead_s > 0 else "behind"
            text = f"{name} is {abs(saw.ahead_s):.1f} s {way} rank 0"
            found.append(limited("clocks", text, "let both keep time: timedatectl set-ntp true"))
    return found
