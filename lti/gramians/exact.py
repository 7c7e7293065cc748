"""Gramians A P + P A^H + B B^H = 0 or A P A^H - P + B B^H = 0, and their square roots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    H,
    detach,
    eig,
    is_complex,
    lq_factor,
    namespace,
    narrow,
    to_numpy,
    torch_backend,
    tracing,
    tracked,
)
from lti._backend.shifts import cheap_shift
from lti.errors import UnstableError
from lti.gramians.diagonal import closed_forms, diagonal_factors
from lti.gramians.lyapunov import SAFE, smith_factors
from lti.systems.algebra import state_scaling
from lti.systems.convert import as_statespace
from lti.systems.discretize import to_discrete
from lti.systems.protocol import System, SystemLike
from lti.systems.stability import require_stable
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["controllability_gramian", "gramian_factors", "observability_gramian"]

PATIENCE = SAFE + 3  # doublings, after which the way by the modes is tried
FEW = 20  # doublings: no pole is close to the boundary
WELL = 100.0  # a condition of the modes that costs less than doubling longer would


def gramian_factors(sys: SystemLike) -> tuple[Array, Array]:
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
        If a pole is unstable; it is named.

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


def controllability_gramian(sys: SystemLike) -> Array:
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
        If a pole is unstable.

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


def observability_gramian(sys: SystemLike) -> Array:
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
        If a pole is unstable.

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
    return known_factors(sys)[:2]


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
        return tuple(map(torch_backend().attach, (P, Q), closed_forms(sys)))
    from lti._backend import autograd  # imports torch, which is optional

    A, solution = sys.A, autograd.Lyapunov.apply
    return (
        solution(A, sys.B @ H(sys.B), sys.is_discrete, P),
        solution(H(A), H(sys.C) @ sys.C, sys.is_discrete, Q),
    )


def known_factors(sys: System) -> tuple[Array, Array, float, bool]:
    """S, R, their roundoff gain, and whether all poles are known to be well damped.

    The rounding of the factors is the gain times ``eps |R| |S|``. Well damped poles are far from
    the stability boundary.
    """
    sys = sys.double()
    if tracked(*sys.matrices):
        arrays = {name: detach(getattr(sys, name)) for name in ("poles", "A", "B", "C", "D")
                  if name in sys.__dataclass_fields__}  # fmt: skip
        sys = replace(sys, **arrays)
    if isinstance(sys, DiagonalStateSpace):
        if tracing(sys.B):
            from lti.gramians import _torch_op  # imports torch, which is optional

            S, R = _torch_op.factors(*sys.matrices[:3], sys.is_discrete, sys.conjugate)
            return S, R, 1.0, False
        return *diagonal_factors(sys), 1.0, False
    if type(sys.A) is not np.ndarray or sys.A.ndim > 2:
        return _dense(sys)
    d = state_scaling(sys)
    own = StateSpace(sys.A / d[:, None] * d, sys.B / d[:, None], sys.C * d, None, sys.dt)
    S, R, loss, far = _dense(own)
    return d[:, None] * S, R / d[:, None], loss, far


def _dense(sys: System) -> tuple[Array, Array, float, bool]:
    """`known_factors` by doubling; by way of the modes where that takes long and they allow it."""
    try:
        circle = sys if sys.is_discrete or sys.order == 0 else to_discrete(sys, cheap_shift(sys.A))
        with np.errstate(over="ignore", invalid="ignore"):
            few = smith_factors(circle.A, circle.B, circle.C, most=PATIENCE)
            modal = None if few else _modal(sys, limit=WELL)
            found: Any = few or modal or smith_factors(circle.A, circle.B, circle.C)
    except (UnstableError, RuntimeError, ValueError):
        require_stable(sys)  # names the pole
        raise
    if modal:
        return modal
    S, R, doublings = found
    loss = max(1.0, 2.0 ** (doublings - SAFE))
    return (_modal(sys, loss) if loss > WELL else None) or (S, R, loss, doublings < FEW)


def _modal(sys: System, limit: float) -> tuple[Array, Array, float, bool] | None:
    """The factors by way of the modes, unless these are conditioned worse than `limit`.

    What rounding does to a mode then stays with it: the squares of a matrix with poles close to the
    boundary mix it into all of them.
    """
    poles, V = eig(sys.A)
    xp = namespace(V)
    gains = xp.linalg.svdvals(V)
    if not bool(xp.all(gains[..., 0] < limit * gains[..., -1])):
        return None
    condition = float(to_numpy(xp.max(gains[..., 0] / gains[..., -1])))
    B, C = xp.linalg.solve(V, sys.B + 0j), (sys.C + 0j) @ V
    modes = DiagonalStateSpace(poles, B, C, None, sys.dt)
    S, R = diagonal_factors(modes)
    S, R = V @ S, H(xp.linalg.inv(V)) @ R
    if not is_complex(sys.B):
        S, R = (xp.concat([xp.real(x), xp.imag(x)], axis=-1) for x in (S, R))
    host = to_numpy(poles)
    gap = 1 - np.abs(host) if sys.is_discrete else -host.real / np.abs(host).max()
    return lq_factor(S), lq_factor(R), condition, bool(gap.min() > 1e-6)
