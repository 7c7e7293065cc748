"""Frequency weights: Gramians of G W_i and W_o G, seen from the states of G."""

from __future__ import annotations

from collections.abc import Callable

from lti._backend.arrays import Array, H, lq_factor, namespace
from lti.systems.operators import product
from lti.systems.statespace import StateSpace

__all__ = ["modified_input", "weighted_factor"]

EPS = 2.0**-52


def weighted_factor(
    G: StateSpace,
    weight: StateSpace,
    rule: str,
    gramians: Callable[[StateSpace], tuple[Array, Array]],
) -> Array:
    """P_11 of G W (Enns), or P_11 - P_12 P_22^-1 P_21 (Lin, Chiu), as a factor.

    The factor of G W has rows S_1 of the states of G and S_2 of those of W. Enns's Gramian is
    ``S_1 S_1^H``; the Schur complement of Lin and Chiu is what S_1 has beyond the row space of S_2.

    Parameters
    ----------
    G : StateSpace
        Stable, in double precision, of n states.
    weight : StateSpace
        Stable, in double precision, with as many outputs as G has inputs.
    rule : "enns", "lin-chiu" or "wang"
        The rule of Wang starts from Enns's Gramian: see `modified_input`.
    gramians : callable
        Both factors of a system: exact, or limited to bands or windows.

    Returns
    -------
    array (..., n, k)

    References
    ----------
    Enns, "Model reduction with balanced realizations: an error bound and a frequency weighted
    generalization", CDC (1984); Lin, Chiu, "Model reduction via frequency weighted balanced
    realization", Control Theory and Advanced Technology 8 (1992).
    """
    blind = StateSpace(G.A, G.B, G.C[..., :0, :], None, G.dt)  # no outputs, so no work for R
    S, _ = gramians(product(blind, weight))
    xp, n = namespace(S), G.order
    S_1, S_2 = S[..., :n, :], S[..., n:, :]
    if rule == "lin-chiu":
        # In units of the states of the weight in which each has the same size
        size = xp.max(xp.abs(S_2), axis=-1, keepdims=True) if S_2.shape[-1] else S_2
        S_2 = S_2 / xp.where(size > 0, size, 1.0)
        _, sigma, V = xp.linalg.svd(S_2, full_matrices=False)
        top = xp.max(sigma, axis=-1, keepdims=True) if sigma.shape[-1] else sigma
        V = xp.where((sigma > S.shape[-2] * EPS * top)[..., None], V, 0.0)
        S_1 = S_1 - (S_1 @ H(V)) @ V
    return lq_factor(S_1)


def modified_input(G: StateSpace, S: Array) -> tuple[Array, Array]:
    """B_e = U |M|^1/2 with M = -(A P + P A^H), or P - A P A^H, P = S S^H; and J with B = B_e J.

    The Gramian of (A, B_e) takes the place of P: it is that of a system, so that truncation is
    stable and has a bound. ``M = U diag(lambda) U^H``; values at zero are lifted to rounding.

    Parameters
    ----------
    G : StateSpace
        Stable, in double precision, of n states and m inputs.
    S : array (..., n, k)
        Factor of any positive semidefinite P.

    Returns
    -------
    B_e, J : array (..., n, n), array (..., n, m)

    References
    ----------
    Wang, Sreeram, Liu, "A new frequency-weighted balanced truncation method and an error bound",
    IEEE TAC 44 (1999); Gugercin, Antoulas, "A survey of model reduction by balanced truncation and
    some new results", Int. J. Control 77 (2004), sections 4.2, 4.3, for limited Gramians.
    """
    xp, AS = namespace(S), G.A @ S
    M = S @ H(S) - AS @ H(AS) if G.is_discrete else -(AS @ H(S) + S @ H(AS))
    values, U = xp.linalg.eigh((M + H(M)) / 2)
    size = xp.abs(values)
    floor = G.order * EPS * xp.max(size, axis=-1, keepdims=True)
    root = xp.sqrt(xp.where(size > floor, size, xp.where(floor > 0, floor, 1.0)))
    return U * root[..., None, :], (H(U) @ G.B) / root[..., :, None]
