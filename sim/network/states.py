"""The links of a scenario as time passes: which factor is on the capacity of each."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.clock import SAME_INSTANT
from sim.records.profiles import UNVARIED, Profile
from sim.records.scenario import Scenario
from sim.records.varying import of_links

_T = TypeVar("_T")

State = tuple[float, ...]
"""The factor of every profile of the scenario at one time."""


class LinksError(RuntimeError):
    """Links that vary in a way that has no answer."""


class States:
    """What the profiles of a scenario's links between sites come to, one after the other.

    Attributes
    ----------
    vary
        Whether any factor changes.
    """

    def __init__(self, scenario: Scenario) -> None:
        links, self._pairs = of_links(scenario)
        varied = [each for each in {self._pairs, *links.values()} if not each.constant]
        self.vary = bool(varied)
        self._profiles = list(dict.fromkeys([self._pairs, *links.values(), UNVARIED]))
        number = {profile: place for place, profile in enumerate(self._profiles)}
        self._of_pairs = number[self._pairs]
        sites = len(scenario.sites)
        first = {"pair": 0, "uplink": sites**2, "downlink": sites**2 + sites}
        # Numbers of links, as in Links: pairs row by row, uplinks, downlinks.
        self._links = {
            first[line] + (site * sites + other if line == "pair" else site): number[profile]
            for (line, site, other), profile in links.items()
        }
        self._lines = np.full(2 * sites, number[UNVARIED])
        self._own: dict[int, int] = {}
        for link, profile in self._links.items():
            if link < sites**2:
                self._own[link] = profile
            else:
                self._lines[link - sites**2] = profile
        self._until = max(
            (p.period if p.period < inf else p.begins[-1] for p in varied), default=0.0
        )
        self._period = max((p.period for p in varied), default=inf)
        self._latest: tuple[float, State, float] = (0.0, (), 0.0)

    @property
    def given(self) -> State:
        """No factor at all: the bandwidth as the scenario has it."""
        return (1.0,) * len(self._profiles)

    @property
    def best(self) -> State:
        """The largest factor of each, which the links may never have at once."""
        return tuple(profile.most for profile in self._profiles)

    def at(self, instant: float) -> tuple[State, float]:
        """Return the factors at an instant, and until when they stay.

        A change within ``SAME_INSTANT``, relative, has happened already.
        """
        instant *= 1 + SAME_INSTANT
        since, state, until = self._latest
        if not since <= instant < until:  # most often nothing has changed since it was asked for
            found = [profile.at(instant) for profile in self._profiles]
            state, until = tuple(factor for factor, _ in found), min(end for _, end in found)
            self._latest = instant, state, until
        return state, until

    def first_with(self, now: float, found: Callable[[State], _T | None]) -> _T:
        """Return what is found for the first state from now on that has something.

        Raises
        ------
        LinksError
            If none has.
        """
        instant = now
        while True:
            state, until = self.at(instant)
            if (result := found(state)) is not None:
                return result
            if until == inf or until - now > 2 * self._period:
                raise LinksError(
                    "a collective waits for ever: links that it needs are never up at the same "
                    "time (network.profile, site.profile)"
                )
            instant = until

    def all(self) -> list[State]:
        """Return the different states that there ever are, in the order of time."""
        found: dict[State, None] = {}
        instant, last = 0.0, self._period if self._period < inf else self._until
        while True:
            state, until = self.at(instant)
            found[state] = None
            if until == inf or until > last * (1 + SAME_INSTANT) or instant >= last:
                return list(found)
            instant = until

    def factors(self, state: State) -> tuple[float, dict[int, float], NDArray[np.float64]]:
        """Return the factor on links of pairs, by number those of some, and of up- and downlinks.

        The last are in the order of the links' numbers; shape [2 sites].
        """
        own = {link: state[profile] for link, profile in self._own.items()}
        return state[self._of_pairs], own, np.array(state)[self._lines]

    def profile_of(self, link: int, pairs: int) -> Profile:
        """Return that of a link by its number, of which the first ``pairs`` are of pairs."""
        if link in self._links:
            return self._profiles[self._links[link]]
        return self._pairs if link < pairs else UNVARIED
