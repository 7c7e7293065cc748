"""Powers of a state matrix, and the map from the inputs of a block of time to its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from compressm.ops.exporting import plainly

__all__ = ["causal", "krylov", "powers_of"]


def powers_of(poles: Tensor, count: int) -> Tensor:
    """poles**j for j = 0 ... count, (count + 1, ...), with exact derivatives at zero too.

    Parameters
    ----------
    poles : Tensor (...)
    count : int
    """
    if plainly():
        return _by_doubling(poles, count)
    return _powers(poles, count)


def _by_doubling(poles: Tensor, count: int) -> Tensor:
    """`powers_of` in operations that torch differentiates as often, and as, it is asked."""
    powers = torch.stack([torch.ones_like(poles), poles])
    while len(powers) <= count:
        powers = torch.cat([powers, powers[1:] * powers[-1]])
    return powers[: count + 1]


@torch.library.custom_op("compressm::powers", mutates_args=())
def _powers(poles: Tensor, count: int) -> Tensor:
    """`powers_of`, one operation for a compiler, and one node for autograd."""
    powers = poles.new_empty(count + 1, *poles.shape)
    powers[0] = 1.0
    powers[1:2] = poles
    done = 2
    while done <= count:
        more = min(done - 1, count + 1 - done)
        torch.mul(powers[1 : more + 1], powers[done - 1], out=powers[done : done + more])
        done += more
    return powers


@_powers.register_fake
def _(poles, count):
    return poles.new_empty(count + 1, *poles.shape)


@torch.library.custom_op("compressm::powers_backward", mutates_args=())
def _powers_backward(g: Tensor, powers: Tensor) -> Tensor:
    """sum_j g_j conj(j poles^(j-1))."""
    j = torch.arange(1, len(powers), dtype=powers.real.dtype, device=powers.device)
    slope = powers[:-1] * j.view(-1, *[1] * (powers.ndim - 1))
    return torch.linalg.vecdot(slope, g[1:], dim=0)


@_powers_backward.register_fake
def _(g, powers):
    return powers.new_empty(powers.shape[1:])


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.count = inputs[1]
    ctx.save_for_backward(inputs[0], output)


def _gradients(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
    poles, powers = ctx.saved_tensors
    if torch.is_grad_enabled():  # for derivatives of these derivatives
        return torch.func.vjp(lambda x: _by_doubling(x, ctx.count), poles)[1](g)[0], None
    return _powers_backward(g, powers), None


_powers.register_autograd(_gradients, setup_context=_keep_for_backward)


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
