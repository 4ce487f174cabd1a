"""What a command writes is tried before the work, and appears whole; how commands end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import Bandwise

from sim.output.errors import UserError
from sim.output.show import checked_file, checked_folder
from sim.storage import files

SWEEP = ("sweep", "--model", "1B", "--over", "sync_every=10,20")


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the disk be full."""

    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "flush", fail)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("simulate", "--model", "1B", "--trace", "run.csv"), "--trace"),
        (("simulate", "--model", "1B", "--trace", "run.json.gz"), "--trace"),
        (("simulate", "--model", "1B", "--html", "run.html"), "--html"),
        (("init", "new.toml"), "FILE"),
        (("plot", "results.csv", "--out", "new.svg"), "--out"),
        ((*SWEEP, "--out", "new/folder"), "--out"),
        (("study", "streaming_diloco_table4", "--out", "new"), "--out"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_full_disk_is_found_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bandwise: Bandwise,
    arguments: tuple[str, ...],
    option: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    full(monkeypatch)
    ran = bandwise(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    (line,) = ran.err.splitlines()
    assert line.startswith(f"bandwise: error: {option}: ")
    assert line.endswith(": No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_costs_the_file_and_not_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    path = tmp_path / "run.json"
    path.write_text("before")
    monkeypatch.setattr("sim.cli.simulate.checked_file", lambda *_: full(monkeypatch))
    ran = bandwise("simulate", "--model", "1B", "--trace", path)
    assert ran.status == 2
    assert ran.err == f"bandwise: error: {path}: No space left on device\n"
    assert "compute" in ran.out
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".bandwise-partial-left").mkdir()
    (tmp_path / ".bandwise-partial-left" / "results.csv").write_text("half")
    (tmp_path / "mine.txt").write_text("mine")
    checked_file("--out", tmp_path / "x.png", (".png",))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert checked_folder("--out", tmp_path / "new" / "er") == tmp_path / "new" / "er"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_cannot_be_replaced_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "kept.png").write_text("kept")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    for name, text in (
        ("folder.png", "is a folder"),
        ("pipe.png", "is not a regular file"),
        ("kept.png", "is write-protected"),
    ):
        with pytest.raises(UserError, match=f"--out: .*{name} {text}"):
            checked_file("--out", tmp_path / name, (".png",))
    with pytest.raises(UserError, match=r"kept\.png is a file; name a folder"):
        checked_folder("--out", tmp_path / "kept.png" / "deeper")


def test_init_overwrites_nothing_that_came_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    path = tmp_path / "new.toml"
    monkeypatch.setattr("sim.cli.init.checked_file", lambda *_: path.write_text("another's"))
    ran = bandwise("init", path)
    assert ran.status == 2
    assert "is there already; --force overwrites it" in ran.err
    assert path.read_text() == "another's"
    assert bandwise("init", path, "--force").status == 0
    assert "EDIT" in path.read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["new.toml"]


def test_sweep_without_a_folder_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bandwise: Bandwise
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert bandwise(*SWEEP, "--jobs", 1).status == 0
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_is_finished_is_told_and_one_of_other_values_refused(
    tmp_path: Path, bandwise: Bandwise
) -> None:
    first = bandwise(*SWEEP, "--jobs", 1, "--out", tmp_path)
    again = bandwise(*SWEEP, "--jobs", 1, "--out", tmp_path)
    assert again.out == first.out
    assert f"{tmp_path} holds the finished results of this study" in again.err
    other = bandwise(*SWEEP[:-1], "sync_every=10,30", "--out", tmp_path)
    assert other.status == 2
    assert "holds the results of another study" in other.err
    assert other.err.count("\n") == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_sweep_and_keeps_what_is_finished(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bandwise: Bandwise,
    number: signal.Signals,
    status: int,
) -> None:
    from sim.questions import study

    real = study.predicted
    monkeypatch.setattr(study, "_CHUNK", 1)

    def signalled(scenario: object) -> object:
        signal.raise_signal(number)
        return real(scenario)

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    try:
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_DFL)
        monkeypatch.setattr(study, "predicted", signalled)
        ran = bandwise(*SWEEP, "--jobs", 1, "--out", tmp_path)
    finally:
        for each, handler in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(each, handler)
    assert ran.status == status
    assert ran.err.endswith("bandwise: the same command continues from here\n")
    assert [path.name for path in tmp_path.iterdir()] == ["progress.jsonl"]


def started(shell: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m sim {shell}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env=environment, check=False
    )


def test_a_closed_standard_output_is_one_line() -> None:
    ran = started("methods >&-")
    assert ran.returncode == 2
    assert ran.stderr == "bandwise: error: standard output is closed; add > /dev/null\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_is_one_line() -> None:
    ran = started("methods > /dev/full")
    assert ran.returncode == 2
    assert ran.stderr == "bandwise: error: standard output: No space left on device\n"


def test_an_interrupt_during_the_imports_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sim.__main__ import main

    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "sim.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "sim.cli.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
    assert capsys.readouterr().err == "bandwise: interrupted\n"
