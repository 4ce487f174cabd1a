"""What a key means, next to its type: the sentence and the default that the reference shows."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def key(meaning: str, default: str = "none", *, value: Any = None) -> Any:
    """Return the field of a key that may be left out.

    Parameters
    ----------
    meaning
        One or two sentences: what the key says.
    default
        What holds where nobody gives the key, in the words of the printed assumptions.
    value
        What the section then holds; ``...`` for a key that must be given.
    """
    return Field(value, description=meaning, json_schema_extra={"default": default})
