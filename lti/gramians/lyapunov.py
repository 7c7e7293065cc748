"""Square roots of Lyapunov solutions: P = S S^H, without ever forming P.

Dense systems by doubling, diagonal ones by the structure of their Cauchy-like Gramian.
"""

from __future__ import annotations

import numpy as np

from lti._backend.arrays import (
    Array,
    H,
    cholesky,
    conj,
    device,
    from_numpy,
    is_complex,
    lq_factor,
    lq_join,
    namespace,
    on_host,
    real,
    square_norms,
    to_numpy,
)
from lti.errors import UnstableError

__all__ = ["SAFE", "cauchy_factor", "gap", "scaled", "smith_factors"]

EPS = 2.0**-52
HUGE = 2.0**500  # a power of a stable A never gets there
SAFE = 8  # doublings that cost no digits
PROBE = 6  # doublings that cost little, as factors have few columns
FEW = 32  # columns that are not worth compressing
MANY = 32  # times as many states as inputs: no reason to hope that the inputs tell them apart
INDEPENDENT = 1e4  # trace K^-1 of a Gramian whose factor is as good from its entries
TINY = 2.0**-1000  # what is smaller is zero: dividing by a subnormal number overflows


def smith_factors(A: Array, B: Array, C: Array, most: int = 64) -> tuple[Array, Array, int] | None:
    """S, R with S S^H = P, R R^H = Q: A P A^H - P + B B^H = 0, A^H Q A - Q + C^H C = 0.

    Squared Smith iteration: ``[S, A S]`` doubles the number of terms of ``P = sum A^k B B^H A^kH``
    while A is squared, once for both equations; an LQ factorisation keeps a factor at no more than
    n columns. Nothing is ever subtracted, so P and Q are positive semidefinite by construction. It
    ends when both have converged and a power of A has a norm below one, which proves stability.

    Parameters
    ----------
    A : array (..., n, n), of spectral radius below one
    B : array (..., n, m)
    C : array (..., p, n)
    most : int, optional
        Doublings after which to give up.

    Returns
    -------
    S : array (..., n, k), k <= n
    R : array (..., n, l), l <= n
    doublings : int
        How often A was squared: many if a pole is close to the boundary. Without convergence within
        `most`, less than 64, None in place of all three, as soon as that is seen.

    Raises
    ------
    UnstableError
        If 64 doublings do not converge: the spectral radius is one or more to working precision.

    References
    ----------
    Smith, "Matrix equation XA + BX = C", SIAM J. Appl. Math. 16 (1968); Penzl, "A cyclic low-rank
    Smith method for large sparse Lyapunov equations", SIAM J. Sci. Comput. 21 (2000).
    """
    xp = namespace(A)
    (S, s), (R, r) = scaled(B), scaled(H(C))
    S, R = lq_factor(S), lq_factor(R)
    for k in range(most):
        # Summed over all of A, so that NaN and Inf are seen as well
        size = xp.max(xp.sum(xp.abs(A), axis=(-2, -1))) if A.shape[-1] else 0.0
        if not size < HUGE:
            break
        AS, RA = A @ S, H(A) @ R
        if size < 1 and _negligible(AS, S) and _negligible(RA, R):
            return s * S, r * R, k
        if k == PROBE and most < 64 and not _decays(H(A), RA, most - 1 - k):
            return None
        noise = EPS * max(1.0, 2.0 ** (k - SAFE))  # the squares of A hold that much by now
        S, R, A = _joined(S, AS, noise), _joined(R, RA, noise), A @ A
    else:
        if most < 64:
            return None
    raise UnstableError(
        "the Gramian did not converge in 64 doublings: a pole lies on or beyond the stability "
        "boundary to working precision; remove it or move it inside"
    )


def _decays(A: Array, x: Array, doublings: int) -> bool:
    """Whether A^(2^doublings) x seems to be negligible, by the decay of the first few A^k x."""
    xp, norm = namespace(x), namespace(x).linalg.matrix_norm
    for _ in range(3):
        before, x = x, A @ x
    return bool(xp.all(norm(x) <= EPS**2.0**-doublings * norm(before)))


def scaled(B: Array) -> tuple[Array, Array]:
    """B by its largest entry, and that entry (..., 1, 1): squares neither overflow nor vanish."""
    xp = namespace(B)
    if 0 in B.shape[-2:]:
        return B, real(xp.ones((1, 1), dtype=B.dtype, device=device(B)))
    size = xp.max(xp.abs(B), axis=(-2, -1), keepdims=True)
    size = xp.where(size > 0, size, 1.0)
    return B / size, size


def _negligible(tail: Array, S: Array) -> bool:
    """Whether each row of the tail is below the rounding of that row of S."""
    xp = namespace(S)
    rows = xp.linalg.vector_norm(tail, axis=-1), xp.linalg.vector_norm(S, axis=-1)
    return bool(xp.all(rows[0] <= EPS * rows[1]))


def _joined(S: Array, tail: Array, noise: float) -> Array:
    """[S, tail] with few columns: square and triangular, or of less than full rank."""
    if S.shape[-1] + tail.shape[-1] < min(FEW, S.shape[-2]):
        return namespace(S).concat([S, tail], axis=-1)
    return trim(lq_join(S, tail), noise)


def trim(L: Array, noise: float) -> Array:
    """L without its last columns, if they are noise, relatively, in each of its rows.

    An LQ factorisation puts what is left of the rank there.
    """
    xp = namespace(L)
    size = noise * xp.linalg.vector_norm(L, axis=-1, keepdims=True)
    share = xp.abs(L) / xp.where(size > 0, size, 1.0)
    worst = to_numpy(xp.max(share, axis=tuple(range(L.ndim - 1))))
    return L[..., : np.count_nonzero(np.cumsum(worst[::-1]) > 1)]


def cauchy_factor(poles: Array, B: Array, discrete: bool) -> Array:
    """S with S S^H = P, P_ij = (B B^H)_ij / (1 - p_i conj(p_j)), or / -(p_i + conj(p_j)).

    Pivoted Cholesky of the Cauchy-like P on its generator B. With pivot k, and the row b_k rotated
    by a reflection into its first entry, the column of S is ``sqrt(d_k) b_i1 / d_ik`` and the Schur
    complement is again Cauchy-like, with ``b_i1 (p_i - p_k) / d_ik`` in place of ``b_i1``; here
    ``d_ik`` is the denominator above. These are the Takenaka-Malmquist functions of the poles. No
    two computed numbers are ever subtracted but in the reflections, so nothing cancels.

    Parameters
    ----------
    poles : array (..., n)
        Inside the stability region.
    B : array (..., n, m)
    discrete : bool

    Returns
    -------
    array (..., n, n), columns in order of the pivots

    References
    ----------
    Gohberg, Kailath, Olshevsky, "Fast Gaussian elimination with partial pivoting for matrices with
    displacement structure", Math. Comp. 64 (1995); Heuberger, Van den Hof, Wahlberg, "Modelling and
    Identification with Rational Orthogonal Basis Functions", Springer (2005), chapter 2.
    """
    if 0 in B.shape[-2:]:
        return B[..., :0]
    # NumPy is the quickest at many small steps, and shares the memory of other libraries on the CPU
    if on_host(B) and type(B) is not np.ndarray:
        return from_numpy(cauchy_factor(to_numpy(poles), to_numpy(B), discrete), like=B)
    G, size = scaled(B)
    own = gap(poles, discrete)
    S = _from_entries(G, poles, own, discrete) if B.shape[-2] <= MANY * B.shape[-1] else None
    if S is None:
        batch, G = poles.shape[:-1], lq_factor(G)
        G, poles, own = (x.reshape((-1, *x.shape[len(batch) :])) for x in (G, poles, own))
        S = _eliminate(G, poles, own, discrete)
        S = S.reshape((*batch, *S.shape[-2:]))
    return size * S


def _from_entries(G: Array, poles: Array, own: Array, discrete: bool) -> Array | None:
    """Cholesky factor of P, if its scaled rows are far from linearly dependent; else None.

    Many inputs make them so. An entry of P errs by eps in those units, so a singular value of S by
    no more than ``eps |K^-1|`` of itself, K being P in those units.
    """
    if G.shape[-2] <= FEW:
        return None
    xp, p = namespace(G), poles[..., None, :]
    G, top = _by_largest(G)
    unit = xp.sqrt(square_norms(G) / own)[..., None]
    G = G / xp.where(unit > 0, unit, 1.0)
    K = G @ H(G) / _between(poles[..., :, None] - p, p, own[..., None, :], discrete)
    L, inverse = cholesky(K)
    return top * unit * L if bool(xp.all(inverse < INDEPENDENT)) else None


def _eliminate(G: Array, poles: Array, own: Array, discrete: bool) -> Array:
    """The elimination itself, for a batch (b, n, m) in NumPy or torch; rows that are done are 0."""
    xp, (batch, n, m) = namespace(G), G.shape
    G = G * xp.ones_like(poles)[..., None]  # its own memory, complex if the poles are
    each = xp.arange(batch, device=device(G))
    done = 0 * own
    columns = []
    for _ in range(n):
        energy = square_norms(G) / own - done
        pivot = (each, energy.argmax(-1))
        p, d = poles[pivot][:, None], own[pivot][:, None]
        if m > 1:
            v, weight = _reflection(G[pivot][:, None, :])
            G -= (G @ H(v)) * weight @ v
        apart = poles - p
        first = G[:, :, 0] / _between(apart, p, d, discrete)
        columns.append(xp.sqrt(d) * first)
        G[:, :, 0] = first * apart
        G[pivot] = 0.0
        done[pivot] = 1.0
    return xp.stack(columns, axis=-1)


def _reflection(row: Array) -> tuple[Array, Array]:
    """v, w: the unitary I - w v^H v turns `row` (b, 1, m) into (-|row|, 0, ..., 0)."""
    xp = namespace(row)
    v, _ = _by_largest(row)  # a new array, whose squares do not vanish
    norm, size = xp.sqrt(square_norms(v))[..., None], xp.abs(v[..., :1])
    phase = xp.where(size > TINY, v[..., :1] / xp.where(size > TINY, size, 1.0), 1.0)
    v[..., :1] += phase * norm
    weight = norm * (norm + size)
    return v, 1 / xp.where(weight > 0, weight, 1.0)


def _by_largest(rows: Array) -> tuple[Array, Array]:
    """The rows (..., m) by their largest entries, and these (..., 1); 1 for a row of zeros."""
    xp = namespace(rows)
    top = xp.max(xp.abs(rows), axis=-1, keepdims=True)
    top = xp.where(top > TINY, top, 1.0)
    return rows / top, top


def _between(apart: Array, p: Array, d: Array, discrete: bool) -> Array:
    """1 - p_i conj(p), or -(p_i + conj(p)), from apart = p_i - p and d, its value for p_i = p.

    As exact as ``(1 - |p|^2) - (p_i - p) conj(p)`` is: as its small terms are.
    """
    return d - apart * conj(p) if discrete else d - apart


def gap(poles: Array, discrete: bool) -> Array:
    """1 - |p|^2, or -2 Re p: the denominator on the diagonal, without cancellation."""
    if not discrete:
        return -2 * real(poles)
    if not is_complex(poles):
        return (1 - poles) * (1 + poles)
    xp = namespace(poles)
    parts = xp.abs(xp.stack([xp.real(poles), xp.imag(poles)]))
    # Squares with their rounding errors (Dekker): near the circle 1 - a^2 - b^2 is exact, a >= b
    high = parts * (2.0**27 + 1)
    high = high - (high - parts)
    low, square = parts - high, parts**2
    error = (high**2 - square) + 2 * high * low + low**2
    return (1 - xp.max(square, axis=0)) - xp.min(square, axis=0) - xp.sum(error, axis=0)
