"""Found by every Python of a recorded program, and does nothing until it loads torch.distributed.

Its folder is first on PYTHONPATH. It runs the `sitecustomize` that would have been found without
it, and then waits for `torch.distributed` to be imported, so that a process that does not use it
(a shell's helper, pip, a launcher) costs a few microseconds. It needs the standard library only:
the recorded program may have a Python of its own, in which bandwise is not installed.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
# Modules that make process groups or agree on them, and which function of the recorder each is
# handed to.
_WATCHED = {
    "torch.distributed.distributed_c10d": "install",
    "torchft.process_group": "install_in_torchft",
    "torchft.manager": "install_in_torchft_manager",
}


def _run_the_other() -> None:
    others = [path for path in sys.path if os.path.abspath(path or ".") != _HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


class _Loader:
    """Loads the watched module, and then lets the recorder put its process group in."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        getattr(_recorder(), _WATCHED[module.__name__])(module)


def _recorder() -> Any:
    if (found := sys.modules.get("_bandwise_recorder")) is not None:
        return found
    path = os.path.join(_HERE, "_bandwise_recorder.py")
    spec: Any = importlib.util.spec_from_file_location("_bandwise_recorder", path)
    recorder = importlib.util.module_from_spec(spec)
    sys.modules["_bandwise_recorder"] = recorder
    spec.loader.exec_module(recorder)
    return recorder


class _Watch:
    """Waits for their imports."""

    def __init__(self) -> None:
        self._awaited = set(_WATCHED)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._awaited:
            return None
        self._awaited.remove(name)
        spec: Any = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


_run_the_other()
if os.environ.get("BANDWISE_RECORDING"):
    sys.meta_path.insert(0, _Watch())
