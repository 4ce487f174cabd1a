"""The page's inputs, read from an address and written as command line, TOML and Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from sim.output.errors import UserError, did_you_mean
from sim.output.html_option import quoted

LONGEST = 64
"""Characters of a value: longer than any that can be meant."""
MOST_SITES = 32
MOST_WORKERS = 8


@dataclass(frozen=True)
class Input:
    """One input of the page."""

    #: In an address; where Python has a keyword for it, that keyword.
    name: str
    #: In a scenario file.
    key: str
    label: str
    #: An example; what is allowed is said by the message that refuses a value.
    hint: str
    #: What a page without any address begins with.
    first: str = ""
    choices: tuple[str, ...] = ()
    #: Largest whole number, where it is one.
    most: int | None = None

    @property
    def in_method(self) -> bool:
        """Whether it is an argument of methods."""
        return self.key.startswith("method.") and self.name != "method"


@lru_cache
def groups() -> dict[str, tuple[Input, ...]]:
    """Return the inputs by the heading that they stand under."""
    from sim.methods import METHODS

    dtypes = ("", "fp32", "bf16", "fp16", "int8", "fp4")
    algorithms = ("", "ring", "tree", "hierarchical", "direct", "nccl", "gloo")
    return {
        "Training": (
            Input("model", "model.name", "Model", "1B, 10B, 100B or a number like 7B", "10B"),
            Input("tokens", "run.tokens", "Tokens to train on", "200B", "2B"),
            Input("batch_tokens", "site.batch_tokens", "Tokens per worker and step", "1Mi"),
        ),
        "Method": (
            Input("method", "method.name", "Method", "", "diloco", tuple(METHODS)),
            Input("sync_every", "method.sync_every", "Inner steps between outer steps, H", "100"),
            Input("num_fragments", "method.num_fragments", "Fragments, P", "3"),
            Input("fragment_sync_delay", "method.fragment_sync_delay", "Fragment delay, tau", "5"),
            Input("outer_sync_delay", "method.outer_sync_delay", "Delay of outer steps", "1"),
            Input("overlap", "method.overlap", "Overlap", "", "", ("", "none", "layer")),
            Input("comm_dtype", "method.comm_dtype", "Type on the wire", "", "", dtypes),
        ),
        "Machines": (
            Input("sites", "sites", "Sites", "2", "2", most=MOST_SITES),
            Input("workers", "site.workers", "Workers per site", "1", most=MOST_WORKERS),
            Input("accelerators", "site.accelerators", "Accelerators per worker", "64 x H100"),
            Input("mfu", "site.mfu", "MFU, share of the peak", "0.4"),
            Input("price", "site.price", "Price of an accelerator", "2.50 USD/h"),
        ),
        "Network": (
            Input("bandwidth", "network.bandwidth", "Bandwidth", "1 Gbit/s", "1 Gbit/s"),
            Input("rtt", "network.rtt", "Round trip", "30 ms", "30 ms"),
            Input(
                "algorithm",
                "network.collective.algorithm",
                "Algorithm of collectives",
                "",
                "",
                algorithms,
            ),
        ),
    }


CURVES = "methods"
"""The methods that have a curve; may stand in an address several times."""
FIRST_CURVES = ("ddp", "diloco", "streaming_diloco")


@lru_cache
def inputs() -> dict[str, Input]:
    """Return the inputs by name."""
    return {each.name: each for group in groups().values() for each in group}


@dataclass(frozen=True)
class Point:
    """What was chosen: values as text, in the order of the page."""

    values: tuple[tuple[str, str], ...]
    methods: tuple[str, ...] = field(default=FIRST_CURVES)

    @property
    def method(self) -> str:
        """The chosen method; bandwise's own default where none was chosen."""
        return dict(self.values).get("method", "ddp")

    @property
    def slow(self) -> bool:
        """Whether messages are simulated one by one, which may take minutes."""
        return dict(self.values).get("algorithm") == "gloo"

    @property
    def address(self) -> str:
        """The query string that gives this point again."""
        return urlencode([*self.values, *((CURVES, name) for name in self.methods)])

    @property
    def taken(self) -> dict[str, str]:
        """The values that the method takes."""
        known = _arguments(self.method)
        return {n: v for n, v in self.values if not inputs()[n].in_method or n in known}

    @property
    def left_out(self) -> list[str]:
        """The names of those that it does not take."""
        return [name for name, _ in self.values if name not in self.taken]

    def with_value(self, name: str, value: str) -> Point:
        """Return it with another value."""
        found = dict(self.values) | {name: value}
        return replace(self, values=tuple((n, found[n]) for n in inputs() if n in found))

    @property
    def keywords(self) -> dict[str, Any]:
        """What :func:`sim.make_scenario` takes for it."""
        found: dict[str, Any] = {
            name: value if inputs()[name].most is None else int(value)
            for name, value in self.taken.items()
        }
        price = found.pop("price", None)
        return found if price is None else found | {"settings": {"site.price": price}}

    @property
    def command(self) -> str:
        """The command line that prints its figures."""
        from sim.scenario.options import OPTIONS

        words = ["bandwise", "simulate"]
        for name, value in self.taken.items():
            option, key = f"--{name.replace('_', '-')}", inputs()[name].key
            words += [option, value] if option in OPTIONS else ["--set", f"{key}={value}"]
        return " ".join(map(quoted, words))

    @property
    def python(self) -> str:
        """Python that prints them."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.keywords.items())
        made = f"scenario = sim.make_scenario({given})"
        return f"import sim\n\n{made}\nprint(sim.simulate(scenario))\n"

    @property
    def toml(self) -> str:
        """A scenario file of it."""
        from sim.scenario.presets import MODELS

        sections: dict[str, list[str]] = {}
        for name, value in self.taken.items():
            section, _, key = inputs()[name].key.rpartition(".")
            if name == "sites":
                section, key = "site", "count"
            if name == "model" and value not in MODELS:
                key = "parameters"
            sections.setdefault(section, []).append(f"{key} = {_in_toml(name, value)}")
        return "\n".join(
            "\n".join([f"[[{name}]]" if name == "site" else f"[{name}]", *lines, ""])
            for name, lines in sections.items()
        )


def first() -> Point:
    """Return what a page shows whose address says nothing."""
    return Point(tuple((each.name, each.first) for each in inputs().values() if each.first))


def read(query: Iterable[tuple[str, str]]) -> Point:
    """Return the point of an address.

    Parameters
    ----------
    query
        Names and values, decoded. A name without a value was not given.

    Raises
    ------
    UserError
        One line: the name, the value, what is allowed, and the nearest match.
    """
    pairs = list(query)
    found: dict[str, str] = {}
    methods: list[str] = []
    for name, given in pairs:
        value = given.strip()
        if name != CURVES and name not in inputs():
            listed = ", ".join([*inputs(), CURVES])
            near = did_you_mean(name, [*inputs(), CURVES])
            raise UserError(f'unknown input "{_short(name)}"{near} (one of {listed})')
        if len(value) > LONGEST or not value.isprintable():
            raise UserError(
                f'{name}: "{_short(value)}": must be at most {LONGEST} characters that can be '
                "printed"
            )
        if name == CURVES:
            methods += [_one_of(CURVES, value, inputs()["method"].choices)] if value else []
        elif name in found:
            raise UserError(f'{name}: "{value}": is given twice; leave one out')
        elif value:
            found[name] = _checked(inputs()[name], value)
        else:
            found[name] = ""
    if not pairs:
        return first()
    values = tuple((name, found[name]) for name in inputs() if found.get(name))
    return Point(values, tuple(dict.fromkeys(methods)))


def as_given(query: Sequence[tuple[str, str]]) -> Point:
    """Return the values of an address that cannot be meant, to be put right on the page."""
    given = {name: value[:LONGEST] for name, value in query if name in inputs()}
    return Point(tuple((name, given[name]) for name in inputs() if name in given), ())


def _checked(of: Input, value: str) -> str:
    if of.choices:
        return _one_of(of.name, value, [each for each in of.choices if each])
    if of.most is not None and not (_whole(value) and 1 <= int(value) <= of.most):
        raise UserError(f'{of.name}: "{value}": must be a whole number from 1 to {of.most}')
    if set(value) & set(":\\[{=") or ".." in value or value.startswith("/"):
        raise UserError(
            f'{of.name}: "{value}": the page takes no names of files or code; write it like '
            f"{of.hint}"
        )
    return value


def _whole(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 10


def _one_of(name: str, value: str, known: Sequence[str]) -> str:
    if value in known:
        return value
    near = did_you_mean(value, known)
    raise UserError(f'{name}: "{value}": must be one of {", ".join(known)}{near}')


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _arguments(method: str) -> frozenset[str]:
    from sim.methods import METHODS
    from sim.scenario.method import parameters_of

    return frozenset(parameters_of(METHODS[method]).annotations)


def _in_toml(name: str, value: str) -> str:
    from sim.scenario.options import read_value

    number = read_value(value) if name not in ("model", "accelerators") else value
    return json.dumps(number if isinstance(number, int | float) else value, ensure_ascii=False)
