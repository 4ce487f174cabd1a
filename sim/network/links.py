"""The links of a scenario: which ones transfers cross, and what a collective costs on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from random import Random

import numpy as np
from numpy.typing import NDArray

from sim.clock import Clock
from sim.members import Members, everyone, family
from sim.network.capacity import Capacity, table_of
from sim.network.gloo import alone, duration
from sim.network.message_links import Limits, LinkPath, MessageLinks
from sim.network.nccl.scenario_links import carries, fabric_of, seconds_of
from sim.network.prices import Cost, Priced, interpolate
from sim.network.schedules import NCCL, schedule
from sim.network.states import State, States
from sim.network.varying_links import VaryingMessageLinks
from sim.records.connections import limits
from sim.records.profiles import Profile
from sim.records.scenario import CollectiveTable, Scenario


class Links:
    """The links of a scenario: between sites, up and down each site, into and out of workers."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        sites, workers = len(scenario.sites), len(scenario.workers)
        self._everyone = everyone(workers)
        self._site = np.array([worker.site for worker in scenario.workers])
        within = np.array(
            [scenario.sites[worker.site].within_bandwidth for worker in scenario.workers]
        )
        # Order of link numbers: pairs row by row, uplinks, downlinks, sending, receiving.
        self._given = Capacity(
            table_of(scenario.network.bandwidth),
            np.concatenate(
                [
                    [site.uplink for site in scenario.sites],
                    [site.downlink for site in scenario.sites],
                    within,
                    within,
                ]
            ),
        )
        self.states = States(scenario)
        self.varies = self.states.vary
        #: Bytes/s of every link; where they vary, the most that each one ever has.
        self.capacity = self._capacity(self.states.best)
        self._first_up = sites * sites
        self._first_down = self._first_up + sites
        self._first_out = self._first_down + sites
        self._first_in = self._first_out + workers
        self._latency = table_of(scenario.network.latency)
        self._within_latency = np.array([site.within_latency for site in scenario.sites])
        self.limited = bool(limits(scenario.network))
        self.by_messages = (
            scenario.network.collectives.algorithm == "gloo" and len(scenario.workers) > 1
        )
        self._by_nccl = scenario.network.collectives.algorithm == NCCL
        # By operation, dtype, (bytes), the members' name and the factors on the links.
        self._schedules: dict[tuple[str, str, str, State], Priced] = {}
        self._costs: dict[tuple[str, str, float, str], Cost] = {}
        self._found_in: dict[tuple[str, str, float, str], Callable[[State], Cost | None]] = {}

    def _capacity(self, state: State) -> Capacity:
        if state == self.states.given:
            return self._given
        return self._given.times(*self.states.factors(state))

    def site_of(self, ranks: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the index of each rank's site."""
        return np.asarray(self._site[ranks])

    def _by_site(self, members: Members) -> list[list[int]]:
        """Places among the members by site, sites in ring order."""
        order = self.scenario.network.collectives.order or range(len(self.scenario.sites))
        by_site: dict[int, list[int]] = {site: [] for site in order}
        for place, rank in enumerate(members.ranks):
            by_site[self.scenario.workers[rank].site].append(place)
        return [places for places in by_site.values() if places]

    def cost(self, operation: str, dtype: str, size: float, members: Members | None = None) -> Cost:
        """Seconds of one collective of ``size`` bytes per worker, alone on the network.

        Where links vary, the least that it ever takes (:meth:`cost_from` has what it takes).

        Parameters
        ----------
        members
            Who takes part; by default all workers.
        """
        members = members or self._everyone
        key = (operation, dtype, size, members.name)
        if key not in self._costs:
            state = self.states.best
            cost = self._cost(operation, dtype, size, members, state)
            if self.varies:  # a slow link may hide the latency of another
                states = self.states.all()
                each = [self.cost_in(state, operation, dtype, size, members) for state in states]
                least = min((found.latency_s for found in each if found), default=0.0)
                cost = replace(cost, latency_s=min(cost.latency_s, least))
            self._costs[key] = cost
        return self._costs[key]

    def cost_in(
        self, state: State, operation: str, dtype: str, size: float, members: Members
    ) -> Cost | None:
        """Return a collective's cost were the links always in this state; None: it waits."""
        return self._in_states(operation, dtype, size, members)(state)

    def _in_states(
        self, operation: str, dtype: str, size: float, members: Members
    ) -> Callable[[State], Cost | None]:
        """Return what gives a collective's cost in a state, which is found once."""
        key = operation, dtype, size, members.name
        if key not in self._found_in:
            known: dict[State, Cost | None] = {}

            def at(state: State) -> Cost | None:
                if state not in known:
                    known[state] = None
                    if not self._priced(operation, dtype, members).waits(self._capacity(state)):
                        cost = self._cost(operation, dtype, size, members, state)
                        known[state] = replace(cost, at=at)
                return known[state]

            self._found_in[key] = at
        return self._found_in[key]

    def cost_from(
        self, now: float, operation: str, dtype: str, size: float, members: Members
    ) -> Cost:
        """Return the cost of a collective that begins ``now`` and has the links, which vary, alone.

        Its latency is that of the state in which it begins, or of the first one in which all of
        its links carry something; what it transmits proceeds at the pace of each state in turn.

        Raises
        ------
        LinksError
            If there is no such state.
        """
        at = self._in_states(operation, dtype, size, members)
        state, until = self.states.at(now)
        begun = at(state)
        if begun is not None and now + begun.seconds <= until:  # nothing changes meanwhile
            return begun
        if self.by_messages and len(members) > 1:
            links = self.message_links(Clock(), random_timing=False)
            ranks = members.ranks if members.name else None
            seconds = duration(links, len(members), (operation, dtype, size), now, ranks)
            least = self.cost(operation, dtype, size, members)
            return replace(least, latency_s=0.0, transmit_s=seconds)
        begun = self.states.first_with(now, at)
        begin = instant = now + begun.latency_s
        left = 1.0
        while True:
            state, until = self.states.at(instant)
            cost = at(state)
            whole = inf if cost is None else cost.transmit_s
            if left * whole <= until - instant:
                return replace(begun, transmit_s=instant - begin + left * whole)
            left -= (until - instant) / whole
            instant = until

    def _cost(
        self, operation: str, dtype: str, size: float, members: Members, state: State
    ) -> Cost:
        if self.by_messages and len(members) > 1:
            return self._by_messages((operation, dtype, size), members, state)
        for table in self.scenario.network.collectives.tables:
            if (table.operation, table.dtype) == (operation, dtype):
                return self._measured(table, size, members, state)
        if self._by_nccl and len(members) > 1 and carries(operation, dtype):
            return self._nccl((operation, dtype, size), members, state)
        return self._priced(operation, dtype, members, state).cost(size)

    def name_of(self, link: int) -> str:
        """Return what people call a link by its number: "paris-osaka", "osaka.uplink"."""
        names = [site.name for site in self.scenario.sites]
        if link < self._first_up:
            sender, receiver = divmod(link, len(names))
            return f"{names[sender]}-{names[receiver]}"
        if link < self._first_out:
            site = (link - self._first_up) % len(names)
            return f"{names[site]}.{'uplink' if link < self._first_down else 'downlink'}"
        rank = (link - self._first_out) % len(self.scenario.workers)
        return f"rank {rank} inside {names[self._site[rank]]}"

    def slowest_from(self, rank: int) -> float:
        """Bytes/s of the slowest path from a worker to another; infinite for one alone."""
        others = np.array([w.rank for w in self.scenario.workers if w.rank != rank], dtype=np.intp)
        if not len(others):
            return inf
        crossed, _ = self.route(np.full_like(others, rank), others)
        return float(self.capacity.of(crossed[crossed >= 0]).min())

    def sent_share(
        self, operation: str, dtype: str, members: Members | None = None
    ) -> NDArray[np.float64]:
        """Bytes that each member sends, per byte of the buffer; shape [members]."""
        return self._priced(operation, dtype, members).sent

    def leaving_share(
        self, operation: str, dtype: str, members: Members | None = None
    ) -> NDArray[np.float64]:
        """Bytes that each member sends to other sites, per byte of the buffer; shape [members]."""
        return self._priced(operation, dtype, members).leaving

    def message_links(self, clock: Clock, random_timing: bool = True) -> MessageLinks:
        """The same links for gloo's messages."""
        scenario = self.scenario
        chance = Random(f"{scenario.run.seed} {scenario.replication}") if random_timing else None
        host = scenario.network.collectives.host
        if not self.varies:
            return MessageLinks(clock, self.capacity, self._path, host, chance, self._limits)
        given = self._given
        return VaryingMessageLinks(
            clock, given, self._path, host, chance, self._limits, self._profile
        )

    def _profile(self, link: int) -> Profile:
        """How a link varies, by its number."""
        return self.states.profile_of(link, self._first_up)

    def _path(self, sender: int, receiver: int) -> LinkPath:
        crossed, latency = self.route(np.array([sender]), np.array([receiver]))
        links = [int(link) for link in crossed[0] if link >= 0]
        return tuple(link for link in links if self.capacity[link] < inf), float(latency[0])

    def _limits(self, sender: int, receiver: int) -> Limits:
        """Of a connection of gloo's, which has one per pair."""
        network = self.scenario.network
        if self._site[sender] == self._site[receiver]:
            return network.collectives.host.window_bytes, inf
        return network.in_flight_bytes, network.streams.rate

    def slowest_round_trip(self, members: Members) -> float:
        """Seconds of the longest round trip between two of the members; 0 for one alone."""
        by_site = np.bincount(self._site[list(members.ranks)], minlength=len(self._within_latency))
        sites = np.flatnonzero(by_site)
        longest = 2 * float(self._within_latency[by_site > 1].max(initial=0.0))
        for site in sites:  # row by row: all pairs of thousands of sites would take gigabytes
            trips = self._latency[site, sites] + self._latency[sites, site]
            longest = max(longest, float(trips[sites != site].max(initial=0.0)))
        return longest

    def connections(
        self, sender: NDArray[np.intp], receiver: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bytes/s that the connections of each pair carry by their rate, and by what is in flight.

        Unlimited inside a site.
        """
        a, b = self._site[sender], self._site[receiver]
        network = self.scenario.network
        streams = network.streams
        count = self.scenario.connections
        paced = np.where(a != b, count * streams.rate, inf)
        round_trip = self._latency[a, b] + self._latency[b, a]
        acknowledged = np.full_like(round_trip, inf)
        waits = (a != b) & (round_trip > 0)
        with np.errstate(over="ignore"):  # a round trip of next to nothing limits nothing
            acknowledged[waits] = count * network.in_flight_bytes / round_trip[waits]
        return paced, acknowledged

    def _by_messages(self, kind: tuple[str, str, float], members: Members, state: State) -> Cost:
        host, ranks = self.scenario.network.collectives.host, members.ranks
        seconds = alone(
            self._capacity(state),
            lambda sender, receiver: self._path(ranks[sender], ranks[receiver]),
            host,
            len(ranks),
            kind,
            lambda sender, receiver: self._limits(ranks[sender], ranks[receiver]),
        )
        priced = self._priced(*kind[:2], members, state).cost(kind[2])
        transmit = min(seconds, priced.transmit_s)
        return replace(priced, latency_s=seconds - transmit, transmit_s=transmit)

    def _nccl(self, kind: tuple[str, str, float], members: Members, state: State) -> Cost:
        """Return the cost by NCCL's model; its links are as busy as in the ring's transfers."""
        by_site = self._by_site(members)
        counts = [len(places) for places in by_site]
        sites = [int(self._site[members.ranks[places[0]]]) for places in by_site]
        several = [site for site, count in zip(sites, counts, strict=True) if count > 1]
        following = sites[1:] + sites[:1]
        fabric = fabric_of(
            counts,
            self._priced("all_reduce", "fp32", members, state).transmit_per_byte,
            min((self.scenario.sites[site].within_bandwidth for site in several), default=inf),
            max((self.scenario.sites[site].within_latency for site in several), default=0.0),
            max(float(self._latency[a, b]) for a, b in zip(sites, following, strict=True)),
        )
        seconds = seconds_of(family(kind[0]), kind[2], fabric)
        priced = self._priced(*kind[:2], members, state).cost(kind[2])
        transmit = min(seconds, priced.transmit_s)
        return replace(priced, latency_s=seconds - transmit, transmit_s=transmit)

    def _priced(
        self, operation: str, dtype: str, members: Members | None = None, state: State | None = None
    ) -> Priced:
        members = members or self._everyone
        state = state or self.states.best
        key = (operation, dtype, members.name, state)
        if key not in self._schedules:
            algorithm = self.scenario.network.collectives.algorithm
            rounds = schedule(operation, algorithm, dtype, self._by_site(members))
            self._schedules[key] = Priced(self, rounds, members, self._capacity(state))
        return self._schedules[key]

    def _measured(
        self, table: CollectiveTable, size: float, members: Members, state: State
    ) -> Cost:
        """Return the cost by a table, which is of the links as given, at factor 1."""
        seconds = interpolate(self._table_over(members, table) if members.name else table, size)
        kind = table.operation, table.dtype, members
        priced = given = self._priced(*kind, self.states.given).cost(size)
        share = given.transmit_s / given.seconds if given.seconds > 0 else 1.0
        transmit_s = seconds * share
        if state != self.states.given:
            priced = self._priced(*kind, state).cost(size)
            if given.transmit_s > 0:
                transmit_s *= priced.transmit_s / given.transmit_s
        return replace(priced, latency_s=seconds * (1 - share), transmit_s=transmit_s)

    def _table_over(self, members: Members, table: CollectiveTable) -> CollectiveTable:
        """Carry a table, which is of all workers, over to some: in proportion to computed times."""
        everyone, some = (
            self._priced(table.operation, table.dtype, ranks, self.states.given)
            for ranks in (None, members)
        )
        seconds = []
        for size, second in zip(table.bytes, table.seconds, strict=True):
            before = everyone.cost(size).seconds
            seconds.append(second * some.cost(size).seconds / before if before > 0 else second)
        return replace(table, seconds=tuple(seconds))

    def route(
        self, sender: NDArray[np.intp], receiver: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Links by turns crossed by each transfer, [n, 3] with -1 for none; its latency [n]."""
        a, b = self._site[sender], self._site[receiver]
        sites = len(self.scenario.sites)
        inside = a == b
        crossed = np.stack([self._first_up + a, a * sites + b, self._first_down + b], axis=1)
        at, to = sender[inside], receiver[inside]
        crossed[inside] = np.stack(
            [self._first_out + at, self._first_in + to, np.full_like(at, -1)], axis=1
        )
        return crossed, np.where(inside, self._within_latency[a], self._latency[a, b])
