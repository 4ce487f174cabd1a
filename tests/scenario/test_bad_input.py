"""Whatever is wrong with a file, an option or a setting: one line that says what to write.

Each case is data in golden/bad_input/KIND.toml, its message in KIND.txt next to it. A case may
have ``file`` (the whole text), or changes to ``BASE``: ``lines`` (a line's beginning -> what
replaces it) and ``add`` (appended); ``options``, ``set`` and ``over`` as on the command line;
``files``, ``hardware`` (named by the scenario) and ``csv`` (empirical jitter) next to it.

BANDWISE_UPDATE_GOLDEN=1 pytest tests/scenario/test_bad_input.py   # then read the diff
"""

import os
import sys
import tomllib
from pathlib import Path

import pytest

from sim.scenario import ScenarioError, load, load_study, sweep

FOLDER = Path(__file__).parents[1] / "golden" / "bad_input"
UPDATE = bool(os.environ.get("BANDWISE_UPDATE_GOLDEN"))

BASE = """\
name = "case"
[run]
steps = 100
[model]
parameters = "10B"
layers = 48
[method]
name = "streaming_diloco"
sync_every = 100
[[site]]
name = "paris"
step_time = "1.7 s"
batch_tokens = "1Mi"
[[site]]
name = "osaka"
step_time = "3.4 s"
batch_tokens = "1Mi"
[network]
bandwidth = "1 Gbit/s"
rtt = "30 ms"
"""

CASES = {
    kind.stem: tomllib.loads(kind.read_text(encoding="utf-8"))
    for kind in sorted(FOLDER.glob("*.toml"))
}
KEYS = {"file", "hex", "lines", "add", "options", "set", "over", "study", "source", "files"} | {
    "no_file",
    "hardware",
    "csv",
}


def text_of(case):
    if "file" in case:
        return case["file"]
    lines = BASE.splitlines()
    for start, new in case.get("lines", {}).items():
        place = next(i for i, line in enumerate(lines) if line.startswith(start))
        lines[place] = new
    text = "\n".join([*lines, case.get("add", ""), ""])
    return 'hardware = "hw.toml"\n' + text if "hardware" in case else text


def write(case, folder):
    """Lay out the case's files; return the arguments of load."""
    (folder / "folder").mkdir()
    content = bytes.fromhex(case["hex"]) if "hex" in case else text_of(case).encode()
    if not case.get("no_file"):
        (folder / "case.toml").write_bytes(content)
    for name, text in case.get("files", {}).items():
        (folder / name).write_text(text, encoding="utf-8")
    if "hardware" in case:
        (folder / "hw.toml").write_text(case["hardware"], encoding="utf-8")
    options = dict(case.get("options", {}))
    if "csv" in case:
        (folder / "samples.csv").write_text(case["csv"], encoding="utf-8")
        options["--jitter"] = "empirical:samples.csv"
    source = None if case.get("no_file") else case.get("source", "case.toml")
    return source, options, case.get("set", [])


def run(case, arguments):
    if "over" in case:
        return sweep(*arguments, case["over"])
    if "study" in case or "[study" in case.get("add", ""):
        return load_study(*arguments)
    return load(*arguments)


def message_of(case, folder):
    arguments = write(case, folder)
    with pytest.raises(ScenarioError) as error:
        run(case, arguments)
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return str(error.value)


def golden(kind):
    path = FOLDER / f"{kind}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split(": ", 1) for line in lines)


def test_the_base_has_nothing_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(*write({}, tmp_path)).sites[1].name == "osaka"


def test_there_are_enough_kinds_and_cases():
    assert len(CASES) >= 20
    assert sum(map(len, CASES.values())) >= 200


@pytest.mark.parametrize("kind", CASES)
def test_goldens_have_a_case_each(kind):
    assert set(golden(kind)) == set(CASES[kind]) or UPDATE


def mentions_its_place(message, case):
    """Whether a message begins with the file, option, setting or key that it is about."""
    places = ["case.toml", "hw.toml", "samples.csv", case.get("source") or '""', "--set ", "--over"]
    places += [*case.get("options", {}), *case.get("files", {}), "times.csv", "folder"]
    if case.get("no_file"):
        places += ["model", "site", "--sites"]
    return message.startswith(tuple(places)) or message.startswith("three_sites")


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, cases in CASES.items() for name in cases]
)
def test_message(kind, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    case = CASES[kind][name]
    assert set(case) <= KEYS
    known = set(sys.modules)
    message = message_of(case, tmp_path)
    for module in set(sys.modules) - known:
        if module.startswith(("mine", "own_")):
            del sys.modules[module]
    assert "\n" not in message
    assert "Traceback" not in message
    assert str(tmp_path) not in message
    assert mentions_its_place(message, case), message
    if UPDATE:
        messages = {**golden(kind), name: message}
        lines = [f"{n}: {messages[n]}\n" for n in CASES[kind] if n in messages]
        (FOLDER / f"{kind}.txt").write_text("".join(lines), encoding="utf-8")
    else:
        assert message == golden(kind)[name]
