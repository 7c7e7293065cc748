"""What a system does in time: responses to a step, to an impulse, to any input."""

from __future__ import annotations

from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    block_diag,
    eye,
    from_numpy,
    is_like,
    namespace,
    narrow,
    to_numpy,
)
from lti._backend.checks import as_array, common, in_range, same_dtype
from lti._backend.exponential import expm
from lti.errors import DimensionError, OptionError
from lti.systems.convert import as_statespace
from lti.systems.protocol import System, SystemLike
from lti.systems.statespace import StateSpace

__all__ = ["impulse_response", "simulate", "step_response"]


def step_response(sys: SystemLike, t: Array) -> Array:
    """y(t) = D + int_0^t C e^{A s} B ds, of every input alone, from rest.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Its poles may lie anywhere.
    t : array (k,)
        Times 0, h, 2 h, ...; in discrete time h is the sampling time (1 if ``dt`` is True).

    Returns
    -------
    array (..., k, p, m)

    Raises
    ------
    NonFiniteError
        If the response grows beyond the range of numbers.
    OptionError
        If the times are not evenly spaced from zero.

    Examples
    --------
    >>> import lti
    >>> lti.step_response(([[0.5]], [[1.0]], [[1.0]], None, True), [0, 1, 2, 3])[:, 0, 0]
    array([0.  , 1.  , 1.5 , 1.75])
    """
    original = as_statespace(sys)
    G, k, h = _timed(original, t)
    one = eye(G.n_inputs, like=G.B)
    return narrow(_run(G, h, [one] * k, 0 * G.B), like=original.B)


def impulse_response(sys: SystemLike, t: Array) -> Array:
    """y(t) = C e^{A t} B; in discrete time D, C B, C A B, ...: the response to a unit impulse.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Its poles may lie anywhere.
    t : array (k,)
        Times as in `step_response`.

    Returns
    -------
    array (..., k, p, m)
        In continuous time without the impulse ``D delta(t)`` itself.

    Raises
    ------
    NonFiniteError
        If the response grows beyond the range of numbers.
    OptionError
        If the times are not evenly spaced from zero.

    Examples
    --------
    >>> import lti
    >>> lti.impulse_response(([[0.5]], [[1.0]], [[1.0]], None, True), [0, 1, 2, 3])[:, 0, 0]
    array([0.  , 1.  , 0.5 , 0.25])
    """
    original = as_statespace(sys)
    G, k, h = _timed(original, t)
    one = eye(G.n_inputs, like=G.B)
    if G.is_discrete:
        y = _run(G, h, [one, *[0 * one] * k][:k], 0 * G.B)
    else:
        y = _run(G, h, [0 * one] * k, G.B)
    return narrow(y, like=original.B)


def simulate(sys: SystemLike, u: Array, t: Array | None = None, x0: Array | None = None) -> Array:
    """y = C x + D u of the input u(t) and the initial state x(0).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Its poles may lie anywhere.
    u : array (k, m)
        The input at the times `t`; in continuous time linear between them, which is exact for such
        an input.
    t : array (k,), optional
        Times as in `step_response`; may be left out in discrete time.
    x0 : array (n,), optional
        The initial state, in the coordinates of the dense form; zero if left out.

    Returns
    -------
    array (..., k, p)

    Raises
    ------
    DimensionError
        If the shapes do not fit.
    NonFiniteError
        If the response grows beyond the range of numbers.
    OptionError
        If the times are not evenly spaced from zero, or missing in continuous time.

    Examples
    --------
    >>> import lti, numpy as np
    >>> delay = lti.StateSpace([[0.0]], [[1.0]], [[1.0]], dt=True)
    >>> lti.simulate(delay, np.array([[1.0], [2.0], [3.0]]), x0=[5.0])[:, 0]
    array([5., 1., 2.])
    """
    original = as_statespace(sys)
    u = common(u=as_array(u))[0]
    if u.ndim != 2 or u.shape[-1] != original.n_inputs:
        raise DimensionError(
            f"the system has {original.n_inputs} inputs, but u has shape {tuple(u.shape)}; pass "
            f"(k, {original.n_inputs})"
        )
    if t is None:
        if not original.is_discrete:
            raise OptionError("a continuous system needs the times t of its inputs; pass t (k,)")
        t = np.arange(u.shape[0]) * _sampling_time(original)
    G, k, h = _timed(original, t)
    if k != u.shape[0]:
        raise DimensionError(f"there are {k} times, but {u.shape[0]} inputs; pass one for each")
    x = common(x0=as_array(np.zeros(G.order) if x0 is None else x0))[0]
    if tuple(x.shape) != (G.order,):
        raise DimensionError(
            f"the system has {G.order} states, but x0 has shape {tuple(x.shape)}; pass ({G.order},)"
        )
    u, x = (x if is_like(x, G.B) else from_numpy(to_numpy(x), like=G.B) for x in (u, x))
    u, x, _ = same_dtype(u, x, G.B)
    x = namespace(x).broadcast_to(x[:, None], (*G.batch_shape, G.order, 1))
    y = _run(G, h, [u[i, :, None] for i in range(k)], x)[..., 0]
    return narrow(y, like=original.B)


def _run(G: StateSpace, h: float, u: list[Array], x: Array) -> Array:
    """y (..., k, p, q) of the inputs u (m, q) at the times 0, h, ... and the state x (..., n, q).

    x(t + h) = A_h x(t) + B_0 u(t) + B_1 u(t + h), exact for an input that is linear in between.
    """
    A, B_0, B_1 = (G.A, G.B, None) if G.is_discrete else _ramp(G, h)
    outputs = []
    with np.errstate(over="ignore", invalid="ignore"):
        for i, now in enumerate(u):
            outputs.append(G.C @ x + G.D @ now)
            x = A @ x + B_0 @ now
            if B_1 is not None and i + 1 < len(u):
                x = x + B_1 @ u[i + 1]
    if not outputs:
        return (G.C @ x)[..., None, :, :][..., :0, :, :]
    remedy = "end it earlier, or split off the poles that are not stable"
    return in_range("the response grows", namespace(G.B).stack(outputs, axis=-3), remedy)


def _ramp(G: StateSpace, h: float) -> tuple[Array, Array, Array]:
    """e^X, X = h [A, B, 0; 0, 0, 1/h; 0, 0, 0]: a step h under an input from u_0 to u_1."""
    n, m, xp = G.order, G.n_inputs, namespace(G.B)
    one = xp.broadcast_to(eye(m, like=G.A), (*G.batch_shape, m, m))
    top = xp.concat([h * G.A, h * G.B, 0 * G.B], axis=-1)
    rest = block_diag(xp.zeros_like(top[..., :0, : n + m]), one)
    X = xp.concat([top, rest, 0 * rest], axis=-2)
    moved = expm(X)[..., :n, :]
    constant, ramp = moved[..., n : n + m], moved[..., n + m :]
    return moved[..., :n], constant - ramp, ramp


def _sampling_time(sys: Any) -> float:
    return 1.0 if sys.dt is True else float(sys.dt)


def _timed(sys: System, t: Array) -> tuple[StateSpace, int, float]:
    """The dense system in double precision, the number of times, and their distance h."""
    times = common(t=as_array(t))[0]
    times = to_numpy(times)
    if times.ndim != 1 or np.iscomplexobj(times):
        raise DimensionError(f"t must be a vector of real times, got shape {times.shape}")
    times = times.astype(float)
    h = _sampling_time(sys) if sys.is_discrete else float(times[1]) if len(times) > 1 else 1.0
    if h <= 0 or not np.allclose(times, h * np.arange(len(times)), rtol=1e-9, atol=1e-9 * h):
        spacing = f"the sampling time {h:g}" if sys.is_discrete else "any h > 0"
        raise OptionError(
            f"the times must be 0, h, 2 h, ... with {spacing}, got {times[:3]} ...; interpolate "
            "the response for others"
        )
    return sys.double().to_dense(), len(times), h
