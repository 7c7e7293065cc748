"""Norms of a system: H2, H-infinity, Hankel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lti._array import Array, device, from_numpy, namespace, narrow, to_numpy
from lti.discretize import optimal_shift, to_continuous, to_discrete
from lti.gramians import double_factors
from lti.hankel import hankel_singular_values
from lti.interop import as_statespace
from lti.response import transfer_function
from lti.system import DiagonalStateSpace, StateSpace, System, difference, require_stable

__all__ = ["h2_norm", "hankel_norm", "hinf_norm"]


def h2_norm(sys: System) -> Array:
    """||G||_2 = |C S|_F, P = S S^H; in discrete time sqrt(|C S|_F^2 + |D|_F^2).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system.

    Returns
    -------
    array (...)
        Real; infinite for a continuous system with ``D != 0``.

    Raises
    ------
    UnstableError
        If a pole is not stable.

    References
    ----------
    Zhou, Doyle, Glover, "Robust and Optimal Control", Prentice Hall (1996), section 4.6.

    Examples
    --------
    >>> import lti
    >>> round(float(lti.h2_norm(([[0.99999]], [[1.0]], [[1.0]], None, True))), 3)
    223.608
    """
    sys = as_statespace(sys)
    S, _ = double_factors(sys)
    dense = sys.double().to_dense()
    xp = namespace(S)
    inner = xp.linalg.matrix_norm(dense.C @ S)
    feed = xp.linalg.matrix_norm(dense.D)
    if sys.is_discrete:
        norm = xp.sqrt(inner**2 + feed**2)
    else:
        norm = xp.where(feed > 0, float("inf"), inner)
    return narrow(norm, like=sys.B)


def hankel_norm(sys: System) -> Array:
    """||G||_H = sigma_1, the largest Hankel singular value.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system.

    Returns
    -------
    array (...)

    Raises
    ------
    UnstableError
        If a pole is not stable.

    Examples
    --------
    >>> import lti
    >>> float(lti.hankel_norm(([[-1.0]], [[4.0]], [[1.0]])))
    2.0
    """
    sigma = hankel_singular_values(sys)
    xp = namespace(sigma)
    if sigma.shape[-1] == 0:
        return xp.zeros(sigma.shape[:-1], dtype=sigma.dtype, device=device(sigma))
    return sigma[..., 0]


def hinf_norm(sys: System, tol: float = 1e-9) -> Array:
    """||G||_inf = sup over w of the largest singular value of G(j w), or G(e^{j w}).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system.
    tol : float, optional
        Relative accuracy: the norm lies between the result and ``(1 + tol)`` times the result.

    Returns
    -------
    array (...)
        A gain that the system attains.

    Raises
    ------
    UnstableError
        If a pole is not stable.

    Notes
    -----
    Level sets: for a level ``g`` above every gain found so far, the imaginary eigenvalues of a
    Hamiltonian matrix are the frequencies where a singular value crosses ``g``; gains halfway
    between them give the next level, until there are none. A suspected eigenvalue costs one more
    evaluation and can do no harm. The work is done on the host in double precision.

    References
    ----------
    Bruinsma, Steinbuch, "A fast algorithm to compute the H-infinity norm of a transfer function
    matrix", Systems & Control Letters 14 (1990); Boyd, Balakrishnan, Systems & Control Letters 15
    (1990).

    Examples
    --------
    >>> import lti
    >>> round(float(lti.hinf_norm(([[0.99999]], [[1.0]], [[1.0]], None, True))), 3)
    100000.0
    """
    return peak_gain(as_statespace(sys), None, tol)


def peak_gain(G: System, F: System | None, tol: float) -> Array:
    """`hinf_norm` of G - F, with the two responses evaluated apart; of G if F is None."""
    like = G.B
    G, F = _on_host(G), None if F is None else _on_host(F)
    require_stable(G)
    if F is not None:
        require_stable(F)
    values = [
        _peak(_member(G, i), None if F is None else _member(F, i), tol)
        for i in np.ndindex(G.batch_shape)
    ]
    return narrow(from_numpy(np.array(values).reshape(G.batch_shape), like), like)


def _on_host(sys: System) -> System:
    """A NumPy copy of `sys` in double precision."""
    B, C, D = (to_numpy(x) for x in (sys.B, sys.C, sys.D))
    if isinstance(sys, DiagonalStateSpace):
        poles = to_numpy(sys.poles)
        return DiagonalStateSpace(poles, B, C, D, sys.dt, sys.conjugate).double()
    return StateSpace(to_numpy(sys.A), B, C, D, sys.dt).double()


def _member(sys: System, i: tuple[int, ...]) -> System:
    if isinstance(sys, DiagonalStateSpace):
        return DiagonalStateSpace(sys.poles[i], sys.B[i], sys.C[i], sys.D[i], sys.dt, sys.conjugate)
    return StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], sys.dt)


def _peak(G: System, F: System | None, tol: float) -> float:
    """The largest gain of one NumPy system G - F over all frequencies."""
    error = G.to_dense() if F is None else difference(G, F)
    if 0 in (error.n_inputs, error.n_outputs):
        return 0.0

    def gains(s: np.ndarray) -> np.ndarray:
        response = transfer_function(G, s)
        if F is not None:
            response = response - transfer_function(F, s)
        return np.linalg.norm(response, ord=2, axis=(-2, -1))

    poles = error.poles
    if G.is_discrete:
        start, level = np.exp(1j * np.concatenate([np.angle(poles), [0.0, np.pi]])), 0.0
    else:
        start = 1j * np.concatenate([poles.imag, np.abs(poles), -np.abs(poles), [0.0]])
        level = float(np.linalg.norm(error.D, ord=2))
    level = max(level, float(gains(start).max()))
    if level == 0 or not np.isfinite(level) or error.order == 0:
        return level
    line, points = _on_the_line(error, level)
    for _ in range(100):
        crossings = _crossings(line, level * (1 + tol))
        middle = (crossings[1:] + crossings[:-1]) / 2
        found = float(gains(points(np.concatenate([crossings, middle]))).max(initial=0.0))
        if found <= level * (1 + tol):
            return max(level, found)
        level = found
    return level


def _on_the_line(sys: StateSpace, level: float) -> tuple[StateSpace, Callable]:
    """A continuous system with the gains of `sys`, and the map from its frequencies w to s or z.

    Its gain at infinity must be well below `level`, or the Hamiltonian has no digits left. The
    bilinear map and a rotation of the circle keep every gain, and put another point there.
    """
    if not sys.is_discrete and np.linalg.norm(sys.D, ord=2) < 0.5 * level:
        return sys, lambda w: 1j * w
    a = 1.0 if sys.is_discrete else float(optimal_shift(sys.poles).squeeze())
    circle = sys if sys.is_discrete else to_discrete(sys, a)
    turns = np.exp(1j * np.pi * np.arange(16) / 8)
    gain = np.linalg.norm(transfer_function(circle, -turns), ord=2, axis=(-2, -1))
    distance = np.abs(circle.poles[:, None] + turns).min(axis=0)
    best = np.argmax((level - gain) * distance)
    turn = turns[best] if best % 8 else turns[best].real  # real systems stay real
    line = to_continuous(
        StateSpace(circle.A / turn, circle.B / turn, circle.C, circle.D, True), 1.0
    )

    def points(w: np.ndarray) -> np.ndarray:
        z = turn * (1 + 1j * w) / (1 - 1j * w)
        if sys.is_discrete:
            return z
        z = z[z != -1]  # infinity, whose gain is known
        return a * (z - 1) / (z + 1)

    return line, points


def _crossings(sys: StateSpace, level: float) -> np.ndarray:
    """Frequencies w, ascending, where a singular value of G(j w) may equal `level` (> |D|)."""
    B, C, D = sys.B, sys.C / level, sys.D / level
    R = np.eye(sys.n_inputs) - D.conj().T @ D
    S = np.eye(sys.n_outputs) - D @ D.conj().T
    A = sys.A + B @ np.linalg.solve(R, D.conj().T @ C)
    hamiltonian = np.block(
        [
            [A, B @ np.linalg.solve(R, B.conj().T)],
            [-C.conj().T @ np.linalg.solve(S, C), -A.conj().T],
        ]
    )
    values = np.linalg.eigvals(hamiltonian)
    size = np.abs(values)
    near = np.abs(values.real) <= 1e-4 * size + 1e-7 * size.max()
    return np.unique(values.imag[near])
