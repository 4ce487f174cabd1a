"""How the workers of a lab get a validation's plan: from the launcher, which has made it.

Planning a study of hundreds of combinations takes seconds of a core, and the workers of a lab
share few.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from realrun.validation.plan import Planned
from sim.methods import METHODS
from sim.scenario import Study

_PLAN = "REALRUN_PLAN"


@contextmanager
def handed_over(study: Study, plan: Sequence[Planned]) -> Iterator[dict[str, str]]:
    """Write a plan down for workers; yields what their environment must have."""
    methods = [each.scenario.method for each in plan]
    if any(METHODS.get(method.name) is not method.program for method in methods):
        yield {}  # a program of the user's is found from the study's folder: workers plan again
        return
    with tempfile.NamedTemporaryFile(prefix="realrun-plan-") as file:
        pickle.dump((replace(study, combinations=()), list(plan)), file)
        file.flush()
        yield {_PLAN: file.name}


def received() -> tuple[Study, list[Planned]] | None:
    """Return what the launcher has handed over: a study without its cases, and its plan."""
    path = os.environ.get(_PLAN)
    if path is None:
        return None
    found: tuple[Study, list[Planned]] = pickle.loads(Path(path).read_bytes())
    return found
