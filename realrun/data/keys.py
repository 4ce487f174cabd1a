"""Keys of ``[data]``: what each may hold, which kind of data takes it, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realrun.data.token_files import DTYPES
from sim.scenario import fields

SAMPLES_PER_BLOCK = 16

READERS: dict[str, Callable[[object], Any]] = {
    "shard": fields.choice("iid", "source"),
    "validation_every": fields.count(2, 10**9, "then nothing is left to validate on", "20"),
    "block_tokens": fields.count(2, 10**12, "no text is longer", '"32Ki"'),
    "path": fields.text,
    "files": fields.text,
    "dtype": fields.choice(*DTYPES),
    "document_end": fields.count(0, 2**32 - 1, "tokens have 32 bits", "0"),
    "subset": fields.text,
    "split": fields.text,
    "column": fields.text,
    "tokens": fields.count(2, 10**12, "that is more than memory holds", '"4Mi"'),
}
COMMON = ("shard", "validation_every", "block_tokens")
# Besides the common ones; what is not given has the default of DEFAULTS, or is required.
KEYS: dict[str, tuple[str, ...]] = {
    "stdlib": (),
    "text": ("path", "files"),
    "tokens": ("path", "dtype", "document_end"),
    "huggingface": ("path", "subset", "split", "column"),
    "synthetic": ("tokens",),
}
DEFAULTS: dict[str, Any] = {
    "shard": "iid",
    "validation_every": 20,
    "block_tokens": None,
    "files": "*.txt",
    "dtype": None,
    "document_end": None,
    "subset": None,
    "split": "train",
    "column": "text",
    "tokens": 1 << 22,
}
MEANINGS: dict[str, str] = {
    "shard": 'How data are shared out: "iid" deals blocks to the workers in turn, "source" gives '
    "each worker whole files or documents.",
    "validation_every": "Of that many pieces one is kept to evaluate on.",
    "block_tokens": "Tokens of one block that is dealt.",
    "path": "File, folder or name of the dataset; a relative path begins at the scenario's folder.",
    "files": "Which files of a folder are read.",
    "dtype": "Type of the tokens of a file without a header of numpy's; by default uint16.",
    "document_end": "Token that ends a document.",
    "subset": "Subset (configuration) of the dataset.",
    "split": "Split of the dataset.",
    "column": "Column that holds texts or lists of tokens.",
    "tokens": "Number of random tokens.",
}
"""What each key means, for the reference."""
