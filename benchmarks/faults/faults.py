"""What goes wrong, what must hold then, and what was seen."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from time import sleep

import disks
import processes
from commands import COMMANDS, INPUTS, Command
from processes import Ended

_DAMAGES = 8
_TRIES = 5
_LOST = "what was finished"


@dataclass
class Met:
    """A row of the table: how a command met a fault a number of times."""

    command: str
    fault: str
    times: int = 0
    status: list[int] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    said: str = ""

    def cells(self) -> list[object]:
        """Return what the table shows."""
        statuses = ", ".join(map(str, sorted(set(self.status))))
        lists = ("; ".join(sorted(set(each))) or "-" for each in (self.lost, self.left, self.wrong))
        return [self.command, self.fault, self.times, statuses, *lists, self.said or "-"]

    def __str__(self) -> str:
        return ": ".join(str(cell) for cell in self.cells()[1:])

    def see(self, ended: Ended, *, line: bool = True) -> None:
        """Note how a command ended; ``line``: an error must be said in one."""
        self.times += 1
        self.status.append(ended.status)
        if ended.errors:
            self.said = ended.errors[-1]
        if ended.traceback:
            self.wrong.append("more than a line was said: " + " / ".join(ended.said[-3:]))
        if line and ended.status not in (0, -9) and len(ended.errors) != 1:
            self.wrong.append(f"{len(ended.errors)} lines of errors")
        if ended.processes:
            self.left.append(f"{ended.processes} processes")
        self.left += ended.files
        self.wrong += ["something was left"] * bool(ended.processes or ended.files)

    def expect(self, condition: bool, otherwise: str) -> None:
        """Note what does not hold."""
        if not condition:
            self.wrong.append(otherwise)


class Bench:
    """A command, a folder to disturb it in, and how it goes undisturbed."""

    def __init__(self, command: Command, folder: Path, chance: random.Random) -> None:
        self.command, self.folder, self.chance = command, folder, chance
        self.name = next(name for name, each in COMMANDS.items() if each.words == command.words)
        self.out = folder / "out"
        for name, text in INPUTS.items():
            (folder / name).write_text(text)
        self.before: dict[str, bytes] = {}  # inputs in "out"
        self.whole: dict[str, bytes] = {}
        self.seconds = 0.0

    def undisturbed(self) -> None:
        """Run it as it should go."""
        self.fresh()
        if self.command.before:
            ended = processes.run(self.folder, self.command.before)
            assert ended.status == 0, ended.said
            self.before = self.files()
        ended = self.run()
        if ended.status not in (0, 1):  # 1: measured, and beyond a tolerance
            raise SystemExit(f"faults: {' '.join(self.command.words)}: {ended.said}")
        self.seconds, self.whole = ended.seconds, self.files()

    def fresh(self) -> None:
        """Empty the folder for output, but for inputs."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        self.put(self.before)

    def put(self, files: dict[str, bytes]) -> None:
        """Write files below "out"."""
        for name, content in files.items():
            path = self.out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def files(self) -> dict[str, bytes]:
        """Return every file below "out", by its name there."""
        found = sorted(path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in found}

    def run(self) -> Ended:
        """Run the command."""
        return processes.run(self.folder, self.command.words)

    def disturbed(self, number: int, low: float = 0.0) -> Ended:
        """Run it and send it a signal at a random moment, if it still runs then.

        ``low`` is the earliest, as a part of how long it takes.
        """
        after_s = self.chance.uniform(low, 1.0) * self.seconds
        ended = processes.run(self.folder, self.command.words, number, after_s)
        if not ended.disturbed:  # the machine has become faster
            self.seconds = min(self.seconds, ended.seconds)
        return ended

    def same(self) -> list[str]:
        """Return the files that are not those of the undisturbed run."""
        files = self.files()
        return [name for name in self.command.same if files.get(name) != self.whole[name]]

    def completed(self, met: Met) -> None:
        """Run it to its end after a fault: nothing may be lost and nothing left."""
        ended = self.run()
        for _ in range(_TRIES):  # a lab measures its network first, and wants a quiet machine
            if any("cannot emulate the network now" in line for line in ended.said):
                ended = self.run()
        if ended.status not in (0, 1):
            met.lost.append(_LOST)
            met.wrong.append(f"did not resume: {ended.said[-1:]}")
        elif differing := self.same():
            met.lost += differing
            met.wrong.append("ended with other bytes")
        extra = sorted(self.files().keys() - self.whole.keys() - self.before.keys())
        extra = [name for name in extra if name not in ("filling", "notes.txt")]
        # A validation that is resumed is another launch, whose calibration is a result as well.
        extra = [name for name in extra if not fnmatch(name, "calibration-*-launch-*.toml")]
        # Which timelines a validation draws depends on which runs came first.
        met.left += extra
        met.wrong += ["files were left"] * bool(extra)

    def met(self, fault: str) -> Met:
        """Return a new row."""
        return Met(self.name, fault)


def full(bench: Bench) -> Iterator[Met]:
    """No room from the beginning: said before the work."""
    yield from _refused(bench, "full disk", disks.fill)


def read_only(bench: Bench) -> Iterator[Met]:
    """Nothing may be written: said before the work."""
    yield from _refused(bench, "read-only", disks.read_only)


def _refused(bench: Bench, fault: str, spoil: Callable[[Path], None]) -> Iterator[Met]:
    met = bench.met(fault)
    shutil.rmtree(bench.out, ignore_errors=True)
    with disks.disk(bench.out, sum(map(len, bench.before.values())) + (1 << 16)):
        bench.put(bench.before)
        spoil(bench.out)
        ended = bench.run()
        met.see(ended)
        met.expect(ended.status == 2, f"status {ended.status}")
        met.expect("out" in met.said, "the line names no file")
        if bench.seconds > 10:
            met.expect(ended.seconds < 0.7 * bench.seconds, "found after the work")
    bench.fresh()
    yield met


def filling(bench: Bench) -> Iterator[Met]:
    """Room for a part: one line says so; with more room the command resumes, nothing is lost."""
    met = bench.met("disk fills up")
    needed = sum(map(len, bench.whole.values()))
    for share in (0.2, 0.5, 0.8):
        shutil.rmtree(bench.out, ignore_errors=True)
        inputs = sum(map(len, bench.before.values()))
        with disks.disk(bench.out, inputs + int(share * (needed - inputs)) + (1 << 13)):
            bench.put(bench.before)
            ended = bench.run()
            met.see(ended)
            met.expect("out" in met.said or ended.status == 0, "the line names no file")
            disks.resize(bench.out, 16 * needed + (1 << 24))
            bench.completed(met)
        bench.fresh()
    yield met


def content(bench: Bench) -> Iterator[Met]:
    """The place is taken: by files of others, by results of another run, by a file or folder."""
    met = bench.met("a file of others in the folder")
    bench.fresh()
    (bench.out / "notes.txt").write_text("mine")
    ended = bench.run()
    met.see(ended)
    met.expect(ended.status in (0, 1), f"status {ended.status}")
    met.expect((bench.out / "notes.txt").read_text() == "mine", "notes.txt was changed")
    yield met

    if bench.command.other:
        met = bench.met("results of another run in the folder")
        bench.fresh()
        bench.put(bench.whole)
        other = bench.command.other
        if other[0] != bench.command.words[0]:
            other = (*bench.command.words, *other)
        ended = processes.run(bench.folder, other)
        met.see(ended)
        met.expect(ended.status == 2, f"status {ended.status}")
        met.expect("another" in met.said, "the line does not say that they are another's")
        changed = [name for name, old in bench.whole.items() if bench.files().get(name) != old]
        met.lost += changed
        met.expect(not changed, "overwritten")
        yield met

    met = bench.met("a file or folder in the way")
    bench.fresh()
    if bench.command.folder:
        bench.out.rmdir()
        bench.out.write_text("mine")
    else:
        for word in bench.command.words:
            if word.startswith("out/") and Path(word).name not in bench.before:
                if Path(word).suffix:
                    (bench.folder / word).mkdir()
                else:
                    (bench.folder / word).write_text("mine")
    ended = bench.run()
    met.see(ended)
    met.expect(ended.status == 2, f"status {ended.status}")
    if bench.command.folder:
        bench.out.unlink()
    bench.fresh()
    yield met


def second(bench: Bench) -> Iterator[Met]:
    """Two commands on one folder: one of them is refused and names the other."""
    if not bench.command.folder and "--checkpoints" not in bench.command.words:
        return
    met = bench.met("a second command at the same time")
    bench.fresh()
    words = bench.command.words
    program = Path(sys.executable).with_name(words[0])
    with (bench.folder / "first").open("wb") as said:
        first = subprocess.Popen(
            [str(program), *words[1:]], cwd=bench.folder, stdout=said, stderr=said
        )
        while first.poll() is None and not any(
            path.name.endswith(".lock") for path in [*bench.out.glob("*"), *bench.out.glob("*/.*")]
        ):
            sleep(0.02)
        ended = bench.run()
        status = first.wait()
    met.see(ended)
    met.expect(status in (0, 1), f"the first ended with {status}")
    met.expect(ended.status == 2, f"status {ended.status}")
    met.expect("process" in met.said, "the line does not name the other process")
    met.lost += bench.same()
    met.expect(not met.lost, "ended with other bytes")
    yield met


def damaged(bench: Bench) -> Iterator[Met]:
    """A bit is flipped, or the end is cut off: refused, or no difference."""
    for pattern, reading in bench.command.state.items():
        for how in (_flipped, _cut):
            met = bench.met(f"{pattern}: {how.__doc__}")
            few = bench.command.words[0] == "realrun" and not reading
            words = reading or bench.command.words
            if words[1] == "plot" and "--out" not in words:
                words = (*words, "--out", "out/damaged.svg")
            edited = pattern.endswith((".csv", ".toml"))  # by people: a value may be another
            drawn = _read(bench, words) if words[1] == "plot" and not edited else b""
            for _ in range(2 if few else _DAMAGES):
                _unfinished(bench, pattern)
                found = sorted(bench.out.glob(pattern))
                if not found:
                    met.wrong.append("there is no such file to damage")
                    break
                path = bench.chance.choice(found)
                content = path.read_bytes()
                path.write_bytes(how(content, bench.chance))
                ended = processes.run(bench.folder, words)
                met.see(ended)
                if ended.status == 2:
                    said = ended.errors[-1:] or ["nothing"]
                    named = path.name in said[0]
                    met.expect(named, f"the line does not name {path.name}: {said[0]}")
                else:
                    _no_difference(bench, met, words, drawn)
            yield met
    bench.fresh()


def _unfinished(bench: Bench, pattern: str) -> None:
    """Have a file of this name: of the finished run, or of one that was killed."""
    bench.fresh()
    bench.put(bench.whole)
    tries = 0
    while not list(bench.out.glob(pattern)) and tries < 20:
        tries += 1
        bench.fresh()
        bench.disturbed(signal.SIGKILL, low=0.3)


def _read(bench: Bench, words: tuple[str, ...]) -> bytes:
    """Return what is drawn from files as they should be."""
    bench.fresh()
    bench.put(bench.whole)
    processes.run(bench.folder, words)
    return (bench.folder / words[-1]).read_bytes()


def _no_difference(bench: Bench, met: Met, words: tuple[str, ...], drawn: bytes) -> None:
    if drawn and (bench.folder / words[-1]).read_bytes() != drawn:
        met.wrong.append("drew something else")
    if words == bench.command.words and (differing := bench.same()):
        met.lost += differing
        met.wrong.append("ended with other bytes")


def _flipped(content: bytes, chance: random.Random) -> bytes:
    """a bit flipped"""
    changed = bytearray(content)
    bit = chance.randrange(8 * len(content))
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _cut(content: bytes, chance: random.Random) -> bytes:
    """the end cut off"""
    return content[: chance.randrange(len(content))]


def ended_by(number: signal.Signals) -> Callable[[Bench], Iterator[Met]]:
    """Return the fault of a signal at random times, after each of which the command is resumed."""

    def signalled(bench: Bench) -> Iterator[Met]:
        met = bench.met(number.name)
        # By the signal itself while Python starts: then there is nothing to end yet.
        expected = (0, -number) if number == signal.SIGKILL else (0, -number, 128 + number)
        bench.fresh()
        while met.times < bench.command.kills:
            ended = bench.disturbed(number)
            if not ended.disturbed:  # it was sooner
                met.expect(not bench.same(), "ended with other bytes")
                bench.fresh()
                continue
            met.see(ended, line=ended.status >= 0)
            met.expect(
                ended.status in expected, f"status {ended.status} after {ended.seconds:.1f} s"
            )
            if number == signal.SIGTERM:
                temporary = [n for n in bench.files() if ".lock" in n or "partial" in n]
                met.left += temporary
                met.expect(not temporary, "files were left")
        bench.completed(met)
        yield met

    return signalled


FAULTS: dict[str, Callable[[Bench], Iterator[Met]]] = {
    "full": full,
    "filling": filling,
    "read-only": read_only,
    "content": content,
    "second": second,
    "damaged": damaged,
    "SIGTERM": ended_by(signal.SIGTERM),
    "SIGKILL": ended_by(signal.SIGKILL),
}
