"""Index 2: E_1 v' = A_1 v + G p + B u, 0 = H v, projected on the v with H v = 0 implicitly."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import block_array, csc_matrix

from lti._backend.arrays import Array
from lti.errors import OptionError
from lti.systems.pencil import Factored, Scalar, sparse_factor

__all__ = ["IndexTwoPencil"]


class IndexTwoPencil:
    """(Pi A_1 Pi' + s E_1 (1 - Pi'), E_1): the projected pencil, whose other poles are at s.

    ``Pi' = 1 - E_1^-1 G (H E_1^-1 G)^-1 H`` projects on the v with H v = 0, ``Pi E_1 = E_1 Pi'``.
    Neither is formed: ``Pi' E_1^-1 f`` is v in ``[[E_1, G], [H, 0]] [v; p] = [f; 0]``. No input
    reaches the poles at s and no output sees them.

    Parameters
    ----------
    A, E : sparse matrix (n, n)
    rows, columns : array (n,) of bool
        The algebraic equations and states; A holds nothing there.
    discrete : bool
        s is zero in discrete time, and else a size of A.
    """

    def __init__(self, A: Any, E: Any, rows: Array, columns: Array, discrete: bool) -> None:
        A, E = csc_matrix(A), csc_matrix(E)
        self.A, self.E = (csc_matrix(csc_matrix(x[~rows])[:, ~columns]) for x in (A, E))
        self._G, self._H = (
            csc_matrix(csc_matrix(A[one])[:, other])
            for one, other in ((~rows, columns), (rows, ~columns))
        )
        self.order, self._algebraic = int((~rows).sum()), int(rows.sum())
        self.is_complex = "c" in (A.dtype.kind, E.dtype.kind)
        try:
            self._saddle = self._factored(self.E, "[[E_1, G], [H, 0]]")
            self._inverse = sparse_factor(self.E, "E_1")
        except OptionError as error:
            raise OptionError(
                f"the {self._algebraic} algebraic equations do not determine as many states: the "
                "pencil has an index above 2, or is singular, as where the level of a pressure is "
                "free; fix one of its values, or use a dense lti.StateSpace.from_descriptor"
            ) from error
        self._place = 0.0 if discrete else -abs(self.A).max() / abs(self.E).max()

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E) X."""
        inside = self._kernel(self._saddle.solve, self.E @ X)
        moved = (e + a * self._place) * (self.E @ (X - inside))
        return moved + self.E @ self._kernel(
            self._saddle.solve, a * (self.A @ inside) + e * (self.E @ inside)
        )

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E)^H X."""
        A, E, a, e = self.A.conj().T, self.E.conj().T, np.conj(a), np.conj(e)
        inside = self._kernel(self._saddle.adjoint, E @ X)
        moved = (e + a * self._place) * (E @ (X - inside))
        return moved + E @ self._kernel(self._saddle.adjoint, a * (A @ inside) + e * (E @ inside))

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """By one decomposition of the bordered matrix [[a A_1 + e E_1, G], [H, 0]]."""
        place = e + a * self._place
        M = a * self.A + e * self.E if a else e * self.E
        whole = self._factored(M, f"{a:.6g} A + {e:.6g} E, bordered,")

        def solve(F: Array) -> Array:
            outside = self._inverse.solve(F) - self._kernel(self._saddle.solve, F)
            return self._kernel(whole.solve, F) + outside / place

        def adjoint(F: Array) -> Array:
            outside = self._inverse.adjoint(F) - self._kernel(self._saddle.adjoint, F)
            return self._kernel(whole.adjoint, F) + outside / np.conj(place)

        return Factored(solve, adjoint)

    def ports(
        self, B: Array, C: Array, D: Array, rows: Array, columns: Array
    ) -> tuple[Array, Array, Array]:
        """Pi B_1, (C_1 - Y^H A_1) Pi', D - Y^H B_1, where p = -Y^H (A_1 v + B_1 u) in C_2 p."""
        if B[rows].any():
            raise OptionError(
                "an input acts on the algebraic equations of a system of index 2, which then "
                "differentiates it; use a dense lti.StateSpace.from_descriptor"
            )
        B1, n = B[~rows], self.order
        seen = C[:, columns].conj().T
        zero = np.zeros((n, len(C)), dtype=seen.dtype)
        Y = self._saddle.adjoint(np.concatenate([zero, seen]))[:n]
        C1 = C[:, ~columns] - Y.conj().T @ self.A
        C1 = (self.E.conj().T @ self._kernel(self._saddle.adjoint, C1.conj().T)).conj().T
        return self.E @ self._kernel(self._saddle.solve, B1), C1, D - Y.conj().T @ B1

    def _factored(self, M: Any, name: str) -> Factored:
        return sparse_factor(block_array([[M, self._G], [self._H, None]]), name, False)

    def _kernel(self, solve: Any, F: Array) -> Array:
        """v of [[M, G], [H, 0]] [v; p] = [F; 0]."""
        zero = np.zeros((self._algebraic, F.shape[1]), dtype=F.dtype)
        return solve(np.concatenate([F, zero]))[: self.order]
