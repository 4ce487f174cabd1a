"""Measuring on one machine: the workers of a validation, in labs that become its networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from realrun.lab import built
from realrun.lab.control import controlled
from realrun.validation.archive import Archive
from realrun.validation.handing_over import handed_over
from realrun.validation.networks import networks
from realrun.validation.plan import Planned
from sim.scenario import ScenarioError, Study


class LaunchFailedError(Exception):
    """A worker ended with a status, and said no reason."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def in_labs(
    study: Study,
    plan: Sequence[Planned],
    archive: Archive,
    arguments: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    """Run what is still to be run in labs on this machine, one per number of workers.

    Parameters
    ----------
    study, plan
        What to run.
    archive
        What has been run.
    arguments
        Of the command line, which every worker reads again.
    tell
        Called with a line of progress.

    Raises
    ------
    RunError
        If this machine cannot have a lab, or a worker failed.
    LaunchFailedError
        If a worker failed without a word.
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
        if wanted <= archive.records.keys():
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
            raise LaunchFailedError(status)
