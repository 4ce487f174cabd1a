"""The links of a scenario as time passes: which factor is on the capacity of each."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.clock import SAME_INSTANT
from sim.scenario.profiles import UNVARIED, Profile
from sim.scenario.records import Scenario
from sim.scenario.varying import period_of, varying

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
        network, sites = scenario.network, scenario.sites
        self.vary = bool(varying(scenario))
        self._pairs = UNVARIED if network.bandwidth.common == inf else network.profile
        self._sites = [
            site.profile if min(site.uplink, site.downlink) < inf else UNVARIED for site in sites
        ]
        self._profiles = list(dict.fromkeys([self._pairs, *self._sites]))
        number = {profile: place for place, profile in enumerate(self._profiles)}
        self._of_pairs = number[self._pairs]
        self._of_site = np.array([number[profile] for profile in self._sites])
        self._until = max(
            (
                p.period if p.period < inf else p.begins[-1]
                for p in self._profiles
                if not p.constant
            ),
            default=0.0,
        )
        self._period = period_of(scenario) or inf
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

    def factors(self, state: State) -> tuple[float, NDArray[np.float64]]:
        """Return the factor on links of pairs, and those on the links of sites; shape [sites]."""
        return state[self._of_pairs], np.array(state)[self._of_site]

    def profile_of(self, site: int | None) -> Profile:
        """Return that of a site's uplink and downlink; of None, of the links of pairs."""
        return self._pairs if site is None else self._sites[site]
