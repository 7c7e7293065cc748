"""Gramians of diagonal systems, P_ij = (B B^H)_ij / (1 - p_i conj(p_j)), and their square roots."""

from __future__ import annotations

from lti._backend.arrays import Array, H, conj, device, is_complex, lq_factor, namespace, real
from lti.gramians.lyapunov import cauchy_factor
from lti.systems.stability import require_stable
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["closed_forms", "diagonal_factors", "in_real_coordinates"]


def closed_forms(sys: DiagonalStateSpace) -> tuple[Array, Array]:
    """P and Q from their entries, with all derivatives but less accurate than from factors."""
    return _closed_form(sys), (4 if sys.conjugate else 1) * _closed_form(_dual(sys))


def _closed_form(sys: DiagonalStateSpace) -> Array:
    """P_ij = (B B^H)_ij / (1 - p_i conj(p_j)), or / -(p_i + conj(p_j)), in real coordinates."""
    closed = sys.closed()
    p, q = closed.poles[..., :, None], conj(closed.poles)[..., None, :]
    P = closed.B @ H(closed.B) / (1 - p * q if sys.is_discrete else -p - q)
    if not sys.conjugate:
        return P
    xp, n = namespace(P), sys.poles.shape[-1]
    x, y = P[..., :n, :], P[..., n:, :]  # rows of the modes and of their mirrors
    P = xp.concat([(x + y) / 2, (x - y) / 2j], axis=-2)
    x, y = P[..., :, :n], P[..., :, n:]
    return real(xp.concat([(x + y) / 2, (x - y) / -2j], axis=-1))


def _dual(sys: DiagonalStateSpace) -> DiagonalStateSpace:
    """(A^H, C^H, B^H): its controllability Gramian is Q (in real coordinates Q / 4)."""
    return DiagonalStateSpace(conj(sys.poles), H(sys.C), H(sys.B), None, sys.dt, sys.conjugate)


def diagonal_factors(sys: DiagonalStateSpace) -> tuple[Array, Array]:
    """S and R of a diagonal system; real, for the state [Re x, Im x], if `conjugate`."""
    require_stable(sys)
    closed, n = sys.closed(), sys.poles.shape[-1]
    xp, p, B, C = namespace(closed.poles), closed.poles, closed.B, H(closed.C)
    wide = max(B.shape[-1], C.shape[-1])
    # R is S of the dual system
    if 0 == min(B.shape[-1], C.shape[-1]) < wide:
        S, R = (
            cauchy_factor(q, x, sys.is_discrete) if x.shape[-1] else _wider(x, p.shape[-1])
            for q, x in ((p, B), (conj(p), C))
        )
    else:  # one loop over the pivots for both
        ports = xp.stack([_wider(B, wide), _wider(C, wide)])
        both = cauchy_factor(xp.stack([p, conj(p)]), ports, sys.is_discrete)
        S, R = both[0, ...], both[1, ...]
    if not sys.conjugate:
        return S, R
    return in_real_coordinates(S, n), 2 * in_real_coordinates(R, n)


def _wider(x: Array, width: int) -> Array:
    """x (..., n, m) with columns of zeros up to `width`."""
    xp, missing = namespace(x), width - x.shape[-1]
    zeros = xp.zeros((*x.shape[:-1], missing), dtype=x.dtype, device=device(x))
    return xp.concat([x, zeros], axis=-1) if missing else x


def in_real_coordinates(S: Array, n: int) -> Array:
    """A factor for the state [Re x, Im x] from one for [x, conj x], of n stored modes."""
    xp, x, mirror = namespace(S), S[..., :n, :], S[..., n:, :]
    S = xp.concat([(x + mirror) / 2, (x - mirror) / 2j], axis=-2)
    # S S^H is real, so it is (Re S)(Re S)^T + (Im S)(Im S)^T
    return lq_factor(xp.concat([xp.real(S), xp.imag(S)], axis=-1)) if is_complex(S) else S
