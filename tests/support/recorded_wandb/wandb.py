"""Has the parts of the package wandb that realrun calls; writes every call into a file.

``WANDB_RECORD`` names the file: a JSON list per line, the call and its arguments. With
``WANDB_FULL_AT`` ``log`` raises from that step on, as on a full disk.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def _record(call: str, **arguments: Any) -> None:
    with Path(os.environ["WANDB_RECORD"]).open("a") as file:
        file.write(json.dumps([call, arguments]) + "\n")


class Settings:
    def __init__(self, **given: Any) -> None:
        self.given = given


def setup() -> SimpleNamespace:
    known = SimpleNamespace(
        mode=os.environ.get("WANDB_MODE", "online"),
        api_key=os.environ.get("WANDB_API_KEY"),
        base_url="https://api.wandb.invalid",
    )
    return SimpleNamespace(settings=known)


class Run:
    def __init__(self, own: str, mode: str | None) -> None:
        self.id = own
        root = Path(os.environ.get("WANDB_DIR", "."), "wandb")
        kind = "offline-run" if mode == "offline" else "run"
        parts = len(list(root.glob(f"{kind}-*-{own}")))
        self.dir = str(root / f"{kind}-{parts}-{own}" / "files")
        Path(self.dir).mkdir(parents=True)

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        _record("define_metric", name=name, step_metric=step_metric)

    def log(self, values: dict[str, float], step: int) -> None:
        if step >= int(os.environ.get("WANDB_FULL_AT", "1000000")):
            raise OSError(28, "No space left on device")
        _record("log", step=step, values=values)

    def finish(self, exit_code: int) -> None:
        _record("finish", exit_code=exit_code)


def init(settings: Settings, **arguments: Any) -> Run:
    _record("init", settings=settings.given, **arguments)
    return Run(arguments["id"] or "fresh", arguments["mode"])
