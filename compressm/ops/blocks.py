"""Diagonal recurrences between blocks of time, and what is read of them, as one operation.

Within a block of J steps the output of a linear system is a short causal convolution of the block's
input plus the response to the state before it, and that state moves from block to block by
``poles**J``. Each term is one real matrix product over all blocks at once; no state inside a block
is ever formed, neither forwards nor backwards, and the recurrence that is left is J times shorter.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from compressm.ops.exporting import transformed
from compressm.ops.precision import without_autocast
from compressm.ops.recurrence import recur_

__all__ = ["as_states", "blocks", "interleaved"]


def blocks(
    u: Tensor,
    W: Tensor,
    a: Tensor,
    V: Tensor,
    T: Tensor | None,
    state: Tensor,
    at: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """x[0] = state, x[k] = a * x[k-1] + (u W)[k-1],  y = x V + u T, in each of G groups.

    Parameters
    ----------
    u : Tensor (G, batch, K, q)
        Real, as W, V and T; q numbers enter a block.
    W : Tensor (G, q, 2n)
        Here and in V, real and imaginary parts of the states are side by side.
    a : Tensor (G, n)
        Complex, as is `state`.
    V : Tensor (G, 2n, r)
        r numbers leave a block.
    T : Tensor (G, q, r) or None
        None for zero.
    state : Tensor (G, batch, n)
    at : Tensor (batch,) or None
        An index for each sequence; None if no state is asked for.

    Returns
    -------
    y : Tensor (G, batch, K, r)
    last : Tensor (G, batch, n)
        x[at]; empty without `at`.
    """
    if transformed():  # there are no rules for one operation
        return _plain(at, u, W, a, V, state, T)
    y, last, _ = _blocks(u, W, a, V, T, state, at)
    return y, last


@torch.library.custom_op("compressm::blocks", mutates_args=())
def _blocks(
    u: Tensor,
    W: Tensor,
    a: Tensor,
    V: Tensor,
    T: Tensor | None,
    state: Tensor,
    at: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`blocks`, one operation for a compiler, which would unroll the recurrence; returns x too."""
    G, batch, K, q = u.shape
    u = u.reshape(G, batch * K, q).contiguous()
    rows = u.new_empty(G, batch * K, W.shape[2])
    entered = rows[:, 1:]  # the input of block k - 1, where x[k] will be
    if G == 1:
        torch.bmm(u[:, :-1], W, out=entered)
    else:  # into a slice of each group it would be a product at a time
        entered.copy_(torch.bmm(u[:, :-1], W))
    x = as_states(rows).view(G, batch, K, a.shape[1])
    x[:, :, 0] = state
    recur_(x, a)
    y = u.new_empty(G, batch, K, V.shape[2])  # no view, which nobody could write to
    flat = torch.bmm(rows, V, out=y.view(G, batch * K, V.shape[2]))
    if T is not None:
        flat.baddbmm_(u, T)
    return y, _at(x, at), rows


@_blocks.register_fake
def _(u, W, a, V, T, state, at):
    G, batch, K, _ = u.shape
    y, rows = u.new_empty(G, batch, K, V.shape[2]), u.new_empty(G, batch * K, W.shape[2])
    return y, state.new_empty(0 if at is None else state.shape), rows


@torch.library.custom_op("compressm::blocks_backward", mutates_args=())
def _backward(
    gy: Tensor,
    gat: Tensor | None,
    u: Tensor,
    W: Tensor,
    a: Tensor,
    V: Tensor,
    T: Tensor | None,
    at: Tensor | None,
    rows: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of u, W, a, V, T (empty without T) and state, from those of y and x[at].

    g[k] is the gradient of x[k], by the same recurrence from right to left,
    ``g[k-1] = (gy V^T)[k-1] + conj(a) * g[k]``.
    """
    G, batch, K, r = gy.shape
    gy = gy.reshape(G, batch * K, r).contiguous()
    u = u.reshape(G, batch * K, u.shape[3]).contiguous()
    grows = torch.bmm(gy, V.mT)
    g = as_states(grows).view(G, batch, K, a.shape[1])
    if at is not None and gat is not None:
        g[:, torch.arange(batch, device=at.device), at] += gat
    recur_(g, a.conj(), reverse=True)
    gstate = g[:, :, 0].clone()
    g[:, :, 0] = 0  # u never enters x[0], so row k of g now belongs to row k - 1 of u and x
    ga = torch.linalg.vecdot(as_states(rows)[:, :-1], as_states(grows)[:, 1:], dim=1)
    gu = torch.zeros_like(u) if T is None else torch.bmm(gy, T.mT)
    gT = u.new_empty(0) if T is None else torch.bmm(u.mT, gy)
    if G == 1:
        gu[:, :-1].baddbmm_(grows[:, 1:], W.mT)
    else:
        gu[:, :-1] += torch.bmm(grows[:, 1:], W.mT)
    gW, gV = torch.bmm(u[:, :-1].mT, grows[:, 1:]), torch.bmm(rows.mT, gy)
    return gu.view(G, batch, K, u.shape[2]), gW, ga, gV, gT, gstate


@_backward.register_fake
def _(gy, gat, u, W, a, V, T, at, rows):
    gT = u.new_empty(0) if T is None else T.new_empty(T.shape)
    gu, gW, ga, gV = (x.new_empty(x.shape) for x in (u, W, a, V))
    return gu, gW, ga, gV, gT, a.new_empty(a.shape[0], u.shape[1], a.shape[1])


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2])
    ctx.set_materialize_grads(False)  # x is as large as all inputs together


def _gradients(ctx: Any, gy: Tensor | None, gat: Tensor | None, _: None) -> tuple[Any, ...]:
    u, W, a, V, T, state, at, rows = ctx.saved_tensors
    gy = u.new_zeros(*u.shape[:3], V.shape[2]) if gy is None else gy
    if torch.is_grad_enabled():  # for derivatives of these derivatives
        gat = state.new_zeros(0 if at is None else state.shape) if gat is None else gat
        parts = (u, W, a, V, state) if T is None else (u, W, a, V, state, T)
        gu, gW, ga, gV, gstate, *gT = torch.func.vjp(partial(_plain, at), *parts)[1]((gy, gat))
        return gu, gW, ga, gV, gT[0] if gT else None, gstate, None
    with without_autocast(u):  # which torch does not leave for the backward pass
        gu, gW, ga, gV, gT, gstate = _backward(gy, gat, u, W, a, V, T, at, rows)
    return gu, gW, ga, gV, None if T is None else gT, gstate, None


_blocks.register_autograd(_gradients, setup_context=_keep_for_backward)


def _plain(
    at: Tensor | None,
    u: Tensor,
    W: Tensor,
    a: Tensor,
    V: Tensor,
    state: Tensor,
    T: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y and x[at] of `blocks`, in operations that torch differentiates as often as it is asked."""
    x, entered = [state], as_states(u @ W.unsqueeze(1))
    for enters in entered[:, :, :-1].unbind(2):
        x.append(a.unsqueeze(1) * x[-1] + enters)
    x = torch.stack(x, 2)
    y = torch.view_as_real(x).flatten(3) @ V.unsqueeze(1)
    y = y if T is None else y + u @ T.unsqueeze(1)
    return y, _at(x, at)


def _at(x: Tensor, at: Tensor | None) -> Tensor:
    """x[:, b, at[b]] of each sequence b: (G, batch, n)."""
    return x.new_empty(0) if at is None else x[:, torch.arange(len(at), device=at.device), at]


def interleaved(M: Tensor) -> Tensor:
    """(..., n) complex -> (..., 2n) real: real and imaginary parts side by side.

    Parameters
    ----------
    M : Tensor (..., n)
    """
    return torch.view_as_real(M.resolve_conj()).flatten(-2)


def as_states(rows: Tensor) -> Tensor:
    """(..., 2n) real -> (..., n) complex, a view: the inverse of `interleaved`.

    Parameters
    ----------
    rows : Tensor (..., 2n)
    """
    return torch.view_as_complex(rows.unflatten(-1, (rows.shape[-1] // 2, 2)))
