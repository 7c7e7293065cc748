"""Every option of `balance`: what is promised with it, against theory and against SLICOT."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from lti.gramians.exact import double_factors
from lti.gramians.limited import frequency_limited_factors, time_limited_factors
from lti.gramians.weighted import modified_input
from lti.systems.algebra import dual, series
from lti.systems.split import split
from tests.lti.oracles import oracle
from tests.lti.systems import (
    all_pass,
    boundary,
    dense_systems,
    diagonal_systems,
    random_dense,
    random_ring,
    response,
    systems,
)


def quiet(reduce, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.ReductionWarning)
        return reduce(*args, **kwargs)


def square(S):
    return S @ S.conj().swapaxes(-1, -2)


def top(sys):
    """The end of the frequency axis."""
    return np.pi / (1 if sys.dt is True else sys.dt) if sys.is_discrete else np.inf


def close(X, Y, tol=1e-12):
    np.testing.assert_allclose(X, Y, rtol=0, atol=tol * max(np.abs(Y).max(initial=0), 1e-300))


def same_response(one, other, tol):
    s = boundary(one, 60)
    X, Y = response(one, s), response(other, s)
    np.testing.assert_allclose(X, Y, rtol=0, atol=tol * (1 + np.abs(Y).max(initial=0)))


# ------------------------------------------------------------------ stable and unstable parts


def shifted(sys, seed):
    """`sys` with some of its poles mirrored to the other side, none on the boundary."""
    stays = np.random.default_rng(seed).random(sys.poles.shape) < 0.5
    if sys.is_discrete:  # those near 0 go no further than 2.5: next to 1e15 all poles are marginal
        mirrored = 1.25 / np.where(abs(sys.poles) < 0.5, 0.5, sys.poles).conj()
    else:
        mirrored = -np.conj(sys.poles)
    return replace(sys, poles=np.where(stays, sys.poles, mirrored))


@given(diagonal_systems(), st.integers(0, 99))
def test_a_system_is_the_sum_of_its_parts(sys, seed):
    sys = shifted(sys, seed)
    for form in (sys, sys.to_dense()):
        parts = split(form)
        stable, rest, dense = parts.stable, parts.rest, form.to_dense()
        assert stable.order + rest.order == sys.order and type(stable) is type(form)
        close(parts.W @ parts.T, np.eye(sys.order), 1e-9)
        size = np.abs(parts.T).max() * np.abs(parts.W).max()
        both = np.block([[rest.A, np.zeros((rest.order, stable.order))],
                         [np.zeros((stable.order, rest.order)), stable.to_dense().A]])  # fmt: skip
        turned = parts.W @ dense.A @ parts.T
        np.testing.assert_allclose(turned, both, atol=1e-9 * size * (1 + np.abs(dense.A).max()))
        stable_poles, rest_poles = np.asarray(stable.poles), np.asarray(rest.poles)
        if sys.is_discrete:
            assert (abs(stable_poles) < 1).all() and (abs(rest_poles) >= 1).all()
        else:
            assert (stable_poles.real < 0).all() and (rest_poles.real >= 0).all()
        assert np.isrealobj(rest.A) == np.isrealobj(dense.A)


@pytest.mark.parametrize("dt", [0, True, 0.5])
@pytest.mark.parametrize("reduce", [lti.balanced_truncation, lti.singular_perturbation])
def test_the_unstable_part_is_kept_and_the_certificate_is_of_the_rest(dt, reduce):
    good = random_dense(6, 2, 3, dt=dt, seed=1)
    bad = np.array([[1.2, 0.5], [-0.5, 1.2]])
    A = scipy.linalg.block_diag(good.A, bad) + np.eye(8, k=3) / 4
    sys = lti.StateSpace(
        A, np.ones((8, 2)) + np.eye(8, 2), np.ones((3, 8)) + np.eye(3, 8), None, dt
    )
    with pytest.raises(lti.UnstableError, match='2 of 8 poles are unstable.*unstable="split"'):
        reduce(sys, 4)
    parts = split(sys)
    sigma = lti.hankel_singular_values(parts.stable)
    for order in range(2, 9):
        reduction = reduce(sys, order, unstable="split")
        assert reduction.order == order and np.isrealobj(reduction.system.A)
        np.testing.assert_array_equal(reduction.hsv[:2], np.inf)
        np.testing.assert_allclose(reduction.hsv[2:], sigma, rtol=1e-12)
        kept = np.sort_complex(reduction.system.poles)[-2:]
        np.testing.assert_allclose(kept, [1.2 - 0.5j, 1.2 + 0.5j], rtol=1e-12)
        error = lti.hinf_norm(parts.stable - reduction.pair[1])
        np.testing.assert_allclose(reduction.verify(), error, rtol=1e-6, atol=1e-12)
        assert reduction.lower_bound <= error + 1e-12 and error <= reduction.error_bound + 1e-12
        s = boundary(sys, 60)
        gap = response(sys, s) - response(reduction.system, s)
        assert np.linalg.norm(gap, 2, axis=(1, 2)).max() <= error * (1 + 1e-6) + 1e-11
    with pytest.raises(lti.OrderError, match="order 1 is less than the 2 states of poles that are"):
        reduce(sys, 1, unstable="split")
    assert quiet(reduce, sys, tol=1e6, unstable="split").order == 2
    assert quiet(reduce, sys, energy=1e-9, unstable="split").order == 3


def test_integrators_are_kept_and_said_to_be_on_the_boundary():
    sys = lti.StateSpace(np.diag([0.0, -1.0, -2.0]), np.ones((3, 1)), np.ones((1, 3)))
    with pytest.raises(lti.UnstableError, match="is on the boundary of the open left half-plane"):
        lti.balance(sys)
    reduction = lti.balanced_truncation(sys, 2, unstable="split")
    assert reduction.system.poles.real.max() == 0
    assert reduction.lower_bound <= reduction.verify() <= reduction.error_bound * (1 + 1e-9) < 0.1


def test_a_stack_splits_where_its_members_agree(library):
    poles = np.array([[0.5, 1.5, 0.25], [-2.0, 0.1, 0.3]])
    sys = library.system(lti.DiagonalStateSpace(poles, np.ones((3, 2)), np.ones((2, 3))))
    for form in (sys, sys.to_dense()):
        reduction = lti.balanced_truncation(form, 2, unstable="split")
        assert library.owns(reduction.system.A, reduction.verify())
        error, bound = np.asarray(reduction.verify()), np.asarray(reduction.error_bound)
        assert error.shape == (2,) and (error <= bound * (1 + 1e-8)).all()
    uneven = lti.DiagonalStateSpace(
        np.abs(poles) - [[0, 0, 0], [1.5, 0, 0]], np.ones((3, 1)), np.ones((1, 3))
    )
    with pytest.raises(lti.DimensionError, match="from 0 to 1 unstable poles"):
        lti.balance(uneven, unstable="split")


# ------------------------------------------------------------------ singular perturbation


@given(systems(), st.sampled_from(["square-root", "balancing-free"]))
def test_singular_perturbation_is_exact_at_dc_and_keeps_the_values(sys, method):
    balancing = lti.balance(sys, method=method)
    scale = float(balancing.roundoff_scale)
    dc = np.array([1.0 + 0j if sys.is_discrete else 0j])
    for order in range(balancing.minimal_order + 1):
        small = quiet(balancing.singular_perturbation, order)
        if np.isinf(small.error_bound):
            continue
        allowed = 1e-9 * scale * (1 + np.abs(response(sys, dc)).max())
        np.testing.assert_allclose(response(small.system, dc), response(sys, dc), atol=allowed)
        if order and balancing.hsv[order - 1] > 1e-3 * scale and not small.flags:
            values = lti.hankel_singular_values(small.system)
            np.testing.assert_allclose(values, balancing.hsv[:order], atol=1e-7 * scale)


def test_published_errors_of_singular_perturbation():
    sys = lti.DiagonalStateSpace([0.9, 0.5, -0.3, -0.7], [[1.0], [2], [3], [1]], [[1.0, 1, 0.5, 2]])
    errors = [float(lti.singular_perturbation(sys, r).verify()) for r in (1, 2, 3)]
    np.testing.assert_allclose(errors, [10.1787800, 2.0599743, 0.2639742], atol=5e-8)


@pytest.mark.parametrize("is_complex", [False, True])
def test_singular_perturbation_commutes_with_the_bilinear_map(is_complex):
    sys = random_dense(6, dt=0, seed=3, is_complex=is_complex)
    for order in range(6):
        one = lti.singular_perturbation(lti.bilinear(sys, 0.3), order).system
        other = lti.bilinear(lti.singular_perturbation(sys, order).system, 0.3)
        same_response(one, other, 1e-10)


def test_the_projections_of_singular_perturbation():
    sys = random_dense(6, 2, 3, dt=True, seed=4)
    small = lti.singular_perturbation(sys, 3)
    T, W = small.T, small.W
    np.testing.assert_allclose(W @ T, np.eye(3), atol=1e-13)
    np.testing.assert_allclose(sys.C @ T, small.system.C, atol=1e-12)
    np.testing.assert_allclose(W @ sys.A @ T, small.system.A, atol=1e-12)


# ------------------------------------------------------------------ balancing-free


@given(systems())
def test_balancing_free_gives_the_same_systems(sys):
    one, other = lti.balance(sys), lti.balance(sys, method="balancing-free")
    for order in range(one.minimal_order + 1):
        if order and one.hsv[order - 1] < 1e-6 * one.scale:
            continue
        for form in ("truncate", "singular_perturbation"):
            a, b = quiet(getattr(one, form), order), quiet(getattr(other, form), order)
            if not a.flags:
                same_response(a.system, b.system, 1e-8)
    # W T = I to the rounding of the smallest value that is kept, relative to the scale of all
    clear = int((one.hsv > 1e-6 * one.scale).sum())
    whole = quiet(other.truncate, clear)
    np.testing.assert_allclose(whole.W @ whole.T, np.eye(clear), atol=1e-7)


def test_balancing_free_does_not_mind_units():
    poles = [0.5 - 6e-39j] * 2  # in real coordinates one of the two states of a mode is 1e-30
    B, C = 1e-8j * np.eye(2) + 5e-38 * np.eye(2), -1.25 * np.eye(2)
    sys = lti.DiagonalStateSpace(poles, B, C, conjugate=True)
    # and here two of three states are reached by no input
    B, C = 1e-38 * np.eye(2)[[0, 0, 1, 1]] * [[1], [0], [1], [0]], np.ones((2, 4))
    hidden = lti.DiagonalStateSpace([0.5, 0.25, 0.5, 0.25], B, C * [[1, 2, 0, 0], [0, 0, 1, 2]])
    for form in (lti.balanced_truncation, lti.singular_perturbation):
        for x in (sys, hidden):
            reduction = quiet(form, x, 2, method="balancing-free")
            np.testing.assert_allclose(reduction.system.poles, 0.5, rtol=1e-6)


def test_balancing_free_in_a_stack_of_unequal_ranks(library):
    B = np.array([[[1.0], [1.0], [1.0]], [[1.0], [0.0], [1.0]]])
    sys = lti.DiagonalStateSpace([0.9, 0.5, -0.4], B, np.ones((1, 3)))
    sys = library.system(lti.DiagonalStateSpace(sys.poles, sys.B, sys.C))
    free = lti.balance(sys, method="balancing-free").truncate(3)
    error = np.asarray(free.verify())
    assert error.shape == (2,) and (error < 1e-12).all()


# ------------------------------------------------------------------ weights


@given(dense_systems(dt=0, is_complex=False), st.integers(0, 99))
def test_series_multiplies_responses(sys, seed):
    weight = random_dense(3, 2, sys.n_inputs, dt=0, seed=seed)
    s = boundary(sys, 20)
    close(response(series(sys, weight), s), response(sys, s) @ response(weight, s))
    close(response(dual(sys), s.conj()), response(sys, s).conj().swapaxes(-1, -2))


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize(("rule", "alpha"), [("enns", 0.0), ("lin-chiu", 1.0)])
@pytest.mark.parametrize("sides", ["R", "L", "B"])
def test_weighted_values_are_those_of_slicot(dt, rule, alpha, sides):
    sys = random_dense(8, 2, 3, dt=dt, seed=1)
    right, left = random_dense(3, 2, 2, dt=dt, seed=5), random_dense(4, 3, 3, dt=dt, seed=6)
    matrices = [(x.A, x.B, x.C, x.D) for x in (sys, left, right)]
    hsv, (A, B, C, D) = oracle("ab09id", *matrices, bool(dt), alpha, sides, 4)
    weights = {"R": {"input_weight": right}, "L": {"output_weight": left}}
    weights["B"] = weights["R"] | weights["L"]
    balancing = lti.balance(sys, weighting=rule, **weights[sides])
    np.testing.assert_allclose(balancing.hsv, hsv, atol=1e-13 * hsv[0])
    small = quiet(balancing.truncate, 4).system
    same_response(small, lti.StateSpace(A, B, C, D, dt), 1e-9)


@pytest.mark.parametrize("rule", ["enns", "lin-chiu", "wang"])
@pytest.mark.parametrize("dt", [0, True])
def test_weights_of_one_change_nothing_but_the_claim(dt, rule):
    sys = random_dense(5, 2, 2, dt=dt, seed=2)
    one = lti.StateSpace(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((2, 0)), np.eye(2), dt)
    weighted = lti.balance(sys, input_weight=one, output_weight=one, weighting=rule)
    np.testing.assert_allclose(weighted.hsv, lti.hankel_singular_values(sys), rtol=1e-7)


@settings(max_examples=40)
@given(dense_systems(), st.integers(0, 99), st.sampled_from(["left", "right", "both"]))
def test_the_weighted_bound_of_wang(sys, seed, sides):
    m, p, c = sys.n_inputs, sys.n_outputs, np.iscomplexobj(sys.A)
    W_i = random_dense(2, m, m, dt=sys.dt, seed=seed, is_complex=c) if sides != "left" else None
    W_o = random_dense(3, p, p, dt=sys.dt, seed=seed, is_complex=c) if sides != "right" else None
    balancing = lti.balance(sys, input_weight=W_i, output_weight=W_o, weighting="wang")
    for order in range(sys.order):
        for form in (balancing.truncate, balancing.singular_perturbation):
            reduction = quiet(form, order)
            if np.isfinite(reduction.error_bound):
                assert reduction.lower_bound == 0
                reduction.verify()
                G, F = sys, reduction.system
                if W_i:
                    G, F = series(G, W_i), series(F, W_i)
                if W_o:
                    G, F = series(W_o, G), series(W_o, F)
                error = lti.hinf_norm(G - F)
                assert error <= reduction.error_bound * (1 + 1e-6) + 1e-10 * (1 + lti.hinf_norm(G))


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("options", [
    {"weighting": "lin-chiu", "input": True, "output": True},
    {"weighting": "wang", "input": True, "output": True},
    {"weighting": "enns", "input": True},
    {"weighting": "enns", "output": True},
])  # fmt: skip
def test_these_rules_keep_stability(dt, is_complex, options):
    for seed in range(20):
        sys = random_dense(6, 2, 2, dt=dt, seed=seed, is_complex=is_complex)
        weight = random_dense(3, 2, 2, dt=dt, seed=seed + 50, is_complex=is_complex)
        kwargs = {f"{side}_weight": weight for side in ("input", "output") if side in options}
        balancing = lti.balance(sys, weighting=options["weighting"], **kwargs)
        for order in range(7):
            poles = quiet(balancing.truncate, order).system.poles
            assert (abs(poles) < 1).all() if dt else (poles.real < 0).all()


def test_a_weight_pays_off_where_it_is_large():
    sys = random_dense(10, 1, 1, dt=0, seed=9)
    low = lti.StateSpace([[-0.05]], [[0.05]], [[1.0]])
    plain, weighted = (
        lti.balance(sys).truncate(3),
        quiet(lti.balance(sys, input_weight=low).truncate, 3),
    )
    assert weighted.error_bound == np.inf and "Enns" in weighted.method
    measured = replace(plain, weights=weighted.weights, error_bound=weighted.error_bound,
                       lower_bound=weighted.lower_bound)  # fmt: skip
    assert weighted.verify() < 0.5 * measured.verify()


# ------------------------------------------------------------------ bands and windows


@settings(max_examples=40)
@given(dense_systems())
def test_all_frequencies_and_all_times_give_the_gramians(sys):
    exact = double_factors(sys)
    full = (0, top(sys)) if np.isrealobj(sys.A) else (-top(sys), top(sys))
    for factors in (frequency_limited_factors(sys, full), time_limited_factors(sys, (0, np.inf))):
        for one, other in zip(factors, exact, strict=True):
            close(square(one), square(other), 1e-11)


@settings(max_examples=40)
@given(dense_systems(), st.integers(1, 9), st.integers(1, 9))
def test_limited_gramians_add_up(sys, a, b):
    dt = 1.0 if sys.dt is True else sys.dt or 1.0
    w1, w2 = 0.03 * a / dt, (0.03 * a + 0.3 * b) / dt
    bands = [frequency_limited_factors(sys, x) for x in ((0, w1), (w1, w2), [(w1, w2), (0, w1)])]
    bands += [frequency_limited_factors(sys, (0, w2))]
    t1, t2 = a * dt, (a + b) * dt
    windows = [
        time_limited_factors(sys, x) for x in ((0, t1), (t1, t2), [(0, t1), (t1, t2)], (0, t2))
    ]
    for first, second, both, whole in (bands, windows):
        for i in (0, 1):
            total = square(first[i]) + square(second[i])
            close(square(both[i]), total, 1e-11)
            close(square(whole[i]), total, 1e-11)


def test_a_band_of_frequencies_by_the_matrix_logarithm():
    sys = random_dense(5, 2, 2, dt=0, seed=6)
    w1, w2 = 0.4, 2.0
    F = scipy.linalg.logm(1j * w2 * np.eye(5) - sys.A) - scipy.linalg.logm(
        1j * w1 * np.eye(5) - sys.A
    )
    F = (F / (2j * np.pi)).real * 2  # 1/2pi of the integral over both bands
    P, Q = (square(S) for S in double_factors(sys))
    S, R = frequency_limited_factors(sys, (w1, w2))
    close(square(S), F @ P + P @ F.T, 1e-12)
    close(square(R), F.T @ Q + Q @ F, 1e-12)


def test_windows_of_time_by_the_matrix_exponential():
    sys = random_dense(5, 2, 2, dt=0, seed=6, is_complex=True)
    P = square(double_factors(sys)[0])
    one, two = (scipy.linalg.expm(sys.A * t) for t in (0.7, 3.1))
    S, _ = time_limited_factors(sys, (0.7, 3.1))
    close(
        square(S), square(one @ np.linalg.cholesky(P)) - square(two @ np.linalg.cholesky(P)), 1e-12
    )
    ring = random_dense(4, 1, 2, dt=0.5, seed=7)
    powers = [np.linalg.matrix_power(ring.A.T, k) @ ring.C.T for k in range(3, 8)]
    _, R = time_limited_factors(ring, (1.5, 4.0))
    close(square(R), sum(square(X) for X in powers), 1e-13)


@pytest.mark.parametrize("gap", [1e-3, 1e-8])
def test_a_resonance_inside_a_band(gap):
    """P_Omega -> P as the band holds the peak: what is left out is of the order of the gap."""
    sys = lti.StateSpace([[-gap, 1.0], [-1.0, -gap]], [[0.0], [1.0]], [[1.0, 0.0]])
    inside, _ = frequency_limited_factors(sys, (0.9, 1.1))
    outside, _ = frequency_limited_factors(sys, [(0, 0.9), (1.1, np.inf)])
    P = square(double_factors(sys)[0])
    close(square(inside) + square(outside), P, 1e-10 + 3e-16 / gap)
    assert np.abs(square(outside)).max() < 20 * gap * np.abs(P).max()


@pytest.mark.parametrize("dt", [0, True, 0.5])
@pytest.mark.parametrize("option", [{"frequencies": (0.1, 1.0)}, {"times": (0, 2.0)}])
def test_limits_pay_off_inside_and_have_a_bound_by_wang(dt, option):
    sys = random_dense(9, 2, 2, dt=dt, seed=1)
    reduction = quiet(lti.balanced_truncation, sys, 5, **option)
    assert reduction.error_bound == np.inf and reduction.lower_bound == 0
    assert "limited" in reduction.method
    repaired = lti.balanced_truncation(sys, 5, weighting="wang", **option)
    assert np.isfinite(repaired.error_bound) and repaired.verify() <= repaired.error_bound
    with pytest.raises(lti.OrderError, match='none is known where Gramians are .*weighting="wang"'):
        lti.balanced_truncation(sys, tol=0.1, **option)
    w = np.linspace(0.1, 1.0, 50)

    def error(small):
        gap = lti.frequency_response(sys, w) - lti.frequency_response(small.system, w)
        return np.linalg.norm(gap, 2, axis=(1, 2)).max()

    if "frequencies" in option and dt == 0:
        assert error(reduction) < error(lti.balanced_truncation(sys, 5))


def test_weights_and_bands_compose():
    """The band-limited Gramian of G W is the integral of G W over the band."""
    sys, weight = random_dense(5, 2, 2, dt=0, seed=1), random_dense(3, 2, 2, dt=0, seed=2)
    balancing = lti.balance(sys, input_weight=weight, frequencies=(0.2, 1.0))
    x, w = np.polynomial.legendre.leggauss(400)
    w, x = w * 0.4, 0.6 + 0.4 * x
    X = np.linalg.solve(1j * x[:, None, None] * np.eye(5) - sys.A, sys.B @ response(weight, 1j * x))
    P = 2 * np.einsum("k,kij,klj->il", w / (2 * np.pi), X, X.conj()).real
    close(square(balancing.factors.S), P, 1e-11)


# ------------------------------------------------------------------ given factors


@settings(max_examples=40)
@given(dense_systems(), st.integers(0, 99), st.booleans())
def test_one_exact_side_keeps_stability(sys, seed, observed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((sys.order, sys.order))
    given = {"controllability" if observed else "observability": X}
    balancing = lti.balance(sys, **given)
    for order in range(balancing.minimal_order + 1):
        if (
            0 < order < sys.order
            and balancing.sigma[order] > (1 - 1e-6) * balancing.sigma[order - 1]
        ):
            continue
        if order and balancing.sigma[order - 1] < 1e-9 * balancing.roundoff_scale:
            continue
        poles = quiet(balancing.truncate, order).system.poles
        assert (abs(poles) < 1 + 1e-9).all() if sys.is_discrete else (poles.real < 1e-9).all()


@settings(max_examples=40)
@given(dense_systems(), st.integers(0, 99))
def test_repaired_factors_have_a_bound(sys, seed):
    rng = np.random.default_rng(seed)
    S, R = rng.standard_normal((2, sys.order, sys.order))
    balancing = lti.balance(sys, controllability=S, observability=R, weighting="wang")
    for order in range(sys.order):
        reduction = quiet(balancing.truncate, order)
        if np.isfinite(reduction.error_bound):
            reduction.verify()


@given(dense_systems(), st.integers(0, 99))
def test_the_modified_input_holds_the_input(sys, seed):
    S = np.random.default_rng(seed).standard_normal((sys.order, 3))
    B, J = modified_input(sys, S)
    np.testing.assert_allclose(B @ J, sys.B, atol=1e-6 * (1 + np.abs(sys.B).max()))
    M = (
        square(S) - square(sys.A @ S)
        if sys.is_discrete
        else -(sys.A @ square(S) + square(S) @ sys.A.conj().T)
    )
    close(square(B), scipy.linalg.sqrtm(M @ M.conj().T), 1e-5)


def test_exact_factors_given_are_the_exact_reduction():
    ring = random_ring(4, conjugate=True, seed=2)
    S, R = lti.gramian_factors(ring)
    one = lti.balance(ring, controllability=S, observability=R).truncate(3)
    same_response(one.system, lti.balanced_truncation(ring, 3).system, 1e-10)
    assert one.error_bound == np.inf and "given" in one.method


def test_given_factors_of_a_system_that_is_split():
    A = np.diag([1.5, 0.5, 0.25])
    sys = lti.StateSpace(A, np.ones((3, 1)), np.ones((1, 3)), dt=True)
    S, R = (
        np.vstack([np.zeros((1, 2)), X])
        for X in lti.gramian_factors((A[1:, 1:], np.ones((2, 1)), np.ones((1, 2)), None, True))
    )
    given_ = lti.balance(sys, unstable="split", controllability=S, observability=R).truncate(2)
    same_response(given_.system, lti.balanced_truncation(sys, 2, unstable="split").system, 1e-12)


# ------------------------------------------------------------------ orders, errors


@given(systems(), st.floats(0.01, 1.0))
def test_energy_is_the_share_of_the_sum(sys, energy):
    sigma = lti.hankel_singular_values(sys)
    order = lti.order_for(sigma, energy=energy)
    assert order == 0 or sigma[: order - 1].sum() < energy * sigma.sum() * (1 + 1e-12)
    assert sigma[:order].sum() >= energy * sigma.sum() * (1 - 1e-12)
    reduction = quiet(lti.balanced_truncation, sys, energy=energy)
    assert reduction.order == min(order, lti.balance(sys).minimal_order)


@pytest.mark.parametrize("energy", [0, 1.5, -1, np.nan, "0.9"])
def test_senseless_energy(energy):
    with pytest.raises(lti.OrderError, match=r"must lie in \(0, 1\], got "):
        lti.balanced_truncation(random_dense(3), energy=energy)


SYS = random_dense(4, 2, 3, seed=1)
WEIGHT = random_dense(2, 2, 2, seed=2)
NARROW = random_dense(2, 2, 3, seed=2)
SAMPLED = random_dense(2, 2, 2, dt=0.1, seed=2)


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"unstable": "keep"}, lti.OptionError, "unstable must be one of 'raise', 'split'; got 'keep'"),
    ({"method": "sr"}, lti.OptionError, "method must be one of 'square-root', 'balancing-free'"),
    ({"weighting": "x"}, lti.OptionError, "weighting must be one of 'enns', 'lin-chiu', 'wang'"),
    ({"weighting": "lin-chiu"}, lti.OptionError, "is a rule for weights; give a weight"),
    ({"weighting": "wang"}, lti.OptionError, "changes Gramians that are weighted, limited"),
    ({"frequencies": (0, 1), "times": (0, 1)}, lti.OptionError, "cannot both be limited"),
    ({"frequencies": (1, 0)}, lti.OptionError, "frequencies must be a pair"),
    ({"frequencies": [(0, 2), (1, 3)]}, lti.OptionError, "that do not overlap"),
    ({"frequencies": (-1, 1)}, lti.OptionError, "0 <= start"),
    ({"frequencies": 3.0}, lti.OptionError, "frequencies must be a pair"),
    ({"frequencies": (0, np.nan)}, lti.OptionError, "frequencies must be a pair"),
    ({"times": "now"}, lti.OptionError, "times must be a pair"),
    ({"times": (2, 2)}, lti.OptionError, "times must be a pair"),
    ({"output_weight": WEIGHT}, lti.DimensionError, "a system of 3 inputs cannot follow one of 2"),
    ({"input_weight": NARROW}, lti.DimensionError, "a system of 2 inputs cannot follow one of 3"),
    ({"input_weight": SAMPLED}, lti.TimebaseError, "different time bases"),
    ({"input_weight": replace(WEIGHT, A=-WEIGHT.A)}, lti.UnstableError, "input_weight: 2 of 2"),
    ({"input_weight": WEIGHT, "controllability": np.eye(4)}, lti.OptionError, "has its weight in"),
])  # fmt: skip
def test_senseless_options(options, error, text):
    with pytest.raises(error, match=text):
        lti.balance(SYS, **options)


def test_an_option_that_does_not_exist():
    with pytest.raises(lti.OptionError, match="there is no option 'methd'; there are unstable, "):
        lti.balanced_truncation(SYS, 2, methd="x")


def test_windows_are_multiples_of_the_sampling_time():
    sys = random_dense(3, dt=0.5)
    with pytest.raises(lti.OptionError, match="times must be multiples of the sampling time 0.5"):
        lti.balance(sys, times=(0, 1.2))
    with pytest.raises(lti.OptionError, match="stop <= 6.28319"):
        lti.balance(sys, frequencies=(0, 7))


# ------------------------------------------------------------------ array libraries, stacks


OPTIONS = {
    "weights": {"input_weight": WEIGHT, "weighting": "enns"},
    "wang": {"input_weight": WEIGHT, "weighting": "wang"},
    "lin-chiu": {"input_weight": WEIGHT, "weighting": "lin-chiu"},
    "band": {"frequencies": (0.1, 2.0)},
    "window": {"times": (0, 2)},
    "balancing-free": {"method": "balancing-free"},
}


@pytest.mark.parametrize("stack", [(), (2,)])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("form", ["truncate", "singular_perturbation"])
def test_every_option_in_every_library(library, form, name, dt, is_complex, stack):
    sys = random_dense(5, 2, 2, dt=dt, is_complex=is_complex, stack=stack, seed=9)
    options = {k: replace(v, dt=dt, A=v.A / (4 if dt else 1)) if k == "input_weight" else v
               for k, v in OPTIONS[name].items()}  # fmt: skip
    reduction = quiet(getattr(lti.balance(library.system(sys), **options), form), 3)
    small = reduction.system
    arrays = [small.A, small.B, small.C, small.D, reduction.hsv, reduction.error_bound]
    assert library.owns(*arrays)
    A, B, C, D, hsv, bound = map(np.asarray, arrays)
    assert A.dtype == (np.complex128 if is_complex else np.float64) and bound.shape == stack
    for i in np.ndindex(stack):
        one = lti.StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], dt)
        alone = quiet(getattr(lti.balance(one, **options), form), 3)
        np.testing.assert_allclose(hsv[i], alone.hsv, atol=1e-10 * alone.hsv[0])
        same_response(lti.StateSpace(A[i], B[i], C[i], D[i], dt), alone.system, 1e-7)


def test_labels_survive():
    labels = lti.Labels(name="arm", inputs=("u",), outputs=("y",), states=("a", "b"))
    sys = lti.StateSpace(np.diag([-1.0, -2]), np.ones((2, 1)), np.ones((1, 2)), labels=labels)
    for reduce in (lti.balanced_truncation, lti.singular_perturbation, lti.modal_truncation):
        small = reduce(sys, 1).system
        assert small.labels == lti.Labels(name="arm", inputs=("u",), outputs=("y",))


def test_a_printed_reduction():
    sys = lti.StateSpace(
        np.diag([1.0, -1.0, -2.0]), np.ones((3, 1)), np.ones((1, 3)), labels=lti.Labels(name="cart")
    )
    reduction = lti.balanced_truncation(sys, 2, unstable="split")
    assert str(reduction).splitlines() == [
        "Balanced truncation: order 3 -> 2",
        "  system   cart, continuous, 1 input, 1 output",
        "  kept     1 state of poles that are not stable",
        "  kept     1 value, 0.731",
        "  cut      1 value, 0.019",
        "  error    0.019 <= H-infinity error <= 0.038",
    ]
    limited = lti.balanced_truncation(sys, 2, unstable="split", frequencies=(0, 1))
    assert repr(limited) == (
        "Reduction: order 3 -> 2, H-infinity error: no bound known, verify() measures it"
    )
    assert str(limited).startswith("Balanced truncation, Gramians band-limited: order 3 -> 2\n")


@pytest.mark.parametrize("form", [lti.balanced_truncation, lti.singular_perturbation])
def test_balancing_free_cuts_through_equal_values_as_well_as_square_roots(form):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sys = all_pass(-rng.uniform(0.3, 3, 5) + 1j * rng.uniform(-2, 2, 5))
        for order in range(1, 5):
            reduction = quiet(form, sys, order, method="balancing-free")
            if np.isfinite(reduction.error_bound):
                np.testing.assert_allclose(lti.hinf_norm(sys - reduction.system), 2, rtol=1e-7)
