"""What trainings measured: how much a kind of setting costs in held-out loss.

Differences in nats per token at equal tokens, of a decoder of 1.1M parameters trained for 300
steps with two and four workers (benchmarks/learning/summary.md, which has intervals). They say
how methods begin, not how they end, so they are shown next to a setting, and decide only what is
not recommended unless it was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from sim.planning.settings import staleness
from sim.records.scenario import Scenario


@dataclass(frozen=True)
class Evidence:
    """One comparison of the learning study."""

    #: What was compared, and with what.
    what: str
    against: str
    #: The two configurations of benchmarks/learning.
    configurations: tuple[str, str]
    #: Difference with two and with four workers.
    two_workers: float
    four_workers: float
    #: Whether it learned worse than what communicates as rarely, in both.
    worse: bool

    @property
    def text(self) -> str:
        """Say it."""
        low, high = sorted((self.two_workers, self.four_workers))
        return f"{self.what}: {low:+.3f} to {high:+.3f} nats per token against {self.against}"


# What communicating rarely costs is the price of the whole family: shown, and no reason to leave it
# out where the links leave no choice.
DILOCO = Evidence("diloco", "ddp", ("diloco", "ddp"), 0.095, 0.227, worse=False)
STREAMING = Evidence(
    "streaming_diloco without delay",
    "diloco",
    ("streaming 0 bf16", "diloco"),
    -0.009,
    -0.008,
    worse=False,
)
LOCAL_SGD = Evidence("local_sgd", "diloco", ("local_sgd", "diloco"), 0.026, 0.031, worse=True)
SHORT_DELAY = Evidence(
    "delay 1", "delay 0", ("streaming 1 bf16", "streaming 0 bf16"), 0.007, 0.003, worse=False
)
LONG_DELAY = Evidence(
    "delay 5", "delay 0", ("streaming 5 bf16", "streaming 0 bf16"), 0.044, 0.052, worse=True
)
FP4 = Evidence(
    "fp4 on the wire", "bf16", ("streaming 0 fp4", "streaming 0 bf16"), 0.003, 0.001, worse=False
)
EAGER = Evidence("eager_diloco", "diloco", ("eager", "diloco"), 0.117, 0.298, worse=True)
DELAYED = Evidence("delayed_diloco", "diloco", ("delayed", "diloco"), 0.730, 0.631, worse=True)
ACCO = Evidence("acco", "ddp", ("acco", "ddp"), 0.011, 0.005, worse=False)
DPU = Evidence("dpu", "ddp", ("dpu", "ddp"), 0.283, 0.338, worse=True)
WP = Evidence("wp (as dpu, not measured itself)", "ddp", ("dpu", "ddp"), 0.283, 0.338, worse=True)

MEASURED_DELAYS = (1, 5)
"""Delays of fragments in inner steps that were trained with, of rounds of 15 steps."""

_BY_METHOD = {
    "diloco": (DILOCO,),
    "local_sgd": (DILOCO, LOCAL_SGD),
    "streaming_diloco": (DILOCO, STREAMING),
    "eager_diloco": (DILOCO, EAGER),
    "delayed_diloco": (DILOCO, DELAYED),
    "acco": (ACCO,),
    "dpu": (DPU,),
    "wp": (WP,),
}


_LEARNS_AS = {"streaming_diloco": "diloco"}  # STREAMING: no worse; its delay counts apart


def learns_as(method: str) -> str:
    """Return the method of which trainings say that this one learns no worse; else itself."""
    return _LEARNS_AS.get(method, method)


def evidence(scenario: Scenario) -> list[Evidence]:
    """Return what was measured of a setting's kind; a delay counts as the next longer one."""
    found = list(_BY_METHOD.get(scenario.method.name, ()))
    if scenario.method.arguments.get("fragment_sync_delay") is not None:
        late = staleness(scenario)
        if late > MEASURED_DELAYS[0]:
            found.append(LONG_DELAY)
        elif late > 0:
            found.append(SHORT_DELAY)
    if "sync_every" in scenario.method.arguments and scenario.comm_dtype == "fp4":
        found.append(FP4)
    return found
