"""Gramians A P + P A^H + B B^H = 0 or A P A^H - P + B B^H = 0, and their square roots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import diags_array, issparse

from lti._backend.arrays import (
    Array,
    H,
    detach,
    device,
    frobenius,
    from_numpy,
    matmul,
    namespace,
    narrow,
    on_host,
    real,
    to_numpy,
    torch_backend,
    tracing,
    tracked,
)
from lti._backend.checks import in_range
from lti._backend.shifts import cheap_shift
from lti.errors import ConvergenceError, UnstableError
from lti.gramians.dense import schur_factors
from lti.gramians.diagonal import closed_forms, diagonal_factors
from lti.gramians.low_rank import LowRank, low_rank_factors
from lti.gramians.lyapunov import SAFE, smith_factors
from lti.systems.convert import as_statespace
from lti.systems.discretize import to_discrete
from lti.systems.irreducible import MODERATE, SMALL
from lti.systems.protocol import System, SystemLike
from lti.systems.rightmost import is_pole
from lti.systems.sparse import SparseStateSpace
from lti.systems.stability import is_stable, require_stable
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = [
    "ExactFactors",
    "controllability_gramian",
    "exact_factors",
    "gramian_factors",
    "observability_gramian",
]

PATIENCE = SAFE + 3  # doublings of a batch on the host, after which Schur forms are quicker
WELL = 100.0  # a loss of digits by doubling that is accepted
ROUNDING = 1e3  # times n eps |R| |S|: what is said of values below is uncertain


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
        Of a `SparseStateSpace` of low rank: ``A P E^H + E P A^H + B B^H = 0`` and
        ``A^H Q E + E^H Q A + C^H C = 0`` to a relative residual of 1e-10, in discrete time
        ``A P A^H - E P E^H + B B^H = 0`` and its dual.

    Raises
    ------
    UnstableError
        If a pole is unstable; it is named.
    ConvergenceError
        If the low-rank iteration of a sparse system does not converge.

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
    return narrow(in_range("the Gramian is", squares(sys.double())[0]), like=sys.B)


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
    return narrow(in_range("the Gramian is", squares(sys.double())[1]), like=sys.B)


def double_factors(sys: System) -> tuple[Array, Array]:
    """`gramian_factors` in double precision, whatever the precision of `sys`."""
    return exact_factors(sys).in_given_coordinates()


def balanced_units(sys: System) -> Array:
    """Powers of two (..., n): units of the states in which P_ii and Q_ii are about equal.

    Those of a state that does nothing stay as they are.
    """
    S, R = double_factors(sys)
    xp = namespace(S)
    if 0 in S.shape[-2:] or 0 in R.shape[-2:]:
        return real(xp.ones(S.shape[:-1], dtype=S.dtype, device=device(S)))
    s, r = (xp.max(xp.abs(X), axis=-1) for X in (S, R))
    both = (s > 0) & (r > 0)
    ratio = xp.log2(xp.where(both, s, 1.0)) - xp.log2(xp.where(both, r, 1.0))
    return 2.0 ** xp.round(ratio / 2)


def squares(sys: System, S: Array = None, R: Array = None) -> tuple[Array, Array]:
    """P = S S^H and Q = R R^H of a system in double precision, with their derivatives in torch.

    Those of a dense system follow the Lyapunov equation, those of a diagonal one the closed form.
    """
    if S is None or R is None:
        S, R = double_factors(sys)
    P, Q = matmul(S, H(S)), matmul(R, H(R))
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


@dataclass(frozen=True, eq=False)
class ExactFactors:
    """P = X S (X S)^H, Q = X^-H R (X^-H R)^H: factors in the coordinates of a system z, x = X z.

    Parameters
    ----------
    system : System
        (X^-1 A X, X^-1 B, C X, D), in double precision and without derivatives.
    S, R : array (..., n, k), array (..., n, l)
        Its factors.
    X, inverse : array (n, n), optional
        The change of state and its inverse; None for the identity. Of a sparse system, diagonal
        matrices R and L with the units of states and equations.
    roundoff_gain : float, optional
        The rounding of the factors in units of ``eps |R| |S|``.
    roundoff : float, optional
        How far the Schur form may have moved the Hankel singular values.
    hidden : float, optional
        Of low-rank factors: an estimate of what they leave out of the sum of these values.
    flags : tuple of str, optional
        What the user should know of them.
    """

    system: System
    S: Array
    R: Array
    X: Array = None
    inverse: Array = None
    roundoff_gain: float = 1.0
    roundoff: float = 0.0
    hidden: float = 0.0
    flags: tuple[str, ...] = ()

    def in_given_coordinates(self) -> tuple[Array, Array]:
        """The factors of P and Q themselves."""
        if self.X is None:
            return self.S, self.R
        if issparse(self.X):  # of a sparse system, real and diagonal
            return self.X @ self.S, self.inverse @ self.R
        return self.X @ self.S, H(self.inverse) @ self.R


def exact_factors(sys: System) -> ExactFactors:
    """Both factors of a system in double precision, in the coordinates in which they are computed.

    Those of one dense system are its Schur form; those of others, and of a system that torch
    follows, the system's own. The factors of a sparse system are of low rank.
    """
    if isinstance(sys, SparseStateSpace):
        sys = sys.finite_part
        require_stable(sys)
        even, left, right = sys.equilibrated
        try:
            found = low_rank_factors(even)
        except ConvergenceError:
            dense = _affordable(even)
            if dense is None:
                raise
            found = _by_dense_form(even, dense)
        X, inverse = diags_array(right), diags_array(left)
        return ExactFactors(
            even, found.S, found.R, X, inverse, hidden=found.hidden, flags=found.flags
        )
    sys = sys.double()
    follows = tracked(*sys.matrices)
    if follows:
        arrays = {name: detach(getattr(sys, name)) for name in ("poles", "A", "B", "C", "D")
                  if name in sys.__dataclass_fields__}  # fmt: skip
        sys = replace(sys, **arrays)
    if isinstance(sys, DiagonalStateSpace):
        if tracing(sys.B):
            from lti.gramians import _torch_op  # imports torch, which is optional

            S, R = _torch_op.factors(*sys.matrices[:3], sys.is_discrete, sys.conjugate)
            return ExactFactors(sys, S, R)
        return ExactFactors(sys, *diagonal_factors(sys))
    if sys.batch_shape or not on_host(sys.A):
        return _by_doubling(sys)
    found = _by_schur_form(sys)
    if follows:
        return ExactFactors(sys, *found.in_given_coordinates(), roundoff=found.roundoff)
    return found


def _affordable(sys: SparseStateSpace) -> StateSpace | None:
    """The dense form of a system of moderate size, unless rounding has made it unstable."""
    if sys.order > MODERATE:
        return None
    dense = sys.small_dense() if sys.order <= SMALL else sys.to_dense()
    worst = complex(max(dense.poles, key=abs if sys.is_discrete else np.real))
    return dense if is_stable(dense) or is_pole(sys.pencil, worst) else None


def _by_dense_form(sys: SparseStateSpace, dense: StateSpace) -> LowRank:
    """The factors of a sparse system for which the low-rank iteration does not converge."""
    S, R = double_factors(dense)
    R = sys.pencil.factor(0.0, 1.0).adjoint(R)  # Q of (E^-1 A, C) is E^H Q E
    hidden = 2.0**-52 * float(frobenius(abs(R).T @ abs(sys.times_E(S))))  # rounding
    return LowRank(S, R, (0.0, 0.0), hidden, 0)


def _by_schur_form(sys: System) -> ExactFactors:
    """`exact_factors` of one dense system on the host, whose memory NumPy shares."""
    A, B, C = (to_numpy(x) for x in (sys.A, sys.B, sys.C))
    found = schur_factors(A, B, C, sys.is_discrete)
    form = found.form
    arrays = (form.T, found.B, found.C, found.U, found.V, form.d[:, None] * form.Q,
              form.Q.conj().T / form.d)  # fmt: skip
    T, B, C, U, V, X, inverse = (from_numpy(x, like=sys.A) for x in arrays)
    roundoff = found.roundoff * float(frobenius(found.product))
    system = StateSpace(T, B, C, sys.D, sys.dt)
    vars(system)["poles"] = from_numpy(form.poles, like=sys.A)  # known, so cached
    return ExactFactors(system, U, V, X, inverse, roundoff=roundoff)


def _by_doubling(sys: System) -> ExactFactors:
    """`exact_factors` of a batch, by matrix products; by Schur forms where that would lose much."""
    host = on_host(sys.A)
    try:
        circle = sys if sys.is_discrete or sys.order == 0 else to_discrete(sys, cheap_shift(sys.A))
        with np.errstate(over="ignore", invalid="ignore"):
            found: Any = smith_factors(circle.A, circle.B, circle.C, most=PATIENCE if host else 64)
    except (UnstableError, RuntimeError, ValueError):
        found = None
    if found:
        S, R, doublings = found
        loss = max(1.0, 2.0 ** (doublings - SAFE))
        if loss <= WELL:
            return ExactFactors(sys, S, R, roundoff_gain=loss)
    return _by_schur_forms(sys)


def _by_schur_forms(sys: System) -> ExactFactors:
    """`exact_factors` of a batch on the host, one by one."""
    A, B, C = (to_numpy(x) for x in (sys.A, sys.B, sys.C))
    S, R, roundoff = np.empty_like(A), np.empty_like(A), 0.0
    for i in np.ndindex(A.shape[:-2]):
        try:
            one = _by_schur_form(StateSpace(A[i], B[i], C[i], None, sys.dt))
        except UnstableError:
            require_stable(sys)  # names the system
            raise
        S[i], R[i] = one.in_given_coordinates()
        roundoff = max(roundoff, one.roundoff)
    S, R = (from_numpy(x, like=sys.A) for x in (S, R))
    return ExactFactors(sys, S, R, roundoff=roundoff)
