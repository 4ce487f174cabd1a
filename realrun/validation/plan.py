"""What a validation runs: which configurations, how long, in which order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from realrun.islands import by_accelerator, to_be_run
from sim.figures.evaluation import figures
from sim.records.connections import limits
from sim.records.varying import key_of_links
from sim.runtime import simulate
from sim.scenario import (
    Case,
    Loaded,
    Scenario,
    ScenarioError,
    ScenarioFile,
    Study,
    load_study,
)
from sim.scenario.document import Document
from sim.scenario.errors import listed
from sim.scenario.loading import document_of, loaded_from
from sim.scenario.validation_study import Side, Validation
from sim.units import format_rate, format_seconds

_LEAST_ROUNDS, _MOST_ROUNDS = 4, 200
_SEED = 20_26


@dataclass(frozen=True)
class Planned:
    """One configuration: a scenario with a number of rounds, and how computation takes place.

    ``labels`` are those of the study's axes; ``number`` counts configurations of the plan;
    ``case`` is the scenario as the study has it, ``document`` what is written of it.
    """

    number: int
    labels: dict[str, Any]
    case: Scenario
    scenario: Scenario
    sections: ScenarioFile
    mode: str
    document: Document

    @property
    def workers(self) -> int:
        """M."""
        return len(self.scenario.workers)

    @property
    def loaded(self) -> Loaded:
        """The scenario with its sections, to be run for real."""
        return Loaded(self.scenario, self.sections)

    @property
    def name(self) -> str:
        """What reports call it."""
        return ", ".join([*(_shown(*label) for label in self.labels.items()), self.mode])


def planned(study: Study) -> list[Planned]:
    """Return the configurations of a study: a balanced sample of its product.

    Raises
    ------
    ScenarioError
        If the study is not one to be validated.
    """
    about = study.validation
    if about is None:
        raise ScenarioError(f'{study.name}: study.ask: must be "validate" to be validated')
    if about.calibrate.same_launch is False:
        raise ScenarioError(
            f"{study.name}: study.calibrate.same_launch: false: every launch calibrates itself; "
            "an earlier calibration is compared with --other-calibration"
        )
    _check_cases(study)
    everything = [(case, mode) for case in study.cases() for mode in about.compute]
    chosen = _sample(everything, about.sample or len(everything), about.side_by_side)
    return [_planned(number, case, mode, about) for number, (case, mode) in enumerate(chosen)]


def _check_cases(study: Study) -> None:
    """Refuse what a calibration of one model on links between sites cannot say anything about."""
    cases = [case.scenario for case in study.cases()]
    if any(case.sections.hardware is not None for case in study.cases()):
        raise ScenarioError(
            f"{study.name}: hardware: a validation calibrates itself; leave the key out"
        )
    if any(len(scenario.sites) < 2 for scenario in cases):
        raise ScenarioError(f"{study.name}: site.count: 1: must be at least 2, to have links")
    given = [key for scenario in cases for key in limits(scenario.network)]
    given += [key for scenario in cases if (key := key_of_links(scenario))]
    if given:
        raise ScenarioError(
            f"{study.name}: {given[0]}: is not emulated; leave it out, measured links have it"
        )
    # Tensors are known only where something is sent tensor by tensor, of one model as well.
    sizes = {
        (
            replace(scenario.model, layer_tensors=()),
            machine.batch_tokens,
            machine.n_grad_accumulation,
        )
        for scenario in cases
        for machine in (worker.machine for worker in scenario.workers)
    }
    if len(sizes) > 1:
        raise ScenarioError(
            f"{study.name}: study.axis: {len(sizes)} models or batches: a calibration is of one; "
            "make a study of each"
        )


def to_be_measured(
    source: str | None,
    options: Mapping[str, str],
    settings: Sequence[str],
    processes: int | None = None,
) -> list[Loaded]:
    """Return what machines are looked at and calibrated for: a scenario, or a study's cases.

    Parameters
    ----------
    source, options, settings
        As for :func:`sim.scenario.loaded`; a study must be one to be validated. How long its cases
        last is decided later, so here each has one round.
    processes
        How many there are: cases of that number only, if the study has any.

    Raises
    ------
    ScenarioError
        If it cannot be loaded, or not be run.
    """
    document = document_of(source, options, settings)
    if document.study is None or document.study.get("ask") != "validate" or source is None:
        return [to_be_run(loaded_from(document, source, single=True))]
    study = load_study(source, options, settings)
    assert study.validation is not None
    mode = "real" if "real" in study.validation.compute else "paced"
    found = []
    for case in study.cases():
        run = replace(case.scenario.run, tokens=None, steps=None, rounds=1)
        scenario = by_accelerator(replace(case.scenario, run=run))
        found.append(Loaded(scenario, _in_mode(case.sections, mode), document.folder))
    own = [each for each in found if len(each.scenario.workers) == processes]
    return own or found


def check_workers(plan: Sequence[Planned], workers: int) -> None:
    """Refuse a launch of processes of which the study has no configuration.

    Raises
    ------
    ScenarioError
        With the numbers that it has.
    """
    known = sorted({each.workers for each in plan})
    if workers not in known:
        raise ScenarioError(
            f"{workers} processes were started, but the study's configurations have "
            f"{listed([str(count) for count in known], 'and')} workers"
        )


def order(
    plan: Sequence[Planned], workers: int, repeats: int, *, shuffled: bool
) -> list[tuple[Planned, int]]:
    """Return (configuration, repeat) in the order of the runs; every repeat is one pass."""
    found = []
    for repeat in range(repeats):
        once = [each for each in plan if each.workers == workers]
        if shuffled:
            random.Random(f"{_SEED} {workers} {repeat}").shuffle(once)
        found += [(each, repeat) for each in once]
    return found


def _shown(key: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    if key == "site.count":
        return f"{value:g} workers"
    if key.endswith("_bytes_per_s"):
        return format_rate(value)
    if key.endswith("_s"):
        return f"{key.rpartition('.')[2].removesuffix('_s')} {format_seconds(value)}"
    return f"{key.rpartition('.')[2]} {value:g}"


def _sample(
    everything: list[tuple[Case, str]], size: int, side: Side | None
) -> list[tuple[Case, str]]:
    """Choose so that every value of every axis comes as often as the others of that axis.

    Where some values of an axis are wanted side by side, once one is chosen, what differs in
    nothing else comes first.
    """
    if size >= len(everything):
        return everything
    left = list(range(len(everything)))
    random.Random(_SEED).shuffle(left)
    seen: Counter[tuple[str, Any]] = Counter()
    pairs: Counter[tuple[Any, ...]] = Counter()
    chosen: list[int] = []
    values = [[*case.labels.items(), ("compute", mode)] for case, mode in everything]
    places = [tuple(v for v in own if side is None or v[0] != side.axis) for own in values]
    begun: Counter[tuple[Any, ...]] = Counter()  # how often a place was chosen

    def cost(index: int) -> tuple[int, int]:
        own = values[index]
        together = sum(pairs[a, b] for place, a in enumerate(own) for b in own[:place])
        return sum(seen[value] for value in own), together

    def candidates() -> list[int]:
        if side is None or not chosen:
            return left
        here = places[chosen[-1]]
        if begun[here] < side.values:
            return [index for index in left if places[index] == here] or left
        return [index for index in left if not begun[places[index]]] or left

    for _ in range(size):
        best = min(candidates(), key=cost)
        left.remove(best)
        own = values[best]
        begun[places[best]] += 1
        seen.update(own)
        pairs.update((a, b) for place, a in enumerate(own) for b in own[:place])
        chosen.append(best)
    return [everything[index] for index in sorted(chosen)]


def _planned(number: int, case: Case, mode: str, about: Validation) -> Planned:
    sections = _in_mode(case.sections, mode)
    asked = by_accelerator(case.scenario)
    rounds = _rounds(asked, about.duration_s)
    run = replace(asked.run, tokens=None, steps=None, rounds=rounds)
    scenario = replace(asked, run=run)
    return Planned(number, case.labels, asked, scenario, sections, mode, case.document)


def _in_mode(sections: ScenarioFile, mode: str) -> ScenarioFile:
    train = sections.train.model_copy(update={"compute_mode": mode})
    return sections.model_copy(update={"train": train})


def _rounds(scenario: Scenario, duration_s: float) -> int:
    """How many rounds last about as long as asked for, by the links' bandwidth and latency.

    Chosen without any calibration, so that a plan does not depend on one.
    """
    run = replace(scenario.run, tokens=None, steps=None, rounds=None)
    found = figures(simulate(replace(scenario, run=run), rounds=6))
    a_round = found.wall_clock_s / found.window_rounds
    return min(max(ceil(duration_s / a_round), _LEAST_ROUNDS), _MOST_ROUNDS) + 1
