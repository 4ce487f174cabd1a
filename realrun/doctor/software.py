"""Python, torch and what carries tensors: versions, and whether they are in the declared range."""

from __future__ import annotations

import operator
import platform
import re
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any

from realrun.doctor.finding import Finding, limited, missing, ready
from sim.text.told import first_line

_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_INSTALL = 'pip install "bandwise[realrun]"'
_PACKAGE = "bandwise"

Load = Callable[[str], Any]


def within(version: str, declared: str) -> bool:
    """Whether a version is in a declared range; an empty range holds everything.

    Examples
    --------
    >>> within("2.13.0+cpu", ">=2.4"), within("2.3.1", ">=2.4,<3"), within("3.0", "")
    (True, False, True)
    """
    for comparison, bound in re.findall(r"(>=|<=|==|!=|>|<)\s*([\d.]+)", declared):
        if not _COMPARED[comparison](_numbers(version), _numbers(bound)):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3]]
    return tuple(numbers + [0] * (3 - len(numbers)))


def declared_range(package: str) -> str:
    """Return the versions of a package, or of "python", that our own metadata declares."""
    try:
        if package == "python":
            return metadata.metadata(_PACKAGE)["Requires-Python"] or ""
        required = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return ""  # run from a checkout
    for line in required:
        match = re.match(rf"{package}\s*([^;]*)", line)
        if match is not None and not line[match.end(0) : match.end(0) + 1].isalnum():
            return match[1].strip()
    return ""


def python_version(version: str = "", declared: str | None = None) -> Finding:
    """Whether this Python is new enough."""
    version = version or platform.python_version()
    declared = declared_range("python") if declared is None else declared
    if within(version, declared):
        return ready("python", version)
    return missing(
        "python", f"{version}, needed {declared}", f"install Python {declared} and bandwise in it"
    )


def torch_version(load: Load = import_module, declared: str | None = None) -> Finding:
    """Whether torch is here, can be imported, and is in the declared range."""
    declared = declared_range("torch") if declared is None else declared
    try:
        version = str(load("torch").__version__)
    except ModuleNotFoundError:
        return missing("torch", "not installed", _INSTALL)
    except (ImportError, OSError) as error:
        again = "pip install --force-reinstall torch"
        return missing("torch", f"cannot be imported: {first_line(error)}", again)
    if within(version, declared):
        return ready("torch", version)
    return missing("torch", f"{version}, needed {declared}", f'pip install "torch{declared}"')


def gloo(load: Load = import_module) -> Finding:
    """Whether torch has gloo, without which ranks cannot even meet."""
    distributed = load("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        return missing("gloo", "this build of torch has none", f"{_INSTALL} from PyTorch's wheels")
    return ready("gloo", "available")


def nccl(load: Load = import_module) -> Finding:
    """Whether torch has NCCL and which; only GPUs need it."""
    torch, distributed = load("torch"), load("torch.distributed")
    here = distributed.is_available() and distributed.is_nccl_available()
    if here:
        version = ".".join(str(part) for part in torch.cuda.nccl.version())
        return ready("nccl", version)
    if not torch.cuda.is_available():
        return ready("nccl", "none, and no GPU that would need it")
    return limited(
        "nccl",
        "none: gloo will carry what GPUs send, through the host's memory",
        "install a torch with NCCL (PyTorch's CUDA wheels for Linux)",
    )
