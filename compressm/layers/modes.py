"""What writing a diagonal system into a layer takes, whatever the layer: read, balance, store."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import lti

__all__ = ["mean_lengths", "read_modes", "stored"]


def read_modes(
    system: lti.DiagonalStateSpace, layer: str, inputs: int, outputs: int
) -> tuple[Tensor, Tensor, Tensor]:
    """poles, B, C of ``y = Re(C x)``, complex in double precision on the host.

    Of each pair of a conjugate system it is the mode in the upper half-plane, with 2 C.

    Parameters
    ----------
    system : lti.DiagonalStateSpace
        Discrete, without feed-through, one system.
    layer : str
        What it will be written into, for messages: "an LRU".
    inputs, outputs : int
        Of the layer.

    Returns
    -------
    poles : (n,)
    B : (n, inputs)
    C : (outputs, n)
    """
    if not system.is_discrete:
        raise lti.TimebaseError(f"{layer} is a discrete system, got dt=0; discretize it first")
    poles, B, C, D = (_on_host(x) for x in (system.poles, system.B, system.C, system.D))
    if D.any():
        raise lti.DimensionError(
            f"{layer} cannot take up the feed-through D of a system, got one that is not zero; "
            "reduce with a method that leaves D alone"
        )
    n = poles.shape[0]
    if B.shape != (n, inputs) or C.shape != (outputs, n):
        raise lti.DimensionError(
            f"{layer} with {inputs} inputs and {outputs} outputs got B {tuple(B.shape)} and C "
            f"{tuple(C.shape)} for {n} poles; pass one system of matching size"
        )
    if system.conjugate:
        below = poles.imag < 0
        poles = torch.where(below, poles.conj(), poles)
        B = torch.where(below[:, None], B.conj(), B)
        C = 2 * torch.where(below, C.conj(), C)
    return poles, B, C


def mean_lengths(B: Tensor, C: Tensor) -> tuple[float, float]:
    """Of the rows of B (n, m, 2) and of the columns of C (p, n, 2); 1 if none, or all are zero."""
    rows, columns = B.double().flatten(1), C.double().transpose(0, 1).flatten(1)
    lengths = [float(x.norm(dim=1).mean()) if len(x) else 1.0 for x in (rows, columns)]
    return lengths[0] or 1.0, lengths[1] or 1.0


def stored(values: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The values in `dtype`; NonFiniteError names the first that is not finite there."""
    values = {name: value.to(dtype) for name, value in values.items()}
    for name, value in values.items():
        if not value.isfinite().all():
            raise lti.NonFiniteError(
                f"{name} would not be finite in {dtype}; leave this layer as it is"
            )
    return values


def _on_host(x: Any) -> Tensor:
    x = x if isinstance(x, Tensor) else torch.tensor(x)
    return x.to("cpu", torch.complex128)
