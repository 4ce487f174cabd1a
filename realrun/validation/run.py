"""A whole validation, in the order in which it happens.

=======  ==========================================  =============================================
role     function                                    what it gives
=======  ==========================================  =============================================
plan     :func:`realrun.validation.plan.planned`     configurations, and how long each one runs
measure  :func:`measure`                             a folder with a record per run: the archive
predict  :func:`realrun.validation.predict.predict`  the figures of each configuration, once
report   :func:`report`                              both side by side, pictures, and the verdict
=======  ==========================================  =============================================

Nothing is predicted before all is measured, and a plan depends on nothing measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from realrun.errors import RunError
from realrun.lab.control import in_a_lab
from realrun.validation.archive import Archive, Measured, belongs, tidy
from realrun.validation.collect import rows
from realrun.validation.conditions import links, measured_with
from realrun.validation.labs import in_labs
from realrun.validation.plan import Planned, check_workers
from realrun.validation.predict import Predicted, predict
from realrun.validation.report import Findings, write
from realrun.validation.timelines import chosen, draw
from sim.scenario import ScenarioError, Study
from sim.storage.locks import locked


@dataclass(frozen=True)
class How:
    """How to measure."""

    #: Of the command line, which every worker in a lab reads again.
    arguments: Sequence[str]
    device: str
    backend: str
    #: How long a peer is waited for.
    timeout_s: float
    #: Called with a line of progress.
    tell: Callable[[str], None]


def validate(
    study: Study,
    plan: Sequence[Planned],
    folder: Path,
    how: How | None,
    other: Path | None,
    on_found: Callable[[Findings], None] = lambda found: None,
) -> bool | None:
    """Measure what is still to be measured, predict all of it, and report.

    Parameters
    ----------
    study, plan
        What to run.
    folder
        Where results are, and go.
    how
        None measures nothing more.
    other
        Calibrations of another launch, to compare with, or None.
    on_found
        Called with what the report is written from, in the process that reports.

    Returns
    -------
    bool or None
        Whether all tolerances hold; None in a process that is not the one that reports.

    Raises
    ------
    RunError
        If something cannot be measured, or nothing was.
    LaunchFailedError
        If a worker in a lab failed without a word.
    """
    reports = os.environ.get("RANK", "0") == "0" and not in_a_lab()
    if how is None and not reports:
        return None
    asked = study.validation
    assert asked is not None
    archive = Archive(folder)
    with ExitStack() as held:

        def claim() -> None:
            """See that nobody else writes there, and that it holds this study or nothing."""
            folder.mkdir(parents=True, exist_ok=True)
            if not in_a_lab():  # else the process that built the lab holds it
                held.enter_context(locked(folder))
                tidy(folder)
                held.callback(tidy, folder)
            check_folder(plan, archive)
            archive.seal()

        if how is not None:
            measure(study, plan, archive, how, claim)
            archive = Archive(folder)
        elif folder.is_dir():
            claim()
        if not reports:
            return None
        measured = archive.measured(plan, asked.repeats)
        if not measured:
            raise RunError(f"{folder}: no run of {study.name} was measured")
        drawn = chosen(plan, archive)
        predictions = predict(
            measured,
            asked.baselines,
            None if other is None else Archive(other),
            {each.number for each in drawn.values() if each is not None},
        )
        return report(study, plan, archive, measured, predictions, drawn, on_found)


def measure(
    study: Study, plan: Sequence[Planned], archive: Archive, how: How, claim: Callable[[], None]
) -> None:
    """Measure what the archive does not hold yet: in labs, or as one of torchrun's processes."""
    if "RANK" not in os.environ:
        claim()
        in_labs(study, plan, archive, how.arguments, how.tell)
        return
    from realrun.processes.placement import meet  # torch is needed only to measure
    from realrun.validation.measure import Measuring

    with meet(how.device, how.backend, how.timeout_s) as place:
        world = place.world
        check_workers(plan, world.workers)
        world.agreed(claim if world.rank == 0 else lambda: None)
        tell = how.tell if world.rank == 0 else lambda text: None
        Measuring(study, plan, archive, place, how.timeout_s, tell).all()


def report(
    study: Study,
    plan: Sequence[Planned],
    archive: Archive,
    measured: Sequence[Measured],
    predictions: Sequence[Predicted],
    drawn: Mapping[str, Planned | None],
    on_found: Callable[[Findings], None] = lambda found: None,
) -> bool:
    """Write what was measured next to what is predicted; whether all tolerances hold."""
    asked = study.validation
    assert asked is not None
    table = rows(measured, predictions)
    traces = {
        each.planned.number: predicted.trace
        for each, predicted in zip(measured, predictions, strict=True)
        if predicted.trace is not None
    }
    texts = {
        "study": study.name,
        **measured_with(plan, archive),
        "links": links(study, plan, archive),
        "timelines": draw(drawn, traces, archive.folder),
    }
    runs = len(plan) * asked.repeats
    if len(table) < runs:
        texts["limits"] = f"{runs - len(table)} of {runs} runs are missing here."
    told = asked.informative
    informative = None if told is None else (told.share, told.communication_above)
    return write(table, texts, asked.tolerances, informative, archive.folder, on_found)


def check_folder(plan: Sequence[Planned], archive: Archive) -> None:
    """Refuse a folder that holds the results of another study.

    Raises
    ------
    ScenarioError
        If what is there was run with other settings.
    """
    by_number = {each.number: each for each in plan}
    for (number, _), kept in archive.records.items():
        if number not in by_number or not belongs(by_number[number], kept):
            raise ScenarioError(
                f"--out: {archive.folder}: holds runs of another study ({kept['name']}); "
                "give another folder, or remove it"
            )
