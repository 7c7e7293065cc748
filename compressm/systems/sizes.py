"""Layers of other packages take the number of states that their saved weights have."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compressm.errors import UnequalStatesWarning
from compressm.layers import Mamba, SSMLayer
from compressm.ops.resize import tensors_of, write_
from compressm.systems.configs import agree_on_states_, with_config
from compressm.systems.find import (
    compressible_layers,
    selective_layers,
)
from compressm.systems.foreign import family_of
from compressm.systems.selective.form import SelectiveForm, form_of, require_form

__all__ = ["resize_on_load"]

Shapes = dict[str, tuple[int, ...]]


def resize_on_load(model: nn.Module) -> nn.Module:
    """From now on ``model.load_state_dict`` resizes layers to the states that were saved.

    Layers of `compressm` do so by themselves. `Compressor`, `compress_` and the callbacks call this
    for the model that they get; call it yourself before weights of other sizes are loaded into a
    model that was never compressed in this process, for example in ``__init__`` of a
    ``LightningModule``. A model of ``transformers`` then warns in ``save_pretrained`` if its layers
    keep different numbers of states.

    Parameters
    ----------
    model : nn.Module
        Its layers may get more or fewer states; parameters keep their identity. Layers that it
        gets later count too. Twice is as good as once.

    Returns
    -------
    nn.Module
        The argument.

    See Also
    --------
    load_checkpoint, load_pretrained

    Examples
    --------
    >>> import torch
    >>> from compressm import resize_on_load
    >>> model = resize_on_load(torch.nn.Linear(2, 2))  # has no such layer, and stays as it is
    """
    for _, layer in compressible_layers(model):
        if not isinstance(layer, (SSMLayer, Mamba)):
            _before_load(layer, _resize)
    _before_load(model, _resize_on_load)  # for layers that are built later
    if _agree not in model._load_state_dict_post_hooks.values():
        model.register_load_state_dict_post_hook(_agree)
    for part, _ in with_config(model):
        if "save_pretrained" not in vars(part):
            # a partial, as deepcopy and pickle bind it to the copy
            part.save_pretrained = partial(_save_pretrained, part)
    return model


def _before_load(module: nn.Module, hook: Callable[..., None]) -> None:
    """Register the hook, once."""
    if hook not in [getattr(x, "hook", x) for x in module._load_state_dict_pre_hooks.values()]:
        module.register_load_state_dict_pre_hook(hook)


def _resize_on_load(model: nn.Module, *_: Any) -> None:
    resize_on_load(model)


def _resize(layer: nn.Module, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
    """The layer with as many states as its saved tensors, if these are those of such a layer."""
    tensors = tensors_of(layer)
    saved = {name: tuple(x.shape) for name in tensors
             if isinstance(x := state_dict.get(prefix + name), Tensor)}  # fmt: skip
    if all(saved.get(name, x.shape) == x.shape for name, x in tensors.items()):
        return
    n, shapes, counts = _sizes(layer, saved)
    if not n or any(shapes.get(name, tensors[name].shape) != saved[name] for name in saved):
        return  # any other mismatch is torch's to report
    form = form_of(layer)
    with torch.no_grad():
        if form is not None:  # buffers that are not saved, with as many states
            N = form.n_states
            kept = [g * N + min(i, N - 1) for g in range(form.groups) for i in range(n)]
            for name, (axis, places) in form.places(kept).items():
                if name in tensors and name not in saved:
                    index = torch.tensor(places, device=tensors[name].device)
                    write_(layer, name, tensors[name].index_select(axis, index))
        for name, shape in shapes.items():
            write_(layer, name, tensors[name].new_zeros(shape))
    for name, count in counts.items():
        path, _, own = name.rpartition(".")
        if own in vars(layer.get_submodule(path)):
            write_(layer, name, count)
    state = vars(layer).get("state")
    if isinstance(state, Tensor):  # left over from the last sequence
        write_(layer, "state", state.new_zeros(*state.shape[:-1], n))


def _save_pretrained(model: Any, *args: Any, **options: Any) -> Any:
    """``save_pretrained`` of the model, with a warning where `from_pretrained` will fail."""
    forms = [require_form(layer) for _, layer in selective_layers(model)]
    names = {name for form in forms for name in form.config_names}
    sizes = [form.n_states for form in forms]
    if len(set(sizes)) == 1:  # where a layer is not known, the configuration keeps its number
        sizes += [getattr(model.config, name) for name in names if hasattr(model.config, name)]
    if len(set(sizes)) > 1:
        warnings.warn(
            f"the layers keep different numbers of states, {min(sizes)} to {max(sizes)}, and one "
            "configuration holds one number: load this folder by compressm.load_pretrained, as "
            "from_pretrained fails",
            UnequalStatesWarning,
            stacklevel=2,
        )
    return type(model).save_pretrained(model, *args, **options)


def _agree(model: nn.Module, *_: Any) -> None:
    agree_on_states_(model)


def _sizes(layer: nn.Module, saved: Shapes) -> tuple[int, Shapes, dict[str, int]]:
    """How many states were saved, and what shapes and attributes belong to so many."""
    family, tensors = family_of(layer), tensors_of(layer)
    if family is None:
        form = form_of(layer)
        return (0, {}, {}) if form is None else _sizes_of_form(form, tensors, saved)
    axes = {
        (name, axis): 2 if size == "2n" else 1
        for name, shape in family.shapes.items()
        for axis, size in enumerate(shape)
        if size in ("n", "2n")
    }
    n = next(
        (saved[name][axis] // k for (name, axis), k in axes.items()
         if len(saved.get(name, ())) > axis), 0,
    )  # fmt: skip
    shapes: Shapes = {name: tuple(tensors[name].shape) for name, _ in axes}
    for (name, axis), k in axes.items():
        shapes[name] = (*shapes[name][:axis], k * n, *shapes[name][axis + 1 :])
    return n, shapes, dict.fromkeys(family.counts, n)


def _sizes_of_form(
    form: SelectiveForm, tensors: Mapping[str, Tensor], saved: Shapes
) -> tuple[int, Shapes, dict[str, int]]:
    """The sizes on the axes of states are a + b n, as those of one and of two states show."""
    one, two = (form.places([0] * (k * form.groups)) for k in (1, 2))
    n, shapes = 0, {}
    for name, (axis, places) in one.items():
        if name in saved and len(saved[name]) > axis:
            step = len(two[name][1]) - len(places)
            n = n or 1 + (saved[name][axis] - len(places)) // step
            shape = tensors[name].shape
            shapes[name] = (*shape[:axis], len(places) + step * (n - 1), *shape[axis + 1 :])
    return max(n, 0), shapes, form.counts(n)
