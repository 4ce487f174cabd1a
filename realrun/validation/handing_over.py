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

from realrun.processes.launch import Handed
from realrun.validation.plan import Planned
from sim.methods import METHODS
from sim.scenario import Study

_PLAN = "REALRUN_PLAN"


@contextmanager
def handed_over(study: Study, plan: Sequence[Planned]) -> Iterator[Handed]:
    """Write a plan down for workers; yields what they inherit."""
    methods = [each.scenario.method for each in plan]
    if any(METHODS.get(method.name) is not method.program for method in methods):
        yield Handed()  # a program of the user's is found from the study's folder: they plan again
        return
    # Without a name: nobody can replace it, and it vanishes when the last process closes it.
    with tempfile.TemporaryFile() as file:
        pickle.dump((replace(study, combinations=()), list(plan)), file)
        file.flush()
        yield Handed({_PLAN: str(file.fileno())}, (file.fileno(),))


def received() -> tuple[Study, list[Planned]] | None:
    """Return what the launcher has handed over: a study without its cases, and its plan."""
    handle = os.environ.get(_PLAN)
    if handle is None:
        return None
    size = os.fstat(int(handle)).st_size
    found: tuple[Study, list[Planned]]
    # Not with read: all workers share one position in the file.
    found = pickle.loads(os.pread(int(handle), size, 0))
    return found
