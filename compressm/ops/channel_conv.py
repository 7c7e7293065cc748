"""Causal convolutions of each channel with its own kernel: by FFT, or by blocks of time."""

from __future__ import annotations

from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn.functional import pad

from compressm.ops.blocks import as_states, blocks, interleaved
from compressm.ops.exporting import plainly
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
    return few and u.device.type == "cpu" and not plainly()


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
        Real, of the dtype and length of u; its leading axes are the last ones of u.

    Returns
    -------
    (..., length)
    """
    if not u.numel():
        return u  # there is no FFT of an empty batch
    differentiated = torch.is_grad_enabled() and (u.requires_grad or kernel.requires_grad)
    if plainly() or not differentiated:
        return _plain(u, kernel)
    return _conv(u, kernel)[0]


@torch.library.custom_op("compressm::causal_conv", mutates_args=())
def _conv(u: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`causal_conv`, one operation for a compiler; returns the two spectra too."""
    length, period = u.shape[-1], _period(u)
    U, K = torch.fft.rfft(u, period), torch.fft.rfft(kernel, period)
    return _back(U * K, period, length).contiguous(), U, K


@_conv.register_fake
def _(u, kernel):
    known = isinstance(u.shape[-1], int)  # else the sizes of the spectra are left open
    half = _period(u) // 2 + 1 if known else torch.library.get_ctx().new_dynamic_size()
    dtype = u.dtype.to_complex()
    spectra = (x.new_empty(*x.shape[:-1], half, dtype=dtype) for x in (u, kernel))
    return u.new_empty(u.shape), *spectra


@torch.library.custom_op("compressm::causal_conv_backward", mutates_args=())
def _conv_backward(g: Tensor, U: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients, g correlated with the kernel and with u, by FFTs of real numbers."""
    length, period = g.shape[-1], _period(g)
    G = torch.fft.rfft(g, period)
    gu = _back(G * K.conj(), period, length).contiguous()
    return gu, _back((G * U.conj()).sum_to_size(K.shape), period, length).contiguous()


@_conv_backward.register_fake
def _(g, U, K):
    return g.new_empty(g.shape), g.new_empty(*K.shape[:-1], g.shape[-1])


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, *output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, g: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    u, kernel, U, K = ctx.saved_tensors
    if g is None:
        return None, None
    if torch.is_grad_enabled():  # for derivatives of these derivatives
        return torch.func.vjp(_plain, u, kernel)[1](g)
    return _conv_backward(g, U, K)


_conv.register_autograd(_gradients, setup_context=_keep_for_backward)


def _plain(u: Tensor, kernel: Tensor) -> Tensor:
    """`causal_conv` in operations that torch differentiates as often, and as, it is asked."""
    length = u.shape[-1]
    period = 2 * length if torch.compiler.is_compiling() else _period(u)  # of any length
    return _back(torch.fft.rfft(u, period) * torch.fft.rfft(kernel, period), period, length)


def _back(spectrum: Tensor, period: int, length: int) -> Tensor:
    return torch.fft.irfft(spectrum, period)[..., :length]


def _period(u: Tensor) -> int:
    """At least twice the length, so that nothing wraps, even and of small factors only."""
    return 2 * next_fast_len(u.shape[-1])  # pyright: ignore
