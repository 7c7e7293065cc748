"""The selective scan: a diagonal recurrence whose coefficients depend on time.

A derivative needs the states at all times: d N numbers a step, N times the input. To save memory,
only the states between chunks of about ``sqrt(length)`` steps are kept; the backward pass goes
through the chunks from right to left and computes the states of one chunk at a time again.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compressm.ops.checks import require_sequence
from compressm.ops.exporting import transformed
from compressm.ops.precision import without_autocast

__all__ = ["selective_scan", "selective_scan_reference"]


def selective_scan(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h[t] = exp(dt[t] A) * h[t-1] + (dt[t] * u[t]) B[t]^T,  y[t] = h[t] C[t] + D * u[t].

    Parameters
    ----------
    u : Tensor (batch, length, d)
        Input, of length >= 1. All arguments are real.
    dt : Tensor (batch, length, d)
        Step sizes, positive.
    A : Tensor (d, N)
        Continuous poles of each channel, negative.
    B, C : Tensor (batch, length, N)
        Input and output matrices, shared by the channels.
    D : Tensor (d,)
        Elementwise feed-through.
    state : Tensor (batch, d, N), optional
        h[-1], the state before the first step; zero when absent.

    Returns
    -------
    y : Tensor (batch, length, d)
        Output.
    last_state : Tensor (batch, d, N)
        h[length - 1]: passed as `state`, it continues the sequence.

    See Also
    --------
    selective_scan_reference : The same map as a plain loop over time.

    Notes
    -----
    The recurrence is that of [1]_: exact in A, a rectangle rule in B. The precision is that of `A`,
    also under ``torch.autocast``. There are derivatives for all arguments; those of second and
    higher order go through a loop over time, which takes more time and memory.

    References
    ----------
    .. [1] A. Gu, T. Dao, "Mamba: linear-time sequence modeling with selective state spaces", 2023,
       arXiv:2312.00752.

    Examples
    --------
    >>> import torch
    >>> from compressm.ops.selective_scan import selective_scan
    >>> one = torch.ones(1, 3, 1)
    >>> y, last = selective_scan(one, one, torch.tensor([[-0.6931472]]), one, one, torch.zeros(1))
    >>> y.flatten()
    tensor([1.0000, 1.5000, 1.7500])
    """
    require_sequence(u, A.shape[0], A)
    with without_autocast(u):
        u, dt, B, C, D = (x.to(A.dtype) for x in (u, dt, B, C, D))
        if state is None:
            state = A.new_zeros(u.shape[0], *A.shape)
        x, dt_, B, C = (x.transpose(0, 1).contiguous() for x in (dt * u, dt, B, C))
        if torch.compiler.is_exporting():
            y, last = _exported(x, dt_, A, B, C, state)
        elif transformed():  # there are no rules for one operation
            y, last = _plain(x, dt_, A, B, C, state)
        else:
            y, last, _ = _scan(x, dt_, A, B, C, state)
        return torch.addcmul(y.transpose(0, 1), D, u), last


def selective_scan_reference(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """h[t] = exp(dt[t] A) * h[t-1] + (dt[t] * u[t]) B[t]^T,  y[t] = h[t] C[t] + D * u[t].

    `selective_scan`, as it is defined.
    """
    h = A.new_zeros(u.shape[0], *A.shape) if state is None else state
    y = []
    for t in range(u.shape[1]):
        step = dt[:, t, :, None]
        h = (step * A).exp() * h + step * u[:, t, :, None] * B[:, t, None, :]
        y.append((h * C[:, t, None, :]).sum(-1) + D * u[:, t])
    return torch.stack(y, 1), h


def _exported(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """`_scan` as the loop that exporters know, of any length."""
    from torch._higher_order_ops.scan import scan

    last, y = scan(lambda h, now: _step(A, h, *now), state, (x, dt, B, C))
    return y, last


def _plain(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """`_scan` in operations that torch differentiates as often as it is asked."""
    y = []
    for now in zip(*(p.unbind() for p in (x, dt, B, C)), strict=True):
        h, out = _step(A, h, *now)
        y.append(out)
    return torch.stack(y), h


def _step(
    A: Tensor, h: Tensor, x: Tensor, dt: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor]:
    """The next h, and h C."""
    h = (dt.unsqueeze(-1) * A).exp() * h + x.unsqueeze(-1) * B.unsqueeze(-2)
    return h, (h * C.unsqueeze(-2)).sum(-1)


@torch.library.custom_op("compressm::selective_scan", mutates_args=())
def _scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """h[t] = exp(dt[t] A) * h[t-1] + x[t] B[t]^T,  y[t] = h[t] C[t].

    Time is the first axis: x, dt (length, batch, d), B, C (length, batch, N). Returns y, the last
    h, and the states (chunks, batch, d, N) before each chunk, for the backward pass.

    It is one operation for a compiler, which would unroll the recurrence.
    """
    y, h = torch.empty_like(x), state
    entered: list[Tensor] = []
    for now in _chunks(len(x)):
        entered.append(h)
        _, states = _states(x[now], dt[now], A, B[now], h)
        y[now] = (states @ C[now].unsqueeze(-1)).squeeze(-1)
        h = states[-1].clone()  # a view would keep the chunk
    return y, h, torch.stack(entered)


@_scan.register_fake
def _(x, dt, A, B, C, state):
    entered = state.new_empty(len(_chunks(x.shape[0])), *state.shape)
    return torch.empty_like(x), torch.empty_like(state), entered


@torch.library.custom_op("compressm::selective_scan_backward", mutates_args=())
def _scan_backward(
    gy: Tensor,
    glast: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    entered: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, dt, A, B, C and state, from those of y and the last h.

    g[t] is the gradient of h[t], by the same recurrence from right to left,
    ``g[t-1] = gy[t-1] C[t-1]^T + exp(dt[t] A) * g[t]``.
    """
    gx, gdt, gA, gB, gC = (torch.zeros_like(p) for p in (x, dt, A, B, C))
    glast = glast.clone()
    for now, h in zip(reversed(_chunks(len(x))), reversed(entered.unbind()), strict=True):
        decay, states = _states(x[now], dt[now], A, B[now], h)
        g = gy[now].unsqueeze(-1) * C[now].unsqueeze(-2)
        g[-1] += glast
        steps, decays = g.unbind(), decay.unbind()
        for t in range(len(steps) - 1, 0, -1):
            steps[t - 1].addcmul_(decays[t], steps[t])
        gx[now] = (g @ B[now].unsqueeze(-1)).squeeze(-1)
        gB[now] = (x[now].unsqueeze(-2) @ g).squeeze(-2)
        gC[now] = (gy[now].unsqueeze(-2) @ states).squeeze(-2)
        g *= decay
        glast = g[0].clone()
        g[0] *= h
        g[1:] *= states[:-1]  # now the gradient of dt[t] A
        gdt[now] = (g * A).sum(-1)
        gA += torch.einsum("tbdn,tbd->dn", g, dt[now])
    return gx, gdt, gA, gB, gC, glast


@_scan_backward.register_fake
def _(gy, glast, x, dt, A, B, C, entered):
    gx, gdt, gA, gB, gC, gstate = (torch.empty_like(p) for p in (x, dt, A, B, C, glast))
    return gx, gdt, gA, gB, gC, gstate


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, gy: Tensor | None, glast: Tensor | None, _: None) -> tuple[Tensor, ...]:
    *inputs, entered = ctx.saved_tensors
    x = inputs[0]
    gy = torch.zeros_like(x) if gy is None else gy
    glast = torch.zeros_like(entered[0]) if glast is None else glast
    if torch.is_grad_enabled():  # for derivatives of these derivatives
        return torch.func.vjp(_plain, *inputs)[1]((gy, glast))
    with without_autocast(gy):  # which torch does not leave for the backward pass
        return _scan_backward(gy, glast, *inputs[:5], entered)


_scan.register_autograd(_gradients, setup_context=_keep_for_backward)


def _chunks(length: int) -> list[slice]:
    size = math.isqrt(length - 1) + 1
    return [slice(start, start + size) for start in range(0, length, size)]


def _states(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """exp(dt A) and the states, (time, batch, d, N), of one chunk that starts from state `h`."""
    decay = (dt.unsqueeze(-1) * A).exp_()
    states = x.unsqueeze(-1) * B.unsqueeze(-2)
    steps = states.unbind()
    for now, decayed in zip(steps, decay.unbind(), strict=True):
        now.addcmul_(decayed, h)
        h = now
    return decay, states
