"""S4D of its authors' standalone module."""

from __future__ import annotations

import torch
from torch import Tensor

import lti
from compressm.layers.s4d import S4D
from compressm.layers.sampling import DISCRETIZATIONS
from compressm.systems.foreign.family import Family, Shape, Tensors, register_family

__all__: list[str] = []

SHAPES: dict[str, Shape] = {
    "kernel.log_dt": ("h",),
    "kernel.log_A_real": ("h", "n"),
    "kernel.A_imag": ("h", "n"),
    "kernel.C": ("h", "n", 2),
    "D": ("h",),
}


def _s4d_read(tensors: Tensors, conjugate: bool) -> lti.DiagonalStateSpace:
    """p = exp(dt A), b = (p - 1) / A with A = -exp(log_A_real) + i A_imag;  y = 2 Re(C x)."""
    log_dt, log_A_real, A_imag, C, _ = (tensors[name].double() for name in SHAPES)
    dt = log_dt.exp()[:, None]
    poles, gain = DISCRETIZATIONS["zoh"][0](torch.complex(-dt * log_A_real.exp(), dt * A_imag))
    C = torch.view_as_complex(C)[:, None] * (1.0 if conjugate else 2.0)
    return lti.DiagonalStateSpace(poles, (dt * gain)[..., None], C, dt=True, conjugate=conjugate)


def _s4d_write(system: lti.DiagonalStateSpace, tensors: Tensors) -> dict[str, Tensor]:
    """New parameters by way of our own `S4D`, which has the same ones under other names."""
    with tensors["D"].device:
        ours = S4D(len(tensors["D"]), 0).to(tensors["D"].dtype)  # states follow the state dict
    ours.load_state_dict({name.rpartition(".")[2]: tensors[name] for name in SHAPES})
    ours.load_lti_(system)
    return {f"kernel.{name}": getattr(ours, name).detach() for name in ours.state_axes}


register_family(
    Family(
        "S4D, as published on its own",
        SHAPES,
        _s4d_read,
        _s4d_write,
        inputs=lambda module, u: u.mT if getattr(module, "transposed", True) else u,
        whole=False,
    )
)
