"""Descriptor systems, E x' = A x + B u with singular E: their finite part, by orthogonal steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_matrix

from lti._backend.arrays import Array
from lti.errors import OptionError, ReductionWarning, warn
from lti.systems.equilibrate import even_units, largest_to_one

__all__ = ["FinitePart", "finite_part"]

EPS = 2.0**-52
ROUNDED = 4  # times n eps |E|: what is smaller in E is zero
LOST = 1e-8  # an estimate of rounding above this is warned of


@dataclass(frozen=True, eq=False)
class FinitePart:
    """x' = A x + B u, y = C x + D u: a descriptor system without its algebraic equations.

    Parameters
    ----------
    A, B, C, D : array
        Of as many states as the pencil has finite eigenvalues.
    index : int
        Of the pencil: 0 if E is nonsingular, 1 if the algebraic equations can be solved as they
        stand.
    condition : float
        By how much rounding may have grown.
    """

    A: Array
    B: Array
    C: Array
    D: Array
    index: int
    condition: float


def finite_part(A: Array, E: Array, B: Array, C: Array, D: Array) -> FinitePart:
    """Q^H (s E - A) Z = [[s E_inf - A_inf, s E_12 - A_12], [0, s E_f - A_f]], then decoupled.

    The null space of E is split off until what is left of E is nonsingular: each step takes a layer
    of infinite eigenvalues, the number of steps is the index. Then ``A_inf X + Y A_f = -A_12`` and
    ``E_inf X + Y E_f = -E_12`` decouple the two parts; as ``N = A_inf^-1 E_inf`` is nilpotent, X is
    a finite sum.

    Raises
    ------
    OptionError
        If the pencil is singular, or the transfer function has a polynomial part.

    References
    ----------
    Van Dooren, "The computation of Kronecker's canonical form of a singular pencil", Linear Algebra
    Appl. 27 (1979); Kagstrom, Van Dooren, "A generalized state-space approach for the additive
    decomposition of a transfer matrix", J. Numer. Linear Algebra Appl. 1 (1992).
    """
    n, split, index = len(A), 0, 0
    # In units of states and equations in which A has entries of one, and a unit of time for E:
    # what is small in E then is rounding, or belongs to a pole beyond the digits of the others
    left, right, _ = even_units((csc_matrix(A),), B, C)
    first = _power_of_two(E)
    A, E = (left[:, None] * X * right for X in (A, E / first))
    B, C = left[:, None] * B, C * right
    second = _power_of_two(E)
    E = E / second
    sizes = np.linalg.norm(A), np.linalg.norm(E)
    while split < n:
        Z, rank = _null_space_first(E[split:, split:], ROUNDED * n * EPS * float(sizes[1]))
        k = n - split - rank
        if split == 0:
            _warn_of_fast_poles(E, rank)
        if k == 0:
            break
        for X in (A, E, C):
            X[:, split:] = X[:, split:] @ Z
        rest = slice(split, None)
        Q, R = np.linalg.qr(A[rest, split : split + k], mode="complete")
        smallest = np.linalg.svd(R[:k], compute_uv=False).min() if k <= n - split else 0.0
        if smallest <= n * EPS * sizes[0]:
            raise OptionError(
                f"the pencil s E - A is singular for every s (found at step {index + 1}: E and A "
                f"share a null vector to {smallest:.1g}); some state is determined by no equation, "
                "so remove it or add its equation"
            )
        for X in (A, E, B):
            X[rest] = Q.conj().T @ X[rest]
        E[rest, split : split + k] = 0.0
        split, index = split + k, index + 1
    inf, fin = slice(0, split), slice(split, None)
    F, B_f = (np.linalg.solve(E[fin, fin], X[fin, fin] if X is A else X[fin]) for X in (A, B))
    sides = E[inf, inf], E[inf, fin] @ F - A[inf, fin], B[inf] - E[inf, fin] @ B_f
    N, K, G = (np.linalg.solve(A[inf, inf], x) for x in sides)
    X = K
    for _ in range(1, index):
        X = N @ X @ F + K
    # B_inf + Y B_f with Y = -(E_inf X + E_12) E_f^-1
    G = G - N @ (X @ B_f)
    _refuse_polynomial(C[:, inf], N, G, index, first * second)
    condition = max(1.0, float(np.linalg.norm(X, 2)) if X.size else 1.0)
    condition *= max(1.0, float(np.linalg.cond(_even(E[fin, fin])))) if split < n else 1.0
    condition *= float(np.linalg.cond(_even(A[inf, inf]))) if split else 1.0
    if condition * EPS >= 1:
        raise OptionError(
            "no digit of the finite part of the descriptor system is left: its finite and infinite "
            "eigenvalues cannot be told apart; scale its equations, or set what is rounding to zero"
        )
    if condition * EPS > LOST:
        warn(
            f"the finite part of the descriptor system has about {-np.log10(condition * EPS):.0f} "
            "digits: its finite and infinite eigenvalues are hard to tell apart",
            ReductionWarning,
        )
    with np.errstate(over="ignore"):  # refused where the system is made
        F, B_f = F / first / second, B_f / first / second
    if not split:  # the states are those of the user
        F, B_f, C = right[:, None] * F / right, right[:, None] * B_f, C / right
    return FinitePart(F, B_f, C[:, fin] + C[:, inf] @ X, D - C[:, inf] @ G, index, condition)


def _power_of_two(M: Array) -> float:
    """About the largest entry."""
    return float(2.0 ** np.floor(np.log2(abs(M).max(initial=0.0) or 1.0)))


def _even(M: Array) -> Array:
    """M in units of its rows and columns in which their largest entries are about one."""
    left, right = largest_to_one(csc_matrix(M))
    return left[:, None] * M * right


def _warn_of_fast_poles(E: Array, rank: int) -> None:
    even = _even(E)
    more = _null_space_first(even, ROUNDED * len(E) * EPS * float(np.linalg.norm(even)))[1] - rank
    if more > 0:
        warn(
            f"E has the numerical rank {rank} of {len(E)}, in other units {rank + more}: {more} "
            "beyond the digits of the others count as infinite poles; if these entries of E are "
            "rounding, set them to zero",
            ReductionWarning,
        )


def _null_space_first(E: Array, tol: float) -> tuple[Array, int]:
    """An orthogonal basis whose first columns span the null space of E, and the rank."""
    _, s, Vh = np.linalg.svd(E)
    rank = int(np.count_nonzero(s > tol))
    return np.roll(Vh.conj().T, len(E) - rank, axis=1), rank


def _refuse_polynomial(C: Array, N: Array, G: Array, index: int, time: float) -> None:
    """`OptionError` if a C N^i G, i > 0, is not 0, the coefficient of s^i in that unit of time."""
    power, size = G, np.linalg.norm(C) * np.linalg.norm(G)
    for i in range(1, index):
        power, size = N @ power, size * np.linalg.norm(N, 2)
        coefficient = np.linalg.norm(C @ power)
        if coefficient > 1e4 * len(N) * EPS * size:
            raise OptionError(
                f"the transfer function is improper: it grows as s^{i}, with a coefficient of size "
                f"{coefficient * time**i:.3g} (the pencil has index {index}); filter that input, "
                "or choose outputs that do not differentiate it"
            )
