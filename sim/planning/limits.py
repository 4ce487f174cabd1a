"""Which settings are admissible: limits on what is learned, with where they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sim.planning.evidence import evidence
from sim.planning.settings import staleness, steps_between, width
from sim.program import bytes_per_element
from sim.records.scenario import Scenario


def largest(excluded: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return what has excluded most settings, and how many; kinds of limits taken together."""
    causes: Counter[str] = Counter()
    for text, number in excluded.items():
        kind = "sync_every" if text.startswith("sync_every") else text
        causes["delay" if text.startswith("results") else kind] += number
    return causes.most_common(4)


@dataclass(frozen=True)
class Limits:
    """What a setting must not exceed; None is no limit."""

    #: Inner steps between outer steps. Douillard et al. 2025 (arXiv:2501.18512) and INTELLECT-1
    #: (arXiv:2412.01152) train with 100; Douillard et al. 2023 (arXiv:2311.08105) lose quality
    #: beyond 500.
    sync_every: int | None = 100
    #: Inner steps by which a result is late: the delay of 1 with which Streaming DiLoCo's paper
    #: trains, and the longest one that cost nothing in our trainings.
    staleness: int | None = 1
    #: Tokens of all workers per committed update.
    tokens_per_update: float | None = None
    #: Tokens per update over those configured, for methods that accumulate while they
    #: communicate: by how much a slow link may enlarge the batch.
    growth: float | None = 2.0
    #: Whether gradients of every step may be quantized. Outer gradients may: fp4 cost nothing in
    #: arXiv:2501.18512 and in our trainings; of gradients neither says anything.
    quantized_gradients: bool = False
    #: Whether kinds of settings that learned worse in our trainings are left out.
    measured: bool = True
    #: Methods that were asked for by name: what was measured leaves none of these out.
    named: tuple[str, ...] = ()

    def beyond(self, scenario: Scenario) -> list[str]:
        """Return what excludes a setting before it is simulated: one text per limit."""
        found = []
        if self.sync_every is not None and (steps := steps_between(scenario)) > self.sync_every:
            found.append(f"sync_every {steps} is more than {self.sync_every}")
        late = staleness(scenario)
        delays = scenario.method.arguments.get("fragment_sync_delay") is not None
        late_by_design = self._named(scenario) and not delays  # and was asked for
        if self.staleness is not None and late > self.staleness and not late_by_design:
            found.append(f"results {late} steps late, more than {self.staleness}")
        narrow = width(scenario) < bytes_per_element(scenario.model.param_dtype)
        every_step = "sync_every" not in scenario.method.arguments
        if narrow and every_step and not self.quantized_gradients:
            found.append(f"gradients of every step in {scenario.comm_dtype}")
        if self.measured and not self._named(scenario):
            allowed = self.staleness or 0
            for each in evidence(scenario):
                if each.worse and not (delays and late <= allowed):
                    found.append(each.text)
        return found

    def too_large(self, scenario: Scenario, tokens_per_update: float, *, looks: bool) -> str:
        """Return what is wrong with the tokens per update, "" if nothing."""
        if self.tokens_per_update is not None and tokens_per_update > self.tokens_per_update:
            return f"{tokens_per_update:.4g} tokens per update"
        if looks and self.growth is not None:
            grown = tokens_per_update / scenario.tokens_per_step
            if grown > self.growth * (1 + 1e-9):
                return f"{grown:.3g} times the tokens per update configured"
        return ""

    def with_named(self, methods: tuple[str, ...]) -> Limits:
        """Return it for methods that were asked for by name."""
        return replace(self, named=methods)

    def _named(self, scenario: Scenario) -> bool:
        return scenario.method.name in self.named
