"""From rows with known errors to every number that a validation prints."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from itertools import count
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from support.imports import imported
from support.plain_scenario import machine, plain

from realrun.validation import lost_time, pictures
from realrun.validation.configurations import configurations, deviations, differences
from realrun.validation.order import order
from realrun.validation.report import findings, report, write
from realrun.validation.rows import COLUMNS, checked, load, save
from realrun.validation.statistics import (
    cause_errors,
    errors,
    median_of,
    quantile,
    ratio,
    size_of_errors,
)
from realrun.validation.timelines import save_both, timelines
from realrun.validation.verdict import checks
from realrun.validation.worst_cases import warned, worst
from sim.runtime import simulate
from sim.trace.table import Trace

PACKAGE = Path(__file__).parents[2] / "realrun" / "validation"
ABOUT = {"study": "slow links", "machine": "two cores", "date": "a day in May"}


def row(run: int, error: float = 0.0, measured: float = 1.0, **other: Any) -> dict[str, Any]:
    """One run of 10 steps per round: 0.5 computing, 0.4 exposed, 0.1 waiting of its time.

    What is mispredicted is exposed communication.
    """
    values: dict[str, Any] = {
        "run": run,
        "repeat": 0,
        "order": run,
        "scenario": f"case {run}",
        "method": "ddp",
        "arguments": "",
        "workers": 2,
        "bandwidth_bytes_per_s": 12.5e6,
        "rtt_s": 0.04,
        "heterogeneity": "equal",
        "compute_mode": "paced",
        "predicted_s": measured * (1 + error),
        "measured_s": measured,
        "predicted_exposed_s": measured * (0.4 + error),
        "measured_exposed_s": 0.4 * measured,
        "predicted_waiting_s": 0.1 * measured,
        "measured_waiting_s": 0.1 * measured,
        "predicted_compute_s": 0.5 * measured,
        "measured_compute_s": 0.5 * measured,
        "measured_other_s": 0.0,
        "predicted_setup_s": 0.0,
        "measured_setup_s": 0.0,
        "predicted_sent_bytes": 1e6,
        "measured_sent_bytes": 1e6,
        "communication_share": 0.5,
        "rounds": 10,
        "bandwidth_only_s": measured * 0.8,
        "alpha_beta_s": measured * 0.9,
        "other_calibration_s": nan,
        "out_of_step_s": nan,
        "extrapolated": "",
        "busy": 0.01,
        "tolerance_applies": True,
        **{name: 0.0 for name in COLUMNS if "quantize" in name or "optimizer" in name},
        "predicted_contention_s": 0.0,
    }
    values |= other
    values.setdefault("predicted_per_step_s", values["predicted_s"] / 10)
    values.setdefault("measured_per_step_s", values["measured_s"] / 10)
    values.setdefault("predicted_utilization", 0.5 * measured / values["predicted_s"])
    values.setdefault("measured_utilization", 0.5)
    return values


def table_of(*rows: dict[str, Any], threshold: float = 0.3) -> pd.DataFrame:
    return configurations(checked(pd.DataFrame(rows)), threshold)


SIGNED = (-0.02, 0.01, 0.03, -0.04, 0.10)


def known() -> pd.DataFrame:
    return table_of(*(row(number, error) for number, error in enumerate(SIGNED)))


# Rows


def test_a_large_error_without_a_warning_is_named() -> None:
    frame = table_of(
        row(0, 0.14),
        row(1, 0.4, tolerance_applies=False),
        row(2, -0.2, extrapolated="rtt"),
        row(3, 0.3, scenario="the silent one"),
    )
    assert warned(frame) == (
        "Errors of wall-clock above 15.00 %: 3. Predictions warned beforehand: MORE WORKERS THAN "
        "CORES in 1, EXTRAPOLATED in 1. Without a warning: the silent one."
    )
    assert warned(frame[:3]).endswith("None came without a warning.")
    assert warned(frame[:1]) == "No error of wall-clock is above 15.00 %."
    assert "case 1 (informative), MORE WORKERS THAN CORES" in worst(frame)


def test_a_start_that_is_not_simultaneous_is_warned_of() -> None:
    frame = table_of(row(0, -0.4, out_of_step_s=1.5), row(1, 0.3, scenario="the silent one"))
    assert warned(frame).endswith(
        "Predictions warned beforehand: IN STEP OR NOT in 1. Without a warning: the silent one."
    )
    assert "IN STEP OR NOT: 1.5 s if not" in worst(frame)


def test_a_file_from_before_a_column_was_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    save(pd.DataFrame([row(0, 0.1)]).drop(columns="out_of_step_s"), path)
    text = pd.read_csv(path).drop(columns="out_of_step_s")
    text.to_csv(path, index=False)
    assert load(path)["out_of_step_s"].isna().all()


def test_rows_read_back_exactly(tmp_path: Path) -> None:
    frame = pd.DataFrame([row(0, 0.1 / 3), row(1, extrapolated="rtt, bandwidth", arguments="a=1")])
    save(frame, tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    pd.testing.assert_frame_equal(load(tmp_path / "report.csv"), checked(frame))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measured_s": 0.0}, "run 3, repeat 0: measured_s must be positive, not 0"),
        ({"predicted_s": nan}, "run 3, repeat 0: predicted_s must be positive, not nan"),
        ({"predicted_s": inf}, "run 3, repeat 0: predicted_s must be positive, not inf"),
        ({"communication_share": nan}, "run 3, repeat 0: communication_share is missing, not nan"),
        ({"run": 2}, "run 2: repeat 0 is there twice"),
        ({"run": 2, "repeat": 1}, "run 2: scenario is not the same in all repeats"),
        ({"rounds": "many"}, "rounds is not a whole number in every row"),
        ({"rtt_s": "40 ms"}, "rtt_s is not a number or empty in every row"),
        ({"tolerance_applies": "no"}, "tolerance_applies is not True or False in every row"),
        ({"scenario": "case 2"}, "scenario case 2: is the label of several configurations"),
    ],
)
def test_rows_that_contradict_are_refused(changes: dict[str, Any], message: str) -> None:
    first, second = row(2), row(3)
    with pytest.raises(ValueError) as refused:
        checked(pd.DataFrame([first, {**second, **changes}]))
    assert str(refused.value) == message


def test_rows_that_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no column run, repeat"):
        checked(pd.DataFrame({"scenario": ["a"]}))
    with pytest.raises(ValueError, match="no run was measured"):
        checked(pd.DataFrame(columns=list(COLUMNS)))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other.csv: not a validation's report.csv: no column"):
        load(tmp_path / "other.csv")


# Configurations


def test_a_configuration_is_the_median_of_its_repeats() -> None:
    rows = [
        row(1, measured=1.0, repeat=number, measured_s=seconds)
        for number, seconds in enumerate((1.0, 1.25, 3.0))
    ]
    table = table_of(*rows)
    assert table.loc[0, ["measured_s", "predicted_s", "repeats"]].tolist() == [1.25, 1.0, 3]
    assert table.loc[0, "error"] == pytest.approx(-0.2)
    assert table.loc[0, "spread"] == pytest.approx(2 / 1.25)


def test_informative_begins_at_the_threshold() -> None:
    shares = (0.1 + 0.2, 0.2999, 0.3, 0.9)
    rows = [row(number, communication_share=share) for number, share in enumerate(shares)]
    assert table_of(*rows)["informative"].tolist() == [True, False, True, True]


def test_noise_is_between_repeats_of_one_configuration() -> None:
    rows = [row(1, repeat=0, measured_s=0.99), row(1, repeat=1, measured_s=1.01)]
    rows += [row(2, repeat=number, measured_s=s) for number, s in enumerate((2.0, 2.0, 2.2))]
    rows.append(row(3, measured_s=100.0))
    frame = checked(pd.DataFrame(rows))
    np.testing.assert_allclose(deviations(frame), [[0.01, 0.01, nan], [0.0, 0.0, 0.1]])
    np.testing.assert_allclose(differences(frame), [[0.02, nan, nan], [0.0, 0.1, 0.1]])
    assert median_of(deviations(frame)).value == pytest.approx(0.01)
    assert deviations(checked(pd.DataFrame([row(1)]))).shape == (0, 0)


# Statistics


def test_errors_by_hand() -> None:
    found = errors(known())
    assert found.count == 5
    assert found.median.value == pytest.approx(0.03)
    assert found.p95.value == pytest.approx(0.2 * 0.04 + 0.8 * 0.10)
    assert found.largest == pytest.approx(0.10)
    assert found.bias.value == pytest.approx(0.01)


def test_quantiles_are_numpys_and_hold_with_what_is_infinite_or_missing() -> None:
    values = np.random.default_rng(0).normal(size=(3, 8))
    for q in (0.0, 0.025, 0.5, 0.95, 1.0):
        np.testing.assert_allclose(quantile(values, q), np.quantile(values, q, axis=-1))
    assert quantile(np.array([1.0, inf, inf]), 0.95) == inf
    assert isnan(quantile(np.array([nan, nan]), 0.5))
    assert isnan(quantile(np.array([]), 0.5))


def test_intervals_are_of_configurations_not_of_runs() -> None:
    repeated = [
        row(number, error, repeat=repeat)
        for number, error in enumerate(SIGNED)
        for repeat in range(20)
    ]
    assert errors(table_of(*repeated)) == errors(known())
    found = errors(known()).bias
    assert found.low < found.value < found.high
    assert found.low >= -0.04 - 1e-12
    assert found.high <= 0.10 + 1e-12


def test_an_interval_covers_the_truth() -> None:
    """Of 200 samples of 30 from a normal distribution about 95 % have its median inside."""
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        found = median_of(random.normal(size=30))
        inside += found.low <= 0 <= found.high
    assert 180 <= inside <= 199


def test_one_configuration_has_no_interval_and_none_has_nothing() -> None:
    one = errors(table_of(row(1, 0.05)))
    assert one.median.value == pytest.approx(0.05)
    assert isnan(one.median.low)
    assert isnan(one.median.high)
    none = errors(known().iloc[:0])
    assert none.count == 0
    assert isnan(none.median.value)
    assert isnan(none.largest)


def test_models_are_compared_on_the_same_configurations() -> None:
    rows = [row(1, 0.01), row(2, 0.05, bandwidth_only_s=0.5), row(3, 0.02, bandwidth_only_s=nan)]
    table = table_of(*rows)
    assert errors(table, "bandwidth only").count == 2
    assert ratio(table, "calibrated", "bandwidth only").value == pytest.approx(0.03 / 0.35)
    assert ratio(table, "calibrated", "other calibration").count == 0


def test_exposed_communication_that_was_not_measured_or_not_predicted() -> None:
    table = table_of(
        row(1, measured_exposed_s=0.0, predicted_exposed_s=0.0),
        row(2, measured_exposed_s=0.0, predicted_exposed_s=0.1),
        row(3, measured_exposed_s=0.1, predicted_exposed_s=0.0),
        row(4, measured_exposed_s=0.1, predicted_exposed_s=0.125),
    )
    size = size_of_errors(table, "exposed_communication")
    np.testing.assert_allclose(size, [0.0, inf, 1.0, 0.25])
    assert median_of(size).value == pytest.approx(0.625)


def test_waiting_and_utilization_have_errors_of_their_own() -> None:
    table = table_of(
        row(1, predicted_waiting_s=0.11, predicted_utilization=0.53),
        row(2, measured_waiting_s=0.04, predicted_waiting_s=0.4, predicted_utilization=0.48),
    )
    np.testing.assert_allclose(size_of_errors(table, "waiting"), [0.1])
    np.testing.assert_allclose(size_of_errors(table, "compute_utilization"), [0.03, 0.02])


def test_causes_add_up_to_the_error() -> None:
    table = table_of(row(1, 0.1), row(2, -0.05, measured=3.0))
    missed = cause_errors(table)
    np.testing.assert_allclose(missed.sum(axis=1), table["error"], atol=1e-15)
    np.testing.assert_allclose(missed["exposed communication"], [0.1, -0.05])


def test_contention_is_held_against_measured_compute() -> None:
    changes = {"predicted_compute_s": 0.45, "predicted_contention_s": 0.05}
    assert cause_errors(table_of(row(1, **changes)))["compute"].iloc[0] == pytest.approx(0.0)
    unknown = {"predicted_compute_s": 0.45, "predicted_contention_s": nan}
    assert cause_errors(table_of(row(1, **unknown)))["compute"].iloc[0] == pytest.approx(-0.05)


# Order of methods


def pair(measured: tuple[float, ...], predicted: tuple[float, ...], **other: Any) -> pd.DataFrame:
    names = ("ddp", "diloco", "acco")
    return table_of(
        *(
            row(
                number,
                method=names[number],
                measured_per_step_s=seen,
                predicted_per_step_s=said,
                **other,
            )
            for number, (seen, said) in enumerate(zip(measured, predicted, strict=True))
        )
    )


def test_order_of_pairs_by_hand() -> None:
    found = order(pair((1.0, 1.2, 1.205), (1.1, 1.0, 1.3)))
    assert (len(found.pairs), found.alike) == (2, 1)
    (wrong,) = found.wrong
    assert (wrong.faster, wrong.slower) == (0, 1)
    assert wrong.measured == pytest.approx(0.2)
    assert wrong.predicted == pytest.approx(1.0 / 1.1 - 1)
    assert found.share.value == 0.5


def test_an_equal_prediction_is_not_in_the_right_order() -> None:
    assert len(order(pair((1.0, 1.2), (1.0, 1.0))).wrong) == 1


def test_pairs_within_the_noise_of_repeats_are_not_counted() -> None:
    noisy = [
        row(0, repeat=n, method="ddp", measured_per_step_s=s) for n, s in enumerate((0.9, 1.1))
    ]
    other = row(1, method="diloco", measured_per_step_s=1.15)
    assert order(table_of(*noisy, other)).alike == 1
    further = row(1, method="diloco", measured_per_step_s=1.25)
    assert len(order(table_of(*noisy, further)).pairs) == 1


def test_methods_on_other_links_or_alone_are_not_compared() -> None:
    rows = [
        row(0, method="ddp"),
        row(1, method="diloco", measured=2.0, rtt_s=0.0),
        row(2, method="acco", measured=3.0, compute_mode="real"),
    ]
    found = order(table_of(*rows))
    assert (found.pairs, found.alike, found.share.count) == ((), 0, 0)


# Verdict


TOLERANCES = {
    "paced": {"wall_clock": {"median": 0.03, "p95": 0.08}, "exposed_communication": {"median": 0.1}}
}


def test_tolerances_are_checked_on_the_informative_half_with_a_target() -> None:
    rows = [row(number, error) for number, error in enumerate(SIGNED)]
    rows.append(row(10, 0.9, communication_share=0.1))
    rows.append(row(11, 0.9, tolerance_applies=False))
    rows.append(row(12, 0.9, compute_mode="real"))
    found = {check.what: check for check in checks(table_of(*rows), TOLERANCES, 0.5)}
    assert {what: check.passed for what, check in found.items()} == {
        "paced: wall-clock, median": True,
        "paced: wall-clock, p95": False,
        "paced: exposed communication, median": True,
        "share of informative configurations": True,
    }
    assert found["paced: wall-clock, median"].seen.value == pytest.approx(0.03)
    assert not found["paced: wall-clock, median"].clear
    assert found["paced: exposed communication, median"].seen.value == pytest.approx(0.075)
    assert found["share of informative configurations"].seen.value == pytest.approx(6 / 7)


def test_what_was_not_seen_does_not_pass() -> None:
    quiet = table_of(row(1, communication_share=0.1))
    found = checks(quiet, {**TOLERANCES, "real": {"wall_clock": {"median": 0.5}}}, 0.5)
    assert [check.passed for check in found] == [False] * 5


@pytest.mark.parametrize(
    ("tolerances", "message"),
    [
        ({"paced": {"loss": {"median": 0.1}}}, "no tolerance of loss: there are wall_clock, "),
        ({"paced": {"wall_clock": {"mean": 0.1}}}, "no tolerance of the mean: there are median"),
    ],
)
def test_unknown_tolerances_are_refused(tolerances: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checks(known(), tolerances, 0.0)


# The report


def said(rows: Any, tolerances: Any = (), informative: Any = None) -> list[str]:
    """Return the report's lines."""
    found = findings(pd.DataFrame(rows), ABOUT, dict(tolerances), informative)
    return report(found).splitlines()


def line(text: list[str], start: str) -> str:
    """Return the line that begins so, with its intervals left out."""
    found = [each for each in text if each.startswith(start)]
    assert found, f"no line begins with {start}"
    return re.sub(r" \[[^]]*\]", "", found[0])


def study() -> pd.DataFrame:
    """Two methods on two links, two repeats 1 % apart; one more that is not informative."""
    numbers = count(1)
    rows = []
    cases = [
        ("ddp", 12.5e6, 0.02, 4.0, ""),
        ("diloco", 12.5e6, -0.04, 2.0, ""),
        ("ddp", 125e6, 0.06, 1.0, "bandwidth"),
        ("diloco", 125e6, -0.10, 0.98, "bandwidth"),
    ]
    for method, bandwidth, error, seconds, outside in cases:
        run = next(numbers)
        for repeat, factor in enumerate((0.995, 1.005)):
            one = row(run, error, seconds, repeat=repeat, method=method, extrapolated=outside)
            one |= {"bandwidth_bytes_per_s": bandwidth, "measured_s": seconds * factor}
            one["measured_per_step_s"] = one["measured_s"] / 10
            rows.append(one)
    rows.append(row(9, 0.5, method="acco", communication_share=0.0, tolerance_applies=False))
    return pd.DataFrame(rows)


def test_every_printed_number() -> None:
    limits = {"paced": {"wall_clock": {"median": 0.05, "p95": 0.08}}}
    text = said(study(), limits, (0.5, 0.3))
    assert text[0] == "# Validation: slow links"
    assert line(text, "**Failed") == (
        "**Failed: 1 of 3 tolerances do not hold.** paced: wall-clock, p95 9.40 % "
        "(limit at most 8 %)."
    )
    assert line(text, "| error of wall-clock") == "| error of wall-clock, median | 5.00 % |"
    # exposed is predicted 0.4 + error for 0.4: 5, 10, 15 and 25 %
    assert line(text, "| error of exposed").endswith("| 12.50 % |")
    assert line(text, "| median error").endswith("| 0.25 |")
    assert "- machine: two cores" in text
    assert "- configurations: 5, each measured 1 to 2 times, 9 runs" in text
    assert "- paced: 5 configurations, 4 of them informative (80.00 %)" in text
    assert line(text, "| paced: wall-clock, p95").endswith(
        "| at most 8 % | 9.40 % | 4 | **no** | no |"
    )
    assert line(text, "| share of").endswith("| at least 50 % | 100 % | 4 | yes | yes |")
    assert line(text, "| informative, calibrated") == (
        "| informative, calibrated | 4 | 5.00 % | 9.40 % | 10.00 % | -1.00 % | - |"
    )
    assert line(text, "| informative, bandwidth only") == (
        "| informative, bandwidth only | 4 | 20.00 % | 20.00 % | 20.00 % | -20.00 % | 0.25 |"
    )
    assert "Not predicted in this study: other calibration." in text
    assert line(text, "| acco |") == (
        "| acco | 1 | 50.00 % | 50.00 % | 50.00 % | +50.00 % | 0 | - | - | - |"
    )
    assert line(text, "| diloco |") == (
        "| diloco | 2 | 7.00 % | 9.70 % | 10.00 % | -7.00 % | 2 | 7.00 % | 9.70 % | -7.00 % |"
    )
    assert line(text, "| 100 Mbit/s |").startswith("| 100 Mbit/s | 3 | 4.00 %")
    assert line(text, "| without a target |").startswith("| without a target | 1 | 50.00 %")
    assert line(text, "| paced, informative |") == (
        "| paced, informative | 4 | 0.50 % | 0.50 % | 1.00 % | 1.00 % | 5.00 % | 9.40 % |"
    )
    assert "1 of 5 configurations were run once and say nothing here." in "\n".join(text)
    assert line(text, "| paced: exposed communication |") == (
        "| paced: exposed communication | 4 | 5.00 % | 9.40 % | -1.00 % "
        "| 4 | 5.00 % | 9.40 % | -1.00 % |"
    )
    # ddp against diloco on the slow link is right, on the fast one too; acco is compared with both
    assert line(text, "**4 of 4 pairs").startswith(
        "**4 of 4 pairs are predicted in the right order**"
    )
    worst = [line for line in text if line.startswith("| case")]
    assert len(worst) == 5
    assert worst[0].startswith(
        "| case 9, MORE WORKERS THAN CORES | acco | 1.5 s | 1 s | +50.00 % |"
    )
    assert "| case 4 (informative), EXTRAPOLATED | diloco | 882 ms | 980 ms | -10.00 %" in worst[1]
    assert "**-10.00 %**" in worst[1]
    assert line(text, "| **EXTRAPOLATED**, all") == (
        "| **EXTRAPOLATED**, all | 2 | 8.00 % | 9.80 % | 10.00 % | -2.00 % |"
    )
    assert line(text, "| EXTRAPOLATED: bandwidth, all").endswith(line(text, "| **E")[26:])
    assert "- Not varied: workers (2)." in text
    assert "- Nothing is known of bandwidth below 100 Mbit/s or above 1 Gbit/s." in text


def test_wrong_pairs_are_listed() -> None:
    rows = [row(1, 0.2), row(2, -0.2, 1.1, method="diloco", arguments="sync_every=10")]
    text = said(rows)
    assert line(text, "**0 of 1 pairs")
    assert line(text, "| 2 workers, 100 Mbit/s, 40 ms, equal, paced |") == (
        "| 2 workers, 100 Mbit/s, 40 ms, equal, paced | ddp | diloco sync_every=10 "
        "| +10.00 % | -26.67 % |"
    )
    assert "Of these, paced: 0 of 1." in text
    assert line(text, "| 2 workers, 100 Mbit/s, 40 ms, equal, paced | diloco 88 ms") == (
        "| 2 workers, 100 Mbit/s, 40 ms, equal, paced | diloco 88 ms < ddp 120 ms "
        "| ddp 100 ms < diloco 110 ms |"
    )


def test_a_study_within_its_tolerances_passes(tmp_path: Path) -> None:
    rows = pd.DataFrame([row(number, 0.01) for number in range(4)])
    folder = tmp_path / "new" / "folder"
    assert write(rows, ABOUT, TOLERANCES, (0.5, 0.3), folder)
    text = (folder / "report.md").read_text()
    assert "**Passed: all 4 tolerances hold.**" in text
    assert load(folder / "report.csv")["run"].tolist() == [0, 1, 2, 3]
    shown = set(re.findall(r"\]\((.*png)\)", text))
    assert {path.name for path in folder.iterdir()} == {"report.csv", "report.md", *shown}
    assert len(shown) == 4


def test_a_study_without_tolerances_decides_nothing() -> None:
    found = findings(pd.DataFrame([row(1)]), {}, {}, None)
    assert found.passed
    text = report(found).splitlines()
    assert line(text, "**No tolerances were stated")
    assert text[0] == "# Validation: predicted and measured"


def test_one_repeat_says_nothing_of_noise() -> None:
    text = said([row(1, 0.1), row(2)])
    assert line(text, "Not measured: every configuration was run once.")
    assert line(text, "- configurations: 2, each measured 1 time, 2 runs")
    assert line(text, "- Some configurations were run once")


def test_no_informative_configuration() -> None:
    rows = [row(number, 0.01, communication_share=0.1) for number in range(2)]
    text = said(rows, TOLERANCES, (0.5, 0.3))
    failed = line(text, "**Failed: 4 of 4 tolerances do not hold.**")
    assert "paced: wall-clock, median was not seen (limit at most 3 %)" in failed
    assert line(text, "| error of wall-clock") == "| error of wall-clock, median | - |"


def test_a_method_missing_from_one_group() -> None:
    rows = [
        row(1),
        row(2, method="diloco", measured=2.0),
        row(3, compute_mode="real"),
        row(4, method="acco", measured=2.0, compute_mode="real"),
    ]
    text = said(rows)
    assert line(text, "| ddp, paced |")
    assert line(text, "| diloco, paced |")
    assert not [each for each in text if each.startswith("| diloco, real")]
    assert line(text, "**2 of 2 pairs")


def test_nothing_exposed_is_said() -> None:
    rows = [
        row(1, measured_exposed_s=0.0, predicted_exposed_s=0.0),
        row(2, measured_exposed_s=0.0, predicted_exposed_s=0.1),
        row(3, predicted_exposed_s=0.0),
    ]
    text = said(rows)
    assert line(text, "2 informative configurations measured no exposed communication")
    assert line(text, "| error of exposed").startswith(
        "| error of exposed communication, median | 100"
    )
    assert "unbounded" in "\n".join(text)


def test_same_rows_same_text() -> None:
    mixed = study().sample(frac=1, random_state=1)
    assert said(mixed, TOLERANCES) == said(study(), TOLERANCES)


def test_every_picture_can_be_drawn_without_an_informative_configuration(tmp_path: Path) -> None:
    rows = checked(pd.DataFrame([row(1, communication_share=0.0), row(2, compute_mode="real")]))
    paths = pictures.save(rows, configurations(rows, 0.3), tmp_path)
    assert [path.exists() for path in paths] == [True] * 4


# Pictures


def test_predicted_against_measured_fills_the_informative() -> None:
    ax = Figure().subplots()
    table = table_of(row(1, 0.1), row(2, 0.2, 2.0, communication_share=0.0))
    assert pictures.predicted_against_measured(table, ax) is ax
    (points,) = [c for c in ax.collections if len(c.get_offsets()) == 2]
    np.testing.assert_allclose(points.get_offsets(), [[1.0, 1.1], [2.0, 2.4]])
    # Alpha of the faces: filled, then empty.
    assert np.asarray(points.get_facecolors())[:, 3].tolist() == [1.0, 0.0]


def test_pictured_distributions_end_at_the_largest_error() -> None:
    ax = Figure().subplots()
    rows = checked(pd.DataFrame([row(1, 0.1), row(2, 0.2)]))
    pictures.errors_by_model(rows, configurations(rows, 0.3), ax)
    found = {curve.get_label(): curve for curve in ax.lines}
    assert set(found) == {"calibrated", "bandwidth only", "alpha-beta"}
    np.testing.assert_allclose(found["calibrated"].get_xdata(), [10, 10, 20])
    np.testing.assert_allclose(found["calibrated"].get_ydata(), [0, 50, 100])


def test_selected_configurations_are_spread_over_methods_and_modes() -> None:
    numbers = count()
    rows = [
        row(next(numbers), method=method, compute_mode=mode, communication_share=share)
        for share in (0.0, 0.5)
        for method in ("acco", "ddp", "diloco")
        for mode in ("paced", "real")
    ]
    chosen = lost_time.selected(table_of(*rows), 4)
    assert sorted(chosen["method"]) == ["acco", "acco", "ddp", "diloco"]
    assert set(chosen["compute_mode"]) == {"paced", "real"}
    assert chosen["informative"].all()
    with pytest.raises(ValueError, match="13 configurations are too many"):
        lost_time.causes(table_of(*(row(number) for number in range(13))), Figure().subplots())


# Two traces


def traces() -> tuple[Trace, Trace]:
    """Predicted, and the same as measured: 3 s later on its own clock and 10 % slower."""
    scenario = plain("diloco", {"sync_every": 4}, machines=[machine(), machine(1.5)])
    predicted, measured = simulate(scenario, rounds=5), simulate(scenario, rounds=4)
    for each in measured.rows:
        for name in ("begin_s", "end_s", "ready_s"):
            setattr(each, name, 3 + 1.1 * getattr(each, name))
    context = replace(measured.context, measured=True)
    return predicted, Trace(measured.rows, context, 3 + 1.1 * measured.total_s)


def test_timelines_share_one_axis() -> None:
    predicted, measured = traces()
    axes = Figure().subplots(2, 1)
    upper, lower = timelines(predicted, measured, (axes[0], axes[1]))
    # A round is 4 steps of 1.5 s, and 2 s on the wire: two take 16 s, measured 17.6 s.
    assert upper.get_xlim() == pytest.approx((8.0, 25.6))
    assert lower.get_xlim() == pytest.approx((11.8, 29.4))
    assert upper.get_title(loc="left") == "predicted: 16 s for rounds 2 to 3"
    assert lower.get_title(loc="left") == "measured: 17.6 s for rounds 2 to 3"
    labels = [[text.get_text() for text in ax.get_xticklabels()] for ax in (upper, lower)]
    assert labels[0] == labels[1]
    assert labels[0][0] == "0"


@pytest.mark.parametrize(
    ("first", "rounds", "message"),
    [
        (3, 2, "rounds 4 to 5 are not in both traces, which have 4"),
        (0, 9, "9 rounds cannot be read; draw 1 to 3"),
    ],
)
def test_rounds_that_cannot_be_drawn(first: int, rounds: int, message: str) -> None:
    axes = Figure().subplots(2, 1)
    with pytest.raises(ValueError, match=message):
        timelines(*traces(), (axes[0], axes[1]), first=first, rounds=rounds)


@pytest.mark.parametrize("name", ["both.json", "both.json.gz"])
def test_both_traces_in_one_file(tmp_path: Path, name: str) -> None:
    save_both(*traces(), tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    events = json.loads(gzip.decompress(raw) if name.endswith("gz") else raw)["traceEvents"]
    processes = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    assert set(processes) == {"predicted: s0", "predicted: s1", "measured: s0", "measured: s1"}
    assert len(set(processes.values())) == 4
    begins = {
        which: min(e["ts"] for e in events if "ts" in e and e["pid"] == processes[f"{which}: s0"])
        for which in ("predicted", "measured")
    }
    assert begins == {"predicted": pytest.approx(3e6), "measured": pytest.approx(3e6)}


def test_two_predictions_are_not_both(tmp_path: Path) -> None:
    predicted, measured = traces()
    with pytest.raises(ValueError, match="predicted trace first"):
        save_both(measured, predicted, tmp_path / "both.json")
    with pytest.raises(ValueError, match=r"as .json or .json.gz"):
        save_both(predicted, measured, tmp_path / "both.csv")


def test_a_report_needs_no_torch() -> None:
    modules = (
        "configurations coverage error_tables markdown order pictures report rows worst_cases "
        "statistics timelines verdict"
    )
    for name in modules.split():
        assert "torch" not in {found.split(".")[0] for found in imported(PACKAGE / f"{name}.py")}, (
            name
        )
