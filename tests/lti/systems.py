"""Stable systems for hypothesis to draw, and second opinions that share no code with `lti`."""

import mpmath
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import lti

# Grid values make zeros, coincidences and exact cancellation likely; floats make them near misses.
VALUES = st.integers(-8, 8).map(lambda k: k / 4) | st.floats(-2, 2, width=32)
ANGLES = st.sampled_from([0.0, np.pi / 2, np.pi]) | st.floats(0, np.pi)
DOMAINS = st.sampled_from([0, True, 0.5])


def real_arrays(shape, elements=VALUES):
    return hnp.arrays(np.float64, shape, elements=elements)


@st.composite
def arrays(draw, shape, is_complex=False):
    """An array of modest numbers, real or complex."""
    if not is_complex:
        return draw(real_arrays(shape))
    return draw(real_arrays(shape)) + 1j * draw(real_arrays(shape))


@st.composite
def poles_of(draw, n, dt):
    """n complex numbers in the upper half of the stability region, real ones among them."""
    if dt == 0:
        decay = draw(real_arrays(n, st.floats(0.125, 4, width=32)))
        return -decay + 1j * draw(real_arrays(n, st.just(0.0) | st.floats(0, 4, width=32)))
    return draw(real_arrays(n, st.floats(0, 0.875, width=32))) * np.exp(
        1j * draw(real_arrays(n, ANGLES))
    )


@st.composite
def diagonal_systems(draw, conjugate=None, dt=None, max_order=6, max_ports=3, minimal_ports=1):
    """A stable `DiagonalStateSpace`: real, complex or conjugate, of 1 to `max_order` states."""
    dt = draw(DOMAINS) if dt is None else dt
    conjugate = draw(st.booleans()) if conjugate is None else conjugate
    n = draw(st.integers(1, max(1, max_order // 2 if conjugate else max_order)))
    m, p = (draw(st.integers(minimal_ports, max_ports)) for _ in range(2))
    poles, is_complex = draw(poles_of(n, dt)), conjugate or draw(st.booleans())
    if not is_complex:
        poles = poles.real if dt == 0 else np.abs(poles) * np.sign(np.cos(np.angle(poles)))
    elif not conjugate:
        poles = np.where(draw(real_arrays(n)) < 0, poles.conj(), poles)
    B, C = draw(arrays((n, m), is_complex)), draw(arrays((p, n), is_complex))
    D = draw(arrays((p, m), is_complex and not conjugate))
    return lti.DiagonalStateSpace(poles, B, C, D, dt, conjugate)


@st.composite
def dense_systems(draw, dt=None, max_order=6, max_ports=3, is_complex=None):
    """A stable `StateSpace` with a non-normal A whose eigenvalues were drawn, in a random basis."""
    dt = draw(DOMAINS) if dt is None else dt
    is_complex = draw(st.booleans()) if is_complex is None else is_complex
    n = draw(st.integers(1, max_order))
    m, p = draw(st.integers(1, max_ports)), draw(st.integers(1, max_ports))
    poles = draw(poles_of(n, dt))
    A = np.triu(draw(arrays((n, n), is_complex)), 1) / 4 + np.diag(
        poles if is_complex else poles.real
    )
    if not is_complex:
        for i in range(0, n - 1, 2):  # a pair a +- jw takes two rows
            a, w = poles[i].real, poles[i].imag
            A[i : i + 2, i : i + 2] = [[a, w], [-w, a]]
    U = unitary(n, draw(st.integers(0, 999)), is_complex)
    B, C = draw(arrays((n, m), is_complex)), draw(arrays((p, n), is_complex))
    return lti.StateSpace(U @ A @ U.conj().T, B, C, draw(arrays((p, m), is_complex)), dt)


def systems(dt=None, **kwargs):
    """Any stable system: dense or diagonal, real, complex or conjugate."""
    return dense_systems(dt=dt, **kwargs) | diagonal_systems(dt=dt, **kwargs)


def unitary(n, seed, is_complex=False):
    """A random orthogonal or unitary matrix."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n))
    return np.linalg.qr(X + 1j * rng.standard_normal((n, n)) if is_complex else X)[0]


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


def all_pass(poles):
    """prod (s + p^*) / (s - p) in balanced form: P = Q = 1, |G(jw)| = 1 everywhere."""
    n = len(poles)
    # P = I: A + A^H = -B B^H, with the Takenaka-Malmquist cascade of the poles
    root = np.sqrt(-2 * poles.real)
    A = np.diag(poles) - np.tril(np.outer(root, root), -1)
    return lti.StateSpace(A, root[:, None], -root[None, :], np.eye(1), 0) if n else None


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
