"""Inputs that no one would write, made from those that people do: a seed and a number give one.

Each is a command with its arguments and the files it reads. A scenario's keys are deleted,
doubled, moved and given values of other types and sizes; then its text may be torn.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

REPOSITORY = Path(__file__).parent.parent
STUDY_FILES = ("streaming_diloco_table4", "eager_updates")
#: Kind -> share of the inputs.
SHARES = {
    **{"scenario": 28, "study": 12, "hardware": 10, "over": 12, "set": 12, "command": 10},
    **{"profile": 8, "plan": 8},
}


@dataclass(frozen=True)
class Input:
    """A command line, and the files in the folder that it runs in (latin-1 text is bytes)."""

    kind: str
    number: int
    arguments: tuple[str, ...]
    files: dict[str, str]


class Raw(str):
    """Text of TOML that is written as it is."""


def _nested(depth: int, opening: str, closing: str, core: str = "1") -> Raw:
    return Raw(opening * depth + core + closing * depth)


#: Values that a key does not expect, or expects in another size.
STRANGE: tuple[Any, ...] = (
    *(0, 1, -1, 2, 7, 10**6, 10**9, 10**12, 10**18, 2**63, 10**30, 10**308, 10**400, -(10**400)),
    *(Raw("9" * 4300), Raw("9" * 4301), Raw("-" + "9" * 6000), Raw("0x" + "f" * 5000)),
    *(0.0, -0.5, 1e-300, 5e-324, 1e308, 0.999999999, 1e18, Raw("1e400"), Raw("-1e400")),
    *(Raw("nan"), Raw("inf"), Raw("-inf"), True, False),
    *("", " ", "x", "0", "-1", "1e400", "nan", "inf", "1e999 s", "9" * 5000, "1" + "0" * 400),
    *("0 s", "1 s", "1e30 s", "1e-30 s", "365 d", "1 Gbit/s", "0 bit/s", "1e300 Gbit/s", "1 h"),
    *("1 ms", "30 ms", "30ms", "1Mi", "10B", "1e15T", "95 %", "101 %", "-5 %", "1 EB", "64 x H100"),
    *("1e-300 bit/s", "1 kbit/s", "lognormal:0.05", "normal:1e400", "empirical:none", "gamma:-1"),
    *("bf16", "int8", "steady", "layer", "bucket", "ring", "gloo", "direct", "hierarchical"),
    *("ddp", "acco", "diloco", "local_sgd", "streaming_diloco", "a:b", "no.module:f", "best"),
    *(
        "\x1b[31mred\x1b[0m",
        "\u202egnp",
        "\x07",
        "a\nb",
        "a\tb",
        "\x7f",
        "zürich",
        "东京",
        "💥" * 30,
    ),
    *("a.b", "a'b", 'a"b', "[x]", "../x", "/", "-", "--help", "=", ",", "=1+1", "é" * 3000),
    *(
        [],
        [1],
        ["x"],
        [1, "x", []],
        [[0, 1], [1, 0]],
        [1] * 3000,
        [[]],
        ["", ""],
        [True],
        ["x"] * 2,
    ),
    *(_nested(40, "[", "]"), _nested(3000, "[", "]"), _nested(60, "{a = ", "}")),
    *(_nested(2000, "{a = ", "}"), {}, {"a": 1}, {"unit": "Gbit/s", "matrix": [[0, 1], [1, 0]]}),
    *({"unit": "ms", "matrix": [[0, 10**400], [1, 0]]}, {"unit": 3, "matrix": "x"}),
    *({"distribution": "normal", "cv": 10}, {"distribution": "empirical"}, {"": {"": ""}}),
    *(Raw("1979-05-27"), Raw("07:32:00"), Raw("1979-05-27T07:32:00Z"), Raw("'''a\nb'''")),
)

_SECTIONS = ("run", "model", "method", "site", "network", "train", "data", "study")
_WORDS = (
    "name",
    "a",
    "",
    "site",
    "sites",
    "0",
    "x" * 300,
    "zürich",
    "a.b",
    "\x1b",
    "worker",
    "run",
)


# -- TOML ------------------------------------------------------------------------------------
def written(data: dict[str, Any]) -> str:
    """Return TOML with a key per line, so that lines can be left out one by one."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in _leaves((), data))


def _leaves(path: tuple[str, ...], node: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        here = (*path, key)
        if isinstance(value, dict) and value:
            found += _leaves(here, value)
        else:
            found.append((".".join(map(_text, here)), value))
    return found


def _value(value: Any) -> str:
    if isinstance(value, Raw):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)} = {_value(v)}" for k, v in value.items()) + "}"
    return str(value)


def _text(text: str) -> str:
    signs = {'"': '\\"', "\\": "\\\\"}
    plain = (
        signs.get(c) or (c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}")
        for c in text
    )
    return '"' + "".join(plain) + '"'


# -- mutations -------------------------------------------------------------------------------
def _tables(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        return [node, *(table for value in node.values() for table in _tables(value))]
    if isinstance(node, list):
        return [table for value in node for table in _tables(value)]
    return []


def _known_keys() -> list[str]:
    from sim.scenario.method import method_arguments
    from sim.scenario.schema import known_keys

    return [*known_keys(), *(f"method.{name}" for name in method_arguments())]


def strange(random: Random) -> Any:
    return random.choice(STRANGE)


_NUMBER = re.compile(r"\d+(\.\d+)?(e-?\d+)?")
_FACTORS = (0, 0.001, 0.5, 0.99, 1.5, 2, 3, 10, 100, 1000, 10**6, 10**12)


def _other(random: Random, value: Any) -> Any:
    """Return a value of the same kind, which may well be allowed."""
    factor = random.choice(_FACTORS)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value if abs(value) > 10**300 else int(value * factor)
    if isinstance(value, float):
        return value * factor
    if isinstance(value, list):
        return [_other(random, entry) for entry in value] * random.choice((1, 1, 2))
    if isinstance(value, dict):
        return {key: _other(random, entry) for key, entry in value.items()}
    if isinstance(value, str) and _NUMBER.search(value):
        return _NUMBER.sub(lambda found: f"{float(found[0]) * factor:g}", value, count=1)
    words = [entry for entry in STRANGE if isinstance(entry, str) and entry.isidentifier()]
    return random.choice(words)


def mutate(random: Random, data: dict[str, Any]) -> None:
    """Change one thing in a tree of tables."""
    table = random.choice([table for table in _tables(data) if table] or [data])
    keys = list(table) or [""]
    key = random.choice(keys)
    action = random.choice(("other",) * 6 + ("value",) * 4 + ("delete", "add", "known", "move"))
    if action == "other":
        table[key] = _other(random, table.get(key))
    elif action == "value":
        value, parent = table.get(key), table
        if isinstance(value, list) and value and random.random() < 0.7:
            value[random.randrange(len(value))] = strange(random)
        else:
            parent[key] = strange(random)
    elif action == "delete":
        table.pop(key, None)
    elif action == "add":
        table[random.choice((*_WORDS, *_SECTIONS))] = strange(random)
    elif action == "known":
        place: Any = data
        *path, name = random.choice(_known_keys()).split(".")
        for step in path:
            place = place.get(step) if isinstance(place, dict) else None
            place = place[0] if isinstance(place, list) and place else place
        if isinstance(place, dict):
            place[name] = strange(random)
    else:
        random.choice(_tables(data))[random.choice(_WORDS)] = table.pop(key, 0)


def torn(random: Random, text: str) -> str:
    """Change a text without regard to what it says."""
    lines = text.split("\n")
    at = random.randrange(len(lines))
    place = random.randrange(len(text) + 1)
    action = random.choice(("double", "delete", "cut", "sign", "flip", "swap"))
    if action == "double":
        lines.insert(at, lines[random.randrange(len(lines))])
    elif action == "delete":
        del lines[at]
    elif action == "swap":
        other = random.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        sign = random.choice(("\x00", "\x1b", "\ufeff", "\u202e", '"', "[", "{", "=", "\\", "\r"))
        if action == "flip":
            sign = chr(random.randrange(256))
        after = "" if action == "cut" else sign + text[place + (action == "flip") :]
        return text[:place] + after
    return "\n".join(lines)


# -- what the inputs start from -----------------------------------------------------------------
_SMALL: dict[str, Any] = {
    "name": "small",
    "run": {"rounds": 3, "seed": 0, "replications": 1},
    "model": {"parameters": "1B", "layers": 12},
    "method": {"name": "diloco", "sync_every": 10},
    "site": [{"name": "a", "step_time": "1 s"}, {"name": "b", "step_time": "2 s"}],
    "network": {"bandwidth": "1 Gbit/s", "rtt": "30 ms"},
}
_SMALL_STUDY: dict[str, Any] = {
    **_SMALL,
    "study": {
        "ask": "simulate",
        "axis": {
            "network.bandwidth": ["1 Gbit/s", "10 Gbit/s"],
            "method": {"ddp": {"method": {"name": "ddp"}}, "base": {}},
        },
    },
}


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


@cache
def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


LONG = ("ten_thousand_gpus",)  # which as it is takes longer than any input may


@cache
def _scenarios() -> list[dict[str, Any]]:
    files = sorted((REPOSITORY / "scenarios").glob("*.toml"))
    files = [path for path in files if path.stem not in LONG]
    bundled = [_copy(_read(path)) for path in files]
    for data in bundled:
        data.pop("study", None)
        data.setdefault("run", {})["replications"] = 1
    return [*bundled, _SMALL, _generated(), _decoder()]


def _generated() -> dict[str, Any]:
    """A scenario that uses as many keys as go together."""
    return {
        "run": {"steps": 200, "seed": 3, "skip_rounds": 1, "measured_rounds": 2},
        "model": {"layer_parameters": [1000, "1.2M", "2M"], "param_dtype": "fp32"},
        "method": {"name": "streaming_diloco", "sync_every": 12, "num_fragments": 3},
        "site": [
            {"count": 2, "workers": 2, "accelerators": "8 x H100", "mfu": 0.4},
            {"name": "slow", "step_time": "3 s", "speed": 0.5, "jitter": "normal:0.1"},
        ],
        "network": {
            "per": "site",
            "bandwidth": "1 Gbit/s",
            "latency": "10 ms",
            "window": "16 MiB",
            "streams": 4,
            "loss": "0.01 %",
            "within": {"bandwidth": "100 Gbit/s", "rtt": "20 us"},
            "collective": {"algorithm": "hierarchical", "concurrent": 2, "quantize_block": 64},
        },
    }


def _decoder() -> dict[str, Any]:
    return {
        "run": {"rounds": 2, "replications": 1},
        "model": {"kind": "gpt", "hidden": 64, "layers": 4, "heads": 4, "vocabulary": 256},
        "method": {"name": "ddp", "overlap": "bucket", "bucket_bytes": "100 kB"},
        "site": [{"count": 2, "step_time": "40 ms", "batch_tokens": 128}],
        "network": {"bandwidth": "50 Mbit/s", "rtt": "20 ms", "collective": {"algorithm": "gloo"}},
        "train": {"learning_rate": 0.001, "batch": 4},
        "data": {"kind": "tokens", "path": "data.bin"},
    }


def _file(random: Random, data: dict[str, Any]) -> str:
    data = _copy(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        mutate(random, data)
    text = written(data)
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        text = torn(random, text)
    return text


def _bytes(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


# A search simulates some thirty bandwidths, a comparison 27 runs, with jitter in several
# replications each: right, and yet more than the time that one input may take.
_FEW_ROUNDS = ("--set", "run.measured_rounds=2", "--replications", "1")


def scenario(random: Random, number: int) -> Input:
    text = _file(random, random.choice(_scenarios()))
    command = random.choice(("simulate", "simulate", "simulate", "compare", "required"))
    more = () if command == "simulate" else _FEW_ROUNDS
    more += ("--target", "50%") if command == "required" else ()
    json = ("--json",) if random.random() < 0.5 else ()
    return Input("scenario", number, (command, "f.toml", *more, *json), {"f.toml": _bytes(text)})


def study(random: Random, number: int) -> Input:
    """A study with two short axes is run; of the bundled ones the runs would take minutes."""
    if random.random() < 0.7:
        text = _file(random, _SMALL_STUDY)
        arguments = ("study", "f.toml", "--out", "out", "--jobs", "1")
        return Input("study", number, arguments, {"f.toml": _bytes(text)})
    names = [REPOSITORY / "scenarios" / f"{name}.toml" for name in STUDY_FILES]
    names += sorted((REPOSITORY / "validation").glob("*/study.toml"))
    text = _file(random, _read(random.choice(names)))
    return Input("study", number, ("load_study", "f.toml"), {"f.toml": _bytes(text)})


def hardware(random: Random, number: int) -> Input:
    files = sorted((REPOSITORY / "validation").glob("lab/calibration-*.toml"))
    files += sorted((REPOSITORY / "scenarios" / "hardware").glob("*.toml"))
    text = _file(random, _read(random.choice(files)))
    asked = _copy(_SMALL)
    asked["hardware"] = "h.toml"
    asked["method"] = {"name": random.choice(("ddp", "diloco"))}
    if random.random() < 0.5:
        for site in asked["site"]:
            del site["step_time"]
    files_ = {"h.toml": _bytes(text), "f.toml": _bytes(written(asked))}
    return Input("hardware", number, ("simulate", "f.toml"), files_)


_DAY = "time_s,factor\n0,1.0\n30,0.4\n70,0\n80,0.7\n95,1.25\n"


def profile(random: Random, number: int) -> Input:
    """A link that varies: its file is damaged, its keys are, or both."""
    asked, keys = _copy(_SMALL), {"profile": "p.csv", "profile_period": "100 s"}
    where = random.choice(("network", "site", "link"))
    if where == "network":
        asked["network"] |= keys
    elif where == "site":
        asked["site"][1] |= keys
    else:
        asked["network"]["link_profiles"] = {random.choice(("a.uplink", "b.downlink")): keys}
    if random.random() < 0.4:
        mutate(random, asked)
    rows = _DAY
    for _ in range(random.choice((0, 1, 1, 2))):
        rows = _other_cell(random, rows)
    for _ in range(random.choice((0, 1, 1, 2))):
        rows = torn(random, rows)
    files = {"f.toml": _bytes(written(asked)), "p.csv": _bytes(rows)}
    command = random.choice(("simulate", "simulate", "compare"))
    more = () if command == "simulate" else (*_FEW_ROUNDS, "--methods", "ddp,diloco")
    return Input("profile", number, (command, "f.toml", *more), files)


def _other_cell(random: Random, rows: str) -> str:
    """Exchange one cell of a table."""
    table = [line.split(",") for line in rows.split("\n")]
    row = random.choice(table)
    at = random.randrange(len(row))
    row[at] = _item(random) if random.random() < 0.5 else str(_other(random, row[at]))
    return "\n".join(map(",".join, table))


def plan(random: Random, number: int) -> Input:
    """A search that is short: one method, few settings."""
    asked = _copy(_SMALL)
    for _ in range(random.choice((0, 1, 1, 2))):
        mutate(random, asked)
    words = ["--methods", random.choice(("diloco", "streaming_diloco", "ddp", _item(random)))]
    words += ["--max-sync-every", "5", *_FEW_ROUNDS, "--no-sensitivity"]
    for _ in range(random.choice((0, 1, 1, 2))):
        option = random.choice(_options_of("plan"))
        words += [option, random.choice((_item(random), _good(option)))]
    words += ["--out", "out"] if random.random() < 0.3 else []
    arguments = tuple(map(_sized, ("plan", "f.toml", *words)))
    return Input("plan", number, arguments, {"f.toml": _bytes(written(asked))})


def _item(random: Random) -> str:
    value = strange(random)
    return value if isinstance(value, str) else _value(value)


def _key(random: Random) -> str:
    known = [*_known_keys(), "site.a.step_time", "site.b.jitter.cv", "bandwidth", "sync_every"]
    return random.choice(
        (
            *random.sample(known, 6),
            ".".join(["a"] * random.choice((2, 30, 500, 5000))),
            "network." + ".".join(["b"] * random.choice((2, 50, 2000))),
            random.choice(known) + ".x.y",
            random.choice(known).upper(),
            random.choice(("", ".", "a..b", '"', "'a'.b", "[site]", "site", "a b", "\x1b", "é.ü")),
        )
    )


def _sized(values: str, most: int = 4) -> str:
    """Keep a command line's text to what a shell would pass on."""
    return values[: most * 30_000].replace("\x00", "")


def over(random: Random, number: int) -> Input:
    values: str
    if random.random() < 0.4:
        values = f"{_item(random)}..{_item(random)}:{random.choice((_item(random), '3', '2'))}"
    else:
        values = ",".join(_item(random) for _ in range(random.choice((1, 2, 3))))
    text = _sized(f"{_key(random)}={values}")
    axes = ("--over", text)
    if random.random() < 0.3:
        axes += ("--over", "sync_every=5,10")
    return Input(
        "over", number, ("sweep", "f.toml", *axes, "--jobs", "1"), {"f.toml": written(_SMALL)}
    )


def setting(random: Random, number: int) -> Input:
    settings: list[str] = []
    for _ in range(random.choice((1, 1, 2, 3))):
        settings += ["--set", _sized(f"{_key(random)}={_item(random)}")]
    base = written(random.choice((_SMALL, _generated())))
    return Input("set", number, ("simulate", "f.toml", *settings), {"f.toml": base})


# Processes of their own, or work that is not for one input.
_NOT_ASKED = {"--jobs"}
_COMMANDS = [
    "simulate",
    "compare",
    "required",
    "sweep",
    "study",
    "plot",
    "reproduce",
    "methods",
    "scenarios",
    "init",
]


def _options_of(command: str) -> list[str]:
    from sim.output.program import _load

    found = _load("sim.cli", command)
    return [name for p in found.params for name in p.opts if name.startswith("-")]


def command(random: Random, number: int) -> Input:
    """A command with options of its own and of others, and values that fit or do not."""
    name = random.choice((*_COMMANDS, *_COMMANDS, "simulat", "", "-h", "--version"))
    options = _options_of(name if name in _COMMANDS else "simulate")
    words: list[str] = []
    if random.random() < 0.8:
        words.append(random.choice(("f.toml", "f.toml", "three_sites", "s.toml", "r.csv", "none")))
    for _ in range(random.choice((0, 1, 2, 3, 5))):
        option = random.choice((*options, *options, "--nonsense", "-x", "--", "--sync-every"))
        value = random.choice((_item(random), _good(option), _good(option), _good(option)))
        if option in _NOT_ASKED:
            value = random.choice(("0", "x", "1", ""))
        words += random.choice(([option, value], [option, value], [f"{option}={value}"], [option]))
    if name in ("study", "sweep") and "--jobs" not in words:
        words += ["--jobs", "1"]
    if name in ("study", "reproduce", "compare", "required", "sweep"):
        # Those that come along take minutes, or half of one where their timing is random.
        words = ["f.toml", *(word for word in words if word not in ("f.toml", "three_sites"))]
    if name == "required":
        words += _FEW_ROUNDS
    files = {
        "f.toml": written(_SMALL),
        "s.toml": written(_SMALL_STUDY),
        "r.csv": "schema,compute_utilization_fraction\n1,0.5\n",
    }
    return Input("command", number, tuple(map(_sized, (name, *words))), files)


def _good(option: str) -> str:
    from sim.scenario import OPTIONS

    known = {
        "--out": "out",
        "--trace": "t.csv",
        "--replay": "t.csv",
        "--kind": "breakdown",
        "--format": "csv",
        "--target": "50%",
        "--methods": "diloco",
        "--max-tokens-per-update": "400Mi",
        "--html": "page.html",
        "--tornado": "tornado.svg",
        "--over": "sync_every=5,10",
        "--set": "network.rtt=30ms",
        "--replications": "1",
        "--hardware": "h.toml",
        "--step-time": "1s",
    }
    if option in known:
        return known[option]
    hint = OPTIONS[option].hint if option in OPTIONS else "1"
    return hint.split("|")[0].strip('"').replace("N", "3").replace("FILE", "f.toml")


MAKERS: dict[str, Callable[[Random, int], Input]] = {
    "scenario": scenario,
    "study": study,
    "hardware": hardware,
    "over": over,
    "set": setting,
    "command": command,
    "profile": profile,
    "plan": plan,
}
_CYCLE = [kind for kind, share in SHARES.items() for _ in range(share)]


def different(seed: int, inputs: int) -> Iterator[Input]:
    """Yield that many inputs of a seed, no two of which are the same."""
    seen: set[int] = set()
    for number in count():
        if len(seen) == inputs:
            return
        asked = made(seed, number)
        digest = hash((asked.arguments, *asked.files.items()))
        if digest not in seen:
            seen.add(digest)
            yield asked


def made(seed: int, number: int) -> Input:
    """Return an input; the same for the same seed and number."""
    kind = _CYCLE[number * 37 % len(_CYCLE)]
    return MAKERS[kind](Random(f"{seed} {kind} {number}"), number)
