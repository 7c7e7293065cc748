"""LRUs of other packages: minimal-LRU, LRU-pytorch, neural-ssm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import lti
from compressm.layers.lru import lru_parameters
from compressm.layers.modes import mean_lengths, read_modes
from compressm.systems.foreign.family import Family, Shape, Tensors, register_family

__all__: list[str] = []

KEYS = ("nu", "theta", "gamma")


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


register_family(_lru("minimal-LRU", ("B_re", "B_im"), ("C_re", "C_im"), ("m",)))
register_family(_lru("LRU-pytorch", ("B",), ("C",), ("p", "m"), counts=("state_features",)))
register_family(_lru("neural-ssm", ("Bp",), ("C",), ("p", "m"), counts=("state_features",)))
