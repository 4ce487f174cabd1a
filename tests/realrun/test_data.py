"""Who trains on what, in which order, and from where after a restart."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from realrun.data.batches import KEYS, Data, open_data
from realrun.data.corpus import (
    Corpus,
    DataError,
    standard_library,
    synthetic,
    text_files,
)
from realrun.data.shards import Samples, Stretches, split
from realrun.data.token_files import token_file
from sim.scenario.schema import DataSection


def corpus(lengths: list[int]) -> Corpus:
    """Token i is i: a batch then tells where it was read."""
    edges = np.concatenate([[0], np.cumsum(lengths)])
    return Corpus(np.arange(edges[-1], dtype=np.uint32), edges, "counted")


COUNTED: dict[str, Any] = {"vocabulary": 100_000, "context": 8, "workers": 2, "seed": 3}


def data(tokens: int = 5000, **changes: Any) -> Data:
    return Data(corpus([tokens]), **COUNTED | changes)


def opened(**keys: Any) -> Data:
    section = DataSection.model_validate(keys)
    return open_data(section, vocabulary=256, context=16, workers=2)


def refused(**keys: Any) -> str:
    with pytest.raises(DataError) as error:
        opened(**keys)
    assert "\n" not in str(error.value)
    return str(error.value)


def members(stretches: Stretches) -> list[int]:
    return [
        token
        for start, stop in zip(stretches.starts, stretches.stops, strict=True)
        for token in range(start, stop)
    ]


# -- shards ------------------------------------------------------------------------------
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    workers=st.integers(1, 5),
    shard=st.sampled_from(["iid", "source"]),
    every=st.integers(2, 20),
    block=st.integers(2, 30),
)
def test_shards_and_validation_are_disjoint_and_cover(
    lengths: list[int], workers: int, shard: str, every: int, block: int
) -> None:
    whole = corpus(lengths)
    try:
        shards, kept = split(whole, workers, shard, every, block)
    except DataError:
        assume(False)
    parts = [members(part) for part in [*shards, kept]]
    assert sorted(token for part in parts for token in part) == list(range(sum(lengths)))
    assert kept.tokens == len(parts[-1]) > 0


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    context=st.integers(1, 20),
)
def test_samples_stay_inside_and_overlap_in_one_token(lengths: list[int], context: int) -> None:
    """Every other source: no sample may reach into the ones between."""
    edges = corpus(lengths).edges
    stretches = Stretches(edges[:-1][::2], edges[1:][::2])
    samples = Samples(stretches, context)
    begins = samples.begins(np.arange(len(samples)))
    own = set(members(stretches))
    read = [range(begin, begin + context + 1) for begin in begins]
    assert all(own.issuperset(sample) for sample in read)
    targets = [token for sample in read for token in list(sample)[1:]]
    assert len(targets) == len(set(targets))
    assert len(samples) == sum((length - 1) // context for length in lengths[::2])


@pytest.mark.parametrize("shard", ["iid", "source"])
def test_what_is_trained_on_is_never_validated_on(shard: str) -> None:
    whole = corpus([50] * 100)
    found = Data(whole, vocabulary=5000, context=8, workers=3, shard=shard)
    trained: list[set[int]] = []
    for rank in range(3):
        batches = found.batches(rank, 4)
        trained.append({int(t) for _ in range(200) for part in next(batches) for t in part.ravel()})
    validated = {int(t) for batch in found.validation(2) for part in batch for t in part.ravel()}
    assert validated
    for one, other in [(0, 1), (0, 2), (1, 2)]:
        assert not trained[one] & trained[other]
    assert not any(validated & own for own in trained)


def test_sources_stay_together_and_shares_are_about_equal() -> None:
    shards, _ = split(corpus([30] * 400), 4, "source", 20, 0)
    for one, other in pairwise(shards):
        assert one.stops[-1] <= other.starts[0]
    assert {part.tokens for part in shards} == {30 * 95}


def test_blocks_are_dealt_in_turn() -> None:
    shards, kept = split(corpus([100]), 2, "iid", 5, 10)
    assert [part.starts.tolist() for part in shards] == [[0, 20, 50, 70], [10, 30, 60, 80]]
    assert kept.starts.tolist() == [40, 90]


# -- batches -----------------------------------------------------------------------------
def test_targets_are_the_inputs_one_later() -> None:
    inputs_bt, targets_bt = next(data().batches(0, 4))
    assert inputs_bt.shape == targets_bt.shape == (4, 8)
    assert inputs_bt.dtype == targets_bt.dtype == torch.int64
    assert torch.equal(inputs_bt + 1, targets_bt)


def test_an_epoch_reads_every_sample_once_and_the_next_in_another_order() -> None:
    batches = data().batches(1, 1)
    epochs = [[int(next(batches)[0][0, 0]) for _ in range(batches.samples)] for _ in range(2)]
    assert len(set(epochs[0])) == batches.samples
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]


def test_a_batch_across_the_end_of_an_epoch_is_filled_from_the_next() -> None:
    batches = data().batches(0, 7)
    single = data().batches(0, 1)
    for _ in range(2 * batches.samples // 7 + 1):
        expected = [next(single)[0] for _ in range(7)]
        assert torch.equal(next(batches)[0], torch.cat(expected))


@given(before=st.integers(0, 250), batch=st.integers(1, 9))
def test_a_restored_position_continues_bitwise(before: int, batch: int) -> None:
    found = data(3000)
    first = found.batches(1, batch)
    for _ in range(before):
        next(first)
    saved = json.loads(json.dumps(first.state()))
    second = data(3000).batches(1, batch)
    second.restore(saved)
    for _ in range(20):
        for one, other in zip(next(first), next(second), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("workers", {"workers": 3}),
        ("context", {"context": 4}),
        ("seed", {"seed": 4}),
        ("corpus", {"sources": 49}),
        ("shard", {"shard": "source"}),
        ("block_tokens", {"block_tokens": 200}),
    ],
)
def test_a_position_of_another_run_is_refused(key: str, changes: dict[str, Any]) -> None:
    by_block = Data(corpus([50] * 100), **COUNTED)
    saved = by_block.batches(0, 2).state()
    other = Data(corpus([changes.pop("sources", 50)] * 100), **COUNTED | changes)
    with pytest.raises(DataError, match=f"{key} was"):
        other.batches(0, 2).restore(saved)


def test_a_position_of_another_worker_or_an_incomplete_one_is_refused() -> None:
    saved = data().batches(0, 2).state()
    with pytest.raises(DataError, match="rank was 0, here it is 1"):
        data().batches(1, 2).restore(saved)
    for lost in saved:
        partial = {key: value for key, value in saved.items() if key != lost}
        with pytest.raises(DataError, match=f"has no {lost}"):
            data().batches(0, 2).restore(partial)


def test_a_seed_gives_the_same_batches_and_another_seed_others() -> None:
    one, same, other = (next(data(seed=seed).batches(0, 8))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_validation_is_the_same_every_time_and_spread_over_the_split() -> None:
    found = data(20_000)
    everything = list(found.validation(4))
    assert len(everything) == len(Samples(found.validation_shard, 8)) // 4
    some = [inputs for inputs, _ in found.validation(4, 5)]
    assert len(some) == 5
    assert torch.equal(torch.cat(some), torch.cat([x for x, _ in found.validation(4, 5)]))
    assert int(some[-1].max()) > 18_000
    assert len(next(data(2600).validation(100))[0]) == 16


# -- the standard library ----------------------------------------------------------------
def test_the_standard_library_is_there_and_reads_the_same_twice() -> None:
    one, two = standard_library(), standard_library()
    assert len(one.tokens) > 5e6
    assert one.sources > 300
    assert one.fingerprint() == two.fingerprint()
    assert b"def namedtuple(" in one.tokens.tobytes()
    assert (one.tokens[one.edges[1:] - 1] == 0).all()
    print_ascii = np.isin(one.tokens, np.frombuffer(bytes(range(32, 127)) + b"\n\t", np.uint8))
    assert print_ascii.mean() > 0.98


def test_what_is_taken_of_a_folder(tmp_path: Path) -> None:
    for name, text in {
        "b.py": "b",
        "a/z.py": "z",
        "a.py": "a",
        "test/t.py": "t",
        "x/tests/t.py": "t",
        "site-packages/s.py": "s",
        "_sysconfigdata_linux.py": "s",
        "config-3.11/c.py": "c",
        "note.txt": "n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "gone.py").symlink_to("nowhere")
    found = standard_library(tmp_path)
    assert found.tokens.tobytes() == b"z\0a\0b\0"
    assert found.edges.tolist() == [0, 2, 4, 6]
    with pytest.raises(DataError, match="no text of the standard library"):
        standard_library(tmp_path / "nothing")


def test_without_a_kind_it_is_the_standard_library() -> None:
    found = opened()
    assert found.corpus.description.startswith("standard library of Python 3")
    assert found.layout == opened(kind="stdlib").layout


# -- text files --------------------------------------------------------------------------
def test_text_files_of_a_folder_are_sources_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "more/c.txt", "note.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = text_files(tmp_path, "*.txt")
    assert found.tokens.tobytes() == b"a.txt\0b.txt\0more/c.txt\0"
    assert found.sources == 3
    assert text_files(tmp_path, "*.md").tokens.tobytes() == b"note.md\0"
    assert text_files(tmp_path / "note.md", "*.txt").sources == 1


def test_text_is_trained_on_from_the_scenarios_folder(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("All happy families are alike. " * 400)
    section = DataSection.model_validate({"kind": "text", "path": "book.txt"})
    found = open_data(section, vocabulary=256, context=16, workers=2, folder=tmp_path)
    inputs_bt, _ = next(found.batches(0, 4))
    assert "happy" in bytes(inputs_bt.flatten().tolist()).decode()


def test_bad_text_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"a\0b")
    (tmp_path / "wide.txt").write_text("wide", encoding="utf-16")
    os.mkfifo(tmp_path / "pipe.txt")
    for name, message in (
        ("none.txt", "no such file or folder$"),
        ("emty.txt", r'no such file or folder; did you mean "empty\.txt"'),
        ("empty.txt", "is empty"),
        ("binary.txt", "is not text"),
        ("wide.txt", "UTF-16; save it as UTF-8"),
        ("pipe.txt", "neither a file nor a folder"),
    ):
        with pytest.raises(DataError, match=rf"data\.path: .*{name}.*{message}"):
            text_files(Path(name), "*.txt")
    with pytest.raises(DataError, match=r'matches data\.files = "\*\.rst"; it has 3 \*\.txt$'):
        text_files(tmp_path, "*.rst")
    with pytest.raises(DataError, match=r'data\.files: "/\*\.txt": .*write a pattern like'):
        text_files(tmp_path, "/*.txt")
    (tmp_path / "void").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "void" / name).touch()
    with pytest.raises(DataError, match="all 2 files in it are empty"):
        text_files(tmp_path / "void", "*.txt")


def test_text_may_have_any_bytes_but_0(tmp_path: Path) -> None:
    content = bytes(range(1, 256)) * 40  # no UTF-8
    (tmp_path / "odd.txt").write_bytes(content)
    found = opened(kind="text", path=str(tmp_path / "odd.txt"), validation_every=2)
    assert found.corpus.tokens.tobytes() == content + b"\0"
    inputs_bt, _ = next(found.batches(1, 4))
    assert int(inputs_bt.max()) > 127


# -- token files -------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_a_token_file_is_mapped(tmp_path: Path, dtype: str) -> None:
    (np.arange(6000) % 251).astype(dtype).tofile(tmp_path / "t.bin")
    section = DataSection.model_validate(
        {"kind": "tokens", "path": "t.bin", "dtype": dtype, "validation_every": "5"}
    )
    found = open_data(section, vocabulary=251, context=16, workers=2, folder=tmp_path)
    assert isinstance(found.corpus.tokens, np.memmap)
    inputs_bt, targets_bt = next(found.batches(0, 4))
    assert torch.equal((inputs_bt + 1) % 251, targets_bt)


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_a_file_of_numpys_says_its_dtype_itself(tmp_path: Path, dtype: str) -> None:
    numbers = (np.arange(6000) % 251).astype(dtype)
    np.save(tmp_path / "t.npy", numbers)
    numbers.tofile(tmp_path / "t.bin")
    found = opened(kind="tokens", path=str(tmp_path / "t.npy"))
    assert isinstance(found.corpus.tokens, np.memmap)
    raw = opened(kind="tokens", path=str(tmp_path / "t.bin"), dtype=dtype)
    assert found.layout == raw.layout
    other = {"uint16": "uint32", "uint32": "uint16"}[dtype]
    message = refused(kind="tokens", path=str(tmp_path / "t.npy"), dtype=other)
    assert message.startswith(f'data.dtype: "{other}": ')
    assert message.endswith(f"holds {dtype}, as its header says; leave data.dtype out")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (np.arange(2000), 'holds int64; .* numpy.save(path, tokens.astype("uint16"))'),
        (np.zeros((20, 20), np.uint16), "has the shape (20, 20); .* tokens.reshape(-1)"),
        (np.zeros(0, np.uint16), "is empty"),
        (np.array([{}]), "cannot be read: "),
    ],
)
def test_a_file_of_numpys_that_is_no_row_of_tokens_is_refused(
    tmp_path: Path, made: Any, message: str
) -> None:
    np.save(tmp_path / "t.npy", made)
    found = refused(kind="tokens", path=str(tmp_path / "t.npy"))
    assert all(part in found for part in message.split(" .* "))


def test_a_file_of_numpys_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros(9000, np.uint16))
    os.truncate(tmp_path / "t.npy", 5000)
    assert "cannot be read" in refused(kind="tokens", path=str(tmp_path / "t.npy"))


def test_documents_of_a_token_file_are_sources(tmp_path: Path) -> None:
    np.array([5, 6, 0, 7, 0, 0, 8], dtype=np.uint16).tofile(tmp_path / "t.bin")
    assert token_file(tmp_path / "t.bin", "uint16", 9, 0).edges.tolist() == [0, 3, 5, 6, 7]


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_bad_token_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.bin"
    numbers = np.arange(1, 1001)
    assert "no such file" in refused(kind="tokens", path=str(path))
    assert "is a folder" in refused(kind="tokens", path=str(tmp_path))
    assert "is empty" in refused(kind="tokens", path=write(path, b""))
    message = refused(kind="tokens", path=write(path, b"abc"))
    assert "3 bytes are not a whole number of uint16" in message
    message = refused(kind="tokens", path=write(path, numbers.astype(np.uint32).tobytes()))
    assert 'looks like data.dtype = "uint32"' in message
    message = refused(
        kind="tokens", dtype="uint32", path=write(path, numbers.astype(np.uint16).tobytes())
    )
    assert "outside the vocabulary" in message
    for dtype in ("uint16", "uint32"):
        message = refused(kind="tokens", dtype=dtype, path=write(path, numbers.tobytes()))
        assert "look like numbers of 64 bits" in message
    assert 'did you mean "t.bin"?' in refused(kind="tokens", path=str(tmp_path / "tt.bin"))
    assert "path: missing" in refused(kind="tokens")


def test_a_token_outside_the_vocabulary_is_refused_when_it_is_read() -> None:
    numbers = np.zeros(3_000_000, dtype=np.uint16)
    numbers[2_500_000:] = 300
    found = Data(
        Corpus(numbers, np.array([0, 3_000_000]), "t.bin"), vocabulary=256, context=64, workers=1
    )
    with pytest.raises(DataError, match="token 300 is outside the vocabulary"):
        list(found.validation(16))


# -- a Hugging Face dataset --------------------------------------------------------------
@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The real package; it reads these settings when it is first imported."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(folder))
        yield pytest.importorskip("datasets", reason="the extra [datasets] is not installed")


def test_a_local_dataset_is_read_by_rows(tmp_path: Path, datasets: Any) -> None:
    texts = [f"row {number}: " + "abc " * number for number in range(60)]
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps({"text": text, "other": 1}) + "\n" for text in texts)
    )
    found = opened(kind="huggingface", path=str(tmp_path), shard="source")
    assert found.corpus.tokens.tobytes().decode().split("\0")[:-1] == texts
    assert found.corpus.sources == 60
    message = refused(kind="huggingface", path=str(tmp_path), column="txt")
    assert 'the dataset has text and other; did you mean "text"?' in message
    assert "split" in refused(kind="huggingface", path=str(tmp_path), split="tset")


def test_a_saved_dataset_of_tokens(tmp_path: Path, datasets: Any) -> None:
    rows = [[number, number + 1, 7] * 10 for number in range(50)]
    made = datasets.Dataset.from_dict({"ids": rows, "bad": [[0.5]] * 50})
    made.save_to_disk(str(tmp_path / "one"))
    found = opened(kind="huggingface", path=str(tmp_path / "one"), column="ids", block_tokens=60)
    assert found.corpus.tokens.tolist() == [token for row in rows for token in row]
    assert found.corpus.edges.tolist() == list(range(0, 1501, 30))
    datasets.DatasetDict(train=made).save_to_disk(str(tmp_path / "two"))
    again = opened(kind="huggingface", path=str(tmp_path / "two"), column="ids", block_tokens=60)
    assert again.layout == found.layout
    message = refused(kind="huggingface", path=str(tmp_path / "two"), split="trian")
    assert message == 'data.split: "trian": the dataset has train; did you mean "train"?'
    message = refused(kind="huggingface", path=str(tmp_path / "one"), column="bad")
    assert "must hold texts or lists of tokens" in message


def test_a_dataset_that_is_not_there(datasets: Any) -> None:
    assert "cannot be loaded" in refused(kind="huggingface", path="no-one/nothing-of-the-kind")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refused(kind="huggingface", path="x")
    assert message == (
        'data.kind: "huggingface": needs the package datasets; pip install "bandwise[datasets]"'
    )


# -- the rest ----------------------------------------------------------------------------
def test_random_numbers_use_the_whole_vocabulary() -> None:
    found = synthetic(50_000, 100_000, seed=1)
    assert found.tokens.dtype == np.uint32
    assert 99_000 < found.tokens.max() < 100_000
    assert synthetic(10, 256, 1).tokens.tolist() == synthetic(10, 256, 1).tokens.tolist()
    assert opened(kind="synthetic", tokens="1Mi").corpus.tokens.size == 1 << 20


def test_bad_keys_are_refused() -> None:
    assert 'data.kind: "stdlb": must be "stdlib"' in refused(kind="stdlb")
    assert 'did you mean "stdlib"?' in refused(kind="stdlb")
    assert 'kind = "stdlib" takes shard' in refused(kind="stdlib", path="x")
    assert 'did you mean "shard"?' in refused(kind="stdlib", shards="iid")
    assert "must be iid or source" in refused(shard="files")
    assert "must be at least 2" in refused(validation_every=1)
    assert "must be more than model.context = 16" in refused(block_tokens=16)
    assert "must be uint16 or uint32" in refused(kind="tokens", path="x", dtype="int64")
    assert refused(path="x") == (
        'data.kind: missing; with data.path it must be "text", "tokens" or "huggingface"'
    )
    for kind in KEYS:
        assert "takes" in refused(kind=kind, path="x", nonsense=1)


def test_too_little_text_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"too small: 4 blocks of 1,201 tokens in counted; .* at least 20"
    ):
        Data(corpus([4000]), vocabulary=4000, context=75, workers=2)
    with pytest.raises(DataError, match=r"20; a smaller data.block_tokens makes more of them"):
        Data(corpus([4000]), vocabulary=4000, context=75, workers=2)
    with pytest.raises(DataError, match=r"too small: 30 blocks .* 40 workers .* at least 42"):
        Data(corpus([30 * 129]), vocabulary=4000, context=8, workers=40)
    with pytest.raises(DataError, match="too small: 1 source in"):
        Data(corpus([4000]), vocabulary=4000, context=8, workers=2, shard="source")
    with pytest.raises(DataError, match="worker 0 of 2 gets no sample of context"):
        Data(corpus([5] * 100), vocabulary=500, context=500, workers=2, shard="source")
    section = DataSection.model_validate({"kind": "stdlib"})
    with pytest.raises(DataError, match="the data are bytes; must be at least 256"):
        open_data(section, vocabulary=100, context=8, workers=2)


def test_the_fingerprint_of_large_data_sees_its_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realrun.data.corpus._FULLY_HASHED", 10)
    whole = corpus([3_000_000])
    before = whole.fingerprint()
    whole.tokens[-1] = 0
    assert whole.fingerprint() != before


def test_the_entropy_of_the_text_leaves_something_to_learn() -> None:
    counts = np.bincount(standard_library().tokens, minlength=256) + 1e-9
    share = counts / counts.sum()
    assert 2.5 < -(share * np.log(share)).sum() < 4.0 < math.log(256)
