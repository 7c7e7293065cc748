"""Strongly coupled chains and stiff systems, in any units of their states: mpmath as truth."""

import warnings

import numpy as np
import pytest
import scipy.linalg

import lti
from tests.lti.gramians.test_dense import with_rounding
from tests.lti.helpers import chain, exact_gramian, exact_values, in_other_units, random_dense

CHAINS = [(10, 1e4, False), (10, 1e5, False), (4, 1e8, False), (5, 1e6, False), (5, 1e6, True),
          (7, 1e3, True), (12, 3e2, False)]  # fmt: skip
REDUCTIONS = [
    lti.balanced_truncation, lti.singular_perturbation, lti.hankel_norm_approximation
]  # fmt: skip


def versions(system, seed=0):
    """The system in its own units and order, and in others."""
    rng, n = np.random.default_rng(seed), len(system[0])
    yield lti.StateSpace(*system)
    for power in (3, 10, 60):
        units = 2.0 ** rng.integers(-power, power + 1, n)
        yield lti.StateSpace(*in_other_units(*system, units, rng.permutation(n)))


@pytest.mark.parametrize("n, coupling, full", CHAINS)
def test_values_and_norms_of_chains(n, coupling, full):
    system = chain(n, coupling, full)
    exact = exact_values(*system)
    A, B, C = system
    h2 = float((C @ np.array(exact_gramian(A, B).tolist(), dtype=float) @ C.T)[0, 0]) ** 0.5
    for sys in versions(system):
        hsv = lti.hankel_singular_values(sys)
        np.testing.assert_allclose(hsv, exact, rtol=0, atol=1e-14 * exact[0])
        np.testing.assert_allclose(lti.h2_norm(sys), h2, rtol=1e-13)
        np.testing.assert_allclose(np.sort(sys.poles.real), np.sort(np.diag(A)), rtol=1e-15)
        S, R = lti.gramian_factors(sys)
        np.testing.assert_allclose(
            np.linalg.svd(R.T @ S, compute_uv=False), exact, rtol=0, atol=1e-12 * exact[0]
        )
    if coupling == 1e4:
        np.testing.assert_allclose(hsv[3], 3.06997181e21, rtol=1e-8)
    if coupling == 1e5:
        np.testing.assert_allclose(h2, 6.387348377601915e33, rtol=1e-14)


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("n, coupling, full", CHAINS[:5])
def test_reductions_of_chains(n, coupling, full, reduce):
    system = chain(n, coupling, full)
    exact = exact_values(*system)
    bounds = lti.error_bound(exact) / (2 if reduce is lti.hankel_norm_approximation else 1)
    order = int(np.argmax(bounds <= 1e-5 * exact[0]))
    for sys in versions(system, seed=1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lti.ReductionWarning)
            reduction = reduce(sys, tol=1e-5, relative=True)
        assert reduction.order == order
        np.testing.assert_allclose(
            reduction.error_bound, bounds[order], rtol=1e-6, atol=1e-12 * exact[0]
        )
        assert reduction.lower_bound <= reduction.verify() * (1 + 1e-6) + 1e-12 * exact[0]
        assert not any("arbitrary" in flag or "exceed" in flag for flag in reduction.flags)


@pytest.mark.parametrize("coupling", [1e-10, 2.5e-10, 1e-9, 1e-12])
def test_a_discrete_chain_close_to_the_circle(coupling):
    a = 1 - 1e-9
    system = np.array([[a, coupling], [0, a]]), np.array([[0.0], [1]]), np.array([[1.0, 0]])
    exact = exact_values(*system, True)
    P = np.array(exact_gramian(system[0], system[1], True).tolist(), dtype=float)
    for units in ([1.0, 1.0], [1.0, 2.0**40], [2.0**30, 1.0]):
        units = np.array(units)
        sys = lti.StateSpace(*in_other_units(*system, units), dt=True)
        np.testing.assert_allclose(lti.hankel_singular_values(sys), exact, rtol=1e-13)
        np.testing.assert_allclose(
            lti.controllability_gramian(sys), P / units[:, None] / units, rtol=1e-13
        )
        with pytest.warns(lti.ReductionWarning, match="of the stability boundary"):
            reduction = lti.balanced_truncation(sys, 1)
        np.testing.assert_allclose(reduction.error_bound, 2 * exact[1], rtol=1e-6)
    if coupling == 2.5e-10:
        np.testing.assert_allclose(P[0, 1], 6.25e7, rtol=1e-6)
        np.testing.assert_allclose(exact, [1.50888356e8, 2.58883492e7], rtol=1e-8)


@pytest.mark.parametrize(
    "n, ports, slow, fast",
    [(24, 1, 1e-3, 1e3), (32, 1, 1e-3, 1e3), (40, 1, 1e-2, 1e4), (60, 1, 2e-3, 500.0)],
)
def test_stiff_systems_are_flagged_where_rounding_counts(n, ports, slow, fast):
    rng = np.random.default_rng(n)
    U = np.linalg.qr(rng.standard_normal((n, n)))[0]
    poles = -np.geomspace(slow, fast, n)
    B, C = rng.standard_normal((n, ports)), rng.standard_normal((ports, n))
    exact = lti.hankel_singular_values(lti.DiagonalStateSpace(poles, B, C, dt=0))
    sys = lti.StateSpace(U * poles @ U.T, U @ B, C @ U.T)
    error = abs(lti.hankel_singular_values(sys) - exact).max()
    assert error <= 1e-16 * fast / slow * exact[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reduction = lti.balanced_truncation(sys, tol=1e-4, relative=True)
    assert reduction.lower_bound <= reduction.verify() <= reduction.error_bound
    with pytest.warns(lti.ReductionWarning, match="may exceed its bound"):
        small = lti.balanced_truncation(sys, tol=2e-11, relative=True)
    said = float(next(f for f in small.flags if "exceed" in f).split("about ")[1].split(",")[0])
    assert said >= error  # the estimate is on the safe side
    with warnings.catch_warnings():  # nothing is lost where the poles are alike
        warnings.simplefilter("error")
        tame = lti.StateSpace(
            U * (poles / poles - 1 + np.linspace(-1, -2, n)) @ U.T, U @ B, C @ U.T
        )
        lti.balanced_truncation(tame, tol=1e-11, relative=True)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_a_bound_below_the_rounding_of_a_rod_is_flagged(reduce):
    n = 200
    D = np.diag(np.ones(n - 1), 1)
    A = 0.01 * (n + 1) ** 2 * (D + D.T - 2 * np.eye(n))
    sys = lti.StateSpace(A, np.eye(n)[:, [n // 3]], np.eye(n)[[2 * n // 3]])
    found = {}
    for order in (6, 8, 16):
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            reduction = reduce(sys, order)
        error = abs(lti.dcgain(reduction.system) - lti.dcgain(sys)).item()  # right to 4e-15
        found[order] = error, reduction.error_bound.item(), reduction.flags
        assert error <= reduction.error_bound or any("may exceed" in x for x in reduction.flags)
    assert not found[6][2] and found[16][0] > 3 * found[16][1]


@pytest.mark.parametrize("discrete", [False, True])
def test_slow_poles_in_any_basis_make_no_false_bound(discrete):
    exceeded = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(4, 8))
        Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        poles = -(10.0 ** rng.uniform(-5, 4, n))
        B, C = rng.standard_normal((n, 1)), rng.standard_normal((1, n))
        exact = lti.DiagonalStateSpace(poles, B, C, None, 0)
        sys = lti.StateSpace(Q * poles @ Q.T, Q @ B, C @ Q.T)
        if discrete:
            sys, exact = lti.bilinear(sys), lti.bilinear(exact)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reduction = lti.balanced_truncation(sys, n - 1)
            except lti.UnstableError:  # of a pole that rounding has moved so far
                continue
        # Q poles Q^T has rounded as much as the factors, so that either explains an error
        error = lti.linf_norm(exact - reduction.system).item()
        exceeded += error > 2 * reduction.error_bound
        said = " ".join(reduction.flags)
        assert error <= 3 * reduction.error_bound or "exceed" in said or "stability" in said, seed
    assert exceeded > 2


def test_rounding_of_a_fast_block_moves_no_slow_mode():
    # Block by block nothing is lost, and the error is that of mpmath to 10 digits
    rotation = np.array([[-1.0, 1.0], [-1.0, -1.0]])
    A = scipy.linalg.block_diag(rotation, 2 * rotation, 2.0**23 * rotation)
    b = np.array([[1.0, 1, 1, 1, 0.1, 0.1]]).T
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reduction = lti.modal_truncation((A, b, b.T), order=4)
    assert reduction.verify() == pytest.approx(1.5163524595e-9, rel=1e-9)


def test_a_slow_mode_that_rounding_moves_is_flagged():
    rng = np.random.default_rng(327)
    Q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    B, C, poles = (
        rng.standard_normal((5, 1)),
        rng.standard_normal((1, 5)),
        -np.geomspace(1e-4, 7e3, 5),
    )
    sys = lti.StateSpace(Q * poles @ Q.T, Q @ B, C @ Q.T)
    with pytest.warns(lti.ReductionWarning, match="may exceed its bound"):
        reduction = lti.modal_truncation(sys, 4)
    exact = lti.DiagonalStateSpace(poles, B, C, None, 0)
    assert lti.hinf_norm(exact - reduction.system) > reduction.error_bound


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("reduce", REDUCTIONS[:2])
def test_rounding_in_a_reduced_system_is_no_error(reduce, k):
    # Discrete all-pass systems with a pole at zero; T W = 1 leaves entries of 1e-16
    for seed in range(3):
        sys, _ = with_rounding(6, k, True, seed)
        for method in ("square-root", "balancing-free"):
            reduction = reduce(sys, 6, method=method)
            assert reduction.verify() <= 1e-12


def test_a_batch_agrees_with_its_members_in_any_units():
    systems = [s for g in (1e4, 1e5) for s in versions(chain(6, g))]
    batch = lti.StateSpace(*(np.stack([getattr(s, k) for s in systems]) for k in "ABC"))
    hsv = lti.hankel_singular_values(batch)
    for ours, one in zip(hsv, systems, strict=True):
        exact = lti.hankel_singular_values(one)
        np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-11 * exact[0])


LOW = lti.StateSpace([[-1.0]], [[1.0]], [[2.0]])
OPTIONS = [
    {"gramians": lti.lqg_gramians},
    {"gramians": lti.bounded_real_gramians},
    {"gramians": lti.positive_real_gramians},
    {"gramians": lti.stochastic_gramians},
    {"times": (0, 2.0)},
    {"times": [(1.0, 3.0), (4.0, 5.0)]},
    {"frequencies": (0.1, 2.0)},
    {"input_weight": LOW, "output_weight": LOW},
]


def modest(dt):
    """Gain below one, passive, and without zeros on the boundary."""
    sys = random_dense(6, 1, 1, dt=dt, seed=4)
    return 0.6 * (sys * (0.4 / float(lti.hinf_norm(sys))) + np.eye(1))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda x: "-".join([*x, str(x)[:40]]))
@pytest.mark.parametrize("dt", [0, 0.5])
def test_other_gramians_do_not_depend_on_units(options, dt):
    if dt and "input_weight" in options:
        options = {k: lti.discretize(LOW, dt) for k in options}
    sys = modest(dt)
    usual = lti.balance(sys, **options).sigma
    for power in (10, 30):
        units = 2.0 ** np.random.default_rng(power).integers(-power, power + 1, 6)
        A, B, C = in_other_units(sys.A, sys.B, sys.C, units)
        other = lti.balance(lti.StateSpace(A, B, C, sys.D, dt), **options).sigma
        np.testing.assert_allclose(other, usual, rtol=0, atol=1e-10 * usual[0])
