"""The sections of a scenario file: which keys there are, and what each may hold.

One class per section. A validated section holds SI numbers; ``None`` means that no one gave
the key. What is filled in then is :mod:`sim.scenario.resolve`'s business.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sim.operations import timed
from sim.scenario import fields as f
from sim.scenario.tables import with_keys


class Section(BaseModel):
    """What all sections share: no unknown keys, nothing converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RunSection(Section):
    """[run]: when to stop, and which part of the run the figures are taken from."""

    tokens: f.Tokens | None = None
    steps: f.Steps | None = None
    rounds: f.AtLeastOne | None = None
    seed: f.Whole | None = None
    skip_rounds: f.Whole | None = None
    measured_rounds: f.AtLeastOne | None = None
    replications: f.Replications | None = None


class ModelSection(Section):
    """[model]: a preset, a size, a decoder with its dimensions, or a module of the user's."""

    name: f.Name | None = None
    parameters: f.Parameters | None = None
    layer_parameters: f.LayerParameters | None = None
    kind: f.ModelKind | None = None
    size: f.Text | None = None
    module: f.FunctionName | None = None
    loss: f.FunctionName | None = None
    layers: f.Layers | None = None
    frozen_parameters: f.Parameters | None = None
    active_parameters: f.Parameters | None = None
    param_dtype: f.ParamDtype | None = None
    hidden: f.Width | None = None
    heads: f.Width | None = None
    vocabulary: f.Width | None = None
    feed_forward: f.Width | None = None
    context: f.Width | None = None


class MethodSection(BaseModel):
    """[method]: a name; the other keys are checked against the function's signature."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: f.Name | None = None


class JitterSection(Section):
    """jitter = { ... }: how much the time of one micro-batch varies."""

    distribution: f.Distribution
    cv: f.Variation | None = None
    file: f.Text | None = None


@with_keys((row.key for row in timed()), f.OperationTime)
class _OnAMachine(Section):
    """How many workers a site has, and how long operations take on one of them."""

    name: f.Name | None = None
    count: f.Workers | None = None
    workers: f.Workers | None = None
    machine: f.Name | None = None
    accelerators: f.Accelerators | None = None
    peak: f.Flops | None = None
    mfu: f.Share | None = None
    batch_tokens: f.BatchTokens | None = None
    step_time: f.StepTime | None = None
    n_grad_accumulation: f.AtLeastOne | None = None
    speed: f.Speed | None = None
    jitter: Annotated[JitterSection | None, BeforeValidator(f.jitter)] = None
    first_layer_backward: f.Share | None = None


class SiteSection(_OnAMachine):
    """[[site]]: workers joined by fast links, and what one of them runs on."""

    background_slowdown: f.Slowdown | None = None
    communication_slowdown: f.Slowdown | None = None
    communication_byte_time: f.OperationTime | None = None
    transmission_slowdown: f.Slowdown | None = None
    cold_start_time: f.OperationTime | None = None
    uplink: f.Rate | None = None
    downlink: f.Rate | None = None


class WithinSection(Section):
    """[network.within]: between the workers of one site."""

    bandwidth: f.Rate | None = None
    rtt: f.Delay | None = None
    latency: f.Delay | None = None


class CollectiveSection(Section):
    """[network.collective]: how collectives are carried out."""

    algorithm: f.Algorithm | None = None
    order: f.RingOrder | None = None
    concurrent: f.AtLeastOne | None = None
    quantize_block: f.Whole | None = None
    message_time: f.OperationTime | None = None
    byte_time: f.OperationTime | None = None
    call_time: f.OperationTime | None = None
    element_time: f.OperationTime | None = None
    quantized_element_time: f.OperationTime | None = None
    window: f.Size | None = None


class NetworkSection(Section):
    """[network]: between sites, and inside them."""

    bandwidth: f.Rates | None = None
    per: f.Per | None = None
    rtt: f.Delays | None = None
    latency: f.Delays | None = None
    order: f.Names | None = None
    goodput: f.Share | None = None
    window: f.Size | None = None
    streams: f.AtLeastOne | None = None
    stream_rate: f.Rate | None = None
    loss: f.Loss | None = None
    mss: f.Size | None = None
    first_collective_time: f.Delay | None = None
    within: WithinSection = WithinSection()
    collective: CollectiveSection = CollectiveSection()


class TrainSection(Section):
    """[train]: for realrun; checked here so that a slip shows before machines are rented."""

    learning_rate: f.Positive | None = None
    batch: f.AtLeastOne | None = None
    clip_norm: f.Positive | None = None
    warmup_steps: f.Whole | None = None
    schedule: f.Schedule | None = None
    weight_decay: f.NotNegative | None = None
    seed: f.Whole | None = None
    average_by: f.AverageBy | None = None
    outer_state: f.OuterState | None = None
    compute_mode: f.ComputeMode | None = None
    emulate_speeds: bool | None = None
    not_finite: f.NotFinite | None = None


class DataSection(BaseModel):
    """[data]: for realrun, which knows the further keys of each kind."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    kind: f.Text | None = None
    path: f.Text | None = None


class ScenarioFile(Section):
    """A whole file, without [study]."""

    name: f.Name | None = None
    hardware: f.Name | None = None
    run: RunSection = RunSection()
    model: ModelSection = ModelSection()
    method: MethodSection = MethodSection()
    site: list[SiteSection] = Field(default_factory=list)
    network: NetworkSection = NetworkSection()
    train: TrainSection = TrainSection()
    data: DataSection = DataSection()


SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): ScenarioFile,
    ("run",): RunSection,
    ("model",): ModelSection,
    ("method",): MethodSection,
    ("site",): SiteSection,
    ("site", "jitter"): JitterSection,
    ("network",): NetworkSection,
    ("network", "within"): WithinSection,
    ("network", "collective"): CollectiveSection,
    ("train",): TrainSection,
    ("data",): DataSection,
}

# Tables that are merged key by key when one level is laid over another. Any other table
# (jitter, a matrix) is one value and is replaced as a whole.
MERGED = tuple(path for path in SECTIONS if path != ("site", "jitter"))

Spellings = tuple[frozenset[str], ...]

# Within a section, the spellings of one quantity; the keys of one spelling go together.
SPELLINGS: dict[tuple[str, ...], Spellings] = {
    ("run",): (frozenset(["tokens"]), frozenset(["steps"]), frozenset(["rounds"])),
    ("model",): (
        frozenset(["name"]),
        frozenset(["parameters"]),
        frozenset(["layer_parameters"]),
        frozenset(["kind", "size", "hidden", "heads", "feed_forward"]),
    ),
    ("method",): (frozenset(["num_fragments"]), frozenset(["layers_per_fragment"])),
    ("site",): (frozenset(["step_time"]), frozenset(["accelerators", "peak", "mfu"])),
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
