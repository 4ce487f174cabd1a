"""The measuring command, from the prompt to the table."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from realrun.model.build import build
from realrun.runnable import check_runnable, limits, sequences
from sim.scenario import ScenarioError, loaded

# Of quick_start, as small as still learns: most of the time is torch's own start.
SMALL = [
    "quick_start",
    *("--set", "model.hidden=64", "--set", "model.layers=3", "--set", "model.context=64"),
    *("--set", "site.batch_tokens=512", "--set", "train.learning_rate=0.005"),
]


def realrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "realrun", "train", *arguments],
        env={**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_quick_start_trains_and_ends_with_measured_figures() -> None:
    done = realrun(*SMALL, "--set", "run.steps=30", "--check-replicas", "--evaluate-every", "1")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())  # however the lines are broken
    found = re.search(r"Loss (\S+) to (\S+) nats per token, (\S+) on text", said)
    assert found is not None
    first, last, unseen = map(float, found.groups())
    assert last < first - 1  # from ln 256 towards the text's own entropy
    assert unseen < first - 1
    assert done.stdout.startswith("Measured")
    assert "compute utilization" in done.stdout
    compared = "Replicas were compared: no difference in 4 comparisons; the times include them"
    assert compared in said
    assert "The times include 2 evaluations, under other." in said
    told = re.findall(r"realrun: round (\d), (\S+) tokens, loss (\S+) on text", done.stderr)
    assert [(int(number), tokens) for number, tokens, _ in told] == [(1, "10Ki"), (2, "20Ki")]
    assert all(float(loss) < first - 1 for _, _, loss in told)
    table = said.partition("Loss on text that no worker trains on, rank 0's model (all)")[2]
    shown = re.findall(r" (\d) (\d+Ki) (\d\.\d+)", table)
    assert shown == told


def test_fp4_trains_as_well_and_its_quantizing_is_in_the_table() -> None:
    done = realrun(
        *(*SMALL, "--set", "run.steps=20", "--set", "method.comm_dtype=fp4"),
        *("--set", "network.collective.quantize_block=64"),
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"Loss (\S+) to (\S+) nats", " ".join(done.stdout.split()))
    assert found is not None
    assert float(found[2]) < float(found[1]) - 1
    assert re.search(r"^quantize +\d", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (
            "quick_start",
            ["method.comm_dtype=fp4", "network.collective.quantize_block=0"],
            "network.collective.quantize_block = 0 sends no scales",
        ),
        ("quick_start", ["run.steps=steady"], '"steady" never ends'),
        ("quick_start", ["train.batch=7"], "train.batch: 7: site.batch_tokens = 1024 and"),
        ("three_sites", [], 'kind = "gpt"'),
    ],
)
def test_a_scenario_that_cannot_be_trained(source: str, settings: list[str], message: str) -> None:
    asked = loaded(source, {}, settings)
    scenario, file = asked.scenario, asked.sections

    def read() -> None:
        check_runnable(scenario, file, len(scenario.workers))
        limits(scenario)
        sequences(scenario, 0, build(file.model, scenario.model), file.train)

    with pytest.raises(ScenarioError) as refused:
        read()
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "message"), [("quick_strat", "quick_strat"), ("three_sites", 'kind = "gpt"')]
)
def test_a_mistake_is_one_line(source: str, message: str) -> None:
    done = realrun(source)
    assert done.returncode == 2
    lines = {line for line in done.stderr.splitlines() if "realrun: error" in line}
    assert len(lines) == 1
    assert message in lines.pop()
    assert "Traceback" not in done.stderr
