"""Finding scenarios, by path or by name, and laying options and settings over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

from sim.records.scenario import Scenario
from sim.scenario.checking import validated
from sim.scenario.consent import MODEL, Allowed, bundled_folder, check_code
from sim.scenario.document import Document
from sim.scenario.errors import (
    FILE_CUTOFF,
    Origin,
    did_you_mean,
    listed,
    nearest,
    path_shown,
    problem,
)
from sim.scenario.options import option_changes, setting_changes
from sim.scenario.reading import from_file, read_toml, siblings, there
from sim.scenario.recorded import document_of_recording, is_recording
from sim.scenario.resolution import resolve
from sim.scenario.schema import ScenarioFile


def bundled() -> dict[str, Path]:
    """Return the scenarios that come with the program, by name."""
    return {path.stem: path for path in sorted(bundled_folder().glob("*.toml"))}


@lru_cache(maxsize=1)
def _by_other_names() -> dict[str, Path]:
    names: dict[str, Path] = {}
    for stem, path in bundled().items():
        name = read_toml(path, path_shown(path)).get("name", stem)
        names.setdefault(_plain(str(name)), path)
        names[_plain(stem)] = path
    return names


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def find(source: str | Path) -> tuple[Path, str]:
    """Return the file that a path or a bundled scenario's name means, and its label."""
    path = Path(source).expanduser()
    if str(source).strip() and there(path):
        return path, path_shown(path)
    name = str(source)
    if is_recording(path):
        recordings = {Path(each).stem: each for each in siblings(path, path.suffix)}
        other = recordings.get(nearest(path.stem, recordings, FILE_CUTOFF) or "")
        hint = f"; did you mean {path_shown(path.parent / other)}?" if other is not None else ""
        raise problem(Origin(path_shown(path)), "", "no such file" + hint)
    if isinstance(source, str) and path.suffix != ".toml" and path.name == name:
        known = _by_other_names().get(_plain(name)) if _plain(name) else None
        if known is not None:
            return known, known.name
        hint = did_you_mean(name, bundled(), cutoff=FILE_CUTOFF)
        raise problem(Origin(name or '""'), "", f"no such file, and no bundled scenario{hint}")
    near = nearest(path.stem, bundled(), FILE_CUTOFF)
    files = {Path(other).stem: other for other in siblings(path, ".toml")}
    other = files.get(nearest(path.stem, files, FILE_CUTOFF) or "")
    if other is not None:
        hint = f"; did you mean {path_shown(path.parent / other)}?"
    elif near is not None:
        hint = f"; did you mean the bundled scenario {near}?"
    else:
        hint = f"; bundled scenarios are {listed(bundled(), 'and')}"
    raise problem(Origin(path_shown(path)), "", "no such file" + hint)


def document_of(
    source: str | Path | None = None,
    options: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> Document:
    """Return file, options and settings as one document."""
    document = _written(*find(source)) if source is not None else Document()
    document.code_allowed = isinstance(source, Allowed)
    document = document.overlaid(option_changes(options or {}))
    return document.overlaid(setting_changes(settings))


def _written(path: Path, label: str) -> Document:
    return document_of_recording(path, label) if is_recording(path) else from_file(path, label)


def refuse_study(document: Document, source: object) -> None:
    """Refuse a study where one scenario is asked for: its base alone is none of its cases.

    Raises
    ------
    ScenarioError
        With the number of its cases, and what runs them.
    """
    if document.study is None:
        return
    axes = document.study.get("axis")
    sizes = [len(each) for each in (axes if isinstance(axes, dict) else {}).values()]
    cases = f"a study of {prod(sizes)} cases" if prod(sizes) > 1 else "a study"
    program = "realrun validate" if document.study.get("ask") == "validate" else "bandwise study"
    raise problem(
        document.origin,
        "study",
        f"this is {cases}, not one scenario: {program} {source} --out DIR runs it; for its base "
        "alone, leave [study] out of a copy",
    )


def load(
    source: str | Path | None = None,
    options: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
    *,
    single: bool = False,
) -> Scenario:
    """Return a checked scenario in SI units, with everything filled in.

    Parameters
    ----------
    source
        A TOML file, or the name of a bundled scenario; None starts from nothing. A file that is
        neither bundled nor in or below the working directory may import a method only as
        ``Allowed(source)``.
    options
        Option -> text, as on the command line; see ``OPTIONS``.
    settings
        "key=value" with a dotted key, as after ``--set``.
    single
        Refuse a study, of which otherwise the base is loaded.

    Raises
    ------
    ScenarioError
        One line that says where, what and what to write instead.

    Examples
    --------
    >>> load(None, {"--model": "10B", "--bandwidth": "1Gbit/s"}).rate(0, 1)
    125000000.0
    """
    document = document_of(source, options, settings)
    if single:
        refuse_study(document, source)
    return resolve(document)


@dataclass(frozen=True)
class Loaded:
    """A scenario to be run for real, loaded once: what the simulator reads of it, and the rest."""

    #: Filled in, in SI units.
    scenario: Scenario
    #: The checked sections as they were given, [train] and [data] among them; nothing is filled in.
    sections: ScenarioFile
    #: Where its file lies, for what that names; None without one, or with a bundled one.
    folder: Path | None = None


def loaded(
    source: str | Path | None = None,
    options: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
    *,
    single: bool = False,
) -> Loaded:
    """Return a scenario with its sections; parameters and errors as for :func:`load`.

    The modules of the user's that it names as a model or a loss must be allowed, too.
    """
    return loaded_from(document_of(source, options, settings), source, single=single)


def loaded_from(
    document: Document, source: str | Path | None = None, *, single: bool = False
) -> Loaded:
    """Return a scenario with its sections of a document that has been read."""
    if single:
        refuse_study(document, source)
    scenario = resolve(document)
    check_code(document, MODEL)
    path = None if source is None else Path(source).expanduser()
    folder = path.parent if path is not None and there(path) else None
    return Loaded(scenario, validated(document), folder)


def sections(
    source: str | Path | None = None,
    options: Mapping[str, str] | None = None,
    settings: Sequence[str] = (),
) -> ScenarioFile:
    """Return the checked sections as they were given, [train] and [data] among them.

    For realrun, which needs what the simulator has no use for; nothing is filled in.
    """
    document = document_of(source, options, settings)
    check_code(document, MODEL)
    return validated(document)
