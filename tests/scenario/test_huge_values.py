"""Numbers and nestings beyond what any key means are refused in a line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import Bandwise

from sim.scenario import ScenarioError, load, load_study, loading, sweep

DIGITS = "9" * 5000
SETTINGS = {
    "an integer beyond any float": ("model.parameters=1" + "0" * 400, "at most 1e30"),
    "an integer of 5,000 digits": (f"model.parameters={DIGITS}", "model.parameters: "),
    "one in base 16": (f"model.parameters=0x{'f' * 5000}", "0xffff"),
    "one in quotes": (f'model.parameters="{DIGITS}"', "more digits than any sensible number"),
    "one with a unit": (f"network.bandwidth={DIGITS} Gbit/s", "more digits than any sensible"),
    "one in a list": (f"model.layer_parameters=[1, {DIGITS}]", "model.layer_parameters: "),
    "one in a matrix": (
        f'network.bandwidth={{unit = "Gbit/s", matrix = [[0, {"9" * 400}], [1, 0]]}}',
        "network.bandwidth: ",
    ),
    "an argument of a method": (f"method.sync_every=1{'0' * 400}", "method.sync_every: "),
    "bytes per element": ("method.comm_dtype=1e400", "must be"),
    "a float beyond all": ("site.speed=1e400", "must be a finite number"),
    "a deep list": ("model.layer_parameters=" + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "a list of twenty levels": ("run.seed=" + "[" * 20 + "]" * 20, "nested too deeply; at most 16"),
    "a deep table": ("model.x=" + "{a = " * 900 + "1" + "}" * 900, "nested too deeply"),
    "a deep key": (f"{'.'.join('a' * 3000)}=1", "a key has at most 16 names"),
    "a deep key of many words": ("a." * 900 + "b=" + "{a = " * 900, "at most 16 names"),
    "a deep key below another": (f"site.jitter.{'.'.join('a' * 3000)}=1", "at most 16 names"),
}


@pytest.mark.parametrize(("setting", "says"), SETTINGS.values(), ids=SETTINGS)
def test_a_setting_beyond_all_bounds_is_refused(setting: str, says: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        load(None, {"--model": "1B", "--step-time": "1s"}, [setting])
    _is_one_short_line(str(refused.value), says)


@pytest.mark.parametrize("value", [DIGITS, "1" + "0" * 400, "0x" + "f" * 5000])
@pytest.mark.parametrize(
    "key", ["network.bandwidth", "sync_every", "model.parameters", "site.speed", "run.seed"]
)
def test_an_axis_beyond_all_bounds_is_refused(key: str, value: str) -> None:
    for values in (f"{value},1", f"1,{value}", f"1..{value}:3", f"1..10:{value}"):
        with pytest.raises(ScenarioError) as refused:
            sweep(None, {"--model": "1B", "--step-time": "1s"}, [], [f"{key}={values}"])
        _is_one_short_line(str(refused.value), f"--over {key}")


@pytest.mark.parametrize("end", ["inf", "1e400", "-inf", "nan"])
def test_a_range_of_an_axis_ends_at_finite_numbers(end: str) -> None:
    for values in (f"{end}..2:3", f"1..{end}:3"):
        with pytest.raises(ScenarioError) as refused:
            sweep(None, {"--model": "1B"}, [], [f"site.cold_start_time={values}"])
        _is_one_short_line(str(refused.value), "numbers, like 10..1000:3")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"model.parameters = {DIGITS}", "line 2: model.parameters: holds an integer of more"),
        ("model.parameters = 1" + "0" * 400, "model.parameters: is beyond any sensible number"),
        ("run.seed = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        (f'study.axis."run.seed" = [1, {"9" * 400}]', "study.axis.run.seed[1]: is beyond any"),
        (f"{'.'.join('a' * 5000)} = 1", "a.a.a.a.a.a: nested too deeply; at most 16 levels"),
    ],
)
def test_a_file_beyond_all_bounds_is_refused(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "huge.toml"
    path.write_text(f'name = "huge"\n{line}\n')
    for read in (load, load_study):
        with pytest.raises(ScenarioError) as refused:
            read(path)
        _is_one_short_line(str(refused.value), says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"run.seed = {DIGITS}", "holds an integer of more digits"),
        ("run.seed = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("run.seed = [1", "not valid TOML"),
        ("study = 3", "must be a table: [study]"),
        ("\x00", "is not a text file"),
    ],
)
def test_a_damaged_file_among_the_bundled_ones_is_named(
    text: str, says: str, tmp_path: Path, bandwise: Bandwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.toml").write_text(text)
    monkeypatch.setattr(loading, "bundled_folder", lambda: tmp_path)
    for command in (["scenarios"], ["simulate", "broken"], ["reproduce", "none"]):
        loading._by_other_names.cache_clear()
        ran = bandwise(*command)
        assert ran.status == 2
        _is_one_short_line(ran.err.rstrip("\n"), says)
        assert "broken.toml" in ran.err
    loading._by_other_names.cache_clear()


def test_the_command_line_shortens_what_it_repeats(bandwise: Bandwise) -> None:
    ran = bandwise("simulate", "--" + "x" * 9000)
    assert ran.status == 2
    _is_one_short_line(ran.err.rstrip("\n"), "no such option")


def _is_one_short_line(text: str, says: str) -> None:
    assert says in text
    assert text.isprintable()
    assert len(text) < 1700
