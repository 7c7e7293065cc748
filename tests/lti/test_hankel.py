"""Hankel singular values against truth, and the theorems that hold for them."""

import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lti
from lti import DiagonalStateSpace, StateSpace
from tests.lti.helpers import (
    all_pass,
    dense_truth,
    diagonal_systems,
    random_dense,
    random_ring,
    systems,
    truth,
    unitary,
)

ANY = systems()


def hsv(sys):
    """Hankel singular values, checked to be what they always are: real, >= 0, descending."""
    sigma = lti.hankel_singular_values(sys)
    assert sigma.dtype == np.float64 and sigma.shape[-1] == lti.as_statespace(sys).order
    assert (sigma >= 0).all() and (np.diff(sigma, axis=-1) <= 0).all()
    return sigma


def size(sys):
    """|R| |S| >= hsv[0]: what rounding is relative to. It is larger where B and C cancel."""
    S, R = lti.gramian_factors(sys)
    return np.linalg.norm(R, 2) * np.linalg.norm(S, 2)


def assert_same(one, other, tol=1e-11, scale=None):
    """Equal to `tol` of `scale`, by default of the largest value."""
    scale = max(one.max(initial=0), other.max(initial=0)) if scale is None else scale
    assert one.shape == other.shape
    assert np.abs(one - other).max(initial=0) <= tol * scale


def similar(sys, T):
    return StateSpace(T @ sys.A @ np.linalg.inv(T), T @ sys.B, sys.C @ np.linalg.inv(T), None,
                      sys.dt)  # fmt: skip


def direct_sum(one, other):
    """Two systems side by side: inputs, outputs and states of both."""
    one, other = one.to_dense(), other.to_dense()

    def both(X, Y):
        return np.block([[X, np.zeros((X.shape[0], Y.shape[1]))],
                         [np.zeros((Y.shape[0], X.shape[1])), Y]])  # fmt: skip

    return StateSpace(both(one.A, other.A), both(one.B, other.B), both(one.C, other.C), None,
                      one.dt)  # fmt: skip


# ------------------------------------------------------------------ accuracy

CAUCHY = DiagonalStateSpace(-np.arange(1.0, 21), np.ones((20, 1)), np.ones((1, 20)), dt=0)
# Eigenvalues of the Cauchy matrix 1 / (i + j) to eight digits, published in 90-digit arithmetic.
PUBLISHED = [1.4953522, 0.26621382, 0.033501357, 3.4738433e-3, 3.0432091e-4, 2.2742334e-5,
             1.4573891e-6, 8.0274651e-8, 3.8008598e-9, 1.5439127e-10, 5.3582555e-12, 1.5786549e-13,
             3.9118676e-15, 8.0478017e-17, 1.3498377e-18, 1.7985504e-20, 1.8312168e-22,
             1.3381174e-24, 6.2482233e-27, 1.4004032e-29]  # fmt: skip


def test_all_twenty_published_values_of_the_cauchy_system():
    np.testing.assert_allclose(truth(CAUCHY, 90), PUBLISHED, rtol=5e-8)
    np.testing.assert_allclose(hsv(CAUCHY), truth(CAUCHY, 90), rtol=1e-13)
    np.testing.assert_allclose(hsv(CAUCHY.to_dense()), truth(CAUCHY, 90), rtol=0, atol=4e-15)


@pytest.mark.parametrize("a", [0.25, 1.0])
def test_small_values_are_relatively_accurate_in_discrete_time_too(a):
    sys = lti.bilinear(CAUCHY, dt=2 / a)
    np.testing.assert_allclose(hsv(sys), truth(sys, 90), rtol=1e-12)


def test_published_discrete_example():
    poles, B, C = [0.9, 0.5, -0.3, -0.7], [[1.0], [2], [3], [1]], [[1.0, 1, 0.5, 2]]
    published = [8.41035484, 4.05940285, 0.89800007, 0.13198708]
    sys = DiagonalStateSpace(poles, B, C)
    for one in (sys, sys.to_dense()):
        np.testing.assert_allclose(hsv(one), published, atol=5e-9)
        assert_same(hsv(one), truth(sys), 1e-14)


def test_published_values():
    # python-control's own test, with values from MATLAB
    sys = ([[1.0, -2], [3, -4]], [[5.0], [7]], [[6.0, 8]], [[9.0]])
    np.testing.assert_allclose(hsv(sys), [24.42686, 0.5731395], rtol=1e-6)
    # MATLAB's page on balreal: zeros -10, -20.01, poles -5, -9.9, -20.1
    poles, zeros = np.array([-5, -9.9, -20.1]), np.array([-10, -20.01])
    residues = [np.prod(p - zeros) / np.prod(p - poles[poles != p]) for p in poles]
    sys = DiagonalStateSpace(poles, np.ones((3, 1)), np.array([residues]), dt=0)
    np.testing.assert_allclose(hsv(sys), [0.1006158, 6.80e-5, 1.0055e-5], rtol=1e-3)
    # A complex system, which other libraries cast to real
    sys = DiagonalStateSpace([-1 + 1j, -2], np.ones((2, 1)), np.ones((1, 2)), dt=0)
    np.testing.assert_allclose(hsv(sys), [0.68642081, 0.03642081], atol=5e-9)


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
def test_dense_values_against_high_precision(dt, is_complex):
    sys = random_dense(10, dt=dt, is_complex=is_complex, seed=5)
    assert_same(hsv(sys), dense_truth(sys), 1e-13)


RINGS = {
    "real": DiagonalStateSpace(-np.logspace(-2, 2, 40), np.ones((40, 2)), np.ones((1, 40)), dt=0),
    "ring": random_ring(40, seed=1, largest=0.999),
    "ring, conjugate": random_ring(24, seed=2, largest=0.999, conjugate=True),
    "near the circle": random_ring(24, seed=3, smallest=0.9999, largest=0.999999),
    "clustered": DiagonalStateSpace(0.9 + 1e-9 * np.arange(12), np.ones((12, 1)), np.ones((1, 12))),
    "badly scaled": DiagonalStateSpace(
        -np.logspace(-3, 3, 20), np.logspace(8, -8, 20)[:, None], np.logspace(-9, 9, 20)[None], dt=0
    ),
}


@pytest.mark.parametrize("name", RINGS)
def test_diagonal_values_against_high_precision(name):
    assert_same(hsv(RINGS[name]), truth(RINGS[name]), 1e-13)


@pytest.mark.parametrize("conjugate", [False, True])
def test_dense_form_of_a_ring_against_high_precision(conjugate):
    sys = random_ring(24, seed=4, smallest=0.5, largest=0.99, conjugate=conjugate)
    U = unitary(sys.order, 0, not conjugate)
    assert_same(hsv(similar(sys.to_dense(), U)), truth(sys), 1e-12)


@pytest.mark.parametrize("n", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_many_real_poles_against_high_precision(n):
    sys = DiagonalStateSpace(-np.logspace(-1, 1, n), np.ones((n, 1)), np.ones((1, n)), dt=0)
    exact = truth(sys, 40)
    assert_same(hsv(sys), exact, 1e-14)
    assert_same(hsv(similar(sys.to_dense(), unitary(n, 0))), exact, 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("conjugate", [False, True])
def test_rings_of_order_200_against_high_precision(conjugate):
    sys = random_ring(100 if conjugate else 200, seed=6, largest=0.99, conjugate=conjugate)
    exact = truth(sys, 40)
    assert_same(hsv(sys), exact, 1e-13)
    assert_same(hsv(similar(sys.to_dense(), unitary(200, 0, not conjugate))), exact, 1e-12)


@settings(max_examples=30)
@given(diagonal_systems(max_order=5))
def test_diagonal_values_are_the_truth(sys):
    assert_same(hsv(sys), truth(sys), 1e-14, size(sys))


# ------------------------------------------------------------------ theorems


@given(ANY)
def test_diagonal_and_dense_agree(sys):
    assert_same(hsv(sys), hsv(sys.to_dense()), scale=size(sys))


@given(ANY, st.integers(0, 99))
def test_a_change_of_basis_changes_nothing(sys, seed):
    dense, n = sys.to_dense(), sys.order
    T = unitary(n, seed) @ np.diag(np.linspace(0.5, 2, n)) @ unitary(n, seed + 1)
    assert_same(hsv(similar(dense, T)), hsv(sys), 1e-11, size(sys))


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("decades", [4, 8, 12])
def test_the_unit_of_a_state_changes_nothing(dt, decades):
    sys = random_dense(8, dt=dt, seed=3)
    T = np.diag(np.logspace(-decades, decades, 8)[np.random.default_rng(0).permutation(8)])
    assert_same(hsv(similar(sys, T)), hsv(sys), 1e-11)


@given(ANY)
def test_duality(sys):
    dense = sys.to_dense()
    dual = StateSpace(dense.A.conj().T, dense.C.conj().T, dense.B.conj().T, None, sys.dt)
    assert_same(hsv(dual), hsv(sys), scale=size(sys))


@given(ANY, st.sampled_from([True, 0.3, 2.0, 10.0]))
def test_bilinear_map(sys, dt):
    there = lti.bilinear(sys, dt)
    assert there.is_discrete != sys.is_discrete
    assert_same(hsv(there), hsv(sys), scale=size(sys))


@given(ANY, st.integers(0, 99))
def test_unitary_inputs_and_outputs(sys, seed):
    dense = sys.to_dense()
    U, V = unitary(sys.n_inputs, seed, True), unitary(sys.n_outputs, seed + 1, True)
    turned = StateSpace(dense.A + 0j, dense.B @ U, V @ dense.C, None, sys.dt)
    assert_same(hsv(turned), hsv(sys), scale=size(sys))


@given(systems(dt=0), st.floats(1e-6, 1e6))
def test_scaling_time(sys, alpha):
    dense = sys.to_dense()
    faster = StateSpace(alpha * dense.A, alpha * dense.B, dense.C)
    assert_same(hsv(faster), hsv(sys), scale=size(sys))


@given(ANY, st.floats(1e-200, 1e200))
def test_scaling_the_input(sys, alpha):
    dense = sys.to_dense()
    louder = StateSpace(dense.A, alpha * dense.B, dense.C, None, sys.dt)
    assert_same(hsv(louder), alpha * hsv(sys), scale=alpha * size(sys))


@given(ANY)
def test_a_direct_sum_repeats_every_value(sys):
    assert_same(hsv(direct_sum(sys, sys)), np.repeat(hsv(sys), 2), scale=size(sys))


@given(ANY)
def test_a_parallel_sum_doubles_every_value(sys):
    dense = sys.to_dense()
    negative = StateSpace(dense.A, -dense.B, dense.C, None, sys.dt)
    expected = np.concatenate([2 * hsv(sys), np.zeros(sys.order)])
    assert_same(hsv(sys - negative), expected, scale=size(sys))


@given(ANY)
def test_a_system_minus_itself_has_none(sys):
    assert hsv(sys - sys).max() <= 1e-13 * size(sys)


@given(ANY)
def test_realification_repeats_every_value(sys):
    dense = sys.to_dense()

    def wide(X):
        return np.block([[X.real, -X.imag], [X.imag, X.real]])

    doubled = StateSpace(wide(dense.A), wide(dense.B), wide(dense.C), None, sys.dt)
    assert_same(hsv(doubled), np.repeat(hsv(sys), 2), scale=size(sys))


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
def test_finite_impulse_response(taps, m, p, seed):
    h = np.random.default_rng(seed).standard_normal((taps, p, m))
    shift = np.kron(np.eye(taps, k=-1), np.eye(m))
    B = np.eye(taps * m, m)
    C = np.concatenate(list(h), axis=1)
    blocks = [[h[i + j] if i + j < taps else np.zeros((p, m)) for j in range(taps)]
              for i in range(taps)]  # fmt: skip
    expected = np.linalg.svd(np.block(blocks), compute_uv=False)
    expected = np.concatenate([expected, np.zeros(taps * m)])[: taps * m]
    assert_same(hsv((shift, B, C, None, True)), expected, 1e-13)


@given(st.integers(1, 6).flatmap(lambda n: st.lists(
    st.complex_numbers(max_magnitude=3).map(lambda z: -abs(z.real) - 0.1 + 1j * z.imag),
    min_size=n, max_size=n)))  # fmt: skip
def test_every_value_of_an_all_pass_is_one(poles):
    assert_same(hsv(all_pass(np.array(poles))), np.ones(len(poles)))


# ------------------------------------------------------------------ balancing


@given(ANY)
def test_balancing_makes_both_gramians_diagonal(sys):
    balancing = lti.balance(sys)
    T, W, r = balancing.right, balancing.left, balancing.minimal_order
    S, R = lti.gramian_factors(sys)
    sigma = balancing.hsv[:r]
    # Row i of W and column i of T carry the rounding of R^H S, magnified by sigma_i^-1/2
    scale = 1 / np.sqrt(np.outer(sigma, sigma))
    rounding = 1e-13 * np.linalg.norm(S, 2) * np.linalg.norm(R, 2) * scale
    assert (np.abs(W @ T - np.eye(r)) <= rounding).all()
    assert (np.abs(W @ S @ S.conj().T @ W.conj().T - np.diag(sigma)) <= rounding * sigma[:1]).all()
    assert (np.abs(T.conj().T @ R @ R.conj().T @ T - np.diag(sigma)) <= rounding * sigma[:1]).all()
    np.testing.assert_allclose(balancing.hsv, hsv(sys), atol=1e-13 * hsv(sys)[0])


@given(ANY)
def test_truncating_at_every_order_needs_one_balancing(sys):
    balancing = lti.balance(sys)
    for order in range(balancing.minimal_order + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lti.ReductionWarning)
            one, other = balancing.truncate(order), lti.balanced_truncation(sys, order)
        np.testing.assert_array_equal(one.system.A, other.system.A)
        np.testing.assert_array_equal(one.error_bound, other.error_bound)


def test_minimal_order_counts_the_states_that_matter():
    assert lti.balance(CAUCHY).minimal_order == 12  # values above 20 eps hsv[0]
    hidden = DiagonalStateSpace([0.5, 0.6, 0.7], [[1.0], [0], [1]], [[1.0, 1, 0]])
    assert lti.balance(hidden).minimal_order == 1
    assert lti.balance(DiagonalStateSpace([0.5], [[0.0]], [[1.0]])).minimal_order == 0
    assert "minimal_order=1" in repr(lti.balance(hidden))


# ------------------------------------------------------------------ bound and order

SIGMA = np.array([4.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.1])


def test_bound_counts_each_distinct_value_once():
    expected = 2 * np.array([5.6, 1.6, 1.6, 0.6, 0.6, 0.6, 0.1, 0])
    np.testing.assert_allclose(lti.error_bound(SIGMA), expected, rtol=1e-15)
    assert [float(lti.error_bound(SIGMA, r)) for r in range(8)] == list(lti.error_bound(SIGMA))
    nearly = np.array([1.0, 1 - 1e-14, 1 - 1e-6])
    np.testing.assert_allclose(lti.error_bound(nearly, 0), 4.0, rtol=1e-5)


@given(st.lists(st.sampled_from([0.0, 1e-300, 0.125, 0.25, 1.0, 3.0]), max_size=7))
def test_bound_is_twice_the_sum_of_the_set(values):
    sigma = np.array(sorted(values, reverse=True))
    expected = [2 * sum(set(sigma[r:])) for r in range(len(sigma) + 1)]
    np.testing.assert_allclose(lti.error_bound(sigma), expected, rtol=1e-14)


@given(
    st.lists(st.floats(0, 10), max_size=7),
    st.floats(0, 30),
    st.booleans(),
)
@example([1.0, 0.5], 0.0, False)
@example([1.0, 0.0], 0.0, False)
@example([0.0, 0.0], 0.0, True)
@example([], 0.0, True)
def test_tol_is_a_promise(values, tol, relative):
    sigma = np.array(sorted(values, reverse=True))
    order = lti.order_for(sigma, tol, relative)
    limit = tol * sigma[0] if relative and values else tol
    assert type(order) is int and 0 <= order <= len(sigma)
    assert order == len(sigma) or lti.error_bound(sigma, order) <= limit
    assert all(lti.error_bound(sigma, r) > limit for r in range(order))


def test_order_of_a_stack_serves_every_member():
    stack = np.array([[4.0, 1.0, 0.1], [2.0, 1.5, 1.0]])
    assert lti.order_for(stack[:1], 0.5) == 2
    assert lti.order_for(stack, 0.5) == 3
    assert lti.order_for(stack, 2.6, relative=True) == 0 + max(
        lti.order_for(s, 2.6, relative=True) for s in stack
    )
    assert lti.error_bound(stack).shape == (2, 4) and lti.error_bound(stack, 1).shape == (2,)


def test_values_that_are_not_numbers_are_refused():
    with pytest.raises(lti.OptionError, match="non-negative and descending"):
        lti.order_for(np.array([np.nan, np.nan]), 0.1, relative=True)


@pytest.mark.parametrize("tol", [np.nan, -1.0, np.inf, -np.inf, "1", 1j])
def test_senseless_tolerance(tol):
    with pytest.raises(lti.OrderError, match="tol must be a finite number >= 0, got "):
        lti.order_for(SIGMA, tol)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (2.7, "order must be an integer, got 2.7"),
        (2.0, "order must be an integer, got 2.0"),
        (True, "order must be an integer, got True"),
        ("2", "order must be an integer, got '2'"),
        ([2], r"order must be an integer, got \[2\]"),
        (-1, "order must be from 0 to 7, .* got -1"),
        (8, "order must be from 0 to 7, .* got 8"),
    ],
)
def test_senseless_order(order, message):
    with pytest.raises(lti.OrderError, match=message):
        lti.error_bound(SIGMA, order)


def test_numpy_integers_are_integers():
    assert lti.error_bound(SIGMA, np.int32(6)) == 0.2


# ------------------------------------------------------------------ array libraries, stacks


@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
def test_a_stack_is_a_loop_in_every_library(library, dt, is_complex, stack):
    sys = random_dense(5, dt=dt, is_complex=is_complex, stack=stack, seed=7)
    sigma = lti.hankel_singular_values(library.system(sys))
    balancing = lti.balance(library.system(sys))
    assert library.owns(sigma, balancing.hsv, balancing.T, balancing.W)
    assert library.owns(lti.error_bound(sigma), lti.error_bound(sigma, 2))
    assert np.asarray(sigma).dtype == np.float64 and tuple(sigma.shape) == (*stack, 5)
    for i in np.ndindex(stack):
        one = StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], dt)
        assert_same(np.asarray(sigma)[i], hsv(one), 1e-13)
        assert_same(np.asarray(balancing.hsv)[i], hsv(one), 1e-13)
        projector = np.asarray(balancing.T)[i] @ np.asarray(balancing.W)[i]
        np.testing.assert_allclose(projector, np.eye(5), atol=1e-9)
        np.testing.assert_allclose(
            lti.error_bound(np.asarray(sigma))[i], lti.error_bound(hsv(one)), rtol=1e-10
        )


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
def test_a_diagonal_stack_is_a_loop_in_every_library(library, conjugate, stack):
    rings = [random_ring(4, 2, 3, seed=k, conjugate=conjugate) for k in range(6)]
    parts = ([getattr(r, name) for r in rings] for name in ("poles", "B", "C", "D"))
    count = int(np.prod(stack, dtype=int))
    poles, B, C, D = (np.array(x[:count]).reshape(*stack, *x[0].shape) for x in parts)
    sigma = lti.hankel_singular_values(
        library.system(DiagonalStateSpace(poles, B, C, D, True, conjugate))
    )
    assert library.owns(sigma)
    for k, i in enumerate(np.ndindex(stack)):
        assert_same(np.asarray(sigma)[i], hsv(rings[k]), 1e-14)


@pytest.mark.parametrize("single", [np.float32, np.complex64])
@pytest.mark.parametrize("diagonal", [False, True])
def test_single_precision_in_and_out_is_computed_in_double(library, single, diagonal):
    sys = random_ring(6, seed=3) if diagonal else random_dense(6, dt=True, seed=3)
    if diagonal and single == np.float32:
        sys = DiagonalStateSpace(sys.poles.real, sys.B.real, sys.C.real)
    names = ["poles" if diagonal else "A", "B", "C"]
    coarse = [np.asarray(getattr(sys, name), single) for name in names]
    build = DiagonalStateSpace if diagonal else StateSpace
    sigma = lti.hankel_singular_values(build(*map(library, coarse), dt=True))
    assert library.owns(sigma) and np.asarray(sigma).dtype == np.float32
    exact = hsv(build(*(x.astype(np.result_type(single, float)) for x in coarse), dt=True))
    np.testing.assert_array_equal(np.asarray(sigma), exact.astype(np.float32))


@pytest.mark.parametrize("dt", [0, True])
def test_a_stack_of_unequal_ranks(dt):
    poles = -np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7]])
    B = np.array([[[1.0], [0], [0]], [[1.0], [1], [1]]])
    sys = DiagonalStateSpace(poles, B, np.ones((1, 3)), dt=dt)
    balancing = lti.balance(sys)
    assert balancing.minimal_order == 3
    assert_same(balancing.hsv[0], np.array([1 / (1 - 0.25) if dt else 1, 0, 0]))
    assert np.isfinite(balancing.T).all() and np.isfinite(balancing.W).all()
    for order in range(4):
        reduced = balancing.truncate(order)
        assert reduced.flags == () and (reduced.verify() <= reduced.error_bound + 1e-12).all()


# ------------------------------------------------------------------ sizes at the edge


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize(("n", "m", "p"), [(0, 0, 0), (0, 2, 3), (3, 0, 2), (3, 2, 0), (1, 1, 1),
                                           (2, 5, 4)])  # fmt: skip
def test_no_states_inputs_or_outputs(library, n, m, p, dt):
    pole = -0.5
    diagonal = DiagonalStateSpace(np.full(n, pole), np.ones((n, m)), np.ones((p, n)), dt=dt)
    for sys in (diagonal, diagonal.to_dense()):
        sys = library.system(sys)
        sigma = lti.hankel_singular_values(sys)
        assert library.owns(sigma) and tuple(sigma.shape) == (n,)
        balancing = lti.balance(sys)
        assert balancing.minimal_order == (1 if n and m and p else 0)
        for order in (0, balancing.minimal_order):
            reduced = balancing.truncate(order)
            assert tuple(reduced.system.D.shape) == (p, m) and reduced.order == order
            assert np.isfinite(np.asarray(reduced.verify()))


# ------------------------------------------------------------------ relative accuracy


def spread(n, kind, m, dt):
    """Diagonal systems whose values fall by up to 18 orders of magnitude."""
    rng = np.random.default_rng(7)
    B, C = rng.standard_normal((n, m)), rng.standard_normal((m, n))
    if dt == 0:
        poles = -np.arange(1.0, n + 1)
        turn = 1j * rng.uniform(0.1, 3, n)
    else:
        poles = np.linspace(-0.6, 0.7, n)
        turn = 1j * rng.uniform(0.01, 0.5, n)
    if kind == "real":
        return DiagonalStateSpace(poles, B, C, None, dt)
    return DiagonalStateSpace(poles + turn, B + 1j, C - 1j, None, dt, kind == "conjugate")


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("kind", ["real", "complex", "conjugate"])
def test_every_value_of_a_diagonal_system_has_all_its_digits(kind, dt, m):
    sys = spread(6 if kind == "conjugate" else 12, kind, m, dt)
    np.testing.assert_allclose(lti.hankel_singular_values(sys), truth(sys, 90), rtol=3e-13)


def test_values_that_are_equal_to_rounding_but_distinct():
    """By its poles a balancing knows that each of them may count."""
    A, b = np.diag([-1.0, -1e-28]), np.array([[1.0], [1e-14]])
    with pytest.warns(lti.ReductionWarning, match="within 2e-28 of the stability boundary"):
        reduction = lti.balanced_truncation((A, b, b.T), 0)
    np.testing.assert_allclose(reduction.error_bound, 2, rtol=1e-12)
    np.testing.assert_allclose(reduction.verify(), 2, rtol=1e-9)
