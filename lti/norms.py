"""Norms of a system: H2, H-infinity, L-infinity, Hankel."""

from __future__ import annotations

from dataclasses import replace

from lti._backend.arrays import (
    Array,
    conj,
    detach,
    device,
    frobenius,
    namespace,
    narrow,
    real,
    times,
    torch_backend,
    tracked,
)
from lti._backend.checks import in_range, positive
from lti._renamed import renamed
from lti.gramians.exact import exact_factors, squares
from lti.gramians.lyapunov import scaled
from lti.hankel import hankel_singular_values
from lti.peak import peak, peak_or_pole, stacked, with_derivative
from lti.systems.algebra import host_copy, member
from lti.systems.convert import as_statespace
from lti.systems.protocol import SystemLike

__all__ = ["h2_norm", "hankel_norm", "hinf_norm", "linf_norm"]


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
    b, c = (scaled(detach(x))[1] for x in (double.B, double.C))  # squares need room
    double = replace(double, B=double.B / b, C=double.C / c)
    found = exact_factors(double)
    dense, xp = double.to_dense(), namespace(found.S)
    inner = xp.linalg.matrix_norm(found.system.to_dense().C @ found.S)
    if tracked(*double.matrices):  # |C S|^2 = tr(C P C^H)
        P, _ = squares(double, *found.in_given_coordinates())
        square = real(xp.sum(dense.C @ P * conj(dense.C), axis=(-2, -1)))
        inner = torch_backend().attach(inner, _root(square))
    inner = in_range("the H2 norm is", times(b, inner[..., None, None] * c)[..., 0, 0])
    feed = frobenius(dense.D)
    if sys.is_discrete:
        top = detach(xp.where(inner > feed, inner, feed))
        top = xp.where(top > 0, top, 1.0)
        norm = top * _root((inner / top) ** 2 + (feed / top) ** 2)
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
    By modes, where these keep enough digits: all frequencies are covered by intervals, on each of
    which a Taylor polynomial and a remainder bound the gain; intervals that may hold a larger gain
    than the largest one found are divided. Else by level sets: for a level ``g`` above every gain
    found so far, the imaginary eigenvalues of a Hamiltonian matrix are the frequencies where a
    singular value crosses ``g``; a climb from the largest gain at and between them gives the next
    level, until there are none. A suspected eigenvalue costs one more evaluation and can do no
    harm. The work is done on the host in double precision. In torch the derivative is that of the
    gain at the frequency found; where the largest gain is attained twice, it is one of several.

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
    sys = as_statespace(sys)
    gain, w = peak(sys, None, rtol)
    gain = with_derivative(sys, gain, w)
    return (gain, w) if return_frequency else gain


@renamed(tol="rtol")
def linf_norm(
    sys: SystemLike, rtol: float = 1e-9, *, return_frequency: bool = False
) -> Array | tuple[Array, Array]:
    """||G||_Linf = sup over w of the largest singular value of G(j w), or G(e^{j w}), G unstable.

    Of a stable system it is the H-infinity norm. Of another it is no bound on what the output can
    be: it compares transfer functions on the stability boundary.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Its poles may lie anywhere.
    rtol : float, optional
        As in `hinf_norm`.
    return_frequency : bool, optional
        Also return where the gain is attained.

    Returns
    -------
    norm : array (...)
        Infinite if a pole lies on the boundary to working precision, even one that no input reaches
        or no output sees.
    w : array (...)
        Only with `return_frequency`, as of `hinf_norm`; NaN where the norm is infinite.

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
    gain, w = stacked(lambda i: peak_or_pole(member(G, i), rtol), G.batch_shape, like=sys.B)
    gain = with_derivative(sys, gain, w)
    return (gain, w) if return_frequency else gain
