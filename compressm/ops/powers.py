"""Powers of a state matrix, and the map from the inputs of a block of time to its outputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["causal", "krylov", "powers_of"]


def powers_of(poles: Tensor, count: int) -> Tensor:
    """poles**j for j = 0 ... count, (count + 1, ...), by doubling: exact derivatives at zero too.

    Parameters
    ----------
    poles : Tensor (...)
    count : int
    """
    powers = torch.stack([torch.ones_like(poles), poles])
    while len(powers) <= count:
        powers = torch.cat([powers, powers[1:] * powers[-1]])
    return powers[: count + 1]


def krylov(A: Tensor, C: Tensor, length: int) -> Tensor:
    """C A^l for l = 0 ... length - 1, by doubling: (..., q, n) -> (..., q, length, n).

    Parameters
    ----------
    A : (..., n, n)
    C : (..., q, n)
    length : int
    """
    rows = C.unsqueeze(-2)
    while rows.shape[-2] < length:
        # With k rows so far, A holds the k-th power of the matrix that was given
        rows = torch.cat([rows, (rows.flatten(-3, -2) @ A).unflatten(-2, rows.shape[-3:-1])], -2)
        A = A @ A
    return rows[..., :length, :]


def causal(kernel: Tensor) -> Tensor:
    """T with block (i, j) = kernel[j - i]^T, zero where j < i: (..., J, p, m) -> (..., J m, J p).

    Parameters
    ----------
    kernel : Tensor (..., J, p, m)
    """
    J, p, m = kernel.shape[-3:]
    time = torch.arange(J, device=kernel.device)
    lag = (time - time.unsqueeze(1)).remainder(2 * J).clamp(max=J)  # J, a zero, where negative
    blocks = pad(kernel, (0, 0, 0, 0, 0, 1))[..., lag, :, :].movedim(-1, -3)
    return blocks.reshape(*kernel.shape[:-3], J * m, J * p)
