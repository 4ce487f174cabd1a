"""A few of the inputs of `make fuzz`: each is answered, or refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.thorough import examples

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fuzz
import fuzz_damage
import fuzz_inputs
import fuzz_oracle

from sim.runtime import limits

SEED = 2024


@pytest.fixture(autouse=True)
def _limits_of_other_tests_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """What :func:`fuzz.bounded` sets in this process is set back."""
    for name in ("MOST_ROWS", "MOST_MESSAGES"):
        monkeypatch.setattr(limits, name, getattr(limits, name))


@pytest.mark.parametrize("kind", fuzz_inputs.MAKERS)
def test_mutated_inputs_are_answered_or_refused_in_one_line(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "MOST_ROWS", 50_000)
    of_kind = (fuzz_inputs.made(SEED, number) for number in range(examples(200)))
    asked = [each for each in of_kind if each.kind == kind]
    assert len(asked) > 3
    outcomes = [(each, fuzz_oracle.outcome(each)) for each in asked]
    assert [(each.number, found) for each, found in outcomes if found.failed] == []
    assert "refused" in {found.kind for _, found in outcomes}


@pytest.mark.parametrize("kind", fuzz_damage.KINDS)
def test_damaged_files_are_refused_or_read_as_they_were(kind: str) -> None:
    if kind in fuzz_damage.WITH_TORCH:
        pytest.importorskip("torch")
    tried = [fuzz_damage.Damage(kind, SEED, number) for number in range(examples(20))]
    outcomes = [(each, fuzz_damage.outcome(each)) for each in tried]
    assert [(each.number, found) for each, found in outcomes if found.failed] == []
    assert "refused" in {found.kind for _, found in outcomes}


def test_an_input_that_fails_is_seen_and_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.cli.methods.methods", None)
    asked = fuzz_inputs.Input("command", 0, ("methods", "a", "b"), {"f.toml": "x = 1\ny = 2\n"})
    assert fuzz_oracle.outcome(asked).kind == "traceback"
    left = fuzz_oracle.smaller(asked)
    assert left.arguments == ("methods",)
    assert left.files == {"f.toml": ""}


def test_the_report_counts_by_kind_and_keeps_what_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = fuzz.Report(tmp_path)
    damage = fuzz_damage.Damage("journal", SEED, 2)
    report.add(damage, fuzz_oracle.Outcome("answered"))
    report.add(damage, fuzz_oracle.Outcome("read as if whole", "cut"))
    report.add(fuzz_inputs.made(SEED, 3), fuzz_oracle.Outcome("refused"))
    report.print()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["damaged", "journal", "2", "0", "1", "1"] in rows
    assert ["all", "3", "1", "1", "1"] in rows
    assert fuzz.again(tmp_path / "damaged-journal-2.json") == 0  # as it is read well now
    assert capsys.readouterr().out.split()[0] in ("refused", "answered")


def test_inputs_of_a_seed_are_different_and_the_same_again() -> None:
    first, second = (list(fuzz_inputs.different(SEED, 100)) for _ in range(2))
    assert first == second
    assert len({(each.arguments, str(each.files)) for each in first}) == 100
