"""Selective layers that are nearly of a known form, and what is different."""

from __future__ import annotations

from torch import nn

from compressm.ops.resize import tensors_of
from compressm.systems.selective.form import FORMS, SelectiveForm, is_selective, own_names

__all__ = ["resemblance"]

SHARED = 0.6  # of the tensors of a form, from which on a layer looks like it
NAMED = 3  # differences that a message names


def resemblance(module: nn.Module) -> str | None:
    """What keeps a module from being of the form that it looks like; None if it is or looks not.

    Parameters
    ----------
    module : nn.Module
        It looks like a form that shares most of its names with the module's own tensors.
    """
    own = own_names(module)
    form = max(FORMS, key=lambda form: (_shared(form, own), -len(own - _owners(form))))
    if _shared(form, own) < SHARED or is_selective(module):
        return None
    names = tensors_of(module).keys()
    if len(form.needed & names) < SHARED * len(form.needed):
        return None
    return f"looks like {form.__name__}, but {_difference(form, module)}"


def _shared(form: type[SelectiveForm], own: set[str]) -> float:
    """What part of the tensors of a form has an owner in the module."""
    return sum(name.partition(".")[0] in own for name in form.needed) / len(form.needed)


def _owners(form: type[SelectiveForm]) -> set[str]:
    return {name.partition(".")[0] for name in form.needed | form.optional}


def _difference(form: type[SelectiveForm], module: nn.Module) -> str:
    tensors = tensors_of(module)
    missing = sorted(form.needed - tensors.keys())
    added = sorted(tensors.keys() - form.needed - form.optional)
    texts = [f"has no {_listed(missing)}"] * bool(missing)
    texts += [f"has {_listed([f'{x} of shape {tuple(tensors[x].shape)}' for x in added])}"] * bool(
        added
    )
    if not texts:
        texts = [
            f"{name} has {tensors[name].ndim} axes, not {count}"
            for name, count in form.axes.items()
            if tensors[name].ndim != count
        ] or [
            f"{name} has the shape {tuple(tensors[name].shape)}, not {shape}"
            for name, shape in form(module).shapes().items()
            if name not in tensors or tensors[name].shape != shape
        ]
    if not texts:
        texts = [form(module).refusal() or "its attributes give no number of states"]
    return " and ".join(texts[:NAMED]) + "; docs/extending.md shows how to describe it"


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
