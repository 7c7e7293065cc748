"""Second-order balanced truncation: W^H M V, W^H D V, W^H K V of position or velocity Gramians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lti._backend.arrays import Array
from lti._backend.checks import one_of
from lti.errors import DimensionError, OrderError, ReductionWarning, warn
from lti.gramians.exact import double_factors
from lti.hankel import check_order
from lti.reduction.certificate import Claim, Reduction
from lti.systems.second_order import SecondOrderPencil, second_order
from lti.systems.sparse import SparseStateSpace
from lti.systems.stability import is_stable
from lti.systems.statespace import StateSpace

__all__ = ["SecondOrderModel", "second_order_truncation"]


@dataclass(frozen=True, eq=False, kw_only=True)
class SecondOrderModel:
    """M q'' + D q' + K q = B u, y = C_position q + C_velocity q' + feedthrough u, dense.

    Parameters
    ----------
    M, D, K : array (r, r)
        Mass, damping and stiffness matrix.
    B : array (r, m)
    C_position, C_velocity : array (p, r)
    feedthrough : array (p, m)
    values : array (l,)
        The singular values that the truncation went by, all that were computed.
    """

    M: Array
    D: Array
    K: Array
    B: Array
    C_position: Array
    C_velocity: Array
    feedthrough: Array
    values: Array

    @property
    def order(self) -> int:
        """Number of positions r, half of that of states."""
        return len(self.M)

    def to_first_order(self) -> StateSpace:
        """The dense system with x = [q, q']."""
        sparse = second_order(
            self.M, self.D, self.K, self.B, self.C_position, self.C_velocity,
            feedthrough=self.feedthrough,
        )  # fmt: skip
        return sparse.small_dense()


def second_order_truncation(
    sys: SparseStateSpace, order: int, kind: str = "position"
) -> tuple[SecondOrderModel, Reduction]:
    """M_r = W^H M V, D_r = W^H D V, K_r = W^H K V, B_r = W^H B, C_r = C V.

    With S = [S_p; S_v] and R = [R_p; R_v], the low-rank Gramian factors of x = [q, q'], in their
    halves for positions and velocities:

    - "position": V spans the leading directions of S_p by ``R_p^H S_p``, and W those of R_v by
      ``R_v^H M S_v``;
    - "velocity": V and W span those of S_v and R_v by ``R_v^H M S_v``;
    - "symmetric": V spans those of S_p by ``R_p^H S_p``, and W = V: symmetric matrices stay
      symmetric, definite ones definite, so that a system with such matrices stays stable.

    Parameters
    ----------
    sys : SparseStateSpace
        What `second_order` returned, of k positions; stable.
    order : int
        Positions to keep, 0 to k: half the states.
    kind : {"position", "velocity", "symmetric"}, optional
        The directions, as above. With "velocity", a symmetric system with
        ``C_velocity = B^H`` and no C_position stays symmetric, up to signs and rounding.

    Returns
    -------
    model : SecondOrderModel
        The reduced matrices.
    reduction : Reduction
        The same of first order, with an infinite error bound: none is known of this method;
        `verify` measures the error.

    Raises
    ------
    DimensionError
        If `sys` is not of second order.
    UnstableError
        If `sys` has an unstable pole.
    OrderError
        If `order` is out of range, or the computed directions are fewer.
    OptionError
        If `kind` does not exist.

    Warns
    -----
    ReductionWarning
        If the reduced system is unstable: only "symmetric" excludes it.

    See Also
    --------
    second_order, balanced_truncation

    References
    ----------
    Chahlaoui, Lemonnier, Vandendorpe, Van Dooren, "Second-order balanced truncation", Linear
    Algebra Appl. 415 (2006); Reis, Stykel, "Balanced truncation model reduction of second-order
    systems", MCMDS 14 (2008).

    Examples
    --------
    >>> import lti, numpy as np, scipy.sparse as sparse
    >>> n = 300
    >>> K = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(n, n))
    >>> sys = lti.second_order(sparse.eye(n), sparse.eye(n), K, np.eye(n, 1), np.eye(1, n))
    >>> model, reduction = lti.second_order_truncation(sys, order=5, kind="symmetric")
    >>> model.K.shape, bool(np.allclose(model.K, model.K.T)), reduction.order
    ((5, 5), True, 10)
    """
    if not isinstance(pencil := getattr(sys, "pencil", None), SecondOrderPencil):
        raise DimensionError(
            f"second_order_truncation needs the system that lti.second_order returns, got {sys!r}; "
            "use balanced_truncation for others"
        )
    one_of("kind", kind, ("position", "velocity", "symmetric"))
    r, k = check_order(order, sys.order // 2), sys.order // 2
    (S_p, S_v), (R_p, R_v) = (np.split(x, 2) for x in double_factors(sys))
    _, by_position, V_p = np.linalg.svd(R_p.conj().T @ S_p, full_matrices=False)
    U_v, by_velocity, V_v = np.linalg.svd(R_v.conj().T @ (pencil.M @ S_v), full_matrices=False)
    values = by_velocity if kind == "velocity" else by_position
    if r > (known := min(len(by_position), len(by_velocity))):
        raise OrderError(f"order {r} is above {known}, the rank of the factors; ask for less")
    V = _orthonormal(S_v @ V_v[:r].conj().T if kind == "velocity" else S_p @ V_p[:r].conj().T)
    W = V if kind == "symmetric" else _orthonormal(R_v @ U_v[:, :r])
    H = W.conj().T
    model = SecondOrderModel(
        M=H @ (pencil.M @ V),
        D=H @ (pencil.D @ V),
        K=H @ (pencil.K @ V),
        B=H @ sys.B[k:],
        C_position=sys.C[:, :k] @ V,
        C_velocity=sys.C[:, k:] @ V,
        feedthrough=sys.D,
        values=values,
    )
    sizes = np.linalg.svd(model.M, compute_uv=False)
    if r and sizes[-1] <= 1e-13 * sizes[0]:
        raise OrderError(f"M of the reduced system of order {r} is singular; try another order")
    return model, _certified(sys, pencil.M, model, V, np.linalg.solve(model.M, H))


def _orthonormal(V: Array) -> Array:
    """An orthonormal basis, of columns in any units."""
    sizes = np.linalg.norm(V, axis=0)
    return np.linalg.qr(V / np.where(sizes > 0, sizes, 1.0))[0]


def _certified(
    sys: SparseStateSpace, M: Any, model: SecondOrderModel, V: Array, W: Array
) -> Reduction:
    """The reduction of first order: x = diag(V, V) x_r, and W of a left inverse of M V."""
    system, flags = model.to_first_order(), []
    if not is_stable(system):
        flags.append(
            f"the reduced system of {model.order} positions is unstable: try a neighbouring order, "
            'or kind="symmetric"'
        )
    for flag in flags:
        warn(flag, ReductionWarning)
    none, WM = np.zeros_like(V), (M.conj().T @ W.conj().T).conj().T
    return Reduction(
        original=sys,
        system=system,
        order=system.order,
        hsv=np.zeros(0),
        claim=Claim(error_bound=np.asarray(np.inf), lower_bound=np.asarray(0.0)),
        T=np.block([[V, none], [none, V]]),
        W=np.block([[WM, none.T], [none.T, W]]),
        method="second-order balanced truncation",
        flags=(*flags, "no error bound is known of this method; verify() measures the error"),
    )
