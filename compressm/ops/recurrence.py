"""x[k] += a * x[k-1], in place: the recurrence between the blocks of `compressm.ops.blocks`."""

from __future__ import annotations

import torch
from torch import Tensor

try:  # comes with torch where torch is built for CUDA
    import triton  # pyright: ignore
    import triton.language as tl  # pyright: ignore
except ImportError:
    triton = None

__all__ = ["recur_", "recur_by_kernel_", "recur_by_step_"]

STATES = 64  # in each program of the kernel


def recur_(x: Tensor, a: Tensor, reverse: bool = False) -> None:
    """x[:, :, k] += a * x[:, :, k-1] for k = 1, 2, ...; or x[:, :, k-1] += a * x[:, :, k].

    Parameters
    ----------
    x : Tensor (G, batch, K, n)
        Complex, contiguous; overwritten by the result.
    a : Tensor (G, n)
        Complex.
    reverse : bool, optional
        Run from the end to the start.
    """
    a = a.to(x.dtype).resolve_conj()
    by_kernel = triton is not None and x.is_cuda
    (recur_by_kernel_ if by_kernel else recur_by_step_)(x, a, reverse)


def recur_by_step_(x: Tensor, a: Tensor, reverse: bool = False) -> None:
    """`recur_`, with one torch call for each k."""
    steps, a = x.unbind(2), a.unsqueeze(1)
    if reverse:
        steps = steps[::-1]
    for before, now in zip(steps[:-1], steps[1:], strict=True):
        now.addcmul_(a, before)


def recur_by_kernel_(x: Tensor, a: Tensor, reverse: bool = False) -> None:
    """`recur_`, as one Triton kernel with a program for each sequence and `STATES` states.

    It has been run in Triton's interpreter and compiled for CUDA, but not yet run on a GPU: its
    speed has not been measured.
    """
    G, batch, K, n = x.shape
    grid = G * batch, -(-n // STATES)
    numbers, factors = torch.view_as_real(x), torch.view_as_real(a.contiguous())
    with torch.cuda.device_of(x):
        _kernel[grid](  # pyright: ignore
            numbers, factors, batch, K, n, reverse, STATES, num_warps=STATES // 32
        )


if triton is not None:

    @triton.jit
    def _kernel(x, a, batch, K, n, reverse: tl.constexpr, states: tl.constexpr):
        i = 2 * (tl.program_id(1) * states + tl.arange(0, states))
        within = i < 2 * n
        a += tl.program_id(0) // batch * 2 * n
        a_re = tl.load(a + i, within, 0.0)
        a_im = tl.load(a + i + 1, within, 0.0)
        row = tl.program_id(0).to(tl.int64) * K
        if reverse:
            row += K - 1
        at = x + row * 2 * n + i
        re = tl.zeros_like(a_re)
        im = tl.zeros_like(a_im)
        for _ in range(K):
            was_re = re
            re = a_re * was_re - a_im * im + tl.load(at, within, 0.0)
            im = a_re * im + a_im * was_re + tl.load(at + 1, within, 0.0)
            tl.store(at, re, within)
            tl.store(at + 1, im, within)
            if reverse:
                at -= 2 * n
            else:
                at += 2 * n
