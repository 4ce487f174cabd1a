"""Files that are no files, hardware files that are not whole, names of accelerators."""

from __future__ import annotations

import os
import threading
import tomllib
from pathlib import Path

import pytest
import tomli_w
from support.command_line import Bandwise

from sim.scenario import ScenarioError, load, load_study
from sim.scenario.hardware import entries, read_hardware
from sim.scenario.presets import ACCELERATORS, accelerator
from sim.scenario.samples import read_samples
from sim.storage import inputs
from sim.storage.inputs import NotAFileError, check_regular, read

ROOT = Path(__file__).parents[2]
TEXT = '[model]\nname = "1B"\n[run]\nsteps = 100\n'


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A named pipe to which nobody writes yet; patience ends soon."""
    monkeypatch.setattr(inputs, "PATIENCE_S", 0.05)
    path = tmp_path / "pipe.toml"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("reader", [load, load_study])
def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(reader: object, pipe: Path) -> None:
    with pytest.raises(ScenarioError, match="is a pipe to which nobody has written"):
        reader(pipe)  # type: ignore[operator]


def test_a_pipe_whose_writer_stops_in_the_middle_is_refused(pipe: Path) -> None:
    writer = os.open(pipe, os.O_RDWR)
    try:
        os.write(writer, b"[model]")
        with pytest.raises(NotAFileError, match="nobody goes on writing"):
            read(pipe)
    finally:
        os.close(writer)


def test_a_scenario_from_a_pipe_with_a_writer_is_read_as_often_as_needed(
    pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "PATIENCE_S", 60.0)
    writer = threading.Thread(target=pipe.write_text, args=(TEXT,))
    writer.start()
    assert load(pipe).run.steps == 100
    writer.join()
    assert load(pipe).run.steps == 100


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(name: str, bandwise: Bandwise) -> None:
    with pytest.raises(ScenarioError, match=f"{name}: is a device; name a regular file"):
        load(name)
    ran = bandwise("simulate", "--model", "1B", "--hardware", name)
    assert (ran.status, ran.err) == (
        2,
        f"bandwise: error: {name}: is a device; name a regular file\n",
    )


def test_traces_tables_and_samples_are_not_read_from_pipes_that_stay_silent(
    pipe: Path, bandwise: Bandwise
) -> None:
    ran = bandwise("simulate", "--model", "1B", "--replay", pipe)
    assert (ran.status, ran.err.count("is a pipe")) == (2, 1)
    with pytest.raises(ScenarioError, match="is a pipe"):
        read_samples(pipe, "samples.csv")
    with pytest.raises(NotAFileError, match="is a pipe; name a regular file"):
        check_regular(pipe)


# Hardware files


def kept() -> list[Path]:
    return [
        path
        for folder in ("scenarios/hardware", "validation")
        for path in sorted((ROOT / folder).rglob("*.toml"))
        if "calibration" in tomllib.loads(path.read_text())
    ]


@pytest.mark.parametrize("path", kept(), ids=lambda path: path.name)
def test_kept_hardware_files_load(path: Path) -> None:
    found = read_hardware(path, path.name)
    assert found.machines or found.links


@pytest.fixture(scope="module")
def written() -> str:
    """A hardware file as the calibration writes it, of the example's measurements."""
    data = tomllib.loads((ROOT / "scenarios/hardware/example.toml").read_text())
    about = data.pop("calibration")
    about = {**about, "entries": entries(data), "versions": {"python": "3.11.2"}}
    return tomli_w.dumps({"calibration": about, **data})


def test_a_hardware_file_that_was_cut_anywhere_is_refused(written: str, tmp_path: Path) -> None:
    lines = written.splitlines(keepends=True)
    whole = tmp_path / "whole.toml"
    whole.write_text(written)
    read_hardware(whole, "whole.toml")
    held = entries(tomllib.loads(written))
    for number in range(len(lines)):
        path = tmp_path / f"{number}.toml"
        path.write_text("".join(lines[:number]))
        try:
            left = entries(tomllib.loads(path.read_text()))
        except tomllib.TOMLDecodeError:
            left = []
        if left == held:
            continue  # nothing but blank lines were cut
        with pytest.raises(ScenarioError, match=rf"^{number}\.toml: "):
            read_hardware(path, path.name)


def test_a_hardware_file_that_was_cut_within_its_last_number_is_refused(
    written: str, tmp_path: Path
) -> None:
    path = tmp_path / "cut.toml"
    path.write_text(f"{written.rstrip()}\nalpha_s = 0.012345"[:-3])
    with pytest.raises(ScenarioError, match=r"^cut\.toml: its last line has no end"):
        read_hardware(path, path.name)


def test_a_missing_entry_is_named(written: str, tmp_path: Path) -> None:
    data = tomllib.loads(written)
    name = next(iter(data["machine"]))
    key = next(iter(data["machine"][name]))
    del data["machine"][name][key]
    path = tmp_path / "hw.toml"
    path.write_text(tomli_w.dumps(data))
    with pytest.raises(ScenarioError, match=rf"hw.toml: machine.{name}.{key}.*: missing"):
        read_hardware(path, "hw.toml")


def test_the_calibration_lists_what_its_file_has(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from realrun.calibration.records import Link, hardware, write

    about = {"parameters": 10, "workers": 2, "workers_here": 2, "backend": "gloo", "concurrent": 1}
    links = [Link("paris-osaka", 1e8, 0.03, first_s=0.5)]
    contents = hardware(links, None, None, [], device=torch.device("cpu"), **about)
    path = tmp_path / "hw.toml"
    write(contents, path)
    assert read_hardware(path, "hw.toml").link("paris", "osaka") is not None
    path.write_text(path.read_text().replace("first_collective_s = 0.5\n", ""))
    os.utime(path, ns=(1, 1))
    with pytest.raises(ScenarioError, match="first_collective_s: missing"):
        read_hardware(path, "hw.toml")


# Accelerators


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("4090", "RTX 4090"),
        ("RTX4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("GB200", "GB200"),
        ("GB200 NVL72", "GB200"),
        ("A100-80GB", "A100"),
        ("A10080GB", "A100"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("H100 SXM", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("H100-PCIe", "H100 PCIe"),
        ("h200", "H200"),
        ("B200", "B200"),
        ("AMD Instinct MI300X", "MI300X"),
        ("TPU v5e", "TPU v5e"),
        ("v5litepod", "TPU v5e"),
    ],
)
def test_spellings_of_an_accelerator_lead_to_its_preset(name: str, preset: str) -> None:
    assert accelerator(name) is ACCELERATORS[preset]
    scenario = load(None, {"--model": "1B", "--accelerators": f"8 x {name}"})
    assert scenario.workers[0].machine.peak_flops == ACCELERATORS[preset].peak


@pytest.mark.parametrize("name", ["RTX 4090 Laptop GPU", "RTX 4090 D", "V100 PCIe", "H1000", "64"])
def test_cards_of_another_peak_are_not_taken_for_a_preset(name: str) -> None:
    assert accelerator(name) is None


def test_zero_is_the_same_in_every_unit(bandwise: Bandwise) -> None:
    ran = bandwise("simulate", "--model", "1B", "--bandwidth", "0")
    assert ran.err == 'bandwise: error: --bandwidth: "0": must be more than zero\n'
    assert load(None, {"--model": "1B", "--rtt": "0"}).network.latency[0][1] == 0
