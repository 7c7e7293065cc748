"""What a system does at a frequency: its response, and its gain at frequency zero."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np

from lti._backend.arrays import Array, eye, from_numpy, namespace, narrow, to_numpy, tracing
from lti._backend.blocks import choose_scaling, solve
from lti._backend.checks import as_array, require_finite
from lti.errors import DimensionError, OptionError
from lti.systems.algebra import has_pole_at
from lti.systems.convert import as_statespace
from lti.systems.protocol import System, SystemLike
from lti.systems.schur import pairs_of, shows_poles
from lti.systems.sparse import SparseStateSpace
from lti.systems.statespace import DiagonalStateSpace, StateSpace
from lti.systems.units import form_with_ports

__all__ = ["dcgain", "frequency_response", "response_of"]

TINY = 2.0**-1000
MANY = 32  # states and points, from which on a Schur form pays
BLOCK = 16  # states that are eliminated at once, where there are few points
INFINITE = "the system has a pole at frequency zero, where its gain is infinite"
LOST = 1e-10  # by the rounding of a Schur form, above which each point has its own elimination
CHUNK = 1 << 22  # numbers in one batch of n x n matrices, 64 MB


def frequency_response(sys: SystemLike, w: Array) -> Array:
    """G(j w) = C (j w - A)^-1 B + D, in discrete time G(e^{j w dt}).

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
    w : array (k,)
        Frequencies in rad per unit of time (rad per sample if ``dt`` is True), real.

    Returns
    -------
    array (..., k, p, m), complex

    Raises
    ------
    DimensionError
        If `w` is not a vector of real numbers.
    NonFiniteError
        If a frequency is not finite.
    OptionError
        If a pole lies at one of them.

    Examples
    --------
    >>> import lti
    >>> lti.frequency_response(([[-1.0]], [[1.0]], [[1.0]]), [0.0, 1.0])[:, 0, 0]
    array([1. +0.j , 0.5-0.5j])
    """
    sys = as_statespace(sys)
    s, like = points(sys, w), sys.B
    zero = 1.0 if sys.is_discrete else 0.0
    at_zero = not tracing(like) and bool(namespace(like).any(s == zero))
    if at_zero and has_pole_at(sys, zero):
        raise OptionError(f"a pole lies at one of the frequencies in w: {INFINITE}; leave out 0")
    return response_of(sys, w)


def response_of(sys: System | SparseStateSpace, w: Array) -> Array:
    """`frequency_response`, also at a zero that rounding cannot tell from a pole."""
    s, like = points(sys, w), sys.B
    if isinstance(sys, SparseStateSpace):
        return sys.transfer_function(s)
    try:
        with np.errstate(all="ignore"):
            response = transfer_function(sys.double(), s)
    except (np.linalg.LinAlgError, RuntimeError):
        response = None
    if response is None or not bool(namespace(like).all(namespace(like).isfinite(response))):
        raise OptionError(
            "a pole lies at one of the frequencies in w, or the response there is beyond the range "
            "of double precision; move that frequency a little, or choose units of smaller gains"
        )
    return narrow(response, like=like)


def dcgain(sys: SystemLike) -> Array:
    """G(0) = D - C A^-1 B, in discrete time G(1) = D + C (1 - A)^-1 B: the stationary gain.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts

    Returns
    -------
    array (..., p, m)
        Real of a real system.

    Raises
    ------
    OptionError
        If the system has an integrator, a pole at frequency zero.

    Examples
    --------
    >>> import lti
    >>> lti.dcgain(([[-2.0]], [[1.0]], [[3.0]]))
    array([[1.5]])
    """
    sys = as_statespace(sys)
    zero = 1.0 if sys.is_discrete else 0.0
    if isinstance(sys, SparseStateSpace):
        try:
            return sys.gain(zero, off_poles=True)
        except OptionError as error:
            raise OptionError(f"{INFINITE}; take the frequency response close to zero") from error
    G = sys.double()
    dense, xp = G.to_dense(), namespace(G.B)
    gain = None
    if tracing(G.B) or not has_pole_at(G, zero):
        try:
            E = zero * eye(G.order, like=dense.A) - dense.A
            gain = dense.D + dense.C @ solve(E, dense.B)
        except (np.linalg.LinAlgError, RuntimeError):
            gain = None
    if gain is None or not bool(xp.all(xp.isfinite(gain))):
        raise OptionError(
            f"{INFINITE}; split it off (lti.freqsep), or take the frequency response close to zero"
        )
    return narrow(gain, like=sys.B)


def points(sys: System, w: Array) -> Array:
    """j w, or e^{j w dt}, in the library of `sys`; w is checked."""
    like = sys.B
    xp = namespace(like)
    w = to_numpy(as_array(w))
    if w.ndim != 1 or w.dtype.kind not in "iuf":
        raise DimensionError(
            f"w must be a vector of real frequencies, got shape {tuple(w.shape)}, dtype {w.dtype}; "
            "pass one frequency as [w]"
        )
    w = from_numpy(w, like)
    require_finite("w", w)
    w = xp.astype(w, xp.float64)
    return xp.exp(1j * w * (1.0 if sys.dt is True else sys.dt)) if sys.is_discrete else 1j * w


def transfer_function(sys: System, s: Array) -> Array:
    """C (s - A)^-1 B + D at the points s (k,), complex: (..., k, p, m)."""
    return responder(sys, s.shape[0])(s)


def responder(sys: System, k: int) -> Callable[[Array], Array]:
    """The same as a function of s, with the work that about k points share done once."""
    if isinstance(sys, DiagonalStateSpace):
        return partial(_of_modes, sys.closed())
    parts = resolvent(sys, k)
    C, D, xp = sys.C[..., None, :, :] + 0j, sys.D[..., None, :, :], namespace(sys.B)
    return lambda s: xp.concat([C @ X + D for _, X in parts(s)], axis=-3)


def _of_modes(sys: DiagonalStateSpace, s: Array) -> Array:
    with np.errstate(all="ignore"):  # at a pole
        modes = 1 / (s[:, None] - sys.poles[..., None, :])
        C, B = sys.C[..., None, :, :], sys.B[..., None, :, :]
        return (C * modes[..., None, :]) @ (B + 0j) + sys.D[..., None, :, :]


def resolvent(sys: System, k: int) -> Callable[[Array], Iterator[tuple[slice, Array]]]:
    """s (k,) -> (s - A)^-1 B, some of the points at a time: where, and (..., k', n, m).

    Many points of one larger NumPy system share a Schur form, A = U T U^H, if it rounds little.
    """
    n, m = sys.order, sys.n_inputs
    single = type(sys.A) is np.ndarray and sys.A.ndim == 2
    shared = single and n >= MANY and (k >= MANY or shows_poles(sys.A))
    solve = partial(_solved, sys)
    if shared:
        solve = _triangular(sys)
    elif single and (not shows_poles(sys.A) or sys.A.diagonal(-1).any()):
        solve = _in_blocks(sys)
    step = max(1, CHUNK // max(1, n * (m if shared else n) * math.prod(sys.batch_shape)))

    def parts(s: Array) -> Iterator[tuple[slice, Array]]:
        for i in range(0, max(1, s.shape[0]), step):
            at = slice(i, min(i + step, s.shape[0]))
            yield at, solve(s[at])

    return parts


def _solved(sys: System, s: Array) -> Array:
    A, B = sys.A[..., None, :, :], sys.B[..., None, :, :] + 0j
    E = s[:, None, None] * eye(sys.order, like=sys.A) - A
    xp = namespace(A)
    return xp.linalg.solve(E, xp.broadcast_to(B, (*E.shape[:-1], B.shape[-1])))


def _in_blocks(sys: System) -> Callable[[np.ndarray], np.ndarray]:
    """The same with the states in an order and in units in which elimination loses least."""
    if shows_poles(sys.A):  # only its pairs have units
        order, d = np.arange(sys.order), _of_pairs(sys.A)
    else:
        order, _, d = choose_scaling(sys.A)
    d = d[order, None]
    A, B = sys.A[order[:, None], order] / d * d.T, sys.B[order] / d
    scaled, back = StateSpace(A, B, sys.C[:, order] * d.T, None, sys.dt), np.argsort(order)
    return lambda s: (d * _solved(scaled, s))[:, back]


def _of_pairs(T: np.ndarray) -> np.ndarray:
    """d (n,): the two off-diagonal entries of a pair of poles are as large in T / d_i * d_j."""
    d, k = np.ones(len(T)), T.diagonal(-1).nonzero()[0]
    _, above, below, _ = pairs_of(T, k)
    size = np.log2(abs(below)) - np.log2(np.maximum(abs(above), TINY))
    d[k + 1] = 2.0 ** np.round(size / 2)
    return d


def _triangular(sys: System) -> Callable[[np.ndarray], np.ndarray]:
    """s -> U (s - T)^-1 U^H B, by substitution of blocks of states, in all points at once."""
    T, B, U = sys.A, sys.B, None
    if not shows_poles(T):
        form = form_with_ports(T, B, sys.C, sys.is_discrete)
        if form.lost > LOST:
            return _in_blocks(sys)
        T, U = form.T, form.d[:, None] * form.Q
        B = form.Q.conj().T @ (B / form.d[:, None])

    few, many = (_blocks_of(T, size) for size in (BLOCK, 1))

    def solve(s: np.ndarray) -> np.ndarray:
        k, m = len(s), sys.n_inputs
        X = np.empty((sys.order, k * m), dtype=complex)
        for i, j in reversed(few if k <= MANY else many):
            rest = _product(T[i:j, j:], X[j:]).reshape(j - i, k, m)
            x = _eliminated(T[i:j, i:j], s[:, None], B[i:j, None] + rest).reshape(j - i, k * m)
            X[i:j] = np.where(np.abs(x) > TINY, x, 0.0)  # subnormal numbers are slow
        return np.moveaxis((X if U is None else _product(U, X)).reshape(sys.order, k, m), 0, 1)

    return solve


def _eliminated(T: np.ndarray, s: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(s - T)^-1 x at points s (k, 1), x (n, k, m): of a pole or a pair at all of them at once."""
    if len(T) == 1:
        return x / (s - T[0, 0])
    if len(T) == 2:
        (a, b), (c, d) = T
        return np.stack([(s - d) * x[0] + b * x[1], c * x[0] + (s - a) * x[1]]) / (
            (s - a) * (s - d) - b * c
        )
    E = s[:, None] * np.eye(len(T)) - T
    return np.linalg.solve(E, x.swapaxes(0, 1)).swapaxes(0, 1)


def _product(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """X @ Y of a complex Y, in real arithmetic where X is real."""
    return X @ Y if np.iscomplexobj(X) else (X @ Y.view(float)).view(complex)


def _blocks_of(T: np.ndarray, size: int) -> list[tuple[int, int]]:
    """Ends of blocks of about `size` states that part no pair of poles."""
    inner = np.arange(size, len(T), size)
    inner += T[inner, inner - 1] != 0
    return list(pairwise(np.unique([0, *inner, len(T)]).tolist()))
