"""A run of Weights & Biases, online where a key is known, else kept in a folder.

W&B keeps steps in order and cannot take one back: ``step`` is the number of micro-batches, and a
resumed run adds only what comes after the last step that was logged, which is kept in a file next
to the run's own. Curves are drawn over ``tokens``.
"""

from __future__ import annotations

import netrc
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_LOGGED = "bandwise-logged"  # in a run's folder: the last step that was logged
_QUIET = {"console": "off", "silent": True, "disable_git": True, "save_code": False}


class WeightsAndBiases:
    """A run of a project.

    Parameters
    ----------
    project
        Its name, or ENTITY/NAME.
    config
        The run's config.
    note
        Of the run that is resumed; "" begins one.
    """

    def __init__(self, project: str, config: Mapping[str, Any], note: str) -> None:
        folder = Path(os.environ.get("WANDB_DIR") or ".", "wandb")
        # What is not the run's own goes into the same folder, or nowhere.
        os.environ.setdefault("WANDB_CACHE_DIR", str(folder.absolute()))
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_X_DISABLE_STATS", "true")  # its socket outlives a kill
        with _temporary_files_in(folder):
            import wandb

            library: Any = wandb
            entity, _, name = project.rpartition("/")
            known = library.setup().settings
            offline = known.mode == "online" and not _has_key(known)
            self._run: Any = library.init(
                project=name,
                entity=entity or None,
                config=dict(config),
                id=note or None,
                resume="allow" if note else None,
                mode="offline" if offline else None,
                settings=library.Settings(**_QUIET),
            )
        self.note: str = self._run.id
        self._own = Path(self._run.dir).parent
        self._logged = _last_logged(self._own.parent, self.note) if note else 0
        self._at = 0
        for curve, over in (("tokens", None), ("*", "tokens")):
            self._run.define_metric(curve, step_metric=over)
        if offline:
            sys.stderr.write(
                f"realrun: --log wandb:{project}: no key is set, so the run stays in {self._own}; "
                "wandb sync uploads it\n"
            )

    def add(self, micro_batches: int, tokens: float, values: Mapping[str, float]) -> None:
        """Add a point to each of these curves, unless an earlier part of the run has."""
        if micro_batches > self._logged:
            self._run.log({"tokens": tokens, **values}, step=micro_batches)
            self._at = micro_batches

    def flush(self) -> None:
        """Note how far the run has come; the library writes by itself."""
        if self._at > self._logged:
            (self._own / _LOGGED).write_text(f"{self._at}\n")

    def close(self, *, failed: bool) -> None:
        """Finish the run: online, wait until all is sent."""
        self._run.finish(exit_code=int(failed))


def _has_key(known: Any) -> bool:
    """Whether the library would find a key: in its settings, or in ~/.netrc."""
    if known.api_key or getattr(known, "identity_token_file", None):
        return True
    places = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    host = urlsplit(known.base_url).hostname or ""
    for place in places:
        with suppress(OSError, netrc.NetrcParseError):
            if place and netrc.netrc(os.path.expanduser(place)).authenticators(host):
                return True
    return False


def _last_logged(folder: Path, note: str) -> int:
    """Return the last step of a run's earlier parts, each of which has a folder of its own."""
    steps = [0]
    for path in folder.glob(f"*run-*-{note}/{_LOGGED}"):
        with suppress(OSError, ValueError):
            steps.append(int(path.read_text()))
    return max(steps)


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have the library's folders for images, which outlive a run that is killed, made there."""
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder.absolute())
    try:
        yield
    finally:
        tempfile.tempdir = before
