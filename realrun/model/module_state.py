"""What a module remembers that is no trained parameter: buffers, frozen parameters, extra state.

Each worker keeps its own buffers while it trains. A checkpoint has all of it; frozen parameters
are equal on all workers, so only rank 0's checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from realrun.errors import RunError
from realrun.model.stages import ModelError
from realrun.processes.rendezvous import World
from sim.text.told import first_line


def move(module: nn.Module, device: torch.device) -> None:
    """Move a module to a device, in place; a buffer that modules share stays shared.

    ``nn.Module.to`` keeps that for parameters only. A buffer that repeats its values without
    holding them (``Tensor.expand``) gets memory of its own, so that it can be written.
    """
    places = [
        (owner, name, buffer)
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False, remove_duplicate=False)
    ]
    module.to(device)
    moved: dict[int, Tensor] = {}
    for owner, name, before in places:
        if id(before) not in moved:
            now = owner.get_buffer(name)
            repeats = any(
                size > 1 and stride == 0
                for size, stride in zip(now.shape, now.stride(), strict=True)
            )
            moved[id(before)] = now.contiguous() if repeats else now
        setattr(owner, name, moved[id(before)])


def frozen(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are not trained, by name."""
    return {
        name: parameter.detach()
        for name, parameter in module.named_parameters()
        if not parameter.requires_grad
    }


# -- extra state -------------------------------------------------------------------------
def check_extra_state(module: nn.Module) -> None:
    """Refuse extra state that a checkpoint could not bring back.

    Raises
    ------
    ModelError
        With the module, and what extra state may be.
    """
    for name, kept in _extra_states(module).items():
        try:
            _unpacked(kept)
        except (UnpicklingError, RuntimeError) as error:
            raise ModelError(
                f"the extra state (get_extra_state) of {name or 'the model'} cannot be kept: "
                f"{first_line(error)}; it may be made of tensors, numbers, texts, lists and "
                "dictionaries"
            ) from error


def share_extra_state(module: nn.Module, world: World) -> None:
    """Give every rank's modules the extra state of rank 0's; all ranks call it together."""
    own = _extra_states(module)
    first = world.gathered(own)[0] if any(world.gathered(bool(own))) else own
    for name, kept in first.items():
        if name in own and not torch.equal(kept, own[name]):
            module.get_submodule(name).set_extra_state(_unpacked(kept))


def _extra_states(module: nn.Module) -> dict[str, Tensor]:
    """Return the extra state of the modules that have some, by the module's name, as bytes."""
    return {
        name: _packed(owner.get_extra_state())
        for name, owner in module.named_modules()
        if type(owner).get_extra_state is not nn.Module.get_extra_state
    }


def _packed(extra: Any) -> Tensor:
    file = BytesIO()
    torch.save(extra, file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def _unpacked(kept: Tensor) -> Any:
    return torch.load(BytesIO(kept.cpu().numpy().tobytes()), weights_only=True)


# -- checkpoints -------------------------------------------------------------------------
def state(stages: Sequence[nn.Module], *, with_frozen: bool) -> dict[str, Tensor]:
    """Return it as tensors: "module/STAGE/NAME", "frozen/STAGE/NAME" and "extra/STAGE/NAME".

    All are copies, since two tensors of a file must not share memory.
    """
    found = {key: buffer.clone() for key, buffer in _buffers(stages)}
    seen: set[int] = set()
    for number, stage in enumerate(stages):
        for name, parameter in stage.named_parameters() if with_frozen else ():
            if not parameter.requires_grad and id(parameter) not in seen:
                found[f"frozen/{number}/{name}"] = parameter.detach().clone()
            seen.add(id(parameter))
        for name, kept in _extra_states(stage).items():
            found[f"extra/{number}/{name}"] = kept
    return found


def restore(stages: Sequence[nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Take over what :func:`state` returned, into modules that were made alike.

    Raises
    ------
    RunError
        If they were not.
    """
    for key, _ in _buffers(stages):
        if key not in tensors:
            raise RunError(f"the checkpoint has no {key}; the module has changed since")
    written: set[int] = set()
    for key, saved in tensors.items():
        kind, _, rest = key.partition("/")
        if kind not in ("module", "frozen", "extra"):
            continue
        number, _, name = rest.partition("/")
        parent, _, leaf = name.rpartition(".")
        try:
            stage = stages[int(number)]
            if kind == "extra":
                stage.get_submodule(name).set_extra_state(_unpacked(saved))
            elif kind == "module":
                _put_buffer(stage.get_submodule(parent), leaf, saved, written)
            else:
                with torch.no_grad():
                    stage.get_parameter(name).copy_(saved)
        except (AttributeError, IndexError, RuntimeError) as error:
            raise RunError(
                f"the checkpoint's {key} does not fit: {first_line(error)}; the module has "
                "changed since"
            ) from error


def _buffers(stages: Sequence[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    for number, stage in enumerate(stages):
        for name, buffer in stage.named_buffers(remove_duplicate=False):
            yield f"module/{number}/{name}", buffer


def _put_buffer(owner: nn.Module, name: str, saved: Tensor, written: set[int]) -> None:
    """Write a buffer in place, so that modules that share it still do.

    A module may since have put another tensor in its place: of another size, or where it had
    none, or where it had shared one.
    """
    if name not in owner._buffers:
        raise AttributeError(f"there is no buffer {name}")
    now = owner._buffers[name]
    if now is None:
        device = next(owner.parameters(), saved).device
        setattr(owner, name, saved.to(device, copy=True))
    elif (now.shape, now.dtype) != (saved.shape, saved.dtype) or (
        id(now) in written and not torch.equal(now, saved.to(now.device))
    ):
        setattr(owner, name, saved.to(now.device, copy=True))
    else:
        now.copy_(saved)
    written.add(id(owner._buffers[name]))
