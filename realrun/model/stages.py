"""A model as a sequence of stages: what training layer by layer asks of any torch module.

A stage is a module that takes what the stage before it gives; the first takes inputs_BT, the last
gives logits_BTV. The decoder of :mod:`realrun.model.gpt` is one stage per layer. A module of the
user's, named "package.module:function", is one stage, or as many as the function returns.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from realrun.model.randomness import seeded
from sim.records.scenario import ModelSize
from sim.scenario import ScenarioError
from sim.scenario.errors import did_you_mean
from sim.text.told import told


class ModelError(ScenarioError):
    """A model that cannot be built or trained as asked; the text is one line."""


def stages_of(module: object) -> list[nn.Module]:
    """Return the stages of what a user's function has made.

    Parameters
    ----------
    module
        A module that can be called (one stage), or a list, tuple or ``nn.ModuleList`` of them.

    Raises
    ------
    ModelError
        If it is something else, or a stage has nothing to train, or not in fp32.

    Examples
    --------
    >>> [len(stages_of(m)) for m in (nn.Linear(2, 2), [nn.Linear(2, 3), nn.Linear(3, 2)])]
    [1, 2]
    """
    several = isinstance(module, list | tuple | nn.ModuleList)
    stages: list[Any] = list(module) if several else [module]  # type: ignore[call-overload]
    if not stages:
        raise ModelError("the model is an empty list; one stage at least is needed")
    for number, stage in enumerate(stages):
        if not isinstance(stage, nn.Module):
            which = f"stage {number} of the list" if several else "the model"
            raise ModelError(
                f"{which} is {_a(stage)}; a torch.nn.Module is needed, or a list of them"
            )
    for number, (stage, own) in enumerate(zip(stages, layer_parameters(stages), strict=True)):
        which = f"stage {number} ({type(stage).__name__})"
        if not own:
            raise ModelError(
                f"{which} has no parameters of its own to train{_because(stage)}; make it part of "
                "the stage before or after it"
            )
        for name, tensor in (*stage.named_parameters(), *stage.named_buffers()):
            if is_lazy(tensor):
                raise ModelError(f"{which}: {name} has no shape yet; give lazy modules their sizes")
        for name, parameter in stage.named_parameters():
            if parameter.requires_grad and parameter.dtype != torch.float32:
                raise ModelError(
                    f"{which}: {name} is {parameter.dtype}; what is trained must be torch.float32"
                )
    _check_memory_is_its_own(stages)
    return stages


def _because(stage: nn.Module) -> str:
    """Say why a stage that has parameters has none to train."""
    counts = [parameter.numel() for parameter in stage.parameters() if not parameter.requires_grad]
    if counts:
        return f" (all {sum(counts):,} that it has are frozen)"
    return " (they are tied to an earlier stage's)" if any(True for _ in stage.parameters()) else ""


def _check_memory_is_its_own(stages: Sequence[nn.Module]) -> None:
    """Refuse a trained parameter whose memory another tensor of the model has as well.

    Trained parameters move into one vector, so that the two would no longer be the same.
    """
    trained: dict[int, tuple[str, nn.Parameter]] = {}
    named = [
        (f"{number}.{name}" if len(stages) > 1 else name, tensor)
        for number, stage in enumerate(stages)
        for name, tensor in (*stage.named_parameters(), *stage.named_buffers())
        if tensor.numel() and not tensor.is_meta
    ]
    for name, tensor in named:
        if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
            trained.setdefault(tensor.data_ptr(), (name, tensor))
    for name, tensor in named:
        first, parameter = trained.get(tensor.data_ptr(), (name, tensor))
        if parameter is not tensor:
            raise ModelError(
                f"{first} and {name} are two tensors with the same memory; tie them as one "
                "parameter, like head.weight = embedding.weight, or copy one of them (clone)"
            )


def whole_of(made: object) -> nn.Module:
    """Return one module that is all of what a user's function has made.

    Its ``state_dict`` has the names under which the model is saved: a module's own, or those of
    ``nn.ModuleList(stages)``.
    """
    if isinstance(made, list | tuple):
        return nn.ModuleList(made)
    assert isinstance(made, nn.Module)
    return made


def load_model(name: str, *, seed: int = 0, folder: Path | None = None) -> object:
    """Call the function that "package.module:function" names, without arguments.

    What it returns has been checked by :func:`stages_of`.

    Parameters
    ----------
    name
        Where the function is. It is looked for in ``folder``, in the working directory and then
        wherever Python looks.
    seed
        What random numbers start from while it runs (torch's, Python's and numpy's global ones):
        the same on all workers. The caller's random state is left as it was.
    folder
        The scenario's.

    Raises
    ------
    ModelError
        If there is no such function, it fails, or what it returns is not a model.
    """
    factory = find_function(name, folder)
    if isinstance(factory, nn.Module):
        raise ModelError(f"{name} is {_a(factory)}; a function that makes the model is needed")
    with seeded(seed):
        try:
            made = factory()
        except Exception as error:
            raise ModelError(f"{name} failed: {told(error)}") from error
    try:
        stages_of(made)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    return made


def layer_parameters(stages: Sequence[nn.Module]) -> list[list[nn.Parameter]]:
    """Return each stage's trained parameters; what stages share belongs to the first of them.

    Frozen parameters (``requires_grad`` false) are not trained and never sent.
    """
    seen: set[int] = set()
    layers = []
    for stage in stages:
        own = [p for p in stage.parameters() if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in own)
        layers.append(own)
    return layers


def check_against(layers: Sequence[Sequence[nn.Parameter]], size: ModelSize) -> None:
    """Check that the simulator counts the same parameters in every layer.

    Parameters
    ----------
    layers
        As :func:`layer_parameters` gives them.
    size
        What the scenario says; its bytes are what the simulator charges for.

    Raises
    ------
    ModelError
        Naming the first layer that differs, with both counts or both lists of tensors.
    """
    if len(layers) != size.layers:
        raise ModelError(f"the model has {len(layers)} layers, the scenario {size.layers}")
    for number, (layer, expected) in enumerate(zip(layers, size.layer_parameters, strict=True)):
        count = sum(parameter.numel() for parameter in layer)
        if count != expected:
            raise ModelError(
                f"layer {number} of the model has {count:,} parameters, in the scenario "
                f"{expected:,}"
            )
    for number, (layer, known) in enumerate(zip(layers, size.layer_tensors, strict=False)):
        sizes = [parameter.numel() for parameter in layer]
        if sizes != list(known):
            raise ModelError(
                f"layer {number} of the model has tensors of {sizes}, in the scenario {list(known)}"
            )


def find_function(name: str, folder: Path | None = None) -> Callable[..., object]:
    """Return what "package.module:function" names.

    Raises
    ------
    ModelError
        If there is no such module or function, or it cannot be called.
    """
    module_name, _, attribute = name.partition(":")
    parts = module_name.split(".")
    if not attribute or not all(part.isidentifier() for part in parts):
        raise ModelError(f'"{name}" does not name a function; write "package.module:function"')
    try:
        with _looking_in([path for path in (folder, Path.cwd()) if path is not None]):
            module: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise ModelError(f"{name}: there is no module {missing}") from None
        raise ModelError(f"{name}: needs {missing}, which is not installed") from None
    except (Exception, SystemExit) as error:
        raise ModelError(f"{name}: importing {module_name} failed: {told(error)}") from error
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [key for key, item in vars(module).items() if callable(item)]
            near = did_you_mean(part, public, "") if public else ""
            raise ModelError(f'{name}: module {module_name} has no "{attribute}"{near}')
        found = getattr(found, part)
    if not callable(found):
        raise ModelError(f"{name} is {_a(found)}; a function is needed")
    return found  # type: ignore[no-any-return]


@contextmanager
def _looking_in(folders: list[Path]) -> Iterator[None]:
    added = [path for folder in folders if (path := str(folder.absolute())) not in sys.path]
    sys.path[:0] = added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for path in added:
            if path in sys.path:
                sys.path.remove(path)


def _a(thing: object) -> str:
    kind = type(thing).__name__
    if thing is None:
        return "None"
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
