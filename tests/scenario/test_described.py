"""What the reference says of a key is what the scenario does."""

from __future__ import annotations

import pytest

from sim.scenario import load
from sim.scenario.schema import SECTIONS


def said(key: str) -> str:
    *path, name = key.split(".")
    extra = SECTIONS[tuple(path)].model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return str(extra["default"])


@pytest.mark.parametrize(
    ("settings", "at_least"),
    [
        (["model.parameters=7B", "site.step_time=1s", "site.workers=2"], 25),
        (["model.name=1B", "site.accelerators=8 x H100", "network.loss=0.1%"], 25),
        (["model.name=1B", "network.collective.algorithm=gloo", "network.window=4MB"], 25),
    ],
)
def test_the_defaults_that_are_explained_are_those_that_are_assumed(
    settings: list[str], at_least: int
) -> None:
    assumed = dict(load(None, {}, settings).assumed)
    # Whose default is said in words, because it depends on the model or on other keys.
    words = ("model.layers", "model.active_parameters", "site.step_time", "site.peak", "site.count")
    words += ("network.collective.algorithm",)
    checked = [key for key in assumed if not key.startswith("method.") and key not in words]
    checked += ["method.name"]
    by_gloo = {"network.collective.concurrent": "2", "network.collective.order": "that of"}
    for key in checked:
        expected = said(key)
        if "network.collective.algorithm=gloo" in settings:
            expected = by_gloo.get(key, expected)
        assert assumed[key].startswith(expected), f"{key}: {assumed[key]}, explained as {expected}"
    assert len(checked) >= at_least


def test_the_defaults_of_train_are_those_of_the_optimizer() -> None:
    pytest.importorskip("torch")
    from realrun.model.optimizers import Inner

    assert float(said("train.learning_rate")) == Inner.learning_rate
    assert float(said("train.weight_decay")) == Inner.weight_decay
    assert int(said("train.warmup_steps")) == Inner.warmup_steps


def test_every_key_says_what_it_means_and_what_holds_without_it() -> None:
    for path, section in SECTIONS.items():
        for name, field in section.model_fields.items():
            if (*path, name) in SECTIONS and name != "jitter":
                continue
            key = ".".join((*path, name))
            assert field.description, f"{key} has no sentence"
            assert field.description.endswith("."), f"{key}: {field.description}"
            assert said(key), key
