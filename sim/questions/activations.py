"""What the activations of a decoder take in memory: an estimate from its dimensions."""

from __future__ import annotations


def activation_bytes(
    kept: str,
    *,
    tokens: float,
    width: float,
    layers: int,
    sequence: float = 0,
    heads: float = 0,
    vocabulary: float = 0,
    per_width: float = 34.0,
) -> float:
    """Return the bytes that one micro-batch's activations take on one accelerator.

    Per layer, of n tokens (n = s b), width h, a heads and sequences of s tokens:

    - stored: n h (c + 5 a s / h), where c is 34
    - selective: c n h, the attention matrices recomputed
    - recomputed: 2 n h, and one layer at a time in full, as selective has it

    and 4 n (h + v) for the final norm, the output projection and the logits, with v the
    vocabulary.

    Parameters
    ----------
    kept
        stored, selective, recomputed or none, which is 0.
    tokens
        n, tokens of the micro-batch.
    width
        h, of the residual stream.
    layers
        Of the model.
    sequence, heads
        s and a; needed by stored.
    vocabulary
        v; 0 leaves the output out.
    per_width
        c.

    Notes
    -----
    Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
    arXiv:2205.05198, equations 1 and 6 with tensor parallelism t = 1, and section 4.3: a GPT with
    16-bit activations, a feed-forward width of 4 h and dropout. SwiGLU, other norms and kernels
    that fuse less have another c: it is an estimate.

    Examples
    --------
    >>> dimensions = dict(tokens=2048, width=12288, layers=96, sequence=2048, heads=96)
    >>> [activation_bytes(kept, **dimensions) / 2**30 for kept in ("stored", "selective")]
    [256.5, 76.5]
    """
    if kept == "none":
        return 0.0
    one = per_width * tokens * width
    output = 4 * tokens * (width + vocabulary) if vocabulary else 0.0
    if kept == "recomputed":
        return 2 * tokens * width * layers + one + output
    attention = 5 * heads * sequence * tokens if kept == "stored" else 0.0
    return layers * (one + attention) + output
