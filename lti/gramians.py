"""Gramians A P + P A^H + B B^H = 0 or A P A^H - P + B B^H = 0, and their square roots."""

from __future__ import annotations

import numpy as np

from lti._array import Array, H, conj, is_complex, lq_factor, namespace, narrow
from lti.discretize import cheap_shift, to_discrete
from lti.errors import UnstableError
from lti.interop import as_statespace
from lti.lyapunov import cauchy_factor, smith_factors
from lti.system import DiagonalStateSpace, System, require_stable

__all__ = ["controllability_gramian", "gramian_factors", "observability_gramian"]


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
    S, _ = double_factors(sys)
    return narrow(S @ H(S), like=sys.B)


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
    _, R = double_factors(sys)
    return narrow(R @ H(R), like=sys.B)


def double_factors(sys: System) -> tuple[Array, Array]:
    """`gramian_factors` in double precision, whatever the precision of `sys`."""
    return counted_factors(sys)[:2]


def counted_factors(sys: System) -> tuple[Array, Array, int]:
    """`double_factors`, and the doublings it took; none for a diagonal system."""
    sys = sys.double()
    if isinstance(sys, DiagonalStateSpace):
        require_stable(sys)
        return _cauchy(sys), _cauchy(_dual(sys)) * (2 if sys.conjugate else 1), 0
    try:
        circle = sys if sys.is_discrete or sys.order == 0 else to_discrete(sys, cheap_shift(sys.A))
        with np.errstate(over="ignore", invalid="ignore"):
            return smith_factors(circle.A, circle.B, circle.C)
    except (UnstableError, RuntimeError, ValueError):
        require_stable(sys)  # names the pole
        raise


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
