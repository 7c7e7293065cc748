"""Modes of little damping and weak coupling in large sparse systems, against closed forms."""

import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given
from hypothesis import strategies as st

import lti
from tests.lti.helpers import claiming

EPS = 2.0**-52


class Modes:
    """Uncoupled modes: a resonance of decay z at w, one that is well damped, and real poles.

    `b` and `c` are the rows and columns (m,), (p,) by which the resonance is coupled.
    """

    def __init__(self, z, w, b, c, *, n=260, dt=0, is_complex=False, with_E=False):
        b, c, self.z, self.w, self.dt = np.atleast_1d(b), np.atleast_1d(c), z, w, dt
        if dt:
            damped, light = 0.99 * np.exp(0.5j), (1 - z) * np.exp(1j * w)
            rest = np.linspace(0.1, 0.9, n - 4)
        else:
            damped, light, rest = -0.01 + 1j, -z + 1j * w, -np.linspace(1, 50, n - 4)
        pairs = [damped, light] if w else [damped]
        self.poles = np.concatenate([pairs, np.conj(pairs), rest if w else np.append(light, rest)])
        at = 1 if w else 2
        n = len(self.poles)
        self.B = np.full((n, len(b)), 0.1) + 0j
        self.C = np.full((len(c), n), 0.1) + 0j
        self.B[[0, len(pairs)]], self.C[:, [0, len(pairs)]] = 0.5, 0.5
        self.B[at], self.C[:, at] = b, c
        if w:
            self.B[at + len(pairs)], self.C[:, at + len(pairs)] = b, c
        A, B, C = sparse.diags(self.poles).tocsc(), self.B, self.C
        if not is_complex:  # [[1, 1], [i, -i]] / sqrt(2) makes real blocks of pairs
            k, rows = len(pairs), sparse.identity(n, dtype=complex, format="lil")
            for i in range(k):
                block = np.array([[1, 1], [1j, -1j]]) / 2**0.5
                rows[np.ix_([i, i + k], [i, i + k])] = block
            T = rows.tocsc()
            A, B, C = (T @ A @ T.conj().T).real, (T @ B).real, (C @ T.conj().T).real
        E = None
        if with_E:
            E = sparse.diags([0.2, 1.0, 0.2], [-1, 0, 1], shape=(n, n)).tocsc()
            A, B = (E @ A).tocsc(), E @ B
        self.system = lti.SparseStateSpace(A, B, C, E=E, dt=dt)
        size = 1.0 if dt else 50.0
        self.gain = float(np.linalg.norm(b) * np.linalg.norm(c)) / z
        self.rounding = 1e3 * EPS * size / z * self.gain

    def error(self, reduction):
        """The largest error close to the resonance."""
        found = []
        for w in (self.w, self.w + self.z, self.w - self.z):
            s = np.exp(1j * w) if self.dt else 1j * w
            exact = (self.C / (s - self.poles)) @ self.B
            r = reduction.system
            found.append(exact - r.C @ np.linalg.solve(s * np.eye(r.order) - r.A, r.B) - r.D)
        return max(np.linalg.norm(x, 2) for x in found)


COUPLED = {
    "both": (1e-5, 1e-5),
    "input": (1e-7, 1.0),
    "output": (1.0, 1e-7),
    "hardly": (1e-7, 1e-7),
    "two inputs": ([1e-5, -3e-6], [1e-5, 1e-6, 0.0]),
    "units": ([1e-8, 1e-3], [1e-8, 1e-4]),
}


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize(("z", "w"), [(1e-9, 2.3), (1e-6, 0.0)])
@pytest.mark.parametrize("form", ["plain", "is_complex", "with_E"])
@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("coupled", COUPLED)
def test_the_bound_counts_a_resonance(coupled, dt, form, z, w):
    if (coupled, dt, form, w) == ("units", 0, "plain", 0.0):
        pytest.skip("a slow real pole in such units does not converge: an error")
    b, c = COUPLED[coupled]
    modes = Modes(z, w, b, c, dt=dt, **({} if form == "plain" else {form: True}))
    for order in (2, 5, 8):
        reduction = lti.balanced_truncation(modes.system, order)
        assert modes.error(reduction) <= reduction.error_bound * (1 + 1e-6) + modes.rounding
        assert reduction.error_bound < 10 * (modes.gain + 100)


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@given(
    z=st.floats(-11, -3), w=st.floats(0.7, 2.9), b=st.floats(-8, 0), c=st.floats(-8, 0),
    dt=st.sampled_from([0, True]), order=st.integers(0, 8),
)  # fmt: skip
def test_of_any_damping_and_coupling(z, w, b, c, dt, order):
    modes = Modes(10.0**z, w, 10.0**b, 10.0**c, dt=dt)
    reduction = lti.balanced_truncation(modes.system, order)
    error = modes.error(reduction)
    assert error <= reduction.error_bound * (1 + 1e-6) + modes.rounding + 1e-9
    # Up to rounding the value of the resonance is b c / (2 z), if it is the largest
    if modes.gain > 1e3:
        assert lti.hankel_norm(modes.system) == pytest.approx(modes.gain / 2, rel=0.05)


@pytest.mark.parametrize("z", [1e-12, 1e-11, 1e-9])
@pytest.mark.parametrize("dt", [0, True])
def test_the_values_are_those_of_the_closed_form(z, dt):
    modes = Modes(z, 2.3, 1e-5, 1e-5, n=800, dt=dt)
    values = lti.hankel_singular_values(modes.system)
    value = 1e-10 / (1 - (1 - z) ** 2) if dt else 1e-10 / (2 * z)
    assert abs(values - value).min() < (1e-3 + 1e-14 / z) * value


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize("dt", [0, True])
def test_a_tolerance_counts_a_resonance(dt):
    modes = Modes(1e-9, 2.3, 1e-5, 1e-5, dt=dt)
    reduction = lti.balanced_truncation(modes.system, tol=0.03)
    assert modes.error(reduction) <= 0.03


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("dt", "w"), [(0, 2.3), (0, 30.0), (True, 2.3), (True, 0.9)])
def test_verify_sees_a_resonance_that_the_factors_lack(dt, w, is_complex):
    modes = Modes(1e-9, w, 1e-5, 1e-5, n=600, dt=dt, is_complex=is_complex)
    S, R = lti.gramian_factors(modes.system)
    S, R = S.copy(), R.copy()
    S[[1, 3]] = R[[1, 3]] = 0.0
    reduction = lti.balanced_truncation(modes.system, 10, controllability=S, observability=R)
    error = modes.error(reduction)
    assert error > 0.09
    assert reduction.verify() == pytest.approx(error, rel=1e-3)
    with pytest.raises(lti.CertificateError):
        claiming(reduction, error_bound=np.array(0.01)).verify()


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize("dt", [0, True])
def test_verify_allows_no_more_rounding_than_the_flag_says(dt):
    modes = Modes(1e-11, 2.3, 1e-6, 1e-6, n=60, dt=dt)
    S, R = lti.gramian_factors(modes.system)
    S, R = S.copy(), R.copy()
    S[[1, 3]] = R[[1, 3]] = 0.0
    reduction = lti.balanced_truncation(modes.system, 4, controllability=S, observability=R)
    with pytest.raises(lti.CertificateError):
        claiming(reduction, error_bound=np.array(0.002)).verify()


@pytest.mark.parametrize("dt", [0, True])
def test_the_flag_of_a_pole_close_to_the_boundary(dt):
    modes = Modes(1e-10, 2.3, 1e-5, 1e-5, dt=dt)
    with pytest.warns(lti.ReductionWarning, match="of the stability boundary"):
        lti.balanced_truncation(modes.system, 4)
