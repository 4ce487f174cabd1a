"""One setting: a method with arguments, and how its collectives are carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sim.program import bytes_per_element
from sim.records.scenario import Scenario
from sim.scenario.balance import BALANCED, Share
from sim.scenario.inner_steps import Pace, inner_steps
from sim.scenario.options import OPTIONS

ALGORITHM = "network.collective.algorithm"
ORDER = "network.collective.order"
STEPS_BY_SITE = "site.sync_every"
BATCHES = "site.batch_tokens"

# Arguments that take each other's place.
EXCLUSIVE = {"num_fragments": "layers_per_fragment", "layers_per_fragment": "num_fragments"}
_OPTION_OF = {option.key: name for name, option in OPTIONS.items()}


@dataclass(frozen=True)
class Setting:
    """What is searched for: values under the keys of a scenario file.

    ``values`` has ``method.NAME`` for arguments, ``network.collective.algorithm`` and
    ``network.collective.order``; a key that is missing stays as the scenario has it. Where
    :data:`STEPS_BY_SITE` is "balanced", ``sync_every`` is that of the fastest site. Batches are
    those of the scenario that it is applied to, and :data:`BATCHES` only says how to type them.
    """

    method: str
    values: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def _by_key(self) -> Mapping[str, Any]:
        return dict(self.values)

    def applied(self, base: Scenario) -> Scenario:
        """Return a scenario of this method with the setting's values."""
        arguments = dict(base.method.arguments)
        collectives = base.network.collectives
        for key, value in self.values:
            name = key.rpartition(".")[2]
            if key.startswith("method."):
                arguments[name] = value
                if EXCLUSIVE.get(name) in arguments:
                    arguments[EXCLUSIVE[name]] = None
            elif key in (STEPS_BY_SITE, BATCHES):
                continue
            elif key == ORDER:
                collectives = replace(collectives, order=value)
            else:
                collectives = replace(collectives, **{name: value})
        if self.get(STEPS_BY_SITE) == BALANCED:
            arguments["sync_every"] = balanced_steps(base, arguments["sync_every"])
        return replace(
            base,
            method=replace(base.method, arguments=arguments),
            network=replace(base.network, collectives=collectives),
        )

    def with_value(self, key: str, value: Any) -> Setting:
        """Return it with another value of one key."""
        if key not in self._by_key:
            return replace(self, values=(*self.values, (key, value)))
        return replace(self, values=tuple((k, value if k == key else v) for k, v in self.values))

    def without(self, key: str) -> Setting:
        """Return it with one key as the scenario has it."""
        return replace(self, values=tuple(pair for pair in self.values if pair[0] != key))

    def get(self, key: str, otherwise: Any = None) -> Any:
        """Return the value of a key."""
        return self._by_key.get(key, otherwise)

    def typed(self) -> str:
        """Return the options that say it on the command line."""
        return " ".join([f"--method {self.method}", *(self.option(key) for key in self._by_key)])

    def option(self, key: str) -> str:
        """Return the option that says the value of one key."""
        text = "best" if key == ORDER else str(self._by_key[key]).lower()
        option = _OPTION_OF.get(key)
        return f"{option} {text}" if option else f"--set {key}={text}"

    def keys(self, sites: Sequence[str]) -> dict[str, Any]:
        """Return the keys of a scenario file that say it, with what they hold; sites by name."""
        return {
            key: [sites[place] for place in value] if key == ORDER and value else value
            for key, value in self.values
            if key != ORDER or value
        }


def balanced_steps(scenario: Scenario, most: int) -> tuple[int, ...]:
    """Return every worker's inner steps with which no site waits at the end of a round.

    As ``site.sync_every = "balanced"`` for all sites; 0 where not even one step fits.
    """
    machines = [worker.machine for worker in scenario.workers]
    steps = [Share(machine, 1, balanced=False).step_seconds for machine in machines]
    return tuple(inner_steps([Pace(BALANCED, seconds) for seconds in steps], most))


def staleness(scenario: Scenario) -> int:
    """Inner steps by which a result is applied late, as the method's arguments ask.

    ``fragment_sync_delay`` steps; ``outer_sync_delay`` rounds of ``sync_every`` steps; one step of
    dpu and wp. What a slow link adds is not counted: methods wait for it.
    """
    arguments = scenario.method.arguments
    if (delay := arguments.get("fragment_sync_delay")) is not None:
        return _most(delay)
    if (rounds := arguments.get("outer_sync_delay")) is not None:
        return int(rounds) * _most(arguments["sync_every"])
    return int(scenario.method.name in ("dpu", "wp"))


def steps_between(scenario: Scenario) -> int:
    """Inner steps between outer steps; 1 for methods that have none."""
    return _most(scenario.method.arguments.get("sync_every", 1))


def width(scenario: Scenario) -> float:
    """Bytes of one gradient element on the wire."""
    return bytes_per_element(scenario.comm_dtype)


def _most(value: int | tuple[int, ...]) -> int:
    return max(value) if isinstance(value, tuple) else int(value)
