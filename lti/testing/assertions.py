"""Assertions: sigma_r+1 <= ||G - G_r|| <= 2 sum(sigma), P = Q = diag(sigma), residuals."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from lti._backend.arrays import to_numpy
from lti._backend.checks import one_of
from lti._renamed import renamed
from lti.errors import DimensionError, OptionError, ReductionWarning
from lti.gramians.exact import controllability_gramian, observability_gramian
from lti.gramians.supplied import GramianFactor
from lti.hankel import hankel_singular_values
from lti.norms import hinf_norm
from lti.reduction.balancing import balance
from lti.reduction.certificate import Reduction
from lti.reduction.truncation import balanced_truncation
from lti.systems.convert import as_statespace
from lti.systems.protocol import System, SystemLike
from lti.systems.statespace import StateSpace
from lti.testing.examples import as_code

__all__ = [
    "assert_balanced",
    "assert_error_bound",
    "assert_gramian",
    "assert_reproduces",
    "assert_stays_stable",
]


# How much is drawn depends on nothing that was drawn before but the number of states, a list's
# length: otherwise hypothesis cannot make a failing example smaller.


@renamed(tol="rtol")
def assert_error_bound(
    reduction: Reduction | SystemLike,
    order: int | None = None,
    *,
    method: Callable[[Any, int], Reduction] = balanced_truncation,
    rtol: float = 1e-8,
) -> np.ndarray:
    """lower_bound <= ||G - G_r||_inf <= error_bound, of a reduction, or of a system at every order.

    Parameters
    ----------
    reduction : Reduction, StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        What to check, or a system to reduce and check.
    order : int, optional
        Of the reduced system; by default each from the number of unstable poles to n.
    method : callable, optional
        ``method(sys, order)`` makes a `Reduction`; its warnings are not repeated.
    rtol : float, optional
        Relative accuracy of the norm.

    Returns
    -------
    array (...) or (orders, ...)
        The measured errors; infinite where the bound is.

    Raises
    ------
    AssertionError
        If an error lies outside its bounds, or a gain on a grid of frequencies above the norm. The
        message has the numbers, and the system as code.

    Notes
    -----
    The error is the norm of one system, ``W_o (F - F_r) W_i`` of `Reduction.pair` and
    `Reduction.weights`, and not measured as `Reduction.verify` does. Where a bound is infinite
    there is nothing to check. Rounding may add ``1e3 n eps (|R| |S| + moved)``: what it does to
    the values, relative to `Reduction.scale`, and to the poles, which moves a gain by up to
    ``moved = |C (s - A)^-1| (|s| + |A|) |(s - A)^-1 B|`` times eps; with a `Reduction.pair` also
    ``|C| |(s - A)^-1| |B|``, B and C of the whole system, and of D ``4 eps |D|``. That is 1e-11 or
    so of the norm of a well-conditioned system, and all of it if poles are within 1e-12 of the
    boundary.

    Examples
    --------
    >>> import lti, lti.testing, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.testing.assert_error_bound(sys).round(4)
    array([1.5  , 0.038, 0.   ])
    """
    if not isinstance(reduction, Reduction):
        sys = as_statespace(reduction)
        if order is not None:
            orders = [order]
        else:
            poles = to_numpy(sys.to_dense().poles)
            unstable = np.abs(poles) >= 1 if sys.is_discrete else poles.real >= 0
            orders = range(int(unstable.sum(-1).max(initial=0)), sys.order + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReductionWarning)
            reductions = [method(sys, r) for r in orders]
        errors = np.stack([assert_error_bound(x, rtol=rtol) for x in reductions])
        return errors if order is None else errors[0]
    error = reduction.error
    hsv, shape = to_numpy(reduction.hsv), error.batch_shape
    top = np.where(np.isfinite(hsv), hsv, 0).max(axis=-1, initial=0)
    scale = top if reduction.scale is None else to_numpy(reduction.scale)
    eps = np.finfo(hsv.dtype).eps
    lower, upper, scale = (
        np.broadcast_to(to_numpy(x), shape)
        for x in (reduction.lower_bound, reduction.error_bound, scale)
    )
    # A stable part that was split off is what rounding left of the whole
    norms = (np.linalg.norm(to_numpy(x)) for x in (reduction.original.B, reduction.original.C))
    split = float(np.prod(list(norms))) if reduction.pair else 0.0
    fed = np.linalg.norm(to_numpy(reduction.system.D), axis=(-2, -1))
    fed = np.broadcast_to(fed, shape)
    errors = np.full(shape, np.inf)
    for i in np.ndindex(shape):
        if np.isinf(upper[i]):
            continue
        A, B, C, D = (to_numpy(x)[i] for x in (error.A, error.B, error.C, error.D))
        E = StateSpace(A, B, C, D, error.dt)
        errors[i] = norm = float(hinf_norm(E, rtol))
        gain, w, moved = _grid(E, split)
        rounding = 1e3 * hsv.shape[-1] * eps * (scale[i] + moved) + 4 * eps * fed[i]
        # The Hamiltonian of a small error holds the squares of the large parts that cancel in it
        loss = rtol + min(1e-3, eps * (scale[i] / max(norm, rounding, 1e-300)) ** 2)
        for what, low, high, slack in (
            (f"the gain at {w:.9g} is above the norm", gain, norm, loss),
            ("the error is above its bound", norm, upper[i], rtol),
            ("the error is below what an order can reach", lower[i], norm, loss),
        ):
            if low > high * (1 + slack) + rounding:
                raise AssertionError(
                    f"{reduction.method} to order {reduction.order}{f', member {i}' * bool(i)}: "
                    f"{what}, {low:.9g} > {high:.9g}, and rounding allows "
                    f"{high * slack + rounding:.1g}\n\n"
                    f"sys = {as_code(reduction.original)}\n"
                    f"lti.hinf_norm(sys - reduction.system)  # {norm:.9g}, "
                    f"bounds {lower[i]:.9g} and {upper[i]:.9g}"
                )
    return errors


def _grid(sys: StateSpace, split: float) -> tuple[float, float, float]:
    """The largest gain on a grid that has the frequencies of the poles, where, and `moved`.

    The last is what a relative change of A and s moves a gain by, in units of that change; and one
    of B and C relative to their norms before they were split, whose product is given.
    """
    A, B, C, D = sys.A, sys.B, sys.C, sys.D
    poles = np.linalg.eigvals(A)
    if sys.is_discrete:
        w = np.concatenate([np.linspace(-np.pi, np.pi, 64), np.angle(poles)])
    else:
        w = np.outer(np.abs(poles), np.logspace(-1, 1, 7)).ravel()
        w = np.concatenate([-w, [0.0], w, poles.imag])
    s = np.exp(1j * w) if sys.is_discrete else 1j * w
    resolvent = np.linalg.inv(s[:, None, None] * np.eye(len(A)) - A)
    gains, states, seen = (
        np.linalg.norm(x, ord=2, axis=(-2, -1))
        for x in (C @ resolvent @ B + D, resolvent @ B, C @ resolvent)
    )
    moved = states * seen * (np.abs(s) + np.linalg.norm(A))
    moved += split * np.linalg.norm(resolvent, axis=(-2, -1))
    return float(gains.max()), float(w[gains.argmax()]), float(moved.max())


@renamed(tol="rtol")
def assert_balanced(sys: SystemLike, hsv: Any = None, *, rtol: float = 1e-8) -> None:
    """P = Q = diag(sigma): both Gramians are the Hankel singular values, descending.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
    hsv : array (..., n), optional
        What they should be; by default `hankel_singular_values`.
    rtol : float, optional
        Largest deviation of an entry, in units of ``hsv[0]``. Rounding gives a state of the value
        sigma one of about ``n eps |R| |S| / sqrt(hsv[0] sigma)``.

    Raises
    ------
    AssertionError
        If an entry of a Gramian deviates by more.

    Examples
    --------
    >>> import lti, lti.testing
    >>> lti.testing.assert_balanced(lti.testing.all_pass([-1.0, -2.0]), [1.0, 1.0])
    """
    sys = as_statespace(sys)
    hsv = to_numpy(hankel_singular_values(sys)) if hsv is None else np.asarray(to_numpy(hsv))
    allowed = rtol * hsv.max(axis=-1, initial=0.0)[..., None, None]
    for name, gramian in (("P", controllability_gramian), ("Q", observability_gramian)):
        excess = np.abs(to_numpy(gramian(sys)) - hsv[..., None] * np.eye(hsv.shape[-1])) - allowed
        if excess.max(initial=0.0) > 0:
            at = np.unravel_index(excess.argmax(), excess.shape)
            raise AssertionError(
                f"{name} deviates from diag(hsv) by {(excess + allowed)[at]:.3g} at "
                f"{tuple(map(int, at))}, allowed is {rtol:g} hsv[0] = {allowed.max():.3g}; "
                f"hsv = {hsv.tolist()}\n\nsys = {as_code(sys)}"
            )


@renamed(tol="rtol")
def assert_gramian(
    sys: SystemLike, P: Any, kind: str = "controllability", *, rtol: float = 1e-12
) -> None:
    """A P + P A^H + B B^H = 0, or A P A^H - P + B B^H = 0, with P = P^H >= 0.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
    P : array (..., n, n)
        In the coordinates of ``sys.to_dense()``.
    kind : {"controllability", "observability"}, optional
        Observability: with ``A^H, C^H`` in place of ``A, B``.
    rtol : float, optional
        Largest residual, in units of the norms of its terms, ``2 |A| |P| + |B|^2`` or
        ``|A|^2 |P| + |P| + |B|^2``; largest ``|P - P^H|`` and most negative eigenvalue, of ``|P|``.

    Raises
    ------
    AssertionError
        If one of the three is larger.
    OptionError
        If `kind` is neither.

    Examples
    --------
    >>> import lti, lti.testing
    >>> lti.testing.assert_gramian(([[-1.0]], [[2.0]], [[1.0]]), [[2.0]])
    """
    one_of("kind", kind, ("controllability", "observability"))
    sys = as_statespace(sys)
    dense, P = sys.double().to_dense(), np.asarray(to_numpy(P))
    A, B, C = (to_numpy(x) for x in (dense.A, dense.B, dense.C))
    if kind == "observability":
        A, B = np.conj(np.swapaxes(A, -1, -2)), np.conj(np.swapaxes(C, -1, -2))
    AH, BH, PH = (np.conj(np.swapaxes(x, -1, -2)) for x in (A, B, P))
    a, b, size = (np.linalg.norm(x, axis=(-2, -1)) for x in (A, B, P))
    if sys.is_discrete:
        residual, terms = A @ P @ AH - P + B @ BH, (a**2 + 1) * size + b**2
    else:
        residual, terms = A @ P + P @ AH + B @ BH, 2 * a * size + b**2
    lowest = np.linalg.eigvalsh((P + PH) / 2).min(axis=-1, initial=0.0)
    for what, value, unit in (
        ("residual of its equation", np.linalg.norm(residual, axis=(-2, -1)), terms),
        ("P - P^H", np.linalg.norm(P - PH, axis=(-2, -1)), size),
        ("negative eigenvalue", -lowest, size),
    ):
        if (value > rtol * unit).any():
            at = np.unravel_index(np.argmax(value - rtol * unit), value.shape)
            raise AssertionError(
                f"the {kind} Gramian has a {what} of {value[at]:.3g}, allowed is {rtol:g} * "
                f"{unit[at]:.3g}\n\nP = {P.tolist()}\nsys = {as_code(sys)}"
            )


def assert_stays_stable(
    sys: SystemLike, *, controllability: Any = None, observability: Any = None
) -> np.ndarray:
    """A_r^H Sigma_r A_r <= Sigma_r: with one Gramian given and one exact, every order is stable.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Stable.
    controllability, observability : array (..., n, k) or GramianFactor
        One of the two: as in `lti.balance`.

    Returns
    -------
    array (orders, ...)
        Of each order from 1 to that of the last value above rounding, the largest modulus of a
        pole, in continuous time the largest real part.

    Raises
    ------
    AssertionError
        If a pole lies beyond the boundary by more than ``1e2 n eps |R| |A| |S| / sigma_r``, which
        rounding allows.
    OptionError
        If not just one of the two is given.

    Examples
    --------
    >>> import lti, lti.testing, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.testing.assert_stays_stable(sys, controllability=np.diag([1.0, 10.0])).round(2)
    array([-1.98, -1.  ])
    """
    if (controllability is None) == (observability is None):
        raise OptionError("give one of controllability and observability; the other is exact")
    sys = as_statespace(sys)
    balancing = balance(sys, controllability=controllability, observability=observability)
    A, S, R, sigma = (
        to_numpy(x)
        for x in (
            balancing.balanced.A,
            balancing.factors.S,
            balancing.factors.R,
            balancing.sigma,
        )
    )
    sizes = [np.linalg.norm(x, axis=(-2, -1)) for x in (R, to_numpy(sys.to_dense().A), S)]
    moved = 1e2 * sys.order * np.finfo(A.dtype).eps * np.prod(np.broadcast_arrays(*sizes), axis=0)
    worst = []
    for r in range(1, balancing.minimal_order + 1):
        poles = np.linalg.eigvals(A[..., :r, :r])
        poles = abs(poles) if sys.is_discrete else poles.real
        worst.append(poles.max(axis=-1))
        alive = sigma[..., r - 1] > 0  # systems of lower rank are filled up with zeros
        allowed = moved / np.where(alive, sigma[..., r - 1], 1.0)
        excess = worst[-1] - float(sys.is_discrete) - allowed
        if (alive & (excess > 0)).any():
            at = np.unravel_index(np.argmax(np.where(alive, excess, -1)), excess.shape)
            raise AssertionError(
                f"at order {r} there is a pole at {worst[-1][at]:.12g}, beyond the boundary by "
                f"more than rounding allows, {allowed[at]:.3g}\n\nsys = {as_code(sys)}\n"
                f"controllability, observability = {controllability!r}, {observability!r}"
            )
    return np.array(worst)


@renamed(tol="rtol")
def assert_reproduces(sys: SystemLike, u: Any, *, rtol: float = 1e-8) -> int:
    """y_r = y on the inputs whose states were balanced: truncating the rest makes no error.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Stable, discrete, of n states; no batch.
    u : array (sequences, length, m)
        Inputs, each from the state zero.
    rtol : float, optional
        Largest deviation of an output, in units of the largest output plus ``|C| |x|``, the largest
        that the states met could give.

    Returns
    -------
    int
        The order that sufficed: at most the number of dimensions of the states met.

    Raises
    ------
    AssertionError
        If an output deviates by more.
    DimensionError
        If `u` does not fit.

    Examples
    --------
    >>> import lti, lti.testing, numpy as np
    >>> sys = lti.StateSpace(np.diag([0.9, 0.5, 0.1]), np.ones((3, 1)), np.ones((1, 3)), dt=True)
    >>> lti.testing.assert_reproduces(sys, np.ones((1, 2, 1)))  # two states in all
    2
    """
    sys, u = as_statespace(sys).double().to_dense(), np.asarray(to_numpy(u))
    if u.ndim != 3 or u.shape[-1] != sys.n_inputs or sys.batch_shape or not sys.is_discrete:
        raise DimensionError(
            f"inputs of {sys} are (sequences, length, {sys.n_inputs}), got shape {u.shape}; it "
            "must be discrete, and no batch"
        )
    y, x = _simulated(sys, u)
    S = GramianFactor.of_states(x.reshape(-1, sys.order))
    balancing = balance(sys, controllability=S)
    order = balancing.minimal_order
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReductionWarning)
        reduced = balancing.truncate(order).system
    error = np.abs(_simulated(reduced, u)[0] - y).max(initial=0.0)
    size = np.abs(y).max(initial=0.0) + np.linalg.norm(to_numpy(sys.C)) * np.abs(x).max(initial=0.0)
    rank = np.linalg.matrix_rank(x.reshape(-1, sys.order))
    if error > rtol * size or order > rank:
        raise AssertionError(
            f"order {order} gives outputs that differ by {error:.3g} at a size of {size:.3g}, "
            f"allowed is {rtol:g}; the states met have {rank} dimensions\n\n"
            f"sys = {as_code(sys)}\nu = {u.tolist()}"
        )
    return order


def _simulated(sys: System, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y[t] = C x[t] + D u[t], x[t+1] = A x[t] + B u[t] from zero; x[1], ... too."""
    A, B, C, D = (to_numpy(M) for M in sys.matrices)
    x, states, outputs = np.zeros((len(u), sys.order), dtype=A.dtype), [], []
    for now in np.moveaxis(u, 1, 0):
        outputs.append(x @ C.T + now @ D.T)
        x = x @ A.T + now @ B.T
        states.append(x)
    return np.stack(outputs, axis=1), np.stack(states, axis=1)
