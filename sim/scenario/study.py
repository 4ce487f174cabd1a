"""Studies and sweeps: a base scenario, axes, and the cases that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.records.scenario import Scenario
from sim.scenario import fields as f
from sim.scenario.axes import Axis, over_axis, read_range, spaced, study_axis
from sim.scenario.cases import Case
from sim.scenario.combinations import check_varied, held, made_later, naming
from sim.scenario.consent import MODEL, check_code
from sim.scenario.document import Document
from sim.scenario.errors import Origin, ScenarioError, did_you_mean, path_shown, problem
from sim.scenario.keywords import keyword_axis
from sim.scenario.loading import document_of, refuse_study
from sim.scenario.reading import siblings, there
from sim.scenario.resolution import resolve
from sim.scenario.study_section import KEYS_OF, Grid, StudySection
from sim.scenario.tables import checked
from sim.scenario.validation_study import Calibrate, Validation


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
    for ask, keys in KEYS_OF.items():
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
    cases = held(document, axes)
    if section.grid is not None:
        check_varied(cases, document.origin, "study.grid.bandwidth")
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
    if generated and naming(axes) is None:
        cases = made_later(document, axes)
    else:
        cases = held(document, axes, again=again)
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


def _grid(document: Document, grid: Grid) -> tuple[float, ...]:
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
