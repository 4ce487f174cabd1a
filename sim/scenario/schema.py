"""The sections of a scenario file: which keys there are, and what each may hold.

One class per section. A validated section holds SI numbers; ``None`` means that no one gave
the key. What is filled in then is :mod:`sim.scenario.resolution`'s business.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sim.operations import timed
from sim.scenario import fields as f
from sim.scenario.described import key
from sim.scenario.interconnects import Interconnect
from sim.scenario.nodes import NodeName
from sim.scenario.tables import with_keys


class Section(BaseModel):
    """What all sections share: no unknown keys, nothing converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RunSection(Section):
    """[run]: when to stop, and which part of the run the figures are taken from."""

    tokens: f.Tokens | None = key(
        "Tokens to train on, by all workers together. The horizon is rounded up to whole rounds.",
        "none",
    )
    steps: f.Steps | None = key(
        'Inner steps of a worker of average pace; "steady" asks for the steady state alone, '
        "without a horizon.",
        "steady",
    )
    rounds: f.AtLeastOne | None = key("Rounds of the method to train for.", "none")
    seed: f.Whole | None = key("Seed of everything random.", "0")
    skip_rounds: f.Whole | None = key("Rounds before the evaluated ones.", "until rounds repeat")
    measured_rounds: f.AtLeastOne | None = key(
        "Evaluated rounds: those that the figures are taken from.", "until rounds repeat"
    )
    replications: f.Replications | None = key(
        "Predictions with other random numbers, of which the median counts; an odd number. 1 is a"
        " quick answer without an interval.",
        "as many as it takes, 7 or 9",
    )
    start_skew: f.Delay | None = key(
        "Time that each rank begins after the one before it. Over gloo's messages, workers that "
        "are not in step may stay so, and be slower. Simulated only.",
        "0 s",
    )


class ModelSection(Section):
    """[model]: a preset, a size, a decoder with its dimensions, or a module of the user's."""

    name: f.Name | None = key("A preset with its own sizes and step time: 1B, 10B or 100B.")
    parameters: f.Parameters | None = key(
        "Trained parameters, embedding included; split into equal layers."
    )
    layer_parameters: f.LayerParameters | None = key(
        "Trained parameters of each layer or stage, from the first to the last."
    )
    layer_tensors: f.LayerTensors | None = key(
        "Trained parameters of each tensor of each layer, a list per layer, for what is sent "
        "tensor by tensor (exchange, zero1_exchange); goes with layer_parameters.",
        "those of a decoder or a preset",
    )
    kind: f.ModelKind | None = key(
        "A decoder whose sizes follow from its dimensions, which realrun can train."
    )
    size: f.Text | None = key(
        "A decoder of a known size, like 1M, which stands for its dimensions."
    )
    module: f.FunctionName | None = key(
        "A module of your own that realrun trains: a function without arguments that returns a "
        "torch module, or a list of stages. The simulator does not import it."
    )
    loss: f.FunctionName | None = key(
        "A function of (outputs, targets) that returns a scalar, in place of cross-entropy; goes "
        "with module.",
        "cross-entropy",
    )
    layers: f.Layers | None = key(
        "Number of layers, all equal in computation.",
        "the preset's, or an estimate from parameters",
    )
    frozen_parameters: f.Parameters | None = key(
        "Parameters that are computed with and neither trained nor sent, like a base under "
        "adapters.",
        "0",
    )
    active_parameters: f.Parameters | None = key(
        "Parameters that one token computes with, fewer than all in a mixture of experts.", "all"
    )
    param_dtype: f.ParamDtype | None = key(
        "Type of the parameters; gradients travel in it unless comm_dtype names another one.",
        "bf16",
    )
    hidden: f.Width | None = key("Width of a decoder's residual stream.", "that of size")
    heads: f.Width | None = key("Attention heads of a decoder.", "that of size")
    vocabulary: f.Width | None = key(
        "Tokens of the vocabulary; of a module, those that the data may hold.", "256"
    )
    feed_forward: f.Width | None = key(
        "Width of a decoder's feed-forward layers.", "8/3 of hidden, in steps of 64"
    )
    context: f.Width | None = key("Tokens of one sequence.", "1024")


class MethodSection(BaseModel):
    """[method]: a name; the other keys are checked against the function's signature."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: f.Name | None = key(
        'A method of the table of methods, or "package.module:function" for one of your own. All '
        "other keys of [method] are the arguments of its signature.",
        "streaming_diloco",
    )


class JitterSection(Section):
    """jitter = { ... }: how much the time of one micro-batch varies."""

    distribution: f.Distribution = key(
        "Distribution of the factor that multiplies the time of each micro-batch; its mean is 1.",
        "needed",
        value=...,
    )
    cv: f.Variation | None = key(
        "Coefficient of variation: standard deviation over mean.",
        "needed, except by constant and empirical",
    )
    file: f.Text | None = key(
        "Measured times, one number a line, that empirical draws from; only their ratios count.",
        "needed by empirical",
    )


class InsideSection(Section):
    """inside = { ... }: what the accelerators of one worker do within a step, simulated once."""

    method: f.InsideMethod = key(
        "What they share out: nothing but the batch (ddp), the optimizer as well (zero1), or "
        "parameters and gradients too (fsdp).",
        "needed",
        value=...,
    )
    accelerators: f.AtLeastOne | None = key(
        "Accelerators of one worker.", "the number in site.accelerators"
    )
    node: NodeName | None = key(
        "A node by its name, which gives per_node, within_node and between_nodes where nobody else "
        "does.",
        "none",
    )
    per_node: f.AtLeastOne | None = key("Accelerators of one node.", "that of node, or 8")
    within_node: Interconnect | None = key(
        "Rate at which an accelerator sends, and receives, inside its node; or a link by name.",
        "that of node, or NVLink 4",
    )
    node_rtt: f.Delay | None = key("Round-trip time between two accelerators of a node.", "6 us")
    between_nodes: Interconnect | None = key(
        "Rate at which a node sends, and receives; or its links by name.",
        "that of node, or 8 x InfiniBand NDR",
    )
    rtt: f.Delay | None = key("Round-trip time between two nodes.", "20 us")
    algorithm: f.InsideAlgorithm | None = key(
        "How collectives inside are carried out, as network.collective.algorithm says it.", "ring"
    )
    exchange: f.InsideExchange | None = key(
        "What goes to other islands: every accelerator's share, among those at the same place in "
        "all islands (sharded), or all of it by the first accelerator (leader).",
        "sharded",
    )
    prefetch: f.Switch | None = key(
        "Only with fsdp: whether the next layer is gathered while this one is computed.", "true"
    )
    reshard: f.Switch | None = key(
        "Only with fsdp: whether parameters are freed between forward and backward (ZeRO-3).",
        "true",
    )
    bucket_bytes: str | int | None = key(
        "Only with ddp and zero1: consecutive layers share a bucket up to this size.", "25 MiB"
    )
    comm_dtype: str | None = key("Type in which gradients travel inside.", "model.param_dtype")


@with_keys({row.key: row.meaning for row in timed()}, f.OperationTime)
class _OnAMachine(Section):
    """How many workers a site has, and how long operations take on one of them."""

    name: f.Name | None = key(
        "Name of the site, by which --set, matrices, hardware files and tables address it.",
        "site-1, site-2, ...",
    )
    count: f.Workers | None = key("Number of sites like this one.", "2 without a file, 1 in a file")
    workers: f.Workers | None = key("Workers at the site, each one replica of the model.", "1")
    machine: f.Name | None = key(
        "Machine of the hardware file that this site computes on.",
        "the one of the site's name, or the only one",
    )
    accelerators: f.Accelerators | None = key(
        'What one worker runs on, like "64 x H100". It gives step_time where that is not given, '
        "and MFU where its peak is known."
    )
    peak: f.Flops | None = key(
        "FLOP/s that one accelerator could do at most.", "from a table of known accelerators"
    )
    mfu: f.Share | None = key(
        "Part of the peak that a step reaches, the input from which step_time follows. It is not "
        "the MFU, end to end, that tables show.",
        "40 %",
    )
    compute_efficiency: f.Share | None = key(
        "Only with inside: part of the peak that kernels alone reach; communication inside is "
        "simulated.",
        "50 %",
    )
    inside: InsideSection | None = key(
        "What happens between the accelerators of one worker within a step; a table of the keys "
        "below. Without it a worker's step is one number."
    )
    batch_tokens: f.BatchTokens | None = key(
        'Tokens per worker and inner step; "balanced" chooses them so that no site waits for '
        "another's step.",
        "1Mi",
    )
    sync_every: f.InnerSteps | None = key(
        "Inner steps of this site's workers between outer steps, in place of method.sync_every; "
        '"balanced" chooses them so that no site waits at the end of a round.',
        "method.sync_every",
    )
    step_time: f.StepTime | None = key(
        "Time of one inner step without its optimizer, at speed 1.",
        "the preset's, or measured, or from accelerators",
    )
    n_grad_accumulation: f.AtLeastOne | None = key("Micro-batches of one inner step.", "1")
    speed: f.Speed | None = key("Divides every time of computation: 0.5 takes twice as long.", "1")
    jitter: Annotated[JitterSection | None, BeforeValidator(f.jitter)] = key(
        "How much the time of one micro-batch varies, like lognormal:0.05; a table of the keys "
        "below, or the short form."
    )
    first_layer_backward: f.Share | None = key(
        "Time of the first layer's backward pass, as a part of another layer's; 50 % leaves out "
        "the gradient with respect to its input.",
        "1",
    )


class SiteSection(_OnAMachine):
    """[[site]]: workers joined by fast links, and what one of them runs on."""

    background_slowdown: f.Slowdown | None = key(
        "Factor by which both computations are slower while a spawned program computes next to "
        "the main one.",
        "1",
    )
    communication_slowdown: f.Slowdown | None = key(
        "Factor by which computation is slower while a collective of this worker is on the wire.",
        "1",
    )
    communication_byte_time: f.OperationTime | None = key(
        "CPU seconds stolen from computation per byte sent: at rate r, computation is 1 + r times"
        " this slower.",
        "0 s",
    )
    transmission_slowdown: f.Slowdown | None = key(
        "Factor by which computation is slower while the worker sends at the full rate of its "
        "slowest path; in proportion below.",
        "1",
    )
    cold_start_time: f.OperationTime | None = key(
        "Additional time of the first operation after a pause.", "0 s"
    )
    memory: f.MemorySize | None = key(
        "Memory of one accelerator.", "from a table of known accelerators"
    )
    sharding: f.Sharding | None = key(
        "What a worker's accelerators share out among them: optimizer state (zero1), gradients as "
        "well (zero2), weights as well (zero3).",
        "the least that fits; none where memory is not known",
    )
    uplink: f.Rate | None = key("Rate of all that leaves the site together.", "network.bandwidth")
    downlink: f.Rate | None = key("Rate of all that enters the site together.", "network.bandwidth")
    profile: f.ProfilePieces | None = key(
        "How the site's uplink and downlink vary over time, written like network.profile.",
        "network.profile",
    )
    profile_period: f.ProfilePeriod | None = key(
        "Time after which site.profile begins again.", "none, its last piece lasts"
    )
    background: f.Background | None = key(
        "Share of the site's uplink and downlink that others use, at all times.",
        "network.background",
    )
    price: f.Price | None = key(
        'Price of one accelerator for an hour of wall-clock, waiting included, like "2.50 USD/h".',
        "none, nothing is priced",
    )
    egress_price: f.EgressPrice | None = key(
        'Price of 10^12 bytes that leave the site, like "90 USD/TB".', "0 where price is given"
    )
    power: f.Power | None = key(
        "Electric power of one accelerator, its share of the machine included, while it computes.",
        "none, no energy is counted",
    )
    idle_power: f.Power | None = key(
        "Electric power of one accelerator while it does not compute.", "that of power"
    )
    pue: f.Pue | None = key(
        "Power usage effectiveness: power of the whole building over that of its computers.", "1"
    )


class WithinSection(Section):
    """[network.within]: between the workers of one site."""

    bandwidth: f.Rate | None = key(
        "Rate at which each worker sends, and receives, inside its site.", "400 Gbit/s"
    )
    rtt: f.Delay | None = key("Round-trip time between two workers of one site.", "20 us")
    latency: f.Delay | None = key(
        "One-way time between two workers of one site, instead of rtt.", "half of rtt"
    )


class CollectiveSection(Section):
    """[network.collective]: how collectives are carried out."""

    algorithm: f.Algorithm | None = key(
        "How collectives are carried out: a formula of rounds, or gloo's own messages. "
        '"requantized_ring" is a ring for int8 and fp4 as well, which others exchange directly. '
        '"nccl" takes the fastest of NCCL\'s ring and trees by its own cost model; a site is a '
        "node.",
        "hierarchical where sites have several workers, else ring; a "
        "backend's own where one was measured or recorded",
    )
    order: f.RingOrder | None = key(
        'Order of the sites in a ring: "given", "best" (the shortest ring over these links), or '
        "their names.",
        "given",
    )
    concurrent: f.AtLeastOne | None = key(
        "Collectives of one group that may be on the wire at once.", "1"
    )
    quantize_block: f.Whole | None = key(
        "Values that share one 16-bit scale in int8 and fp4 collectives.", "256"
    )
    message_time: f.OperationTime | None = key(
        "Mean wake-up latency: from a message's arrival to what follows from it. Only with gloo.",
        "0 s",
    )
    byte_time: f.OperationTime | None = key(
        "Time per received byte that is summed or copied. Only with gloo.", "0 s"
    )
    call_time: f.OperationTime | None = key("Time per call of a collective. Only with gloo.", "0 s")
    element_time: f.OperationTime | None = key(
        "Time per element of a collective's buffer, to convert it and to put it in place. Only "
        "with gloo.",
        "0 s",
    )
    quantized_element_time: f.OperationTime | None = key(
        "Time per element of an int8 or fp4 collective, sums included. Only with gloo.", "0 s"
    )
    window: f.Size | None = key("Another spelling of network.window.", "that of network.window")


class NetworkSection(Section):
    """[network]: between sites, and inside them."""

    bandwidth: f.Rates | None = key(
        "Network goodput, in each direction: one number, or a matrix with a row per sending site.",
        "1 Gbit/s",
    )
    per: f.Per | None = key(
        'What one number for bandwidth is: "site", the uplink and downlink of every site that has'
        ' none of its own; "pair", a link of its own for every pair of sites. A matrix is per '
        "pair.",
        "site",
    )
    rtt: f.Delays | None = key(
        "Round-trip time between sites, as ping prints it: one number, or a matrix.", "30 ms"
    )
    latency: f.Delays | None = key(
        "One-way time between sites, instead of rtt: one number, or a matrix.", "half of rtt"
    )
    order: f.Names | None = key(
        "Names of the sites in the order of the matrices' rows.", "as listed"
    )
    goodput: f.Share | None = key("Part of the given bandwidth that carries payload.", "100 %")
    profile: f.ProfilePieces | None = key(
        "How the links between sites vary over time: pieces of a begin, counted from the begin of "
        'the run, and a factor on the bandwidth, like [["0 h", 1.0], ["8 h", 0.4]], or a CSV file '
        "with the columns time_s and factor. A link with factor 0 is down.",
        "none, links do not vary",
    )
    profile_period: f.ProfilePeriod | None = key(
        "Time after which network.profile begins again.", "none, its last piece lasts"
    )
    background: f.Background | None = key(
        "Share of every link between sites that others use, at all times.", "0"
    )
    link_profiles: f.OwnLinks | None = key(
        "Profile, profile_period and background of single links, by name: of the link from one "
        'site to another, like "paris-osaka", or of "osaka.uplink" or "osaka.downlink".',
        "those of the site, or of the network",
    )
    window: f.Size | None = key(
        "TCP window: bytes that one connection has in flight at most. It then carries at most "
        "window / rtt.",
        "unlimited",
    )
    streams: f.AtLeastOne | None = key(
        "Connections from one worker to another at another site. Only 1 with gloo.", "1"
    )
    stream_rate: f.Rate | None = key("Rate of each connection at most.", "unlimited")
    loss: f.Loss | None = key(
        "Share of packets lost, at most 10 %, which limits each connection by the formula of "
        "Mathis et al. 1997.",
        "0",
    )
    mss: f.Size | None = key("TCP's maximum segment size; it matters only with loss.", "1460 B")
    first_collective_time: f.Delay | None = key(
        "Additional time of each group's first collective, for connections to be made.", "0 s"
    )
    within: WithinSection = WithinSection()
    collective: CollectiveSection = CollectiveSection()


class MemorySection(Section):
    """[memory]: how bytes are counted; no time depends on it."""

    convention: f.MemoryConvention | None = key(
        'Bytes per parameter: "mixed", weights, gradients and outer state in model.param_dtype, '
        "fp32 moments, and an fp32 master where that type has 16 bits; "
        '"streaming_diloco", fp32 weights, moments and outer state, gradients not counted; '
        '"realrun", as realrun holds it.',
        "mixed",
    )
    weight_bytes: f.BytesEach | None = key("Of the weights, per parameter.", "the convention's")
    gradient_bytes: f.BytesEach | None = key("Of the gradients, per parameter.", "the convention's")
    optimizer_bytes: f.BytesEach | None = key(
        "Of the inner optimizer's state, per parameter: moments, and a master copy if there is "
        "one.",
        "the convention's",
    )
    outer_parameter_bytes: f.BytesEach | None = key(
        "Of the outer parameters, per parameter.", "the convention's"
    )
    outer_momentum_bytes: f.BytesEach | None = key(
        "Of the outer optimizer's momentum, per parameter.", "the convention's"
    )
    outer_gradient_bytes: f.BytesEach | None = key(
        "Of an outer gradient in flight, per parameter.", "the convention's"
    )
    layer_activation_bytes: f.BytesEach | None = key(
        "Of a layer's activations, per token and unit of residual_width, the attention matrices "
        "apart.",
        "34 B; 57 B with the convention realrun",
    )
    activations: f.Activations | None = key(
        'What of the activations is kept for the backward pass: "stored", all; "selective", all '
        'but the attention matrices, as FlashAttention does; "recomputed", the inputs of layers; '
        '"none" leaves them out of the count.',
        "selective",
    )
    micro_batch_tokens: f.BatchTokens | None = key(
        "Tokens of a micro-batch on one accelerator, for activations.",
        "from site.n_grad_accumulation where that is given, else one sequence at most",
    )
    sequence_tokens: f.Width | None = key(
        "Tokens of one sequence, for activations.", "model.context, or 2048"
    )
    residual_width: f.Width | None = key(
        "Width of the residual stream, for activations.",
        "model.hidden, or sqrt(parameters / (12 layers))",
    )
    attention_heads: f.Width | None = key(
        'Attention heads, for activations that are "stored".',
        "model.heads, or residual_width / 128",
    )


class TrainSection(Section):
    """[train]: for realrun; checked here so that a slip shows before machines are rented."""

    learning_rate: f.Positive | None = key(
        "Learning rate of the inner optimizer, AdamW, after warm-up.", "0.0004"
    )
    batch: f.AtLeastOne | None = key(
        "Sequences per inner step: another way to say site.batch_tokens / model.context, checked "
        "against it.",
        "from site.batch_tokens",
    )
    clip_norm: f.Positive | None = key(
        "Largest global norm of the gradient; larger ones are scaled to it.", "no clipping"
    )
    warmup_steps: f.Whole | None = key(
        "Inner steps over which the learning rate rises linearly.", "0"
    )
    schedule: f.Schedule | None = key(
        '"cosine": the learning rate falls to a tenth at the horizon. "constant": it stays.',
        "constant",
    )
    weight_decay: f.NotNegative | None = key("Weight decay of AdamW.", "0.1")
    seed: f.Whole | None = key("Seed of the parameters and of the order of the data.", "0")
    average_by: f.AverageBy | None = key(
        'What counts in a mean over workers: "workers", each once; "tokens", each by the tokens '
        "of its round.",
        "workers",
    )
    outer_state: f.OuterState | None = key(
        'Where outer parameters and their momentum are kept: on the "device" that trains, or in '
        'the memory of the "host".',
        "device",
    )
    compute_mode: f.ComputeMode | None = key(
        '"real": the model is trained. "paced": computation is sleep of the scenario\'s times, and '
        "collectives of the right size are real.",
        "real",
    )
    emulate_speeds: bool | None = key(
        "Whether workers are slowed down to the speed of their site by sleeping.", "false"
    )
    not_finite: f.NotFinite | None = key(
        'What a loss that is not finite does: "stop" ends the run, "warn" reports it and '
        "continues.",
        "stop",
    )


class DataSection(BaseModel):
    """[data]: for realrun, which knows the further keys of each kind."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    kind: f.Text | None = key(
        "Where text comes from: stdlib, text, tokens, huggingface or synthetic.", "stdlib"
    )
    path: f.Text | None = key(
        "File, folder or name of the dataset; a relative path begins at the scenario's folder.",
        "needed by text, tokens and huggingface",
    )


class ScenarioFile(Section):
    """A whole file, without [study]."""

    name: f.Name | None = key("Name of the scenario, in tables and results.", "that of the file")
    hardware: f.Name | None = key(
        "Hardware file, as realrun calibrate writes it. A key that is given takes precedence over "
        "the file."
    )
    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    method: MethodSection = MethodSection()
    site: list[SiteSection] = Field(default_factory=list)
    network: NetworkSection = NetworkSection()
    memory: MemorySection = MemorySection()
    train: TrainSection = TrainSection()
    data: DataSection = DataSection()


SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): ScenarioFile,
    ("run",): RunSection,
    ("model",): ModelSection,
    ("method",): MethodSection,
    ("site",): SiteSection,
    ("site", "jitter"): JitterSection,
    ("site", "inside"): InsideSection,
    ("network",): NetworkSection,
    ("network", "within"): WithinSection,
    ("network", "collective"): CollectiveSection,
    ("memory",): MemorySection,
    ("train",): TrainSection,
    ("data",): DataSection,
}

# Tables that are merged key by key when one level is laid over another. Any other table
# (jitter, a matrix) is one value and is replaced as a whole; inside is one value in a file, and its
# keys are laid over one by one.
OF_A_SITE = (("site", "jitter"), ("site", "inside"))
MERGED = tuple(path for path in SECTIONS if path not in OF_A_SITE)

Spellings = tuple[frozenset[str], ...]

# Within a section, the spellings of one quantity; the keys of one spelling go together.
SPELLINGS: dict[tuple[str, ...], Spellings] = {
    ("run",): (frozenset(["tokens"]), frozenset(["steps"]), frozenset(["rounds"])),
    ("model",): (
        frozenset(["name"]),
        frozenset(["parameters"]),
        frozenset(["layer_parameters", "layer_tensors"]),
        frozenset(["kind", "size", "hidden", "heads", "feed_forward"]),
    ),
    ("method",): (frozenset(["num_fragments"]), frozenset(["layers_per_fragment"])),
    ("site",): (
        frozenset(["step_time"]),
        frozenset(["accelerators", "peak", "mfu", "compute_efficiency"]),
    ),
    ("network",): (frozenset(["rtt"]), frozenset(["latency"])),
    ("network", "within"): (frozenset(["rtt"]), frozenset(["latency"])),
}

# A key that has moved to another section, and where: two spellings as well, of which results
# and messages show the second.
MOVED = {("network", "collective", "window"): ("network", "window")}

# What the size of a decoder stands for; vocabulary and context may be given with it.
DIMENSIONS = frozenset(["hidden", "layers", "heads", "feed_forward"])

# Keys that describe what another key names, and go with it when that one is replaced.
BELONGS_TO_MODEL = frozenset(
    [
        "layers",
        "frozen_parameters",
        "active_parameters",
        "module",
        "loss",
        "vocabulary",
        "context",
    ]
)


def known_keys() -> list[str]:
    """Return the path of every key of a scenario file, in the order of the sections."""
    return [
        ".".join((*path, name))
        for path, model in SECTIONS.items()
        for name in model.model_fields
        if (*path, name) not in MOVED
    ]


def usable_name(name: str) -> bool:
    """Whether a site may be called so: --set must be able to address it."""
    return (
        name not in SiteSection.model_fields
        and not name.isdigit()
        and name.isprintable()
        and not set(name) & set("\".'[],=")
        and len(name) <= 40
    )
