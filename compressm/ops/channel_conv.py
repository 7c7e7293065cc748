"""Causal convolutions of each channel with its own kernel: by FFT, or by blocks of time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from compressm.ops.blocks import as_states, blocks, interleaved
from compressm.ops.exporting import transformed
from compressm.ops.powers import causal, powers_of

__all__ = ["blocks_pay", "causal_conv", "diagonal_conv"]

BLOCK = 32  # steps; 16 are as fast for few states


def blocks_pay(u: Tensor, n: int) -> bool:
    """Whether `diagonal_conv` of n modes is faster than an FFT, for u (batch, length, H) on a CPU.

    Parameters
    ----------
    u : Tensor (batch, length, H)
    n : int
    """
    few = n <= min(u.shape[1] // 40, 32)  # measured, as is the length of a block
    return few and u.device.type == "cpu" and (torch.compiler.is_compiling() or not transformed())


def diagonal_conv(u: Tensor, poles: Tensor, weights: Tensor) -> Tensor:
    """y[l] = sum_{j <= l} K[j] u[l-j] with K[j] = Re sum_i weights_i poles_i^j, by blocks of time.

    With the state x before a block of J steps, ``x_i <- p_i^J x_i + sum_j p_i^(J-1-j) u[j]``,

        y[j] = Re sum_i w_i p_i^(j+1) x_i + sum_{k <= j} K[j-k] u[k]

    Parameters
    ----------
    u : Tensor (batch, length, H)
        Real.
    poles : Tensor (H, n)
        Complex, of modulus below 1, best in double precision, as in `diagonal_kernel`.
    weights : Tensor (H, n)
        Complex.

    Returns
    -------
    Tensor (batch, length, H)
    """
    batch, length, H = u.shape
    J = min(BLOCK, length)
    K = -(-length // J)
    powers = powers_of(poles, J).movedim(0, 1)  # (H, J + 1, n)
    read = powers * weights.unsqueeze(1)
    W = interleaved(powers[:, :J].flip(1)).to(u.dtype)
    V = interleaved(read[:, 1:].conj()).mT.to(u.dtype)
    T = causal(read[:, :J].sum(-1).real[..., None, None].to(u.dtype))
    a = as_states(interleaved(powers[:, J]).to(u.dtype))
    if K * J > length:
        u = pad(u, (0, 0, 0, K * J - length))
    v = u.unflatten(1, (K, J)).permute(3, 0, 1, 2)
    y, _ = blocks(v, W, a, V, T, a.new_zeros(H, batch, a.shape[1]), None)
    return y.permute(1, 2, 3, 0).flatten(1, 2)[:, :length]


def causal_conv(u: Tensor, kernel: Tensor) -> Tensor:
    """y[l] = sum_{j <= l} kernel[l-j] u[j] along the last axis, by FFT.

    Parameters
    ----------
    u : (..., length)
        Real.
    kernel : (..., length)
        Real.

    Returns
    -------
    (..., length)
    """
    if not u.numel():
        return u  # there is no FFT of an empty batch
    length = u.shape[-1]
    spectrum = torch.fft.rfft(u, 2 * length) * torch.fft.rfft(kernel, 2 * length)  # no wrapping
    return torch.fft.irfft(spectrum, 2 * length)[..., :length]
