"""Units of states, equations and time do not change what is computed of a sparse system."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.systems.equilibrate import even_units
from tests.lti.helpers import same_response
from tests.lti.sparse_systems import UNSTABLE, ports, random_pencil, rod
from tests.lti.systems.test_constrained import mechanics, stokes
from tests.lti.systems.test_second_order import gyroscope


def index_one(n=40, k=8):
    sys, rng = random_pencil(n, E="any"), np.random.default_rng(0)
    U, V = (0.3 * sparse.random(*shape, 0.3, random_state=rng) for shape in ((n, k), (k, n)))
    A = sparse.block_array([[sys.A, U], [V, 2 * sparse.eye(k)]], format="csc")
    E = sparse.block_diag([sys.E, sparse.csc_array((k, k))], format="csc")
    B, C = rng.standard_normal((n + k, 2)), rng.standard_normal((2, n + k))
    return lti.SparseStateSpace(A, B, C, None, E)


def modal(k=110):
    """Modes without a common equation: B and C alone tell their units; two of them lack one."""
    blocks = [np.array([[-0.1 * i, i], [-i, -0.1 * i]]) for i in range(1, k + 1)]
    B, C = ports(2 * k)
    B[20:22], C[:, 30:32] = 0, 0
    return lti.SparseStateSpace(sparse.block_diag(blocks), B, C)


SYSTEMS = {
    "rod": lambda: rod(210, m=2, p=3),
    "small": lambda: random_pencil(40, E=None),
    "complex": lambda: random_pencil(40, E="any", is_complex=True),
    "discrete": lambda: rod(210, dt=0.1),
    "modal": modal,
    "index 1": index_one,
    "index 2": stokes,
    "index 3": mechanics,
}


def units(n, how):
    rng = np.random.default_rng(7)
    return {
        "one": np.ones(n),
        "every other": np.where(np.arange(n) % 2, 2.0**30, 1.0),
        "random": 2.0 ** rng.integers(-30, 31, n),
        "rising": 2.0 ** np.linspace(-30, 30, n),
    }[how]


def in_units(sys, rows, columns):
    """(L A R, L B, C R, D, L E R)."""
    L, R = (sparse.diags(units(sys.order, how)) for how in (rows, columns))
    E = sparse.eye(sys.order) if sys.E is None else sys.E
    return lti.SparseStateSpace(L @ sys.A @ R, L @ sys.B, sys.C @ R, sys.D, L @ E @ R, sys.dt)


def check_equal(sys, other, order=4):
    one, two = lti.balance(sys), lti.balance(other)
    np.testing.assert_allclose(two.hsv[:order], one.hsv[:order], rtol=1e-6)
    expected, found = one.truncate(order), two.truncate(order)
    same_response(found.system, expected.system, 1e-7)
    assert found.error_bound == pytest.approx(expected.error_bound, rel=1e-3)
    E_T = two.system.times_E(found.T)
    np.testing.assert_allclose(found.W @ E_T, np.eye(order), atol=1e-9)
    w = np.array([0.0, 0.1, 1.0])
    responses = [lti.frequency_response(x, w) for x in (sys, other)]
    np.testing.assert_allclose(*responses, atol=1e-10 * abs(responses[0]).max())
    assert found.lower_bound <= found.verify() <= found.error_bound * (1 + 1e-9)
    assert found.verify() == pytest.approx(expected.verify(), rel=1e-5)
    free = lti.balance(other, method="balancing-free").truncate(order)
    same_response(free.system, expected.system, 1e-7)


@pytest.mark.parametrize(("rows", "columns"), [
    ("one", "every other"), ("every other", "one"), ("random", "random"), ("one", "rising"),
])  # fmt: skip
@pytest.mark.parametrize("name", SYSTEMS)
def test_no_unit_changes_a_reduction(name, rows, columns):
    sys = SYSTEMS[name]()
    check_equal(sys, in_units(sys, rows, columns))


@pytest.mark.parametrize("rate", [1.0, 1e9, 1e-9])
@pytest.mark.parametrize(("rows", "columns"), [("one", "every other"), ("random", "random")])
def test_of_second_order_no_unit_of_time_either(rows, columns, rate):
    M, D, K, B, C, V = gyroscope(110)
    sys, k = lti.second_order(M, D, K, B, C, V), 110
    L, R = (sparse.diags(units(k, how)) for how in (rows, columns))
    other = lti.second_order(
        L @ M @ R, rate * L @ D @ R, rate**2 * L @ K @ R, rate**2 * L @ B, C @ R, V @ R / rate
    )
    values = [lti.hankel_singular_values(x) for x in (sys, other)]
    np.testing.assert_allclose(values[1][:6], values[0][:6], rtol=1e-7)
    w, systems = np.array([0.0, 0.5, 3.0]), (lti.balanced_truncation(x, 8) for x in (sys, other))
    one, two = (lti.frequency_response(x.system, w * unit)
                for x, unit in zip(systems, (1.0, rate), strict=True))  # fmt: skip
    np.testing.assert_allclose(one, two, atol=1e-6 * abs(one).max())


@pytest.mark.parametrize("name", ["hot spot", "indefinite E", "discrete"])
def test_unstable_poles_are_found_in_any_units(name):
    make, poles = UNSTABLE[name]
    sys = make()
    other, k = in_units(sys, "random", "random"), len(poles)
    one, two = (lti.balanced_truncation(x, k + 4, unstable="split") for x in (sys, other))
    np.testing.assert_allclose(one.hsv[: k + 4], two.hsv[: k + 4], rtol=1e-6)
    w = np.array([0.1, 1.0, 3.0])
    expected, found = (lti.frequency_response(x.system, w) for x in (one, two))
    np.testing.assert_allclose(found, expected, atol=1e-7 * abs(expected).max())
    np.testing.assert_allclose(two.W @ other.times_E(two.T), np.eye(k + 4), atol=1e-7)


def test_interpolation_and_supplied_factors():
    sys = rod(210)
    other = in_units(sys, "random", "random")
    same_response(lti.irka(other, 3).system, lti.irka(sys, 3).system, 1e-6)
    found = lti.irka(other, 3)
    np.testing.assert_allclose(found.W @ other.times_E(found.T), np.eye(3), atol=1e-9)
    S, R = lti.gramian_factors(other)
    found = lti.balanced_truncation(other, 4, controllability=S, observability=lambda G: (
        lti.gramian_factors(G)[1]))  # fmt: skip
    same_response(found.system, lti.balanced_truncation(sys, 4).system, 1e-8)
    np.testing.assert_allclose(lti.hankel_singular_values(other)[:4], found.hsv[:4], rtol=1e-8)
    P = S @ S.T  # A P E^T + E P A^T + B B^T = 0, in these units
    L, U = (sparse.diags(units(210, "random")) for _ in range(2))
    F = (other.A @ P @ other.E.T + other.E @ P @ other.A.T + other.B @ other.B.T) / (
        L.diagonal()[:, None] * L.diagonal())  # fmt: skip
    assert np.linalg.norm(F) < 1e-8 * np.linalg.norm(sys.B @ sys.B.T)


@pytest.mark.parametrize("name", ["stable", "unstable"])
def test_functions_are_given_the_system_in_its_own_units(name):
    sys = rod(210, m=2, p=2) if name == "stable" else UNSTABLE["hot spot"][0]()
    other, seen = in_units(sys, "random", "random"), []
    options = {} if name == "stable" else {"unstable": "split"}

    def factor(side):
        def made(G):
            seen.append(G)
            return lti.gramian_factors(G)[side]

        return made

    found = lti.balance(other, controllability=factor(0), observability=factor(1), **options)
    expected = lti.balance(sys, **options)
    np.testing.assert_allclose(found.hsv[:5], expected.hsv[:5], rtol=1e-6)
    G = seen[0]
    assert (G is other) == (name == "stable")
    S, R = lti.gramian_factors(G)  # the same as arrays, of states in the units of the user
    as_arrays = lti.balance(other, controllability=S, observability=R, **options)
    np.testing.assert_allclose(as_arrays.hsv[:5], expected.hsv[:5], rtol=1e-6)


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_poles_of_any_magnitude(size):
    sys = lti.SparseStateSpace(-size * sparse.eye(3), np.ones((3, 1)), np.ones((1, 3)))
    np.testing.assert_allclose(lti.hankel_singular_values(sys), [1.5 / size], rtol=1e-12)


def test_a_system_without_states():
    none = lti.SparseStateSpace(sparse.csc_array((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), [[2]])
    assert lti.balance(none).minimal_order == 0 and lti.dcgain(none) == 2.0


def test_entries_become_even_and_symmetry_stays():
    sys = rod(50)
    R = sparse.diags(units(50, "random"))
    A, E = R @ sys.A @ R, R @ sys.E @ R
    left, right, rate = even_units((A, E), sys.B, sys.C)
    assert len(np.unique(left / right)) == 1
    for X in (left[:, None] * A.toarray() * right, rate * left[:, None] * E.toarray() * right):
        sizes = abs(X[X != 0])
        assert sizes.max() / sizes.min() < 100 and 0.02 < np.median(sizes) < 50
    assert all((np.frexp(x)[0] == 0.5).all() for x in (left, right))


def test_entries_that_are_rounding_do_not_count():
    """Those of 1e-17 in every other row of a matrix of ones."""
    rng = np.random.default_rng(1)
    A = -sparse.eye(60) - sparse.diags([0.5, 0.5], [-1, 1], shape=(60, 60))
    noise = sparse.random(60, 60, 0.5, random_state=rng) * 1e-17
    noise = sparse.diags(np.arange(60) % 2.0) @ noise
    left, right, _ = even_units((A + noise,), np.ones((60, 1)), np.ones((1, 60)))
    assert max(x.max() / x.min() for x in (left, right)) <= 4


def stiff(e, form):
    """E = diag(e, 1/e, 1) in bad units, and the same system with E = 1."""
    rng, d = np.random.default_rng(3), np.array([e, 1 / e, 1.0])
    A, E, B, C, dt = -np.eye(3), np.diag(d), np.ones((3, 1)), np.ones((1, 3)), 0
    if form == "nonsymmetric":
        A -= np.array([[0, 0.3, 0.2], [0, 0, 0.4], [0.1, 0, 0]])
    if form == "nonsymmetric E":
        G = np.array([[1, 0.3, 0.2], [0, 1, 0.4], [0.1, 0, 1]])
        E = d[:, None] ** 0.5 * G * d**0.5
    if form == "discrete":
        A, B, C, dt = E * [0.5, 0.3, -0.4], d[:, None] ** 0.5, d[None] ** 0.5, True
    A1, B1, C1 = A, B, C
    if form == "index 1":
        to, back = np.full((3, 1), 0.1), np.full((1, 3), 0.2)
        A, E = np.block([[A, to], [back, -1.0]]), np.diag(np.append(d, 0.0))
        B, C = np.ones((4, 1)), np.ones((1, 4))
        A1, B1, C1 = A1 + to @ back, B1 + to, C1 + back
    L, R = 2.0 ** rng.integers(-40, 41, (2, len(A)))
    A, E = (sparse.csc_array(L[:, None] * X * R) for X in (A, E))
    s = d**-0.5
    A1, B1, C1 = s[:, None] * A1 * s, s[:, None] * B1, C1 * s
    if form == "nonsymmetric E":
        A1, B1 = np.linalg.solve(G, A1), np.linalg.solve(G, B1)
    return (lti.SparseStateSpace(A, L[:, None] * B, C * R, None, E, dt),
            lti.StateSpace(A1, B1, C1, None, dt))  # fmt: skip


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize(("form", "e"), [
    *itertools.product(["diagonal", "discrete"], [1e5, 1e10, 1e20, 1e40]),
    *itertools.product(["index 1"], [1e5, 1e10, 1e20]),
    *itertools.product(["nonsymmetric", "nonsymmetric E"], [1e5, 1e10]),
])  # fmt: skip
def test_no_value_is_lost_where_time_constants_are_far_apart(form, e):
    sys, other = stiff(e, form)
    expected = lti.hankel_singular_values(other)
    np.testing.assert_allclose(lti.hankel_singular_values(sys), expected, rtol=1e-6)
    assert lti.balance(sys).minimal_order == 3
    if form != "discrete":
        flags = lti.balanced_truncation(sys, 3).flags
        assert any("of the stability boundary" in flag for flag in flags)


@pytest.mark.parametrize(("below", "above"), [(0.3, 0.2), (0.3, 0.0), (0.1, 0.7)])
@pytest.mark.parametrize("n", [40, 202])
def test_a_mass_matrix_that_is_toeplitz(n, below, above):
    rng = np.random.default_rng(0)
    E = sparse.diags([below, 1.0, above], [-1, 0, 1], shape=(n, n)).tocsc()
    blocks = [[[-0.1 * w, w], [-w, -0.1 * w]] for w in np.geomspace(1, 30, n // 2)]
    A = sparse.block_diag(blocks, format="csc")
    B, C = rng.standard_normal((n, 1)), rng.standard_normal((1, n))
    sys = lti.SparseStateSpace(E @ A, E @ B, C, E=E)
    expected = lti.hankel_singular_values(lti.StateSpace(A.toarray(), B, C))
    found = lti.hankel_singular_values(sys)[:6]
    np.testing.assert_allclose(found, expected[:6], atol=1e-6 * expected[0])


@pytest.mark.parametrize(("below", "above"), [(3.0, 1.0), (1.0, 0.1), (1.0, 0.0)])
def test_convection_that_is_toeplitz(below, above, n=210):
    rng = np.random.default_rng(0)
    A = sparse.diags([below, -below - above - 0.3, above], [-1, 0, 1], shape=(n, n)).tocsc()
    B, C = rng.standard_normal((n, 1)), rng.standard_normal((1, n))
    expected = lti.hankel_singular_values(lti.StateSpace(A.toarray(), B, C))
    found = lti.hankel_singular_values(lti.SparseStateSpace(A, B, C))[:6]
    np.testing.assert_allclose(found, expected[:6], atol=1e-6 * expected[0])
