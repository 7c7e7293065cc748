"""Second-order systems: M q'' + D q' + K q = B u, solved with s^2 M + s D + K only."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_matrix

from lti._backend.arrays import Array
from lti.errors import DimensionError
from lti.systems.equilibrate import even_units, rescaled
from lti.systems.irreducible import SMALL, irreducible_blocks
from lti.systems.labels import Labels
from lti.systems.pencil import Factored, Pencil, Scalar, nearly_symmetric, sparse_factor
from lti.systems.sparse import SparseStateSpace, as_sparse

__all__ = ["SecondOrderPencil", "second_order"]


def second_order(
    M: Any,
    D: Any,
    K: Any,
    B: Any,
    C_position: Any = None,
    C_velocity: Any = None,
    *,
    feedthrough: Any = None,
    labels: Labels | None = None,
) -> SparseStateSpace:
    """M q'' + D q' + K q = B u, y = C_position q + C_velocity q', as a system with x = [q, q'].

    Parameters
    ----------
    M, D, K : sparse matrix or array (k, k)
        Mass (nonsingular), damping and stiffness matrix.
    B : array or sparse matrix (k, m)
        Where the inputs act.
    C_position, C_velocity : array or sparse matrix (p, k), optional
        What the outputs read; at least one of them.
    feedthrough : array (p, m), optional
        D of the state space.
    labels : Labels, optional
        As in `StateSpace`; of 2 k states.

    Returns
    -------
    SparseStateSpace
        Of 2 k states. It is never formed: its solutions are k x k sparse ones.

    Raises
    ------
    DimensionError
        If shapes do not fit together, or no output is given.
    NonFiniteError
        If an entry is NaN or infinite.

    Examples
    --------
    >>> import lti, numpy as np, scipy.sparse as sparse
    >>> n = 1000
    >>> K = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(n, n))
    >>> B = np.eye(n, 1)
    >>> sys = lti.second_order(sparse.eye(n), 0.1 * K + sparse.eye(n), K, B, C_position=B.T)
    >>> sys
    SparseStateSpace(order=2000, inputs=1, outputs=1, continuous, float64)
    """
    pencil = SecondOrderPencil(M, D, K)
    k = pencil.M.shape[0]
    if C_position is None and C_velocity is None:
        raise DimensionError("the system has no output; pass C_position, C_velocity or both")
    B, C_q, C_v = (None if x is None else as_sparse(name, x).toarray() for name, x in (
        ("B", B), ("C_position", C_position), ("C_velocity", C_velocity)))  # fmt: skip
    if B is None or B.shape[0] != k:
        shape = None if B is None else B.shape
        raise DimensionError(f"B has shape {shape} but M has {k} rows; B must be ({k}, m)")
    for name, x in (("C_position", C_q), ("C_velocity", C_v)):
        if x is not None and x.shape[1] != k:
            raise DimensionError(f"{name} has shape {x.shape} but M has {k} columns")
    C_q = np.zeros_like(C_v) if C_q is None else C_q
    C_v = np.zeros_like(C_q) if C_v is None else C_v
    if C_q.shape != C_v.shape:
        raise DimensionError(
            f"C_position has shape {C_q.shape} and C_velocity {C_v.shape}; pass one row for each "
            "output in both"
        )
    B = np.concatenate([np.zeros_like(B), B])
    return SparseStateSpace(
        pencil, B, np.concatenate([C_q, C_v], axis=1), feedthrough, labels=labels or Labels()
    )


class SecondOrderPencil:
    """A = w [[0, 1], [-K, -D]], E = [[1, 0], [0, M]], without forming either: x = [q, q' / w].

    Parameters
    ----------
    M, D, K : sparse matrix (k, k)
    rate : float, optional
        The unit w of velocities.
    """

    def __init__(self, M: Any, D: Any, K: Any, rate: float = 1.0) -> None:
        self._rate = rate
        self.M, self.D, self.K = (as_sparse(name, x) for name, x in zip("MDK", (M, D, K),
                                                                      strict=True))  # fmt: skip
        shapes = [x.shape for x in (self.M, self.D, self.K)]
        if len(set(shapes)) > 1 or shapes[0][0] != shapes[0][1]:
            raise DimensionError(
                f"M, D and K must be square and of one size, got {shapes}; pass (k, k) matrices"
            )
        self.is_complex = "c" in (self.M.dtype.kind, self.D.dtype.kind, self.K.dtype.kind)
        self._symmetric = nearly_symmetric(abs(self.M) + abs(self.D) + abs(self.K))

    @property
    def order(self) -> int:
        """Number of states n = 2 k."""
        return 2 * self.M.shape[0]

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """[e x + a v, e M v - a (K x + D v)], w = 1."""
        (x, v), a = np.split(X, 2), a * self._rate
        return np.concatenate([e * x + a * v, e * (self.M @ v) - a * (self.K @ x + self.D @ v)])

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """[conj(e) x - conj(a) K^H v, conj(a) x + (e M - a D)^H v], w = 1."""
        x, v = np.split(X, 2)
        a, e = np.conj(a) * self._rate, np.conj(e)
        M, D, K = (matrix.conj().T for matrix in (self.M, self.D, self.K))
        return np.concatenate([e * x - a * (K @ v), a * x + e * (M @ v) - a * (D @ v)])

    def equilibrated(self, B: Array, C: Array) -> tuple[Pencil, Array, Array]:
        """The pencil of w^2 L M R, w L D R and L K R, whose entries are about 1; its l and r."""
        k = self.M.shape[0]
        if self._rate != 1.0:  # it is what this has returned
            return self, np.ones(2 * k), np.ones(2 * k)
        rows = np.concatenate([C[:, :k], C[:, k:]])
        left, right, w = even_units((self.K, self.D, self.M), B[k:], rows)
        M, D = rescaled(self.M, w * left, w * right), rescaled(self.D, w * left, right)
        pencil = SecondOrderPencil(M, D, rescaled(self.K, left, right), w)
        return pencil, np.append(1 / right, w * left), np.append(right, w * right)

    def row_sums(self, a: Scalar, e: Scalar) -> Array:
        """|a A| 1 + |e E| 1 (n,)."""
        M, D, K = (np.ravel(abs(x).sum(axis=1)) for x in (self.M, self.D, self.K))
        a, e = abs(a) * self._rate, abs(e)
        return np.concatenate([a + e + 0 * M, a * (K + D) + e * M])

    def irreducible(self) -> tuple[Array, list[Pencil]]:
        """The poles of small irreducible diagonal blocks of M, D and K, and the large ones."""
        poles, large = irreducible_blocks((self.M, self.D, self.K), self._poles, SMALL // 2)
        if len(large) == 1 and not poles.size:
            return poles, [self]
        return poles, [SecondOrderPencil(M, D, K, self._rate) for M, D, K in large]

    def _poles(self, M: Array, D: Array, K: Array) -> Array:
        """Those of dense blocks (k, s, s)."""
        one, none = np.broadcast_to(np.eye(M.shape[-1]), M.shape), np.zeros_like(M)
        A = np.concatenate([none, one], axis=-1)
        B = -np.linalg.solve(M, np.concatenate([K, D], axis=-1))
        return self._rate * np.linalg.eigvals(np.concatenate([A, B], axis=-2))

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """By L = e^2 M - a e D + a^2 K, w = 1: one sparse k x k decomposition."""
        a = a * self._rate
        L: Any = csc_matrix(e * e * self.M - a * e * self.D + a * a * self.K)
        inverse = sparse_factor(L, f"e^2 M - a e D + a^2 K, a = {a:.6g}, e = {e:.6g},",
                                self._symmetric)  # fmt: skip
        upper = abs(e) > abs(a)  # which of the two equations is divided

        def solve(X: Array) -> Array:
            f, g = np.split(X, 2)  # e x + a v = f, -a K x + (e M - a D) v = g
            if upper:
                v = inverse.solve(e * g + a * (self.K @ f))
                return np.concatenate([(f - a * v) / e, v])
            x = inverse.solve(e * (self.M @ f) - a * (self.D @ f) - a * g)
            return np.concatenate([x, (f - e * x) / a])

        def adjoint(X: Array) -> Array:
            f, g = np.split(X, 2)  # e* x - a* K^H v = f, a* x + (e M - a D)^H v = g
            v = inverse.adjoint(np.conj(e) * g - np.conj(a) * f)
            if upper:
                return np.concatenate([(f + np.conj(a) * (self.K.conj().T @ v)) / np.conj(e), v])
            rest = np.conj(e) * (self.M.conj().T @ v) - np.conj(a) * (self.D.conj().T @ v)
            return np.concatenate([(g - rest) / np.conj(a), v])

        return Factored(solve, adjoint)
