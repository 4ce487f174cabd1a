"""Where tokens come from: one long row of numbers, and where each source in it begins.

Five kinds: the text of Python's standard library (always there), text files, a file of tokens, a
Hugging Face dataset, and random numbers. Text is read as bytes, a vocabulary of 256; every file or
document of it ends with a byte 0, which marks its end.
"""

from __future__ import annotations

import importlib
import os
import platform
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.scenario import ScenarioError
from sim.scenario.errors import did_you_mean, listed, path_shown, shown
from sim.storage.inputs import check_regular

Tokens = NDArray[np.unsignedinteger[Any]]

DOCUMENT_END = 0
DTYPES = {"uint16": np.uint16, "uint32": np.uint32}

# What is no text of the library's own: tests, installed packages, and what was written down
# about this one build of Python, which would make the data differ between equal versions.
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_SKIPPED_BEGINNINGS = ("config-", "_sysconfigdata")
_FULLY_HASHED = 64 << 20  # bytes; of more, evenly spaced pieces are hashed
_LOOKED_AT = 1 << 20  # tokens of a file that are checked when it is opened


class DataError(ScenarioError):
    """Data that cannot be read or do not suffice; the text is one line."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Tokens and their sources.

    ``tokens`` is one row of unsigned integers, possibly memory-mapped. Source s (a file, a
    document) is ``tokens[edges[s] : edges[s + 1]]``. ``description`` is for people.
    """

    tokens: Tokens
    edges: NDArray[np.int64]
    description: str

    @property
    def sources(self) -> int:
        """Number of files or documents."""
        return len(self.edges) - 1

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that differ when the data do.

        Two machines with different versions of Python have different standard libraries; a
        restart must find the data it was trained on. Of large data only parts are read.
        """
        digest = blake2b(f"{self.tokens.dtype} {len(self.tokens)} ".encode(), digest_size=8)
        digest.update(np.ascontiguousarray(self.edges[:_LOOKED_AT]).tobytes())
        if self.tokens.nbytes <= _FULLY_HASHED:
            digest.update(np.ascontiguousarray(self.tokens).tobytes())
        else:
            for begin in np.linspace(0, len(self.tokens) - _LOOKED_AT, 16).astype(np.int64):
                piece = self.tokens[begin : begin + _LOOKED_AT]
                digest.update(np.ascontiguousarray(piece).tobytes())
        return digest.hexdigest()


def standard_library(folder: Path | None = None) -> Corpus:
    """Return the text of the installed Python standard library.

    All ``*.py`` files below the library's folder, in the order of their paths, without test
    folders, installed packages and what describes this one build; a file that cannot be read is
    left out. About 12 MB. Each file is a source.

    Parameters
    ----------
    folder
        Another folder of Python files, for tests.
    """
    root = folder or Path(sysconfig.get_path("stdlib"))
    paths = []
    for place, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED_FOLDERS and not name.startswith(_SKIPPED_BEGINNINGS)
        ]
        paths += [
            Path(place, name)
            for name in files
            if name.endswith(".py") and not name.startswith(_SKIPPED_BEGINNINGS)
        ]
    texts = []
    for path in sorted(paths, key=lambda path: path.relative_to(root).parts):
        try:
            texts.append(path.read_bytes())
        except OSError:
            continue
    if not texts:
        raise DataError(
            f'data.kind: "stdlib": no text of the standard library in {path_shown(root)}; '
            'give a file of tokens, kind = "tokens"'
        )
    size = sum(len(text) for text in texts) / 1e6
    return _documents(
        texts,
        f"standard library of Python {platform.python_version()}: "
        f"{len(texts):,} files, {size:.1f} MB",
    )


def text_files(path: Path, pattern: str) -> Corpus:
    """Return the bytes of a text file, or of all files in a folder and below; each is a source.

    Parameters
    ----------
    path
        The file or the folder.
    pattern
        Which files of a folder, like "*.txt"; in the order of their paths.

    Raises
    ------
    DataError
        No such file, or none that matches, or one that cannot be read.
    """
    where = f"data.path: {shown(path_shown(path))}"
    paths = [path]
    if path.is_dir():
        paths = sorted(each for each in path.rglob(pattern) if each.is_file())
        if not paths:
            raise DataError(f'{where}: no file in it matches data.files = "{pattern}"')
    elif path.exists() and not path.is_file():
        raise DataError(f"{where}: is neither a file nor a folder")
    texts = []
    for each in paths:
        try:
            texts.append(each.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{where}: no such file or folder") from None
        except OSError as error:
            raise DataError(f"{where}: {path_shown(each)}: {error.strerror}") from None
        if b"\0" in texts[-1]:
            raise DataError(
                f"{where}: {path_shown(each)} is not text: it has a byte 0, which ends a document"
            )
    if not any(texts):
        raise DataError(f"{where}: is empty")
    size = sum(map(len, texts)) / 1e6
    files = "1 file" if len(texts) == 1 else f"{len(texts):,} files"
    return _documents(texts, f"{path_shown(path)}: {files}, {size:.1f} MB")


def token_file(path: Path, dtype: str, vocabulary: int, document_end: int | None = None) -> Corpus:
    """Return a file of tokens, memory-mapped: nothing but numbers, as ``array.tofile`` writes.

    Parameters
    ----------
    path, dtype
        The file, and "uint16" or "uint32" (in the machine's byte order).
    vocabulary
        What every token must be below. Checked here on the first million; the rest when read.
    document_end
        The token that ends a document; each document is then a source, and the whole file is
        read once. None: the file is one source.

    Raises
    ------
    DataError
        No such file, empty, of another dtype, or a token outside the vocabulary.
    """
    where = f"data.path: {shown(path_shown(path))}"
    item = np.dtype(DTYPES[dtype]).itemsize
    try:
        check_regular(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(6)
    except FileNotFoundError:
        raise DataError(f"{where}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{where}: is a folder; name the file of tokens in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{where}: cannot be read: {reason}") from None
    if not size:
        raise DataError(f"{where}: is empty")
    if head == b"\x93NUMPY":
        raise DataError(f"{where}: has a header of numpy's; write the tokens with array.tofile")
    if size % item:
        raise DataError(
            f"{where}: {size:,} bytes are not a whole number of {dtype}; is data.dtype right?"
        )
    tokens: Tokens = np.memmap(path, dtype=DTYPES[dtype], mode="r")
    start = tokens[:_LOOKED_AT]
    if dtype == "uint16" and len(start) > 3 and not start[1::2].any() and start.any():
        raise DataError(f'{where}: every second token is 0; it looks like data.dtype = "uint32"')
    check_vocabulary(start, vocabulary, path_shown(path))
    edges = np.array([0, len(tokens)])
    if document_end is not None:
        ends = np.flatnonzero(tokens == document_end) + 1
        edges = np.unique(np.concatenate([[0], ends, [len(tokens)]]))
    return Corpus(tokens, edges, f"{path_shown(path)}: {len(tokens):,} tokens")


def huggingface(path: str, *, split: str, column: str, subset: str | None = None) -> Corpus:
    """Return a column of a Hugging Face dataset; each row is a source. Read into memory.

    Parameters
    ----------
    path
        The dataset's name, a folder of data files, or one that ``save_to_disk`` has written.
    split, subset
        Which part, as ``datasets.load_dataset`` calls it; subset is its ``name``.
    column
        Of texts, which are read as bytes, or of lists of tokens.

    Raises
    ------
    DataError
        The package is not installed, there is no such dataset or column, or the column holds
        something else.
    """
    try:
        datasets: Any = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        raise DataError(
            f'data.kind: "huggingface": needs the package {error.name}; '
            'pip install "bandwise[datasets]"'
        ) from None
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # every worker would draw its own
    try:
        if Path(path, "state.json").is_file():
            rows = datasets.load_from_disk(path)
        elif Path(path, "dataset_dict.json").is_file():
            rows = datasets.load_from_disk(path)[split]
        else:
            rows = datasets.load_dataset(path, subset, split=split)
    except Exception as error:  # of many libraries
        text = " ".join(str(error).split())
        raise DataError(
            f"data.path: {shown(path)}: cannot be loaded: {type(error).__name__}: {text[:200]}"
        ) from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()
    if column not in rows.column_names:
        raise DataError(
            f"data.column: {shown(column)}: the dataset has {listed(rows.column_names, 'and')}"
            f"{did_you_mean(column, rows.column_names, '')}"
        )
    texts: list[bytes] = []
    numbers: list[NDArray[np.uint32]] = []
    # The column alone: what else a row holds (pictures) is not decoded.
    for batch in rows.select_columns([column]).iter(batch_size=1000):
        for entry in batch[column]:
            if isinstance(entry, str):
                texts.append(entry.encode("utf-8", "surrogatepass"))
            else:
                numbers.append(_row_of_tokens(entry, column))
    if texts and numbers:
        raise DataError(f"data.column: {shown(column)}: holds texts and lists of tokens mixed")
    description = f"{path} ({split}): {len(texts) or len(numbers):,} rows"
    if texts:
        return _documents(texts, description)
    if not numbers:
        raise DataError(f"data.path: {shown(path)}: has no rows in {split}")
    joined: Tokens = np.concatenate(numbers)
    return Corpus(joined, _edges(len(row) for row in numbers), description)


def synthetic(tokens: int, vocabulary: int, seed: int) -> Corpus:
    """Return random numbers, each token equally likely: for timing; there is nothing to learn."""
    dtype = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    drawn: Tokens = np.random.default_rng(seed).integers(vocabulary, size=tokens, dtype=dtype)
    return Corpus(drawn, np.array([0, tokens]), f"random numbers: {tokens:,} tokens")


def check_vocabulary(tokens: Tokens, vocabulary: int, whose: str) -> None:
    """Raise DataError if a token is not below ``vocabulary``."""
    largest = int(tokens.max(initial=0))
    if largest >= vocabulary:
        raise DataError(
            f"{whose}: token {largest:,} is outside the vocabulary; model.vocabulary is "
            f"{vocabulary:,} (or is data.dtype wrong?)"
        )


def _row_of_tokens(entry: object, column: str) -> NDArray[np.uint32]:
    row = np.asarray(entry)
    if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
        raise DataError(
            f"data.column: {shown(column)}: must hold texts or lists of tokens; "
            f"found {shown(str(entry))}"
        )
    if row.size and not 0 <= int(row.min()) <= int(row.max()) < 1 << 32:
        raise DataError(
            f"data.column: {shown(column)}: holds {row.min()} to {row.max()}; tokens are "
            "whole numbers from 0 to 2^32 - 1"
        )
    return row.astype(np.uint32)


def _documents(texts: list[bytes], description: str) -> Corpus:
    end = bytes([DOCUMENT_END])
    tokens = np.frombuffer(b"".join(text + end for text in texts), dtype=np.uint8)
    return Corpus(tokens, _edges(len(text) + 1 for text in texts), description)


def _edges(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, dtype=np.int64))])
