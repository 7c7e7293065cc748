"""Norms of a system: H2, H-infinity, L-infinity, Hankel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    conj,
    device,
    from_numpy,
    namespace,
    narrow,
    real,
    torch_backend,
    tracked,
)
from lti._backend.checks import positive
from lti._backend.shifts import optimal_shift
from lti._renamed import renamed
from lti.gramians.exact import exact_factors, squares
from lti.hankel import hankel_singular_values
from lti.systems.algebra import host_copy, member, state_scaling
from lti.systems.convert import as_statespace
from lti.systems.discretize import to_continuous, to_discrete
from lti.systems.operators import difference
from lti.systems.protocol import System, SystemLike
from lti.systems.response import transfer_function
from lti.systems.stability import require_stable
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["h2_norm", "hankel_norm", "hinf_norm", "linf_norm"]

EPS = 2.0**-52
Peak = tuple[float, float]  # a gain, and its frequency


def h2_norm(sys: SystemLike) -> Array:
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
        If a pole is unstable.

    References
    ----------
    Zhou, Doyle, Glover, "Robust and Optimal Control", Prentice Hall (1996), section 4.6.

    Examples
    --------
    >>> import lti
    >>> round(float(lti.h2_norm(([[0.99999]], [[1.0]], [[1.0]], None, True))), 3)
    223.607
    """
    sys = as_statespace(sys)
    double = sys.double()
    found = exact_factors(double)
    dense, xp = double.to_dense(), namespace(found.S)
    inner = xp.linalg.matrix_norm(found.system.to_dense().C @ found.S)
    if tracked(*double.matrices):  # |C S|^2 = tr(C P C^H)
        P, _ = squares(double, found.S, found.R)
        square = real(xp.sum(dense.C @ P * conj(dense.C), axis=(-2, -1)))
        inner = torch_backend().attach(inner, _root(square))
    feed = xp.linalg.matrix_norm(dense.D)
    if sys.is_discrete:
        norm = _root(inner**2 + feed**2)
    else:
        norm = xp.where(feed > 0, float("inf"), inner)
    return narrow(norm, like=sys.B)


def hankel_norm(sys: SystemLike) -> Array:
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
        If a pole is unstable.

    Examples
    --------
    >>> import lti
    >>> round(float(lti.hankel_norm(([[-1.0]], [[4.0]], [[1.0]]))), 9)
    2.0
    """
    sigma = hankel_singular_values(sys)
    xp = namespace(sigma)
    if sigma.shape[-1] == 0:
        return xp.zeros(sigma.shape[:-1], dtype=sigma.dtype, device=device(sigma))
    return sigma[..., 0]


def _root(x: Array) -> Array:
    """sqrt(x), whose derivative at zero is zero."""
    xp = namespace(x)
    return xp.where(x > 0, xp.sqrt(xp.where(x > 0, x, 1.0)), 0.0)


@renamed(tol="rtol")
def hinf_norm(
    sys: SystemLike, rtol: float = 1e-9, *, return_frequency: bool = False
) -> Array | tuple[Array, Array]:
    """||G||_inf = sup over w of the largest singular value of G(j w), or G(e^{j w}).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A stable system.
    rtol : float, optional
        Relative accuracy, above zero: the norm lies between the result and ``(1 + rtol)`` times
        the result.
    return_frequency : bool, optional
        Also return where the gain is attained.

    Returns
    -------
    norm : array (...)
        A gain that the system attains.
    w : array (...)
        Only with `return_frequency`: where, in rad per unit of time (rad per sample if ``dt`` is
        True), from zero on if the system is real; infinite if the gain is that of D.

    Raises
    ------
    UnstableError
        If a pole is unstable.

    Notes
    -----
    Level sets: for a level ``g`` above every gain found so far, the imaginary eigenvalues of a
    Hamiltonian matrix are the frequencies where a singular value crosses ``g``; a climb from the
    largest gain at and between them gives the next level, until there are none. A suspected
    eigenvalue costs one more evaluation and can do no harm. The work is done on the host in double
    precision.

    References
    ----------
    Bruinsma, Steinbuch, "A fast algorithm to compute the H-infinity norm of a transfer function
    matrix", Systems & Control Letters 14 (1990); Benner, Mitchell, "Faster and more accurate
    computation of the H-infinity norm via optimization", SIAM J. Sci. Comput. 40 (2018).

    Examples
    --------
    >>> import lti
    >>> round(float(lti.hinf_norm(([[0.99999]], [[1.0]], [[1.0]], None, True))), 3)
    100000.0
    >>> gain, w = lti.hinf_norm(([[0, 1], [-1, -0.1]], [[0], [1]], [[1, 0]]), return_frequency=True)
    >>> round(float(gain), 4), round(float(w), 4)
    (10.0125, 0.9975)
    """
    positive("rtol", rtol)
    gain, w = peak(as_statespace(sys), None, rtol)
    return (gain, w) if return_frequency else gain


@renamed(tol="rtol")
def linf_norm(sys: SystemLike, rtol: float = 1e-9) -> Array:
    """||G||_Linf = sup over w of the largest singular value of G(j w), or G(e^{j w}), G unstable.

    Of a stable system it is the H-infinity norm. Of another it is no bound on what the output can
    be: it compares transfer functions on the stability boundary.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Its poles may lie anywhere.
    rtol : float, optional
        As in `hinf_norm`.

    Returns
    -------
    array (...)
        Infinite if a pole lies on the boundary to working precision, even one that no input reaches
        or no output sees.

    See Also
    --------
    hinf_norm

    Examples
    --------
    >>> import lti
    >>> unstable = lti.StateSpace([[2.0]], [[1.0]], [[3.0]])
    >>> round(float(lti.linf_norm(unstable)), 9)
    1.5
    >>> float(lti.linf_norm(([[0.0]], [[1.0]], [[1.0]])))
    inf
    """
    sys = as_statespace(sys)
    positive("rtol", rtol)
    G = host_copy(sys)
    return _stacked(lambda i: _peak_or_pole(member(G, i), rtol), G.batch_shape, like=sys.B)[0]


def _peak_or_pole(G: System, rtol: float) -> Peak:
    """`_peak` of a system that may have poles on the boundary: infinite there."""
    size = np.abs(G.poles)
    gap, slack = (np.abs(size - 1), 1.0) if G.is_discrete else (np.abs(G.poles.real), size)
    if not isinstance(G, DiagonalStateSpace):  # rounding moves a pole in proportion to all of A
        d = state_scaling(G)
        slack = slack + G.order * np.linalg.norm(G.A / d[:, None] * d)
    if (gap <= 4 * EPS * slack).any():
        return float("inf"), float("nan")
    return _peak(G, None, rtol)


def peak_gain(G: System, F: System | None, rtol: float) -> Array:
    """`hinf_norm` of G - F, with the two responses evaluated apart; of G if F is None."""
    return peak(G, F, rtol)[0]


def peak(G: System, F: System | None, rtol: float) -> tuple[Array, Array]:
    """`peak_gain`, and the frequency at which it is attained."""
    like = G.B
    G, F = host_copy(G), None if F is None else host_copy(F)
    for sys in (G, F) if F else (G,):
        require_stable(sys)

    def member_peak(i: tuple[int, ...]) -> Peak:
        return _peak(member(G, i), None if F is None else member(F, i), rtol)

    return _stacked(member_peak, G.batch_shape, like)


def _stacked(value: Callable[..., Peak], batch: Any, like: Array) -> tuple[Array, Array]:
    """value(i) of each system i of a batch, in the library and precision of `like`."""
    pairs = np.array([value(i) for i in np.ndindex(batch)]).reshape(-1, 2)
    gains, w = (narrow(from_numpy(x.reshape(batch), like), like) for x in pairs.T)
    return gains, w


def _peak(G: System, F: System | None, rtol: float) -> Peak:
    """The largest gain of one NumPy system G - F over all frequencies, and its frequency."""
    if 0 in (G.n_inputs, G.n_outputs):
        return 0.0, 0.0
    is_real, dt = not any(np.iscomplexobj(x.to_dense().A) for x in (G, F) if x), G.dt
    G, F, size = _modest(G, F)
    gain, t = _peak_of_modest(G, F, rtol)
    if G.is_discrete:
        t = (t + np.pi) % (2 * np.pi) - np.pi
    return size * gain, (abs(t) if is_real else t) / (1.0 if dt is True else dt or 1.0)


def _modest(G: System, F: System | None) -> tuple[System, System | None, float]:
    """Both scaled to entries of at most one in B, C and D, and the gain that this took out."""

    def top(x: np.ndarray) -> float:
        return float(np.abs(x).max(initial=0.0)) or 1.0

    systems = [x for x in (G, F) if x is not None]
    with np.errstate(over="ignore"):
        sizes = [top(x.B) * top(x.C) for x in systems]
        sizes += [top(x.D) for x in systems if x.D.any()]
    size = min(max(sizes), 1e300)

    def scaled(x: System) -> System:
        b, c = top(x.B), top(x.C)
        return replace(x, B=x.B / b, C=(x.C / c) * (b / size * c), D=x.D / size)

    return scaled(G), None if F is None else scaled(F), size


def _peak_of_modest(G: System, F: System | None, rtol: float) -> Peak:
    """A frequency t stands for s = j t, in discrete time for z = e^{j t}."""
    error = G.to_dense() if F is None else difference(G, F)
    d = state_scaling(error)
    error = replace(error, A=error.A / d[:, None] * d, B=error.B / d[:, None], C=error.C * d)
    if F is not None:  # what is equal in the two leaves no rounding
        G, F = replace(G, D=error.D), replace(F, D=0 * F.D)
    poles = error.poles

    def boundary(t: Any) -> Any:
        return np.exp(1j * t) if G.is_discrete else 1j * t

    def gains(t: np.ndarray) -> np.ndarray:
        response = transfer_function(G, boundary(t))
        if F is not None:
            response = response - transfer_function(F, boundary(t))
        return np.linalg.norm(response, ord=2, axis=(-2, -1))

    def climb(t: float) -> Peak:
        """The local maximum near t, by parabolas through ever closer points."""
        best, step = (0.0, t), 0.1 * np.abs(boundary(t) - poles).min(initial=1.0)
        for _ in range(6):
            near = t + step * np.array([-1.0, 0.0, 1.0])
            found = gains(near)
            low, here, high = found
            best = max(best, (found.max(), near[found.argmax()]))
            bend = low - 2 * here + high
            move = (low - high) / (2 * bend) if bend < 0 else np.sign(high - low)
            t, step = t + step * np.clip(move, -1, 1), step / 4
        return max(best, (gains(np.array([t]))[0], t))

    if G.is_discrete:
        turns = np.pi * np.arange(16) / 8  # those of _on_the_line, so that their gains are below
        start, level = np.concatenate([np.angle(poles), turns, turns + 0.1]), (0.0, 0.0)
    else:
        start = np.concatenate([poles.imag, np.abs(poles), -np.abs(poles), [0.0]])
        level = float(np.linalg.norm(error.D, ord=2)), np.inf
    best = max(level, climb(start[np.argmax(gains(start))]))
    level = best[0]
    if level < 1e-300 or not np.isfinite(level) or error.order == 0:
        return best
    line, place = _on_the_line(error, level)
    if np.linalg.norm(line.D, ord=2) >= level:
        return best  # constant to rounding
    for _ in range(100):
        crossings = _crossings(line, level * (1 + rtol))
        t = place(np.concatenate([crossings, (crossings[1:] + crossings[:-1]) / 2]))
        found = gains(t)
        if found.size:
            best = max(best, (found.max(), t[np.argmax(found)]))
        if found.max(initial=0.0) <= level * (1 + rtol):
            break
        best = max(best, climb(t[np.argmax(found)]))
        level = best[0]
    return float(best[0]), float(best[1])


def _on_the_line(sys: System, level: float) -> tuple[System, Callable]:
    """A continuous system with the gains of `sys`, and the map of its frequencies to theirs.

    Its gain at infinity must be well below `level`, or the Hamiltonian has no digits left. The
    bilinear map and a rotation of the circle keep every gain, and put another point there.
    """
    if not sys.is_discrete and np.linalg.norm(sys.D, ord=2) < 0.5 * level:
        return sys, lambda w: w
    a = 1.0 if sys.is_discrete else _shift(sys.poles)
    circle = sys if sys.is_discrete else to_discrete(sys, a)
    angles = np.pi * np.arange(16) / 8
    turns = np.exp(1j * angles)
    gain = np.linalg.norm(transfer_function(circle, -turns), ord=2, axis=(-2, -1))
    distance = np.abs(circle.poles[:, None] + turns).min(axis=0)
    best = np.argmax((level - gain) * distance)
    turn = turns[best] if best % 8 else turns[best].real  # real systems stay real
    turned = StateSpace(circle.A / turn, circle.B / turn, circle.C, circle.D, True)

    def place(w: np.ndarray) -> np.ndarray:
        t = angles[best] + 2 * np.arctan(w)
        return t if sys.is_discrete else a * np.tan(t / 2)

    return to_continuous(turned, 1.0), place


def _shift(poles: Any) -> float:
    """a > 0 of the bilinear map: that of `optimal_shift` if no pole is unstable."""
    unstable = poles.real > 0
    if not unstable.any():
        return float(optimal_shift(poles).squeeze())
    # 1 - |(a + p)/(a - p)|^2 for the mirror image of every pole: 0 if z is on the circle, 1 if z
    # is in its centre, but then the z of an unstable pole is infinite
    shifts = (np.abs(poles)[:, None] * np.array([0.4, 1.0, 2.5])).ravel()
    decay = np.abs(poles.real)
    depth = 4 * shifts[:, None] * decay / np.abs(shifts[:, None] + decay - 1j * poles.imag) ** 2
    share = np.where(unstable, np.minimum(depth, 1 - depth), depth).min(axis=1)
    return float(shifts[np.argmax(share)])


def _crossings(sys: System, level: float) -> np.ndarray:
    """Frequencies w, ascending, where a singular value of G(j w) may equal `level` (> |D|)."""
    B, C, D = sys.B / level**0.5, sys.C / level**0.5, sys.D / level
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
    # Rounding moves a double eigenvalue by the root of eps; C B is large where the modes cancel
    size = np.linalg.norm(A) + np.linalg.norm(B) * np.linalg.norm(C)
    near = np.abs(values.real) <= 1e-4 * np.abs(values) + 1e-7 * size
    return np.unique(values.imag[near])
