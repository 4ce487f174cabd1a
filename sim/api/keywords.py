"""What ``make_scenario`` and ``load`` take: for type checkers, editors and ``help``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

Text = str | None
Number = float | str | None
Whole = int | str | None
Section = Mapping[str, Any] | None
F = TypeVar("F", bound=Callable[..., Any])


class Keywords(TypedDict, total=False):
    """Keywords that describe a scenario; what is left out, or None, is assumed and listed.

    A number is in SI units, text has a unit. Names are those of ``bandwise simulate -h``.
    """

    #: Tokens to train on.
    tokens: Number
    #: Inner steps to train for, or "steady".
    steps: Whole
    #: Rounds of the method to train for.
    rounds: Whole
    #: Seed of everything random.
    seed: Whole
    #: Runs with other random numbers, of which the median counts.
    replications: Whole
    #: A preset ("1B", "10B", "100B"), a number of parameters, or the section [model].
    model: Number | Mapping[str, Any]
    #: Layers of the model.
    layers: Whole
    #: Parameters that one token uses.
    active_parameters: Number
    #: How many sites, or their names.
    sites: int | str | Sequence[str] | None
    #: Model replicas at each site.
    workers: Whole
    #: Seconds of one inner step.
    step_time: Number
    #: What one worker runs on, like "64 x H100".
    accelerators: Text
    #: Fraction of the peak that training reaches.
    mfu: Number
    #: Tokens per worker and inner step, or "balanced": so that no site waits.
    batch_tokens: Number
    #: Micro-batches per inner step.
    n_grad_accumulation: Whole
    #: Distribution of times and its cv, like "lognormal:0.05".
    jitter: str | Mapping[str, Any] | None
    #: File of measured times, written by ``realrun calibrate``.
    hardware: Text
    #: Bytes/s of every site's uplink and downlink that has none of its own.
    bandwidth: Number | Mapping[str, Any]
    #: Seconds of a round trip between sites.
    rtt: Number | Mapping[str, Any]
    #: Seconds of one way between sites; instead of ``rtt``.
    latency: Number | Mapping[str, Any]
    #: Algorithm of the collectives.
    algorithm: Text
    #: Bytes/s that all that leaves a site shares.
    uplink: Number
    #: Bytes/s that all that enters a site shares.
    downlink: Number
    #: A method's name, a generator function, "package.module:function", or the section [method].
    method: str | Callable[..., Any] | Mapping[str, Any] | None
    #: H, inner steps between outer steps: one number, or one per worker.
    sync_every: int | str | Sequence[int] | None
    #: P, parts that are sent in turn.
    num_fragments: Whole
    #: Layers of each part.
    layers_per_fragment: Whole
    #: tau, inner steps that a part may be in flight: one number, or one per worker.
    fragment_sync_delay: int | str | Sequence[int] | None
    #: How steps and communication overlap.
    overlap: Text
    #: Type in which (outer) gradients travel, or bytes per element.
    comm_dtype: Number
    #: Weight of the local parameters when a part arrives, from 0 to 1.
    fragment_update_alpha: Number
    #: "strided" or "sequential".
    fragment_pattern: Text
    #: "exact" or "nearest".
    fragment_spacing: Text
    #: Learning rate of the outer optimizer.
    outer_lr: Number
    #: Momentum of the outer optimizer.
    outer_momentum: Number
    #: Whether the outer optimizer uses Nesterov momentum.
    use_nesterov: bool | None
    #: Rounds after which an outer gradient is applied.
    outer_sync_delay: Whole
    #: Bytes of a bucket of gradients.
    bucket_bytes: Whole
    #: Whether the optimizer's state is sharded.
    zero1: bool | None
    #: What torch's ZeRO-1 sends or ours: "sharded", "torch" or "torch_views".
    zero1_exchange: Text
    #: Whether only the last micro-batch's gradients are reduced.
    no_sync: bool | None
    #: What one all-reduce of an outer step carries: "whole", "bucket" or "tensor".
    exchange: Text
    #: Round trips of control messages before an exchange.
    control_round_trips: Whole
    #: Seconds that they take in addition.
    control_time: Number
    #: How often acco, dpu and wp look: "micro_batch" or "inner_step".
    look_every: Text
    #: Fraction of the workers that train in a round.
    participation: Number
    #: Seed of which workers those are.
    participation_seed: Whole
    #: The scenario's name.
    name: Text
    #: The section [run].
    run: Section
    #: The section [[site]]: keys of all sites, and of one by its name: {"osaka": {"speed": 0.5}}.
    site: Section
    #: The section [network].
    network: Section
    #: The section [memory]; of one accelerator's memory site={"memory": "80 GB"}.
    memory: Section
    #: The section [train].
    train: Section
    #: The section [data].
    data: Section
    #: Full key -> value, like {"network.within.rtt": "20 us"}; takes precedence over all others.
    settings: Section


def with_keywords(function: F) -> F:
    """Give a function's signature one parameter per keyword, so that ``help`` shows them."""
    own = inspect.signature(function)
    hints = get_type_hints(Keywords)
    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [p for p in own.parameters.values() if p.kind != inspect.Parameter.VAR_KEYWORD]
    parameters += [
        inspect.Parameter(name, kind, default=None, annotation=hint) for name, hint in hints.items()
    ]
    function.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function
