"""Trained models as files: what --save writes, plain torch loads, and --start takes.

The file holds ``module.state_dict()`` of the module that the user's function returned, of
``nn.ModuleList(stages)`` if it returned a list, or of :class:`realrun.model.gpt.GPT`. Plain torch
loads it::

    module.load_state_dict(safetensors.torch.load_file("model.safetensors"))

A safetensors file holds no tensor under two names. Tied weights are therefore written once per
name, the same values each time, and the file is larger by them. Its metadata have a digest of each
tensor, which --start checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from realrun.model.stages import ModelError
from realrun.state import tensor_files
from sim.scenario.errors import did_you_mean
from sim.storage.files import DamagedError
from sim.text.told import first_line


def check_can_be_saved(module: nn.Module) -> None:
    """Refuse a module of which a file of tensors could not hold everything.

    Raises
    ------
    ModelError
        Naming what is no tensor.
    """
    for name, value in module.state_dict().items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"{name} of the model is a {type(value).__name__}, and a safetensors file holds "
                "tensors only; let get_extra_state return a tensor, or leave --save out"
            )


def size(module: nn.Module) -> int:
    """Return the bytes of what :func:`save` writes."""
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in module.state_dict().values()
        if isinstance(tensor, Tensor)
    )


def save(module: nn.Module, path: Path) -> None:
    """Write parameters and persistent buffers under the names of the module's state_dict.

    Raises
    ------
    OSError, SafetensorError
        If they cannot be written; an earlier file is then still there.
    """
    tensors = {
        name: tensor.detach().to("cpu", copy=True) for name, tensor in module.state_dict().items()
    }
    tensor_files.write(path, tensors, {"format": "pt"})


def begin_from(path: Path, module: nn.Module, stages: Sequence[nn.Module]) -> None:
    """Give a module the parameters and buffers that :func:`save` has written.

    Parameters
    ----------
    path
        Also a file of earlier versions, whose names are "STAGE.NAME" and which has parameters
        only; or one of ``safetensors.torch.save_model``, which leaves names of tied weights out.
    module
        The whole model.
    stages
        The modules that are trained one after the other; parts of it.

    Raises
    ------
    ModelError
        If the file cannot be read or is damaged, or its tensors are not those of the module.
    """
    saved: dict[str, Any]
    try:
        saved, _, _ = tensor_files.read(path)
    except DamagedError as error:
        raise ModelError(f"{error}; bring it back from a copy") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: {first_line(error)}") from error
    own = module.state_dict(keep_vars=True)  # the tensors themselves: tied ones are one object
    if not saved.keys() <= own.keys():
        saved = _renamed(saved, own, stages)
    saved = _with_tied(path, saved, own)
    for name in sorted(own.keys() ^ saved.keys()):
        where, others = ("the model", saved) if name in own else ("the file", own)
        kind = "parameter" if isinstance(own.get(name), nn.Parameter) else "tensor"
        raise ModelError(
            f"{path}: only {where} has a {kind} {name}{did_you_mean(name, others, '')}"
        )
    for name, tensor in own.items():
        if isinstance(tensor, Tensor) and tensor.shape != saved[name].shape:
            raise ModelError(
                f"{path}: {name} has shape {tuple(saved[name].shape)}, in the model "
                f"{tuple(tensor.shape)}"
            )
    try:
        module.load_state_dict(saved)
    except RuntimeError as error:  # from a module that loads its state in a way of its own
        raise ModelError(f"{path}: {' '.join(str(error).split())}") from error


def _renamed(
    saved: dict[str, Any], own: Mapping[str, Any], stages: Sequence[nn.Module]
) -> dict[str, Any]:
    """Return a file's tensors under the module's names, if all of them are "STAGE.NAME"."""
    names = {id(tensor): name for name, tensor in own.items()}
    earlier = {
        f"{number}.{name}": names.get(id(tensor))
        for number, stage in enumerate(stages)
        for name, tensor in stage.state_dict(keep_vars=True).items()
    }
    found = {earlier.get(name): tensor for name, tensor in saved.items()}
    return saved if None in found else {str(name): tensor for name, tensor in found.items()}


def _with_tied(path: Path, saved: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file's tensors with those added that are tied to one of them.

    Raises
    ------
    ModelError
        If the file has two values for one tensor of the model.
    """
    first: dict[int, str] = {}
    for name in saved:
        if name not in own:
            continue
        other = first.setdefault(id(own[name]), name)
        if other != name and not torch.equal(saved[other], saved[name]):
            raise ModelError(f"{path}: {other} and {name} differ; they are one tensor in the model")
    tied = {name: saved[first[id(tensor)]] for name, tensor in own.items() if id(tensor) in first}
    return {**tied, **saved}
