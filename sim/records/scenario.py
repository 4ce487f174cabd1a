"""The resolved scenario: frozen records in SI units that the runtimes read.

Everything a person may leave out has been filled in here, everything that excludes
something else has been settled, and every number is in seconds, bytes, bytes/s or
FLOP/s. The files that people write are described in :mod:`sim.scenario.schema`; this
module knows neither TOML nor options nor units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from functools import cached_property
from math import inf, sqrt
from typing import Any, TypeVar

from sim.operations import OPERATIONS, timed
from sim.records.identity import sha256
from sim.records.memory_keys import MemoryKeys, SiteMemory
from sim.records.pairs import Pairs
from sim.records.profiles import UNVARIED, Profile

_R = TypeVar("_R")


@dataclass(frozen=True)
class Run:
    """When to stop. At most one of tokens, steps, rounds is set; none means "steady".

    ``skip_rounds`` and ``measured_rounds`` choose the window (whole rounds of the method); ``None``
    leaves the choice to the method and to whether there is jitter. ``replications`` is how many
    predict something random; None is as many as it takes (:mod:`sim.questions.replications`).
    ``average_by`` says what counts in a mean over workers: "workers", each once, or "tokens", those
    of its round. Rank r begins r times ``start_skew_s`` after rank 0.
    """

    tokens: float | None = None
    steps: int | None = None
    rounds: int | None = None
    seed: int = 0
    skip_rounds: int | None = None
    measured_rounds: int | None = None
    replications: int | None = None
    average_by: str = "workers"
    start_skew_s: float = 0.0


@dataclass(frozen=True)
class ModelSize:
    """What is trained, as far as time and traffic depend on it.

    ``layer_parameters`` has one entry per layer (embedding counted with the first layer,
    final norm with the last) and sums to ``parameters``, which are trained. ``frozen_parameters``
    are computed with and neither trained nor sent. ``active_parameters`` is what one token
    computes with of both (fewer for a mixture of experts). ``layer_tensors`` has the elements
    of each tensor of each layer; empty where nothing is sent tensor by tensor.
    """

    name: str
    parameters: int
    active_parameters: int
    layer_parameters: tuple[int, ...]
    param_dtype: str = "bf16"
    frozen_parameters: int = 0
    layer_tensors: tuple[tuple[int, ...], ...] = ()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return len(self.layer_parameters)


@dataclass(frozen=True)
class Jitter:
    """Distribution of the factor by which one micro-batch takes longer (mean 1).

    ``cv`` is standard deviation over mean; ``samples`` (only for "empirical") holds the
    measured factors, already divided by their mean.
    """

    distribution: str = "constant"
    cv: float = 0.0
    samples: tuple[float, ...] = ()

    @property
    def random(self) -> bool:
        """Whether factors differ at all."""
        return self.distribution == "empirical" or (self.distribution != "constant" and self.cv > 0)


def _with_operation_times(record: type[_R]) -> type[_R]:
    """Give a record a field for the seconds of every operation that is timed."""
    times = [(row.field, float, 0.0) for row in timed()]
    about = {"__doc__": record.__doc__, "__module__": record.__module__}
    return make_dataclass(record.__name__, times, bases=(record,), namespace=about, frozen=True)


@_with_operation_times
@dataclass(frozen=True)
class Machine:
    """How long each operation takes on one worker. Times are for speed 1, in seconds.

    ``step_seconds`` is one inner step, that is ``n_grad_accumulation`` micro-batches forward
    and backward, *without* the optimizer; a backward pass takes ``backward_ratio`` times as long
    as a forward pass. The other operations that take time have a field each
    (:attr:`sim.operations.Operation.field`, like ``optimizer_seconds``), for the whole model; a
    part of the layers is charged its share. Every operation's time is divided by ``speed``.
    ``communication_slowdown`` (>= 1) multiplies computation while this worker has a
    collective on the wire; ``background_slowdown`` (>= 1) multiplies both queues of a worker while
    its main and its spawned program compute at once. ``communication_s_per_byte`` is what a
    byte that the worker sends takes away from its computation (packets are work, too): at a
    rate r computation runs 1 + r times this slower. ``transmission_slowdown`` is how much slower
    it runs, besides, while bytes of the worker's are on the line at all: pairs of the line's
    bytes/s and a factor (>= 1), linear between them and constant beyond. ``cold_start`` is what
    the first operation after a pause takes longer, because others have used core and caches
    meanwhile: pairs of the pause and that, in seconds, linear from none and constant beyond.

    ``accelerators`` is how many a worker has and ``peak_flops`` the FLOP/s that each could do at
    most; 0 where nobody said. They take no part in any time (``step_seconds`` holds it already).
    """

    step_seconds: float
    batch_tokens: float
    n_grad_accumulation: int = 1
    first_layer_backward: float = 1.0
    speed: float = 1.0
    jitter: Jitter = Jitter()
    communication_slowdown: float = 1.0
    background_slowdown: float = 1.0
    communication_s_per_byte: float = 0.0
    transmission_slowdown: tuple[tuple[float, float], ...] = ()
    cold_start: tuple[tuple[float, float], ...] = ()
    backward_ratio: float = 2.0
    accelerators: int = 0
    peak_flops: float = 0.0
    #: What happens inside a step, where that has been simulated: the times above are its.
    inside: Inside | None = None
    #: The part of ``step_seconds`` in which all wait for communication inside the island.
    exposed_inside: float = 0.0

    def seconds_of(self, operation: str) -> float:
        """Return the seconds of an operation of the whole model, at speed 1."""
        row = OPERATIONS[operation]
        return float(getattr(self, row.field)) if row.key else row.seconds


@dataclass(frozen=True)
class Inside:
    """What the accelerators of one worker, an island, do within a step, and over which links."""

    #: "ddp", "zero1" or "fsdp", and its arguments.
    method: str
    arguments: tuple[tuple[str, Any], ...]
    #: Of the island, and of one node; nodes are filled one after the other.
    accelerators: int
    per_node: int
    #: How long its own part of each operation takes on one accelerator: kernels alone.
    accelerator: Machine
    #: Bytes/s that an accelerator sends, and receives, inside its node; seconds one way.
    within_bandwidth: float
    within_latency: float
    #: The same of a node, between nodes.
    between_bandwidth: float
    between_latency: float
    #: How its collectives are carried out.
    algorithm: str = "ring"
    #: What goes to other islands: "sharded", every accelerator's share, or by one "leader".
    exchange: str = "leader"

    @property
    def exchanging(self) -> int:
        """Accelerators that communicate with other islands."""
        return self.accelerators if self.exchange == "sharded" else 1


@dataclass(frozen=True)
class Worker:
    """One model replica: its rank (ranks number the sites in order), site and machine.

    ``stream`` numbers its random streams; None is its rank. It stays when ranks are numbered
    again because a site is left out, so that the same worker draws the same numbers.
    """

    rank: int
    site: int
    machine: Machine
    stream: int | None = None

    @property
    def random_stream(self) -> int:
        """Number of this worker's random streams."""
        return self.rank if self.stream is None else self.stream


@dataclass(frozen=True)
class Tariff:
    """What a site costs: money per accelerator-hour and per TB that leaves it; watts.

    None: not given. ``currency`` is three letters or none. ``idle_w`` is a watt number of its own
    only where ``busy_w`` is known; ``pue`` multiplies both.
    """

    per_hour: float | None = None
    per_tb: float | None = None
    currency: str = ""
    busy_w: float | None = None
    idle_w: float | None = None
    pue: float = 1.0


@dataclass(frozen=True)
class Site:
    """Workers joined by fast links. Rates in bytes/s per direction, latency one way in seconds.

    ``uplink`` and ``downlink`` are shared by all that leaves or enters the site;
    ``within_bandwidth`` is what each worker can send, and receive, inside the site.
    ``from_network`` names those of "uplink" and "downlink" that are network.bandwidth, since the
    site gives none of its own. ``memory`` is that of its accelerators, on which no time depends:
    sites that differ in nothing else are equal. ``tariff`` is what it costs. ``profile`` is how
    uplink and downlink vary over time.
    """

    name: str
    workers: int
    uplink: float = inf
    downlink: float = inf
    within_bandwidth: float = 50e9
    within_latency: float = 10e-6
    from_network: tuple[str, ...] = ()
    memory: SiteMemory = field(default=SiteMemory(), compare=False)
    tariff: Tariff = Tariff()
    profile: Profile = UNVARIED

    def with_bandwidth(self, rate: float) -> Site:
        """Return it with another network.bandwidth, in bytes/s; a line of its own stays."""
        return replace(
            self,
            uplink=rate if "uplink" in self.from_network else self.uplink,
            downlink=rate if "downlink" in self.from_network else self.downlink,
        )


@dataclass(frozen=True)
class CollectiveTable:
    """Measured seconds of one collective against its buffer's bytes (ascending)."""

    operation: str
    dtype: str
    bytes: tuple[float, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class HostCosts:
    """What the ends of a connection cost, where collectives are gloo's.

    ``message_s``: from a message's arrival to what follows from it. ``byte_s``: per byte that
    an end receives and adds up. ``call_s``: per collective, to hand it over. ``element_s``: per
    element of a collective's buffer, to convert and to put in place. ``quantized_element_s``: the
    same for int8 and fp4, sums between the exchanges included. ``window_bytes``, of any
    algorithm: what a connection may have in flight.
    """

    message_s: float = 0.0
    byte_s: float = 0.0
    call_s: float = 0.0
    element_s: float = 0.0
    quantized_element_s: float = 0.0
    window_bytes: float = inf


@dataclass(frozen=True)
class Collectives:
    """How collectives are carried out.

    ``algorithm``: ring, tree, halving_doubling, direct, hierarchical; or gloo, which is no
    formula but gloo's own messages (:mod:`sim.network.gloo`), with ``host`` at their ends; or
    nccl, by NCCL's cost model (:mod:`sim.network.nccl`).
    ``order``: site indices in the order in which a ring passes through them.
    ``concurrent``: how many collectives of one group proceed at once.
    ``quantize_block``: values per 16-bit scale of an int8 or fp4 buffer; 0 sends no scales.
    ``first_seconds``: extra time of each group's first collective.
    ``tables``: measured times; an (operation, dtype) found here is interpolated instead of
    being computed from the algorithm.
    """

    algorithm: str = "ring"
    order: tuple[int, ...] = ()
    concurrent: int = 1
    quantize_block: int = 256
    first_seconds: float = 0.0
    tables: tuple[CollectiveTable, ...] = ()
    host: HostCosts = HostCosts()

    @property
    def random_timing(self) -> bool:
        """Whether the same collectives may take another time in another replication."""
        return self.algorithm == "gloo" and self.host.message_s > 0


MATHIS = sqrt(3 / 2)
"""The constant C of TCP's throughput under loss, where every segment is acknowledged (Mathis,
Semke, Mahdavi and Ott 1997, "The macroscopic behavior of the TCP congestion avoidance
algorithm"); with delayed acknowledgements it is sqrt(3/4)."""


@dataclass(frozen=True)
class Streams:
    """The connections that carry what a worker sends to one at another site.

    ``count`` per ordered pair of a group's workers (of their accelerators, where they are islands
    that exchange by shards), each at most ``rate`` bytes/s; ``loss`` is the
    fraction of packets lost, ``segment_bytes`` TCP's maximum segment size.
    """

    count: int = 1
    rate: float = inf
    loss: float = 0.0
    segment_bytes: float = 1460.0


@dataclass(frozen=True)
class Network:
    """Links between sites, by pair; rows of numbers, S x S, are taken as well.

    ``bandwidth`` in bytes/s is goodput (the scenario's goodput factor is already applied, to
    uplinks and downlinks as well) and is shared by all transfers from one site to another;
    ``latency`` is one way, in seconds. ``per`` says what one number for all bandwidths means:
    "pair", the link of each ordered pair of sites; "site", each site's uplink and downlink, and
    the links of pairs are unlimited. ``streams`` limit what two workers at different sites
    exchange. ``profile`` is how the links of pairs vary over time, ``link_profiles`` how single
    links do, in place of it and of the sites', by the names of :func:`link_name`.
    """

    bandwidth: Pairs
    latency: Pairs
    collectives: Collectives = Collectives()
    per: str = "pair"
    streams: Streams = Streams()
    profile: Profile = UNVARIED
    link_profiles: tuple[tuple[str, Profile], ...] = ()

    def __post_init__(self) -> None:
        for name in ("bandwidth", "latency"):
            given = getattr(self, name)
            if not isinstance(given, Pairs):
                object.__setattr__(self, name, Pairs.of(given))

    @property
    def in_flight_bytes(self) -> float:
        """What a connection between sites has in flight at most.

        Its window, or the mean congestion window that losses leave: MSS C / sqrt(p).
        """
        window, loss = self.collectives.host.window_bytes, self.streams.loss
        if loss == 0:
            return window
        return min(window, self.streams.segment_bytes * MATHIS / sqrt(loss))

    def with_links(self, link: Callable[[int, int], tuple[float, float]]) -> Network:
        """Return it with the bandwidth and latency that ``link`` gives for each pair of sites."""
        sites = range(len(self.bandwidth))
        links = [[(inf, 0.0) if i == j else link(i, j) for j in sites] for i in sites]
        return replace(
            self,
            per="pair",
            bandwidth=Pairs.of([[bandwidth for bandwidth, _ in row] for row in links]),
            latency=Pairs.of([[latency for _, latency in row] for row in links]),
        )


@dataclass(frozen=True)
class Method:
    """A program and its arguments. ``name`` is a key of METHODS or "package.module:function"."""

    name: str
    program: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    #: Accelerators of an island, where the workers are accelerators; 0 where they are replicas.
    island: int = 0


@dataclass(frozen=True)
class Scenario:
    """A complete question. ``assumed`` lists (key, value) of all that nobody gave.

    ``left_out`` are arguments that were given for another method or for several, and that this
    one does not take ('method.overlap = "bucket"' where only the value is not allowed).

    ``replication`` belongs to no file: it numbers runs that differ in nothing but their random
    streams, of jitter and of gloo's wake-up latencies. ``memory`` says how memory is counted, on
    which no time depends. ``warnings`` are sentences that go with every prediction.
    """

    run: Run
    model: ModelSize
    method: Method
    workers: tuple[Worker, ...]
    sites: tuple[Site, ...]
    network: Network
    name: str = ""
    assumed: tuple[tuple[str, str], ...] = ()
    replication: int = 0
    left_out: tuple[str, ...] = ()
    memory: MemoryKeys = field(default=MemoryKeys(), compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    #: Keys by which single sites are named and that a change of the whole has to repeat:
    #: "site.NAME.sync_every", "network.order"; and "site.batch_tokens" where it is balanced.
    site_keys: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def random(self) -> bool:
        """Whether another replication may take another time."""
        return self.network.collectives.random_timing or any(
            worker.machine.jitter.random for worker in self.workers
        )

    @cached_property
    def connections(self) -> int:
        """Connections of two workers at different sites: each accelerator has those of its own."""
        insides = [worker.machine.inside for worker in self.workers]
        pairs = min((1 if inside is None else inside.exchanging for inside in insides), default=1)
        return pairs * self.network.streams.count

    @cached_property
    def sha256(self) -> str:
        """Hash of all that decides the answer (:mod:`sim.records.identity`)."""
        return sha256(self)

    @cached_property
    def ranks_by_site(self) -> tuple[tuple[int, ...], ...]:
        """The ranks of each site's workers."""
        found: list[list[int]] = [[] for _ in self.sites]
        for worker in self.workers:
            found[worker.site].append(worker.rank)
        return tuple(map(tuple, found))

    @property
    def shards(self) -> int:
        """Over how many workers a sharded optimizer is divided: an island's, or all."""
        return self.method.island or len(self.workers)

    @property
    def averaging(self) -> int:
        """How many outer gradients a mean is of: one of each island, or of each worker."""
        return len(self.workers) // (self.method.island or 1)

    @property
    def comm_dtype(self) -> str:
        """Type in which gradients and outer gradients travel."""
        return self.method.arguments.get("comm_dtype") or self.model.param_dtype

    @cached_property
    def tokens_per_step(self) -> float:
        """Tokens of one inner step of all workers."""
        return sum(worker.machine.batch_tokens for worker in self.workers)

    @property
    def bandwidth(self) -> float:
        """Bytes/s of the first pair of sites, or of the fastest uplink where it is per site."""
        if self.network.per == "site":
            return max(site.uplink for site in self.sites)
        return self.network.bandwidth.between(0, 1)

    def on(self, network: Network) -> Scenario:
        """Return it on another network; lines that were the network's go with the old one."""
        sites = self.sites
        if network.per != self.network.per:
            sites = tuple(replace(site.with_bandwidth(inf), from_network=()) for site in sites)
        return replace(self, sites=sites, network=network)

    def rate(self, sender: int, receiver: int) -> float:
        """Bytes/s from one site to another when nothing else is sent."""
        pair = self.network.bandwidth.between(sender, receiver)
        return min(pair, self.sites[sender].uplink, self.sites[receiver].downlink)

    @property
    def unequal_tokens(self) -> bool:
        """Whether workers train on different numbers of tokens in a round, so that means differ."""
        steps = self.method.arguments.get("sync_every")
        own = {
            worker.machine.batch_tokens * (steps[worker.rank] if isinstance(steps, tuple) else 1)
            for worker in self.workers
        }
        return len(own) > 1

    @property
    def horizon_tokens(self) -> float | None:
        """The horizon in tokens, if it is given in tokens or steps."""
        if self.run.steps is not None:
            return self.run.steps * self.tokens_per_step
        return self.run.tokens
