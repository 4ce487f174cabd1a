"""Arguments of a method: its function's signature is the declaration."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, Predicate
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from sim import units
from sim.program import MOST_BYTES
from sim.recording.vocabulary import METHOD as RECORDING
from sim.scenario.errors import did_you_mean, listed

_REQUIRED = inspect.Parameter.empty


class MethodError(ValueError):
    """A method that cannot be used; the message says why."""


class ArgumentsError(ValueError):
    """An argument that the method does not take. ``key`` names it ("" for a missing one)."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class OfFunction(str):
    """The name of a method, with the function that was given in its place."""

    function: Callable[..., Any]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> OfFunction:
        """Return a function's name: of METHODS, or "package.module:function"."""
        from sim.methods import METHODS

        ours = (name for name, program in METHODS.items() if program is function)
        name = cls(next(ours, f"{function.__module__}:{function.__qualname__}"))
        name.function = function
        return name


@dataclass(frozen=True)
class Parameters:
    """What a method takes: for every name the annotation and the default."""

    annotations: Mapping[str, Any]
    defaults: Mapping[str, Any]
    model: type[BaseModel]


def find_method(name: str, folder: Path) -> Callable[..., Any]:
    """Return a method of METHODS, or the function that "package.module:function" names.

    A user's module is looked for in the scenario's folder, in the working directory and then
    wherever Python looks.
    """
    from sim.methods import METHODS

    if isinstance(name, OfFunction):
        return _generator(name.function)
    if name in METHODS:
        return METHODS[name]
    if name == RECORDING:
        from sim.recording.program import recording

        return recording
    if ":" not in name:
        raise MethodError(
            "unknown method"
            + did_you_mean(name, [*METHODS, RECORDING])
            + ' (or "package.module:function" for one of your own)'
        )
    module_name, _, attribute = name.partition(":")
    module = _import(module_name, folder)
    function: Any = module
    for part in attribute.split("."):
        if not hasattr(function, part):
            public = [
                key for key, item in vars(module).items() if inspect.isgeneratorfunction(item)
            ]
            near = did_you_mean(part, public, "") if public else ""
            raise MethodError(f'module {module_name} has no "{attribute}"{near}')
        function = getattr(function, part)
    return _generator(function)


def _generator(function: Any) -> Callable[..., Any]:
    if not callable(function):
        raise MethodError("is not a function")
    if not inspect.isgeneratorfunction(inspect.unwrap(function)):
        raise MethodError("is not a generator function: it must yield what it waits for")
    return typing.cast("Callable[..., Any]", function)


def _import(name: str, folder: Path) -> types.ModuleType:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise MethodError(f'"{name}" is not a module\'s name; write "package.module:function"')
    try:
        with _looking_in(folder.absolute(), Path.cwd()):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise MethodError(f"there is no module {error.name}") from None
        raise MethodError(f"module {name} needs {error.name}, which is not installed") from None
    except SyntaxError as error:
        raise MethodError(f"line {error.lineno} of {name} is not valid Python") from None
    except (Exception, SystemExit) as error:
        text = str(error).splitlines()
        raise MethodError(
            f"importing {name} failed: {type(error).__name__}: {text[0] if text else ''}"
        ) from None


@contextmanager
def _looking_in(*folders: Path) -> Iterator[None]:
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


@lru_cache(maxsize=256)
def parameters_of(function: Callable[..., Any]) -> Parameters:
    """Read a method's parameters from its signature; the first one is the worker."""
    signature = list(inspect.signature(function).parameters.values())
    kinds = inspect.Parameter
    if not signature or signature[0].kind not in (
        kinds.POSITIONAL_ONLY,
        kinds.POSITIONAL_OR_KEYWORD,
    ):
        raise MethodError("must take the worker as its first parameter")
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise MethodError(f"has an annotation that cannot be read: {error}") from None
    rest = [p for p in signature[1:] if p.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)]
    annotations = {p.name: hints.get(p.name, Any) for p in rest}
    defaults = {p.name: p.default for p in rest if p.default is not _REQUIRED}
    fields: dict[str, Any] = {
        f"a_{name}": (annotation, defaults.get(name, ...))
        for name, annotation in annotations.items()
    }
    # Prefixed, because pydantic reserves names like "model_...".
    model = create_model(
        "Arguments",
        __config__=ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False),
        **fields,
    )
    return Parameters(annotations, defaults, model)


def method_arguments() -> list[str]:
    """Return the names of all arguments that any method of METHODS takes."""
    from sim.methods import METHODS

    names = (name for method in METHODS.values() for name in parameters_of(method).annotations)
    return list(dict.fromkeys(names))


def who_takes(argument: str) -> str:
    """Say which methods of METHODS take an argument: "ddp and acco do"; "" if none does.

    Examples
    --------
    >>> who_takes("zero1"), who_takes("outer_lr")[-19:], who_takes("lr")
    ('ddp does', 'and eager_diloco do', '')
    """
    from sim.methods import METHODS

    names = [name for name, each in METHODS.items() if argument in parameters_of(each).annotations]
    return f"{listed(names, 'and')} {'do' if names[1:] else 'does'}" if names else ""


# Arguments that say the same in two ways: giving one takes back the other's default.
_EXCLUSIVE = (("num_fragments", "layers_per_fragment"),)


# Arguments that say nothing unless another one has this value: their defaults are not used.
_ONLY_WITH = {"bucket_bytes": ("exchange", "bucket")}


def arguments_of(
    name: str, function: Callable[..., Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check given arguments and fill in defaults.

    Returns
    -------
    tuple of dict
        All arguments, and those of them that no one gave and that are used.

    Raises
    ------
    ArgumentsError
        With the key and what it may be.
    """
    parameters = parameters_of(function)
    takes = list(parameters.annotations)
    for key in given:
        if key not in parameters.annotations:
            allowed = f"it takes {listed(takes, 'and')}" if takes else "it takes no arguments"
            others = f" ({who_takes(key)})" if who_takes(key) else ""
            raise ArgumentsError(f"{name} does not take {key}{others}; {allowed}", key)
    arguments: dict[str, Any] = {}
    for key, value in given.items():
        arguments[key] = _checked(name, key, parameters, value)
    assumed = {}
    for key in takes:
        if key in arguments:
            continue
        if key not in parameters.defaults:
            what = describe(parameters.annotations[key])
            raise ArgumentsError(
                f"{name} needs {key} ({what}); give it under [method] or with --set method.{key}=",
                "",
            )
        default = parameters.defaults[key]
        if any(key in group and set(group) & set(given) for group in _EXCLUSIVE):
            default = None
        arguments[key] = assumed[key] = default
    return {key: arguments[key] for key in takes}, {
        key: value
        for key, value in assumed.items()
        if value is not None and _is_used(key, arguments)
    }


def _is_used(key: str, arguments: Mapping[str, Any]) -> bool:
    other, needed = _ONLY_WITH.get(key, ("", None))
    return other not in arguments or arguments[other] == needed


def _checked(name: str, key: str, parameters: Parameters, value: Any) -> Any:
    annotation = parameters.annotations[key]
    try:
        value = _in_si(key, value)
    except units.UnitError as error:
        raise ArgumentsError(str(error), key) from None
    if _takes_bytes(annotation):
        value = _bytes_per_element(value)
    value = _tuples(value)
    field = f"a_{key}"
    try:
        checked = parameters.model.__pydantic_validator__.validate_assignment(
            parameters.model.model_construct(), field, value
        )
    except ValidationError:
        whose = f" for {name}" if _literals(annotation) else ""
        raise ArgumentsError(
            f"must be {describe(annotation)}{whose}{_near(annotation, value)}", key
        ) from None
    return getattr(checked, field)


def _in_si(key: str, value: Any) -> Any:
    """Return an argument that is written with its unit as a number: bytes or seconds."""
    if not isinstance(value, str):
        return value
    if key.endswith("_bytes"):
        size = units.parse_bytes(value)
        return int(size) if size == int(size) else size
    return units.parse_duration(value) if key.endswith("_time") else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _takes_bytes(annotation: Any) -> bool:
    """Whether an argument may be bytes per element."""
    if get_origin(annotation) is Annotated:
        return any(isinstance(bound, Predicate) for bound in get_args(annotation)[1:])
    return any(_takes_bytes(part) for part in get_args(annotation))


def _bytes_per_element(value: Any) -> Any:
    """Write a number of bytes per element in the one way in which it travels: "0.125B"."""
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("B"))
        except ValueError:
            return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.12g}B" if number and abs(value) < inf else value


def _near(annotation: Any, value: Any) -> str:
    words = [word for word in _literals(annotation) if isinstance(word, str)]
    return did_you_mean(value, words, "") if isinstance(value, str) and words else ""


def _literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for part in get_args(annotation) for word in _literals(part)]


def per_worker(annotation: Any) -> bool:
    """Whether an argument may be a tuple, one entry per worker."""
    if get_origin(annotation) is tuple:
        return True
    return any(per_worker(part) for part in get_args(annotation))


_PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}


def describe(annotation: Any) -> str:
    """Say in words what an annotation allows.

    Examples
    --------
    >>> describe(Annotated[int, Ge(1)] | tuple[int, ...])
    'a whole number of at least 1, or a list of them (one per worker)'
    >>> describe(Literal["none", "layer"] | None)
    '"none" or "layer"'
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *bounds = get_args(annotation)
        if _takes_bytes(annotation):
            return f"bytes per element (like 0.125, at most {MOST_BYTES})"
        words = [text for bound in bounds if (text := _bound(bound))]
        return " ".join([describe(inner), *(["of " + " and ".join(words)] if words else [])])
    if origin is Literal:
        return listed(
            f'"{word}"' if isinstance(word, str) else str(word) for word in get_args(annotation)
        )
    if origin in (Union, types.UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        texts = [
            "a list of them (one per worker)" if get_origin(part) is tuple else describe(part)
            for part in parts
        ]
        return ", or ".join(texts)
    return _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bound(bound: Any) -> str:
    match bound:
        case Ge(ge):
            return f"at least {ge}"
        case Gt(gt):
            return f"more than {gt}"
        case Le(le):
            return f"at most {le}"
        case Lt(lt):
            return f"less than {lt}"
    return ""
