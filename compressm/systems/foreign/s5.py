"""S5 of s5-pytorch: the module itself, and the module around it that adds the batch axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import lti
from compressm.errors import UnsupportedLayerError
from compressm.layers.s5 import S5
from compressm.layers.sampling import DISCRETIZATIONS
from compressm.systems.foreign.family import Family, Shape, Tensors, register_family

__all__: list[str] = []


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
    with rows.device:
        ours = S5(
            m,
            0,  # states follow the state dict
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


for _family in (_s5("n"), _s5("2n")):
    register_family(_family.under("seq", lambda module: hasattr(module, "width")))
    register_family(_family)
