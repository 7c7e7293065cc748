"""H2-optimal interpolation, G_r(s_i) b_i = G(s_i) b_i at mirrored poles: rational Krylov (IRKA)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from scipy.linalg import lu_factor, lu_solve
from scipy.optimize import linear_sum_assignment

from lti._backend.arrays import Array, from_numpy, narrow, to_numpy
from lti._backend.checks import no_derivative, positive
from lti.errors import (
    DimensionError,
    OptionError,
    OrderError,
    ReductionWarning,
    warn,
)
from lti.hankel import check_order
from lti.reduction.certificate import Claim, Reduction
from lti.systems.convert import as_statespace
from lti.systems.pencil import Factored, Scalar
from lti.systems.protocol import SystemLike
from lti.systems.sparse import SparseStateSpace
from lti.systems.stability import is_stable, require_stable
from lti.systems.statespace import StateSpace

__all__ = ["irka"]

RANK = 1e-12  # of the columns of a basis: below, they are the span of fewer
FAR = 1e-6  # poles closer to zero, in discrete time, have mirror images as far as that of this one
SPREAD = 1e3  # times the size of the largest pole that is known of a large system


def irka(
    sys: SystemLike, order: int, *, rtol: float = 1e-6, most_iterations: int = 100
) -> Reduction:
    """G_r(s_i) b_i = G(s_i) b_i, c_i^H G_r(s_i) = c_i^H G(s_i), c_i^H G_r'(s_i) b_i likewise.

    The points s_i are the mirrored poles of G_r itself, ``-conj(p_i)`` or in discrete time
    ``1 / conj(p_i)``, and c_i, b_i its residues ``c_i b_i^H``: conditions that every reduced system
    meets whose H2 error is a local minimum. They are found by iteration (IRKA), each step one
    solution with ``s_i E - A`` for every point and side. No Gramian is computed, so that this also
    serves systems which are too large for that; but there is no error bound, and none of another
    order comes for free.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, SparseStateSpace, or what `as_statespace` accepts
        A stable system of n states.
    order : int
        States to keep, 0 to n.
    rtol : float, optional
        The iteration stops when no point moves by more than this, relatively.
    most_iterations : int, optional
        Steps after which it stops in any case, which is flagged.

    Returns
    -------
    Reduction
        With an infinite error bound and without Hankel singular values; `verify` measures the
        error.

    Raises
    ------
    UnstableError
        If `sys` has an unstable pole: it has no H2 norm.
    OrderError
        If `order` is out of range, or a smaller one already gives the system itself.
    DimensionError
        If `sys` is a batch.
    DerivativeError
        If torch follows the system.

    Warns
    -----
    ReductionWarning
        If the iteration has not converged, or the reduced system is unstable.

    See Also
    --------
    balanced_truncation : With an error bound, and for all orders at once.

    References
    ----------
    Gugercin, Antoulas, Beattie, "H2 model reduction for large-scale linear dynamical systems", SIAM
    J. Matrix Anal. Appl. 30 (2008); discrete: Bunse-Gerstner, Kubalinska, Vossen, Wilczek, J.
    Comput. Appl. Math. 233 (2010).

    Examples
    --------
    >>> import lti, numpy as np
    >>> A, B, C = -np.diag(np.arange(1.0, 21.0)), np.ones((20, 1)), np.ones((1, 20))
    >>> sys = lti.as_statespace((A, B, C))
    >>> reduction = lti.irka(sys, order=4)
    >>> points = -reduction.system.poles.real  # G_r and G agree there
    >>> gains = [x.C @ np.linalg.solve(points[0] * np.eye(len(x.A)) - x.A, x.B)
    ...          for x in (sys, reduction.system)]
    >>> bool(abs(gains[0] - gains[1]) < 1e-6)
    True
    """
    sys = as_statespace(sys)
    sys = sys.finite_part if isinstance(sys, SparseStateSpace) else sys
    if sys.batch_shape:
        raise DimensionError(f"irka takes one system, got a batch of shape {sys.batch_shape}")
    no_derivative("irka has", *sys.matrices)
    positive("rtol", rtol)
    if not (isinstance(most_iterations, (int, np.integer)) and most_iterations > 0):
        raise OptionError(f"most_iterations must be an integer above 0, got {most_iterations!r}")
    r = check_order(order, sys.order)
    require_stable(sys, remedy="H2-optimal interpolation needs a stable one; stabilise it first")
    form, left, right = _pencil_form(sys).equilibrated
    B, C = _in_range(form.B, form.C)  # only directions count
    unit = replace(form, B=B, C=C)
    T, W, moved = _iterated(unit, to_numpy(sys.poles), r, rtol, most_iterations)
    exact = form.projected(T, W)
    T, W = right[:, None] * T, W * left
    A, B, C, D = (narrow(from_numpy(x, sys.B), sys.B) for x in exact.matrices)
    system = StateSpace(A, B, C, D, sys.dt, sys.labels.without_states())
    flags = ["no error bound is known of interpolation; verify() measures the error"]
    warned = []
    if moved > rtol:
        warned.append(
            f"not converged: after {most_iterations} iterations a point still moves by "
            f"{moved:.1g}, relatively; allow more of them, or choose a neighbouring order"
        )
    if not is_stable(system):
        warned.append(f"the reduced system of order {r} is unstable: try a neighbouring order")
    for flag in warned:
        warn(flag, ReductionWarning)
    bound, lower, none = (from_numpy(np.asarray(x), sys.B) for x in (np.inf, 0.0, np.zeros(0)))
    return Reduction(
        original=sys,
        system=system,
        order=r,
        hsv=none,
        claim=Claim(error_bound=bound, lower_bound=lower),
        T=narrow(from_numpy(T, sys.B), sys.B),
        W=narrow(from_numpy(W, sys.B), sys.B),
        method="H2-optimal interpolation",
        flags=(*warned, *flags),
    )


@dataclass(frozen=True)
class _Points:
    """Where, and in which directions, a reduced system interpolates: s (r,), b (m, r), c (p, r)."""

    s: Array
    b: Array
    c: Array


def _iterated(
    sys: SparseStateSpace, poles: Array, order: int, rtol: float, most: int
) -> tuple[Array, Array, float]:
    """T, W at the last points, and how far these have moved after that."""
    points = _start(sys, poles, order)
    T, W, moved = *_bases(sys, points), 0.0
    for _ in range(most):
        following = _mirrored(sys.projected(T, W))
        moved = _distance(points.s, following.s)
        if moved <= rtol:
            break
        points = following
        T, W = _bases(sys, points)
    return T, W, moved


def _bases(sys: SparseStateSpace, points: _Points) -> tuple[Array, Array]:
    """T, W with W E T = I that span the solutions at all points; of conjugate ones, one."""
    real = not _is_complex(sys)
    V, U = [np.zeros((sys.order, 0))], [np.zeros((sys.order, 0))]
    for s, b, c in zip(points.s, points.b.T, points.c.T, strict=True):
        if real and s.imag < 0:
            continue
        inverse = sys.pencil.factor(-1.0, s.real if s.imag == 0 else s)
        found: Any = (inverse.solve(sys.B @ b[:, None]),
                      inverse.adjoint(sys.C.conj().T @ c[:, None]))  # fmt: skip
        for side, x in zip((V, U), found, strict=True):
            side.extend(([x.real, x.imag] if s.imag else [x.real]) if real else [x])
    V, U = (_orthonormal(np.hstack(x)) for x in (V, U))
    pairing = U.conj().T @ sys.times_E(V)
    sizes = np.linalg.svd(pairing, compute_uv=False)
    if sizes.size and sizes[-1] <= RANK * sizes[0]:
        raise OrderError(_too_many(V.shape[1]))
    return V, np.linalg.solve(pairing, U.conj().T)


def _orthonormal(V: Array) -> Array:
    U, s, _ = np.linalg.svd(_unit(V), full_matrices=False)
    if s.size and (s[-1] <= RANK * s[0] or not V.any(axis=0).all()):
        raise OrderError(_too_many(V.shape[1]))
    return U


def _unit(V: Array) -> Array:
    """The columns of V, of any magnitude, as unit vectors; zero ones stay."""
    for norm in (np.inf, 2):
        sizes = np.linalg.norm(V, norm, axis=0)
        V = V / np.where(sizes > 0, sizes, 1.0)
    return V


def _too_many(order: int) -> str:
    return (
        f"the solutions at {order} points span fewer directions to working precision: a smaller "
        "order gives the system itself, so ask for one"
    )


def _mirrored(small: Any) -> _Points:
    """The mirrored poles of a reduced system and its residues; of unstable poles, themselves."""
    poles, X = cast(Any, np.linalg.eig(small.A))
    b, c = np.linalg.solve(X, small.B + 0j).conj().T, small.C @ X
    if small.is_discrete:
        poles = np.where(abs(poles) < FAR, FAR, poles)
        s = np.where(abs(poles) < 1, 1 / poles.conj(), poles)
    else:
        s = abs(poles.real) + 1j * poles.imag
    return _Points(s, *_in_range(b, c))


def _in_range(*matrices: Array) -> list[Array]:
    """Each without a common factor, so that no square overflows or vanishes."""
    return [X / (abs(X).max(initial=0.0) or 1.0) for X in matrices]


def _start(sys: SparseStateSpace, poles: Array, order: int) -> _Points:
    """The mirrored dominant poles of a projection on solutions at real points."""
    n, m = sys.order, max(sys.n_inputs, 1)
    count = -(-2 * order // m)
    if sys.is_discrete:
        s = 1 + np.geomspace(1e-2, 1.0, count)
        s[1::2] *= -1
    else:
        sizes = abs(poles)
        sizes = sizes[sizes > 0]
        low, high = (sizes.min(), sizes.max()) if sizes.size else (1.0, 1.0)
        s = np.geomspace(low, high if n == len(poles) else SPREAD * high, count)
    solutions = [sys.pencil.factor(-1.0, float(x)).solve(sys.B) for x in s]
    V = np.hstack([np.zeros((n, 0)), *solutions])
    U, values, _ = np.linalg.svd(_unit(V[:, V.any(axis=0)]), full_matrices=False)
    V = U[:, : min(2 * order, int(np.count_nonzero(values > RANK * values.max(initial=0.0))))]
    if V.shape[1] < order:
        raise OrderError(_too_many(order))
    pairing = V.conj().T @ sys.times_E(V)
    small = sys.projected(V, np.linalg.solve(pairing, V.conj().T))
    points = _mirrored(small)
    decay = abs(points.s) - 1 if sys.is_discrete else points.s.real
    gains = np.linalg.norm(points.b, axis=0) * np.linalg.norm(points.c, axis=0) / decay
    chosen: list[int] = []
    for i in np.argsort(-gains, kind="stable"):
        one = _is_complex(sys) or points.s[i].imag == 0
        if i not in chosen and len(chosen) + 2 - one <= order:
            chosen += [i] if one else [i, int(np.argmin(abs(points.s - points.s[i].conj())))]
    s, b, c = points.s[chosen], points.b[:, chosen], points.c[:, chosen]
    if len(chosen) < order:  # only pairs are left, and one place
        s = np.append(s, abs(points.s[0]))
        b, c = (np.hstack([x, np.ones((len(x), 1))]) for x in (b, c))
    return _Points(s, b, c)


def _distance(old: Array, new: Array) -> float:
    """The largest relative distance of points that belong to each other."""
    if not old.size:
        return 0.0
    apart = abs(old[:, None] - new) / abs(old)[:, None]
    return float(apart[linear_sum_assignment(apart)].max())


def _is_complex(sys: SparseStateSpace) -> bool:
    return sys.pencil.is_complex or "c" in (sys.B.dtype.kind, sys.C.dtype.kind)


def _pencil_form(sys: Any) -> SparseStateSpace:
    """The system in terms of products and solutions, in double precision."""
    if isinstance(sys, SparseStateSpace):
        return sys
    A, B, C, D = (to_numpy(x) for x in sys.double().to_dense().matrices)
    return SparseStateSpace(_DensePencil(A), B, C, D, dt=sys.dt)


class _DensePencil:
    """A and E = 1."""

    def __init__(self, A: Array) -> None:
        self.A, self.order, self.is_complex = A, len(A), A.dtype.kind == "c"

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e) X."""
        return a * (self.A @ X) + e * X

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e)^H X."""
        return np.conj(a) * (self.A.conj().T @ X) + np.conj(e) * X

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """By an LU decomposition."""
        lu = lu_factor(a * self.A + e * np.eye(self.order))
        if not np.diag(lu[0]).all():
            raise OptionError(f"{a:.6g} A + {e:.6g} is singular: a pole lies there")
        return Factored(lambda X: lu_solve(lu, X), lambda X: lu_solve(lu, X, trans=2))
