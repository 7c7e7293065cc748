"""Between continuous and discrete time: by sampling with a hold, or by the bilinear map."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import logm

from lti._backend.arrays import (
    Array,
    device,
    eye,
    from_numpy,
    is_complex,
    namespace,
    narrow,
    real,
    to_numpy,
)
from lti._backend.blocks import solve
from lti._backend.checks import no_derivative, one_of, timebase
from lti._backend.condition import EPS, condition
from lti._backend.exponential import expm
from lti.errors import OptionError, TimebaseError
from lti.systems.algebra import has_pole_at, host_copy, in_units, member, state_scaling
from lti.systems.convert import as_statespace, without_sparse
from lti.systems.protocol import System, SystemLike
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["bilinear", "discretize", "undiscretize"]

METHODS = ("zoh", "bilinear")
LOST = 1e-6  # change of a pole, relatively, by rounding, beyond which it has no logarithm


def bilinear(sys: SystemLike, dt: float | bool = True) -> System:
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
    original = without_sparse(as_statespace(sys))
    sys = original.double()
    if not sys.is_discrete:
        dt = timebase(dt)
        if dt == 0:
            raise TimebaseError("dt=0 is no sampling time; pass a positive number, or True")
    step = sys.dt if sys.is_discrete else dt
    a = 1.0 if step is True else 2 / step
    singular = -1.0 if sys.is_discrete else a
    if has_pole_at(sys, singular):
        raise TimebaseError(f"the pole {singular:g} would go to infinity; use another dt")
    return _narrowed(
        to_continuous(sys, a) if sys.is_discrete else to_discrete(sys, a, dt), original
    )


def discretize(
    sys: SystemLike, dt: float, method: str = "zoh", prewarp: float | None = None
) -> System:
    """[A_d, B_d; 0, 1] = exp(dt [A, B; 0, 0]): the samples under an input that is held between.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A continuous system; its poles may lie anywhere.
    dt : float
        Sampling time.
    method : {"zoh", "bilinear"}, optional
        "zoh" (zero-order hold) keeps the step response at the samples; "bilinear" (Tustin's method)
        is the map of `lti.bilinear`.
    prewarp : float, optional
        With "bilinear": the frequency in rad per unit of time at which both systems respond alike,
        ``a = w / tan(w dt / 2)`` in place of ``2 / dt``.

    Returns
    -------
    StateSpace or DiagonalStateSpace
        A diagonal system stays diagonal; labels are kept.

    Raises
    ------
    OptionError
        If `method` or `prewarp` is none of these.
    TimebaseError
        If the system is discrete, or `dt` is not a sampling time.

    See Also
    --------
    undiscretize

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.discretize(([[-1.0]], [[1.0]], [[1.0]]), dt=np.log(2))
    >>> sys.A, sys.B
    (array([[0.5]]), array([[0.5]]))
    """
    original = without_sparse(as_statespace(sys))
    sys = original.double()
    one_of("method", method, METHODS)
    dt = timebase(dt)
    if sys.is_discrete:
        raise TimebaseError(f"the system is discrete already, dt={sys.dt}; use undiscretize first")
    if dt is True or dt == 0:
        raise TimebaseError(f"dt={dt!r} is no sampling time; pass a positive number")
    if method == "bilinear":
        a = _warped(dt, prewarp)
        if has_pole_at(sys, a):
            raise TimebaseError(f"the pole {a:g} would go to infinity; use another dt")
        return _narrowed(to_discrete(sys, a, dt), original)
    _no_prewarp(prewarp)
    if isinstance(sys, DiagonalStateSpace):
        xp, p = namespace(sys.poles), sys.poles * dt
        rest = xp.where(p == 0, 1.0, p)
        hold = dt * xp.where(p == 0, 1.0 + 0 * p, xp.expm1(rest) / rest)  # (e^p - 1) / p
        held = replace(sys, poles=xp.exp(p), B=hold[..., :, None] * sys.B, dt=dt)
        return _narrowed(held, original)
    A, B = _held(sys.A, sys.B, dt)
    return _narrowed(replace(sys, A=A, B=B, dt=dt), original)


def undiscretize(sys: SystemLike, method: str = "zoh", prewarp: float | None = None) -> System:
    """dt [A, B; 0, 0] = log [A_d, B_d; 0, 1]: the continuous system that `discretize` samples.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A discrete system with a sampling time.
    method, prewarp : optional
        As in `discretize`.

    Returns
    -------
    StateSpace or DiagonalStateSpace

    Raises
    ------
    DerivativeError
        If the system is dense and derivatives of its zero-order hold are asked for.
    OptionError
        If `method` or `prewarp` is none of these, or a pole is zero, or real and negative: no real
        continuous system has such samples. The bilinear map has no such limit.
    TimebaseError
        If the system is continuous, or has no sampling time.

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace([[-1.0, 2.0], [0.0, -3.0]], [[1.0], [1.0]], [[1.0, 1.0]])
    >>> back = lti.undiscretize(lti.discretize(sys, dt=0.1))
    >>> np.allclose(back.A, sys.A) and np.allclose(back.B, sys.B)
    True
    """
    original = without_sparse(as_statespace(sys))
    sys = original.double()
    one_of("method", method, METHODS)
    if not sys.is_discrete or sys.dt is True:
        raise TimebaseError(f"dt={sys.dt!r} is no sampling time; give the system its own")
    dt = sys.dt
    if method == "bilinear":
        if has_pole_at(sys, -1.0):
            raise TimebaseError('the pole -1 would go to infinity; use method="zoh"')
        return _narrowed(to_continuous(sys, _warped(dt, prewarp)), original)
    _no_prewarp(prewarp)
    poles = to_numpy(sys.poles)
    diagonal = isinstance(sys, DiagonalStateSpace)
    real_ones = not (diagonal and not sys.conjugate) and not is_complex(sys.B)
    bad = (poles == 0) | (real_ones & (poles.imag == 0) & (poles.real < 0))
    if bad.any():
        raise OptionError(
            f"the pole {poles[bad].ravel()[0]:.9g} is that of no continuous system under a "
            'zero-order hold; sample more often, or use method="bilinear"'
        )
    if isinstance(sys, DiagonalStateSpace):
        xp = namespace(sys.poles)
        p = xp.log(sys.poles + (0j if is_complex(sys.B) or (poles.real < 0).any() else 0.0))
        rest = xp.where(p == 0, 1.0, p)
        hold = dt * xp.where(p == 0, 1.0 + 0 * p, xp.expm1(rest) / rest)
        return _narrowed(replace(sys, poles=p / dt, B=sys.B / hold[..., :, None], dt=0), original)
    no_derivative("undiscretize, but of a diagonal system, has", *sys.matrices)
    host: Any = host_copy(sys)
    A, B = np.empty_like(host.A), np.empty_like(host.B)
    for i in np.ndindex(host.batch_shape):
        one: Any = member(host, i)
        d = state_scaling(one)[:, None]
        one = in_units(one, d[:, 0])
        lost = EPS * condition(one.A)
        if lost > LOST:
            raise OptionError(
                f"the pole {min(poles[i], key=abs):.3g} is so close to zero that rounding of A "
                f"moves it by {lost:.1g}, relatively, and its logarithm with it; sample more "
                'often, or use method="bilinear"'
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of small poles, which are judged here
            L: Any = logm(one.A) if one.order else one.A
        L = (L if np.iscomplexobj(A) else L.real) / dt
        _, hold = _held(L, np.eye(len(L), dtype=L.dtype), dt)
        A[i], B[i] = d * L / d.T, d * np.linalg.solve(hold, one.B)
    A, B = (from_numpy(x, like=sys.B) for x in (A, B))
    return _narrowed(replace(sys, A=A, B=B, dt=0), original)


def _held(A: Array, B: Array, dt: float) -> tuple[Array, Array]:
    """e^(A dt) and int_0^dt e^(A t) dt B, from the exponential of [A, B; 0, 0]."""
    n, m, xp = A.shape[-1], B.shape[-1], namespace(A)
    top = xp.concat([A, B], axis=-1) * dt
    below = xp.zeros((*top.shape[:-2], m, n + m), dtype=top.dtype, device=device(top))
    X = expm(xp.concat([top, below], axis=-2))
    return X[..., :n, :n], X[..., :n, n:]


def _narrowed(sys: Any, original: System) -> System:
    """A result in the precision of the system that came in."""
    state = "poles" if isinstance(sys, DiagonalStateSpace) else "A"
    parts = {name: narrow(getattr(sys, name), like=original.B) for name in (state, "B", "C", "D")}
    return replace(sys, **parts)


def _warped(dt: float, prewarp: float | None) -> float:
    """a of the bilinear map s = a (z - 1) / (z + 1)."""
    if prewarp is None or prewarp == 0:
        return 2 / dt
    if not 0 < prewarp < np.pi / dt:
        raise OptionError(
            f"prewarp={prewarp!r} must lie between 0 and the Nyquist frequency, {np.pi / dt:.6g}"
        )
    return float(prewarp / np.tan(prewarp * dt / 2))


def _no_prewarp(prewarp: float | None) -> None:
    if prewarp is not None:
        raise OptionError('prewarp goes with method="bilinear"; leave it out, or change the method')


def to_discrete(sys: System, a: Array, dt: float | bool = True) -> System:
    """The bilinear map at shift `a`, a number or (..., 1, 1)."""
    return _map(sys, a, sign=-1, dt=dt)


def to_continuous(sys: System, a: Array) -> System:
    """The inverse bilinear map at shift `a`, a number or (..., 1, 1)."""
    return _map(sys, a, sign=+1, dt=0)


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
    solved = solve(E, xp.concat([xp.broadcast_to(identity, E.shape), sys.B], axis=-1))
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
