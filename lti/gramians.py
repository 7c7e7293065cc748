"""Gramians A P + P A^H + B B^H = 0 or A P A^H - P + B B^H = 0, and their square roots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lti._array import (
    Array,
    H,
    conj,
    cut,
    eig,
    is_complex,
    lq_factor,
    namespace,
    narrow,
    real,
    rules,
    to_numpy,
    tracked,
)
from lti.algebra import units
from lti.discretize import cheap_shift, to_discrete
from lti.errors import UnstableError
from lti.interop import as_statespace
from lti.lyapunov import cauchy_factor, smith_factors
from lti.system import DiagonalStateSpace, StateSpace, System, require_stable

__all__ = ["controllability_gramian", "gramian_factors", "observability_gramian"]

SAFE = 8  # doublings that cost no digits
LOSS = 2.0**8  # of digits, from which on the modes are asked


def gramian_factors(sys: System) -> tuple[Array, Array]:
    """S, R with P = S S^H, Q = R R^H, computed as factors.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system of n states; with ``conjugate=True``, n counts its real states and the
        factors are real, in the coordinates of its dense form.

    Returns
    -------
    S, R : array (..., n, k), array (..., n, l)

    Raises
    ------
    UnstableError
        If a pole is not stable; it is named.

    See Also
    --------
    controllability_gramian, observability_gramian

    Examples
    --------
    >>> import lti
    >>> S, R = lti.gramian_factors(([[-1.0]], [[2.0]], [[1.0]]))
    >>> S @ S.T, R @ R.T
    (array([[2.]]), array([[0.5]]))
    """
    sys = as_statespace(sys)
    S, R = double_factors(sys)
    return narrow(S, like=sys.B), narrow(R, like=sys.B)


def controllability_gramian(sys: System) -> Array:
    """P: A P + P A^H + B B^H = 0, or in discrete time A P A^H - P + B B^H = 0.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system of n states.

    Returns
    -------
    array (..., n, n)
        Hermitian positive semidefinite, the square of the factor S of `gramian_factors`.

    Raises
    ------
    UnstableError
        If a pole is not stable.

    Examples
    --------
    >>> import lti, numpy as np
    >>> A, B, C = np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2))
    >>> P = lti.controllability_gramian((A, B, C))
    >>> np.allclose(A @ P + P @ A.T + B @ B.T, 0)
    True
    """
    sys = as_statespace(sys)
    return narrow(squares(sys.double())[0], like=sys.B)


def observability_gramian(sys: System) -> Array:
    """Q: A^H Q + Q A + C^H C = 0, or in discrete time A^H Q A - Q + C^H C = 0.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system of n states.

    Returns
    -------
    array (..., n, n)
        Hermitian positive semidefinite, the square of the factor R of `gramian_factors`.

    Raises
    ------
    UnstableError
        If a pole is not stable.

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.DiagonalStateSpace([0.5, -0.9], [[1.0], [1.0]], [[1.0, 2.0]])
    >>> Q = lti.observability_gramian(sys)
    >>> np.allclose(sys.A.T @ Q @ sys.A - Q + sys.C.T @ sys.C, 0)
    True
    """
    sys = as_statespace(sys)
    return narrow(squares(sys.double())[1], like=sys.B)


def double_factors(sys: System) -> tuple[Array, Array]:
    """`gramian_factors` in double precision, whatever the precision of `sys`."""
    return counted_factors(sys)[:2]


def squares(sys: System, S: Array = None, R: Array = None) -> tuple[Array, Array]:
    """P = S S^H and Q = R R^H of a system in double precision, with their derivatives in torch.

    Those of a dense system follow the Lyapunov equation, those of a diagonal one the closed form.
    """
    if S is None or R is None:
        S, R = double_factors(sys)
    P, Q = S @ H(S), R @ H(R)
    if not tracked(*sys.matrices):
        return P, Q
    if isinstance(sys, DiagonalStateSpace):
        scale = 4 if sys.conjugate else 1
        return rules().attach(P, _closed_form(sys)), rules().attach(
            Q, scale * _closed_form(_dual(sys))
        )
    A, solution = sys.A, rules().Lyapunov.apply
    return (
        solution(A, sys.B @ H(sys.B), sys.is_discrete, P),
        solution(H(A), H(sys.C) @ sys.C, sys.is_discrete, Q),
    )


def _closed_form(sys: DiagonalStateSpace) -> Array:
    """P_ij = (B B^H)_ij / (1 - p_i conj(p_j)), or / -(p_i + conj(p_j)), in real coordinates."""
    closed = sys.closed()
    p, q = closed.poles[..., :, None], conj(closed.poles)[..., None, :]
    P = closed.B @ H(closed.B) / (1 - p * q if sys.is_discrete else -p - q)
    if not sys.conjugate:
        return P
    xp, n = namespace(P), sys.poles.shape[-1]
    x, y = P[..., :n, :], P[..., n:, :]  # rows of the modes and of their mirrors
    P = xp.concat([(x + y) / 2, (x - y) / 2j], axis=-2)
    x, y = P[..., :, :n], P[..., :, n:]
    return real(xp.concat([(x + y) / 2, (x - y) / -2j], axis=-1))


def counted_factors(sys: System) -> tuple[Array, Array, float, int]:
    """`double_factors`, their rounding in units of ``eps |R| |S|``, and the doublings it took."""
    sys = sys.double()
    if isinstance(sys, DiagonalStateSpace):
        sys = replace(sys, poles=cut(sys.poles), B=cut(sys.B), C=cut(sys.C), D=cut(sys.D))
        require_stable(sys)
        return _cauchy(sys), _cauchy(_dual(sys)) * (2 if sys.conjugate else 1), 1.0, 0
    sys = replace(sys, A=cut(sys.A), B=cut(sys.B), C=cut(sys.C), D=cut(sys.D))
    if type(sys.A) is np.ndarray and sys.A.ndim == 2:
        d = units(sys)
        own = StateSpace(sys.A / d[:, None] * d, sys.B / d[:, None], sys.C * d, None, sys.dt)
        S, R, loss, doublings = _dense(own)
        return d[:, None] * S, R / d[:, None], loss, doublings
    return _dense(sys)


def _dense(sys: StateSpace) -> tuple[Array, Array, float, int]:
    """`counted_factors` by doubling, or near the boundary by way of the modes."""
    try:
        circle = sys if sys.is_discrete or sys.order == 0 else to_discrete(sys, cheap_shift(sys.A))
        with np.errstate(over="ignore", invalid="ignore"):
            S, R, doublings = smith_factors(circle.A, circle.B, circle.C)
    except (UnstableError, RuntimeError, ValueError):
        require_stable(sys)  # names the pole
        raise
    loss = max(1.0, 2.0 ** (doublings - SAFE))
    modal = _modal(sys, loss) if loss > LOSS else None
    return *(modal or (S, R, loss)), doublings


def _modal(sys: StateSpace, limit: float) -> tuple[Array, Array, float] | None:
    """The factors by way of the modes, unless these are conditioned worse than `limit`.

    What rounding does to a mode then stays with it: the squares of a matrix with poles close to the
    boundary mix it into all of them.
    """
    poles, V = eig(sys.A)
    xp = namespace(V)
    gains = xp.linalg.svdvals(V)
    condition = float(to_numpy(xp.max(gains[..., 0] / gains[..., -1])))
    if not condition < limit:
        return None
    B, C = xp.linalg.solve(V, sys.B + 0j), (sys.C + 0j) @ V
    modes = DiagonalStateSpace(poles, B, C, None, sys.dt)
    require_stable(modes)
    U = H(xp.linalg.inv(V))
    factors = (V @ _cauchy(modes), U @ _cauchy(_dual(modes)))
    if not is_complex(sys.B):
        factors = (xp.concat([xp.real(x), xp.imag(x)], axis=-1) for x in factors)
    S, R = (lq_factor(x) for x in factors)
    return S, R, condition


def _dual(sys: DiagonalStateSpace) -> DiagonalStateSpace:
    """(A^H, C^H, B^H): its controllability Gramian is Q (in real coordinates Q / 4)."""
    return DiagonalStateSpace(conj(sys.poles), H(sys.C), H(sys.B), None, sys.dt, sys.conjugate)


def _cauchy(sys: DiagonalStateSpace) -> Array:
    """The factor S of a diagonal system; real, for the state [Re x, Im x], if `conjugate`."""
    closed = sys.closed()
    S = cauchy_factor(closed.poles, closed.B, sys.is_discrete)
    if not sys.conjugate:
        return S
    xp, n = namespace(S), sys.poles.shape[-1]
    x, mirror = S[..., :n, :], S[..., n:, :]
    S = xp.concat([(x + mirror) / 2, (x - mirror) / 2j], axis=-2)
    # S S^H is real, so it is (Re S)(Re S)^T + (Im S)(Im S)^T
    return lq_factor(xp.concat([xp.real(S), xp.imag(S)], axis=-1)) if is_complex(S) else S
