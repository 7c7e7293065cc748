"""Index 2 and 3: E_1 x' = A_1 x + G p + B_1 u, 0 = H x + B_2 u, projected implicitly."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import block_array, csc_matrix

from lti._backend.arrays import Array
from lti.errors import OptionError, ReductionWarning, warn
from lti.systems.pencil import Factored, Scalar, nonsingular_factor, sparse_factor

__all__ = ["ConstrainedPencil"]

ZERO = 1e-10  # of its size: rounding of what is zero
LOST = 1e-8  # an estimate of rounding above this is warned of
MOST = 500  # constraints, up to which their rank is computed for a message
REMEDY = "or use a dense lti.StateSpace.from_descriptor"


class ConstrainedPencil:
    """(Pi A_1 Pi' + s E_1 (1 - Pi'), E_1): the projected pencil, whose other poles are at s.

    ``Pi' = 1 - R (N R)^-1 N`` projects on the x with N x = 0, and ``Pi E_1 = E_1 Pi'``. Index 2, as
    of Stokes flow: N = H and R = E_1^-1 G. Index 3, as of mechanics with constraints, where
    H E_1^-1 G is zero: N = [H; H E_1^-1 A_1] and R = E_1^-1 [G, A_1 E_1^-1 G]. Nothing of this is
    formed: ``Pi' E_1^-1 f`` is x in a solution with a bordered matrix. No input reaches the poles
    at s and no output sees them.

    Parameters
    ----------
    A, E : sparse matrix (n, n)
    rows, columns : array (n,) of bool
        The algebraic equations and states; A holds nothing there.
    discrete : bool
        s is zero in discrete time, and else a size of A.

    Attributes
    ----------
    index : int
        2 or 3.
    place : float
        s.
    moved : int
        How many poles are there.
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
        self._inverse = nonsingular_factor(self.E, f"E_1, {self.order} x {self.order},", REMEDY)
        self.index, self._saddle = self._bordered()
        self.moved = (self.index - 1) * self._algebraic
        self._warn_of_lost_digits()
        self.place = 0.0 if discrete else -abs(self.A).max() / abs(self.E).max()

    def product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E) X."""
        inside = self._projected(self.E @ X)
        moved = (e + a * self.place) * (self.E @ (X - inside))
        return moved + self.E @ self._projected(a * (self.A @ inside) + e * (self.E @ inside))

    def adjoint_product(self, a: Scalar, e: Scalar, X: Array) -> Array:
        """(a A + e E)^H X."""
        A, E, a, e = self.A.conj().T, self.E.conj().T, np.conj(a), np.conj(e)
        inside = self._projected_adjoint(E @ X)
        moved = (e + a * self.place) * (E @ (X - inside))
        return moved + E @ self._projected_adjoint(a * (A @ inside) + e * (E @ inside))

    def factor(self, a: Scalar, e: Scalar) -> Factored:
        """By one decomposition of the bordered matrix [[a A_1 + e E_1, G], [H, 0]]."""
        if not a:
            return Factored(lambda F: self._inverse.solve(F) / e,
                            lambda F: self._inverse.adjoint(F) / np.conj(e))  # fmt: skip
        place, n = e + a * self.place, self.order
        M = block_array([[a * self.A + e * self.E, self._G], [self._H, None]])
        whole = sparse_factor(M, f"{a:.6g} A + {e:.6g} E, bordered,", False)

        def solve(F: Array) -> Array:
            inside = self._projected(F)
            outside = self._inverse.solve(F) - inside
            return whole.solve(self._padded(self.E @ inside))[:n] + outside / place

        def adjoint(F: Array) -> Array:
            outside = self._inverse.adjoint(F) - self._projected_adjoint(F)
            x = whole.adjoint(self._padded(F))[:n]
            x = self._projected_adjoint(self.E.conj().T @ x)
            return x + outside / np.conj(place)

        return Factored(solve, adjoint)

    def ports(
        self, B: Array, C: Array, D: Array, rows: Array, columns: Array
    ) -> tuple[Array, Array, Array]:
        """Of x = x_0 + X_0 u + X_1 u' with N x_0 = 0: what u does to x_0 and y, and x_0 to y.

        As ``p = -P (A_1 x + B_1 u - E_1 (X_0 u' + X_1 u''))``, y may have parts in u' and u'',
        which are refused.
        """
        B1, C1 = B[~rows], C[:, ~columns]
        Y = self._multiplied(C[:, columns])  # C_2 P
        X0, X1 = self._affine(B1, B[rows])
        self._refuse(1, (C1, X1), (-Y, self.A @ X1 - self.E @ X0))
        self._refuse(2, (Y, self.E @ X1))
        B1, D = B1 + self.A @ X0, D + C1 @ X0
        C1 = (C1 - Y @ self.A).conj().T
        C1 = (self.E.conj().T @ self._projected_adjoint(C1)).conj().T
        return self.E @ self._projected(B1), C1, D - Y @ B1

    def _bordered(self) -> tuple[int, Factored]:
        """The index, and the solutions with the matrix that projects: of x first."""
        A, E, G, H = self.A, self.E, self._G, self._H
        two = block_array([[E, G], [H, None]])
        try:
            return 2, nonsingular_factor(two, "[[E_1, G], [H, 0]]", REMEDY, False)
        except OptionError as error:
            self._require_index_three(error)
        three = block_array([[E, A, None, G, None],
                             [None, E, None, None, -G],
                             [-A, None, E, None, None],
                             [H, None, None, None, None],
                             [None, None, H, None, None]])  # fmt: skip
        what = f"the index of the {self._algebraic} algebraic equations is above 3: the matrix"
        return 3, nonsingular_factor(three, f"{what} of its projection", REMEDY, False)

    def _require_index_three(self, error: OptionError) -> None:
        """`OptionError` unless H E_1^-1 G is zero."""
        k = self._algebraic
        probe = np.eye(k) if k <= MOST else np.random.default_rng(0).standard_normal((k, 2))
        X = self._inverse.solve(self._G @ probe)
        S = self._H @ X
        size = np.linalg.norm(abs(self._H) @ abs(X))
        if np.linalg.norm(S) > ZERO * size:
            rank = f"rank {np.linalg.matrix_rank(S)} of {k}" if k <= MOST else "no full rank"
            raise OptionError(
                f"the {k} algebraic equations do not determine as many states (H E_1^-1 G has "
                f"{rank}): their index is 2 of some and above 2 of others, or the pencil is "
                "singular, as where the level of a pressure is free; remove or fix what they leave "
                f"open, {REMEDY}"
            ) from error

    def _warn_of_lost_digits(self) -> None:
        """Of Pi' Pi' x - Pi' x, which rounding alone leaves."""
        x = np.cos(np.arange(1.0, self.order + 1) ** 1.5)[:, None]  # in no special direction
        once = self._projected(self.E @ x)
        lost = np.linalg.norm(self._projected(self.E @ once) - once) / np.linalg.norm(x)
        if lost > LOST:
            digits = max(0, -np.log10(lost))
            warn(
                f"the projection on the constraints has about {digits:.0f} digits: of "
                f"index {self.index}, they are nearly of a higher one, as multipliers hardly act "
                "in the directions of their constraints",
                ReductionWarning,
            )

    def _affine(self, B1: Array, B2: Array) -> tuple[Array, Array]:
        """X_0 and X_1: what the inputs in the constraints make of x, outside of N x = 0."""
        n, zero = self.order, np.zeros_like(B1)
        if self.index == 2:
            return self._saddle.solve(np.concatenate([zero, -B2]))[:n], zero
        V = self._inverse.solve(B1)
        rate = self._H @ V  # of H x, at which inputs change it; that of forces is zero
        rate = np.where(abs(rate) > ZERO * (abs(self._H) @ abs(V)), rate, 0.0)
        zero = np.zeros((3 * n, B1.shape[1]), dtype=B1.dtype)
        sides = [[zero, -B2, -rate], [zero, np.zeros_like(B2), -B2]]
        X0, X1 = (self._saddle.solve(np.concatenate(x))[:n] for x in sides)
        return X0, X1

    def _multiplied(self, C2: Array) -> Array:
        """C_2 P, where -P f is the multiplier p of a right-hand side f."""
        seen = np.zeros((self._size, len(C2)), dtype=C2.dtype)
        at = self._size - (self.index - 1) * self._algebraic
        seen[at : at + self._algebraic] = C2.conj().T
        return self._saddle.adjoint(seen)[: self.order].conj().T

    def _refuse(self, power: int, *products: tuple[Array, Array]) -> None:
        """`OptionError` unless a sum of products, the coefficient of s^power, is zero."""
        coefficient = np.linalg.norm(sum(X @ Z for X, Z in products))
        if coefficient > ZERO * sum(np.linalg.norm(X) * np.linalg.norm(Z) for X, Z in products):
            raise OptionError(
                f"the transfer function is improper: it grows as s^{power}, with a coefficient of "
                f"size {coefficient:.3g}: an input acts on the algebraic equations, of index "
                f"{self.index}, and an output sees its derivative; filter that input, or choose "
                "other outputs"
            )

    @property
    def _size(self) -> int:
        """Of the bordered matrix."""
        return (2 * self.index - 3) * self.order + (self.index - 1) * self._algebraic

    def _projected(self, F: Array) -> Array:
        """Pi' E_1^-1 F."""
        return self._saddle.solve(self._padded(F, self._size))[: self.order]

    def _projected_adjoint(self, F: Array) -> Array:
        """(Pi' E_1^-1)^H F."""
        return self._saddle.adjoint(self._padded(F, self._size))[: self.order]

    def _padded(self, F: Array, size: int = 0) -> Array:
        """[F; 0]."""
        rest = (size or self.order + self._algebraic) - self.order
        return np.concatenate([F, np.zeros((rest, F.shape[1]), dtype=F.dtype)])
