"""Gramians from Riccati equations: LQG, bounded-real, positive-real, stochastic balancing.

A solution X of a Riccati equation is also the Gramian of a system with more outputs, and its factor
is computed as such: small values keep their digits.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lti._backend.arrays import Array, to_numpy
from lti._backend.checks import no_derivative, positive
from lti.errors import DimensionError, OptionError
from lti.gramians.exact import balanced_units, double_factors
from lti.hankel import error_bound
from lti.norms import hinf_norm
from lti.reduction.gramian_pair import GramianPair
from lti.reduction.riccati_equation import stabilizing_solution
from lti.systems.algebra import dual, in_units
from lti.systems.statespace import StateSpace

__all__ = [
    "bounded_real_gramians",
    "lqg_gramians",
    "positive_real_gramians",
    "stochastic_gramians",
]

NO_ZEROS = "it needs G without zeros on the boundary"
LOST = (  # what is always there in theory
    "that of a stable system for LQG is lost to rounding here, as A is far from normal or badly "
    "scaled; reduce the system first (lti.balanced_truncation), or choose other Gramians"
)


def lqg_gramians(sys: StateSpace) -> GramianPair:
    """A^H Q + Q A + C^H C - (Q B + C^H D) (I + D^H D)^-1 (B^H Q + D^H C) = 0, and its dual for P.

    For ``balance(sys, gramians=lti.lqg_gramians)``: the states that matter least to a plant under
    LQG control are truncated. In discrete time the discrete Riccati equations.

    Parameters
    ----------
    sys : StateSpace
        A stable system; `balance` passes the stable part.

    Returns
    -------
    GramianPair
        Without a bound on ``G - G_r``, so that ``error_bound`` is infinite and a reduced system may
        be unstable. What is bounded are coprime factors, ``G = M^-1 N``: those of the original and
        of the reduced system differ by at most ``2 sum mu_i / sqrt(1 + mu_i^2)`` over the truncated
        values mu, those of ``hsv``.

    Raises
    ------
    OptionError
        If rounding leaves no stabilizing solution of the Riccati equation.

    References
    ----------
    Jonckheere, Silverman, "A new set of invariants for linear systems - application to reduced
    order compensator design", IEEE TAC 28 (1983); Meyer, "Fractional balanced reduction: model
    reduction via fractional representation", IEEE TAC 35 (1990).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(-np.diag([1.0, 2.0, 3.0]), np.ones((3, 1)), np.ones((1, 3)))
    >>> lti.balance(sys, gramians=lti.lqg_gramians).truncate(1).method
    'balanced truncation, Gramians LQG'
    """
    G, d = _on_host(sys)

    def factor(G: StateSpace) -> Array:
        A, B, C, D = G.matrices
        weight, cross = np.eye(G.n_inputs) + D.conj().T @ D, C.conj().T @ D
        X = stabilizing_solution(G, C.conj().T @ C, weight, cross, LOST)
        if G.is_discrete:
            F = np.linalg.solve(weight + B.conj().T @ X @ B, B.conj().T @ X @ A + cross.conj().T)
        else:
            F = np.linalg.solve(weight, B.conj().T @ X + cross.conj().T)
        # The cost of u = -F x
        return _observed(G, A - B @ F, np.concatenate([C - D @ F, F]))

    return _pair(d, factor(dual(G)), factor(G), name="LQG")


def bounded_real_gramians(sys: StateSpace, gamma: float = 1.0) -> GramianPair:
    """A^H Q + Q A + C^H C + (Q B + C^H D) (I - D^H D)^-1 (B^H Q + D^H C) = 0 of G / gamma.

    For ``balance(sys, gramians=lti.bounded_real_gramians)``: the reduced system of one with
    ``||G||_inf < gamma`` has a norm below `gamma` too. In discrete time the discrete Riccati
    equations.

    Parameters
    ----------
    sys : StateSpace
        A stable system; `balance` passes the stable part.
    gamma : float, optional
        The bound; ``functools.partial(lti.bounded_real_gramians, gamma=2.0)`` sets it.

    Returns
    -------
    GramianPair
        With the bound ``||G - G_r||_inf <= 2 gamma sum(distinct truncated values)``: P and Q are
        the Gramians of G / gamma with more inputs and outputs.

    Raises
    ------
    OptionError
        If the norm is not below `gamma`.

    References
    ----------
    Opdenacker, Jonckheere, "A contraction mapping preserving balanced reduction scheme and its
    infinity norm error bounds", IEEE Trans. Circuits and Systems 35 (1988).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(-np.diag([1.0, 2.0, 3.0]), np.ones((3, 1)), 0.4 * np.ones((1, 3)))
    >>> reduction = lti.balance(sys, gramians=lti.bounded_real_gramians).truncate(1)
    >>> bool(lti.hinf_norm(reduction.system) < 1), bool(reduction.verify() <= reduction.error_bound)
    (True, True)
    """
    positive("gamma", gamma)
    G, d = _on_host(sys)
    norm = float(hinf_norm(G))
    if norm >= gamma:
        raise OptionError(
            f"||G||_inf = {norm:.6g} is not below gamma={gamma:g}; raise gamma, or scale the system"
        )
    G = StateSpace(G.A, G.B / gamma**0.5, G.C / gamma**0.5, G.D / gamma, G.dt)

    def factor(G: StateSpace) -> Array:
        C, D = G.C, G.D
        weight = D.conj().T @ D - np.eye(G.n_inputs)
        return _extended(G, C, weight, C.conj().T @ D, f"it needs no gain of {gamma:g} or more")

    return _pair(
        d,
        factor(dual(G)),
        factor(G),
        name="bounded real",
        error_bounds=partial(_times, gamma),
    )


def positive_real_gramians(sys: StateSpace) -> GramianPair:
    """A^H Q + Q A + (C^H - Q B) (D + D^H)^-1 (C - B^H Q) = 0, and its dual for P.

    For ``balance(sys, gramians=lti.positive_real_gramians)``: the reduced system of a strictly
    passive one, ``G + G^H > 0`` at every frequency, is passive too. In discrete time the discrete
    Riccati equations.

    Parameters
    ----------
    sys : StateSpace
        A stable square system; `balance` passes the stable part.

    Returns
    -------
    GramianPair
        With a bound: ``(D^H + G)^-1`` changes by at most
        ``e = 2 |(D + D^H)^-1| sum(distinct truncated values)``, hence G by at most
        ``g^2 e / (1 - g e)``, ``g = ||D^H + G||_inf``, where ``g e < 1``; infinite elsewhere.

    Raises
    ------
    DimensionError
        If the system is not square.
    OptionError
        If it is not strictly passive.

    References
    ----------
    Gugercin, Antoulas, "A survey of model reduction by balanced truncation and some new results",
    Int. J. Control 77 (2004), section 5.

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(-np.diag([1.0, 2.0, 3.0]), np.ones((3, 1)), np.ones((1, 3)), [[1.0]])
    >>> reduction = lti.balance(sys, gramians=lti.positive_real_gramians).truncate(1)
    >>> bool(reduction.verify() <= reduction.error_bound)
    True
    """
    G, d = _on_host(sys)
    if G.n_inputs != G.n_outputs:
        raise DimensionError(
            "a passive system has as many inputs as outputs, got "
            f"{G.n_inputs} and {G.n_outputs}; use the bounded-real Gramians of its scattering form"
        )
    delta = G.D + G.D.conj().T
    lowest = np.linalg.eigvalsh(delta).min(initial=np.inf)
    if lowest <= 0:
        raise OptionError(
            f"D + D^H has the eigenvalue {lowest:.3g}, but a strictly passive system has positive "
            "ones; add a small feedthrough"
        )

    def factor(G: StateSpace) -> Array:
        return _extended(G, G.C[:0], -(G.D + G.D.conj().T), -G.C.conj().T, "it needs G + G^H > 0")

    gain = float(hinf_norm(StateSpace(G.A, G.B, G.C, delta, G.dt)))
    return _pair(
        d,
        factor(dual(G)),
        factor(G),
        name="positive real",
        error_bounds=partial(_of_inverse, gain, 1 / float(lowest)),
    )


def stochastic_gramians(sys: StateSpace) -> GramianPair:
    """A^H Q + Q A + (C - B_W^H Q)^H (D D^H)^-1 (C - B_W^H Q) = 0, B_W = P C^H + B D^H; P exact.

    For ``balance(sys, gramians=lti.stochastic_gramians)``: the relative error is kept small, at
    every frequency in proportion to G there (balanced stochastic truncation). Values lie in
    [0, 1], one for every zero that is not stable. In discrete time the discrete Riccati equation,
    with ``B_W = A P C^H + B D^H`` and ``C P C^H + D D^H``.

    Parameters
    ----------
    sys : StateSpace
        A stable system with D of full row rank; `balance` passes the stable part.

    Returns
    -------
    GramianPair
        The error is weighted by ``V^-1``, V the minimum-phase spectral factor,
        ``V V^H = G G^H`` at every frequency: of a square system its norm is that of
        ``G^-1 (G - G_r)``. In continuous time it is at most
        ``prod (1 + sigma_i) / (1 - sigma_i) - 1`` over the truncated values. In discrete time that
        holds of singular perturbation, which the bilinear map keeps; of truncation, which it does
        not, no bound is claimed, and `Reduction.verify` measures the error.

    Raises
    ------
    OptionError
        If D has no full row rank, or G a zero on the stability boundary.

    References
    ----------
    Desai, Pal, "A transformation approach to stochastic model reduction", IEEE TAC 29 (1984);
    Green, "A relative error bound for balanced stochastic truncation", IEEE TAC 33 (1988).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(-np.diag([1.0, 2.0, 3.0]), np.ones((3, 1)), np.ones((1, 3)), [[0.1]])
    >>> reduction = lti.balance(sys, gramians=lti.stochastic_gramians).truncate(1)
    >>> bool(reduction.verify() <= reduction.error_bound)
    True
    """
    G, d = _on_host(sys)
    A, B, C, D = G.matrices
    gains = np.linalg.svd(D, compute_uv=False)
    if G.n_outputs > G.n_inputs or gains.min(initial=1.0) <= 1e-14 * gains.max(initial=1.0):
        raise OptionError(
            "stochastic balancing needs a D of full row rank, or the relative error is infinite at "
            "high frequencies; add a small feedthrough, and reduce the dual of a system with more "
            "outputs than inputs"
        )
    S, _ = double_factors(StateSpace(A, B, C[:0], None, G.dt))
    CS = C @ S
    power, B_W = D @ D.conj().T, S @ CS.conj().T + B @ D.conj().T
    if G.is_discrete:
        power, B_W = power + CS @ CS.conj().T, A @ S @ CS.conj().T + B @ D.conj().T
    phase = StateSpace(A, B_W, C, power / 2, G.dt)  # G G~ = phase + phase~
    R = _extended(phase, C[:0], -power, -C.conj().T, NO_ZEROS)
    return _pair(
        d,
        S,
        R,
        name="stochastic",
        error_bounds=None if G.is_discrete else _relative_bounds,
        residual_bounds=_relative_bounds,
        weights=(_inverse_factor(phase, power), None),
        of_system=(True, False),
    )


def _inverse_factor(phase: StateSpace, power: Array) -> StateSpace:
    """V^-1 of the minimum-phase V = (A, B_V, C, D_V) with V V~ = phase + phase~."""
    A, B_W, C, _ = phase.matrices
    flipped, discrete = dual(phase), phase.is_discrete
    X = stabilizing_solution(flipped, 0 * A, -power, -B_W, NO_ZEROS)
    rest = power - C @ X @ C.conj().T if discrete else power
    K = B_W - (A @ X if discrete else X) @ C.conj().T
    D_V = np.linalg.cholesky(rest)
    inverse = np.linalg.inv(D_V)
    B_V = K @ np.linalg.inv(rest)  # times D_V^-1 already
    return StateSpace(A - B_V @ C, B_V, -inverse @ C, inverse, phase.dt)


def _times(gamma: float, sigma: Array) -> Array:
    return gamma * error_bound(sigma)


def _of_inverse(gain: float, inverse: float, sigma: Array) -> Array:
    """g^2 e / (1 - g e), infinite where g e >= 1."""
    e = inverse * to_numpy(error_bound(sigma))
    inside = gain * e < 1
    return np.where(inside, gain**2 * e / np.where(inside, 1 - gain * e, 1.0), np.inf)


def _relative_bounds(sigma: Array) -> Array:
    """prod (1 + sigma) / (1 - sigma) - 1 of the truncated values, infinite from sigma = 1 on."""
    sigma = to_numpy(sigma)
    below = sigma < 1 - 1e-12
    with np.errstate(divide="ignore"):
        steps = np.where(below, np.log1p(sigma) - np.log1p(-np.where(below, sigma, 0.0)), np.inf)
    tails = np.cumsum(steps[..., ::-1], axis=-1)[..., ::-1]
    return np.concatenate([np.expm1(tails), np.zeros((*sigma.shape[:-1], 1))], axis=-1)


def _pair(d: np.ndarray, S: Array, R: Array, **about: Any) -> GramianPair:
    """The pair of factors in the units d, in those of the system."""
    return GramianPair(S=d[:, None] * S, R=R / d[:, None], **about)


def _on_host(sys: StateSpace) -> tuple[StateSpace, np.ndarray]:
    """A single system as NumPy arrays in double precision, in units d of its own, and d."""
    if sys.batch_shape:
        raise DimensionError(
            f"Riccati equations are solved for one system, got a batch of shape {sys.batch_shape}; "
            "balance each of them"
        )
    no_derivative("a solution of Riccati equations has", *sys.matrices)
    A, B, C, D = (to_numpy(x) for x in sys.double().to_dense().matrices)
    G = StateSpace(A, B, C, D, sys.dt)
    d = balanced_units(G)
    return in_units(G, d), d


def _extended(G: StateSpace, C: Array, R: Array, S: Array, need: str) -> Array:
    """The factor of X, R < 0: A^H X + X A + C^H C + L^H L = 0 with the outputs L as well."""
    X = stabilizing_solution(G, C.conj().T @ C, R, S, need)
    BX = G.B.conj().T @ X
    if G.is_discrete:
        R, BX = R + BX @ G.B, BX @ G.A
    try:
        L = np.linalg.solve(np.linalg.cholesky(-R), BX + S.conj().T)
    except np.linalg.LinAlgError as error:
        raise OptionError(
            f"the solution of the Riccati equation is not positive ({error}): {need}"
        ) from error
    return _observed(G, G.A, np.concatenate([C, L]))


def _observed(G: StateSpace, A: Array, C: Array) -> Array:
    """The factor of the observability Gramian of (A, C)."""
    return double_factors(StateSpace(A, G.B[:, :0], C, None, G.dt))[1]
