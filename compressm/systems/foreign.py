"""Layers of other packages, known by the names and shapes of their parameters, not by import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

import lti
from compressm.errors import UnsupportedLayerError
from compressm.layers.lru import lru_parameters
from compressm.layers.modes import mean_lengths, read_modes
from compressm.layers.s4d import S4D
from compressm.layers.s5 import S5
from compressm.layers.sampling import DISCRETIZATIONS

__all__ = ["FAMILIES", "Family", "family_of", "tensors_of"]

Tensors = Mapping[str, Tensor]
Shape = tuple[str | int, ...]


@dataclass(frozen=True)
class Family:
    """Layers whose parameters have these names and shapes.

    Parameters
    ----------
    name : str
        Whose they are.
    shapes : mapping of str to tuple
        Of each parameter, by its dotted name in the module. A letter stands for any size, the same
        wherever it occurs; a shape that ends in "complex" is that of a complex parameter.
    read : callable
        ``read(tensors, conjugate, **options)``: the layer as a discrete system, as `to_lti`.
    write : callable
        ``write(system, tensors, **options)``: new values of the parameters that change, given the
        old ones.
    options : callable, optional
        ``options(module)``: what the tensors do not show. `UnsupportedLayerError` if the module
        does something that cannot be read.
    where : callable, optional
        ``where(module)``: whether it is of this kind, as far as the tensors do not show it.
    counts : tuple of str, optional
        Attributes of the module that hold the number of states.
    inputs : callable, optional
        ``inputs(module, u)``: what the module was called with, as (batch, length, channels).
    whole : bool, optional
        Whether the module's output is that of the system. If more follows inside, gradients at
        the system's output cannot be observed.
    directions : int, optional
        2 if the second half of the system's outputs is that of the reversed sequence, reversed.
    """

    name: str
    shapes: Mapping[str, Shape]
    read: Callable[..., lti.DiagonalStateSpace]
    write: Callable[..., dict[str, Tensor]]
    options: Callable[[nn.Module], dict[str, Any]] = field(default=lambda module: {})
    where: Callable[[nn.Module], bool] = field(default=lambda module: True)
    counts: tuple[str, ...] = ()
    inputs: Callable[[nn.Module, Tensor], Tensor] = field(default=lambda module, u: u)
    whole: bool = True
    directions: int = 1

    def fits(self, tensors: Tensors) -> bool:
        """Whether these are the tensors of such a layer, by their names and shapes.

        Next to those that are named there may be others only in modules that own none of them.
        """
        sizes: dict[str, int] = {}
        owners = {name.rpartition(".")[0] for name in self.shapes}
        return all(
            name in tensors and _fits(tensors[name], shape, sizes)
            for name, shape in self.shapes.items()
        ) and all(name in self.shapes or name.rpartition(".")[0] not in owners for name in tensors)

    def under(self, part: str, where: Callable[[nn.Module], bool]) -> Family:
        """The same layers as a part of a module that calls them."""
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


def family_of(module: nn.Module) -> Family | None:
    """The family that a module belongs to, if any."""
    tensors = tensors_of(module)
    return next((x for x in FAMILIES if x.fits(tensors) and x.where(module)), None)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their dotted names: a layer may keep as a buffer what is fixed."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _fits(tensor: Tensor, shape: Shape, sizes: dict[str, int]) -> bool:
    is_complex = shape[-1:] == ("complex",)
    shape = shape[:-1] if is_complex else shape
    if tensor.is_complex() != is_complex or tensor.ndim != len(shape):
        return False
    return all(
        size == (sizes.setdefault(axis, size) if isinstance(axis, str) else axis)
        for axis, size in zip(shape, tensor.shape, strict=True)
    )


def _lru(name: str, B: tuple[str, ...], C: tuple[str, ...], D: Shape, **about: Any) -> Family:
    """lambda = exp(-exp(nu_log) + i exp(theta_log)),  x <- lambda x + exp(gamma_log) B u.

    Matrices are complex, or two real ones under two names.
    """

    def matrix(names: tuple[str, ...], *shape: str) -> dict[str, Shape]:
        return {name: shape if len(names) == 2 else (*shape, "complex") for name in names}

    def joined(tensors: Tensors, names: tuple[str, ...]) -> Tensor:
        parts = [tensors[name] for name in names]
        if len(parts) == 1:
            return parts[0].to(torch.complex128)
        return torch.complex(*(part.double() for part in parts))

    def split(value: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        if len(names) == 1:
            value = value.to(torch.promote_types(value.dtype, torch.float32))
            return {names[0]: torch.view_as_complex(value)}
        return {name: part.clone() for name, part in zip(names, value.unbind(-1), strict=True)}

    def read(tensors: Tensors, conjugate: bool) -> lti.DiagonalStateSpace:
        nu, theta, gamma = (tensors[f"{key}_log"].double().exp() for key in KEYS)
        poles = torch.polar((-nu).exp(), theta)
        drive = gamma[:, None] * joined(tensors, B)
        output = joined(tensors, C) * (0.5 if conjugate else 1.0)
        return lti.DiagonalStateSpace(poles, drive, output, dt=True, conjugate=conjugate)

    def write(system: lti.DiagonalStateSpace, tensors: Tensors) -> dict[str, Tensor]:
        old = [torch.view_as_real(joined(tensors, names)) for names in (B, C)]
        modes = read_modes(system, f"an LRU ({name})", old[0].shape[1], old[1].shape[0])
        new = lru_parameters(*modes, mean_lengths(*old), tensors["nu_log"].dtype)
        matrices = split(new.pop("B"), B) | split(new.pop("C"), C)
        return new | matrices

    logs: dict[str, Shape] = {f"{key}_log": ("n",) for key in KEYS}
    shapes = logs | matrix(B, "n", "m") | matrix(C, "p", "n") | {"D": D}
    return Family(name, shapes, read, write, **about)


KEYS = ("nu", "theta", "gamma")


def _s5_read(
    tensors: Tensors, conjugate: bool, discretization: str = "zoh"
) -> lti.DiagonalStateSpace:
    """lambda = exp(step Lambda), B = (lambda - 1) / Lambda B or bilinear;  y = Re(C x).

    A bidirectional layer has C = [C1, C2]: its two directions are two rows of outputs.
    """
    step = tensors["log_step"].double().exp()
    Lambda, C = (tensors[key].to(torch.complex128) for key in ("Lambda", "C"))
    poles, gain = DISCRETIZATIONS[discretization][0](step * Lambda)
    B = (step * gain)[:, None] * torch.view_as_complex(tensors["B"].double())
    C = torch.cat(C.split(len(poles), dim=1)) * (0.5 if conjugate else 1.0)
    return lti.DiagonalStateSpace(poles, B, C, dt=True, conjugate=conjugate)


def _s5_write(
    system: lti.DiagonalStateSpace, tensors: Tensors, discretization: str = "zoh"
) -> dict[str, Tensor]:
    n, m = tensors["B"].shape[:2]
    rows = torch.cat(tensors["C"].split(n, dim=1))
    ours = S5(
        m,
        0,  # the state dict brings the states
        conj_sym=False,
        bidirectional=len(rows) > m,
        discretization=discretization,
    ).to(tensors["B"].dtype)
    parts = {key: tensors[key] for key in ("B", "D", "log_step")}
    parts |= {"Lambda_re": tensors["Lambda"].real, "Lambda_im": tensors["Lambda"].imag}
    ours.load_state_dict({**parts, "C": torch.view_as_real(rows)})
    new = ours._parameters_of(system)
    Lambda = torch.complex(new.pop("Lambda_re"), new.pop("Lambda_im"))
    C = torch.view_as_complex(new.pop("C"))
    return new | {"Lambda": Lambda, "C": torch.cat(C.split(m), dim=1)}


def _s5_options(module: nn.Module) -> dict[str, Any]:
    if getattr(module, "liquid", False) or getattr(module, "degree", 1) != 1:
        raise UnsupportedLayerError(
            "this S5 is liquid or of a degree other than 1, so it is no linear system; "
            "nothing can be reduced"
        )
    rule = getattr(getattr(module, "discretize", None), "__name__", "")
    return {"discretization": "bilinear" if "bilinear" in rule else "zoh"}


def _s5(columns: str) -> Family:
    shapes: dict[str, Shape] = {
        "Lambda": ("n", "complex"),
        "log_step": ("n",),
        "B": ("n", "m", 2),
        "C": ("m", columns, "complex"),
        "D": ("m",),
    }
    directions = 1 if columns == "n" else 2
    return Family("s5-pytorch", shapes, _s5_read, _s5_write, _s5_options, directions=directions)


def _with_parts(*families: Family) -> Iterable[Family]:
    """`families` of s5-pytorch, and the module around that adds the batch."""
    for family in families:
        yield family.under("seq", lambda module: hasattr(module, "width"))
        yield family


def _s4d_read(tensors: Tensors, conjugate: bool) -> lti.DiagonalStateSpace:
    """p = exp(dt A), b = (p - 1) / A with A = -exp(log_A_real) + i A_imag;  y = 2 Re(C x)."""
    log_dt, log_A_real, A_imag, C, _ = (tensors[name].double() for name in S4D_SHAPES)
    dt = log_dt.exp()[:, None]
    poles, gain = DISCRETIZATIONS["zoh"][0](torch.complex(-dt * log_A_real.exp(), dt * A_imag))
    C = torch.view_as_complex(C)[:, None] * (1.0 if conjugate else 2.0)
    return lti.DiagonalStateSpace(poles, (dt * gain)[..., None], C, dt=True, conjugate=conjugate)


def _s4d_write(system: lti.DiagonalStateSpace, tensors: Tensors) -> dict[str, Tensor]:
    """Their parameters are those of our own S4D, under the names of a part."""
    ours = S4D(len(tensors["D"]), 0).to(tensors["D"].dtype)  # the state dict brings the states
    ours.load_state_dict({name.rpartition(".")[2]: tensors[name] for name in S4D_SHAPES})
    ours.load_lti_(system)
    return {f"kernel.{name}": getattr(ours, name).detach() for name in ours.state_axes}


S4D_SHAPES: dict[str, Shape] = {
    "kernel.log_dt": ("h",),
    "kernel.log_A_real": ("h", "n"),
    "kernel.A_imag": ("h", "n"),
    "kernel.C": ("h", "n", 2),
    "D": ("h",),
}

FAMILIES: list[Family] = [
    _lru("minimal-LRU", ("B_re", "B_im"), ("C_re", "C_im"), ("m",)),
    _lru("LRU-pytorch", ("B",), ("C",), ("p", "m"), counts=("state_features",)),
    _lru("neural-ssm", ("Bp",), ("C",), ("p", "m"), counts=("state_features",)),
    *_with_parts(_s5("n"), _s5("2n")),
    Family(
        "S4D, as published on its own",
        S4D_SHAPES,
        _s4d_read,
        _s4d_write,
        inputs=lambda module, u: u.mT if getattr(module, "transposed", True) else u,
        whole=False,
    ),
]
"""Families that are known; append your own."""
