"""Operations that training takes, by parameters."""

from __future__ import annotations


def flops_per_token(
    parameters: float, frozen_parameters: float = 0, active_parameters: float | None = None
) -> float:
    """Return the floating-point operations that one token takes in training.

    6 N_trained + 4 N_frozen, of the parameters that the token computes with

    Parameters
    ----------
    parameters, frozen_parameters
        Trained, and computed with but not trained.
    active_parameters
        How many of both one token computes with, the trained ones first; by default all.

    Notes
    -----
    A multiplication and an addition per parameter and token are 2 operations: forward 2, the
    gradient with respect to activations 2, with respect to weights 2 (Chowdhery et al. 2022,
    PaLM, arXiv:2204.02311, appendix B; Kaplan et al. 2020, arXiv:2001.08361). Frozen weights
    need no gradient, but gradients pass through them to what is trained before them. Attention
    over the context is left out.

    Examples
    --------
    >>> flops_per_token(10e9), flops_per_token(20e6, 7e9), flops_per_token(10e9, 0, 1e9)
    (60000000000.0, 28120000000.0, 6000000000.0)
    """
    active = parameters + frozen_parameters if active_parameters is None else active_parameters
    trained = min(parameters, active)
    return 6 * trained + 4 * (active - trained)
