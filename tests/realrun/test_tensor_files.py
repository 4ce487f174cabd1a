"""A file of tensors is read as it was written, or refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402

from realrun.errors import AgreedError  # noqa: E402
from realrun.model.stages import ModelError  # noqa: E402
from realrun.state import (  # noqa: E402
    saved,
    tensor_files,
)
from realrun.state.checkpoint import Checkpoints, State  # noqa: E402

STATE = State(
    {
        "theta": torch.arange(6, dtype=torch.float32).view(2, 3),
        "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "none": torch.empty(0),
    },
    {"model": {"steps": [3, 4]}, "data": 0.1},
)


def checkpoints(folder: Path, rank: int = 0, **identity: str) -> Checkpoints:
    return Checkpoints(folder, rank, 1, {"method": "ddp", **identity}, lambda value: [value])


def same(found: State) -> bool:
    return found.notes == STATE.notes and {
        name: (tensor.dtype, tensor.tolist()) for name, tensor in found.tensors.items()
    } == {name: (tensor.dtype, tensor.tolist()) for name, tensor in STATE.tensors.items()}


def read(folder: Path) -> tuple[str | None, tuple[int, State] | None]:
    """Why the last checkpoint is refused, or what is in it."""
    try:
        return None, checkpoints(folder).latest()
    except AgreedError as error:
        return str(error), None


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """The later of two checkpoints."""
    for round_ in (3, 6):
        checkpoints(tmp_path).save(round_, STATE)
    return tmp_path / "round-00000006.rank-00000.safetensors"


def test_what_was_written_comes_back_and_nothing_else_is_left(last: Path) -> None:
    found = checkpoints(last.parent).latest()
    assert found is not None
    assert found[0] == 6
    assert same(found[1])
    assert {path.suffix for path in last.parent.iterdir()} == {".safetensors"}
    assert load_file(last)["theta"].tolist() == STATE.tensors["theta"].tolist()


def test_a_flipped_bit_of_a_checkpoint_is_refused_or_changes_nothing(last: Path) -> None:
    whole, refused = last.read_bytes(), 0
    bits = random.Random(3).sample(range(8 * len(whole)), 2_000)  # all of them take minutes
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        last.write_bytes(damaged)
        line, found = read(last.parent)
        if line is None:
            assert found is not None
            assert same(found[1])
            continue
        refused += 1
        assert f"rank 0: checkpoint {last}" in line
        assert "; remove this file to resume from round 3" in line
    assert refused > 0.98 * len(bits)


def test_a_damaged_tensor_is_named(last: Path) -> None:
    whole = last.read_bytes()
    place = whole.index(STATE.tensors["theta"].numpy().tobytes()) + 4
    last.write_bytes(whole[:place] + b"\x07" + whole[place + 1 :])
    with pytest.raises(AgreedError, match="is damaged: tensor theta is not as it was written"):
        checkpoints(last.parent).latest()


def test_the_only_checkpoint_of_a_run_has_no_earlier_one(last: Path) -> None:
    last.with_name("round-00000003.rank-00000.safetensors").unlink()
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(AgreedError, match="there is no earlier round of all ranks"):
        checkpoints(last.parent).latest()


def test_another_ranks_file_is_not_taken(last: Path) -> None:
    last.rename(last.with_name("round-00000006.rank-00001.safetensors"))
    with pytest.raises(AgreedError, match=r"is of round 6, rank 0; give it back its name"):
        checkpoints(last.parent, rank=1).latest()


def without_digests(path: Path, schema: int) -> None:
    note = {"schema": schema, "round": 6, "rank": 0, "notes": STATE.notes}
    note["identity"] = {"method": "ddp", "workers": "1"}
    save_file(STATE.tensors, path, metadata={"bandwise": json.dumps(note)})


def test_checkpoints_of_the_earlier_schema_are_read_without_digests(last: Path) -> None:
    without_digests(last, schema=2)
    found = checkpoints(last.parent).latest()
    assert found is not None
    assert same(found[1])


@pytest.mark.parametrize(
    ("schema", "message"), [(3, "is damaged: no digests"), (1, "has schema 1; this version")]
)
def test_no_other_checkpoint_may_lack_digests(last: Path, schema: int, message: str) -> None:
    without_digests(last, schema)
    with pytest.raises(AgreedError, match=message):
        checkpoints(last.parent).latest()


# -- trained models ------------------------------------------------------------------------
def test_a_damaged_model_is_refused_and_plain_torch_reads_a_whole_one(tmp_path: Path) -> None:
    path, module = tmp_path / "model.safetensors", nn.Linear(2, 2)
    saved.save(module, path)
    module.load_state_dict(load_file(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"model\.safetensors: is damaged: tensor weight is not"):
        saved.begin_from(path, module, [module])
    path.write_bytes(whole.replace(b'"sha256":', b'"sha257":'))
    with pytest.raises(ModelError, match=r"model\.safetensors: is damaged: its notes are not"):
        saved.begin_from(path, module, [module])
    save_file(load_file(path), path)  # as another program would
    saved.begin_from(path, module, [module])


def test_a_write_that_fails_leaves_the_earlier_file(
    last: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: Any, partial: Path, **_: Any) -> None:
        partial.write_bytes(b"half")
        (partial.parent / ".tmp").write_bytes(b"what a writer leaves first")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", full)
    before = {path: path.read_bytes() for path in last.parent.iterdir()}
    with pytest.raises(AgreedError, match=r"round-00000009.* No space left on device"):
        checkpoints(last.parent).save(9, STATE)
    assert {path: path.read_bytes() for path in last.parent.iterdir()} == before


def test_the_same_tensors_and_texts_are_the_same_bytes(tmp_path: Path) -> None:
    texts = {name: f'"{name}" \u00e9\n' for name in "zyxwvu"}
    for name in ("one", "two"):
        tensor_files.write(tmp_path / name, {"b": torch.ones(3), "a": torch.zeros(2, 2)}, texts)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    tensors, read, checked = tensor_files.read(tmp_path / "one")
    assert checked
    assert read == texts
    assert torch.equal(tensors["b"], torch.ones(3))
