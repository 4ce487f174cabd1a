"""Where tokens come from: one long row of numbers, and where each source in it begins.

Five kinds: the text of Python's standard library (always there), text files, a file of tokens
(:mod:`realrun.data.token_files`), a Hugging Face dataset, and random numbers. Text is read as
bytes, a vocabulary of 256, so any encoding of one byte or UTF-8 will do; every file or document of
it ends with a byte 0, which marks its end.
"""

from __future__ import annotations

import importlib
import os
import platform
import sysconfig
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.scenario import ScenarioError
from sim.scenario.errors import FILE_CUTOFF, did_you_mean, listed, path_shown, shown
from sim.units import format_bytes

Tokens = NDArray[np.unsignedinteger[Any]]

DOCUMENT_END = 0

# What is no text of the library's own: tests, installed packages, and what was written down
# about this one build of Python, which would make the data differ between equal versions.
_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_SKIPPED_BEGINNINGS = ("config-", "_sysconfigdata")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # what such a file begins with
_FULLY_HASHED = 64 << 20  # bytes; of more, evenly spaced pieces are hashed
_HASHED_PIECE = 1 << 20  # tokens of each of them


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
        digest.update(np.ascontiguousarray(self.edges[:_HASHED_PIECE]).tobytes())
        if self.tokens.nbytes <= _FULLY_HASHED:
            digest.update(np.ascontiguousarray(self.tokens).tobytes())
        else:
            for begin in np.linspace(0, len(self.tokens) - _HASHED_PIECE, 16).astype(np.int64):
                piece = self.tokens[begin : begin + _HASHED_PIECE]
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
    return _documents(
        texts,
        f"standard library of Python {platform.python_version()}: {_counted(texts)}",
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
        try:
            paths = sorted(each for each in path.rglob(pattern) if each.is_file())
        except (NotImplementedError, ValueError) as error:  # it begins at the root, or has "**.txt"
            raise DataError(
                f"data.files: {shown(pattern)}: {str(error)[:1].lower()}{str(error)[1:]}; "
                'write a pattern like "*.txt" or "chapter-*.md"'
            ) from None
        if not paths:
            raise DataError(
                f"{where}: no file in it matches data.files = {shown(pattern)}{_others(path)}"
            )
    elif path.exists() and not path.is_file():
        raise DataError(f"{where}: is neither a file nor a folder")
    texts = []
    for each in paths:
        try:
            texts.append(each.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{where}: no such file or folder{near_file(each)}") from None
        except OSError as error:
            raise DataError(f"{where}: {path_shown(each)}: {error.strerror}") from None
        if b"\0" in texts[-1]:
            why = "it has a byte 0, which ends a document"
            if texts[-1].startswith(_UTF_16):
                why = "it is UTF-16; save it as UTF-8"
            raise DataError(f"{where}: {path_shown(each)} is not text: {why}")
    if not any(texts):
        what = "is empty" if len(texts) == 1 else f"all {len(texts):,} files in it are empty"
        raise DataError(f"{where}: {what}")
    return _documents(texts, f"{path_shown(path)}: {_counted(texts)}")


def near_file(path: Path) -> str:
    """Return '; did you mean "books"?' where nothing is there and something is called nearly so."""
    if path.exists():
        return ""
    try:
        names = [each.name for each in path.parent.iterdir()]
    except OSError:
        return ""
    return did_you_mean(path.name, names, "", FILE_CUTOFF)


def _others(folder: Path) -> str:
    """Say what the files of a folder end in, where none matches."""
    ends = Counter(each.suffix for each in folder.rglob("*") if each.is_file() and each.suffix)
    if not ends:
        return ""
    found = [f"{number:,} *{suffix}" for suffix, number in ends.most_common(3)]
    return f"; it has {listed(found, 'and')}"


def _counted(texts: list[bytes]) -> str:
    files = "1 file" if len(texts) == 1 else f"{len(texts):,} files"
    return f"{files}, {format_bytes(sum(map(len, texts)), 3)}"


def huggingface(
    path: str, *, split: str, column: str, subset: str | None = None, folder: Path | None = None
) -> Corpus:
    """Return a column of a Hugging Face dataset; each row is a source. Read into memory.

    Parameters
    ----------
    path
        The dataset's name, a folder of data files, or one that ``save_to_disk`` has written.
    split, subset
        Which part, as ``datasets.load_dataset`` calls it; subset is its ``name``.
    column
        Of texts, which are read as bytes, or of lists of tokens.
    folder
        Where ``path`` begins if it is a folder; None is the working directory.

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
    local = (folder or Path()) / Path(path).expanduser()
    name = str(local) if local.exists() else path
    quiet = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # every worker would draw its own
    try:
        if Path(name, "state.json").is_file():
            rows = datasets.load_from_disk(name)
        elif Path(name, "dataset_dict.json").is_file():
            parts = datasets.load_from_disk(name)
            if split not in parts:
                raise DataError(
                    f"data.split: {shown(split)}: the dataset has {listed(parts, 'and')}"
                    f"{did_you_mean(split, parts, '')}"
                )
            rows = parts[split]
        else:
            rows = datasets.load_dataset(name, subset, split=split)
    except DataError:
        raise
    except Exception as error:  # of many libraries
        text = " ".join(str(error).split())
        raise DataError(
            f"data.path: {shown(path)}: cannot be loaded: {type(error).__name__}: {text[:200]}"
            f"{near_file(local)}"
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
            f"{whose}: token {largest:,} is outside the vocabulary; all must be below "
            f"model.vocabulary = {vocabulary:,} (or is data.dtype wrong?)"
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
