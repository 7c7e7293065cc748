"""Sparse systems for tests, small enough to be compared with their dense form."""

import numpy as np
import scipy.sparse as sparse

import lti


def rod(n, *, m=1, p=1, dt=0, ends=False):
    """Heat in a rod: E x' = A x + B u by finite elements, E the mass matrix."""
    h = 1 / (n + 1)
    A = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(n, n), format="csr") / h
    E = sparse.diags([1.0, 4.0, 1.0], [-1, 0, 1], shape=(n, n), format="csr") * (h / 6)
    at = np.linspace(0, 1, n)
    B = np.stack([np.exp(-50 * (at - c) ** 2) for c in np.linspace(0.2, 0.7, m)], axis=1) * h
    C = np.stack([(abs(at - c) < 0.1) * h * 5 for c in np.linspace(0.8, 0.4, p)])
    if dt:
        A = E + A * (0.01 * 0.5)  # explicit Euler would be unstable: an implicit step
        E = E - sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(n, n)) / h * (0.01 * 0.5)
    return lti.SparseStateSpace(A, B, C, None, E, dt)


def random_pencil(n=30, m=2, p=3, *, E="spd", is_complex=False, dt=0, seed=0):
    """A stable sparse system with oscillating modes; E the identity, definite or nonsymmetric."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        X = rng.standard_normal(shape)
        return X + 1j * rng.standard_normal(shape) if is_complex else X

    J = sparse.random(n, n, 0.1, random_state=rng, data_rvs=rng.standard_normal)
    A0 = (J - J.T) * 3 - sparse.diags(rng.uniform(0.2, 3, n))  # dissipative
    if is_complex:
        A0 = A0 + 1j * sparse.diags(rng.standard_normal(n))
    if dt:  # inside of the unit disc by the Cayley transform of a stable matrix
        X = A0.toarray() * 0.5
        A0 = sparse.csc_array(np.linalg.solve(np.eye(n) - X, np.eye(n) + X))
    L = sparse.eye(n)
    if E is not None:
        L = sparse.diags(rng.uniform(0.5, 2, n)) + 0.2 * sparse.random(n, n, 0.1, random_state=rng)
    R = L.T if E == "spd" else sparse.eye(n) + 0.1 * sparse.random(n, n, 0.1, random_state=rng)
    if E is None:
        return lti.SparseStateSpace(A0, normal(n, m), normal(p, n), normal(p, m), None, dt)
    return lti.SparseStateSpace(L @ A0 @ R, normal(n, m), normal(p, n), normal(p, m), L @ R, dt)


def free_rod(n, add=0.0):
    """A rod with insulated ends: the constant temperature is a pole at `add`."""
    A = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(n, n), format="lil")
    A[0, 0] = A[-1, -1] = -1.0
    return A + add * sparse.eye(n)


def ports(n, seed=0):
    """B and C that reach and see every mode."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2)), rng.standard_normal((2, n)) / n


def chain(n, gain, back=0.0):
    """Each state drives the next one, and with `back` is driven by it: poles at about -1."""
    return sparse.diags_array([back, -1.0, gain], offsets=[-1, 0, 1], shape=(n, n)).tocsc()


def masses(k, dampers, inputs=(0,), ends=2.0):
    """Equal masses in a row, held at both ends or (ends=1) free, some of them damped."""
    K = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(k, k)).tolil()
    K[0, 0] = K[k - 1, k - 1] = ends
    D = sparse.diags_array(np.asarray(dampers, float))
    return lti.second_order(sparse.eye_array(k), D, K, np.eye(k)[:, list(inputs)], np.eye(1, k))


def hot_spot(n=300):
    """A pole at 1.6, far to the right of half of the others, which are closer to zero."""
    A = sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(n, n), format="lil")
    A[n // 2, n // 2] += 3
    return lti.SparseStateSpace(A, *ports(n))


def indefinite(n=300):
    """An E with two negative entries: poles at 19 and 2009."""
    E = np.ones(n)
    E[3], E[n - 9] = -1e-3, -0.1
    return lti.SparseStateSpace(free_rod(n, -0.01), *ports(n), E=sparse.diags(E))


def free_chain(k=150):
    """Masses that nothing holds: a double pole at zero, which has one eigenvector."""
    K, (B, C) = -free_rod(k), ports(k)
    return lti.second_order(sparse.eye(k), 0.5 * K, K, B, C)


def fast_pair(n=300):
    """0.1 +- 1000 j among real poles."""
    A = np.diag(-np.linspace(1.0, 300.0, n))
    A[:2, :2] = [[0.1, 1000.0], [-1000.0, 0.1]]
    return lti.SparseStateSpace(A, *ports(n))


def outside_the_disc(n=300):
    """-1.3, a double pole 1.1 with two eigenvectors, and 1 itself."""
    A = np.linspace(-0.9, 0.99, n)
    A[[0, 5, 8, 9]] = -1.3, 1.0, 1.1, 1.1
    return lti.SparseStateSpace(sparse.diags(A), *ports(n), dt=1.0)


UNSTABLE = {
    "hot spot": (hot_spot, [1.60555128]),
    "indefinite E": (indefinite, [19.15282707, 2009.00547732]),
    "insulated": (lambda: lti.SparseStateSpace(free_rod(300), *ports(300)), [0.0]),
    "free chain": (free_chain, [0.0, 0.0]),
    "fast pair": (fast_pair, [0.1 - 1000j, 0.1 + 1000j]),
    "discrete": (outside_the_disc, [-1.3, 1.0, 1.1, 1.1]),
}
