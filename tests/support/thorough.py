"""How much the suite tries: a share of what `make thorough` does, which tries all."""

from __future__ import annotations

import os
from math import ceil

import pytest

THOROUGH = bool(os.environ.get("BANDWISE_THOROUGH"))
SHARE = 0.3

only_thorough = pytest.mark.skipif(
    not THOROUGH, reason="the like of it is tried in the suite: run `make thorough`"
)


def examples(count: int) -> int:
    """How many drawn examples a claim is tried on; `make thorough` takes the count given here."""
    return count if THOROUGH else ceil(SHARE * count)
