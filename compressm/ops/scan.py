"""Diagonal linear recurrences as matrix products over blocks of time.

A loop over time sends every state through memory once per step and pays for a dispatch each time.
Neither is needed: with the state x_k before a block of J steps, `compressm.ops.blocks` computes

    y[kJ + j] = Re(C poles^(j+1) x_k) + sum_{i <= j} Re(C poles^(j-i) B) u[kJ + i]
    x_(k+1)   = poles^J x_k + sum_i poles^(J-1-i) B u[kJ + i]
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

import lti
from compressm.ops.blocks import as_states, blocks, interleaved
from compressm.ops.checks import require_sequence
from compressm.ops.exporting import to_onnx
from compressm.ops.powers import causal, powers_of
from compressm.ops.precision import without_autocast

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
    V = interleaved(C.conj()).mT
    W = interleaved(B.mT)
    y, last = blocks(u[None], W[None], poles[None], V[None], None, state[None], ends)
    return y[0, :, 1:], last[0]


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
    W = interleaved((powers[:J].flip(0) * B.mT).reshape(J * m, n))
    V = interleaved((powers[1:] * C).reshape(J * p, n).conj()).mT
    T = causal(((powers[:J] * C) @ B).real)
    if D is not None:
        T = T + D.repeat(J).diag()
    k = (ends - 1).clamp(min=0) // J  # the block in which a sequence ends, after `rest` steps of it
    rest = ends - k * J
    each = u.reshape(1, batch, K, J * m)
    y, before = blocks(each, W[None], powers[J], V[None], T[None], state[None], k)

    step = torch.arange(-J, 0, device=u.device) + rest.unsqueeze(1)  # the last is rest - 1
    time = (k * J).unsqueeze(1) + step.clamp(min=0)
    entered = u.gather(1, time.unsqueeze(2).expand(-1, -1, m))
    entered = entered.masked_fill((step < 0).unsqueeze(2), 0).reshape(batch, J * m) @ W
    return y.reshape(batch, K * J, p)[:, :length], powers[rest, 0] * before[0] + as_states(entered)
