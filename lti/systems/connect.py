"""Systems from systems: in series, in parallel, in a feedback loop."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from lti._backend.arrays import Array, eye, is_array, namespace, to_numpy
from lti._backend.checks import as_array, same_dtype
from lti.errors import DimensionError, OptionError
from lti.systems.algebra import static
from lti.systems.convert import as_statespace
from lti.systems.labels import Labels
from lti.systems.operators import Operators, common_timebase, joined_states, product, total
from lti.systems.protocol import SystemLike
from lti.systems.statespace import StateSpace

__all__ = ["feedback", "parallel", "series"]

EPS = 2.0**-52


def series(*systems: SystemLike) -> StateSpace:
    """... G_3 G_2 G_1: the signal passes the first system first, as in ``G_2 * G_1``.

    Parameters
    ----------
    *systems : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Each has as many inputs as the one before it has outputs.

    Returns
    -------
    StateSpace
        With the labels of the inputs of the first and of the outputs of the last system.

    Raises
    ------
    DimensionError
        If the numbers of signals do not fit, or there is no system.
    TimebaseError
        If the systems are in different time domains.

    Examples
    --------
    >>> import lti
    >>> lag = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    >>> lti.series(lag, lag).order
    2
    """
    return reduce(lambda F, G: product(G, F), _dense("series", systems))


def parallel(*systems: SystemLike) -> StateSpace:
    """G_1 + G_2 + ...: one input for all, and the sum of the outputs.

    Parameters
    ----------
    *systems : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        With equal numbers of inputs and of outputs.

    Returns
    -------
    StateSpace

    Raises
    ------
    DimensionError
        If the numbers of signals do not fit, or there is no system.
    TimebaseError
        If the systems are in different time domains.

    Examples
    --------
    >>> import lti
    >>> lag = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    >>> lti.dcgain(lti.parallel(lag, lag))
    array([[2.]])
    """
    return reduce(total, _dense("parallel", systems))


def _dense(name: str, systems: tuple[SystemLike, ...]) -> list[StateSpace]:
    if not systems:
        raise DimensionError(f"{name} needs at least one system, got none")
    return [as_statespace(sys).to_dense() for sys in systems]


def feedback(
    sys: SystemLike, other: SystemLike | Array | float = 1.0, sign: int = -1
) -> StateSpace:
    """(1 - sign G K)^-1 G, from r to y: y = G u, u = r + sign K y.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        G, in the forward path.
    other : system, array (m, p) or number, optional
        K, from the outputs of G to its inputs; a number stands for its multiple of the identity.
    sign : {-1, 1}, optional
        Negative feedback (the default) or positive.

    Returns
    -------
    StateSpace
        With the states of G and then of K, and the labels of G's inputs and outputs.

    Raises
    ------
    DimensionError
        If the numbers of signals do not fit.
    OptionError
        If `sign` is none of these, or the loop has no solution because ``1 - sign D_K D_G`` is
        singular.
    TimebaseError
        If the systems are in different time domains.

    Examples
    --------
    >>> import lti
    >>> integrator = lti.StateSpace([[0.0]], [[1.0]], [[1.0]])
    >>> lti.feedback(integrator, 2.0).A
    array([[-2.]])
    """
    if sign not in (-1, 1):
        raise OptionError(f"sign is -1 for negative or 1 for positive feedback, got {sign!r}")
    G: Any = as_statespace(sys).to_dense()
    K = _controller(G, other)
    dt = common_timebase(G.dt, K.dt)
    if (K.n_outputs, K.n_inputs) != (G.n_inputs, G.n_outputs):
        raise DimensionError(
            f"a system of {G.n_inputs} inputs and {G.n_outputs} outputs needs a feedback of "
            f"{G.n_outputs} inputs and {G.n_inputs} outputs, got {K.n_inputs} and {K.n_outputs}"
        )
    if K.batch_shape not in ((), G.batch_shape):
        raise DimensionError(
            f"a batch of shape {G.batch_shape} and one of {K.batch_shape} make no loop; pass one "
            "feedback for all, or one for each"
        )
    batch, xp = G.batch_shape, namespace(G.A, K.A)
    A, B, C, D, KA, KB, KC, KD = (
        xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in same_dtype(*G.matrices, *K.matrices)
    )
    KC, KD = sign * KC, sign * KD
    loop = eye(G.n_inputs, like=A) - KD @ D
    size = 1 + np.linalg.norm(to_numpy(KD @ D), axis=(-2, -1))
    least = np.linalg.svd(to_numpy(loop), compute_uv=False).min(axis=-1, initial=np.inf)
    if (least <= 4 * EPS * size).any():
        raise OptionError(
            "the loop has no solution: 1 - sign D_K D_G is singular; change a feedthrough, or put "
            "a delay or a lag into the loop"
        )
    # u = E (r + K_D C x + K_C x_K), y = C x + D u
    one = xp.broadcast_to(eye(G.n_inputs, like=A), loop.shape)
    E = xp.linalg.solve(loop, xp.concat([KD @ C, KC, one], axis=-1))
    n, k = G.order, K.order
    wide = xp.concat([A, xp.zeros_like(B @ KC)], axis=-1), xp.concat([KB @ C, KA], axis=-1)
    out = xp.concat([C, xp.zeros_like(D @ KC)], axis=-1)
    U, E = E[..., : n + k], E[..., n + k :]
    return StateSpace(
        xp.concat([wide[0] + B @ U, wide[1] + KB @ D @ U], axis=-2),
        xp.concat([B @ E, KB @ D @ E], axis=-2),
        out + D @ U,
        D @ E,
        dt,
        Labels(inputs=G.labels.inputs, outputs=G.labels.outputs, states=joined_states(G, K)),
    )


def _controller(G: StateSpace, other: Any) -> StateSpace:
    """The feedback as a system, without states if it is a matrix or a number."""
    if isinstance(other, (int, float, complex, np.generic)):
        if G.n_inputs != G.n_outputs:
            raise DimensionError(
                f"a number closes the loop of as many inputs as outputs, not of {G.n_inputs} and "
                f"{G.n_outputs}; pass a matrix of shape ({G.n_inputs}, {G.n_outputs})"
            )
        other = other * eye(G.n_inputs, like=G.A)
    by_rows = isinstance(other, list) and all(np.ndim(row) == 1 for row in other)
    if isinstance(other, Operators) or not (by_rows or is_array(other)):
        return as_statespace(other).to_dense()
    gain = as_array(other)
    if gain.ndim != 2:
        raise DimensionError(f"a gain is a matrix, got shape {tuple(gain.shape)}; pass (m, p)")
    return static(gain, G.dt)
