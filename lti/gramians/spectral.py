"""P = sum of X_k X_k^H, X_k = (z_k - A)^-1 B Phi_k^1/2: the Gramian of an input spectrum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from lti._backend.arrays import (
    Array,
    device,
    from_numpy,
    is_complex,
    lq_factor,
    namespace,
    to_numpy,
    widen,
)
from lti._backend.checks import as_array, common, require_finite
from lti.errors import DimensionError, OptionError
from lti.gramians.diagonal import in_real_coordinates
from lti.gramians.supplied import GramianFactor
from lti.systems.convert import as_statespace
from lti.systems.protocol import System, SystemLike
from lti.systems.response import points, resolvent
from lti.systems.statespace import DiagonalStateSpace

__all__ = ["input_spectrum", "spectral_factor", "stacked_factor"]


def spectral_factor(
    sys: SystemLike, w: Array, roots: Array, name: str = "of the input's spectrum"
) -> GramianFactor:
    """P = sum_k X_k X_k^H,  X_k = (z_k - A)^-1 B Phi_k^1/2, of a real system its real part.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        A system of n states and m inputs; with ``conjugate=True`` n counts its real states.
    w : array (k,)
        Frequencies in rad per unit of time; z = j w, in discrete time exp(j w dt). Of a real system
        give w >= 0 only: the weight at w counts for -w as well.
    roots : array (k, m, q)
        Phi_k^1/2, with the weight of the frequency in it; `input_spectrum` makes them from data.
    name : str, optional

    Returns
    -------
    GramianFactor
        The limit, for ever denser frequencies, is Enns's weighting by a spectral factor of Phi.

    Raises
    ------
    DimensionError
        If the shapes do not fit.
    NonFiniteError
        If a number is not finite.
    OptionError
        If a pole lies at one of the frequencies.

    See Also
    --------
    GramianFactor.of_states : The same from states.

    References
    ----------
    Enns, "Model reduction with balanced realizations: an error bound and a frequency weighted
    generalization", CDC (1984).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(np.diag([0.5, 0.2]), np.ones((2, 1)), np.ones((1, 2)), dt=True)
    >>> w = 2 * np.pi * np.arange(64) / 64
    >>> white = np.ones((64, 1, 1)) / 8
    >>> S = lti.spectral_factor(sys, w, white).factor
    >>> np.allclose(S @ S.T, lti.controllability_gramian(sys))
    True
    """
    sys = as_statespace(sys).double()
    z, roots = points(sys, w), common(roots=as_array(roots))[0]
    if roots.ndim != 3 or tuple(roots.shape[:2]) != (z.shape[0], sys.n_inputs):
        raise DimensionError(
            f"roots have shape {tuple(roots.shape)}, but there are {z.shape[0]} frequencies and "
            f"{sys.n_inputs} inputs; pass ({z.shape[0]}, {sys.n_inputs}, q)"
        )
    roots = widen(from_numpy(to_numpy(roots), sys.B))
    both = sys.closed() if isinstance(sys, DiagonalStateSpace) else sys
    at_pole = OptionError(
        "a pole lies at one of the frequencies in w; move that frequency a little"
    )
    if bool(namespace(z).any(z[:, None] == namespace(z).reshape(both.poles, (1, -1)))):
        raise at_pole
    if isinstance(both, DiagonalStateSpace):
        X = both.B[..., None, :, :] / (z[:, None, None] - both.poles[..., None, :, None])
        blocks: Any = [(slice(None), X)]
    else:
        blocks = resolvent(both, z.shape[0])(z)
    try:
        S = stacked_factor(sys, (X @ (roots[at] + 0j) for at, X in blocks))
    except (np.linalg.LinAlgError, RuntimeError) as error:
        raise at_pole from error
    require_finite("the factor", S)
    return GramianFactor(S, name)


def stacked_factor(sys: System, blocks: Iterable[Array]) -> Array:
    """The LQ factor of all X_k side by side, (..., n, n) at most, in the coordinates of `sys`.

    Parameters
    ----------
    sys : StateSpace or DiagonalStateSpace
    blocks : iterable of array (..., k, n, q)
        Of a system with ``conjugate=True`` those of both modes of each pair.
    """
    S = None
    for X in blocks:
        xp = namespace(X)
        X = xp.moveaxis(X, -3, -2)
        X = xp.reshape(X, (*X.shape[:-2], X.shape[-2] * X.shape[-1]))
        if isinstance(sys, DiagonalStateSpace) and sys.conjugate:
            X = in_real_coordinates(X, sys.poles.shape[-1])
        elif not (is_complex(sys.matrices[0]) or is_complex(sys.B)):
            X = xp.concat([xp.real(X), xp.imag(X)], axis=-1)
        S = lq_factor(X if S is None else xp.concat([S, X], axis=-1))
    return S


def input_spectrum(u: Array) -> tuple[Array, Array]:
    """Phi(w_k) = mean over sequences of U_k U_k^H / length^2,  U_k = sum_t u[t] exp(-j w_k t).

    Parameters
    ----------
    u : array (sequences, length, m)
        Real, one sample per unit of time.

    Returns
    -------
    w : array (k,)
        From 0 to pi.
    roots : array (k, m, sequences)
        Phi^1/2, each with the weight of w and -w, as `spectral_factor` takes them for a real
        system. The states are then the steady state under periodic inputs.

    Raises
    ------
    DimensionError
        If `u` is not of that form.
    NonFiniteError
        If it has entries that are not finite.

    Examples
    --------
    >>> import lti, numpy as np
    >>> w, roots = lti.input_spectrum(np.ones((5, 8, 1)))
    >>> w.shape, roots.shape, float(np.sum(np.abs(roots) ** 2))
    ((5,), (5, 1, 5), 1.0)
    """
    u = common(u=as_array(u))[0]
    if u.ndim != 3 or 0 in u.shape[:2] or is_complex(u):
        raise DimensionError(
            f"u must be real, (sequences, length, m), not empty, got shape {tuple(u.shape)}, dtype "
            f"{u.dtype}"
        )
    xp, (batch, length, _) = namespace(u), u.shape
    U = xp.fft.rfft(widen(u), axis=1) / (length * batch**0.5)
    k = np.arange(U.shape[1])
    share = np.where((k == 0) | (2 * k == length), 1.0, 2.0) ** 0.5
    w = xp.asarray(2 * np.pi * k / length, device=device(u))
    share = xp.asarray(share, device=device(u))
    return w, xp.permute_dims(U, (1, 2, 0)) * share[:, None, None]
