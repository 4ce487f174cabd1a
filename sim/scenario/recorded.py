"""A recording as a scenario: what it says of model and sites, and whether it can be replayed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sim.program import DTYPE_BITS
from sim.recording.files import SUFFIX, Recording, RecordingError, load
from sim.recording.plan import PlanError
from sim.recording.vocabulary import METHOD
from sim.records.scenario import Method
from sim.scenario.context import Context
from sim.scenario.cores import recorded
from sim.scenario.document import Document, Given, Table
from sim.scenario.errors import FILE_CUTOFF, Origin, nearest, path_shown, problem
from sim.scenario.reading import siblings, there
from sim.units import format_count, format_seconds

_MODEL = ("name", "parameters", "layer_parameters", "kind", "size", "module")
_STEP = ("step_time", "accelerators", "machine")


@dataclass(frozen=True)
class Filled(Given):
    """A value that a recording gives where no one did; ``note`` is how it is listed."""

    note: str = ""


def is_recording(path: Path) -> bool:
    """Whether a scenario's file is meant to be a recording, by its name."""
    return path.suffix == SUFFIX


def document_of_recording(path: Path, label: str) -> Document:
    """Return a scenario that replays a recording, and says nothing else."""
    origin = Origin(label)
    found = _read(path, label, origin, "")
    document = Document(label=label, folder=path.parent, path=path, stem=path.stem)
    document.tables = {
        "method": {"name": Given(METHOD, origin), "path": Given(str(path.absolute()), origin)}
    }
    return _filled(document, found, origin)


def with_recording(document: Document) -> Document:
    """Return a document with what its recording says, where its method replays one."""
    method = document.tables.get("method")
    if not isinstance(method, dict):
        return document
    name, path = method.get("name"), method.get("path")
    if not (isinstance(name, Given) and name.value == METHOD):
        return document
    if path is None:
        text = 'missing; give the file that realrun record has written, like path = "r.parquet"'
        raise problem(document.origin, "method.path", text)
    if not (isinstance(path, Given) and isinstance(path.value, str)):
        given = path.value if isinstance(path, Given) else None
        raise problem(document.origin, "method.path", "must be text in quotes", given)
    whole = _whole(document, path)
    found = _read(whole, path_shown(whole), path.origin, "method.path")
    return _filled(document, found, Origin(path_shown(whole)))


def _whole(document: Document, path: Given) -> Path:
    folder = Path() if path.origin.names_key else document.folder
    return folder / Path(path.value).expanduser()


def _read(path: Path, label: str, origin: Origin, key: str) -> Recording:
    where = "" if key == "" else f"{label} "
    if not there(path):
        near = nearest(
            path.stem, {Path(each).stem: each for each in siblings(path, SUFFIX)}, FILE_CUTOFF
        )
        hint = f"; did you mean {near}{SUFFIX}?" if near is not None else ""
        what = f"there is no file {label}" if key else "no such file"
        raise problem(origin, key, f"{what}{hint}")
    try:
        return load(path)
    except (RecordingError, PlanError) as error:
        raise problem(origin, key, f"{where}{error}") from None
    except ValueError as error:
        raise problem(origin, key, str(error)) from None
    except OSError as error:
        raise problem(origin, key, f"{where}cannot be read: {error.strerror}") from None


def _filled(document: Document, found: Recording, origin: Origin) -> Document:
    """Return a copy in which nothing is missing that the recording knows, or makes needless."""
    document = copy.copy(document)
    document.tables = {**document.tables}
    plan = found.plan

    def fill(table: Table, key: str, value: Any, note: str) -> None:
        table.setdefault(key, Filled(value, origin, note=note))

    model = document.tables.get("model", {})
    if isinstance(model, dict) and not set(_MODEL) & set(model):
        model = {**model}
        elements = format_count(plan.elements, 3)
        fill(model, "parameters", max(1, plan.elements), f"{elements} (elements sent in a step)")
        if "layers" not in model:
            fill(model, "layers", 1, "1 (a recording has steps, not layers)")
        if plan.dtype in DTYPE_BITS:
            fill(model, "param_dtype", plan.dtype, f"{plan.dtype} (of what is sent)")
        document.tables["model"] = model
    sites = [{**site} for site in document.sites] or [{}]
    for site in sites:
        if not set(_STEP) & set(site):
            step = format_seconds(plan.step_s)
            fill(site, "step_time", f"{plan.step_s!r} s", f"{step} (computed in a recorded step)")
        fill(site, "batch_tokens", 1, "1 (a recorded step)")
    if not document.described:
        workers = sites[0].get("workers")
        each = workers.value if isinstance(workers, Given) else 1
        even = isinstance(each, int) and each > 0 and found.workers % each == 0
        count = found.workers // each if even else found.workers
        fill(sites[0], "count", count, f"{count} (as recorded, on {found.workers} workers)")
    document.sites = sites
    return document


def note_filled(context: Context) -> None:
    """List what the recording has given as assumed."""
    document = context.document
    tables: list[tuple[str, Mapping[str, Any]]] = []
    model = document.tables.get("model")
    if isinstance(model, dict):
        tables.append(("model", model))
    for index, site in enumerate(document.sites):
        tables.append((f"site.{document.site_name(index)}".rstrip("."), site))
    for name, table in tables:
        for key, given in table.items():
            if isinstance(given, Filled):
                context.assume(f"{name}.{key}", given.note)


def replayed(context: Context, arguments: dict[str, Any]) -> None:
    """Fill in which file it is that a scenario replays.

    Raises
    ------
    ScenarioError
        If it is another one than the scenario names.
    """
    given, _ = context.document.find(("method", "path"))
    assert given is not None
    path = _whole(context.document, given)
    sha256 = load(path).sha256
    if arguments["sha256"] not in (None, sha256):
        text = f"is not that of {path_shown(path)}, which is {sha256}"
        raise context.refuse("method", "sha256", text=text)
    arguments["path"], arguments["sha256"] = str(path.absolute()), sha256


def on_algorithm(context: Context, method: Method, algorithm: str) -> Method:
    """Return a method that replays a recording as the network's algorithm carries it out."""
    if method.name != METHOD or method.arguments["reduce_scatter"] is not None:
        return method
    plan = load(Path(method.arguments["path"])).plan
    if algorithm != "gloo" or "reduce_scatter" not in plan.operations:
        return method
    context.assume("method.reduce_scatter", "torch (on gloo, an all_reduce of the whole buffer)")
    return replace(method, arguments={**method.arguments, "reduce_scatter": "torch"})


def recording_warnings(method: Method) -> list[str]:
    """Return what goes with every prediction from the recording that a method replays, if any."""
    if method.name != METHOD:
        return []
    path = Path(method.arguments["path"])
    return recorded(load(path).about, path_shown(path))


def check_workers(context: Context, arguments: Mapping[str, Any], workers: int) -> None:
    """Check that a recording says what that many workers do, and list what that rests on.

    Raises
    ------
    ScenarioError
        In one line, with the group or the rank that is in the way.
    """
    found = load(Path(arguments["path"]))
    try:
        found.plan.on(workers)
    except PlanError as error:
        raise context.refuse("method", "path", text=str(error)) from None
    for key, value in assumptions(found, workers, str(arguments["steps"])):
        context.assume(key, value)


def assumptions(found: Recording, workers: int, steps: str) -> list[tuple[str, str]]:
    """Return what the replay of a recording rests on, as it is listed."""
    plan, notes = found.plan, []
    if steps == "median":
        notes.append(("recording.times", f"the median of each computation over {plan.steps} steps"))
    if plan.unlike:
        notes.append(("recording.steps", f"{plan.unlike} that did something else are left out"))
    if workers != plan.workers:
        text = f"{workers} workers do what {plan.workers} were recorded to do"
        notes.append(("recording.workers", f"{text}, each as their median"))
        kept = {
            "all_reduce": "all_reduce keeps its bytes",
            "broadcast": "broadcast keeps its bytes",
            "reduce_scatter": "reduce_scatter keeps its whole size, shards are whole / N",
            "all_gather": "all_gather keeps its whole size, shards are whole / N",
            "all_to_all": "all_to_all keeps its whole size, shards are whole / N",
        }
        notes += [("recording.sizes", kept[each]) for each in plan.operations]
    if plan.agreements:
        text = f"{plan.agreements} a step, one round trip of the slowest pair each"
        notes.append(("recording.control", text))
    notes += [
        (f"recording.{name}", f"costs what a {operation} of its bytes does")
        for name, operation in plan.stand_ins
    ]
    return notes
