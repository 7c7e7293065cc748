"""Layers of other packages, known by the names and shapes of their parameters, not by import."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

import lti
from compressm.ops.resize import tensors_of

__all__ = ["FAMILIES", "Family", "family_of", "register_family"]

Tensors = Mapping[str, Tensor]
Shape = tuple[str | int, ...]


def _no_options(module: nn.Module) -> dict[str, Any]:
    """The tensors show everything about `module`."""
    return {}


def _anywhere(module: nn.Module) -> bool:
    """The tensors tell `module` apart from others."""
    return True


def _as_given(module: nn.Module, u: Tensor) -> Tensor:
    """The input `u` of `module` is (batch, length, channels)."""
    return u


@dataclass(frozen=True)
class Family:
    """Layers of another package, recognised by parameter names and shapes; see `register_family`.

    Parameters
    ----------
    name : str
        Name of the family, for messages.
    shapes : mapping of str to tuple
        Shape of each parameter, by its dotted name in the module. A string such as "n" stands for
        any size, the same wherever it occurs; the last entry "complex" means a complex parameter.
    read : callable
        ``read(tensors, conjugate, **options)``: the layer as a discrete system, as `to_lti`.
    write : callable
        ``write(system, tensors, **options)``: new values of the parameters that change, given the
        old ones.
    options : callable, optional
        ``options(module)``: keyword arguments of `read` and `write` that the tensors do not show.
        It raises `UnsupportedLayerError` if the module is not a linear system.
    where : callable, optional
        ``where(module)``: a further condition on the module, beside names and shapes.
    counts : tuple of str, optional
        Attributes of the module that hold the number of states.
    inputs : callable, optional
        ``inputs(module, u)``: the module's input `u` as (batch, length, channels).
    whole : bool, optional
        Whether the module's output is that of the system, but for what a cut does not change; this
        is tried before a cut. If more operations follow inside, gradients at the system's output
        cannot be observed.
    directions : int, optional
        2 if the second half of the system's outputs is that of the reversed sequence, reversed.
    """

    name: str
    shapes: Mapping[str, Shape]
    read: Callable[..., lti.DiagonalStateSpace]
    write: Callable[..., dict[str, Tensor]]
    options: Callable[[nn.Module], dict[str, Any]] = _no_options
    where: Callable[[nn.Module], bool] = _anywhere
    counts: tuple[str, ...] = ()
    inputs: Callable[[nn.Module, Tensor], Tensor] = _as_given
    whole: bool = True
    directions: int = 1

    @property
    def with_states(self) -> list[str]:
        """The names of the parameters with an axis of states."""
        return [name for name, shape in self.shapes.items() if {"n", "2n"} & set(shape)]

    def fits(self, tensors: Tensors) -> bool:
        """Whether `tensors` are those of such a layer, by their names and shapes.

        Tensors that are not named may only be in submodules that own none of the named ones.
        """
        sizes: dict[str, int] = {}
        owners = {name.rpartition(".")[0] for name in self.shapes}
        return all(
            name in tensors and _fits(tensors[name], shape, sizes)
            for name, shape in self.shapes.items()
        ) and all(name in self.shapes or name.rpartition(".")[0] not in owners for name in tensors)

    def under(self, part: str, where: Callable[[nn.Module], bool]) -> Family:
        """The family of modules, `where` that holds, with such a layer under the name `part`."""
        prefix = f"{part}."

        def inner(tensors: Tensors) -> dict[str, Tensor]:
            return {name: tensors[prefix + name] for name in self.shapes}

        def write(system: Any, tensors: Tensors, **options: Any) -> dict[str, Tensor]:
            new = self.write(system, inner(tensors), **options)
            return {prefix + name: value for name, value in new.items()}

        return replace(
            self,
            shapes={prefix + name: shape for name, shape in self.shapes.items()},
            read=lambda tensors, *args, **options: self.read(inner(tensors), *args, **options),
            write=write,
            options=lambda module: self.options(module.get_submodule(part)),
            where=where,
            counts=tuple(prefix + name for name in self.counts),
        )


FAMILIES: list[Family] = []
"""The known families, of which the first that fits is taken; see `register_family`."""


def register_family(family: Family) -> Family:
    """Add a family of layers of another package to those that `to_lti` and `load_lti_` take.

    Parameters
    ----------
    family : Family

    Returns
    -------
    Family
        The argument.
    """
    FAMILIES.append(family)
    return family


def family_of(module: nn.Module) -> Family | None:
    """The family that a module belongs to, if any."""
    tensors = tensors_of(module)
    return next((x for x in FAMILIES if x.fits(tensors) and x.where(module)), None)


def _fits(tensor: Tensor, shape: Shape, sizes: dict[str, int]) -> bool:
    is_complex = shape[-1:] == ("complex",)
    shape = shape[:-1] if is_complex else shape
    if tensor.is_complex() != is_complex or tensor.ndim != len(shape):
        return False
    return all(
        size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for axis, size in zip(shape, tensor.shape, strict=True)
    )
