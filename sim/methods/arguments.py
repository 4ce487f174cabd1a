"""Types of the methods' arguments, with their bounds: the signature is the declaration.

``X | tuple[X, ...]`` is one number, or one per worker.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from annotated_types import Ge, Gt, Le, Predicate

from sim.program import DTYPE_BITS, ArgumentError, bytes_per_element


def is_bytes_per_element(text: str) -> bool:
    """Whether this says how many bytes an element takes, like "0.125B"."""
    try:
        return text not in DTYPE_BITS and bytes_per_element(text) > 0
    except ValueError:
        return False


SyncEvery = Annotated[int, Ge(1)]
Count = Annotated[int, Ge(1)]
Delay = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Share = Annotated[float, Gt(0), Le(1)]
Seed = Annotated[int, Ge(0)]
Seconds = Annotated[float, Ge(0)]
Rate = Annotated[float, Gt(0)]
Momentum = Annotated[float, Ge(0), Le(1)]
CommDtype = (
    Literal["fp32", "bf16", "fp16", "int8", "fp4"] | Annotated[str, Predicate(is_bytes_per_element)]
)
Exchanged = Literal["whole", "bucket", "tensor"]
Looks = Literal["micro_batch", "inner_step"]
Pattern = Literal["strided", "sequential"]
Spacing = Literal["exact", "nearest"]

T = TypeVar("T", int, float)


def of_worker(rank: int, name: str, value: T | tuple[T, ...]) -> T:
    """Return a worker's entry of an argument that is one number, or one per worker.

    Raises
    ------
    ArgumentError
        If there is no entry for this worker.

    Examples
    --------
    >>> of_worker(1, "sync_every", 100), of_worker(1, "sync_every", (50, 20))
    (100, 20)
    """
    if not isinstance(value, tuple):
        return value
    if rank >= len(value):
        raise ArgumentError(
            f"{name} has {len(value)} entries, but there is a worker {rank}; "
            "give one number, or one per worker"
        )
    return value[rank]
