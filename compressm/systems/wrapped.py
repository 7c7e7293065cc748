"""Layers that would be known, were their parameters not pruned, parametrized, adapted or cast."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compressm.ops.resize import tensors_of
from compressm.systems.foreign import FAMILIES
from compressm.systems.selective.form import FORMS

__all__ = ["wrapping"]

# What wrappers call a parameter, what its name was, and what to do about it
WRAPPERS = (
    (r"_orig$", "", "is pruned; first make that permanent by torch.nn.utils.prune.remove"),
    (
        r"(^|\.)parametrizations\.(\w+)\.original\d*$",
        r"\1\2",
        "is parametrized; first torch.nn.utils.parametrize.remove_parametrizations",
    ),
    (r"_v$", "", "has the old weight norm; first remove it by torch.nn.utils.remove_weight_norm"),
    (r"\.base_layer\.", ".", "has an adapter (LoRA); first merge it, as merge_and_unload of peft"),
)
SPECTRAL = "has the old spectral norm; first remove it by torch.nn.utils.remove_spectral_norm"
ADDED = re.compile(r"_mask$|_g$|_u$|(^|\.)lora_\w+(\.|$)|(^|\.)parametrizations\.\w+\.\d+\.")


def wrapping(module: nn.Module) -> str | None:
    """Why a module is not known, with what to do, if its plain parameters would be; or None."""
    tensors, plain, reason = tensors_of(module), dict[str, Tensor](), None
    if not tensors:
        return None
    spectral = {x[:-2] for x in tensors if x.endswith("_u") and f"{x[:-2]}_orig" in tensors}
    for name, tensor in tensors.items():
        if ADDED.search(name) or (name.endswith("_v") and name[:-2] in spectral):
            continue
        for pattern, own, remedy in WRAPPERS:
            unwrapped, count = re.subn(pattern, own, name)
            if count:
                said = SPECTRAL if unwrapped in spectral else remedy
                reason, name = f"{unwrapped} {said}", unwrapped
        plain[name] = tensor
    known = reason and (
        any(family.fits(plain) for family in FAMILIES)
        or any(form.needed <= plain.keys() <= form.needed | form.optional for form in FORMS)
    )
    return reason if known else _made_real(module, tensors)


def _made_real(module: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Which complex parameters of a known family are real, as a cast to a real dtype makes them."""
    for family in FAMILIES:
        names = [name for name, shape in family.shapes.items() if shape[-1:] == ("complex",)]
        real = [name for name in names if name in tensors and not tensors[name].is_complex()]
        before = {name: tensors[name].to("meta", torch.complex64) for name in real}
        if real and family.fits({**tensors, **before}) and family.where(module):
            return (
                f"has real {' and '.join(real)}, which {family.name} has complex: a cast to "
                f"{tensors[real[0]].dtype} loses the imaginary parts; load the weights again, and "
                "use torch.autocast"
            )
    return None
