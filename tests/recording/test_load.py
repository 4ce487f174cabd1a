"""How busy the processors were while a program was recorded, and what predictions say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.recordings import blocking_steps

from realrun.recording.load import load_of
from realrun.recording.parts import Load, Part
from sim.recording.files import save
from sim.scenario import load

S = 1_000_000_000


def part(rank: int, busy: float, machine: float | None, clock: str = "here", **about: Any) -> Part:
    """A rank that keeps so much of a core busy, looked at every second for ten of them."""
    found = Part(Path("x"), {"rank": rank, "workers": 2, "clock": clock, "cores": 2} | about)
    found.loads = [
        Load(s * S, round(busy * s * S), None if machine is None else round(machine * s * S))
        for s in range(11)
    ]
    return found


SPANS = [(int(2.5 * S), int(8.5 * S))] * 2


def test_ranks_and_others_of_a_machine_are_told_apart() -> None:
    parts = [part(0, 0.5, 1.75), part(1, 0.75, 1.75)]
    assert load_of(parts, SPANS) == {"cores": 2, "busy_cores": 1.25, "others_busy_cores": 0.5}


def test_the_fullest_of_several_machines_counts() -> None:
    parts = [part(0, 0.5, 0.5, "one"), part(1, 0.9, 1.0, "other", cores=1)]
    assert load_of(parts, SPANS) == {"cores": 1, "busy_cores": 0.9, "others_busy_cores": 0.1}


@pytest.mark.parametrize("missing", [{"cores": None}, {"loads": []}])
def test_what_no_machine_says_is_not_known(missing: dict[str, Any]) -> None:
    parts = [part(0, 1.0, 1.0), part(1, 1.0, 1.0)]
    parts[0].about |= {key: value for key, value in missing.items() if key == "cores"}
    parts[0].loads = missing.get("loads", parts[0].loads)
    assert load_of(parts, SPANS) == {}
    parts = [part(0, 0.5, None), part(1, 0.5, None)]
    assert load_of(parts, SPANS)["others_busy_cores"] is None


@pytest.mark.parametrize(
    ("known", "begins"),
    [
        ({}, []),
        ({"cores": 2, "busy_cores": 1.5, "others_busy_cores": 0.1}, []),
        ({"cores": 2, "busy_cores": 1.76, "others_busy_cores": None}, ["Full processors: "]),
        ({"cores": 4, "busy_cores": 1.9, "others_busy_cores": 0.5}, ["Busy machine: "]),
    ],
)
def test_a_prediction_says_what_its_recording_is_worth(
    tmp_path: Path, known: dict[str, Any], begins: list[str]
) -> None:
    path = tmp_path / "r.parquet"
    save(blocking_steps(), {"workers": 2, **known}, path)
    found = load(str(path), {"--bandwidth": "1Gbit/s"})
    assert len(found.warnings) == len(begins)
    for line, begin in zip(found.warnings, begins, strict=True):
        assert line.startswith(begin)
        assert "r.parquet" in line
