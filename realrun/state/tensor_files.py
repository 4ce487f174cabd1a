"""Files of tensors (safetensors), written whole or not at all, with a digest of each tensor.

The digests, and one of all texts, are among the file's metadata: other programs read these files
as any others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sim.scenario.errors import path_shown
from sim.storage.files import DamagedError, replacing

_TENSORS, _TEXTS = "sha256_of_tensors", "sha256"


def write(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write tensors, no two of which share memory, and texts.

    Raises
    ------
    OSError, SafetensorError
        If they cannot be written; an earlier file is then still there.
    """
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    digests = {name: _of_tensor(name, tensor) for name, tensor in here.items()}
    metadata = {**texts, _TENSORS: json.dumps(digests)}
    with replacing(path) as partial:
        save_file(here, partial, metadata={**metadata, _TEXTS: _of_texts(metadata)})
        _sort_texts(partial)


def read(path: Path, *, texts_only: bool = False) -> tuple[dict[str, Tensor], dict[str, str], bool]:
    """Return tensors, texts, and whether the file has digests, which are then those of both.

    Files of other programs and of earlier versions have none.

    Raises
    ------
    DamagedError
        Naming the file, and the tensor that is not as it was written.
    OSError, SafetensorError
        If it is no such file.
    """
    with safe_open(path, framework="pt") as file:
        texts: dict[str, str] = file.metadata() or {}
        names = list(file.keys())
        tensors = {} if texts_only else {name: file.get_tensor(name) for name in names}
    seal = texts.pop(_TEXTS, None)
    if seal is None and _TENSORS not in texts:
        return tensors, texts, False
    if _of_texts(texts) != seal:
        raise _damaged(path, "its notes are")
    digests: dict[str, str] = json.loads(texts.pop(_TENSORS))
    for name in sorted({*names, *digests}):
        if name not in digests or name not in names:
            raise _damaged(path, f"tensor {name} is")
        if not texts_only and _of_tensor(name, tensors[name]) != digests[name]:
            raise _damaged(path, f"tensor {name} is")
    return tensors, texts, True


def _sort_texts(path: Path) -> None:
    """Sort the texts of a file, which safetensors writes in a random order: same state, same bytes.

    The file begins with the size of its header, in 8 bytes, and the header, which is JSON.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        # A space at the end belongs to the header as well, so what follows need not move.
        written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(written) <= size:
            file.seek(8)
            file.write(written.ljust(size))


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(f"{path_shown(path)}: is damaged: {what} not as it was written")


def _of_texts(texts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def _of_tensor(name: str, tensor: Tensor) -> str:
    # SHA-256 is the fastest of hashlib's on processors that have instructions for it.
    found = hashlib.sha256(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
    found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
