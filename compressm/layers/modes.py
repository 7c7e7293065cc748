"""What every layer needs to take up a diagonal system: its modes, lengths, checks."""

from __future__ import annotations

import torch
from torch import Tensor

import lti

__all__ = [
    "COMPLEX",
    "mean_lengths",
    "one_of",
    "read_modes",
    "stored",
]

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
"""``dtype.to_complex()``, which the compiler of torch does not trace."""


def read_modes(
    system: lti.DiagonalStateSpace,
    layer: str,
    inputs: int,
    outputs: int,
    batch_shape: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """poles, B, C of ``y = Re(C x)``, complex in double precision on the host.

    Of each pair of a conjugate system the mode in the upper half-plane is taken, with 2 C.

    Parameters
    ----------
    system : lti.DiagonalStateSpace
        Discrete, without feed-through.
    layer : str
        The layer that it is for, as messages call it: "an LRU".
    inputs, outputs : int
        Their number in the layer, or in each of its channels.
    batch_shape : tuple of int, optional
        ``(channels,)`` if each channel is a separate system.

    Returns
    -------
    poles : (*batch_shape, n)
    B : (*batch_shape, n, inputs)
    C : (*batch_shape, outputs, n)
    """
    if not isinstance(system, lti.DiagonalStateSpace):
        raise lti.DimensionError(
            f"{layer} takes a diagonal system, got a {type(system).__name__}; pass "
            "lti.diagonalize(system, conjugate=True)[0]"
        )
    if not system.is_discrete:
        raise lti.TimebaseError(f"{layer} is a discrete system, got dt=0; discretize it first")
    poles, B, C, D = (
        (x if isinstance(x, Tensor) else torch.tensor(x, device="cpu")).to("cpu", torch.complex128)
        for x in system.matrices
    )
    if D.any():
        raise lti.DimensionError(
            f"{layer} cannot take the feed-through D of a system, got one that is not zero; "
            "reduce with a method that does not change D"
        )
    n = poles.shape[-1]
    if B.shape != (*batch_shape, n, inputs) or C.shape != (*batch_shape, outputs, n):
        channels = f"{batch_shape[0]} channels of " if batch_shape else ""
        raise lti.DimensionError(
            f"{layer} with {channels}{inputs} inputs and {outputs} outputs got B "
            f"{tuple(B.shape)} and C {tuple(C.shape)} for {n} poles; pass "
            f"{'a batch of systems' if batch_shape else 'one system'} of matching size"
        )
    if system.conjugate:
        below = poles.imag < 0
        poles = torch.where(below, poles.conj(), poles)
        B = torch.where(below[..., None], B.conj(), B)
        C = 2 * torch.where(below[..., None, :], C.conj(), C)
    return poles, B, C


def mean_lengths(B: Tensor, C: Tensor) -> tuple[float, float]:
    """Mean length of the rows of B (n, m, 2) and of the columns of C (p, n, 2); 1 in place of 0."""
    rows, columns = B.double().flatten(1), C.double().transpose(0, 1).flatten(1)
    lengths = [float(x.norm(dim=1).mean()) if len(x) else 1.0 for x in (rows, columns)]
    return lengths[0] or 1.0, lengths[1] or 1.0


def stored(values: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The values cast to `dtype`; NonFiniteError names the first that is not finite there."""
    values = {name: value.to(dtype) for name, value in values.items()}
    for name, value in values.items():
        if not value.isfinite().all():
            raise lti.NonFiniteError(
                f"{name} would not be finite in {dtype}; leave this layer as it is"
            )
    return values


def one_of(name: str, value: str, options: tuple[str, ...]) -> None:
    """OptionError unless the `value` of the argument `name` is one of `options`."""
    if value not in options:
        known = " or ".join(map(repr, options))
        raise lti.OptionError(f"{name} must be {known}; got {value!r}")
