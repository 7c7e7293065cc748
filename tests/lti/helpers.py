"""Systems for tests, and second opinions that share no code with `lti`."""

import warnings
from dataclasses import replace

import mpmath
import numpy as np
from hypothesis.extra import numpy as hnp

import lti
from lti.testing import all_pass as all_pass
from lti.testing import stable_systems
from lti.testing import unitary as unitary
from lti.testing.strategies import COMPLEX_VALUES, VALUES


def arrays(shape, is_complex=False):
    """Arrays of modest numbers, real or complex."""
    dtype = np.complex128 if is_complex else np.float64
    return hnp.arrays(dtype, shape, elements=COMPLEX_VALUES if is_complex else VALUES)


def systems(dt=None, max_order=6):
    """Any stable system of modest numbers: dense or diagonal, real, complex or conjugate."""
    return stable_systems(order=(1, max_order), dt=dt, kind="generic")


def dense_systems(dt=None, max_order=6, is_complex=None):
    """Those of them that are a `StateSpace`."""
    field = {None: None, False: "real", True: "complex"}[is_complex]
    return stable_systems(order=(1, max_order), dt=dt, field=field, form="dense", kind="generic")


def diagonal_systems(conjugate=None, dt=None, max_order=6):
    """Those of them that are a `DiagonalStateSpace`."""
    if conjugate is None:
        return diagonal_systems(False, dt, max_order) | diagonal_systems(True, dt, max_order)
    form = "conjugate" if conjugate else "diagonal"
    return stable_systems(order=(1, max_order), dt=dt, form=form, kind="generic")


def random_dense(n, m=2, p=3, *, dt=0, seed=0, is_complex=False, stack=()):
    """A stable random `StateSpace` whose slowest pole is 0.2 from the boundary (or at 0.8)."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        X = rng.standard_normal((*stack, *shape))
        return X + 1j * rng.standard_normal((*stack, *shape)) if is_complex else X

    A, identity = normal(n, n) / np.sqrt(n), np.eye(n)
    if n and dt == 0:
        A = A - (np.linalg.eigvals(A).real.max(-1)[..., None, None] + 0.2) * identity
    elif n:
        A = 0.8 * A / np.abs(np.linalg.eigvals(A)).max(-1)[..., None, None]
    return lti.StateSpace(A, normal(n, m), normal(p, n), normal(p, m), dt)


def random_ring(n, m=2, p=2, *, seed=0, smallest=0.5, largest=0.99, conjugate=False):
    """A discrete system with poles spread over a ring, as in a linear recurrent unit."""
    rng = np.random.default_rng(seed)
    poles = np.sqrt(rng.uniform(smallest**2, largest**2, n)) * np.exp(1j * rng.uniform(0, np.pi, n))
    B, C = (rng.standard_normal((*shape, 2)) @ [1, 1j] for shape in ((n, m), (p, n)))
    return lti.DiagonalStateSpace(poles, B, C, rng.standard_normal((p, m)), True, conjugate)


def claiming(reduction, **changes):
    """The reduction with other bounds."""
    return replace(reduction, claim=replace(reduction.claim, **changes))


def quiet(reduce, *args, **kwargs):
    """A reduction without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.ReductionWarning)
        return reduce(*args, **kwargs)


# ------------------------------------------------------------------ second opinions


def response(sys, s):
    """C (s - A)^-1 B + D at the points s, from the matrices as they stand."""
    return moving_part(sys, s) + np.asarray(sys.D)


def moving_part(sys, s):
    """C (s - A)^-1 B at the points s."""
    A, B, C = (np.asarray(x) for x in (sys.A, sys.B, sys.C))
    if getattr(sys, "conjugate", False):
        # y = C x + conj(C x): the two halves as one complex system
        A = np.diag(np.concatenate([sys.poles, sys.poles.conj()]))
        B, C = np.concatenate([B, B.conj()]), np.concatenate([C, C.conj()], axis=1)
    s = np.asarray(s)[:, None, None]
    return C @ np.linalg.solve(s * np.eye(len(A)) - A, B + 0j)


def boundary(sys, k=200):
    """k points on the stability boundary, where gains are measured; poles have their own."""
    poles = np.linalg.eigvals(np.asarray(sys.A))
    if sys.is_discrete:
        return np.exp(1j * np.concatenate([np.linspace(-np.pi, np.pi, k), np.angle(poles)]))
    w = np.logspace(-3, 3, k // 2)
    return 1j * np.concatenate([-w, [0], w, poles.imag])


def distance(sys):
    """How far inside the stability boundary each pole is."""
    poles = np.linalg.eigvals(np.asarray(sys.A))
    return 1 - np.abs(poles) if sys.is_discrete else -poles.real


def grid_peak(*pair):
    """The largest gain of G, or of G - F, on the grid of `boundary`: at most the norm."""
    s = boundary(pair[0])
    gap = moving_part(pair[0], s)
    if len(pair) > 1:
        gap = gap - moving_part(pair[1], s) + (pair[0].D - pair[1].D)
    else:
        gap = gap + pair[0].D
    return np.linalg.norm(gap, ord=2, axis=(-2, -1)).max()


def impulse(sys, k):
    """D, CB, CAB, ...: k terms of the impulse response."""
    A, B, C, D = sys.A, sys.B, sys.C, sys.D
    terms = [D]
    for _ in range(k - 1):
        terms.append(C @ B)
        B = A @ B
    return np.array(terms)


def truth(sys, digits=50):
    """Hankel singular values of a diagonal system from closed-form Gramians in mpmath.

    The factors have `digits` digits; for up to 24 states so has everything else. Beyond that their
    product is formed in long double and its SVD in double: right to a few eps * hsv[0].
    """
    poles, B, C = (np.asarray(x) for x in (sys.poles, sys.B, sys.C))
    if getattr(sys, "conjugate", False):
        poles = np.concatenate([poles, poles.conj()])
        B, C = np.concatenate([B, B.conj()]), np.concatenate([C, C.conj()], axis=1)
    with mpmath.workdps(digits):
        p, B, C = (_exact(x) for x in (poles, B, C))
        q = _conj(p)
        product, total = p[:, None] * q[None, :], p[:, None] + q[None, :]
        gap = 1 - product if sys.is_discrete else -total
        S = _cholesky(B @ _conj(B).T / gap)
        R = _cholesky(_conj(C).T @ C / _conj(gap))
        if len(poles) <= 24 and S.size and R.size:
            X = mpmath.matrix((_conj(R).T @ S).tolist())
            values = mpmath.mp.svd_c(X, compute_uv=False)
            sigma = np.array([float(x) for x in values])
        else:
            sigma = np.linalg.svd(
                (_long(R).conj().T @ _long(S)).astype(np.complex128), compute_uv=False
            )
    return np.concatenate([sigma, np.zeros(len(poles) - len(sigma))])


def dense_truth(sys, digits=60):
    """Hankel singular values of a dense system by a doubling iteration in mpmath."""
    with mpmath.workdps(digits):
        A, B, C = (mpmath.matrix(np.asarray(x).tolist()) for x in (sys.A, sys.B, sys.C))
        if not sys.is_discrete:  # the bilinear map at a = 1 keeps both Gramians
            inverse = mpmath.inverse(mpmath.eye(A.rows) - A)
            A, B, C = 2 * inverse - mpmath.eye(A.rows), inverse * B, C * inverse
            B, C = B * mpmath.sqrt(2), C * mpmath.sqrt(2)
        P, Q = B * B.H, C.H * C
        while mpmath.mnorm(A, 1) > mpmath.mpf(10) ** -digits:
            P, Q, A = P + A * P * A.H, Q + A.H * Q * A, A * A
        S = _cholesky(np.array(P.tolist(), dtype=object))
        R = _cholesky(np.array(Q.tolist(), dtype=object))
        X = mpmath.matrix((_conj(R).T @ S).tolist())
        return np.array([float(x) for x in mpmath.mp.svd_c(X, compute_uv=False)])


def _exact(x):
    kind = mpmath.mpc if np.iscomplexobj(x) else mpmath.mpf
    return np.vectorize(kind, otypes=[object])(x)


_conj = np.vectorize(mpmath.conj, otypes=[object])


def _cholesky(P):
    """S with S S^H = P by pivoting, until what is left has no digits."""
    columns, left = [], np.arange(len(P))
    P = P.copy()
    stop = max(P.diagonal(), key=mpmath.re).real * mpmath.mpf(10) ** (8 - mpmath.mp.dps)
    while left.size:
        k = max(left, key=lambda i: P[i, i].real)
        if P[k, k].real <= stop:
            break
        column = np.full(len(P), mpmath.mpf(0), dtype=object)
        column[left] = P[left, k] / mpmath.sqrt(P[k, k].real)
        columns.append(column)
        left = left[left != k]
        P[np.ix_(left, left)] -= np.outer(column[left], _conj(column[left]) if left.size else [])
    zero = np.zeros((len(P), 0), dtype=object)
    return np.stack(columns, axis=1) if columns else zero


def _long(x):
    def part(f):
        high = np.vectorize(lambda z: float(f(z)), otypes=[float])(x)
        low = np.vectorize(lambda z, h: float(f(z) - h), otypes=[float])(x, high)
        return high.astype(np.longdouble) + low

    return part(mpmath.re) + 1j * part(mpmath.im)


def square(S):
    """S S^H."""
    return S @ S.conj().swapaxes(-1, -2)


def close(X, Y, tol=1e-12):
    """Assert that X is Y, relative to the largest entry of Y."""
    np.testing.assert_allclose(X, Y, rtol=0, atol=tol * max(np.abs(Y).max(initial=0), 1e-300))


def same_response(one, other, tol):
    """Assert that two systems have one frequency response."""
    s = boundary(one, 60)
    X, Y = response(one, s), response(other, s)
    np.testing.assert_allclose(X, Y, rtol=0, atol=tol * (1 + np.abs(Y).max(initial=0)))


def exact_values(A, B, C, discrete=False, digits=60):
    """Hankel singular values of an upper triangular real system, by substitution in mpmath."""
    n = len(A)
    with mpmath.workdps(digits):
        a, b, c = (mpmath.matrix(x.tolist()) for x in (A, B, C))
        flip = mpmath.matrix(np.eye(n)[::-1].tolist())
        P = _substituted(a, b * b.T, discrete)
        Q = flip * _substituted(flip * a.T * flip, flip * c.T * c * flip, discrete) * flip
        squares = mpmath.eig(P * Q, left=False, right=False)
        return np.array(sorted((float(mpmath.sqrt(abs(x))) for x in squares), reverse=True))


def exact_gramian(A, B, discrete=False, digits=60):
    """P of an upper triangular real system, in mpmath."""
    with mpmath.workdps(digits):
        a, b = (mpmath.matrix(x.tolist()) for x in (A, B))
        return _substituted(a, b * b.T, discrete)


def _substituted(a, W, discrete):
    n = a.rows
    P = mpmath.matrix(n)
    for i in reversed(range(n)):
        for j in reversed(range(n)):  # P_ij is still zero in the sums
            if discrete:
                known = sum(a[i, k] * P[k, l] * a[j, l] for k in range(i, n) for l in range(j, n))
                P[i, j] = (W[i, j] + known) / (1 - a[i, i] * a[j, j])
            else:
                known = sum(a[i, k] * P[k, j] for k in range(i + 1, n))
                known += sum(P[i, k] * a[j, k] for k in range(j + 1, n))
                P[i, j] = -(W[i, j] + known) / (a[i, i] + a[j, j])
    return P


def chain(n, coupling, full=False):
    """A, B, C with poles from -1e-2 to -1e4 in a row, coupled strongly."""
    A = np.diag(-np.geomspace(1e-2, 1e4, n))
    A += coupling * (np.triu(np.ones((n, n)), 1) if full else np.diag(np.ones(n - 1), 1))
    return A, np.eye(n)[:, -1:], np.eye(n)[:1]


def in_other_units(A, B, C, units, order=None):
    """A, B, C with x_i in `units` (n,), powers of two, and in another order."""
    order = np.arange(len(A)) if order is None else order
    A, B, C = A / units[:, None] * units, B / units[:, None], C * units
    return A[np.ix_(order, order)], B[order], C[:, order]
