"""Studies that come with a published table, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.output.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from sim.scenario import Study


def published_study(name: str) -> Study:
    """Return a study whose published table has been read, before anything is simulated.

    Raises
    ------
    UserError
        If there is none of that name, or its table cannot be read.
    ScenarioError
        If something in its file is wrong.
    """
    from sim.questions.reproduce import published_cells
    from sim.scenario import ScenarioError, load_study

    try:
        study = load_study(name)
    except ScenarioError as error:
        known = _published()
        if name in known or Path(name).exists():
            raise
        listed = f"; there are {', '.join(known)}" if known else ""
        raise UserError(
            f'no published table "{name}"{did_you_mean(name, known, listed)}'
        ) from error
    if study.compare_with is None:
        raise UserError(f"{name}: study.compare_with names no published table")
    try:
        published_cells(study)
    except ValueError as error:
        raise UserError(str(error)) from error
    return study


def _published() -> list[str]:
    from sim.scenario import bundled
    from sim.scenario.reading import from_file

    studies = {name: from_file(path).study or {} for name, path in bundled().items()}
    return [name for name, study in studies.items() if study.get("compare_with")]
