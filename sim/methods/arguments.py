"""Types of the methods' arguments, with their bounds: the signature is the declaration."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

SyncEvery = Annotated[int, Ge(1)]
Count = Annotated[int, Ge(1)]
Delay = Annotated[int, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
Rate = Annotated[float, Gt(0)]
Momentum = Annotated[float, Ge(0), Le(1)]
CommDtype = Literal["fp32", "bf16", "fp16", "int8", "fp4"]
Pattern = Literal["strided", "sequential"]
Spacing = Literal["exact", "nearest"]
