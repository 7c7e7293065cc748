"""Both Gramian factors from one Schur form: their equations, mpmath as truth, any units."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti._backend.blocks import choose_scaling
from lti.gramians import dense, hammarling
from lti.gramians.dense import schur_factors, to_continuous
from lti.systems.schur import schur_form
from tests.lti.helpers import (
    all_pass,
    chain,
    dense_systems,
    exact_values,
    in_other_units,
    random_dense,
)  # fmt: skip


def values(A, B, C, discrete=False):
    return np.linalg.svd(schur_factors(A, B, C, discrete).product, compute_uv=False)


def change(found):
    """X and X^-1, the change of state."""
    d, Q = found.form.d, found.form.Q
    return d[:, None] * Q, Q.conj().T / d


def residual(A, P, W, discrete):
    """Of A P + P A^H + W = 0 or A P A^H - P + W = 0, relative to the terms."""
    terms = (A @ P @ A.conj().T, -P, W) if discrete else (A @ P, P @ A.conj().T, W)
    size = sum(abs(x).max(initial=0.0) for x in terms)
    return abs(sum(terms)).max(initial=0.0) / (size or 1.0)


def check(A, B, C, discrete, tol):
    found = schur_factors(A, B, C, discrete)
    X, inverse = change(found)
    S, R = X @ found.U, inverse.conj().T @ found.V
    assert residual(A, S @ S.conj().T, B @ B.conj().T, discrete) <= tol
    assert residual(A.conj().T, R @ R.conj().T, C.conj().T @ C, discrete) <= tol
    size = np.linalg.norm(X @ found.form.T @ inverse - A)
    assert size <= tol * (np.linalg.norm(A) + 1)
    np.testing.assert_allclose(X @ found.B, B, rtol=0, atol=tol * (1 + abs(B).max(initial=0.0)))
    np.testing.assert_allclose(
        found.C @ inverse, C, rtol=0, atol=tol * (1 + abs(C).max(initial=0.0))
    )
    np.testing.assert_allclose(
        R.conj().T @ S, found.product, rtol=0, atol=tol * abs(R).T.sum() * 10
    )
    return found


# ------------------------------------------------------------------ the equations


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("m", [0, 1, 3, 40])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 9, 33, 70])
def test_both_equations(n, m, is_complex, discrete):
    sys = random_dense(n, m, 2, dt=discrete or 0, seed=n, is_complex=is_complex)
    found = check(sys.A, sys.B, sys.C, discrete, 1e-13)
    assert np.iscomplexobj(found.U) == is_complex


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("m", [1, 3, 40])
@pytest.mark.parametrize("n", [2, 4, 9, 33, 70])
def test_both_equations_with_little_damping(n, m, discrete):
    """Solutions may differ by what commutes with A: an error of that kind grows as 1 / damping."""
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, n))
    A = A - A.T - np.diag(1e-9 * rng.uniform(0.5, 2, n))
    if discrete:
        A = np.linalg.solve(np.eye(n) - A, np.eye(n) + A)
    B, C = rng.standard_normal((n, m)), rng.standard_normal((2, n))
    found = schur_factors(A, B, C, discrete)
    X, inverse = change(found)
    S, R = X @ found.U, inverse.T @ found.V
    assert residual(A, S @ S.T, B @ B.T, discrete) <= 1e-13
    assert residual(A.T, R @ R.T, C.T @ C, discrete) <= 1e-13


@given(dense_systems())
def test_both_equations_of_any_system(sys):
    found = check(sys.A, sys.B, sys.C, sys.is_discrete, 1e-11)
    expected = lti.hankel_singular_values(sys)
    ours = np.linalg.svd(found.product, compute_uv=False)
    scale = np.linalg.norm(abs(found.V).T @ abs(found.U))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9 * (scale + expected.max()))


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("discrete", [False, True])
def test_defective_poles(discrete, m):
    A = (0.5 if discrete else -0.5) * np.eye(12) + np.diag(np.full(11, 0.3), 1)
    rng = np.random.default_rng(m)
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    B, C = rng.standard_normal((12, m)), rng.standard_normal((m, 12))
    check(A, B, C, discrete, 1e-14)
    check(turn @ A @ turn.T, turn @ B, C @ turn.T, discrete, 1e-13)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("discrete", [False, True])
def test_states_that_are_not_reached(discrete, m):
    one, other = (random_dense(5, m, 2, dt=discrete or 0, seed=k) for k in range(2))
    zero = np.zeros((5, 5))
    A = np.block([[one.A, zero], [zero, other.A]])
    B, C = np.concatenate([one.B, 0 * other.B]), np.concatenate([one.C, other.C], axis=1)
    for turn in (np.eye(10), np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]):
        ours = values(turn @ A @ turn.T, turn @ B, C @ turn.T, discrete)
        expected = lti.hankel_singular_values(one)
        np.testing.assert_allclose(ours[:5], expected, rtol=1e-12)
        assert (ours[5:] <= 1e-13 * ours[0]).all()
    assert not values(A, 0 * B, C, discrete).any()
    assert not values(A, B, 0 * C, discrete).any()


@pytest.mark.parametrize("ratio", [1e-9, 1e-3, 1.0, 1e3, 1e9])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_a_pair_is_factored_in_closed_form(m, ratio):
    # Poles -0.1 +- i in a block whose off-diagonal entries differ by far
    T = np.array([[-0.1, ratio], [-1 / ratio, -0.1]])
    B = np.random.default_rng(m).standard_normal((2, m)) * [[ratio**0.5], [ratio**-0.5]]
    factors = [hammarling._pair(T, B)]
    if 1e-9 < ratio < 1e9:  # of one input by LAPACK's solver, which has one unit for all of T
        factors.append(hammarling.hammarling(T, B))
    for U, beta, M in factors:
        units = np.array([ratio**0.5, ratio**-0.5])  # of the two states
        P = U @ U.T / units[:, None] / units
        own = T / units[:, None] * units
        assert residual(own, P, B @ B.T / units[:, None] / units, False) <= 1e-14
        np.testing.assert_allclose(U @ beta, B, rtol=1e-12, atol=1e-14 * abs(B).max())
        np.testing.assert_allclose(M + M.T, -beta @ beta.T, rtol=0, atol=1e-14)
        np.testing.assert_allclose(np.linalg.eigvals(M).real, -0.1, rtol=1e-9)


@pytest.mark.parametrize("kind", ["poles", "pairs"])
@pytest.mark.parametrize("m", [1, 2, 20])
def test_all_leaves_agree(kind, m):
    # One input, few poles, pairs, and the Gramian itself are four ways to one factor
    rng = np.random.default_rng(m)
    n = 24
    T = np.triu(rng.standard_normal((n, n)), 1) / n
    T[np.diag_indices(n)] = -np.repeat(rng.uniform(0.5, 1, n // 2), 2)
    if kind == "pairs":
        for k in range(0, n, 2):
            T[k, k + 1], T[k + 1, k] = k + 1.0, -k - 1.0
    B = rng.standard_normal((n, m))
    U = hammarling.hammarling(T, B)[0]
    assert residual(T, U @ U.T, B @ B.T, False) <= 1e-14
    assert not np.tril(U, -1).any() or m == 1
    wide = hammarling.hammarling(T, np.concatenate([B, 0 * B], axis=1))[0]  # never one input
    np.testing.assert_allclose(wide @ wide.T, U @ U.T, rtol=0, atol=1e-13 * abs(U @ U.T).max())


# ------------------------------------------------------------------ truth


@pytest.mark.parametrize(
    "n, coupling, full",
    [(10, 1e4, False), (10, 1e5, False), (4, 1e8, False), (5, 1e6, False), (5, 1e6, True)],
)
def test_chains_of_strongly_coupled_states(n, coupling, full):
    system = chain(n, coupling, full)
    exact = exact_values(*system)
    rng = np.random.default_rng(n)
    for power in (0, 10, 60):
        units, order = 2.0 ** rng.integers(-power, power + 1, n), rng.permutation(n)
        found = schur_factors(*in_other_units(*system, units, order), False)
        ours = np.linalg.svd(found.product, compute_uv=False)
        np.testing.assert_allclose(ours, exact, rtol=1e-14, atol=1e-14 * exact[0])
        np.testing.assert_array_equal(np.sort(found.form.poles), np.sort(np.diag(system[0])))
        assert found.roundoff == 0.0
    if coupling == 1e4:
        np.testing.assert_allclose(exact[3], 3.06997181e21, rtol=1e-8)
        np.testing.assert_allclose(ours[3], exact[3], rtol=1e-9)
    if coupling == 1e5:
        h2 = np.linalg.norm(found.C @ found.U)
        np.testing.assert_allclose(h2, 6.387348377601915e33, rtol=1e-14)


@pytest.mark.parametrize("coupling", [1e-12, 2.5e-10, 1e-9, 1e-3])
def test_a_chain_close_to_the_circle(coupling):
    a = 1 - 1e-9
    A, B, C = np.array([[a, coupling], [0, a]]), np.array([[0.0], [1]]), np.array([[1.0, 0]])
    found = schur_factors(A, B, C, True)
    ours = np.linalg.svd(found.product, compute_uv=False)
    np.testing.assert_allclose(ours, exact_values(A, B, C, True), rtol=1e-14)
    if coupling == 2.5e-10:
        X, _ = change(found)
        np.testing.assert_allclose((X @ found.U @ found.U.T @ X.T)[0, 1], 6.25e7, rtol=1e-6)


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_single_pole_close_to_the_circle(is_complex):
    for gap in (1e-3, 1e-9, 1e-14):
        pole = (1 - gap) * (np.exp(2j) if is_complex else -1)
        with mpmath.workdps(40):
            p = mpmath.mpc(pole)
            exact = float(1 / mpmath.re(1 - p * mpmath.conj(p)))
        one = np.ones((1, 1)) + 0 * pole
        np.testing.assert_allclose(values(pole * one, one, one, True), [exact], rtol=1e-13)


@pytest.mark.parametrize("feedback", [1e-300, 1e-30, 1e-12, 1e-5])
def test_a_chain_with_feedback_keeps_its_digits(feedback):
    # Irreducible, and graded: what is large comes first in the Schur form
    A, B, C = chain(5, 1e2)
    exact = exact_values(A, B, C)
    A[-1, 0] = -feedback
    ours = values(A, B, C)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-14 * exact[0] + 1e6 * feedback)
    rng = np.random.default_rng(0)
    for _ in range(5):
        units, order = 2.0 ** rng.integers(-30, 31, 5), rng.permutation(5)
        other = values(*in_other_units(A, B, C, units, order))
        np.testing.assert_allclose(other, ours, rtol=0, atol=(1e-13 + 1e-6 * feedback) * exact[0])


def test_poles_of_very_different_size():
    poles = -np.array([1e-12, 1e-6, 1.0, 1e6, 1e12])
    B = np.ones((5, 1))
    S = lti.gramian_factors(lti.DiagonalStateSpace(poles, B, B.T, dt=0))[0]
    for inputs in (B, np.concatenate([B, 0 * B], axis=1)):
        U = schur_factors(np.diag(poles), inputs, inputs.T, False)
        X, _ = change(U)
        P = X @ U.U @ U.U.T @ X.T
        np.testing.assert_allclose(P, S @ S.T, rtol=1e-14)


def test_weak_feedback_in_bad_units_takes_another_scaling():
    # Balancing A alone would blow the feedback up to the size of the coupling
    rng = np.random.default_rng(3)

    def stable(n):
        A = rng.standard_normal((n, n))
        return A - (np.linalg.eigvals(A).real.max() + 0.3) * np.eye(n)

    A = np.block(
        [[stable(4), rng.standard_normal((4, 4))], [1e-60 * rng.standard_normal((4, 4)), stable(4)]]
    )
    B, C = np.concatenate([np.zeros((4, 1)), np.ones((4, 1))]), np.eye(8)[:1]
    chained = A.copy()
    chained[4:, :4] = 0.0
    exact = values(chained, B, C)  # two irreducible blocks, each well scaled
    mended = 0
    for _ in range(20):
        system = in_other_units(A, B, C, 2.0 ** rng.integers(-20, 21, 8))
        found = schur_factors(*system, False)
        ours = np.linalg.svd(found.product, compute_uv=False)
        np.testing.assert_allclose(ours, exact, rtol=0, atol=(found.roundoff + 1e-13) * exact[0])
        assert found.roundoff < 1e-9
        first = dense._factors(schur_form(system[0]), *system[1:], False).roundoff
        assert found.roundoff <= first
        mended += 10 * found.roundoff < first
    assert mended  # the first scaling was not good enough somewhere


def with_rounding(n, k, discrete, seed):
    """An all-pass system of equal poles, of which k states drive no other but for rounding."""
    rng = np.random.default_rng(seed)
    poles = np.where(np.arange(n) < k, -1.0, -0.25)
    B = rng.standard_normal((n, 2))
    B *= np.sqrt(-2 * poles / (B**2).sum(axis=1))[:, None]
    sys = lti.StateSpace(np.triu(-B @ B.T, 1) + np.diag(poles), B, -B.T)
    sys = lti.bilinear(sys, 2.0) if discrete else sys
    turn = np.eye(n)
    turn[k:, k:] = np.linalg.qr(rng.standard_normal((n - k, n - k)))[0]
    A = turn @ sys.A @ turn.T
    small = abs(A) < 1e-13
    small[:, k:] = False
    exact = np.where(small, 0.0, A)
    A = np.where(small, 1e-16 * rng.standard_normal((n, n)), A)
    B, C = turn @ sys.B, sys.C @ turn.T
    return tuple(lti.StateSpace(X, B, C, sys.D, sys.dt) for X in (A, exact))


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("n", [4, 6, 8])
def test_entries_that_are_rounding_choose_no_units(n, k, discrete):
    # To balance them costs the digits of what drives these states; the values do not show it
    for seed in range(4):
        sys, exact = with_rounding(n, k, discrete, seed)
        found = schur_factors(sys.A, sys.B, sys.C, discrete)
        ours = lti.StateSpace(found.form.T, found.B, found.C, sys.D, sys.dt)
        w = np.linspace(0.01, 3.1, 10)
        gap = lti.frequency_response(ours, w) - lti.frequency_response(exact, w)
        assert abs(gap).max() <= 1e-12 * (1 + abs(lti.frequency_response(exact, w)).max())
        assert found.roundoff <= 1e-12


@pytest.mark.parametrize("spread", [1e1, 1e3, 1e5])
def test_the_estimate_of_rounding_is_honest_where_all_values_are_equal(spread):
    # P Q = 1 in any coordinates, so that no derivative of its trace shows what rounding does
    rng, n, m = np.random.default_rng(0), 8, round(spread**0.25)
    X, b = np.round(32 * rng.standard_normal((n, n))) / 32, np.round(4 * rng.random((n, 1))) / 4
    A = (X - X.T) / 2 - b @ b.T / 2  # balanced
    one, zero, (F, G) = np.eye(4), np.zeros((4, 4)), m * rng.integers(-1, 2, (2, 4, 4))
    T = np.block([[one, F], [zero, one]]) @ np.block([[one, zero], [G, one]])
    inverse = np.block([[one, zero], [-G, one]]) @ np.block([[one, -F], [zero, one]])
    assert np.array_equal(T @ inverse, np.eye(n))  # of whole numbers: no product rounds
    found = schur_factors(T @ A @ inverse, T @ b, b.T @ inverse, False)
    error = abs(np.linalg.svd(found.product, compute_uv=False) - 1).max()
    assert error <= 10 * found.roundoff + 1e-14
    assert found.roundoff <= 1e-14 * np.linalg.cond(T) ** 2


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("n", [4, 16])
def test_the_estimate_sees_slow_states_that_fast_ones_hide(n, discrete):
    # All values are one; of the H2 norm the slow states are a millionth
    for seed in range(4):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
        sys = all_pass(-np.geomspace(1e-4, 1e2, n))
        sys = lti.bilinear(sys, 1.0) if discrete else sys
        found = schur_factors(Q @ sys.A @ Q.T, Q @ sys.B, sys.C @ Q.T, discrete)
        error = abs(np.linalg.svd(found.product, compute_uv=False) - 1).max()
        assert error <= 8 * found.roundoff * np.sqrt(n) <= 1e-7  # Q A Q^T has rounded as well


# ------------------------------------------------------------------ what must not matter


@given(dense_systems(), st.integers(0, 2**32 - 1), st.sampled_from([1, 10, 40]))
def test_the_units_and_the_order_of_the_states_do_not_matter(sys, seed, power):
    rng = np.random.default_rng(seed)
    units, order = 2.0 ** rng.integers(-power, power + 1, sys.order), rng.permutation(sys.order)
    one = schur_factors(sys.A, sys.B, sys.C, sys.is_discrete)
    other = schur_factors(*in_other_units(sys.A, sys.B, sys.C, units, order), sys.is_discrete)
    a, b = (np.linalg.svd(x.product, compute_uv=False) for x in (one, other))
    scale = np.linalg.norm(abs(one.V).T @ abs(one.U))
    rounding = one.roundoff + other.roundoff + 1e-13
    np.testing.assert_allclose(a, b, rtol=0, atol=rounding * max(scale, 1e-300))


@given(st.integers(1, 12), st.floats(0.05, 0.5), st.integers(0, 2**32 - 1))
def test_irreducible_blocks(n, density, seed):
    rng = np.random.default_rng(seed)
    A = np.where(rng.random((n, n)) < density, rng.standard_normal((n, n)), 0.0)
    order, edges, d = choose_scaling(A)
    assert sorted(order) == list(range(n))
    turned = A[np.ix_(order, order)]
    reach = np.linalg.matrix_power((A != 0) + np.eye(n), n) > 0
    mutual = (reach & reach.T)[np.ix_(order, order)]
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        assert not turned[stop:, start:stop].any()
        assert mutual[start:stop, start:stop].all()
        assert not mutual[start:stop, stop:].any()
    assert (np.log2(d) % 1 == 0).all()
    form = schur_form(A)
    X, inverse = form.d[:, None] * form.Q, form.Q.T / form.d
    np.testing.assert_allclose(X @ form.T @ inverse, A, rtol=0, atol=1e-12 * (1 + abs(A).max()))


@given(dense_systems())
def test_inputs_are_not_changed(sys):
    before = [x.copy() for x in (sys.A, sys.B, sys.C)]
    schur_factors(sys.A, sys.B, sys.C, sys.is_discrete)
    for old, new in zip(before, (sys.A, sys.B, sys.C), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("size", [1e-200, 1e-100, 1e100, 1e200])
def test_the_units_of_inputs_and_outputs_do_not_matter(size):
    sys = random_dense(6, 2, 2, seed=1)
    found = schur_factors(sys.A, size * sys.B, sys.C / size, False)
    expected = values(sys.A, sys.B, sys.C)
    np.testing.assert_allclose(np.linalg.svd(found.product, compute_uv=False), expected, rtol=1e-12)


# ------------------------------------------------------------------ stability and rounding


@pytest.mark.parametrize("discrete", [False, True])
def test_poles_that_are_not_stable_are_named(discrete):
    A = np.diag([0.5, -0.5, 2.0]) if discrete else np.diag([-1.0, -2.0, 3.0])
    pole = "2" if discrete else "3"
    with pytest.raises(lti.UnstableError, match=rf"1 of 3 poles are unstable: the worst, {pole}"):
        schur_factors(A, np.ones((3, 1)), np.ones((1, 3)), discrete)


def test_a_pair_on_the_circle_to_working_precision():
    outcomes = set()
    for angle in np.linspace(0.1, 3, 200):
        a, b = (1 - 2.0**-53) * np.cos(angle), (1 - 2.0**-53) * np.sin(angle)
        try:
            found = schur_factors(np.array([[a, b], [-b, a]]), np.eye(2), np.eye(2), True)
            assert np.isfinite(found.product).all()
            assert found.roundoff > 0.1
            outcomes.add("found")
        except lti.UnstableError as error:
            outcomes.add("working" if "to working precision" in str(error) else "named")
    assert outcomes == {"found", "working", "named"}


@pytest.mark.parametrize("poles", ["real", "oscillating"])
@pytest.mark.parametrize("seed", range(3))
def test_the_estimate_of_rounding_is_honest(poles, seed):
    # Known factors in a basis that hides them, from well to badly conditioned
    rng = np.random.default_rng(seed)
    n = 16
    for stiff in (1.0, 1e3, 1e6):
        sizes = np.geomspace(1 / stiff, 1, n // 2)
        A = np.diag(np.repeat(-sizes, 2) * np.tile([1.0, 1.5], n // 2))
        if poles == "oscillating":
            for i, size in enumerate(np.linspace(1, 5, n // 2)):
                A[2 * i, 2 * i + 1], A[2 * i + 1, 2 * i] = size, -size
        B, C = rng.standard_normal((n, 2)), rng.standard_normal((2, n))
        turn = np.linalg.qr(rng.standard_normal((n, n)))[0]
        hidden = schur_factors(turn @ A @ turn.T, turn @ B, C @ turn.T, False)
        ours, exact = np.linalg.svd(hidden.product, compute_uv=False), values(A, B, C)
        error = abs(ours - exact).max() / exact[0]
        assert error <= 4 * hidden.roundoff + 1e-14
        assert hidden.roundoff <= 1e-11 * stiff  # and says something


def test_discrete_and_continuous_time_have_the_same_gramians():
    sys = random_dense(9, 2, 2, dt=True, seed=4)
    other = lti.bilinear(sys)
    np.testing.assert_allclose(
        values(sys.A, sys.B, sys.C, True), values(other.A, other.B, other.C), rtol=1e-11
    )
    T = schur_form(sys.A).T
    np.testing.assert_allclose(
        np.linalg.eigvals(to_continuous(T)),
        (np.linalg.eigvals(T) - 1) / (np.linalg.eigvals(T) + 1),
        rtol=1e-10,
    )
    assert not np.tril(to_continuous(T), -2).any()


def test_a_gramian_that_rounding_has_made_indefinite_is_not_used(monkeypatch):
    sys, solve = random_dense(12, 2, 2, seed=5), hammarling.sylvester
    T, B = schur_form(sys.A).T, sys.B
    assert T.diagonal(-1).any() and hammarling._from_gramian(T[:4, :4], sys.B[:4])

    def rounded(T, M, F):
        X = solve(T, M, F)
        return X - 2 * np.diag(X.diagonal()) if M is T else X  # the entries of the Gramian

    monkeypatch.setattr(hammarling, "sylvester", rounded)
    U = hammarling.factor(T, B)
    assert residual(T, U @ U.T, B @ B.T, False) < 1e-13
