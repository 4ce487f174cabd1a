"""A decoder-only transformer to train, as a sequence of stages, one per layer.

Pre-norm RMSNorm, rotary positions, causal attention, SwiGLU, tied embeddings, no biases. It has
exactly the parameters that the simulator counts for ``[model] kind = "gpt"``.

Shape suffixes: B sequences, T positions, D hidden width, H heads, E width of one head (D / H),
F feed-forward width, V vocabulary. ``x_BTD`` is the residual stream.
"""

# ruff: noqa: N803, N806 (shape suffixes are capitals)

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from realrun.model import stages
from realrun.model.stages import ModelError
from sim.records.scenario import ModelSize
from sim.scenario.errors import did_you_mean
from sim.scenario.models import DEFAULT_CONTEXT, decoder
from sim.scenario.presets import DECODERS, gpt_layers, swiglu_width
from sim.scenario.schema import ModelSection

ROTARY_BASE = 10_000.0
NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class GPTConfig:
    """Dimensions of a decoder, under the names that ``[model]`` has for them.

    ``feed_forward`` is F (None: 8/3 of ``hidden`` in steps of 64, as in the simulator),
    ``context`` the longest sequence, in tokens.
    """

    hidden: int
    layers: int
    heads: int
    vocabulary: int = 256
    feed_forward: int | None = None
    context: int = DEFAULT_CONTEXT

    def __post_init__(self) -> None:
        for key in ("hidden", "layers", "heads", "vocabulary", "context"):
            if getattr(self, key) < 1:
                raise ModelError(f"model.{key}: {getattr(self, key)}: must be at least 1")
        if self.hidden % self.heads:
            raise ModelError(
                f"model.heads: {self.heads}: must divide hidden = {self.hidden} without remainder"
            )
        if self.hidden // self.heads % 2:
            raise ModelError(
                f"model.heads: {self.heads}: makes heads of width {self.hidden // self.heads}; "
                "rotary positions need an even one"
            )

    @property
    def feed_forward_width(self) -> int:
        """F: the width between the two multiplications of the feed-forward part."""
        return swiglu_width(self.hidden) if self.feed_forward is None else self.feed_forward

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Parameters of each layer, as the simulator counts them."""
        return gpt_layers(
            hidden=self.hidden,
            layers=self.layers,
            vocabulary=self.vocabulary,
            feed_forward=self.feed_forward_width,
        )

    @classmethod
    def named(
        cls, name: str, *, vocabulary: int | None = None, context: int | None = None
    ) -> GPTConfig:
        """Return the dimensions of a size by name; another vocabulary changes its parameters.

        Examples
        --------
        >>> GPTConfig.named("5M").hidden, sum(GPTConfig.named("5M").layer_sizes)
        (256, 4885760)
        """
        if name not in SIZES:
            raise ModelError(
                f'model size "{name}" is unknown{did_you_mean(name, SIZES, "")}'
                f"; known are {', '.join(SIZES)}"
            )
        found = SIZES[name]
        return replace(
            found, vocabulary=vocabulary or found.vocabulary, context=context or found.context
        )

    @classmethod
    def from_section(cls, section: ModelSection) -> GPTConfig:
        """Return the dimensions that ``[model] kind = "gpt"`` gives.

        Raises
        ------
        ModelError
            If it describes no decoder, or a dimension is missing.
        """
        section = decoder(section)
        if section.kind != "gpt":
            raise ModelError(
                'model: only sizes are given; to be trained it needs kind = "gpt" and its '
                "dimensions (hidden, layers, heads, vocabulary)"
            )
        hidden, layers = section.hidden, section.layers
        heads, vocabulary = section.heads, section.vocabulary
        if hidden is None or layers is None or heads is None or vocabulary is None:
            raise ModelError('model: kind = "gpt" needs hidden, layers, heads and vocabulary')
        return cls(
            hidden,
            layers,
            heads,
            vocabulary,
            section.feed_forward,
            DEFAULT_CONTEXT if section.context is None else section.context,
        )


SIZES: dict[str, GPTConfig] = {
    name: GPTConfig(**asdict(decoder)) for name, decoder in DECODERS.items()
}
"""Decoders by their size, as ``[model]`` names them."""


class Attention(nn.Module):
    """Causal self-attention with rotary positions.

    The matrices of query, key and value are rows of one parameter: one multiplication.
    """

    def __init__(self, config: GPTConfig, device: torch.device | None) -> None:
        super().__init__()
        width = config.hidden
        self.heads = config.heads
        self.query_key_value = nn.Parameter(torch.empty(3 * width, width, device=device))
        self.out = nn.Parameter(torch.empty(width, width, device=device))
        cos_TE, sin_TE = rotary(config.context, width // config.heads, device)
        # Constants: not in a checkpoint.
        self.register_buffer("cos_TE", cos_TE, persistent=False)
        self.register_buffer("sin_TE", sin_TE, persistent=False)
        self.cos_TE: Tensor
        self.sin_TE: Tensor

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return what every position reads from itself and those before it."""
        B, T, D = x_BTD.shape
        if len(self.cos_TE) < T:
            raise ModelError(f"a sequence of {T} tokens; model.context is {len(self.cos_TE)}")
        q_BHTE, k_BHTE, v_BHTE = (
            functional.linear(x_BTD, self.query_key_value)
            .view(B, T, 3, self.heads, D // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        cos_TE, sin_TE = self.cos_TE[:T], self.sin_TE[:T]
        y_BHTE = functional.scaled_dot_product_attention(
            rotate(q_BHTE, cos_TE, sin_TE), rotate(k_BHTE, cos_TE, sin_TE), v_BHTE, is_causal=True
        )
        return functional.linear(y_BHTE.transpose(1, 2).reshape(B, T, D), self.out)


class FeedForward(nn.Module):
    """SwiGLU: out(silu(gate x) * up x). Gate and up are rows of one parameter."""

    def __init__(self, config: GPTConfig, device: torch.device | None) -> None:
        super().__init__()
        width, inner = config.hidden, config.feed_forward_width
        self.gate_up = nn.Parameter(torch.empty(2 * inner, width, device=device))
        self.out = nn.Parameter(torch.empty(width, inner, device=device))

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the feed-forward part's output, position by position."""
        gate_BTF, up_BTF = functional.linear(x_BTD, self.gate_up).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate_BTF) * up_BTF, self.out)


class Layer(nn.Module):
    """One stage. The first layer embeds the tokens, the last one norms and gives logits.

    Parameters
    ----------
    config
        Dimensions.
    embedding
        (V, D), for the first and the last layer: the same parameter in both.
    first, last
        Whether it is. With one layer it is both.
    """

    def __init__(
        self,
        config: GPTConfig,
        device: torch.device | None = None,
        *,
        embedding: nn.Parameter | None = None,
        first: bool = False,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.first = first
        self.embedding = embedding
        self.attention_norm = nn.RMSNorm(config.hidden, NORM_EPSILON, device=device)
        self.attention = Attention(config, device)
        self.feed_forward_norm = nn.RMSNorm(config.hidden, NORM_EPSILON, device=device)
        self.feed_forward = FeedForward(config, device)
        self.final_norm = nn.RMSNorm(config.hidden, NORM_EPSILON, device=device) if last else None

    def forward(self, x: Tensor) -> Tensor:
        """Take tokens_BT in the first layer, else x_BTD; give logits_BTV in the last."""
        x_BTD = x
        if self.first:
            assert self.embedding is not None
            x_BTD = functional.embedding(x, self.embedding)
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
        y_BTD: Tensor = x_BTD + self.feed_forward(self.feed_forward_norm(x_BTD))
        if self.final_norm is None:
            return y_BTD
        assert self.embedding is not None
        return functional.linear(self.final_norm(y_BTD), self.embedding)


class GPT(nn.Module):
    """The whole decoder: tokens_BT to logits_BTV.

    Parameters
    ----------
    config
        Dimensions.
    seed
        Of the initial parameters, which are the same wherever they are made.
    device
        Where the parameters live; "meta" allocates nothing.

    Examples
    --------
    >>> model = GPT(GPTConfig(hidden=16, layers=2, heads=2, context=8))
    >>> model(torch.zeros(1, 8, dtype=torch.long)).shape
    torch.Size([1, 8, 256])
    >>> [sum(p.numel() for p in layer) for layer in model.layer_parameters()]
    [8224, 4144]
    """

    def __init__(
        self, config: GPTConfig, *, seed: int = 0, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.config = config
        place = None if device is None else torch.device(device)
        embedding = nn.Parameter(torch.empty(config.vocabulary, config.hidden, device=place))
        last = config.layers - 1
        self.layers = nn.ModuleList(
            Layer(
                config,
                place,
                embedding=embedding if number in (0, last) else None,
                first=number == 0,
                last=number == last,
            )
            for number in range(config.layers)
        )
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Normal, sqrt(2 / 5D); what adds to the residual stream divided by sqrt(2 L).

        That is 0.02 at the width of 1000 and more where the model is narrow (Nguyen & Salazar
        2019, arXiv:1910.05895; the division is GPT-2's). Drawn with numpy, whose numbers are
        the same on every kind of processor and leave torch's own random state alone.
        """
        random = np.random.default_rng(seed)
        usual = sqrt(2 / (5 * self.config.hidden))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.is_meta or parameter.dim() < 2:
                    continue  # norms begin with ones
                adds = name.endswith(".out")
                spread = usual / sqrt(2 * self.config.layers) if adds else usual
                drawn = random.standard_normal(tuple(parameter.shape), dtype=np.float32)
                parameter.copy_(torch.from_numpy(drawn * np.float32(spread)))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits_BTV."""
        x = tokens_BT
        for layer in self.layers:
            x = layer(x)
        return x

    def stages(self) -> list[nn.Module]:
        """Return the layers; each takes what the one before gives."""
        return list(self.layers)

    def layer_parameters(self) -> list[list[nn.Parameter]]:
        """Return each layer's parameters; the tied embedding is the first layer's."""
        return stages.layer_parameters(self.stages())

    def check_against(self, size: ModelSize) -> None:
        """Check that the simulator counts the same parameters; see ``stages.check_against``."""
        stages.check_against(self.layer_parameters(), size)


def loss(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats per token, computed in fp32.

    Examples
    --------
    >>> round(loss(torch.zeros(1, 2, 256), torch.tensor([[3, 5]])).item(), 4)  # ln 256
    5.5452
    """
    return functional.cross_entropy(logits_BTV.float().flatten(0, -2), targets_BT.flatten())


def rotary(context: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of every position's angles, each (context, width / 2).

    References
    ----------
    Su et al. 2021, arXiv:2104.09864: pair i of a head turns by position / 10000^(2i / width).
    """
    frequencies = ROTARY_BASE ** -(
        torch.arange(0, width, 2, device=device, dtype=torch.float32) / width
    )
    angles = torch.outer(torch.arange(context, device=device, dtype=torch.float32), frequencies)
    return angles.cos(), angles.sin()


def rotate(x_BHTE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Turn value i of each head together with value i + E / 2, by its position's angle."""
    left, right = x_BHTE.chunk(2, dim=-1)
    turned = torch.cat([left * cos_TE - right * sin_TE, right * cos_TE + left * sin_TE], dim=-1)
    return turned.to(x_BHTE.dtype)
