"""Diagonal linear recurrences as matrix products over blocks of time.

A loop over time sends every state through memory once per step and pays for a dispatch each time.
Neither is needed. Within a block of J steps the output is a short causal convolution of the block's
input plus the response to the state x_k before it, and that state moves from block to block by
``poles**J``:

    y[kJ + j] = Re(C poles^(j+1) x_k) + sum_{i <= j} Re(C poles^(j-i) B) u[kJ + i]
    x_(k+1)   = poles^J x_k + sum_i poles^(J-1-i) B u[kJ + i]

Each term is one real matrix product over all blocks at once. No state inside a block is ever
formed, neither forwards nor backwards, and the recurrence that is left is J times shorter.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

import lti
from compressm.ops.checks import require_sequence
from compressm.ops.exporting import to_onnx
from compressm.ops.powers import causal, powers_of
from compressm.ops.precision import without_autocast
from compressm.ops.recurrence import recur_

__all__ = ["linear_ssm", "linear_ssm_reference", "steps_within"]


def linear_ssm(
    u: Tensor,
    poles: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None = None,
    *,
    D: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """x[t] = poles * x[t-1] + B u[t],  y[t] = Re(C x[t]) + D * u[t].

    Parameters
    ----------
    u : Tensor (batch, length, m)
        Input, real, of length >= 1.
    poles : Tensor (n,)
        Complex, as are the next three.
    B : Tensor (n, m)
        Input matrix.
    C : Tensor (p, n)
        Output matrix.
    state : Tensor (batch, n), optional
        x[-1], the state before the first step; zero when absent.
    D : Tensor (p,), optional
        Elementwise feed-through, real, with p = m; none when absent.
    lengths : Tensor (batch,), optional
        Valid steps of each sequence, integers from 0 to length; all of them when absent. Later
        entries of `u` are never read, and `y` is zero there.
    reverse : bool, optional
        Read each sequence from its end to its start: x[t] = poles * x[t+1] + B u[t], with `state`
        before the last step.

    Returns
    -------
    y : Tensor (batch, length, p)
        Output, real.
    last_state : Tensor (batch, n)
        The state after the step that is read last, x[lengths - 1] (x[0] in reverse): passed as
        `state`, it continues the sequence.

    Raises
    ------
    lti.DimensionError
        If `u`, `D` or `lengths` has another shape.
    lti.OptionError
        If `lengths` holds anything but integers from 0 to length.

    See Also
    --------
    linear_ssm_reference : The same map as a plain loop over time.

    Notes
    -----
    The precision is that of `B`, also under ``torch.autocast``, since rounding errors add up along
    a recurrence. There are derivatives for all tensors but `lengths`; those of second and
    higher order go through a loop over the blocks, which takes more time and memory.

    Examples
    --------
    >>> import torch
    >>> from compressm import linear_ssm
    >>> one = torch.ones(1, 1, dtype=torch.complex64)
    >>> y, last = linear_ssm(torch.ones(1, 3, 1), 0.5 * one[0], one, one)
    >>> y.flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    require_sequence(u, B.shape[1], B)
    if torch.compiler.is_exporting() and (
        to_onnx() or not all(isinstance(x, int) for x in u.shape)
    ):
        raise lti.OptionError(
            "linear_ssm can be exported by torch.export for one batch and length only, and not to "
            "ONNX; call compressm.layers.Frozen(system, D) of your system instead"
        )
    if D is not None and not D.shape == B.shape[1:] == C.shape[:1]:
        raise lti.DimensionError(
            f"D feeds input i to output i: it needs one number for each of {B.shape[1]} inputs and "
            f"{C.shape[0]} outputs, got shape {tuple(D.shape)}"
        )
    beyond = None
    if lengths is not None:
        beyond = ~steps_within(lengths, u)
        lengths = lengths.long()
    with without_autocast(u):
        u = u.to(B.real.dtype)
        if state is None:
            state = poles.new_zeros(u.shape[0], poles.shape[0])
        if beyond is not None:
            u = u.masked_fill(beyond, 0)
        if reverse:
            u = _turned(u, lengths)
        y, last = _forwards(u, poles, B, C, state, D, lengths)
        if reverse:
            y = _turned(y, lengths)
        return y if beyond is None else y.masked_fill(beyond, 0), last


def linear_ssm_reference(
    u: Tensor,
    poles: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor | None = None,
    *,
    D: Tensor | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """x[t] = poles * x[t-1] + B u[t],  y[t] = Re(C x[t]) + D * u[t]: `linear_ssm`, as defined."""
    batch, length, _ = u.shape
    x = poles.new_zeros(batch, len(poles)) if state is None else state
    y = [u.new_zeros(batch, len(C))] * length
    for t in reversed(range(length)) if reverse else range(length):
        now = poles * x + u[:, t].to(B.dtype) @ B.mT
        out = (now @ C.mT).real + (0 if D is None else D * u[:, t])
        within = None if lengths is None else (t < lengths).unsqueeze(1)
        x = now if within is None else torch.where(within, now, x)
        y[t] = out if within is None else torch.where(within, out, 0)
    return torch.stack(y, 1), x


def steps_within(lengths: Tensor, u: Tensor, least: int = 0) -> Tensor:
    """t < lengths, (batch, length, 1) boolean: the valid steps of each sequence.

    To check the numbers, the host waits for the accelerator.

    Parameters
    ----------
    lengths : Tensor (batch,)
        Integers from `least` to length.
    u : Tensor (batch, length, m)
    least : int, optional

    Raises
    ------
    lti.DimensionError
        If `lengths` does not hold one number for each sequence.
    lti.OptionError
        If it holds anything but integers from `least` to length.
    """
    batch, length = u.shape[:2]
    if lengths.shape != (batch,):
        raise lti.DimensionError(
            f"lengths must hold one number for each of {batch} sequences, got shape "
            f"{tuple(lengths.shape)}"
        )
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise lti.OptionError(f"lengths must be integers, got {lengths.dtype}; cast with .long()")
    if ((lengths < least) | (lengths > length)).any():
        raise lti.OptionError(
            f"lengths must be from {least} to {length}, the steps of u, got {lengths.tolist()}"
        )
    return (torch.arange(length, device=u.device) < lengths.unsqueeze(1)).unsqueeze(2)


def _turned(u: Tensor, lengths: Tensor | None) -> Tensor:
    """Each sequence reversed in time, its padding left in place."""
    if lengths is None:
        return u.flip(1)
    time = torch.arange(u.shape[1], device=u.device)
    turned = lengths.unsqueeze(1) - 1 - time
    return u.gather(1, torch.where(turned < 0, time, turned).unsqueeze(2).expand_as(u))


def _block_length(u: Tensor, C: Tensor) -> int:
    """J at which the convolution, J m p per step, costs about as much as what it saves.

    The recurrence costs (n + dispatch / batch) / J per step; constants are measured on a CPU core.
    Matrices above 128 x 128 take too long to build. With many channels J = 1 is best: no blocks.
    """
    batch, length, m = u.shape
    p, n = C.shape
    J = (20 * (n + 5000 / max(batch, 1)) / max(m * p, 1)) ** 0.5
    return max(1, min(2 ** int(J).bit_length(), 128 // max(m, p), length)) if J >= 2 else 1


def _forwards(
    u: Tensor,
    poles: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
    D: Tensor | None,
    lengths: Tensor | None,
) -> tuple[Tensor, Tensor]:
    ends = torch.full(u.shape[:1], u.shape[1], device=u.device) if lengths is None else lengths
    J = _block_length(u, C)
    if J > 1:
        return _by_block(u, poles, B, C, state, D, ends, J)
    y, last = _by_step(u, poles, B, C, state, ends)
    return y if D is None else torch.addcmul(y, D, u), last


def _by_step(
    u: Tensor, poles: Tensor, B: Tensor, C: Tensor, state: Tensor, ends: Tensor
) -> tuple[Tensor, Tensor]:
    u = pad(u, (0, 0, 0, 1))  # x[t] is the state before block t + 1
    V = _interleaved(C.conj()).mT
    y, last, _ = _blocks(u, _interleaved(B.mT), poles, V, None, state, ends)
    return y[:, 1:], last


def _by_block(
    u: Tensor,
    poles: Tensor,
    B: Tensor,
    C: Tensor,
    state: Tensor,
    D: Tensor | None,
    ends: Tensor,
    J: int,
) -> tuple[Tensor, Tensor]:
    batch, length, m = u.shape
    p, n = C.shape
    K = -(-length // J)
    if K * J > length:
        u = pad(u, (0, 0, 0, K * J - length))

    powers = powers_of(poles, J).unsqueeze(1)  # (J + 1, 1, n)
    W = _interleaved((powers[:J].flip(0) * B.mT).reshape(J * m, n))
    V = _interleaved((powers[1:] * C).reshape(J * p, n).conj()).mT
    T = causal(((powers[:J] * C) @ B).real)
    if D is not None:
        T = T + D.repeat(J).diag()
    k = (ends - 1).clamp(min=0) // J  # the block in which a sequence ends, after `rest` steps of it
    rest = ends - k * J
    y, before, _ = _blocks(u.reshape(batch, K, J * m), W, powers[J, 0], V, T, state, k)

    step = torch.arange(-J, 0, device=u.device) + rest.unsqueeze(1)  # the last is rest - 1
    time = (k * J).unsqueeze(1) + step.clamp(min=0)
    entered = u.gather(1, time.unsqueeze(2).expand(-1, -1, m))
    entered = entered.masked_fill((step < 0).unsqueeze(2), 0).reshape(batch, J * m) @ W
    return y.reshape(batch, K * J, p)[:, :length], powers[rest, 0] * before + _states(entered)


@torch.library.custom_op("compressm::blocks", mutates_args=())
def _blocks(
    u: Tensor, W: Tensor, a: Tensor, V: Tensor, T: Tensor | None, state: Tensor, at: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x[0] = state, x[k] = a * x[k-1] + (u W)[k-1],  y = x V + u T; returns y, x[at] and x.

    u (batch, K, q), W (q, 2n), V (2n, r), and T (q, r) or None for zero, are real, with real and
    imaginary parts of the states interleaved; a (n,) and state (batch, n) are complex; at (batch,)
    is an index for each sequence. x is returned as (batch K, 2n), for the backward pass.

    It is one operation for a compiler, which would unroll the recurrence.
    """
    batch, K, q = u.shape
    u = u.reshape(batch * K, q)
    rows = u.new_empty(batch * K, W.shape[1])
    torch.mm(u[:-1], W, out=rows[1:])  # the input of block k - 1, stored where x[k] will be
    x = _states(rows).view(batch, K, len(a))
    x[:, 0] = state
    recur_(x, a)
    y = u.new_empty(batch, K, V.shape[1])
    flat = torch.mm(rows, V, out=y.view(batch * K, V.shape[1]))
    if T is not None:
        flat.addmm_(u, T)
    return y, x[torch.arange(batch, device=at.device), at], rows


@_blocks.register_fake
def _(u, W, a, V, T, state, at):
    batch, K, _ = u.shape
    y, rows = u.new_empty(batch, K, V.shape[1]), u.new_empty(batch * K, W.shape[1])
    return y, state.new_empty(state.shape), rows


@torch.library.custom_op("compressm::blocks_backward", mutates_args=())
def _blocks_backward(
    gy: Tensor,
    gat: Tensor,
    u: Tensor,
    W: Tensor,
    a: Tensor,
    V: Tensor,
    T: Tensor | None,
    at: Tensor,
    rows: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of u, W, a, V, T (empty without T) and state, from those of y and x[at].

    g[k] is the gradient of x[k], by the same recurrence from right to left,
    ``g[k-1] = (gy V^T)[k-1] + conj(a) * g[k]``.
    """
    batch, K, r = gy.shape
    gy, u = gy.reshape(batch * K, r), u.reshape(batch * K, u.shape[2])
    grows = gy @ V.mT
    g = _states(grows).view(batch, K, len(a))
    g[torch.arange(batch, device=at.device), at] += gat
    recur_(g, a.conj(), reverse=True)
    gstate = g[:, 0].clone()
    g[:, 0] = 0  # u never enters x[0], so row k of g now belongs to row k - 1 of u and x
    ga = torch.linalg.vecdot(_states(rows)[:-1], _states(grows)[1:], dim=0)
    gu, gT = (torch.zeros_like(u), u.new_empty(0)) if T is None else (gy @ T.mT, u.mT @ gy)
    gu[:-1].addmm_(grows[1:], W.mT)
    gW, gV = u[:-1].mT @ grows[1:], rows.mT @ gy
    return gu.view(batch, K, u.shape[1]), gW, ga, gV, gT, gstate


@_blocks_backward.register_fake
def _(gy, gat, u, W, a, V, T, at, rows):
    gT = u.new_empty(0) if T is None else T.new_empty(T.shape)
    gu, gW, ga, gV, gstate = (x.new_empty(x.shape) for x in (u, W, a, V, gat))
    return gu, gW, ga, gV, gT, gstate


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2])
    ctx.set_materialize_grads(False)  # x is as large as all inputs together


def _gradients(ctx: Any, gy: Tensor | None, gat: Tensor | None, _: None) -> tuple[Any, ...]:
    u, W, a, V, T, state, at, rows = ctx.saved_tensors
    gy = u.new_zeros(*u.shape[:2], V.shape[1]) if gy is None else gy
    gat = a.new_zeros(u.shape[0], len(a)) if gat is None else gat
    if torch.is_grad_enabled():  # for derivatives of these derivatives
        parts = (u, W, a, V, state) if T is None else (u, W, a, V, state, T)
        gu, gW, ga, gV, gstate, *gT = torch.func.vjp(partial(_plain, at), *parts)[1]((gy, gat))
        return gu, gW, ga, gV, gT[0] if gT else None, gstate, None
    gu, gW, ga, gV, gT, gstate = _blocks_backward(gy, gat, u, W, a, V, T, at, rows)
    return gu, gW, ga, gV, None if T is None else gT, gstate, None


_blocks.register_autograd(_gradients, setup_context=_keep_for_backward)


def _plain(
    at: Tensor, u: Tensor, W: Tensor, a: Tensor, V: Tensor, state: Tensor, T: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y and x[at] of `_blocks`, in operations that torch differentiates as often as it is asked."""
    x, entered = [state], _states(u @ W)
    for enters in entered[:, :-1].unbind(1):
        x.append(a * x[-1] + enters)
    x = torch.stack(x, 1)
    y = torch.view_as_real(x).flatten(2) @ V
    return y if T is None else y + u @ T, x[torch.arange(len(x), device=at.device), at]


def _interleaved(M: Tensor) -> Tensor:
    """(k, n) complex -> (k, 2n) real: real and imaginary parts side by side."""
    return torch.view_as_real(M.resolve_conj()).reshape(M.shape[0], 2 * M.shape[1])


def _states(rows: Tensor) -> Tensor:
    """(..., 2n) real -> (..., n) complex, a view: the inverse of `_interleaved`."""
    return torch.view_as_complex(rows.unflatten(-1, (rows.shape[-1] // 2, 2)))
