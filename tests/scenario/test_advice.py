"""Advice in messages can be followed as it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.command_line import Bandwise

from sim.methods import METHODS
from sim.scenario import OPTIONS, ScenarioError, load, sweep
from sim.scenario.method import method_arguments, parameters_of
from sim.scenario.schema import SECTIONS, known_keys
from sim.scenario.words import SYNONYMS

ENOUGH = {"--sites": "2", "--step-time": "1s", "--bandwidth": "1Gbit/s", "--batch-tokens": "1Mi"}
# Values for keys whose message shows none.
VALUES = {
    "network.profile": '[["0 h", 0.4]]',
    "method.name": "diloco",
    "method.fragment_update_alpha": "0.5",
    "method.outer_lr": "0.7",
    "method.outer_momentum": "0.9",
    "method.use_nesterov": "true",
    "method.zero1": "true",
    "run.tokens": "100B",
    "model.module": "mine:Model",
    "model.loss": "mine:loss",
    "model.active_parameters": "1B",
    "model.hidden": "128",
    "site.mfu": "0.4",
    "site.jitter.cv": "0.1",
    "network.loss": "0.01",
    "network.collective.algorithm": "ring",
    "train.learning_rate": "0.1",
}
DECODER = [
    "model.kind=gpt",
    "model.hidden=128",
    "model.heads=2",
    "model.layers=2",
    "model.vocabulary=256",
]
# What else must be there for a key to make sense.
WITH = {
    "site.mfu": ["site.accelerators=H100"],
    "site.jitter.cv": ["site.jitter.distribution=lognormal"],
    "model.module": ["model.layer_parameters=[1000, 1000]"],
    "model.loss": ["model.layer_parameters=[1000, 1000]", "model.module=mine:Model"],
    **{
        f"model.{key}": DECODER
        for key in ("hidden", "heads", "feed_forward", "vocabulary", "context")
    },
}


def load_with(key: str, value: str, method: str) -> None:
    """Load a scenario in which one key was set as the advice has it."""
    options = {"--method": method, **ENOUGH}
    if key == "site":
        load(None, {**options, "--model": "10B", "--sites": value})
        return
    settings = [*(s for s in WITH.get(key, ()) if not s.startswith(f"{key}=")), f"{key}={value}"]
    if not any(s.startswith(("model.p", "model.layer_p", "model.kind")) for s in settings):
        options["--model"] = "10B"
    if key in ("site.accelerators", "site.mfu"):
        options.pop("--step-time")
    options = {name: text for name, text in options.items() if OPTIONS[name].key != key}
    load(None, options, settings)


def follow(message: str, method: str) -> str:
    """Do what a message says; return the key that it named."""
    if "[[site]]" in message:
        sites = re.search(r"--sites (\d+)", message)
        assert sites, message
        load_with("site", sites[1], method)
        return "site"
    found = re.search(r"here it is called ([\w.]+)(?:, written like (.+?))?(?: \(|$)", message)
    assert found, message
    key, value = found[1], found[2]
    value = (value or VALUES.get(key, "2")).strip('"')
    others = re.search(r"does not take it; (.+) (?:do|does)\)", message)
    for name in re.split(", | and ", others[1]) if others else [method]:
        load_with(key, value, name)
    return key


def of_the_word(message: str) -> bool:
    return "here it is called" in message


@pytest.mark.parametrize("method", ["ddp", "streaming_diloco", "acco"])
def test_every_letter_and_foreign_word_leads_to_a_key_that_loads(method: str) -> None:
    for word, keys in SYNONYMS.items():
        for key in keys:
            section = key.rpartition(".")[0] or "site"
            if word in SECTIONS.get(tuple(section.split(".")), SECTIONS[()]).model_fields:
                continue
            with pytest.raises(ScenarioError) as error:
                load(None, {"--model": "10B", "--method": method}, [f"{section}.{word}=4"])
            message = str(error.value)
            if of_the_word(message):
                assert follow(message, method) == key, message
            else:  # a letter of another case, like a slip of the pen
                assert f"did you mean {section}." in message, message


@pytest.mark.parametrize("method", ["ddp", "streaming_diloco"])
def test_words_of_other_sections_written_under_method_lead_to_their_section(method: str) -> None:
    for word, keys in SYNONYMS.items():
        if word in method_arguments():
            continue
        with pytest.raises(ScenarioError) as error:
            load(None, {"--model": "10B", "--method": method}, [f"method.{word}=4"])
        message = str(error.value)
        if of_the_word(message):
            assert follow(message, method) in keys, message
        else:
            assert re.search(r"did you mean method\.\w+\?", message), message


def slips() -> Iterator[tuple[str, str, str]]:
    """(section, a misspelled last part, the key) of every key."""
    for key in [*known_keys(), *(f"method.{name}" for name in method_arguments())]:
        section, _, name = key.rpartition(".")
        if section and len(name) > 4:
            yield section, name[:-2] + name[-1] + name[-2], key


def test_a_slip_of_the_pen_leads_to_a_key_of_its_own_section() -> None:
    for section, word, key in slips():
        if word == key.rpartition(".")[2]:
            continue  # the last two letters are the same
        with pytest.raises(ScenarioError) as error:
            load(None, {"--model": "10B", "--jitter": "lognormal:0.1"}, [f"{section}.{word}=4"])
        message = str(error.value)
        argument = section == "method" and key.rpartition(".")[2]
        if argument and argument not in parameters_of(METHODS["streaming_diloco"]).annotations:
            continue  # of other methods
        assert f"did you mean {key}?" in message, message


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("network.lss=0.1", "network.loss?"),
        ("network.los=0.1", "network.loss?"),
        ("model.los=mine:f", "model.loss?"),
        ("run.loss=0.1", "model.loss or network.loss?"),
        ("train.batch_size=4", "train.batch"),
        ("network.within.ping=4", "network.within.rtt"),
    ],
)
def test_the_nearest_key_of_the_section_goes_before_those_of_others(
    setting: str, advice: str
) -> None:
    with pytest.raises(ScenarioError) as error:
        load(None, {"--model": "10B"}, [setting])
    assert advice in str(error.value)


def test_an_argument_of_another_method_names_the_methods_that_take_it() -> None:
    with pytest.raises(ScenarioError, match="ddp does not take sync_every") as error:
        load(None, {"--model": "10B", "--method": "ddp", "--sync-every": "10"})
    names = re.search(r"\((.+) do\)", str(error.value))
    assert names
    for name in re.split(", | and ", names[1]):
        load(None, {"--model": "10B", "--method": name, "--sync-every": "10"})


@pytest.mark.parametrize("word", ["H", "tau", "inner-steps", "num_diloco_replicas", "lr", "bw"])
def test_a_word_as_an_option_leads_to_the_option_or_the_key(word: str, bandwise: Bandwise) -> None:
    ran = bandwise("simulate", "--model", "10B", f"--{word}", "4")
    assert ran.status == 2
    option = re.search(r"here it is called (--[\w-]+)", ran.err)
    assert (option and option[1] in OPTIONS) or "; use --set " in ran.err, ran.err
    if option is None:
        setting = re.search(r"--set (\S+)", ran.err)
        assert setting
        load(None, {"--model": "10B"}, [setting[1]])


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("--egress 80", "site.egress_price"),
        ("--egress-price 80", "site.egress_price"),
        ("--price 2.1", "site.price"),
        ("--price=2EUR/h", "site.price"),
        ("--power 700", "site.power"),
        ("--memory 80", "site.memory"),
    ],
)
def test_a_key_as_an_option_leads_to_a_setting_with_a_unit_that_loads(
    typed: str, key: str, bandwise: Bandwise
) -> None:
    asked = {"--model": "10B", "--accelerators": "8 x H100"}
    ran = bandwise("simulate", *(w for pair in asked.items() for w in pair), *typed.split())
    assert ran.status == 2
    setting = re.search(r'use --set (\S+=(?:"[^"]+"|\S+))', ran.err)
    assert setting, ran.err
    assert setting[1].startswith(f"{key}=")
    load(None, asked, [setting[1].replace('"', "")])
    assert ("site.uplink" in ran.err) == (typed == "--egress 80")  # its rate


@pytest.mark.parametrize("command", ["simulate", "required", "plan"])
@pytest.mark.parametrize("option", ["--budget", "--max-cost"])
def test_money_is_named_as_what_cannot_be_limited(
    command: str, option: str, bandwise: Bandwise
) -> None:
    ran = bandwise(command, "--model", "10B", option, "3000EUR")
    assert ran.status == 2
    assert "cost is printed where site.price is given, and cannot be limited" in ran.err
    assert "did you mean" not in ran.err


def test_a_word_under_over_leads_to_a_key_that_can_be_varied() -> None:
    for word, value in {"H": "10,20", "tau": "1,2", "num_sites": "2,3", "bw": "1,2Gbit/s"}.items():
        with pytest.raises(ScenarioError, match="here it is called") as error:
            sweep(None, {"--model": "10B"}, [], [f"{word}={value}"])
        key = str(error.value).partition("here it is called ")[2].partition(",")[0]
        assert len(sweep(None, {"--model": "10B"}, [], [f"{key}={value}"]).cases()) == 2
