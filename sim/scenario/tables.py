"""Checking a table that is read as a whole: [study], and hardware files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from sim.scenario.described import key
from sim.scenario.errors import Origin, ScenarioError, listed, nearest, problem
from sim.scenario.fields import RefusedError

_M = TypeVar("_M", bound=BaseModel)


class Record(BaseModel):
    """A table with known keys only, and nothing converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def with_keys(meanings: Mapping[str, str], kind: Any) -> Callable[[type[_M]], type[_M]]:
    """Give a table more keys after its own, each optional, of one kind and 0 by default."""
    keys: dict[str, Any] = {
        name: (kind | None, key(meaning, "0 s")) for name, meaning in meanings.items()
    }

    def extended(table: type[_M]) -> type[_M]:
        return create_model(table.__name__, __base__=table, __module__=table.__module__, **keys)

    return extended


_TYPES = {
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be a list",
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false",
}


def checked(model: type[_M], data: Mapping[str, Any], origin: Origin, name: str = "") -> _M:
    """Return a table as a record.

    Parameters
    ----------
    model, data
        What is allowed, and what was written.
    origin, name
        Where it was written, and the table's own name for messages.

    Raises
    ------
    ScenarioError
        About the first thing wrong, unknown keys before anything else.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        found = error.errors(include_url=False)
    found.sort(key=lambda item: item["type"] != "extra_forbidden")
    item: Any = found[0]
    # Aliases stand in the file, field names in an unknown key's neighbours: both are keys here.
    key = name + "".join(
        f"[{step}]" if isinstance(step, int) else f".{_quoted(step)}" for step in item["loc"]
    )
    raise _message(model, origin, key.removeprefix("."), item) from None


def _quoted(step: str) -> str:
    return step if step.replace("-", "_").isidentifier() else f'"{step}"'


def _message(
    model: type[BaseModel], origin: Origin, key: str, item: Mapping[str, Any]
) -> ScenarioError:
    if item["type"] == "extra_forbidden":
        *above, word = item["loc"]
        owner = _model_at(model, above)
        known = [field.alias or name for name, field in owner.model_fields.items()]
        match = nearest(str(word), known)
        prefix = key.removesuffix(_quoted(str(word)))
        hint = f"did you mean {prefix}{match}?" if match else f"the keys are {listed(known, 'and')}"
        return problem(origin, key, f"unknown key; {hint}")
    if item["type"] == "missing":
        return problem(origin, key, "missing")
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, RefusedError) and cause.at:
        shown = () if cause.value is None else (cause.value,)
        return problem(origin, key + cause.at, str(cause), *shown)
    text = str(cause) if cause else _TYPES.get(item["type"], item["msg"])
    return problem(origin, key, text, item["input"])


def _model_at(model: type[BaseModel], path: list[Any]) -> type[BaseModel]:
    """Return the record class in whose table a key stands."""
    here: Any = model
    for step in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = here.model_fields
            here = next(f.annotation for n, f in fields.items() if step in (n, f.alias))
        else:
            here = get_args(here)[-1]
        while get_origin(here) in (Union, UnionType):
            here = next(part for part in get_args(here) if part is not type(None))
    return here if isinstance(here, type) and issubclass(here, BaseModel) else model
