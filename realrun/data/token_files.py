"""A file of tokens, memory-mapped: nothing but numbers, or with the header that numpy writes.

``array.tofile`` writes the one, ``numpy.save`` (``.npy``) the other. A file of any size can be
read: only the tokens of the batches are fetched from the disk.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from realrun.data.corpus import Corpus, DataError, Tokens, check_vocabulary, near_file
from sim.scenario.errors import path_shown, shown
from sim.storage.inputs import check_regular

DTYPES = {"uint16": np.uint16, "uint32": np.uint32}
_LOOKED_AT = 1 << 20  # tokens that are checked when a file is opened
_NUMPY = b"\x93NUMPY"  # the first bytes of what numpy.save writes


def token_file(
    path: Path, dtype: str | None, vocabulary: int, document_end: int | None = None
) -> Corpus:
    """Return a file of tokens, memory-mapped.

    Parameters
    ----------
    path
        The file.
    dtype
        "uint16" or "uint32" (in the machine's byte order). None: what a header of numpy's says;
        without one uint16.
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
    head, size = _beginning(path, where)
    if not size:
        raise DataError(f"{where}: is empty")
    if head == _NUMPY:
        tokens = _with_header(path, dtype, vocabulary, where)
    else:
        tokens = _without_header(path, dtype or "uint16", size, where)
    if not len(tokens):
        raise DataError(f"{where}: is empty")
    check_vocabulary(tokens[:_LOOKED_AT], vocabulary, path_shown(path))
    edges = np.array([0, len(tokens)])
    if document_end is not None:
        ends = np.flatnonzero(tokens == document_end) + 1
        edges = np.unique(np.concatenate([[0], ends, [len(tokens)]]))
    return Corpus(tokens, edges, f"{path_shown(path)}: {len(tokens):,} tokens")


def _beginning(path: Path, where: str) -> tuple[bytes, int]:
    """Return the first bytes of a file, and its size."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return file.read(len(_NUMPY)), path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{where}: no such file{near_file(path)}") from None
    except IsADirectoryError:
        raise DataError(f"{where}: is a folder; name the file of tokens in it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{where}: cannot be read: {reason}") from None


def _with_header(path: Path, dtype: str | None, vocabulary: int, where: str) -> Tokens:
    """Map what ``numpy.save`` has written."""
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: cannot be read: {error}") from None
    if tokens.dtype not in DTYPES.values():
        fits = "uint16" if vocabulary <= 1 << 16 else "uint32"
        raise DataError(
            f"{where}: holds {tokens.dtype}; tokens must be uint16 or uint32: "
            f'numpy.save(path, tokens.astype("{fits}"))'
        )
    if tokens.ndim != 1:
        raise DataError(
            f"{where}: has the shape {tokens.shape}; tokens are one row: "
            "numpy.save(path, tokens.reshape(-1))"
        )
    if dtype is not None and tokens.dtype != DTYPES[dtype]:
        raise DataError(
            f"data.dtype: {shown(dtype)}: {path_shown(path)} holds {tokens.dtype}, as its header "
            "says; leave data.dtype out"
        )
    found: Tokens = tokens
    return found


def _without_header(path: Path, dtype: str, size: int, where: str) -> Tokens:
    """Map a file that is nothing but numbers, and see that they are as wide as was said."""
    if size % np.dtype(DTYPES[dtype]).itemsize:
        raise DataError(
            f"{where}: {size:,} bytes are not a whole number of {dtype}; is data.dtype right?"
        )
    tokens: Tokens = np.memmap(path, dtype=DTYPES[dtype], mode="r")
    start = tokens[:_LOOKED_AT]
    # Wider numbers than was said have zeros in their upper halves.
    if len(start) > 7 and start.any() and not start[1::2].any():
        if dtype == "uint32" or not start[2::4].any():
            raise DataError(
                f"{where}: every second {dtype} is 0; these look like numbers of 64 bits: write "
                'them with tokens.astype("uint32").tofile'
            )
        raise DataError(f'{where}: every second token is 0; it looks like data.dtype = "uint32"')
    return tokens
