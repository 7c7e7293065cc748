"""Index 1: A_11 - A_12 A_22^-1 A_21 of algebraic equations, a Schur complement never formed."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_matrix
from scipy.sparse.csgraph import structural_rank

from lti._backend.arrays import Array
from lti.errors import OptionError
from lti.systems.equilibrate import largest_to_one
from lti.systems.pencil import Factored, Scalar, nearly_symmetric, nonsingular_factor, sparse_factor

__all__ = ["IndexOnePencil", "algebraic_part"]


def algebraic_part(E: Any) -> tuple[Array, Array]:
    """The equations and the states of which E holds nothing: its zero rows and columns."""
    E = csc_matrix(E)
    E.eliminate_zeros()
    rows = np.bincount(E.indices, minlength=E.shape[0]) == 0
    columns = np.diff(E.indptr) == 0
    if rows.sum() != columns.sum():
        raise OptionError(
            f"E has {rows.sum()} zero rows and {columns.sum()} zero columns, so its algebraic "
            "equations are not semi-explicit; transform E to diag(E_1, 0), or use a dense "
            "lti.StateSpace.from_descriptor"
        )
    return rows, columns


class IndexOnePencil:
    """A = A_11 - A_12 A_22^-1 A_21, E = E_11, where E holds nothing else.

    Parameters
    ----------
    A, E : sparse matrix (n, n)
    rows, columns : array (n,) of bool
        The algebraic equations and states.
    """

    def __init__(self, A: Any, E: Any, rows: Array, columns: Array) -> None:
        at = [np.concatenate([np.flatnonzero(~x), np.flatnonzero(x)]) for x in (rows, columns)]
        self._A, self._E = (csc_matrix(csc_matrix(x)[at[0]][:, at[1]]) for x in (A, E))
        self.order = k = int(np.count_nonzero(~rows))
        self._algebraic = len(rows) - k
        self.is_complex = "c" in (self._A.dtype.kind, self._E.dtype.kind)
        self.A11, self.A12 = self._A[:k, :k], self._A[:k, k:]
        self.A21, self.E = self._A[k:, :k], self._E[:k, :k]
        A22 = self._A[k:, k:]
        self.A22 = nonsingular_factor(
            A22,
            f"the matrix A_22 of the {self._algebraic} algebraic equations, of structural rank "
            f"{structural_rank(A22)},",
            "so the pencil has an index above 1, or is singular; use a dense "
            "lti.StateSpace.from_descriptor",
        )
        self._symmetric = nearly_symmetric(abs(self._A) + abs(self._E))

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E) X."""
        Y = e * (self.E @ X)
        return Y + a * (self.A11 @ X - self.A12 @ self.A22.solve(self.A21 @ X)) if a else Y

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E)^H X."""
        A11, A12, A21, E = (x.conj().T for x in (self.A11, self.A12, self.A21, self.E))
        Y = np.conj(e) * (E @ X)
        return Y + np.conj(a) * (A11 @ X - A21 @ self.A22.adjoint(A12 @ X)) if a else Y

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """By one decomposition of the whole a A + e E."""
        k, name = self.order, f"{a:.6g} A + {e:.6g} E"
        if not a:
            return sparse_factor(e * self.E, name)
        whole = sparse_factor(a * self._A + e * self._E, name, self._symmetric)

        def padded(X: Array) -> Array:
            return np.concatenate([X, np.zeros((self._algebraic, X.shape[1]), dtype=X.dtype)])

        return Factored(
            lambda X: whole.solve(padded(X))[:k], lambda X: whole.adjoint(padded(X))[:k]
        )

    @property
    def residual_units(self) -> tuple[Array, Array]:
        """Those of the whole A."""
        left, right = largest_to_one(self._A)
        return left[: self.order], right[: self.order]

    def ports(
        self, B: Array, C: Array, D: Array, rows: Array, columns: Array
    ) -> tuple[Array, Array, Array]:
        """B_1 - A_12 A_22^-1 B_2, C_1 - C_2 A_22^-1 A_21, D - C_2 A_22^-1 B_2."""
        z = self.A22.solve(B[rows])
        C2 = self.A22.adjoint(C[:, columns].conj().T).conj().T  # C_2 A_22^-1
        return B[~rows] - self.A12 @ z, C[:, ~columns] - C2 @ self.A21, D - C[:, columns] @ z
