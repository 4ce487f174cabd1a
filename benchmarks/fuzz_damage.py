"""Files that a disk or a careless copy has damaged: refused in a line that names the file, or
read as they were.

Flipped bits, cut ends, zeroed and swapped blocks. Some kinds of file are read otherwise:
results.csv, profiles and files in TOML are edited by people, so nothing can tell an edit from
damage: of a results.csv that was cut off, whole rows may be read. A journal is cut off wherever a
process was killed, so its last line may be missing. Of plan.json the two digests alone decide; a
plan whose digests are right is written again.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, islice
from multiprocessing.util import Finalize
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from fuzz_oracle import Outcome, judged


@dataclass(frozen=True)
class Damage:
    """A file to be damaged; the same seed and number damage it in the same way."""

    kind: str
    seed: int
    number: int


_HARDWARE = "calibration-2-launch-1.toml"
_DAY = "time_s,factor\n0,1.0\n28800,0.4\n64800,0.7\n79200,1.0\n"
_OPTIONS = {"--model": "1B", "--step-time": "1s", "--rounds": "3", "--sync-every": "5"}


# -- files as they are written -------------------------------------------------------------------
@cache
def _originals() -> Path:
    """Write one file of each kind."""
    from sim.questions import study
    from sim.questions.replications import predicted
    from sim.scenario import load
    from sim.storage.journal import append
    from sim.trace import files as trace_files

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    trace = predicted(load(None, _OPTIONS)).trace
    for name in ("trace.parquet", "trace.csv"):
        trace_files.save(trace, folder / name)
    study.run(_study(), folder)
    (folder / "reused").mkdir()
    shutil.copy(folder / "results.parquet", folder / "reused")
    for number in range(20):
        append(folder / "runs.jsonl", {"run": number, "seconds": number * 1.1, "text": "é" * 9})
    _write_progress(folder / "begun")
    (folder / "day.csv").write_text(_DAY, encoding="utf-8")
    _write_plan(folder / "planned")
    repository = Path(__file__).parent.parent
    shutil.copytree(repository / "scenarios", folder / "scenarios")
    _write_hardware(folder / _HARDWARE, repository / "validation" / "lab" / _HARDWARE)
    _write_tensors(folder)
    return folder


@cache
def _study() -> Any:
    from sim.scenario import sweep

    return sweep(None, _OPTIONS, [], ["bandwidth=1..10Gbit/s:6"])


@cache
def _identity() -> dict[str, str]:
    from sim.questions.study_folder import identity_of

    return identity_of(_study())


def _write_progress(folder: Path) -> None:
    from sim.questions.study_folder import StudyFolder

    folder.mkdir()
    study = StudyFolder(folder, _identity())
    study.finished(6)
    for task in range(5):
        study.keep(task, [{"network.rtt_s": task / 7, "method.name": "é" * 9, "steady": True}])


@cache
def _plan() -> Any:
    """Return what a short search is asked, and its limits."""
    from sim.planning.asked import asked_of
    from sim.planning.limits import Limits
    from sim.scenario.loading import document_of

    asked = asked_of(document_of(None, {"--model": "1B", "--sites": "2"}, []), ["local_sgd"])
    return asked, Limits(sync_every=5, named=asked.named)


def _write_plan(folder: Path) -> None:
    from sim.output.plan_folder import writing
    from sim.output.plan_report import report
    from sim.planning.decision import plan

    asked, limits = _plan()
    found = plan(asked, limits=limits)
    with writing(folder, asked, 0.95, limits) as write:
        write(report(found, asked))


def _write_hardware(path: Path, earlier: Path) -> None:
    """Write a hardware file as it is written now: with a list of what it holds."""
    from sim.scenario.hardware import entries

    text = earlier.read_text(encoding="utf-8")
    names = json.dumps(entries(tomllib.loads(text)))
    path.write_text(text.replace("[calibration]\n", f"[calibration]\nentries = {names}\n", 1))


def _write_tensors(folder: Path) -> None:
    try:
        from realrun.state.checkpoint import State
        from realrun.state.saved import save
    except ImportError:  # without torch
        return
    module = _module(seed=1)
    _checkpoints(folder / "checkpoint").save(1, State(dict(module.state_dict()), {"tokens": 12.0}))
    save(module, folder / "model.safetensors")


def _module(seed: int) -> Any:
    import torch

    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(20, 15), torch.nn.BatchNorm1d(15))


def _checkpoints(folder: Path) -> Any:
    from realrun.state.checkpoint import Checkpoints

    return Checkpoints(folder, 0, 1, {"model": "m"}, lambda own: [own])


# -- how they are read ---------------------------------------------------------------------------
def _trace(path: Path) -> Any:
    from sim.trace.files import load

    trace = load(path)
    return trace.frame().to_csv(), trace.total_s, repr(trace.context)


def _results(path: Path) -> Any:
    from sim.questions.result_files import load

    return load(path).to_csv(index=False)


def _picture(path: Path) -> Any:
    from sim.cli.plot import plot

    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("error")
        plot(path, path.with_suffix(".png"))


def _reused(path: Path) -> Any:
    from sim.questions.study_folder import StudyFolder

    frame = StudyFolder(path.parent, _identity()).results()
    return None if frame is None else frame.to_csv(index=False)


def _planned(path: Path) -> Any:
    """Ask for the same plan in its folder: it is refused, or may be written again."""
    from sim.output.plan_folder import writing

    asked, limits = _plan()
    with writing(path.parent, asked, 0.95, limits):
        return True


def _varying(path: Path) -> Any:
    from sim.scenario import load

    settings = [f"network.profile={path}", "network.profile_period=24h"]
    return repr(load(None, _OPTIONS, settings).network.profile)


def _begun(path: Path) -> Any:
    from sim.questions.study_folder import StudyFolder

    return list(StudyFolder(path.parent, _identity()).finished(6).items())


def _journal(path: Path) -> Any:
    from sim.storage.journal import read

    return read(path)


def _checkpoint(path: Path) -> Any:
    found = _checkpoints(path.parent).latest()
    if found is None:
        return None
    number, state = found
    return number, state.notes, _values(state.tensors)


def _model(path: Path) -> Any:
    from realrun.state.saved import begin_from

    module = _module(seed=2)
    begin_from(path, module, [module])
    return _values(module.state_dict())


def _values(tensors: Any) -> Any:
    return {name: tensor.tolist() for name, tensor in tensors.items()}


def _hardware(path: Path) -> Any:
    from sim.scenario.hardware import read_hardware

    found = read_hardware(path, path.name)
    return replace(found, label="")


def _conditions(path: Path) -> Any:
    from realrun.validation.archive import about

    return about(path)


def _bundled(path: Path) -> Any:
    """List what comes with the program, and find one of its scenarios by name."""
    from sim.cli.scenarios import _record
    from sim.output.published import _published
    from sim.scenario import loading

    loading._by_other_names.cache_clear()
    try:
        with patch.object(loading, "bundled_folder", lambda: path.parent):
            listed = [_record(name, each) for name, each in loading.bundled().items()]
            return listed, _published(), loading.find(path.stem)
    finally:
        loading._by_other_names.cache_clear()


# -- what may be read from a damaged one ---------------------------------------------------------
def _same(was: Any, now: Any, cut: bool) -> bool:
    return bool(was == now)


def _whole_rows(was: str, now: str, cut: bool) -> bool:
    return not cut or was.startswith(now)


def _all_but_last(was: list[Any], now: list[Any], cut: bool) -> bool:
    return was[: len(now)] == now and (cut or len(now) >= len(was) - 1)


def _anything(was: Any, now: Any, cut: bool) -> bool:
    return True


def _whole(was: Any, now: Any, cut: bool) -> bool:
    return not cut or was == now


Reader = Callable[[Path], Any]
#: Kind -> the file below the originals, how it is read, and what may be read from a damaged one.
KINDS: dict[str, tuple[str, Reader, Callable[[Any, Any, bool], bool]]] = {
    "trace.parquet": ("trace.parquet", _trace, _same),
    "trace.csv": ("trace.csv", _trace, _same),
    "results.parquet": ("results.parquet", _results, _same),
    "results.csv": ("results.csv", _results, _whole_rows),
    "picture": ("results.csv", _picture, _anything),
    "finished study": ("reused/results.parquet", _reused, _same),
    "study's progress": ("begun/progress.jsonl", _begun, _all_but_last),
    "journal": ("runs.jsonl", _journal, _all_but_last),
    "hardware": (_HARDWARE, _hardware, _whole),
    "plan": ("planned/plan.json", _planned, _same),
    "profile": ("day.csv", _varying, _anything),
    "bundled scenario": ("scenarios/streaming_diloco_table4.toml", _bundled, _anything),
    "checkpoint": ("checkpoint/round-00000001.rank-00000.safetensors", _checkpoint, _same),
    "saved model": ("model.safetensors", _model, _same),
    "conditions": (_HARDWARE, _conditions, _anything),
}
WITH_TORCH = ("checkpoint", "saved model", "conditions")


def damages(seed: int, number: int) -> Iterator[Damage]:
    """Yield ``number`` damages, of each kind that can be read here in turn."""
    kinds = [kind for kind in KINDS if kind not in WITH_TORCH or _has_torch()]
    for at, kind in enumerate(islice(cycle(kinds), number)):
        yield Damage(kind, seed, at)


def _has_torch() -> bool:
    from importlib.util import find_spec

    return find_spec("torch") is not None


def damaged(random: Random, content: bytes) -> tuple[str, bytes]:
    """Return what happened to a file, and the file."""
    data = bytearray(content)
    size = len(data)
    action = random.choice(("flip", "flip", "cut", "zero", "swap"))
    block = min(random.choice((1, 16, 64, 512, 4096)), max(1, size // 3))
    first, second = (random.randrange(max(1, size - block)) for _ in range(2))
    if action == "flip":
        for _ in range(random.choice((1, 1, 3))):
            data[random.randrange(size)] ^= 1 << random.randrange(8)
    elif action == "cut":
        del data[random.randrange(size) :]
    elif action == "zero":
        data[first : first + block] = bytes(len(data[first : first + block]))
    elif abs(first - second) >= block:
        one, other = data[first : first + block], data[second : second + block]
        data[first : first + block], data[second : second + block] = other, one
    return action, bytes(data)


def outcome(damage: Damage) -> Outcome:
    """Damage a file, read it, and judge what came of it."""
    name, read, allowed = KINDS[damage.kind]
    original = (_originals() / name).read_bytes()
    action, data = damaged(Random(repr(damage)), original)
    was = _undamaged(damage.kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(data)
        return judged(lambda: _verdict(lambda: read(path), path, was, allowed, action))


@cache
def _undamaged(kind: str) -> Any:
    """Return what a whole file says, read from a copy: some readers tidy up."""
    name, read, _ = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        return read(Path(shutil.copy(_originals() / name, folder)))


def _verdict(
    read: Callable[[], Any],
    path: Path,
    was: Any,
    allowed: Callable[[Any, Any, bool], bool],
    action: str,
) -> Outcome:
    from sim.output.errors import as_line
    from sim.text.told import one_line

    try:
        now = read()
    except Exception as error:
        line = as_line(error)
        if line is None and type(error) is ValueError:  # which plot and simulate print as it is
            line = one_line(str(error))
        if line is None:
            raise
        if path.name not in line or not line.isprintable():
            return Outcome("no file named in a line", line[:300])
        return Outcome("refused")
    if allowed(was, now, action == "cut"):
        return Outcome("answered")
    return Outcome("read as if whole", action)
