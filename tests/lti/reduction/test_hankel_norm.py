"""Optimal Hankel-norm approximation: optimal in one norm, within Glover's bound in the other."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings

import lti
from lti import DiagonalStateSpace, ReductionWarning, StateSpace, hankel_norm_approximation
from lti.reduction import hankel_norm
from tests.lti.helpers import all_pass, boundary, random_dense, random_ring, response, systems
from tests.lti.test_oracles import load, printed

CAUCHY = DiagonalStateSpace(-np.arange(1.0, 21), np.ones((20, 1)), np.ones((1, 20)), None, 0)


def approximate(sys, order=None, **options):
    """The approximation, whatever it has to remark; the remarks are in `.flags`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reduction = hankel_norm_approximation(sys, order, **options)
    assert [str(w.message) for w in caught] == list(reduction.flags)
    assert all(w.category is ReductionWarning and w.filename == __file__ for w in caught)
    return reduction


def prescribed(sigma, *, equal=(), ports=1, seed=0):
    """A balanced continuous system with the Hankel singular values `sigma`.

    Distinct values leave B free, and C up to the norms of its columns. Those `equal` to each other
    need B = -C^T U, and couple by a skew-symmetric block.
    """
    rng, sigma, equal = np.random.default_rng(seed), np.array(sigma), list(equal)
    B = rng.standard_normal((len(sigma), ports)) * np.sqrt(sigma)[:, None]
    C = rng.standard_normal((ports, len(sigma)))
    C *= np.linalg.norm(B, axis=1) / np.linalg.norm(C, axis=0)
    C[:, equal] = B[equal].T
    square = sigma**2
    gap = square[None, :] - square[:, None] + np.eye(len(sigma))
    gap[np.ix_(equal, equal)] = 1.0
    A = (C.T @ C * sigma[:, None] - B @ B.T * sigma) / gap
    A[np.diag_indices(len(sigma))] = -(B**2).sum(axis=1) / (2 * sigma)
    K = np.triu(rng.standard_normal((len(equal), len(equal))), 1)
    block = -B[equal] @ B[equal].T / (2 * sigma[equal]) + K - K.T
    A[np.ix_(equal, equal)] = block
    return StateSpace(A, B, C)


# ------------------------------------------------------------------ the two promises


def assert_optimal(sys, reduction):
    """Stable, and both errors where theory puts them."""
    small, r, n = reduction.system, reduction.order, sys.order
    sigma, dense = reduction.hsv, sys.to_dense()
    S, R = lti.gramian_factors(sys)
    rounding = 1e-11 * np.linalg.norm(R, 2) * np.linalg.norm(S, 2) + 1e-15 * np.linalg.norm(sys.D)
    assert small.A.shape == (r, r) and small.dt == sys.dt and small.A.dtype == sys.A.dtype
    assert reduction.T is None and reduction.W is None
    np.testing.assert_allclose(sigma, lti.hankel_singular_values(sys), atol=rounding)
    assert reduction.lower_bound == (sigma[r] if r < n else 0)
    best = sigma[r] if r < n else 0.0
    hankel = lti.hankel_norm(dense - small)  # raises if `small` is not stable
    assert best - rounding <= hankel <= best * (1 + 2e-6) + rounding
    assert reduction.error_bound >= lti.error_bound(sigma, r) / 2
    assert reduction.error_bound <= sigma[r:].sum() * (1 + 2e-6) + rounding
    error = reduction.verify()  # raises if out of bounds
    assert error <= reduction.error_bound + rounding


@settings(max_examples=40)
@given(systems())
@example(StateSpace([[-1.0, 2.4244587e-16], [2.4244587e-16, -1.0]], [[0], [0.25]], [[0.25, 0]]))
@example(StateSpace([[0.5]], [[1e-6]], [[1e-6], [0], [0]], [[0.25], [0.1], [0.3]], True))
def test_both_norms_of_the_error_for_every_order(sys):
    for order in range(sys.order + 1):
        reduction = approximate(sys, order)
        assert not any("lost" in flag for flag in reduction.flags)
        assert reduction.order <= order
        assert_optimal(sys, reduction)


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("ports", [(1, 1), (2, 3), (3, 1)])
def test_dense_systems_of_higher_order(dt, ports):
    sys = random_dense(12, *ports, dt=dt, seed=1)
    for order in (0, 1, 5, 11, 12):
        reduction = approximate(sys, order)
        assert reduction.order == order and reduction.flags == ()
        assert_optimal(sys, reduction)
        np.testing.assert_allclose(reduction.error_bound, reduction.hsv[order:].sum(), rtol=1e-9)


def test_the_last_value_is_removed_by_an_all_pass_error():
    sys = random_dense(6, 2, 2, seed=2)
    reduction = approximate(sys, 5)
    s = boundary(sys)
    gains = np.linalg.svd(response(sys, s) - response(reduction.system, s), compute_uv=False)
    np.testing.assert_allclose(gains[:, 0], reduction.hsv[5], rtol=1e-8)


def test_order_zero_is_the_nearest_constant_within_the_sum():
    reduction = approximate(CAUCHY, 0)
    assert reduction.system.order == 0
    # A symmetric system: D_0 is the sum, half of the gain at zero, and attains the bound
    np.testing.assert_allclose(reduction.system.D, [[reduction.hsv.sum()]], rtol=1e-12)
    np.testing.assert_allclose(reduction.verify(), reduction.error_bound, rtol=1e-7)


def test_the_order_by_tolerance_and_by_energy():
    reduction = approximate(CAUCHY, tol=1e-3)
    assert reduction.order == 4 and reduction.verify() <= 1e-3
    assert approximate(CAUCHY, tol=3.3e-4).order == 4  # for which balanced truncation needs 5
    assert lti.balanced_truncation(CAUCHY, tol=3.3e-4).order == 5
    assert approximate(CAUCHY, tol=2.3e-4, relative=True).order == 4
    assert approximate(CAUCHY, energy=0.99).order == 3
    reduction = approximate(CAUCHY, tol=1e-300)
    assert reduction.order == 20 and reduction.error_bound == 0
    assert "returned as it is" in reduction.flags[0]


@pytest.mark.parametrize("dt", [0, True])
def test_poles_that_are_not_stable_are_kept(dt):
    G = random_dense(6, dt=dt, seed=9)
    poles = [0.25, 1.5] if dt == 0 else [-1.25, 1.5]
    A = np.block([[G.A, np.zeros((6, 2))], [np.zeros((2, 6)), np.diag(poles)]])
    B, C = np.vstack([G.B, np.ones((2, 2))]), np.hstack([G.C, np.ones((3, 2))])
    sys = StateSpace(A, B, C, G.D, dt)
    with pytest.raises(lti.UnstableError):
        hankel_norm_approximation(sys, 4)
    with pytest.raises(lti.OrderError):
        hankel_norm_approximation(sys, 1, unstable="split")
    reduction, stable = approximate(sys, 4, unstable="split"), approximate(G, 2)
    assert np.isinf(reduction.hsv[:2]).all() and reduction.order == 4
    np.testing.assert_allclose(reduction.error_bound, stable.error_bound, rtol=1e-9)
    np.testing.assert_allclose(reduction.verify(), stable.verify(), rtol=1e-6)
    unstable = [p for p in reduction.system.poles if (abs(p) > 1 if dt else p.real > 0)]
    np.testing.assert_allclose(np.sort(np.real(unstable)), poles, rtol=1e-9)
    s = boundary(sys)
    gap = response(sys, s) - response(reduction.system, s)
    assert np.linalg.norm(gap, 2, axis=(1, 2)).max() <= reduction.error_bound


# ------------------------------------------------------------------ where others fail


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("dense", [False, True])
def test_fast_decaying_values_meet_the_bound(dt, dense):
    sys = CAUCHY.to_dense() if dense else CAUCHY
    sys = sys if dt == 0 else lti.bilinear(sys, dt)
    for order in (1, 4, 8, 10):
        reduction = approximate(sys, order)
        assert reduction.flags == ()
        error, rounding = reduction.verify(), 2e-14 * reduction.hsv[0]
        assert error <= lti.error_bound(reduction.hsv, order) / 2 + rounding
        assert error <= 1.02 * reduction.hsv[order] + rounding
        hankel = lti.hankel_norm(sys.to_dense() - reduction.system)
        np.testing.assert_allclose(hankel, reduction.hsv[order], atol=rounding)


# Rows: order, error of SLICOT's AB09CD (CDplayer at 40: its bound is 0.143), and ours
ERRORS = {
    "building": [(2, 6.07884e-3, 4.09665e-3), (10, 4.85009e-4, 4.74132e-4),
                 (31, 2.91743e-6, 2.90316e-6)],
    "heat-cont": [(3, 1.17009e-4, 1.16349e-4), (9, 2.36052e-9, 2.35759e-9)],
    "CDplayer": [(4, 1031.49, 727.236), (12, 7.93246, 6.1178), (40, 0.398716, 0.0203429)],
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_benchmarks_stay_below_the_errors_of_slicot(data_file, name):
    sys, _ = load(data_file, name)
    for order, theirs, ours in ERRORS[name]:
        reduction = approximate(sys, order)
        error = float(lti.peak.peak_gain(sys, reduction.system, rtol=1e-4))
        np.testing.assert_allclose(error, ours, rtol=1e-3)
        assert reduction.order == order and reduction.flags == ()
        assert error < theirs and error < lti.error_bound(reduction.hsv, order) / 2
        # The poles of the difference nearly coincide, so that its values carry 13 doublings
        hankel = lti.hankel_norm(sys - reduction.system)
        np.testing.assert_allclose(
            hankel, reduction.hsv[order], rtol=1e-9, atol=3e-11 * reduction.hsv[0]
        )


def test_a_stiff_discrete_system(data_file):
    sys = lti.bilinear(load(data_file, "CDplayer")[0])  # poles within 1e-5 of the point -1
    reduction = approximate(sys, 12)
    hankel = lti.hankel_norm(sys - reduction.system)
    np.testing.assert_allclose(hankel, reduction.hsv[12], rtol=1e-9)


def test_example_ab09ad(data_file):
    sys = StateSpace(*printed(data_file("slicot/AB09AD.dat"), (7, 7), (7, 2), (3, 7)))
    for order in range(8):
        assert_optimal(sys, approximate(sys, order))
    np.testing.assert_allclose(approximate(sys, 6).verify(), 2.45824e-2, rtol=2e-6)


# ------------------------------------------------------------------ equal values


@pytest.mark.parametrize("dt", [0, True])
def test_of_an_all_pass_the_best_approximation_is_static(dt):
    sys = all_pass(np.array([-1.0, -2.0, -0.5]))
    sys = sys if dt == 0 else lti.bilinear(sys, dt)
    for order in range(3):
        reduction = approximate(sys, order)
        assert reduction.order == 0 and (order == 0 or "divides equal" in reduction.flags[0])
        np.testing.assert_allclose(reduction.verify(), 1.0, rtol=1e-9)
        assert reduction.error_bound == pytest.approx(1.0)


def test_a_cut_through_equal_values_keeps_none_of_them():
    sys = prescribed([8.0, 5, 3, 3, 1], equal=(2, 3))
    for order in range(6):
        reduction = approximate(sys, order)
        assert reduction.order == (2 if order == 3 else order)
        assert_optimal(sys, reduction)
    assert "order lowered from 3 to 2" in approximate(sys, 3).flags[0]


@pytest.mark.parametrize("gap", [1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4])
@pytest.mark.parametrize("ports", [1, 2])
def test_nearly_equal_values(gap, ports):
    sys = prescribed([8.0, 5, 3, 3 - gap, 1], equal=(2, 3), ports=ports, seed=1)
    for order in (2, 3):
        reduction = approximate(sys, order)
        assert reduction.order in (2, order)
        assert_optimal(sys, reduction)


def test_values_that_repeat_beyond_the_cut_may_count_twice():
    sys = prescribed([8.0, 5, 3.2, 2.9, 2, 2, 0.5, 0.1], equal=(4, 5), seed=1)
    bounds = []
    for order in range(4):
        reduction = approximate(sys, order)
        assert_optimal(sys, reduction)
        bounds.append(reduction.error_bound / lti.error_bound(reduction.hsv, order) * 2)
    assert max(bounds) > 1.01


def test_a_result_that_is_almost_optimal_says_so(monkeypatch):
    sys = random_dense(6, seed=3)
    plain = approximate(sys, 3)
    norm = lti.hankel_norm
    monkeypatch.setattr(hankel_norm, "hankel_norm", lambda sys: 1.001 * norm(sys))
    reduction = approximate(sys, 3)
    assert len(reduction.flags) == 1 and "above its optimum by 1e-03" in reduction.flags[0]
    np.testing.assert_allclose(reduction.system.A, plain.system.A)
    excess = reduction.error_bound - plain.error_bound
    np.testing.assert_allclose(excess, 1e-3 * plain.lower_bound, rtol=1e-6)
    reduction.verify()


def test_an_antistable_part_larger_than_theory_allows_is_rounding(monkeypatch):
    optimal = hankel_norm._optimal

    def inflated(*args):
        system, values = optimal(*args)
        return system, 100 * values

    monkeypatch.setattr(hankel_norm, "_optimal", inflated)
    assert "balanced truncation" in approximate(random_dense(6, seed=3), 3).flags[0]


def test_when_rounding_takes_the_optimum_the_result_says_so(monkeypatch):
    def fail(*_):
        raise np.linalg.LinAlgError

    monkeypatch.setattr(hankel_norm, "_optimal", fail)
    sys = random_dense(6, dt=True, seed=3)
    reduction = approximate(sys, 3)
    assert "balanced truncation" in reduction.flags[0]
    np.testing.assert_allclose(reduction.error_bound, lti.error_bound(reduction.hsv, 3), rtol=1e-12)
    reduction.verify()


# ------------------------------------------------------------------ edges


def test_a_non_minimal_system_loses_the_order_it_does_not_have():
    G = random_dense(3, seed=4)
    A = np.block([[G.A, np.zeros((3, 2))], [np.zeros((2, 3)), -np.eye(2)]])
    B, C = np.vstack([G.B, np.zeros((2, 2))]), np.hstack([G.C, np.ones((3, 2))])
    sys = StateSpace(A, B, C, G.D)
    assert "order lowered from 5 to 3" in approximate(sys, 5).flags[0]
    for order in range(6):
        assert_optimal(sys, approximate(sys, order))


def test_fewer_digits_than_states():
    reduction = approximate(CAUCHY, 15)
    assert reduction.order == 12 and "below rounding" in reduction.flags[0]
    reduction.verify()
    # What is below rounding was truncated, and counts twice
    twice = lti.error_bound(reduction.hsv, 12)
    np.testing.assert_allclose(reduction.error_bound, twice, rtol=1e-9)
    once = lti.error_bound(reduction.hsv, 11) / 2
    np.testing.assert_allclose(approximate(CAUCHY, 11).error_bound, once + twice / 2, rtol=1e-9)


@pytest.mark.parametrize("n, m, p", [(0, 1, 2), (3, 0, 2), (3, 2, 0)])
@pytest.mark.parametrize("dt", [0, True])
def test_without_states_inputs_or_outputs(n, m, p, dt):
    sys = random_dense(n, m, p, dt=dt, seed=5)
    reduction = approximate(sys, 0)
    assert reduction.order == 0 and reduction.system.D.shape == (p, m)
    np.testing.assert_array_equal(reduction.system.D, sys.D)
    assert reduction.error_bound == 0


def test_a_conjugate_system_has_a_real_approximation():
    sys = random_ring(5, seed=6, conjugate=True)
    for order in (0, 3, 9):
        one, other = approximate(sys, order), approximate(sys.to_dense(), order)
        assert one.system.A.dtype == np.float64
        s = boundary(sys)
        np.testing.assert_allclose(response(one.system, s), response(other.system, s), atol=1e-7)


def test_libraries_and_precisions(library):
    sys = random_dense(5, seed=7)
    exact = approximate(sys, 2)
    reduction = approximate(library.system(sys), 2)
    small = reduction.system
    assert library.owns(small.A, small.D, reduction.hsv, reduction.error_bound)
    np.testing.assert_allclose(np.asarray(small.A), exact.system.A, atol=1e-10)
    single = StateSpace(*(library(x.astype(np.float32)) for x in (sys.A, sys.B, sys.C, sys.D)))
    reduction = approximate(single, 2)
    assert "float32" in str(reduction.system.A.dtype) and "float32" in str(reduction.hsv.dtype)
    assert float(reduction.error_bound) > exact.error_bound
    reduction.verify(rtol=1e-4)


def test_labels_are_kept():
    labels = lti.Labels("plant", ["force"], ["height"], ["x", "v"])
    sys = StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)), labels=labels)
    assert approximate(sys, 1).system.labels == labels.without_states()


def test_a_stack():
    sys = random_dense(4, stack=(2, 3), seed=8, is_complex=True)
    reduction = approximate(sys, 2)
    assert reduction.system.A.shape == (2, 3, 2, 2) and reduction.error_bound.shape == (2, 3)
    one = approximate(StateSpace(sys.A[1, 2], sys.B[1, 2], sys.C[1, 2], sys.D[1, 2]), 2)
    w = [-1.0, 0.0, 0.5, 20.0]  # the states of a complex system have a phase of their own
    np.testing.assert_allclose(
        lti.frequency_response(reduction.system, w)[1, 2], lti.frequency_response(one.system, w)
    )
    np.testing.assert_allclose(reduction.error_bound[1, 2], one.error_bound)
    reduction.verify()
    B = np.array([np.ones((2, 1)), [[1.0], [0.0]]])
    uneven = StateSpace(np.diag([-1.0, -2.0]), B, np.ones((1, 2)))
    with pytest.raises(lti.DimensionError, match=r"different orders, \[1, 2\]"):
        hankel_norm_approximation(uneven, 2)


def test_wrong_input():
    with pytest.raises(lti.OrderError):
        hankel_norm_approximation(CAUCHY, 21)
    with pytest.raises(lti.OrderError):
        hankel_norm_approximation(CAUCHY, 2.5)
    with pytest.raises(lti.UnstableError):
        hankel_norm_approximation(([[1.0]], [[1.0]], [[1.0]]), 0)
