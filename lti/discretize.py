"""Between continuous and discrete time: the bilinear map, which keeps Gramians and norms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lti._array import Array, eye, from_numpy, namespace, real, to_numpy
from lti._checks import timebase
from lti.errors import TimebaseError
from lti.interop import as_statespace
from lti.system import DiagonalStateSpace, System

__all__ = ["bilinear"]

SAMPLES = 4


def bilinear(sys: System, dt: float | bool = True) -> System:
    """s = a (z - 1) / (z + 1), a = 2 / dt: continuous to discrete time, or back (Tustin).

    The scaled form ``A_d = (a + A)(a - A)^-1``, ``B_d = sqrt(2a) (a - A)^-1 B``,
    ``C_d = sqrt(2a) C (a - A)^-1``, ``D_d = D + C (a - A)^-1 B`` keeps both Gramians, hence the
    Hankel singular values, and the H-infinity norm. A diagonal system stays diagonal.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A continuous system is made discrete with `dt`, a discrete one continuous with its own.
    dt : float or True, optional
        Sampling time of the discrete system; True stands for ``a = 1``.

    Returns
    -------
    StateSpace or DiagonalStateSpace
        Of the other time domain. Back and forth gives the same system.

    Raises
    ------
    TimebaseError
        If `dt` is not a sampling time.

    References
    ----------
    Glover, "All optimal Hankel-norm approximations of linear multivariable systems and their
    L-infinity error bounds", Int. J. Control 39 (1984), section 2.

    Examples
    --------
    >>> import lti
    >>> sys = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    >>> lti.hankel_singular_values(sys), lti.hankel_singular_values(lti.bilinear(sys, dt=0.1))
    (array([0.5]), array([0.5]))
    """
    sys = as_statespace(sys)
    if not sys.is_discrete:
        dt = timebase(dt)
        if dt == 0:
            raise TimebaseError("dt=0 is no sampling time; pass a positive number, or True")
    step = sys.dt if sys.is_discrete else dt
    a = 1.0 if step is True else 2 / step
    singular = -1.0 if sys.is_discrete else a
    if (to_numpy(sys.poles) == singular).any():
        raise TimebaseError(f"the pole {singular:g} would go to infinity; use another dt")
    return to_continuous(sys, a) if sys.is_discrete else to_discrete(sys, a, dt)


def to_discrete(sys: System, a: Array, dt: float | bool = True) -> System:
    """The bilinear map at shift `a`, a number or (..., 1, 1)."""
    return _map(sys, a, sign=-1, dt=dt)


def to_continuous(sys: System, a: Array) -> System:
    """The inverse bilinear map at shift `a`, a number or (..., 1, 1)."""
    return _map(sys, a, sign=+1, dt=0)


def optimal_shift(poles: Array) -> Array:
    """a (..., 1, 1): of all ``|pole|`` the one that maps the poles deepest into the unit disc."""
    xp = namespace(poles)
    # |(a + p)/(a - p)|^2 = 1 - 4 a (-Re p) / |a - p|^2 for every pole p (rows), shift a (columns)
    shifts, p = xp.abs(poles), poles[..., :, None]
    gain = -real(p) * shifts[..., None, :] / xp.abs(shifts[..., None, :] - p) ** 2
    best = xp.argmax(xp.min(gain, axis=-2), axis=-1, keepdims=True)
    return xp.take_along_axis(shifts, best, axis=-1)[..., None]


def cheap_shift(A: Array) -> Array:
    """a (..., 1, 1) = sqrt(|A|_F / |A^-1|_F), between slow and fast poles, none of them known.

    The norm of the inverse is estimated from what it does to a few random vectors, always the same.
    """
    xp, norm = namespace(A), namespace(A).linalg.matrix_norm
    top = xp.max(xp.abs(A), axis=(-2, -1), keepdims=True)
    top = xp.where(top > 0, top, 1.0)  # squares of very small or large entries have no room
    x = np.random.default_rng(0).standard_normal((A.shape[-1], SAMPLES)) / SAMPLES**0.5
    x = xp.broadcast_to(from_numpy(x, like=A), (*A.shape[:-1], SAMPLES))
    A = A / top
    return top * xp.sqrt(norm(A) / norm(xp.linalg.solve(A, x)))[..., None, None]


def _map(sys: System, a: Array, sign: int, dt: float | bool) -> System:
    """Both directions: E = a - A and A -> 2a E^-1 - 1, or E = 1 + A and A -> a (1 - 2 E^-1).

    For a diagonal system `a` is a number.
    """
    discrete = sign < 0
    if isinstance(sys, DiagonalStateSpace):
        root = (2 * a) ** 0.5
        inverse = 1 / (a - sys.poles) if discrete else 1 / (1 + sys.poles)
        CE = sys.C * inverse[..., None, :]
        feed = CE @ sys.B
        feed = 2 * real(feed) if sys.conjugate else feed
        return replace(
            sys,
            poles=(a + sys.poles) * inverse if discrete else a * (sys.poles - 1) * inverse,
            B=(root * inverse)[..., :, None] * sys.B,
            C=root * CE,
            D=sys.D - sign * feed,
            dt=dt,
            labels=sys.labels.without_states(),
        )
    n = sys.order
    xp = namespace(sys.A)
    identity = eye(n, like=sys.A)
    E = a * identity - sys.A if discrete else identity + sys.A
    solved = xp.linalg.solve(E, xp.concat([xp.broadcast_to(identity, E.shape), sys.B], axis=-1))
    inverse, EB = solved[..., :n], solved[..., n:]
    root = (2 * a) ** 0.5
    return replace(
        sys,
        A=2 * a * inverse - identity if discrete else a * (identity - 2 * inverse),
        B=root * EB,
        C=root * (sys.C @ inverse),
        D=sys.D - sign * (sys.C @ EB),
        dt=dt,
        labels=sys.labels.without_states(),
    )
