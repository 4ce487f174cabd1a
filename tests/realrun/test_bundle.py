"""A bundle of a cluster's results: what stops it, and what its archive does not hold."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("torch")

from support.command_line import Command

from realrun.bundle.packing import packed

STUDY = Path(__file__).parents[2] / "validation" / "cluster" / "study.toml"


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ([], "--nnodes: missing; on each of two machines, N being 0 on the first: realrun bundle"),
        (["--nnodes", "2", "--node-rank", "0"], "--master-addr: missing; on each"),
        (
            ["--nnodes", "2", "--node-rank", "2", "--master-addr", "x"],
            "--node-rank: 2: must be 0 to 1",
        ),
        (
            ["--nnodes", "3", "--node-rank", "0", "--master-addr", "x"],
            "--nnodes: 3: the study's configurations have 2 workers",
        ),
    ],
)
def test_it_says_how_it_is_started(
    realrun: Command, tmp_path: Path, place: list[str], line: str
) -> None:
    ran = realrun("bundle", str(STUDY), "--out", str(tmp_path / "results"), *place)
    assert ran.status == 2
    assert ran.err.startswith(f"realrun: error: {line}")


def test_names_and_folders_stay_out_of_the_archive(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    (folder / "validation").mkdir(parents=True)
    (folder / "study.toml").write_text('path = "/data/eva/corpus.bin"\n[[site]]\nname = "gpu-a"\n')
    (folder / "doctor.json").write_text('{"host": "gpu-a.lab", "home": "/home/eva/runs, 10 GB/s"}')
    (folder / "validation" / "report.md").write_text("gpu-a and gpu-ab, 10.0.0.7: 3 and/or 4\n")
    (folder / "secret.txt").write_text("gpu-a")
    names = {"gpu-a": "machine-1", "gpu-a.lab": "machine-1", "/home/eva": "~", "10.0.0.7": "first"}
    archive = tmp_path / "results.tar.gz"
    found = packed(folder, archive, names)
    assert found == ["study.toml", "doctor.json", "validation/report.md"]
    with tarfile.open(archive) as tar:
        texts = {}
        for each in tar.getmembers():
            file = tar.extractfile(each)
            assert file is not None
            texts[each.name] = file.read().decode()
    assert texts["results/study.toml"] == 'path = ".../corpus.bin"\n[[site]]\nname = "machine-1"\n'
    assert texts["results/doctor.json"] == '{"host": "machine-1", "home": ".../runs, 10 GB/s"}'
    assert texts["results/validation/report.md"] == "machine-1 and gpu-ab, first: 3 and/or 4\n"
    assert list(texts) == ["results/README.md", *(f"results/{name}" for name in found)]
    first = archive.read_bytes()
    packed(folder, archive, names)
    assert archive.read_bytes() == first


def started(study: Path, rank: int, port: int, out: Path, **more: str) -> subprocess.Popen[str]:
    """Start the command as it is started on one of two machines."""
    place = ["--nnodes", "2", "--node-rank", str(rank), "--master-addr", "127.0.0.1"]
    command = ["bundle", str(study), "--out", str(out), *place, "--master-port", str(port)]
    return subprocess.Popen(
        [sys.executable, "-m", "realrun", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_all_machines_have_the_same_study(tmp_path: Path) -> None:
    other = tmp_path / "study.toml"
    other.write_text(STUDY.read_text() + "\n# another\n")
    port, out = free_port(), tmp_path / "results"
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0"} for rank in range(2)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # as torchrun tells it
    begun = [
        started(file, rank, port, out, **ranks[rank], **place)
        for rank, file in enumerate((STUDY, other))
    ]
    said = [each.communicate(timeout=600)[1] for each in begun]
    assert [each.returncode for each in begun] == [2, 2]
    (line,) = said[0].splitlines()
    assert line.endswith("study.toml: is another file at rank 1; copy one to all machines")
    assert said[1] == ""  # rank 0 has said it
    assert not out.exists()


def test_it_stops_with_a_line_where_doctor_finds_that_training_cannot_run(tmp_path: Path) -> None:
    port, out = free_port(), tmp_path / "results"
    begun = [started(STUDY, rank, port, out, GLOO_SOCKET_IFNAME="nope0") for rank in range(2)]
    said = [each.communicate(timeout=600)[1] for each in begun]
    assert [each.returncode for each in begun] == [2, 2], said
    for each in said:
        (line,) = (line for line in each.splitlines() if " --json" not in line)
        assert line.startswith("realrun: error: doctor: ")
        assert "GLOO_SOCKET_IFNAME=nope0: no such card here" in line
        assert f"more: {out / 'doctor.json'})" in line
    assert not out.with_name("results.tar.gz").exists()
