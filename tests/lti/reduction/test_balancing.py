"""Balanced truncation: its certificate, its promises, and what it does at the edges."""

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lti
from lti import DiagonalStateSpace, ReductionWarning, StateSpace
from lti.testing import assert_balanced, assert_error_bound, stable_systems
from tests.lti.helpers import (
    all_pass,
    boundary,
    claiming,
    dense_systems,
    distance,
    random_dense,
    random_ring,
    response,
    systems,
    unitary,
)


def reduce(sys, order=None, by=lti.balanced_truncation, **kwargs):
    """Balanced truncation, whatever it has to remark; the remarks are in `.flags`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reduction = by(sys, order, **kwargs)
    assert [str(w.message) for w in caught] == list(reduction.flags)
    assert all(w.category is ReductionWarning and w.filename == __file__ for w in caught)
    return reduction


def size(sys):
    """|R| |S| >= hsv[0], what rounding is relative to."""
    S, R = lti.gramian_factors(sys)
    return np.linalg.norm(R, 2) * np.linalg.norm(S, 2)


# ------------------------------------------------------------------ the certificate


METHODS = (
    {},
    {"method": "balancing-free"},
    {"by": lti.singular_perturbation},
)


def assert_certified(sys):
    """lower <= error <= upper for every method and order, and what a reduction says of itself."""
    n, sigma = sys.order, lti.balance(sys).hsv
    ordinary = distance(sys).min() > 0.1
    for order, options in itertools.product(range(n + 1), METHODS):
        reduction = reduce(sys, order, **options)
        error = assert_error_bound(reduction)
        r, small = reduction.order, reduction.system
        assert r <= order and small.A.shape == (r, r) and small.dt == sys.dt
        assert "by" in options or (small.D == sys.D).all()
        assert reduction.lower_bound == (sigma[r] if r < n else 0)
        rounding = 1e-12 * size(sys)
        if np.isinf(reduction.error_bound):  # said aloud, and only where it may happen
            assert any("is unstable" in flag for flag in reduction.flags)
            assert r and (sigma[r - 1] - sigma[r] <= rounding or not ordinary)
            continue
        assert reduction.error_bound == lti.error_bound(sigma, r)
        if ordinary and sigma[0] > 1e-2 * size(sys):  # else G is close to the rounding of its terms
            loss = 1e-8 + min(1e-3, 1e-15 * (size(sys) / max(error, rounding, 1e-300)) ** 2)
            np.testing.assert_allclose(
                reduction.verify(), error, rtol=10 * loss, atol=10 * rounding
            )


@settings(max_examples=25)
@given(stable_systems(form="dense"))
@example(StateSpace([[-1.0, 2.4244587e-16], [2.4244587e-16, -1.0]], [[0], [0.25]], [[0.25, 0]]))
def test_bounds_of_dense_systems(sys):
    assert_certified(sys)


def test_bounds_of_a_dense_system_near_the_boundary():
    # Poles 1 - 1e-6, which no output sees, and 1e-6 - 1, which no input reaches: G = 1e-11
    A = [[0.6536074256726099, 0.7568324339684603], [0.7568324339684603, -0.6536074256726099]]
    B, C = (
        [[0.6819657412932807], [0.31212614069043654]],
        [[-0.10404204689681218, 0.2273219137644269]],
    )
    assert_certified(StateSpace(A, B, C, dt=True))


@settings(max_examples=25)
@given(stable_systems(form="diagonal"))
def test_bounds_of_diagonal_systems(sys):
    assert_certified(sys)


@settings(max_examples=25)
@given(stable_systems(form="conjugate"))
def test_bounds_of_conjugate_systems(sys):
    assert_certified(sys)


@given(systems())
def test_reduced_systems_are_stable_where_values_are_distinct(sys):
    sigma, n = lti.hankel_singular_values(sys), sys.order
    for order in range(lti.balance(sys).minimal_order + 1):
        if 0 < order < n and sigma[order] > (1 - 1e-8) * sigma[order - 1]:
            continue
        poles = reduce(sys, order).system.poles
        # At the minimal order the last states carry rounding: a pole of the system stays put
        slack = 1e-9 * size(sys) / sigma[order - 1] if order else 0
        assert (np.abs(poles) - 1 < slack if sys.is_discrete else poles.real < slack).all()


@given(dense_systems(dt=0, max_order=5))
def test_continuous_truncation_keeps_values_and_may_be_done_in_two_steps(sys):
    sigma, size_ = lti.hankel_singular_values(sys), size(sys)
    rank = lti.balance(sys).minimal_order
    gaps = [r for r in range(1, rank) if sigma[r] < 0.99 * sigma[r - 1]]
    for r in gaps:
        if sigma[r - 1] < 1e-6 * size_:
            continue
        first = reduce(sys, r).system
        np.testing.assert_allclose(
            lti.hankel_singular_values(first), sigma[:r], atol=1e-7 * sigma[0]
        )
        for q in [q for q in gaps if q < r]:
            one, two = reduce(sys, q).system, reduce(first, q).system
            s = boundary(one, 40)
            np.testing.assert_allclose(response(two, s), response(one, s), atol=1e-6 * size_)


def test_a_conjugate_system_reduces_as_its_real_form():
    sys = random_ring(8, seed=1, conjugate=True)
    for order in range(17):
        one, other = reduce(sys, order), reduce(sys.to_dense(), order)
        assert one.system.A.dtype == np.float64
        s = boundary(sys)
        np.testing.assert_allclose(response(one.system, s), response(other.system, s), atol=1e-9)
        np.testing.assert_allclose(one.error_bound, other.error_bound, atol=1e-12)


def test_reading_only_the_real_part_takes_fewer_states():
    sys = random_ring(64, 8, 8, seed=0, smallest=0.9, largest=0.999)
    real = DiagonalStateSpace(sys.poles, sys.B, sys.C / 2, None, True, conjugate=True)
    tol = 0.05 * lti.hinf_norm(real)
    assert reduce(real, tol=tol).order < 2 * reduce(sys, tol=tol).order


# ------------------------------------------------------------------ published errors


def test_published_errors_of_a_discrete_system():
    sys = DiagonalStateSpace([0.9, 0.5, -0.3, -0.7], [[1.0], [2], [3], [1]], [[1.0, 1, 0.5, 2]])
    for form in (sys, sys.to_dense()):
        errors = [float(lti.balanced_truncation(form, r).verify()) for r in (1, 2, 3)]
        np.testing.assert_allclose(errors, [7.7398816, 1.5416359, 0.1785569], atol=5e-8)


@pytest.mark.parametrize(("order", "published"), [(4, 6.57210e-4), (8, 7.92154e-9)])
def test_a_symmetric_system_attains_its_bound(order, published):
    sys = DiagonalStateSpace(-np.arange(1.0, 21), np.ones((20, 1)), np.ones((1, 20)), dt=0)
    for form in (sys, sys.to_dense()):
        reduction = lti.balanced_truncation(form, order)
        np.testing.assert_allclose(reduction.verify(), published, rtol=1e-6)
        np.testing.assert_allclose(reduction.error_bound, published, rtol=1e-6)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=6), st.integers(0, 99))
def test_symmetric_systems_attain_the_bound_at_zero_frequency(decay, seed):
    n = len(decay)
    U, b = unitary(n, seed), np.random.default_rng(seed).uniform(0.5, 1, n)[:, None]
    sys = StateSpace(-U @ np.diag(decay) @ U.T, U @ b, (U @ b).T)
    sigma = lti.hankel_singular_values(sys)
    for order in range(1, lti.balance(sys).minimal_order):
        if sigma[order] < 0.999 * sigma[order - 1]:
            error = lti.hinf_norm(sys - reduce(sys, order).system)
            np.testing.assert_allclose(error, 2 * sigma[order:].sum(), atol=1e-10 * sigma[0])


# ------------------------------------------------------------------ equal values


@pytest.mark.parametrize("n", [2, 3, 5])
def test_all_pass_cut_anywhere_has_error_two(n):
    sys = all_pass(-np.linspace(0.5, 2, n) + 0.3j * np.arange(n))
    for order in range(1, n):
        with pytest.warns(ReductionWarning, match=f"cut at order {order} divides equal Hankel"):
            reduction = lti.balanced_truncation(sys, order)
        assert len(reduction.flags) == 1 and "arbitrary" in reduction.flags[0]
        assert reduction.flags[0] in repr(reduction)
        np.testing.assert_allclose(reduction.verify(), 2.0, rtol=1e-9)
        np.testing.assert_allclose(reduction.error_bound, 2.0, rtol=1e-9)
        np.testing.assert_allclose(reduction.lower_bound, 1.0, rtol=1e-12)
    assert reduce(sys, 0).flags == () and reduce(sys, n).flags == ()


def test_a_cut_between_different_values_says_nothing():
    sys = random_dense(6, seed=3)
    assert all(reduce(sys, r).flags == () for r in range(7))


def test_an_unstable_result_is_said_and_its_bound_is_infinite():
    # Two equal all-pass sections, apart: the cut keeps one state of an undamped rotation
    A = np.array([[0.0, 1.0], [-1.0, -1.0]])
    sys = StateSpace(A, [[0.0], [np.sqrt(2)]], [[0.0, np.sqrt(2)]])
    np.testing.assert_allclose(lti.hankel_singular_values(sys), 1, rtol=1e-12)
    balancing = lti.balance(sys)
    same = balancing.parts.W, balancing.parts.T  # keeps x1, whose pole is 0
    kept = replace(balancing, inner=same)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reduction = kept.truncate(1)
    assert "of order 1 is unstable" in str(caught[-1].message)
    assert reduction.error_bound == np.inf and reduction.lower_bound == balancing.sigma[1]
    with pytest.raises(lti.UnstableError):
        reduction.verify()


# ------------------------------------------------------------------ non-minimal systems

NON_MINIMAL = {
    "uncontrollable": (
        1,
        DiagonalStateSpace([0.5, 0.9], [[1.0], [0]], [[1.0, 1]]),
    ),
    "unobservable": (
        1,
        DiagonalStateSpace([0.5, 0.9j], [[1.0], [1]], [[1.0, 0]]),
    ),
    "each in its own way": (
        1,
        DiagonalStateSpace([-1.0, -2, -3], [[1.0], [0], [1]], [[1.0, 1, 0]], dt=0),
    ),
    "no input at all": (0, DiagonalStateSpace([0.5, 0.9], np.zeros((2, 1)), np.ones((1, 2)))),
    "no output at all": (0, DiagonalStateSpace([0.5, 0.9], np.ones((2, 2)), np.zeros((3, 2)))),
    "coincident poles": (
        2,
        DiagonalStateSpace([0.5, 0.5, 0.5, 0.25], np.ones((4, 1)), np.ones((1, 4))),
    ),
    "coincident, conjugate": (
        2,
        DiagonalStateSpace([0.5j, 0.5j], np.ones((2, 1)), np.ones((1, 2)), conjugate=True),
    ),
    "a real pole in a conjugate system": (
        1,
        DiagonalStateSpace([0.5], np.ones((1, 1)), np.ones((1, 1)), conjugate=True),
    ),
}


@pytest.mark.parametrize("form", ["diagonal", "dense"])
@pytest.mark.parametrize("name", NON_MINIMAL)
def test_non_minimal_systems_reduce_to_their_minimal_order(name, form):
    minimal, sys = NON_MINIMAL[name]
    sys = sys.to_dense() if form == "dense" else sys
    assert lti.balance(sys).minimal_order == minimal
    reduction = reduce(sys, sys.order)
    assert reduction.order == minimal
    assert f"order lowered from {sys.order} to {minimal}" in reduction.flags[0]
    scale = max(1.0, lti.hinf_norm(sys))
    assert reduction.verify() <= 1e-14 * scale
    np.testing.assert_allclose(reduction.W @ reduction.T, np.eye(minimal), atol=1e-13)
    assert reduce(sys, minimal).flags == ()


def test_a_system_minus_itself_is_nothing():
    sys = random_dense(4, seed=2, dt=True)
    nothing = lti.balanced_truncation(sys - sys, tol=1e-10)
    assert nothing.order == 0 and lti.hinf_norm(sys - sys) < 1e-12


@given(dense_systems(), st.integers(0, 2**10))
def test_states_that_do_not_matter_do_not_count(sys, seed):
    n, rng = sys.order, np.random.default_rng(seed)
    pole, U = (0.5 if sys.is_discrete else -0.5), unitary(n + 1, seed)
    coupling = rng.standard_normal((n, 1))  # the hidden state drives the others, nothing drives it
    A = np.block([[sys.A, coupling], [np.zeros((1, n)), np.full((1, 1), pole)]])
    B, C = np.concatenate([sys.B, 0 * sys.B[:1]]), np.concatenate([sys.C, sys.C[:, :1]], axis=1)
    bigger = StateSpace(U @ A @ U.T, U @ B, C @ U.T, sys.D, sys.dt)
    rank = lti.balance(sys).minimal_order
    assert lti.hinf_norm(bigger - reduce(bigger, rank).system) <= 1e-12 * size(bigger)


# ------------------------------------------------------------------ order and tolerance


@given(systems(), st.floats(0, 3), st.booleans())
def test_tol_is_a_promise(sys, tol, relative):
    reduction, sigma = reduce(sys, tol=tol, relative=relative), lti.balance(sys).hsv
    limit = tol * sigma[0] if relative else tol
    assert reduction.error_bound <= limit
    assert lti.hinf_norm(sys - reduction.system) <= limit * (1 + 1e-8) + 1e-12 * size(sys)
    smallest = min(r for r in range(sys.order + 1) if lti.error_bound(sigma, r) <= limit)
    real = smallest <= lti.balance(sys).minimal_order and smallest < sys.order
    assert reduction.order == (smallest if real else sys.order)
    assert real or "the system is returned as it is" in reduction.flags[0]


def test_a_tolerance_that_no_order_meets_gives_the_system_as_it_is():
    sys = random_dense(4, seed=1)
    for kwargs in ({"tol": 1e-300}, {"tol": 0.0}, {"tol": 1e-20, "relative": True}):
        with pytest.warns(ReductionWarning, match="the system is returned as it is") as caught:
            reduction = lti.balanced_truncation(sys, **kwargs)
        assert caught[0].filename == __file__
        assert reduction.order == 4
        np.testing.assert_array_equal(reduction.system.A, sys.A)
        np.testing.assert_array_equal(reduction.W @ reduction.T, np.eye(4))
        assert reduction.error_bound == 0 and reduction.lower_bound == 0
        assert reduction.verify() <= 1e-14


@pytest.mark.parametrize("tol", [np.nan, -1e-9, np.inf, "0.1"])
def test_senseless_tolerance(tol):
    with pytest.raises(lti.OrderError, match="tol must be a finite number >= 0"):
        lti.balanced_truncation(random_dense(3), tol=tol)


@pytest.mark.parametrize("order", [2.7, True, -1, 4, "1", [1], np.float64(1)])
def test_senseless_order(order):
    with pytest.raises(lti.OrderError, match="order must be"):
        lti.balanced_truncation(random_dense(3), order)


@pytest.mark.parametrize("kwargs", [{}, {"order": 1, "tol": 0.1}])
def test_order_or_tol(kwargs):
    with pytest.raises(lti.OrderError, match="give one of order, tol and energy, got order="):
        lti.balanced_truncation(random_dense(3), **kwargs)


def test_orders_zero_and_full():
    sys = random_dense(4, seed=6, dt=0.1)
    static = lti.balanced_truncation(sys, 0)
    assert static.order == 0 and static.system.A.shape == (0, 0)
    np.testing.assert_allclose(static.verify(), lti.hinf_norm(sys - static.system), rtol=1e-7)
    full = lti.balanced_truncation(sys, 4)
    assert full.error_bound == 0 and full.verify() < 1e-12
    assert_balanced(full.system, full.hsv, rtol=1e-12)


@pytest.mark.parametrize("pole", [1.0, 1.9, -1.5])
def test_unstable_systems_are_refused(pole):
    with pytest.raises(lti.UnstableError, match=f"1 of 2 poles are unstable: .* {pole:g}"):
        lti.balanced_truncation(
            DiagonalStateSpace([0.5, pole], np.ones((2, 1)), np.ones((1, 2))), 1
        )


# ------------------------------------------------------------------ verify


def test_verify_refuses_a_false_certificate():
    sys = random_dense(5, seed=8)
    reduction = lti.balanced_truncation(sys, 2)
    low = claiming(reduction, error_bound=reduction.lower_bound)
    high = claiming(reduction, lower_bound=reduction.error_bound)
    for false in (low, high):
        with pytest.raises(lti.CertificateError, match="measured error .* lies outside its bounds"):
            false.verify()
    assert reduction.lower_bound < reduction.verify() < reduction.error_bound


def test_repr_gives_the_certificate():
    reduction = lti.balanced_truncation(random_dense(5, seed=8), 2)
    upper, lower = f"{reduction.error_bound:.3g}", f"{reduction.lower_bound:.3g}"
    text = f"Reduction: order 5 -> 2, {lower} <= H-infinity error <= {upper}"
    assert repr(reduction) == text


# ------------------------------------------------------------------ array libraries, stacks


@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
def test_a_stack_is_a_loop_in_every_library(library, dt, is_complex, stack):
    sys = random_dense(5, dt=dt, is_complex=is_complex, stack=stack, seed=9)
    reduction = lti.balanced_truncation(library.system(sys), 2)
    small = reduction.system
    arrays = [small.A, small.B, small.C, small.D, reduction.hsv, reduction.error_bound]
    arrays += [reduction.lower_bound, reduction.T, reduction.W, reduction.verify()]
    assert library.owns(*arrays)
    A, B, C, D, hsv, upper, lower, T, W, error = map(np.asarray, arrays)
    assert A.dtype == (np.complex128 if is_complex else np.float64) and hsv.dtype == np.float64
    assert upper.shape == lower.shape == error.shape == stack and T.shape == (*stack, 5, 2)
    for i in np.ndindex(stack):
        one = StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], dt)
        alone = lti.balanced_truncation(one, 2)
        s = boundary(one, 60)
        member = StateSpace(A[i], B[i], C[i], D[i], dt)
        np.testing.assert_allclose(response(member, s), response(alone.system, s), atol=1e-10)
        np.testing.assert_allclose(W[i] @ T[i], np.eye(2), atol=1e-12)
        np.testing.assert_allclose(
            [upper[i], lower[i], error[i]],
            [alone.error_bound, alone.lower_bound, alone.verify()],
            rtol=1e-7,
        )


def test_one_tolerance_for_a_stack_holds_for_every_member():
    sys = random_dense(6, dt=True, stack=(3,), seed=4)
    reduction = lti.balanced_truncation(sys, tol=0.5, relative=True)
    assert (reduction.error_bound <= 0.5 * reduction.hsv[:, 0]).all()
    assert (reduction.verify() <= reduction.error_bound).all()
    assert " .. " in repr(reduction)


@pytest.mark.parametrize("single", [np.float32, np.complex64])
def test_single_precision(library, single):
    sys = random_dense(6, dt=True, seed=3, is_complex=single == np.complex64)
    coarse = [library(np.asarray(x, single)) for x in (sys.A, sys.B, sys.C, sys.D)]
    reduction = lti.balanced_truncation(StateSpace(*coarse, dt=True), 3)
    small = reduction.system
    assert all(np.asarray(x).dtype == single for x in (small.A, small.B, small.C, reduction.T))
    assert np.asarray(reduction.error_bound).dtype == np.float32
    assert float(reduction.verify()) <= float(reduction.error_bound)


def test_inputs_are_read_only_and_stay_as_they_were():
    sys = random_dense(4, seed=5)
    arrays = [x.copy() for x in (sys.A, sys.B, sys.C, sys.D)]
    before = [x.copy() for x in arrays]
    for x in arrays:
        x.flags.writeable = False
    lti.balanced_truncation(StateSpace(*arrays), 2).verify()
    ring = random_ring(4, seed=5)
    for x in (ring.poles, ring.B, ring.C, ring.D):
        x.flags.writeable = False
    lti.balanced_truncation(ring, 2).verify()
    for x, y in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, y)


@given(systems(max_order=4))
@example(DiagonalStateSpace([0.875], [[2.0]], [[2.0]], conjugate=True))
def test_the_reduction_is_the_projection_it_returns(sys):
    order = min(2, lti.balance(sys).minimal_order)
    reduction, dense = reduce(sys, order), sys.to_dense()
    T, W, small = reduction.T, reduction.W, reduction.system
    np.testing.assert_allclose(
        small.A, W @ dense.A @ T, atol=1e-12 * (1 + np.abs(small.A).max(initial=0))
    )
    np.testing.assert_allclose(
        small.B, W @ dense.B, atol=1e-12 * (1 + np.abs(small.B).max(initial=0))
    )
    np.testing.assert_allclose(
        small.C, dense.C @ T, atol=1e-12 * (1 + np.abs(small.C).max(initial=0))
    )


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_the_certificate_is_that_of_the_rounded_system(seed, order):
    rng = np.random.default_rng(seed)
    poles = 1 - 10 ** -rng.uniform(2, 5, 8)
    B, C = rng.standard_normal((8, 2)), rng.standard_normal((2, 8))
    sys = lti.StateSpace(*(x.astype(np.float32) for x in (np.diag(poles), B, C)), dt=True)
    reduction = lti.balance(sys).truncate(order)
    assert reduction.system.A.dtype == np.float32
    reduction.verify()


def test_foreign_factors_are_checked_and_promise_nothing():
    sys = lti.StateSpace([[0.5]], [[1.0]], [[1.0]], dt=True)
    one, nan = np.eye(1), np.full((1, 1), np.nan)
    balancing = lti.balance(sys, controllability=one, observability=2 * one)
    reduction = balancing.truncate(order=0)
    assert reduction.error_bound == np.inf and reduction.lower_bound == 0
    with pytest.raises(lti.OrderError, match="no"):
        balancing.truncate(tol=1.0)
    with pytest.raises(lti.NonFiniteError, match="observability has 1 entries"):
        lti.balance(sys, observability=nan)
    with pytest.raises(lti.DimensionError, match=r"controllability has shape \(2, 1\)"):
        lti.balance(sys, controllability=np.ones((2, 1)))
    with pytest.raises(lti.UnstableError):
        lti.balance(lti.StateSpace([[2.0]], [[1.0]], [[1.0]], dt=True), controllability=one)


# ------------------------------------------------------------------ one sign per state


@given(st.integers(0, 9999), st.booleans(), st.sampled_from([0, True]))
def test_every_state_has_one_sign(seed, is_complex, dt):
    sys = random_dense(4, dt=dt, seed=seed, is_complex=is_complex)
    B = lti.balance(sys).balanced.B
    largest = np.take_along_axis(B, np.abs(B).argmax(-1)[:, None], -1)
    np.testing.assert_allclose(largest, np.abs(largest), atol=1e-12)
    # Other coordinates of the same system have the same balanced form
    rng = np.random.default_rng(seed)
    T = np.linalg.qr(rng.standard_normal((4, 4)))[0] * rng.choice([-1.0, 1.0], 4)
    other = lti.StateSpace(T.T @ sys.A @ T, T.T @ sys.B, sys.C @ T, sys.D, dt)
    sigma = lti.hankel_singular_values(sys)
    apart = np.abs(np.diff(sigma)).min() > 1e-3 * sigma[0] and sigma[-1] > 1e-3 * sigma[0]
    two = np.sort(np.abs(B), axis=-1)[:, -2:]
    if apart and (two[:, 1] > 1.01 * two[:, 0]).all():
        for x, y in zip(lti.balance(sys).balanced.matrices, lti.balance(other).balanced.matrices,
                        strict=True):  # fmt: skip
            np.testing.assert_allclose(x, y, atol=1e-7 * (1 + np.abs(x).max()))


def test_the_sign_in_every_library(library):
    sys = random_dense(4, seed=1, stack=(3,))
    B = np.asarray(lti.balance(library.system(sys)).balanced.B)
    largest = np.take_along_axis(B, np.abs(B).argmax(-1)[..., None], -1)
    assert (largest > 0).all()
    np.testing.assert_allclose(B[1], lti.balance(lti.StateSpace(*(x[1] for x in sys.matrices)))
                               .balanced.B, atol=1e-9)  # fmt: skip
