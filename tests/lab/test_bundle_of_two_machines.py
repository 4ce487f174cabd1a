"""Two machines, each a network namespace: one command on each leaves one archive."""

from __future__ import annotations

import csv
import gzip
import io
import json
import platform
import re
import tarfile
from pathlib import Path
from tempfile import gettempdir

import pytest

pytest.importorskip("torch")

from support.labs import Started, marked, refusal, within
from support.thorough import only_thorough

WHY_NOT = refusal()
PATIENCE_S = 300
STUDY = """
name = "two machines"

[run]
rounds = 4

[model]
kind = "gpt"
hidden = 16
layers = 2
heads = 2
vocabulary = 256
context = 16
param_dtype = "bf16"

[method]
name = "ddp"

[[site]]
count = 2
step_time = "20 ms"
batch_tokens = 16

[network]
bandwidth = "50 Mbit/s"
rtt = "20 ms"

[study]
ask = "validate"
repeats = 1
duration = "0.5 s"
compute = ["paced"]

[study.axis.method]
"ddp" = {}
"diloco" = { method = { name = "diloco", sync_every = 5 } }
"""
# A lab tells its commands that they are ranks, which a machine does not.
COMMAND = (
    "unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT; "
    '"$1" -m realrun bundle study.toml --out {out} '
    "--nnodes 2 --node-rank {rank} --master-addr 198.18.0.1"
)


def unpacked(archive: Path) -> dict[str, bytes]:
    """Return the files of an archive without the folder that all of them are in."""
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        assert {(each.uid, each.gid, each.uname, each.gname) for each in members} == {
            (0, 0, "", "")
        }
        found = {}
        for each in members:
            top, _, name = each.name.partition("/")
            assert top == archive.name.removesuffix(".tar.gz")
            file = tar.extractfile(each)
            assert file is not None
            found[name] = file.read()
    return found


@pytest.mark.skipif(bool(WHY_NOT), reason=f"NO LAB HERE: {WHY_NOT}")
@only_thorough  # two calibrations at 50 Mbit/s, which is a minute of waiting
@pytest.mark.parametrize("fails", [False, True], ids=["", "power fails"])
def test_one_command_on_each_of_two_machines_leaves_one_archive(
    fails: bool, tmp_path: Path
) -> None:
    """Where the power fails while the study runs, the same command again continues."""
    (tmp_path / "study.toml").write_text(STUDY)
    out = tmp_path / "results"
    script = COMMAND.replace("{out}", str(out))  # an absolute path, to be found nowhere later
    kept = interrupted(tmp_path, script, out) if fails else {}

    lab = Started(tmp_path, script, "--plain")
    output, said = lab.process.communicate(timeout=PATIENCE_S)
    assert lab.process.returncode == 0, said
    assert "Traceback" not in said
    archive = tmp_path / "results.tar.gz"
    assert f"wrote {archive}: " in said
    assert "# Validation: two machines" in output
    assert kept == {name: (out / name).read_bytes()[: len(kept[name])] for name in kept}

    files = unpacked(archive)
    assert {"README.md", "study.toml", "doctor.json", "hardware.toml"} < files.keys()
    assert {"validation/report.md", "validation/timeline-ddp.json.gz"} < files.keys()
    assert files["study.toml"].decode() == STUDY
    check_names(files)
    # What the failure has broken off is not among them.
    ran = ["doctor", "calibrate", *(["doctor"] if fails else []), "validate"]
    check_versions(files, ran)
    check_predictions(files)


def interrupted(folder: Path, script: str, out: Path) -> dict[str, bytes]:
    """Begin, and kill all processes once a run is recorded; what is there then and has to stay."""
    runs = out / "validation" / "runs.jsonl"
    lab = Started(folder, script, "--plain")
    try:
        assert within(PATIENCE_S, lambda: runs.exists() or lab.process.poll() is not None)
        assert runs.exists(), lab.process.communicate()[1]
    finally:
        lab.process.kill()
        lab.process.communicate()
    assert within(10, lambda: not marked(lab.mark))
    assert not out.with_name("results.tar.gz").exists()
    names = "hardware.toml", "predictions.csv", "validation/runs.jsonl"
    found = {name: (out / name).read_bytes() for name in names}
    found["validation/runs.jsonl"] = found["validation/runs.jsonl"].split(b"\n")[0]
    return found


def check_names(files: dict[str, bytes]) -> None:
    """Nothing says whose machines they are."""
    folders = [str(folder).encode() for folder in (Path.home(), Path.cwd(), Path(gettempdir()))]
    host = rb"(?<![\w.])" + re.escape(platform.node().encode()) + rb"(?![\w.])"
    for name, content in files.items():
        text = gzip.decompress(content) if name.endswith(".gz") else content
        for private in (*folders, b"198.18.0."):
            assert private not in text, f"{name} holds {private!r}"
        if not name.endswith(".png"):  # in which a short name may be any two bytes
            assert not re.search(host, text), f"{name} names the machine"


def check_versions(files: dict[str, bytes], expected: list[str]) -> None:
    about = json.loads(files["versions.json"])
    assert [each["machine"] for each in about["machines"]] == ["machine-1", "machine-2"]
    for each in about["machines"]:
        assert each["system"].startswith("Linux ")
        assert each["settings"]["GLOO_SOCKET_IFNAME"]
        assert {"bandwise", "python", "torch", "nccl", "gpus", "driver", "cuda"} <= each.keys()
    ran = [each["command"].split()[1] for each in about["commands"]]
    assert ran == expected


def check_predictions(files: dict[str, bytes]) -> None:
    """They were made before the runs, and the report has the same."""
    tables = [
        list(csv.DictReader(io.StringIO(files[name].decode())))
        for name in ("predictions.csv", "validation/report.csv")
    ]
    predicted = {row["run"]: row for row in tables[0]}
    assert len(predicted) == 2
    assert len(tables[1]) == 2
    for row in tables[1]:
        before = float(predicted[row["run"]]["predicted_s"])
        assert float(row["other_calibration_s"]) == pytest.approx(before, rel=1e-12)
    times = [json.loads(line)["time"] for line in files["validation/runs.jsonl"].splitlines()]
    assert max(row["predicted_at"] for row in predicted.values()) <= min(times)
