"""The archive: what is in it, and without which names.

Files of text lose the names of machines, home folders, and the folders of absolute paths. What is
sealed or drawn (records of runs, pictures, timelines) names none: it is made of a study's own
words and of numbers.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

from sim.storage.files import replacing

#: What an archive holds, in its order: patterns of files in the folder, and what they are.
CONTENTS = {
    "study.toml": "the study: model, methods, machines",
    "versions.json": "machines, versions and settings; commands, when they ran, their status",
    "doctor.json": "what `realrun doctor` found on the machines and between them",
    "hardware.toml": "what `realrun calibrate` measured before any run",
    "predictions.csv": "what the simulator said from it, before any run",
    "validation/report.md": "predicted and measured, side by side",
    "validation/report.csv": "the same, a row for each run",
    "validation/runs.jsonl": "every run as it was recorded",
    "validation/calibration-*.toml": "what was measured in the launch of the runs",
    "validation/*.png": "pictures of the report",
    "validation/timeline-*.json.gz": "timelines for Perfetto",
}
_TEXTS = (".toml", ".json", ".csv", ".md")
_PATH = re.compile(r"(?<![\w:/.~<])(?:~|/[^\s/\"'`,;:()\[\]|<>]+)(?:/[^\s/\"'`,;:()\[\]|<>]+)+")


def archive_of(folder: Path) -> Path:
    """Return where the archive of a folder of results lies: next to it."""
    return folder.with_name(f"{folder.name}.tar.gz")


def packed(folder: Path, archive: Path, names: Mapping[str, str]) -> list[str]:
    """Write an archive of what a folder holds of :data:`CONTENTS`; return the files' names.

    Parameters
    ----------
    folder
        Of the results.
    archive
        A .tar.gz; the files lie in a folder of its name.
    names
        What is not to be in it, and what stands for it.
    """
    top = archive.name.removesuffix(".tar.gz")
    found = [path for pattern in CONTENTS for path in sorted(folder.glob(pattern))]
    with (
        replacing(archive) as partial,
        partial.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        _add(tar, f"{top}/README.md", _readme().encode())
        for path in found:
            content = path.read_bytes()
            if path.suffix in _TEXTS:
                content = without(content.decode(), names).encode()
            _add(tar, f"{top}/{path.relative_to(folder).as_posix()}", content)
    return [path.relative_to(folder).as_posix() for path in found]


def without(text: str, names: Mapping[str, str]) -> str:
    """Return a text without names, and with the last part alone of each absolute path.

    Examples
    --------
    >>> names = {"gpu-a": "machine-1", "/home/eva": "~"}
    >>> without("gpu-a (rank 0): /data/eva/x.bin, /home/eva/y.toml; 3 GB/s and/or gpu-ab", names)
    'machine-1 (rank 0): .../x.bin, .../y.toml; 3 GB/s and/or gpu-ab'
    """
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w|\.\w)", names[name], text)
    return _PATH.sub(lambda path: f".../{path[0].rpartition('/')[2]}", text)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file that is nobody's and of no time."""
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(content), 0o644
    tar.addfile(about, io.BytesIO(content))


def _readme() -> str:
    rows = "\n".join(f"| `{pattern}` | {what} |" for pattern, what in CONTENTS.items())
    return f"""\
# Predicted and measured on a cluster

What `realrun bundle` has left: the state of the machines, a calibration, predictions made from it \
before any run, and the runs.

| file | is |
|---|---|
{rows}

Machines are numbered: their names and addresses were replaced, and of absolute paths the last \
part is left. Of the environment only variables of NCCL, gloo, CUDA and threads were read.

The same report, predicted again from these runs:

    realrun validate study.toml --out validation --other-calibration hardware.toml --report-only
"""
