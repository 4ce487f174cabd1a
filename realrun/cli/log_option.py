"""``--log KIND:WHERE``: read, and looked at before anything starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from realrun.loggers.logger import KINDS, LogTo
from realrun.loggers.opening import missing
from sim.output.errors import UserError, chosen
from sim.output.show import checked_folder

_EXAMPLES = {"tensorboard": "tensorboard:FOLDER", "wandb": "wandb:PROJECT"}
_NOT_IN_A_PROJECT = set("\\#?%:")  # of W&B


def logs(written: Sequence[str]) -> tuple[LogTo, ...]:
    """Return what ``--log`` asks for, each once.

    Raises
    ------
    UserError
        In a line, about the first that cannot be: what it is called, where it goes, or what is
        not installed. Where it goes and what is installed matters on rank 0 alone.
    """
    found: dict[str, LogTo] = {}
    for text in written:
        to = _read(text)
        if to.kind in found:
            raise UserError(f"--log: {to.kind} is given twice; give it once")
        found[to.kind] = to
        if os.environ.get("RANK", "0") == "0":
            if lacking := missing(to):
                raise UserError(lacking)
            if to.kind == "tensorboard":
                checked_folder(to.name, Path(to.where))
    return tuple(found.values())


def _read(text: str) -> LogTo:
    kind, colon, where = text.partition(":")
    chosen("--log", kind, KINDS)
    if not colon or not where.strip():
        raise UserError(f'--log: "{text}": write {_EXAMPLES[kind]}')
    if kind == "wandb":
        wrong = sorted(_NOT_IN_A_PROJECT & set(where))
        if wrong or where.count("/") > 1 or where.startswith("/") or where.endswith("/"):
            raise UserError(
                f'--log: "{text}": a project of W&B is NAME or ENTITY/NAME, without '
                f"{' '.join(sorted(_NOT_IN_A_PROJECT))}"
            )
    return LogTo(kind, where)
