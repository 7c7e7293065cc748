"""Norms: known values up to the stability boundary, theorems, and that they always return."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

import lti
from lti import DiagonalStateSpace, StateSpace
from tests.lti.helpers import (
    all_pass,
    boundary,
    dense_systems,
    grid_peak,
    impulse,
    random_dense,
    random_ring,
    response,
    systems,
)
from tests.lti.oracles import oracle


def forms(*poles, dt=True):
    """B = C = 1 with these poles: diagonal and dense."""
    n = len(poles)
    sys = DiagonalStateSpace(np.array(poles), np.ones((n, 1)), np.ones((1, n)), dt=dt)
    return sys, sys.to_dense()


# ------------------------------------------------------------------ up to the boundary


@pytest.mark.parametrize("gap", [1e-1, 1e-5, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("sign", [1, -1])
def test_discrete_real_pole_near_the_circle(gap, sign):
    pole = sign * (1 - gap)
    gap = 1 - abs(pole)  # what was stored
    diagonal, dense = forms(pole)
    h2, hinf = 1 / np.sqrt(gap * (1 + abs(pole))), 1 / gap
    np.testing.assert_allclose(lti.h2_norm(diagonal), h2, rtol=1e-15)
    np.testing.assert_allclose(lti.hankel_norm(diagonal), h2**2, rtol=1e-15)
    # Squaring A has the rounding of its powers: eps / gap relative
    loss = 1e-14 + 1e-16 / gap
    np.testing.assert_allclose(lti.h2_norm(dense), h2, rtol=loss)
    np.testing.assert_allclose(lti.hankel_norm(dense), h2**2, rtol=loss)
    for sys in (diagonal, dense):
        np.testing.assert_allclose(lti.hinf_norm(sys), hinf, rtol=1e-12 if sign == 1 else loss)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12])
def test_discrete_complex_pole_near_the_circle(gap):
    pole = (1 - gap) * np.exp(0.7j)
    exact = 1 - np.longdouble(pole.real) ** 2 - np.longdouble(pole.imag) ** 2  # as stored
    diagonal, dense = forms(pole)
    np.testing.assert_allclose(lti.h2_norm(diagonal), float(exact**-0.5), rtol=1e-3 * 1e-12 / gap)
    np.testing.assert_allclose(lti.h2_norm(diagonal), float(exact**-0.5), rtol=1e-7)
    loss = 1e-14 + 2e-16 / gap  # of a frequency in double precision, and of powers of A
    np.testing.assert_allclose(lti.h2_norm(dense), float(exact**-0.5), rtol=loss)
    for sys in (diagonal, dense):
        np.testing.assert_allclose(lti.hinf_norm(sys), float(2 / exact), rtol=loss + gap)


def test_published_values_near_the_circle():
    for sys in forms(0.99999):
        assert round(float(lti.h2_norm(sys)), 3) == 223.607  # 1 / sqrt(1 - 0.99999^2)
        np.testing.assert_allclose(lti.hinf_norm(sys), 1e5, rtol=1e-9)
    for sys in forms(1 - 1e-6):
        np.testing.assert_allclose(lti.h2_norm(sys), 707.107, rtol=1e-6)
        np.testing.assert_allclose(lti.hinf_norm(sys), 1e6, rtol=1e-9)


@pytest.mark.parametrize("decay", [1e-3, 1e-9, 1e-14])
def test_continuous_pole_near_the_axis(decay):
    for sys in forms(-decay, dt=0):
        np.testing.assert_allclose(lti.h2_norm(sys), (2 * decay) ** -0.5, rtol=1e-13)
        np.testing.assert_allclose(lti.hinf_norm(sys), 1 / decay, rtol=1e-13)
        np.testing.assert_allclose(lti.hankel_norm(sys), 1 / (2 * decay), rtol=1e-13)


@pytest.mark.parametrize("damping", [5e-3, 5e-7, 5e-9])
@pytest.mark.parametrize("frequency", [1e-3, 1.0, 30.0])
def test_lightly_damped_peak(damping, frequency):
    w, z = frequency, damping
    sys = StateSpace([[0, 1.0], [-w * w, -2 * z * w]], [[0], [w * w]], [[1.0, 0]])
    exact = 1 / (2 * z * np.sqrt(1 - z * z))
    np.testing.assert_allclose(lti.hinf_norm(sys), exact, rtol=1e-8)
    np.testing.assert_allclose(lti.h2_norm(sys), np.sqrt(w / (4 * z)), rtol=1e-7)


def test_a_light_resonance_beside_others():
    pairs = [-5e-9 + 1j, -1e-6 + 1.000001j, -3.0 + 1j]
    sys = DiagonalStateSpace(pairs, np.ones((3, 1)), np.ones((1, 3)) / 2, dt=0, conjugate=True)
    for form in (sys, sys.to_dense()):
        s = 1j * (1 + np.linspace(-1e-9, 1e-9, 2001))
        fine = np.abs(response(sys, s)).max()
        np.testing.assert_allclose(lti.hinf_norm(form), fine, rtol=1e-6)


# ------------------------------------------------------------------ other known values


@pytest.mark.parametrize("dt", [0, True])
def test_a_static_system_is_its_gain(dt):
    D = np.array([[3.0, 0, 0], [0, -4.0, 0]])
    for n in (0, 2):
        sys = StateSpace(-0.5 * np.eye(n), np.zeros((n, 3)), np.zeros((2, n)), D, dt)
        np.testing.assert_allclose(lti.hinf_norm(sys), 4.0, rtol=1e-15)
        np.testing.assert_allclose(lti.h2_norm(sys), 5.0 if dt else np.inf, rtol=1e-15)
        assert lti.hankel_norm(sys) == 0


def test_h2_of_a_continuous_system_with_feedthrough_is_infinite():
    sys = random_dense(3, seed=1)
    assert lti.h2_norm(sys) == np.inf
    assert np.isfinite(lti.h2_norm(StateSpace(sys.A, sys.B, sys.C)))
    half = StateSpace(np.array([sys.A] * 2), sys.B, sys.C, np.array([sys.D, 0 * sys.D]))
    assert np.isinf(lti.h2_norm(half)).tolist() == [True, False]


@pytest.mark.parametrize(("n", "m", "p"), [(0, 0, 0), (2, 0, 3), (2, 3, 0), (0, 2, 2), (1, 1, 1)])
@pytest.mark.parametrize("dt", [0, True])
def test_no_states_inputs_or_outputs(library, n, m, p, dt):
    sys = library.system(StateSpace(-0.5 * np.eye(n), np.ones((n, m)), np.ones((p, n)), None, dt))
    expected = {0: 2.0, True: 2.0}[dt] if n * m * p else 0.0
    assert float(lti.hinf_norm(sys)) == pytest.approx(expected)
    assert (float(lti.h2_norm(sys)) > 0) == (float(lti.hankel_norm(sys)) > 0) == (n * m * p > 0)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
def test_finite_impulse_responses(taps, m, p, seed):
    h = np.random.default_rng(seed).standard_normal((taps, p, m))
    shift = np.kron(np.eye(taps - 1, k=-1), np.eye(m))
    C = np.concatenate(list(h[1:]), axis=1) if taps > 1 else np.zeros((p, 0))
    sys = StateSpace(shift, np.eye((taps - 1) * m, m), C, h[0], True)
    np.testing.assert_allclose(lti.h2_norm(sys), np.linalg.norm(h), rtol=1e-13)
    z = np.exp(2j * np.pi * np.arange(4096) / 4096)
    gains = np.linalg.norm(np.tensordot(z[:, None] ** -np.arange(taps), h, 1), 2, axis=(1, 2))
    assert gains.max() / (1 + 1e-9) <= lti.hinf_norm(sys) <= gains.max() * (1 + 1e-4)


def test_a_flat_gain():
    np.testing.assert_allclose(lti.hinf_norm(all_pass(np.array([-1.0, -2 + 3j]))), 1, rtol=1e-12)
    np.testing.assert_allclose(
        lti.hinf_norm(lti.bilinear(all_pass(np.array([-1.0, -0.2])))), 1, rtol=1e-12
    )
    delay = StateSpace([[0.0]], [[2.0]], [[3.0]], None, True)
    np.testing.assert_allclose(lti.hinf_norm(delay), 6, rtol=1e-14)


@pytest.mark.parametrize("where", [np.pi, 3.0, 0.0, np.pi / 2])
def test_poles_and_peaks_anywhere_on_the_circle(where):
    poles = np.array([0.999999, 0.99, 0.5]) * np.exp(1j * where)
    sys = DiagonalStateSpace(poles, np.ones((3, 1)), np.ones((1, 3)))
    fine = np.exp(1j * (where + np.linspace(-1e-5, 1e-5, 4001)))
    np.testing.assert_allclose(lti.hinf_norm(sys), np.abs(response(sys, fine)).max(), rtol=1e-9)
    np.testing.assert_allclose(lti.hinf_norm(sys.to_dense()), lti.hinf_norm(sys), rtol=1e-9)


def test_a_peak_barely_above_the_feedthrough():
    # |G(j w)| -> 1 at infinity, and its peak is 1 + 1e-6 or so, at a finite frequency
    sys = StateSpace([[-1.0, 1], [-1, -1]], [[0.0], [1]], [[2e-3, 0]], [[-1.0]])
    s = 1j * np.linspace(0, 10, 200001)
    np.testing.assert_allclose(lti.hinf_norm(sys), np.abs(response(sys, s)).max(), rtol=1e-9)
    assert lti.hinf_norm(sys) > 1 + 1e-6


@pytest.mark.parametrize("scale", [1e-250, 1e-150, 1e-10, 1e10, 1e150, 1e250])
def test_the_scale_of_the_system_does_not_matter(scale):
    for dt in (0, True):
        sys = random_dense(4, dt=dt, seed=2)
        large = StateSpace(sys.A, scale * sys.B, sys.C, scale * sys.D, dt)
        np.testing.assert_allclose(lti.hinf_norm(large), scale * lti.hinf_norm(sys), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
def test_the_unit_of_time_does_not_matter(scale):
    sys = random_dense(4, seed=2)
    fast = StateSpace(scale * sys.A, scale * sys.B, sys.C, sys.D)
    np.testing.assert_allclose(lti.hinf_norm(fast), lti.hinf_norm(sys), rtol=1e-9)


# ------------------------------------------------------------------ theorems


@given(dense_systems(max_order=4))
def test_hinf_is_the_largest_gain(sys):
    norm = float(lti.hinf_norm(sys))
    assert grid_peak(sys) <= norm * (1 + 1e-9)

    def loss(t):
        s = np.exp(1j * t) if sys.is_discrete else 1j * t
        return -np.linalg.norm(response(sys, np.atleast_1d(s)), 2, axis=(1, 2))

    # ... and it is attained: some local maximum of the grid climbs to it
    s = boundary(sys, 600)
    t = np.unique(np.angle(s) if sys.is_discrete else s.imag)
    t = np.concatenate([[t[0] - 1], t, [t[-1] + 1]])
    best = 1 + np.argsort(loss(t[1:-1]))[:8]
    peaks = [
        -minimize_scalar(lambda t: loss(t)[0], bounds=(t[k - 1], t[k + 1]), method="bounded").fun
        for k in best
    ]
    feed = 0 if sys.is_discrete else np.linalg.norm(sys.D, 2)
    assert max(*peaks, feed, grid_peak(sys)) >= norm * (1 - 1e-6)


@pytest.mark.slow
def test_hinf_of_a_thousand_random_systems():
    for seed in range(500):
        for dt in (0, True):
            sys = random_dense(4, dt=dt, seed=seed, is_complex=seed % 2 == 1)
            assert grid_peak(sys) <= lti.hinf_norm(sys) * (1 + 1e-9), (seed, dt)


@given(systems())
def test_norms_of_a_system_and_its_dense_form_agree(sys):
    for norm in (lti.hinf_norm, lti.hankel_norm, lti.h2_norm):
        one, other = float(norm(sys)), float(norm(sys.to_dense()))
        assert one == other or abs(one - other) <= 1e-9 * one + 1e-13


@given(systems())
def test_hankel_norm_is_at_most_hinf_norm_which_is_at_most_their_sum(sys):
    strictly = StateSpace(sys.A, sys.to_dense().B, sys.to_dense().C, None, sys.dt)
    sigma, norm = lti.hankel_singular_values(strictly), lti.hinf_norm(strictly)
    assert sigma[0] * (1 - 1e-9) <= norm + 1e-13 and norm <= 2 * sigma.sum() * (1 + 1e-9) + 1e-13


@given(systems(dt=True))
def test_h2_norm_is_the_energy_of_the_impulse_response(sys):
    energy = np.linalg.norm(impulse(sys.to_dense(), 400))
    np.testing.assert_allclose(lti.h2_norm(sys), energy, rtol=1e-10, atol=1e-13)


@given(dense_systems(dt=0, max_order=4))
def test_h2_norm_by_duality(sys):
    sys = StateSpace(sys.A, sys.B, sys.C)
    dual = StateSpace(sys.A.conj().T, sys.C.conj().T, sys.B.conj().T)
    np.testing.assert_allclose(lti.h2_norm(sys), lti.h2_norm(dual), rtol=1e-10, atol=1e-13)


@given(systems(), st.sampled_from([True, 0.1, 3.0]))
def test_the_bilinear_map_keeps_hinf(sys, dt):
    np.testing.assert_allclose(
        lti.hinf_norm(lti.bilinear(sys, dt)), lti.hinf_norm(sys), rtol=1e-8, atol=1e-13
    )


# ------------------------------------------------------------------ L-infinity


def scattered(n, m, p, *, dt, seed, is_complex=False, feed=1.0):
    """A random system with poles on both sides of the boundary."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        X = rng.standard_normal(shape)
        return X + 1j * rng.standard_normal(shape) if is_complex else X

    A = 1.2 * normal(n, n) / np.sqrt(n)
    return StateSpace(A, normal(n, m), normal(p, n), feed * normal(p, m), dt)


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from([0, True]),
    st.integers(0, 9999),
    st.booleans(),
    st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
)
def test_linf_is_the_largest_gain_wherever_the_poles_are(nmp, dt, seed, is_complex, feed):
    sys = scattered(*nmp, dt=dt, seed=seed, is_complex=is_complex, feed=feed)
    norm = float(lti.linf_norm(sys))
    feed = 0.0 if dt else np.linalg.norm(sys.D, 2)  # what the gain tends to
    assert max(grid_peak(sys), feed) <= norm * (1 + 1e-9)

    def loss(t):
        s = np.exp(1j * t) if dt else 1j * t
        return -np.linalg.norm(response(sys, np.atleast_1d(s)), 2, axis=(1, 2))

    s = boundary(sys, 1000)
    t = np.unique(np.angle(s) if dt else s.imag)
    best = np.clip(np.argsort(loss(t))[:8], 1, len(t) - 2)
    peaks = [
        -minimize_scalar(lambda t: loss(t)[0], bounds=(t[k - 1], t[k + 1]), method="bounded").fun
        for k in best
    ]
    assert max(*peaks, feed, grid_peak(sys)) >= norm * (1 - 1e-6)


@given(systems())
def test_linf_of_a_stable_system_is_hinf(sys):
    np.testing.assert_allclose(lti.linf_norm(sys), lti.hinf_norm(sys), rtol=1e-9)


@given(dense_systems(dt=0, max_order=5))
def test_linf_of_the_mirror_image_is_hinf(sys):
    mirrored = StateSpace(-sys.A, sys.B, -sys.C, sys.D)  # G(-s): all of its poles unstable
    np.testing.assert_allclose(lti.linf_norm(mirrored), lti.hinf_norm(sys), rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize(("n", "m", "p"), [(1, 1, 1), (5, 2, 3), (12, 3, 1)])
def test_linf_is_that_of_slicot(n, m, p, dt):
    sys = scattered(n, m, p, dt=dt, seed=n)
    norm = oracle("ab13dd", sys.A, sys.B, sys.C, sys.D, bool(dt))[0]
    np.testing.assert_allclose(lti.linf_norm(sys), norm, rtol=1e-8)


@pytest.mark.parametrize("gap", [1e-3, 1e-9, 1e-14])
def test_linf_of_an_unstable_pole_near_the_boundary(gap):
    for sys in forms(gap, dt=0):
        np.testing.assert_allclose(lti.linf_norm(sys), 1 / gap, rtol=1e-12)
    for sys in forms(1 + gap):
        np.testing.assert_allclose(lti.linf_norm(sys), 1 / ((1 + gap) - 1), rtol=1e-12)


@pytest.mark.parametrize(
    ("A", "dt"),
    [
        ([[0.0]], 0),
        ([[0.0, 1.0], [-1.0, 0.0]], 0),
        ([[1.0, -1.0], [1.0, -1.0]], 0),  # a double pole at 0, which rounding moves
        ([[1.0]], True),
        ([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]], True),
        ([[0.0, 1.0], [0.0, -1.0]], 0),  # seen by no output: infinite by convention
    ],
)
def test_linf_of_a_pole_on_the_boundary_is_infinite(A, dt):
    n = len(A)
    sys = StateSpace(A, np.eye(n, 1, k=-(n - 1)), np.eye(1, n, k=n - 1), None, dt)
    assert lti.linf_norm(sys) == np.inf
    with pytest.raises(lti.UnstableError, match="on the boundary|outside"):
        lti.hinf_norm(sys)


def test_linf_of_poles_all_around_the_circle_is_infinite():
    for pole in np.exp(1j * np.arange(20)):  # some of them not on it exactly, but within eps
        for sys in forms(pole):
            assert lti.linf_norm(sys) == np.inf


def test_linf_of_a_flat_gain_and_of_no_states():
    all_pass = StateSpace([[1.0]], [[1.0]], [[2.0]], [[1.0]])  # (s + 1) / (s - 1)
    np.testing.assert_allclose(lti.linf_norm(all_pass), 1, rtol=1e-12)
    static = StateSpace(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((1, 0)), [[3.0, 4.0]])
    np.testing.assert_allclose(lti.linf_norm(static), 5, rtol=1e-15)


def test_linf_of_a_stack_in_every_library(library):
    A = np.array([[[2.0]], [[-1.0]], [[0.0]]])
    norms = lti.linf_norm(StateSpace(library(A), library([[1.0]]), library([[3.0]])))
    assert library.owns(norms)
    np.testing.assert_allclose(np.asarray(norms), [1.5, 3.0, np.inf], rtol=1e-9)
    single = [library(np.asarray(x, np.float32)) for x in (A[0], [[1.0]], [[3.0]])]
    assert np.asarray(lti.linf_norm(StateSpace(*single))).dtype == np.float32


# ------------------------------------------------------------------ stacks and libraries


@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
def test_a_stack_is_a_loop_in_every_library(library, dt, is_complex, stack):
    sys = random_dense(3, dt=dt, is_complex=is_complex, stack=stack, seed=4)
    sys = StateSpace(sys.A, sys.B, sys.C, None, dt)
    for norm in (lti.h2_norm, lti.hinf_norm, lti.hankel_norm):
        values = norm(library.system(sys))
        assert library.owns(values)
        values = np.asarray(values)
        assert values.shape == stack and values.dtype == np.float64
        for i in np.ndindex(stack):
            one = norm(StateSpace(sys.A[i], sys.B[i], sys.C[i], None, dt))
            np.testing.assert_allclose(values[i], one, rtol=1e-12)


@pytest.mark.parametrize("conjugate", [False, True])
def test_a_diagonal_stack_is_a_loop(library, conjugate):
    rings = [random_ring(3, 2, 2, seed=k, conjugate=conjugate) for k in range(3)]
    poles, B, C, D = (np.stack([getattr(r, k) for r in rings]) for k in ("poles", "B", "C", "D"))
    stack = library.system(DiagonalStateSpace(poles, B, C, D, True, conjugate))
    for norm in (lti.h2_norm, lti.hinf_norm, lti.hankel_norm):
        np.testing.assert_allclose(
            np.asarray(norm(stack)), [float(norm(r)) for r in rings], rtol=1e-12
        )


@pytest.mark.parametrize("single", [np.float32, np.complex64])
def test_single_precision(library, single):
    sys = random_dense(3, dt=True, seed=4, is_complex=single == np.complex64)
    coarse = [np.asarray(x, single) for x in (sys.A, sys.B, sys.C, sys.D)]
    fine = StateSpace(*(x.astype(np.complex128) for x in coarse), dt=True)
    for norm in (lti.h2_norm, lti.hinf_norm, lti.hankel_norm):
        value = np.asarray(norm(StateSpace(*map(library, coarse), dt=True)))
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, norm(fine), rtol=1e-7)


@pytest.mark.parametrize("norm", [lti.h2_norm, lti.hinf_norm, lti.hankel_norm])
@pytest.mark.parametrize(("poles", "dt"), [([0.5, 1.0], True), ([-1.0, 0.0], 0), ([2.0], 0.1)])
def test_unstable_systems_are_refused(norm, poles, dt):
    for sys in forms(*poles, dt=dt):
        with pytest.raises(lti.UnstableError, match="unstable"):
            norm(sys)


def test_a_symmetric_fir_filter_whose_ends_are_equal_local_maxima():
    taps = np.array([0.25, 0, -0.925, 0, 2.35, 0, -0.925, 0, 0.25])
    n = len(taps) - 1
    sys = lti.StateSpace(np.eye(n, k=-1), np.eye(n, 1), taps[None, 1:], taps[:1, None], dt=True)
    assert float(lti.hinf_norm(sys)) == pytest.approx(4.7, rel=1e-8)


# ------------------------------------------------------------------ the frequency of the peak


@given(systems())
def test_the_norm_is_the_gain_at_its_frequency(sys):
    norm, w = lti.hinf_norm(sys, return_frequency=True)
    assert norm == lti.hinf_norm(sys)
    if np.isinf(w):
        gain = np.linalg.norm(sys.D, ord=2)
    else:
        gain = np.linalg.norm(lti.frequency_response(sys, [w])[0], ord=2)
    np.testing.assert_allclose(gain, norm, rtol=1e-8, atol=1e-13)
    dense = sys.to_dense()
    assert w >= 0 or np.iscomplexobj(dense.A)


@pytest.mark.parametrize(("sys", "w"), [
    (lti.StateSpace([[0.0, 1.0], [-4.0, -0.02]], [[0.0], [1.0]], [[1.0, 0.0]]), 2.0),
    (lti.StateSpace([[-0.9]], [[1.0]], [[1.0]], dt=0.5), 2 * np.pi),
    (lti.StateSpace([[0.9]], [[1.0]], [[1.0]], dt=True), 0.0),
    (lti.StateSpace([[-1.0]], [[-1.0]], [[1.0]], [[3.0]]), np.inf),
    (lti.StateSpace([[-0.01 - 3j]], [[1.0]], [[1.0]]), -3.0),
])  # fmt: skip
def test_the_frequency_of_a_peak(sys, w):
    np.testing.assert_allclose(lti.hinf_norm(sys, return_frequency=True)[1], w, atol=1e-4)


def test_the_frequencies_of_a_batch(library):
    A = np.array([[[0.0, 1.0], [-(w**2), -0.01]] for w in (1.0, 5.0)])
    sys = lti.StateSpace(A, np.ones((2, 2, 1)) * [[0.0], [1.0]], np.ones((2, 1, 2)) * [[1.0, 0.0]])
    norm, w = lti.hinf_norm(library.system(sys), return_frequency=True)
    assert library.owns(norm, w)
    np.testing.assert_allclose(np.asarray(w), [1, 5], rtol=1e-3)


def test_the_certificate_shows_where_the_error_is_largest():
    sys = lti.StateSpace([[0.0, 1.0], [-4.0, -0.02]], [[0.0], [1.0]], [[1.0, 0.0]], dt=0)
    slow = lti.StateSpace([[-1e-3]], [[1.0]], [[1.0]])
    reduction = lti.balanced_truncation(sys + slow, 1)
    assert "measured" not in str(reduction)
    error, w = reduction.verify(return_frequency=True)
    assert error == reduction.verify() and abs(w - 2) < 1e-2
    assert f"  measured {float(error):.3g} at w = {float(w):.3g} rad/s" in str(reduction)
