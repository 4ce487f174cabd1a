"""Studies and sweeps: a base scenario, axes, and the cases that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator

from sim import units
from sim.methods import METHODS
from sim.records.scenario import Scenario
from sim.scenario import fields as f
from sim.scenario.axes import Axis, over_axis, read_range, spaced, study_axis
from sim.scenario.cases import NOT_TAKEN, Case, GeneratedCases, case_of, keys_of
from sim.scenario.consent import MODEL, check_code
from sim.scenario.described import key
from sim.scenario.document import DEFAULT_METHOD, Document
from sim.scenario.errors import Origin, ScenarioError, did_you_mean, path_shown, problem
from sim.scenario.fields import RefusedError, choice
from sim.scenario.keywords import keyword_axis
from sim.scenario.loading import document_of, refuse_study
from sim.scenario.method import parameters_of
from sim.scenario.reading import siblings, there
from sim.scenario.resolution import resolve
from sim.scenario.tables import Record, checked
from sim.scenario.validation_study import (
    BASELINES,
    Calibrate,
    Informative,
    Side,
    Tolerances,
    Validation,
    listed_once,
)

_MOST_CASES, _MOST_GENERATED = 100_000, 10_000_000


@dataclass(frozen=True)
class Study:
    """A base scenario, what is varied, and what is asked.

    ``targets`` are fractions of compute utilization, ``grid`` bandwidths in bytes/s. A
    reproduction of ``compare_with`` passes with at least ``exact_cells`` cells exact and none
    more than ``grid_steps`` off; ``remark`` is printed below it.
    """

    name: str
    ask: str
    base: Scenario
    axes: tuple[str, ...]
    combinations: Sequence[Case]
    targets: tuple[float, ...] = ()
    grid: tuple[float, ...] | None = None
    printing: str = "bisect"
    compare_with: Path | None = None
    exact_cells: int = 0
    grid_steps: int = 1
    remark: str = ""
    validation: Validation | None = None

    def cases(self) -> list[Case]:
        """Return all combinations; the last axis varies fastest."""
        return list(self.combinations)


def _target(value: object) -> float:
    target = units.parse_fraction(value)
    if not 0 < target < 1:
        raise RefusedError("must be more than 0 % and less than 100 %")
    return target


_Targets = Annotated[tuple[float, ...], listed_once(_target)]


class _Grid(Record):
    bandwidth: f.Text
    points: Annotated[int, PlainValidator(f.count(2, 10_000, "that would never end"))]
    spacing: Annotated[str, PlainValidator(choice("log", "linear"))] = "log"


class StudySection(Record):
    """[study]: what is asked and varied."""

    ask: Annotated[str, PlainValidator(choice("simulate", "required_bandwidth", "validate"))] = key(
        "What each case is asked: the figures of a run, the bandwidth that each target needs, or "
        "(realrun validate) the error of its prediction.",
        "simulate",
        value="simulate",
    )
    axis: dict[str, Any] | None = key(
        "What is varied: [study.axis] has an entry per axis, a list of a key's values or a table "
        "of named partial scenarios."
    )
    targets: _Targets | None = key(
        "Compute utilizations whose bandwidth is asked for.", "needed by required_bandwidth"
    )
    grid: _Grid | None = key(
        "Bandwidths at which every case is simulated: a range, a number of points, and whether "
        'they are spaced by a factor ("log") or evenly ("linear").'
    )
    printing: (
        Annotated[str, PlainValidator(choice("bisect", "grid_point_below", "grid_point_reaching"))]
        | None
    ) = key(
        "Which bandwidth is printed: the exact one, or a point of the grid just below it or just "
        "reaching the target.",
        "bisect",
    )
    compare_with: f.Text | None = key("CSV file of published numbers to compare each cell with.")
    exact_cells: f.AtLeastOne | None = key(
        "Cells that must be exact for the comparison to pass.", "0"
    )
    grid_steps: Annotated[int, PlainValidator(f.count(0, 10_000, "the grid is shorter"))] = key(
        "Grid steps by which a cell may be off for the comparison to pass.", "1", value=1
    )
    remark: f.Text | None = key("Text that is printed below the comparison.")
    sample: f.AtLeastOne | None = key(
        "Configurations to draw out of the product of the axes.", "all of them"
    )
    side_by_side: Side | None = key(
        "Draw in groups of values configurations that differ in one axis alone, so that their "
        "order can be validated."
    )
    repeats: f.AtLeastOne | None = key("Runs of each configuration.", "3")
    duration: f.StepTime | None = key(
        "About how long one measured run lasts; it decides how many rounds there are.", "5 s"
    )
    order: Annotated[str, PlainValidator(choice("given", "random"))] | None = key(
        "Order in which a pass over the configurations runs them.", "random"
    )
    compute: Annotated[tuple[str, ...], listed_once(choice("paced", "real"))] | None = key(
        "Compute modes to run every configuration in.", "paced"
    )
    baselines: Annotated[tuple[str, ...], listed_once(BASELINES)] | None = key(
        "Simpler models whose error is reported next to the calibrated one.", "both"
    )
    informative: Informative | None = key(
        "Which runs say something: those that lost at least communication_above of their time to "
        "communication and waiting; share is how large a part of all they must be."
    )
    calibrate: Calibrate | None = key(
        "All that the calibration sees: bandwidth and rtt of the networks it measures; "
        "same_launch, whether it is made in the launch that is validated."
    )
    tolerance: Tolerances | None = key(
        "The largest errors allowed, as median and p95 by compute mode and quantity; beyond them "
        "realrun validate ends with 1."
    )


_ONLY = {
    "required_bandwidth": (
        "targets",
        "printing",
        "compare_with",
        "exact_cells",
        "grid_steps",
        "remark",
    ),
    "validate": (
        "sample",
        "side_by_side",
        "repeats",
        "duration",
        "order",
        "compute",
        "baselines",
        "informative",
        "calibrate",
        "tolerance",
    ),
}


def load_study(
    source: str | Path, options: Mapping[str, str] | None = None, settings: Sequence[str] = ()
) -> Study:
    """Return a study, with all its cases checked.

    Parameters
    ----------
    source, options, settings
        As for :func:`sim.scenario.load`; options and settings change the base.

    Raises
    ------
    ScenarioError
        One line that says where, what and what to write instead.
    """
    document = document_of(source, options, settings)
    if document.study is None:
        raise problem(
            document.origin, "study", "missing; simulate it, or vary a key with sweep --over"
        )
    section = checked(StudySection, document.study, document.origin, "study")
    for ask, keys in _ONLY.items():
        for name in keys:
            if name in document.study and section.ask != ask:
                raise problem(document.origin, f"study.{name}", f'goes with ask = "{ask}"')
    if section.ask == "required_bandwidth" and section.targets is None:
        raise problem(
            document.origin,
            "study.targets",
            'missing; required_bandwidth needs some, like ["50 %"]',
        )
    axes = [
        study_axis(name, content, document.label) for name, content in (section.axis or {}).items()
    ]
    base = resolve(document)
    for axis in axes:
        varied = any(c.path == ("network", "bandwidth") for p in axis.points for c in p.changes)
        if varied and (section.ask == "required_bandwidth" or section.grid):
            what = "it is what is searched for" if section.grid is None else "study.grid does so"
            raise problem(axis.origin, "", f"must not vary network.bandwidth: {what}")
    printing = section.printing or "bisect"
    if printing != "bisect" and section.grid is None:
        raise problem(document.origin, "study.printing", "needs study.grid", printing)
    if section.ask == "validate":
        check_code(document, MODEL)  # realrun trains it
    cases = _cases(document, axes)
    if section.grid is not None:
        _check_varied(cases, document.origin, "study.grid.bandwidth")
    return Study(
        name=base.name,
        ask=section.ask,
        base=base,
        axes=tuple(axis.name for axis in axes),
        combinations=cases,
        targets=section.targets or (),
        grid=None if section.grid is None else _grid(document, section.grid),
        printing=printing,
        compare_with=_published(document, section.compare_with),
        exact_cells=section.exact_cells or 0,
        grid_steps=section.grid_steps,
        remark=section.remark or "",
        validation=_validation(section, document.origin) if section.ask == "validate" else None,
    )


def _validation(section: StudySection, origin: Origin) -> Validation:
    calibrate = section.calibrate or Calibrate()
    if (calibrate.bandwidth is None) != (calibrate.rtt is None):
        raise problem(origin, "study.calibrate", "bandwidth and rtt go together; give both")
    side, axes = section.side_by_side, section.axis or {}
    if side is not None:
        if side.axis not in axes:
            raise problem(
                origin,
                "study.side_by_side.axis",
                f"is no axis of the study{did_you_mean(side.axis, axes)}",
                side.axis,
            )
        if section.sample is None:
            raise problem(origin, "study.side_by_side", "goes with study.sample")
    return Validation(
        sample=section.sample,
        side_by_side=side,
        repeats=section.repeats or 3,
        duration_s=section.duration or 5.0,
        shuffled=section.order != "given",
        compute=section.compute or ("paced",),
        baselines=section.baselines or ("bandwidth_only", "alpha_beta"),
        informative=section.informative,
        calibrate=calibrate,
        tolerances={} if section.tolerance is None else section.tolerance.as_mapping(),
    )


def sweep(
    source: str | Path | None,
    options: Mapping[str, str] | None,
    settings: Sequence[str],
    over: Sequence[str],
    *,
    single: bool = False,
    generated: bool = False,
) -> Study:
    """Return a study that varies keys of any scenario, as ``--over`` says.

    Parameters
    ----------
    source, options, settings
        As for :func:`sim.scenario.load`.
    over
        "key=low..high:points" (spaced by a factor) or "key=a,b,c"; several multiply. A key
        may be short, like an option's name: bandwidth, sync_every.
    single
        Refuse a study, of which otherwise the base is varied.
    generated
        Whether cases are made when they are asked for, of which there may then be ten million;
        not where methods are varied.
    """
    if not over:
        raise problem(
            Origin("--over"), "", "missing; name what to vary, like bandwidth=0.1..10Gbit/s:9"
        )
    axes = [over_axis(text) for text in over]
    document = document_of(source, options, settings)
    if single:
        refuse_study(document, source)
    return varied(document, axes, generated=generated)


def varied(
    document: Document, axes: Sequence[Axis], *, again: bool = False, generated: bool = False
) -> Study:
    """Return a study that varies keys of a document.

    Parameters
    ----------
    again
        Whether an axis may vary what an option or a keyword has set already.
    generated
        As for :func:`sweep`.
    """
    cases: Sequence[Case]
    if generated and _naming(axes) is None:
        cases = _generated(document, axes)
    else:
        cases = _cases(document, axes, again=again)
    try:
        base = resolve(document)
    except ScenarioError:
        # The first case stands in for keys that the base leaves open, such as a model.
        base = cases[0].scenario
    return Study(base.name, "simulate", base, tuple(axis.name for axis in axes), cases)


def by_method(
    document: Document, methods: Sequence[object], *, again: bool = True
) -> dict[str, Scenario]:
    """Return a scenario for each method, under its name; arguments are for those that take them.

    Parameters
    ----------
    methods
        Names or generator functions.
    again
        As for :func:`varied`.
    """
    study = varied(document, [keyword_axis("method", methods)], again=again)
    return {case.scenario.method.name: case.scenario for case in study.cases()}


def _cases(document: Document, axes: Sequence[Axis], *, again: bool = False) -> tuple[Case, ...]:
    _check_apart(document, axes, _MOST_CASES, again=again)
    naming = _naming(axes)
    found = [
        case_of(document, axes, points, naming)
        for points in product(*(axis.points for axis in axes))
    ]
    if naming is not None:
        _check_taken(document, found)
    cases = _each_once(axes, found)
    _check_bandwidth(axes, cases)
    return cases


def _generated(document: Document, axes: Sequence[Axis]) -> GeneratedCases:
    """Return cases that are made later; what is wrong with a point of an axis is said now."""
    _check_apart(document, axes, _MOST_GENERATED, again=False)
    cases = GeneratedCases(document, tuple(axes))
    _check_bandwidth(axes, list(cases.samples()))
    return cases


def _check_bandwidth(axes: Sequence[Axis], cases: Sequence[Case]) -> None:
    for axis in axes:
        if all(c.path == ("network", "bandwidth") for p in axis.points for c in p.changes):
            _check_varied(cases, axis.origin, "")


def _check_apart(document: Document, axes: Sequence[Axis], most: int, *, again: bool) -> None:
    """Refuse axes that set the same key, or one that is set already, and too many cases."""
    total = 1
    for place, axis in enumerate(axes):
        total *= len(axis.points)
        mine = {change.path for point in axis.points for change in point.changes}
        for other in axes[:place]:
            theirs = {change.path for point in other.points for change in point.changes}
            for path in sorted(mine & theirs):
                text = f"sets {'.'.join(path)}, which {other.name} sets too"
                raise problem(axis.origin, "", text)
        for path in () if again else sorted(mine):
            given = _by_option(document, path)
            if given is not None:
                text = f"{'.'.join(path)} is varied already; leave this out"
                raise problem(given, "", text)
    if total > most:
        raise problem(axes[-1].origin, "", f"makes {total} cases; at most {most} can be run")


def _check_varied(cases: Sequence[Case], origin: Origin, key: str) -> None:
    """Refuse to vary a bandwidth that no line of any case has."""
    for scenario in (case.scenario for case in cases):
        lines = any(site.from_network for site in scenario.sites)
        if scenario.network.per == "pair" or lines or len(scenario.sites) == 1:
            return
    text = "varies nothing: every site has its own uplink and downlink; vary those"
    raise problem(origin, key, text)


def _naming(axes: Sequence[Axis]) -> int | None:
    """Return the axis that names methods, if one does."""
    for place, axis in enumerate(axes):
        if any(c.path == ("method", "name") for point in axis.points for c in point.changes):
            return place
    return None


def _check_taken(base: Document, cases: Sequence[Case]) -> None:
    """Refuse an argument that none of the methods takes.

    What a file says of its own method may well be nothing to the methods that are varied.
    """
    given, steps = base.find(("method", "name"))
    file_method = METHODS.get(str(given.value) if given and steps == 2 else DEFAULT_METHOD)
    for left in sorted(set.intersection(*(keys_of(case.scenario.left_out) for case in cases))):
        if left.startswith("site."):  # of the method all the same
            if _by_option(base, tuple(left.split("."))) is not None:
                resolve(replace(cases[0].document, several=False))
            continue
        argument = left.removeprefix("method.")
        near = [case for case in cases if left not in case.scenario.left_out]  # but for its value
        document = (near or cases)[0].document
        if not document.origin_of("method", argument).names_key and (
            file_method is None or argument in parameters_of(file_method).annotations
        ):
            continue
        resolve(replace(document, inherited=document.inherited - {argument}))


def _each_once(axes: Sequence[Axis], cases: Sequence[Case]) -> tuple[Case, ...]:
    """Leave out cases that differ in nothing but what their method does not take."""
    found = list({tuple(case.labels.values()): case for case in reversed(cases)}.values())[::-1]
    for axis in axes:
        if any(case.labels[axis.name] == NOT_TAKEN for case in found):  # one kind per column
            found = [
                replace(case, labels={**case.labels, axis.name: str(case.labels[axis.name])})
                for case in found
            ]
    return tuple(found)


def _by_option(document: Document, path: tuple[str, ...]) -> Origin | None:
    """Return the option or setting that already sets a key."""
    if path[0] == "site":
        places: list[tuple[str | int, ...]] = [
            ("site", index, *path[1:]) for index in range(len(document.sites))
        ]
    else:
        places = [path]
    for place in places:
        if document.has(*place) and (origin := document.origin_of(*place)).names_key:
            return origin
    return None


def _grid(document: Document, grid: _Grid) -> tuple[float, ...]:
    try:
        low, high = read_range(grid.bandwidth, f.read_rate, grid.spacing)
    except ValueError as error:
        raise problem(document.origin, "study.grid.bandwidth", str(error), grid.bandwidth) from None
    return tuple(spaced(low, high, grid.points, grid.spacing))


def _published(document: Document, name: str | None) -> Path | None:
    if name is None:
        return None
    path = document.folder / name
    if not there(path) or path.is_dir():
        others = siblings(path, ".csv")
        hint = did_you_mean(path.name, others, "")
        raise problem(
            document.origin,
            "study.compare_with",
            f"there is no file {path_shown(path)}{hint}",
            name,
        )
    return path
