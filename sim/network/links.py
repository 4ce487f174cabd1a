"""What a collective costs on the scenario's links, and how collectives on the wire share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from random import Random

import numpy as np
from numpy.typing import NDArray

from sim.clock import SAME_INSTANT, Clock, Timer
from sim.members import Members, everyone
from sim.network.gloo import alone, duration
from sim.network.message_links import Limits, LinkPath, MessageLinks
from sim.network.schedules import Schedule, Transfers, schedule
from sim.network.states import State, States
from sim.network.varying_links import VaryingMessageLinks
from sim.scenario.connections import limits
from sim.scenario.pairs import Pairs
from sim.scenario.profiles import Profile
from sim.scenario.records import CollectiveTable, Scenario


@dataclass(frozen=True)
class Cost:
    """One collective alone on the network.

    ``latency_s`` is shared with nobody, ``transmit_s`` stretches when links are shared.
    ``links`` are those that it crosses and that are not unlimited, by number, in order, and
    ``use`` is the fraction of each one's capacity taken meanwhile.
    ``pairs`` are the pairs of workers whose connections limit it, by number, and ``pair_use`` the
    fraction taken of what their connections carry.
    """

    latency_s: float
    transmit_s: float
    links: NDArray[np.intp]
    use: NDArray[np.float64]
    pairs: NDArray[np.intp]
    pair_use: NDArray[np.float64]
    #: Where links vary, the cost in another state of them; None where a link is down.
    at: Callable[[State], Cost | None] | None = None

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.latency_s + self.transmit_s


def _table(pairs: Pairs) -> NDArray[np.float64]:
    """Return it as an array S x S, which takes no memory where all pairs are alike."""
    if pairs.common is not None:
        one, shape = np.array(pairs.common, dtype=float), (len(pairs), len(pairs))
        return np.ndarray(shape, buffer=one, strides=(0, 0))
    return np.array(pairs.rows, dtype=float)


class Capacity:
    """Bytes/s of every link, by number: pairs of sites row by row, and behind them the others."""

    def __init__(
        self,
        pairs: NDArray[np.float64],
        others: NDArray[np.float64],
        factor: float = 1.0,
        own: Mapping[int, float] | None = None,
    ) -> None:
        self._pairs = pairs
        self._others = others
        self._factor = factor  # on those of pairs
        self._own = own or {}  # by number, in place of it

    def __getitem__(self, number: int) -> float:
        return float(self.of(np.array([number]))[0])

    def of(self, numbers: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return those of many links, in the shape of their numbers."""
        rates = self._others.take(numbers - self._pairs.size, mode="clip")
        pair = numbers < self._pairs.size
        rates[pair] = self._pairs[np.divmod(numbers[pair], len(self._pairs))]
        if self._factor != 1.0 or self._own:
            limited = pair & (rates < inf)
            factors = np.full(numbers.shape, self._factor)
            for link, factor in self._own.items():
                factors[numbers == link] = factor
            rates[limited] *= factors[limited]
        return rates

    def times(
        self, pairs: float, own: Mapping[int, float], site_links: NDArray[np.float64]
    ) -> Capacity:
        """Return it with a factor on all pairs, on some of them, and on up- and downlinks.

        Parameters
        ----------
        pairs
            On links of pairs.
        own
            By a link's number, in place of it.
        site_links
            On uplinks and downlinks, in the order of their numbers.
        """
        others = self._others.copy()
        limited = others[: len(site_links)] < inf
        others[: len(site_links)][limited] *= site_links[limited]
        return Capacity(self._pairs, others, pairs, own)


def _distinct(numbers: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the different numbers in order, and where among them each one is.

    As ``np.unique`` does, which sorts; numbers that lie close together need no sorting.
    """
    least = numbers.min() if numbers.size else 0
    if numbers.max(initial=0) - least > 4 * numbers.size:
        distinct, place = np.unique(numbers, return_inverse=True)
        return distinct, place
    there = np.bincount(numbers - least) > 0
    return np.flatnonzero(there) + least, (np.cumsum(there) - 1)[numbers - least]


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
            _table(scenario.network.bandwidth),
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
        self._latency = _table(scenario.network.latency)
        self._within_latency = np.array([site.within_latency for site in scenario.sites])
        self.limited = bool(limits(scenario.network))
        self.by_messages = (
            scenario.network.collectives.algorithm == "gloo" and len(scenario.workers) > 1
        )
        # By operation, dtype, (bytes), the members' name and the factors on the links.
        self._schedules: dict[tuple[str, str, str, State], _Priced] = {}
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
        paced = np.where(a != b, streams.count * streams.rate, inf)
        round_trip = self._latency[a, b] + self._latency[b, a]
        acknowledged = np.full_like(round_trip, inf)
        waits = (a != b) & (round_trip > 0)
        with np.errstate(over="ignore"):  # a round trip of next to nothing limits nothing
            acknowledged[waits] = streams.count * network.in_flight_bytes / round_trip[waits]
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

    def _priced(
        self, operation: str, dtype: str, members: Members | None = None, state: State | None = None
    ) -> _Priced:
        members = members or self._everyone
        state = state or self.states.best
        key = (operation, dtype, members.name, state)
        if key not in self._schedules:
            algorithm = self.scenario.network.collectives.algorithm
            rounds = schedule(operation, algorithm, dtype, self._by_site(members))
            self._schedules[key] = _Priced(self, rounds, members, self._capacity(state))
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


def interpolate(table: CollectiveTable, size: float) -> float:
    """Seconds from a measured table: linear between points, the end segments prolonged.

    Below the first point the time is that of the first point (a smaller buffer is not
    negative time away from it), above the last the last segment's slope continues.
    """
    sizes, seconds = np.array(table.bytes), np.array(table.seconds)
    if size <= sizes[-1] or len(sizes) == 1:
        return float(np.interp(size, sizes, seconds))
    slope = (seconds[-1] - seconds[-2]) / (sizes[-1] - sizes[-2])
    return float(seconds[-1] + slope * (size - sizes[-1]))


def _count(numbers: NDArray[np.intp]) -> int:
    """How many different ones there are."""
    return len(set(numbers.tolist()))


def _equal(values: NDArray[np.float64]) -> bool:
    """Whether they are all the same."""
    return bool((values == values[0]).all())


_Times = tuple[Transfers, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], bool]
"""A round, its seconds per byte, those without acknowledgements, its latency, whether all alike."""


class _Priced:
    """A schedule laid over the links: everything about it that does not depend on the size.

    The schedule is between places among the members, the links are between their ranks.
    """

    def __init__(
        self, links: Links, rounds: Schedule, members: Members, capacity: Capacity
    ) -> None:
        workers = len(links.scenario.workers)
        self._capacity = capacity
        self.sent = np.zeros(len(members))
        self._ranks = np.array(members.ranks, dtype=np.intp)
        self._site = links.site_of(self._ranks)
        self._rounds: list[_Times] = []
        crossed, crossing = np.zeros(0, dtype=np.intp), np.zeros(0)
        pairs, busy = [np.zeros(0, dtype=np.intp)], [np.zeros(0)]
        laid: Transfers | None = None
        for transfers in rounds:
            if transfers is not laid:  # one that is repeated is laid over the links once
                laid = transfers
                used, numbers, place, times = self._laid(links, transfers)
                before, so_far = len(crossed), crossing
                crossed, at = _distinct(np.concatenate([crossed, numbers]))
                crossing, here = np.zeros(len(crossed)), at[before:]
                crossing[at[:before]] = so_far
            self._rounds.append(times)
            carried = transfers.share * transfers.repeat
            np.add.at(self.sent, transfers.sender, carried)
            more = crossing[here]
            np.add.at(more, place, np.repeat(carried, used.sum(axis=1)))
            crossing[here] = more
            if links.limited:
                sender, receiver = self._ranks[transfers.sender], self._ranks[transfers.receiver]
                connection = np.minimum(*links.connections(sender, receiver))
                used_pairs = connection < inf
                pairs.append((sender * workers + receiver)[used_pairs])
                busy.append((carried / connection)[used_pairs])
        # Who shares a link is counted per round, and workers that are a round ahead of others
        # use links at the same time as these: no link carries its bytes faster than it can.
        rates = capacity.of(crossed)
        self._links = crossed
        self._use = np.divide(crossing, rates, out=np.zeros_like(crossing), where=crossing > 0)
        self._transmit_per_byte = max(
            self._longest_path(1.0, with_latency=False), float(self._use.max(initial=0.0))
        )
        self._pairs, self._pair_use = pairs[0], busy[0]
        if links.limited:
            self._pairs, place = np.unique(np.concatenate(pairs), return_inverse=True)
            self._pair_use = np.zeros(len(self._pairs))
            np.add.at(self._pair_use, place, np.concatenate(busy))
        if self._transmit_per_byte > 0:
            self._use /= self._transmit_per_byte
            self._pair_use /= self._transmit_per_byte

    def _laid(
        self, links: Links, transfers: Transfers
    ) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp], _Times]:
        """Lay a round over the links.

        Returns
        -------
        used
            Which links on its route have a limited capacity, for each of n transfers; [n, 3].
        numbers, place
            The numbers of these links, in order; and where among them each use of a link is.
        times
            What the round takes.
        """
        sender, receiver = self._ranks[transfers.sender], self._ranks[transfers.receiver]
        route, latency = links.route(sender, receiver)
        rate = self._capacity.of(route)
        used = (route >= 0) & (rate < inf)
        numbers, place = _distinct(route[used])
        rate[~used] = inf
        rate[used] /= np.bincount(place)[place]  # all that cross a link in a round share it
        sent = rate.min(axis=1)
        if links.limited:
            paced, acknowledged = links.connections(sender, receiver)
            sent = np.minimum(sent, paced)
        unhindered = seconds_per_byte = transfers.share / sent
        if links.limited:
            seconds_per_byte = transfers.share / np.minimum(sent, acknowledged)
        # All send and receive alike: then all workers stay abreast of each other.
        alike = (
            _count(sender) == _count(receiver) == len(self._ranks)
            and _equal(seconds_per_byte)
            and _equal(unhindered)
            and _equal(latency)
        )
        times = transfers, seconds_per_byte, unhindered, latency, bool(alike)
        return used, numbers, place, times

    @property
    def leaving(self) -> NDArray[np.float64]:
        """Bytes that each member sends to other sites, per byte of the buffer; shape [members]."""
        leaving = np.zeros(len(self._ranks))
        for transfers, *_ in self._rounds:
            abroad = self._site[transfers.sender] != self._site[transfers.receiver]
            carried = transfers.share * transfers.repeat
            np.add.at(leaving, transfers.sender[abroad], carried[abroad])
        return leaving

    def waits(self, capacity: Capacity) -> bool:
        """Whether a link that it sends over carries nothing."""
        return not capacity.of(self._links[self._use > 0]).all()

    def cost(self, size: float) -> Cost:
        transmit = self._transmit_per_byte * size
        total = self._longest_path(size, with_latency=True)
        latency = max(0.0, total - transmit)
        return Cost(latency, transmit, self._links, self._use, self._pairs, self._pair_use)

    def _longest_path(self, size: float, *, with_latency: bool) -> float:
        """Last arrival when all members enter round 0 at time 0."""
        enters = np.zeros(len(self._ranks))
        for transfers, seconds_per_byte, unhindered, latency, alike in self._rounds:
            waiting = unhindered is not seconds_per_byte
            occupied, sent = seconds_per_byte * size, unhindered * size
            delay = latency if with_latency else np.zeros_like(latency)
            if alike and _equal(enters):
                enters += max(occupied[0], sent[0] + delay[0]) * transfers.repeat
                continue
            sender, receiver = transfers.sender, transfers.receiver
            # Each worker sends and receives at most once: no need to collect maxima.
            once = _count(sender) == sender.size == _count(receiver)
            for _ in range(transfers.repeat):
                leaves = enters[sender] + occupied
                arrives = leaves + delay
                if waiting:  # who waits for acknowledgements has waited for the latency
                    arrives = np.maximum(leaves, enters[sender] + sent + delay)
                following = enters.copy()
                if once:
                    following[sender] = np.maximum(following[sender], leaves)
                    following[receiver] = np.maximum(following[receiver], arrives)
                else:
                    np.maximum.at(following, sender, leaves)
                    np.maximum.at(following, receiver, arrives)
                enters = following
        return float(enters.max())


def progressive_filling(use: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative speeds of collectives that transmit at once; shape [flows, links] -> [flows].

    All speeds grow in proportion to 1 / max_l use, none beyond 1; when a link is full the
    flows that cross it stop growing. On one shared link that divides the bandwidth equally.

    Examples
    --------
    >>> progressive_filling(np.array([[1.0], [1.0]]))
    array([0.5, 0.5])
    """
    flows = len(use)
    speed = np.zeros(flows)
    peak = use.max(axis=1, initial=0.0)
    growing = peak > 0
    speed[~growing] = 1.0
    weight = np.zeros(flows)
    weight[growing] = 1 / peak[growing]
    left = np.ones(use.shape[1])
    while growing.any():
        pull = weight[growing] @ use[growing]
        full_at = np.divide(left, pull, out=np.full_like(left, inf), where=pull > 0)
        link_step = full_at.min()
        own_step = ((1 - speed[growing]) / weight[growing]).min()
        step = min(link_step, own_step)
        speed[growing] += weight[growing] * step
        left = np.maximum(left - pull * step, 0.0)
        full = (left <= 1e-12) & (pull > 0)
        growing &= ~((use[:, full] > 0).any(axis=1)) & (speed < 1 - 1e-12)
    return np.minimum(speed, 1.0)


class Flow:
    """One collective on the wire."""

    __slots__ = (
        "cost",
        "end_at",
        "group",
        "left",
        "on_end",
        "speed",
        "timer",
        "transmit_at",
        "updated",
    )

    def __init__(
        self, cost: Cost, transmit_at: float, on_end: Callable[[], None], group: str
    ) -> None:
        self.cost = cost
        self.group = group
        self.transmit_at = transmit_at
        self.left = cost.transmit_s
        self.updated = transmit_at
        self.speed = 1.0
        self.end_at = inf
        self.on_end = on_end
        self.timer: Timer | None = None


def uses(flows: list[Flow]) -> NDArray[np.float64]:
    """What flows use of each link, and of the connections that those of one group share."""
    links = flows[0].cost.links
    if all(flow.cost.links is links for flow in flows):
        use = np.array([flow.cost.use for flow in flows])
    else:
        links = np.unique(np.concatenate([flow.cost.links for flow in flows]))
        use = np.zeros((len(flows), len(links)))
        for row, flow in zip(use, flows, strict=True):
            row[np.searchsorted(links, flow.cost.links)] = flow.cost.use
    columns: dict[tuple[str, int], int] = {}
    for flow in flows:
        for pair in flow.cost.pairs.tolist():
            columns.setdefault((flow.group, pair), len(columns))
    if not columns:
        return use
    shared = np.zeros((len(flows), len(columns)))
    for row, flow in zip(shared, flows, strict=True):
        row[[columns[flow.group, pair] for pair in flow.cost.pairs.tolist()]] = flow.cost.pair_use
    return np.hstack([use, shared])


class Flows:
    """The collectives now on the wire, in virtual time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flows: list[Flow] = []
        self.next_end = inf

    def start(self, cost: Cost, extra_s: float, on_end: Callable[[], None], group: str) -> None:
        """Put a collective of a group on the wire now; ``extra_s`` is added to its latency."""
        flow = Flow(cost, self._clock.now + cost.latency_s + extra_s, on_end, group)
        self._flows.append(flow)
        if len(self._flows) == 1:
            self.next_end = flow.end_at = flow.transmit_at + cost.transmit_s
            seconds = self.next_end - self._clock.now
            flow.timer = self._clock.after(seconds, partial(self._end, flow), first=True)
        else:
            self._share()

    def end_before(self, instant: float) -> None:
        """End what ends up to ``instant`` now: at one instant collectives end first."""
        while self.next_end <= instant:
            flow = min(self._flows, key=lambda flow: flow.end_at)
            assert flow.timer is not None
            flow.timer.cancel()
            self._end(flow)

    def _share(self) -> None:
        """Recompute the speeds of all flows after one began, started transmitting or ended."""
        now = self._clock.now
        transmitting = []
        for flow in self._flows:
            if flow.transmit_at <= now * (1 + SAME_INSTANT):
                flow.left -= (now - flow.updated) * flow.speed
                flow.updated = now
                transmitting.append(flow)
        if len(transmitting) > 1:
            speeds = progressive_filling(uses(transmitting))
            for flow, speed in zip(transmitting, speeds.tolist(), strict=True):
                flow.speed = speed
        elif transmitting:
            transmitting[0].speed = 1.0
        alone = len(self._flows) == 1
        for flow in self._flows:
            if flow.updated == now or alone:
                self._schedule(flow, flow.updated + max(0.0, flow.left) / flow.speed, end=True)
            else:
                self._schedule(flow, flow.transmit_at, end=False)
        self.next_end = min((flow.end_at for flow in self._flows), default=inf)

    def _schedule(self, flow: Flow, at: float, *, end: bool) -> None:
        if flow.timer is not None:
            flow.timer.cancel()
        flow.end_at = at if end else inf
        action = partial(self._end, flow) if end else self._share
        seconds = at - self._clock.now
        flow.timer = self._clock.after(seconds if seconds > 0 else 0.0, action, first=True)

    def _end(self, flow: Flow) -> None:
        flow.timer = None  # it knows the flow: both go once nothing else knows them
        self._flows.remove(flow)
        if self._flows:
            self._share()
        else:
            self.next_end = inf
        flow.on_end()
