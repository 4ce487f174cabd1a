"""A whole validation: workers measure, the simulator predicts, a report says how far apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from realrun.errors import RunError
from realrun.lab import built
from realrun.lab.control import controlled
from realrun.validation import report
from realrun.validation.collect import Results, rows
from realrun.validation.handing_over import handed_over
from realrun.validation.kept import (
    about,
    belongs,
    calibration_files,
    calibration_of,
    recorded,
    trace_file,
)
from realrun.validation.measure import networks
from realrun.validation.plan import Planned
from realrun.validation.predict import as_calibrated, calibration, simulated
from realrun.validation.timelines import save_both, save_picture
from sim.scenario import ScenarioError, Study
from sim.trace_files import load as load_trace
from sim.units import format_seconds


def in_labs(
    study: Study,
    plan: Sequence[Planned],
    folder: Path,
    arguments: Sequence[str],
    tell: Callable[[str], None],
) -> int:
    """Run what is still to be run in labs on this machine, one per number of workers.

    Parameters
    ----------
    study, plan
        What to run.
    folder
        Where results go.
    arguments
        Of the command line, which every worker reads again.
    tell
        Called with a line of progress.

    Returns
    -------
    int
        The exit status of the first launch that failed, or 0.

    Raises
    ------
    RunError
        If this machine cannot have a lab, or a worker failed.
    """
    assert study.validation is not None
    asked = study.validation.calibrate
    if asked.bandwidth is None:
        raise ScenarioError(
            f"{study.name}: study.calibrate: missing; say on which bandwidth and rtt a lab is to "
            "calibrate, like those of validation/quick/study.toml"
        )
    for workers in sorted({each.workers for each in plan}):
        wanted = {
            (each.number, repeat)
            for each in plan
            for repeat in range(study.validation.repeats)
            if each.workers == workers
        }
        if wanted <= recorded(folder).keys():
            continue
        found = [each.topology for each in networks(study, plan, workers)]
        tell(f"in a lab with {workers} workers and {len(found)} networks")
        with (
            built(found[0], later=found[1:]) as lab,
            controlled(lab, found) as control,
            handed_over(study, plan) as handed,
        ):
            status = lab.run([*arguments, "--backend", "gloo"], [control, handed])
        if status:
            return status
    return 0


def check_folder(plan: Sequence[Planned], folder: Path) -> None:
    """Refuse a folder that holds the results of another study.

    Raises
    ------
    ScenarioError
        If what is there was run with other settings.
    """
    by_number = {each.number: each for each in plan}
    for (number, _), kept in recorded(folder).items():
        if number not in by_number or not belongs(by_number[number], kept):
            raise ScenarioError(
                f"--out: {folder}: holds runs of another study ({kept['name']}); "
                "give another folder, or remove it"
            )


def reported(study: Study, plan: Sequence[Planned], folder: Path, other: Path | None) -> bool:
    """Predict, compare and write the report; whether all tolerances hold.

    Parameters
    ----------
    study, plan, folder
        What was run, and where it is.
    other
        Calibrations of another launch, to compare with, or None.

    Raises
    ------
    RunError
        If nothing was measured.
    """
    asked = study.validation
    assert asked is not None
    table = rows(plan, Results(folder, asked.repeats, asked.baselines, other))
    if table.empty:
        raise RunError(f"{folder}: no run of {study.name} was measured")
    informative = (
        None
        if asked.informative is None
        else (asked.informative.share, asked.informative.communication_above)
    )
    left_out = len(plan) * asked.repeats - len(table)
    texts = {
        "study": study.name,
        **_measured_with(plan, folder),
        "links": _links(study, plan, folder),
        "timelines": _timelines(plan, folder),
    }
    if left_out:
        texts["limits"] = f"{left_out} of {len(plan) * asked.repeats} runs are missing here."
    return report.write(table, texts, asked.tolerances, informative, folder)


def _links(study: Study, plan: Sequence[Planned], folder: Path) -> str:
    assert study.validation is not None
    asked = study.validation.calibrate
    played = any(kept["checks"] for kept in recorded(folder).values())
    if not played or asked.bandwidth is None or asked.rtt is None:
        return "calibrated on the links as they are, and run on them"
    rates = ", ".join(f"{rate * 8e-6:g}" for rate in asked.bandwidth)
    trips = ", ".join(format_seconds(rtt) for rtt in asked.rtt)
    known = [
        each
        for each in plan
        if each.scenario.bandwidth in asked.bandwidth
        and 2 * each.scenario.network.latency[0][1] in asked.rtt
    ]
    return (
        f"calibrated at {rates} Mbit/s and round trips of {trips}, where no method ran; "
        f"{len(known)} of {len(plan)} configurations ran at one of these"
    )


def _measured_with(plan: Sequence[Planned], folder: Path) -> dict[str, str]:
    """Read off the calibrations on which machine, with what and when was measured."""
    found: dict[str, set[str]] = {"machine": set(), "versions": set(), "date": set()}
    counts = sorted({each.workers for each in plan})
    for path in (path for count in counts for path in calibration_files(folder, count)):
        told = about(path)
        found["machine"].add(f"{told.device}, {told.cores} cores, {told.system}, {told.backend}")
        found["versions"].add(", ".join(f"{k} {v}" for k, v in told.versions.items()))
        found["date"].add(told.time.partition("T")[0])
    return {key: "; ".join(sorted(texts)) for key, texts in found.items()}


def _timelines(plan: Sequence[Planned], folder: Path) -> str:
    """Put the first trace of every method next to its prediction: pictures, and for Perfetto.

    Where traces are not kept, those that were made of them are named.
    """
    written: dict[str, str] = {}
    kept = recorded(folder)
    for each in plan:
        path, method = trace_file(folder, each), each.scenario.method.name
        if method in written or (each.number, 0) not in kept:
            continue
        if not path.exists():
            if (folder / f"timeline-{method}.png").exists():
                written[method] = f"timeline-{method}"
            continue
        hardware = calibration(calibration_of(folder, kept[each.number, 0]))
        predicted = simulated(as_calibrated(each, hardware)).trace
        measured = load_trace(path)
        written[method] = f"timeline-{method}"
        save_both(predicted, measured, folder / f"{written[method]}.json.gz")
        save_picture(predicted, measured, each.name, folder / f"{written[method]}.png")
    links = (f"[{method}]({name}.png)" for method, name in written.items())
    return ", ".join(links) + "; with both in one file for Perfetto (.json.gz)"
