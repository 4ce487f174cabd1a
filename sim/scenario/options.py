"""Command-line options: each is sugar for one key of a scenario file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from sim.scenario.document import Change, Given, flattened
from sim.scenario.errors import Origin, did_you_mean, problem
from sim.scenario.fields import RefusedError, jitter
from sim.scenario.presets import MODELS
from sim.scenario.toml import DEEPEST, BeyondError, parse


@dataclass(frozen=True)
class Option:
    """An option: the key that it sets, and how ``--help`` presents it."""

    key: str
    help: str
    hint: str
    panel: str


_PANELS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "Run": (
        ("--tokens", "run.tokens", "200B", "Train on this many tokens."),
        ("--steps", "run.steps", "N", 'Train for this many inner steps, or "steady".'),
        ("--rounds", "run.rounds", "N", "Train for this many rounds of the method."),
        ("--seed", "run.seed", "N", "Seed of everything random."),
        (
            "--replications",
            "run.replications",
            "N",
            "Runs with other random numbers, of which the median counts; by default 7 to 9. "
            "1 is a quick answer.",
        ),
    ),
    "Machines": (
        ("--model", "model.name", "10B", "A preset (1B, 10B, 100B) or a number of parameters."),
        ("--layers", "model.layers", "N", "Layers of the model."),
        (
            "--active-parameters",
            "model.active_parameters",
            "37B",
            "Parameters that one token uses.",
        ),
        ("--sites", "sites", "N|a,b,c", "How many sites, or their names."),
        ("--workers", "site.workers", "N", "Model replicas at each site."),
        ("--step-time", "site.step_time", "2.5s", "Seconds of one inner step."),
        ("--accelerators", "site.accelerators", '"64 x H100"', "What one worker runs on."),
        ("--mfu", "site.mfu", "0.40", "Part of the peak that training reaches."),
        (
            "--batch-tokens",
            "site.batch_tokens",
            "1Mi",
            "Tokens per worker and inner step; balanced: so that no site waits.",
        ),
        ("--n-grad-accumulation", "site.n_grad_accumulation", "N", "Micro-batches per inner step."),
        ("--jitter", "site.jitter", "lognormal:0.05", "Distribution of times and its cv."),
        ("--hardware", "hardware", "FILE", "Measured times, written by realrun calibrate."),
    ),
    "Network": (
        (
            "--bandwidth",
            "network.bandwidth",
            "1Gbit/s",
            "Goodput of every site's uplink and downlink that has none of its own; with --set "
            "network.per=pair of each pair of sites.",
        ),
        ("--rtt", "network.rtt", "30ms", "Round trip between sites, as ping prints it."),
        ("--latency", "network.latency", "15ms", "One way between sites; instead of --rtt."),
        ("--algorithm", "network.collective.algorithm", "ring", "Algorithm of the collectives."),
        (
            "--uplink",
            "site.uplink",
            "1Gbit/s",
            "All that leaves a site shares it; --bandwidth by default.",
        ),
        (
            "--downlink",
            "site.downlink",
            "1Gbit/s",
            "All that enters a site shares it; --bandwidth by default.",
        ),
    ),
    "Method": (
        ("--method", "method.name", "NAME", 'A method, or "package.module:function".'),
        ("--sync-every", "method.sync_every", "100", "Inner steps between outer steps (H)."),
        ("--num-fragments", "method.num_fragments", "N", "Parts that are sent in turn (P)."),
        ("--layers-per-fragment", "method.layers_per_fragment", "N", "Layers of each part."),
        (
            "--fragment-sync-delay",
            "method.fragment_sync_delay",
            "N",
            "Inner steps that a part may be on the wire (tau).",
        ),
        ("--overlap", "method.overlap", "none|layer", "How steps and communication overlap."),
        ("--comm-dtype", "method.comm_dtype", "TYPE", "Type in which (outer) gradients travel."),
    ),
}

OPTIONS: dict[str, Option] = {
    option: Option(key, help_, hint, panel)
    for panel, rows in _PANELS.items()
    for option, key, hint, help_ in rows
}


def option_changes(options: Mapping[str, str]) -> list[Change]:
    """Turn options into the keys that they set."""
    changes = []
    for option, text in options.items():
        origin = Origin(option, names_key=True, typed=True)
        if option not in OPTIONS:
            raise problem(origin, "", "unknown option" + did_you_mean(option, OPTIONS, ""))
        changes.append(option_change(option, text, origin))
    return changes


def option_change(option: str, text: str, origin: Origin) -> Change:
    """Return the key that one option sets; ``origin`` is what messages call it."""
    if not text.strip():
        raise problem(origin, "", f"needs a value, like {OPTIONS[option].hint}", text)
    path = tuple(OPTIONS[option].key.split("."))
    value = read_typed(text, origin)
    if option == "--model":
        # A preset has the name of a size; any other size is a number of parameters.
        preset = text.strip() in MODELS or not text.strip()[:1].isdigit()
        path, value = (
            (("model", "name"), text.strip()) if preset else (("model", "parameters"), value)
        )
    elif option == "--sites":
        value = _sites(text, value, origin)
    elif option == "--jitter":
        value = read_jitter(text, origin)
    elif option in ("--hardware", "--method", "--accelerators"):
        value = text.strip()
    return Change(path, Given(value, origin, text.strip()))


def setting_changes(settings: Sequence[str]) -> list[Change]:
    """Turn ``--set key=value`` into the keys that they set; the later of two wins."""
    changes: dict[tuple[str, ...], Change] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise problem(Origin(f"--set {setting}"), "", "write it like --set network.rtt=30ms")
        origin = Origin(f"--set {key.strip()}", names_key=True)
        for path, value in flattened(split_key(key, f"--set {setting}"), read_typed(text, origin)):
            if path == ("site",):
                raise problem(Origin("--set site"), "", "name a key, like site.step_time")
            changes.pop(path, None)
            origin = Origin(f"--set {'.'.join(path)}", names_key=True, typed=True)
            changes[path] = Change(path, Given(value, origin, text.strip()))
    return list(changes.values())


def split_key(key: str, label: str) -> tuple[str, ...]:
    """Split a dotted key; a part in quotes may hold dots, as in TOML."""
    hint = "a key is names joined by dots, like network.rtt"
    try:
        node: Any = parse(f"{key} = 0")
    except BeyondError:
        raise problem(Origin(label), "", f"a key has at most {DEEPEST} names") from None
    except tomllib.TOMLDecodeError:
        # Bare keys of TOML are ASCII; a site may well be called "zürich".
        parts = tuple(key.strip().split("."))
        if not all(part and not set(part) & set(' \t\r\n"') for part in parts):
            raise problem(Origin(label), "", hint) from None
        return parts
    path: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        ((name, node),) = node.items()
        path.append(name)
    if node != 0:
        raise problem(Origin(label), "", hint)
    return tuple(path)


def read_value(text: str) -> Any:
    """Read a TOML value; what is none, like 3s or ring, is text.

    Raises
    ------
    BeyondError
        If it is a number or a nesting that no key could mean.
    """
    stripped = text.strip()
    try:
        parsed = parse(f"value = {stripped}")
    except tomllib.TOMLDecodeError:
        return stripped
    value = parsed["value"]
    if len(parsed) > 1 or isinstance(value, datetime | date | time):
        return stripped
    return value


def read_typed(text: str, origin: Origin) -> Any:
    """Read what was typed as :func:`read_value` does; a value beyond all use is refused."""
    try:
        return read_value(text)
    except BeyondError as error:
        raise problem(origin, "", str(error), text.strip()) from None


def _sites(text: str, value: Any, origin: Origin) -> int | list[str]:
    if isinstance(value, bool) or not isinstance(value, int):
        names = [name.strip() for name in text.split(",")]
        if all(names) and text.strip()[:1] not in "+-.0123456789":
            return names
        raise problem(origin, "", "write a number, or names like paris,dallas", text)
    if value < 1:
        raise problem(origin, "", "must be at least 1", text.strip())
    return value


def read_jitter(value: object, origin: Origin) -> Any:
    """Read jitter in its short form, like lognormal:0.05."""
    try:
        return jitter(value)
    except RefusedError as error:
        raise problem(origin, "", str(error), value) from None
