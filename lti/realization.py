"""Systems from data: the eigensystem realization of a measured impulse response."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from lti._backend.arrays import Array, H, namespace, narrow, to_numpy, widen
from lti._backend.checks import as_array, common, no_derivative, timebase
from lti.errors import DimensionError, OptionError, OrderError, TimebaseError
from lti.hankel import check_order, energy_order
from lti.systems.statespace import StateSpace

__all__ = ["era"]

EPS = 2.0**-52


def era(
    markov: Array,
    order: int | None = None,
    *,
    energy: float | None = None,
    rows: int | None = None,
    dt: float | bool = True,
) -> tuple[StateSpace, Array]:
    """A = sigma^-1/2 U^H H_1 V sigma^-1/2 of the Hankel matrix H = U sigma V^H and its shift H_1.

    The eigensystem realization algorithm: ``H_ij = markov[i + j + 1]`` and
    ``H_1,ij = markov[i + j + 2]``. The model is balanced over the time that H spans.

    Parameters
    ----------
    markov : array (..., k, p, m)
        Impulse response D, C B, C A B, ... at k >= 3 samples, as `impulse_response` returns it in
        discrete time.
    order : int, optional
        Number of states of the model.
    energy : float, optional
        In place of `order`: the smallest order that keeps this fraction of the sum of the values.
    rows : int, optional
        Number of block rows of H, which has k - 1 - rows block columns; half of k - 1 by default.
    dt : float or True, optional
        Sampling time, or True for discrete time without one.

    Returns
    -------
    sys : StateSpace
        The model, with ``D = markov[0]``.
    hsv : array (..., r)
        Singular values of H, descending. They approach the Hankel singular values of a stable
        system from below as k grows.

    Raises
    ------
    DimensionError
        If `markov` is not (..., k, p, m) with k >= 3.
    NonFiniteError
        If an entry is not finite.
    OrderError
        If not just one of `order` and `energy` is given, or the order exceeds the rank of H.
    OptionError
        If `rows` is not from 1 to k - 2.
    TimebaseError
        If `dt` is 0: samples have discrete time.
    DerivativeError
        If torch follows `markov`.

    See Also
    --------
    impulse_response, balanced_truncation

    Notes
    -----
    Exact data of a system whose order is at most the rank of H give that system. Of noisy or cut
    data no stability and no error bound is promised. `undiscretize` gives a model in continuous
    time.

    References
    ----------
    Juang, Pappa, "An eigensystem realization algorithm for modal parameter identification and
    model reduction", J. Guidance 8 (1985); Kung, "A new identification and model reduction
    algorithm via singular value decompositions", Asilomar (1978).

    Examples
    --------
    >>> import lti, numpy as np
    >>> plant = lti.StateSpace(np.diag([0.9, -0.5]), np.ones((2, 1)), np.ones((1, 2)), dt=0.1)
    >>> markov = lti.impulse_response(plant, 0.1 * np.arange(40))
    >>> model, hsv = lti.era(markov, order=2, dt=0.1)
    >>> bool(np.allclose(lti.impulse_response(model, 0.1 * np.arange(40)), markov))
    True
    """
    dt = timebase(dt)
    if dt is not True and dt == 0:
        raise TimebaseError("samples have discrete time, got dt=0; pass their sampling time")
    if (order is None) == (energy is None):
        raise OrderError(f"give either order or energy, got order={order!r}, energy={energy!r}")
    data = common(markov=as_array(markov))[0]
    if data.ndim < 3 or data.shape[-3] < 3:
        raise DimensionError(
            f"markov must be (..., k, p, m) with k >= 3 samples, got shape {tuple(data.shape)}; "
            "of one input and one output pass markov[:, None, None]"
        )
    no_derivative("era has", data)
    h, xp = widen(data), namespace(data)
    last = h.shape[-3] - 1
    rows = _checked_rows(rows, last)
    columns, m, p = last - rows, h.shape[-1], h.shape[-2]

    U, sigma, Vh = xp.linalg.svd(_hankel(h, 1, rows, columns), full_matrices=False)
    order = _checked_order(order, energy, to_numpy(sigma), max(rows * p, columns * m))
    root = xp.sqrt(sigma[..., :order])
    left, right = H(U[..., :order]) / root[..., :, None], H(Vh[..., :order, :]) / root[..., None, :]
    A = left @ _hankel(h, 2, rows, columns) @ right
    B = root[..., :, None] * Vh[..., :order, :m]
    C = U[..., :p, :order] * root[..., None, :]
    A, B, C, D, sigma = (narrow(x, like=data) for x in (A, B, C, h[..., 0, :, :], sigma))
    return StateSpace(A, B, C, D, dt), sigma


def _hankel(h: Array, first: int, rows: int, columns: int) -> Array:
    """The blocks h[i + j + first], i < rows and j < columns, as one matrix."""
    xp, (*batch, _, p, m) = namespace(h), h.shape
    at = first + np.arange(rows)[:, None] + np.arange(columns)
    blocks = xp.stack([h[..., int(i), :, :] for i in at.ravel()], axis=-3)
    blocks = xp.reshape(blocks, (*batch, rows, columns, p, m))
    blocks = xp.moveaxis(blocks, -2, -3)  # rows, p, columns, m
    return xp.reshape(blocks, (*batch, rows * p, columns * m))


def _checked_rows(rows: Any, last: int) -> int:
    """`rows`, or half of the samples."""
    if rows is None:
        return last // 2
    try:
        value = operator.index(rows)
    except TypeError:
        value = 0
    if isinstance(rows, (bool, np.bool_)) or not 1 <= value < last:
        raise OptionError(
            f"rows must be an integer from 1 to {last - 1}, as there are {last} samples after the "
            f"first; got {rows!r}"
        )
    return value


def _checked_order(order: Any, energy: Any, sigma: np.ndarray, size: int) -> int:
    """The order asked for, at most the rank of the Hankel matrix."""
    top = sigma.max(axis=-1, keepdims=True, initial=0.0)
    rank = int(np.count_nonzero(sigma > size * EPS * top, axis=-1).min(initial=sigma.shape[-1]))
    if order is None:
        return min(energy_order(sigma, energy), rank)
    chosen = check_order(order, sigma.shape[-1])
    if chosen > rank:
        raise OrderError(
            f"order {chosen} exceeds the rank of the Hankel matrix, {rank}: its other singular "
            "values are rounding; ask for at most that"
        )
    return chosen
