"""The edge cases of docs/edge-cases.md, row by row: the right number, or an error that helps.

Other tests hold `lti` to its theorems; these hold it to the cases in which other tools return a
wrong number, NaN, or an error without a remedy, or never return.
"""

import ast
import re
import subprocess
import warnings
from pathlib import Path
from sys import executable

import control
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

import lti
from lti import DiagonalStateSpace, StateSpace, hankel_norm_approximation
from lti.python_control import balred, gram
from tests.lti.helpers import all_pass, grid_peak, random_dense, response, truth
from tests.lti.oracles import oracle
from tests.lti.test_oracles import load

ROOT = Path(__file__).parents[2]

ROWS = {
    1: "balanced truncation of a discrete system",
    2: "Hankel singular values of a discrete system",
    3: "singular perturbation of a discrete system",
    4: "fast-decaying Hankel singular values",
    5: "Hankel singular values are real",
    6: "unstable system: Hankel singular values, Gramians",
    7: "unstable system: reduction",
    8: "order smaller than the number of unstable poles",
    9: "pole at 0 or on the unit circle; a very slow pole",
    10: "Gramian of an unstable A",
    11: "non-minimal system, order above the minimal order",
    12: "order 0, order n",
    13: "order that is no order",
    14: "equal Hankel singular values across the cut",
    15: "more inputs or outputs than states",
    16: "NaN or Inf in B, C, D",
    17: "NaN in A",
    18: "wrong shapes, wrong types, transfer functions",
    19: "tolerance that no smaller order meets",
    20: "complex A",
    21: "float32",
    22: "labels, name, dt",
    23: "no states, inputs or outputs",
    24: "norms near the stability boundary",
    25: "lightly damped peak",
    26: "H-infinity norm: non-square, pole at z = 0, FIR",
    27: "H-infinity norm of an unstable system",
    28: "H2 norm with D, continuous time",
    29: "without compiled extras",
    30: "discrete time in every method",
    31: "discrete Lyapunov equation, pole near -1",
    32: "singular Sylvester equation",
    33: "small Hankel singular values asked for",
    34: "H-infinity norm of random systems",
    35: "Hankel-norm approximation within its bound",
    36: "calls of Fortran out of range",
    37: "singular perturbation of a discrete system, balancing-free",
}

METHODS = [
    lti.balanced_truncation,
    lti.singular_perturbation,
    lti.modal_truncation,
    hankel_norm_approximation,
]
BALANCED = METHODS[:2]

every_method = pytest.mark.parametrize("reduce", METHODS, ids=lambda f: f.__name__)
both_balanced = pytest.mark.parametrize("reduce", BALANCED, ids=lambda f: f.__name__)
both_times = pytest.mark.parametrize("dt", [0, True], ids=["continuous", "discrete"])


def diagonal(*poles, B=None, C=None, dt=0):
    """A dense system with A = diag(poles), B and C of ones if not given."""
    n = len(poles)
    B = np.ones((n, 1)) if B is None else np.reshape(B, (n, -1))
    C = np.ones((1, n)) if C is None else np.reshape(C, (-1, n))
    return StateSpace(np.diag(poles), B, C, None, dt)


DISCRETE = diagonal(0.9, 0.5, -0.3, -0.7, B=[1.0, 2, 3, 1], C=[1.0, 1, 0.5, 2], dt=True)
ALTERNATING = diagonal(-0.9, -0.5, -0.3, -0.7, B=[1.0, 2, 3, 1], C=[1.0, 1, 0.5, 2], dt=True)
STABLE = {0: diagonal(-1.0, -2.0, -5.0), True: diagonal(0.5, -0.6, 0.8, dt=True)}
CAUCHY = DiagonalStateSpace(-np.arange(1.0, 21), np.ones((20, 1)), np.ones((1, 20)), None, 0)


def error(G, F, points=4001):
    """The largest gain of G - F on a fine grid: a second opinion, from below."""
    if G.is_discrete:
        s = np.exp(1j * np.linspace(-np.pi, np.pi, points))
    else:
        w = np.logspace(-6, 6, points // 2)
        s = 1j * np.concatenate([-w, [0.0], w])
    return np.linalg.norm(response(G, s) - response(F, s), ord=2, axis=(-2, -1)).max()


def at_rest(sys):
    """G(0), or in discrete time G(1)."""
    return response(sys, np.array([1.0 if sys.is_discrete else 0.0]))[0].real


def quietly(reduce, *args, **options):
    """A reduction, whatever it has to remark."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.ReductionWarning)
        return reduce(*args, **options)


# ------------------------------------------------------------------ discrete time


@pytest.mark.parametrize(("sys", "exact"), [(DISCRETE, 1.5416359), (ALTERNATING, 0.2450106)])
def test_row_01_balanced_truncation_in_discrete_time(sys, exact):
    sys = StateSpace(sys.A, sys.B, sys.C, sys.D, dt=0.1)
    reduction = lti.balanced_truncation(sys, 2)
    measured = error(sys, reduction.system)
    np.testing.assert_allclose(measured, exact, rtol=1e-5)
    assert measured <= reduction.error_bound and reduction.system.dt == 0.1
    tail = truth(DiagonalStateSpace(np.diag(sys.A), sys.B, sys.C))[2:]
    np.testing.assert_allclose(reduction.error_bound, 2 * tail.sum(), rtol=1e-10)


def test_row_02_values_in_discrete_time():
    sigma = lti.hankel_singular_values(DISCRETE)
    np.testing.assert_allclose(sigma, [8.41035484, 4.05940285, 0.89800007, 0.13198708], rtol=5e-8)
    np.testing.assert_allclose(
        sigma, truth(DiagonalStateSpace(np.diag(DISCRETE.A), DISCRETE.B, DISCRETE.C)), rtol=1e-12
    )


@pytest.mark.parametrize(("order", "exact"), [(1, 10.17878), (2, 2.0599743), (3, 0.2639742)])
def test_row_03_singular_perturbation_in_discrete_time(order, exact):
    sys = StateSpace(DISCRETE.A, DISCRETE.B, DISCRETE.C, None, dt=0.1)
    reduction = lti.singular_perturbation(sys, order)
    np.testing.assert_allclose(at_rest(reduction.system), at_rest(sys), rtol=1e-13)
    np.testing.assert_allclose(error(sys, reduction.system), exact, rtol=1e-6)
    np.testing.assert_allclose(reduction.error_bound, exact, rtol=1e-6)
    assert reduction.system.dt == 0.1


# ------------------------------------------------------------------ values


def test_row_04_fast_decaying_values():
    exact = truth(CAUCHY, digits=90)
    np.testing.assert_allclose(exact[[0, 18, 19]], [1.4953522, 6.2482233e-27, 1.4004032e-29], 1e-7)
    # Of a diagonal system to relative accuracy; a dense A has rounding of its own
    for sys, loss in ((CAUCHY, 1e-11), (CAUCHY.to_dense(), 2e-2)):
        sigma = lti.hankel_singular_values(sys)
        assert sigma.dtype == np.float64 and (sigma[:-1] >= sigma[1:]).all() and sigma[-1] >= 0
        np.testing.assert_allclose(sigma, exact, rtol=loss)


@pytest.mark.parametrize("name", ["CDplayer", "heat-cont"])
def test_row_05_values_of_benchmarks_are_real(data_file, name):
    sys, data = load(data_file, name)
    sigma, published = lti.hankel_singular_values(sys), data["hsv"].ravel()
    assert sigma.dtype == np.float64 and sigma.min() >= 0
    np.testing.assert_allclose(sigma, published, atol=1e-10 * sigma[0])


def test_row_05_equal_values_are_real():
    pair = StateSpace([[-0.5, 3.0], [-3.0, -0.5]], np.eye(2), np.eye(2))
    sigma = lti.hankel_singular_values(pair)
    assert sigma.dtype == np.float64
    np.testing.assert_allclose(sigma, [1.0, 1.0], rtol=1e-14)


# ------------------------------------------------------------------ unstable systems

UNSTABLE = diagonal(1.0, -1.5, -2.0, -3.0)
GROWING = diagonal(1.9, 0.5, -0.3, -0.7, dt=True)
WORST = [(UNSTABLE, r"1\+0j", "half-plane", "1"), (GROWING, r"1\.9\+0j", "disc", r"0\.9")]


@pytest.mark.parametrize(("sys", "pole", "where", "distance"), WORST)
@pytest.mark.parametrize(
    "function",
    [lti.hankel_singular_values, lti.controllability_gramian, lti.observability_gramian,
     lti.gramian_factors],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_row_06_values_and_gramians_of_an_unstable_system(function, sys, pole, where, distance):
    text = (
        rf"1 of 4 poles are unstable: the worst, {pole}, is outside the open .*{where} "
        rf"\(by {distance}\); .* unstable=\"split\""
    )
    with pytest.raises(lti.UnstableError, match=text):
        function(sys)


@every_method
@pytest.mark.parametrize(("sys", "pole", "where", "distance"), WORST)
def test_row_07_reduction_of_an_unstable_system(reduce, sys, pole, where, distance):
    with pytest.raises(lti.UnstableError, match=f'the worst, {pole}.*{where}.*unstable="split"'):
        reduce(sys, 2)
    with pytest.raises(lti.UnstableError, match=pole):
        lti.h2_norm(sys)
    reduction = reduce(sys, 2, unstable="split")
    assert reduction.order == 2 and sys.A[0, 0] in reduction.system.poles
    assert error(sys, reduction.system) <= reduction.error_bound * (1 + 1e-12)


@every_method
@both_times
def test_row_08_order_below_the_number_of_unstable_poles(reduce, dt):
    sys = diagonal(1.5, 2.0, -0.5, -0.3, dt=dt)
    text = "order 1 is less than the 2 states of unstable poles.*ask for at least"
    with pytest.raises(lti.OrderError, match=text):
        reduce(sys, 1, unstable="split")
    with pytest.raises(lti.OrderError, match=text):
        balred(sys.to_control(), 1)
    assert reduce(sys, 2, unstable="split").order == 2


@pytest.mark.parametrize(
    ("A", "dt"), [([[0.0]], 0), ([[0.0, 1.0], [-1.0, 0.0]], 0), ([[1.0]], True), ([[-1.0]], True)]
)
def test_row_09_a_pole_on_the_boundary(A, dt):
    n = len(A)
    sys = StateSpace(A, np.ones((n, 1)), np.ones((1, n)), None, dt)
    for function in (lti.hankel_singular_values, lti.controllability_gramian):
        with pytest.raises(lti.UnstableError, match=r"on the boundary of the .* \(by 0\); remove"):
            function(sys)
    for reduce in METHODS:
        with pytest.raises(lti.UnstableError, match="on the boundary"):
            reduce(sys, 0)
        np.testing.assert_array_equal(
            reduce(sys, n, unstable="split").system.poles, np.linalg.eigvals(A)
        )


def test_row_09_a_slow_pole_is_a_stable_pole():
    slow = StateSpace([[-1e-14]], [[1.0]], [[1.0]])
    np.testing.assert_allclose(lti.hankel_singular_values(slow), [5e13], rtol=1e-14)
    pole = 1 - 1e-14
    slow = DiagonalStateSpace([pole], [[1.0]], [[1.0]])
    np.testing.assert_allclose(
        lti.hankel_singular_values(slow), [1 / ((1 - pole) * (1 + pole))], rtol=1e-14
    )


@pytest.mark.parametrize(("poles", "dt"), [((2.0, -2.0), 0), ((3.0, 1 / 3), True)])
def test_row_10_a_lyapunov_equation_without_a_solution(poles, dt):
    for function in (lti.controllability_gramian, lti.observability_gramian):
        with pytest.raises(lti.UnstableError, match=rf"the worst, {poles[0]:g}\+0j, is outside"):
            function(diagonal(*poles, dt=dt))


# ------------------------------------------------------------------ orders and tolerances


@pytest.mark.parametrize("reduce", [*BALANCED, hankel_norm_approximation])
def test_row_11_order_above_the_minimal_order(reduce):
    exact = truth(CAUCHY, digits=90)
    minimal = np.count_nonzero(exact > 20 * 2.0**-52 * exact[0])
    assert lti.balance(CAUCHY).minimal_order == minimal == 12
    hidden = diagonal(-1.0, -2.0, -3.0, B=[1.0, 1, 0], C=[1.0, 0, 1])
    for sys, order, minimal in ((CAUCHY, 18, 12), (hidden, 3, 1)):
        text = f"order lowered from {order} to {minimal}: the others are below rounding"
        with pytest.warns(lti.ReductionWarning, match=text):
            reduction = reduce(sys, order)
        assert reduction.order == reduction.system.order == minimal and text in reduction.flags
        assert error(sys, reduction.system) <= 1e-13


@every_method
@both_times
def test_row_12_orders_zero_and_n(reduce, dt):
    sys = random_dense(4, 2, 2, dt=dt, seed=1)
    nothing, everything = reduce(sys, 0), reduce(sys, 4)  # a warning is an error
    assert nothing.system.A.shape == (0, 0) and everything.order == 4
    assert error(sys, everything.system) <= 1e-12 * grid_peak(sys)
    assert error(sys, nothing.system) <= nothing.error_bound
    if reduce is lti.singular_perturbation:
        np.testing.assert_allclose(nothing.system.D, at_rest(sys), rtol=1e-12)
    elif reduce is not hankel_norm_approximation:
        np.testing.assert_array_equal(nothing.system.D, sys.D)


@every_method
@pytest.mark.parametrize("order", [5, -1, 2.7, 2.0, [2], "2", np.nan, True])
def test_row_13_what_is_no_order(reduce, order):
    integer = type(order) is int
    text = f"from 0 to 4.*got {order}" if integer else "must be an integer, got .*round it yourself"
    with pytest.raises(lti.OrderError, match=text):
        reduce(DISCRETE, order)
    with pytest.raises(lti.OrderError, match=text):
        balred(DISCRETE.to_control(), [[2]] if order == [2] else order)


def test_row_13_the_type_of_a_result_does_not_depend_on_the_length_of_a_list():
    theirs = DISCRETE.to_control()
    assert [len(balred(theirs, orders)) for orders in ([], [2], [1, 2])] == [0, 1, 2]
    assert balred(theirs, 2).nstates == balred(theirs, np.int64(2)).nstates == 2


@both_balanced
def test_row_14_equal_values_across_the_cut(reduce):
    sys = all_pass(np.array([-1.0, -2.0, -3.0]))
    text = r"the cut at order 1 divides equal .* values \(1\): .*; orders 0 and 3 divide none"
    with pytest.warns(lti.ReductionWarning, match=text):
        reduction = reduce(sys, 1)
    assert re.search(text, reduction.flags[0])
    np.testing.assert_allclose(error(sys, reduction.system), 2, rtol=1e-4)
    np.testing.assert_allclose(reduction.error_bound, 2, rtol=1e-12)
    assert reduce(sys, 0).flags == reduce(sys, 3).flags == ()


def test_row_14_the_hankel_norm_approximation_shifts_the_cut():
    sys = all_pass(np.array([-1.0, -2.0, -3.0]))
    with pytest.warns(lti.ReductionWarning, match="lowered from 1 to 0: the cut divides equal"):
        reduction = hankel_norm_approximation(sys, 1)
    np.testing.assert_allclose(error(sys, reduction.system), 1, rtol=1e-9)


@both_times
def test_row_15_more_inputs_and_outputs_than_states(dt):
    sys = random_dense(2, 5, 7, dt=dt, seed=1)
    solve = scipy.linalg.solve_discrete_lyapunov if dt else scipy.linalg.solve_continuous_lyapunov
    sign = 1 if dt else -1
    P, Q = solve(sys.A, sign * sys.B @ sys.B.T), solve(sys.A.T, sign * sys.C.T @ sys.C)
    factors = lti.gramian_factors(sys)
    for X, S, name in ((P, factors[0], "cf"), (Q, factors[1], "of")):
        np.testing.assert_allclose(S @ S.T, X, rtol=1e-10)
        R = gram(sys.to_control(), name)
        assert R.shape == (2, 2)
        np.testing.assert_allclose(R.T @ R, X, rtol=1e-10)


# ------------------------------------------------------------------ input that is no system


def broken(name, value):
    """Matrices of a system with one entry replaced, in the last row and column of `name`."""
    matrices = {"A": -np.eye(3), "B": np.ones((3, 2)), "C": np.ones((2, 3)), "D": np.ones((2, 2))}
    matrices[name][-1, -1] = value
    return matrices.values(), tuple(x - 1 for x in matrices[name].shape)


def assert_refused(name, value):
    matrices, index = broken(name, value)
    text = rf"{name} has 1 entries .* the first {value} at index {re.escape(str(index))}; clean"
    systems = [tuple(matrices), scipy.signal.StateSpace(*matrices)]
    if name != "A":
        systems.append(control.StateSpace(*matrices))
    for sys in systems:
        for function in (lti.hinf_norm, lti.linf_norm, lti.h2_norm, lti.controllability_gramian,
                         lti.hankel_singular_values, lti.balance):  # fmt: skip
            with pytest.raises(lti.NonFiniteError, match=text):
                function(sys)
        for reduce in METHODS:
            with pytest.raises(lti.NonFiniteError, match=text):
                reduce(sys, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["B", "C", "D"])
def test_row_16_not_finite_in_b_c_d(name, value):
    assert_refused(name, value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_row_17_not_finite_in_a(value):
    assert_refused("A", value)


I, COLUMN, ROW = np.eye(2), np.ones((2, 1)), np.ones((1, 2))


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        ((np.ones((2, 3)), COLUMN, ROW), r"square, got shape \(2, 3\); pass A as \(\.\.\., n, n\)"),
        ((I, np.ones((3, 1)), ROW), r"B has shape \(3, 1\) but A has 2 states; B must be"),
        ((I, COLUMN, np.ones((1, 3))), r"C has shape \(1, 3\) but A has 2 states; C must be"),
        ((I, COLUMN, ROW, I), r"D has shape \(2, 2\) but C has 1 outputs and B 1 inputs; D must"),
        ((I, np.ones(2), ROW), r"B must be a matrix .* got shape \(2,\); a single column is"),
        ((I, [["a"], ["b"]], ROW), "B has dtype <U1; pass real or complex numbers"),
        (I, "a ndarray is not a system; pass a StateSpace, .* python-control or scipy.signal"),
        (None, "a NoneType is not a system; pass"),
        ((I, COLUMN), r"a tuple of 2 entries is not a system; pass \(A, B, C\)"),
    ],
)
def test_row_18_what_is_no_system(thing, text):
    for function in (lti.balance, lti.hankel_singular_values, lti.hinf_norm):
        with pytest.raises(lti.DimensionError, match=text):
            function(thing)


@both_times
def test_row_18_transfer_functions_are_systems(dt):
    for theirs in (
        control.TransferFunction([1.0, 2], [1, 0.5, 0.06], dt),
        scipy.signal.TransferFunction([1.0, 2], [1, 0.5, 0.06], **({"dt": 1.0} if dt else {})),
    ):
        reduction = lti.balanced_truncation(theirs, 1)
        s = np.exp(0.3j) if dt else 0.3j
        exact = (s + 2) / (s**2 + 0.5 * s + 0.06)
        np.testing.assert_allclose(response(reduction.original, [s])[0, 0, 0], exact, rtol=1e-12)
        assert reduction.order == 1


@pytest.mark.parametrize(
    "thing",
    [
        control.FrequencyResponseData([1.0, 2], [1.0, 2]),
        control.TransferFunction([1.0, 0, 0], [1, 1]),  # improper
        scipy.signal.TransferFunction([1.0, 0, 0], [1, 1]),
    ],
)
def test_row_18_what_has_no_state_space(thing):
    with pytest.raises(lti.DimensionError, match="has no state-space form .* pass a proper"):
        lti.balance(thing)


@every_method
@both_times
def test_row_19_a_tolerance_that_no_order_meets(reduce, dt):
    sys = STABLE[dt]
    reduction = quietly(reduce, sys, tol=1e-12)
    assert reduction.order == 3 and reduction.error_bound <= 1e-12
    assert error(sys, reduction.system) <= 1e-12
    for tol in (-1, np.nan, np.inf, "small"):
        with pytest.raises(lti.OrderError, match=f"tol must be a finite number >= 0, got {tol!r}"):
            reduce(sys, tol=tol)


# ------------------------------------------------------------------ what is kept


def test_row_20_complex_systems():
    sys = diagonal(-1 + 1j, -2)
    np.testing.assert_allclose(lti.hankel_singular_values(sys), [0.68642081, 0.03642081], 1e-7)
    np.testing.assert_allclose(lti.hinf_norm(sys), np.sqrt(2), rtol=1e-9)
    # The squared H2 norm is the sum over all entries of the Gramian, 1/2 + 1/4 + 2 Re 1/(3 - j)
    np.testing.assert_allclose(lti.h2_norm(sys), np.sqrt(0.75 + 0.6), rtol=1e-14)
    reduction = lti.balanced_truncation(sys, 1)
    assert reduction.system.A.dtype == np.complex128
    assert error(sys, reduction.system) <= reduction.error_bound


def test_row_21_float32():
    # 1 - 1e-4 and the like, as float32 holds it: squared in float32 the gap would lose 3 digits
    matrices = [np.asarray(x, np.float32) for x in (np.diag([0.9999, 0.99]), [[1], [1]], [[1, 1]])]
    single = StateSpace(*matrices, dt=True)
    double = StateSpace(*(x.astype(np.float64) for x in matrices), dt=True)
    for function in (lti.hankel_singular_values, lti.h2_norm, lti.hinf_norm, lti.hankel_norm,
                     lti.controllability_gramian):  # fmt: skip
        ours = function(single)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, function(double), rtol=1e-7)
    for reduce in METHODS:
        reduction = reduce(single, 1)
        for ours in (reduction.system.A, reduction.system.D, reduction.hsv, reduction.error_bound):
            assert ours.dtype == np.float32


@every_method
def test_row_22_labels_name_and_dt(reduce):
    theirs = control.StateSpace(
        STABLE[True].A, STABLE[True].B, STABLE[True].C, 0, 0.1,
        name="cart", inputs=["force"], outputs=["place"], states=["x", "v", "a"],
    )  # fmt: skip
    small = reduce(theirs, 1).system
    assert small.labels == lti.Labels("cart", ("force",), ("place",)) and small.dt == 0.1
    back = balred(theirs, 1)
    assert (back.name, back.input_labels, back.dt) == ("cart", ["force"], 0.1)


@every_method
@both_times
@pytest.mark.parametrize(("n", "m", "p"), [(0, 2, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_row_23_no_states_inputs_or_outputs(reduce, n, m, p, dt):
    sys = StateSpace(-0.5 * np.eye(n), np.ones((n, m)), np.ones((p, n)), None, dt)
    for order in {0, n}:
        small = quietly(reduce, sys, order).system
        assert (small.n_inputs, small.n_outputs) == (m, p) and small.order <= order
    np.testing.assert_array_equal(lti.hankel_singular_values(sys), np.zeros(n))
    for norm in (lti.h2_norm, lti.hinf_norm, lti.linf_norm, lti.hankel_norm):
        assert norm(sys) == 0


# ------------------------------------------------------------------ norms


@pytest.mark.parametrize("gap", [1e-5, 1e-6, 1e-8, 1e-10, 1e-12])
@both_times
def test_row_24_norms_near_the_boundary(gap, dt):
    pole = 1 - gap if dt else -gap
    gap = 1 - pole if dt else -pole  # as stored
    h2, hinf = (1 / (gap * (1 + pole)) if dt else 1 / (2 * gap)) ** 0.5, 1 / gap
    sys = DiagonalStateSpace([pole], [[1.0]], [[1.0]], None, dt)
    for form, loss in ((sys, 1e-12), (sys.to_dense(), 1e-12 + (1e-16 / gap if dt else 0))):
        np.testing.assert_allclose(lti.h2_norm(form), h2, rtol=loss)
        np.testing.assert_allclose(lti.hinf_norm(form), hinf, rtol=loss + 1e-9)


def test_row_24_published_values():
    for pole, h2, hinf in ((0.99999, 223.607, 1e5), (1 - 1e-6, 707.107, 1e6)):
        sys = diagonal(pole, dt=True)
        np.testing.assert_allclose([lti.h2_norm(sys), lti.hinf_norm(sys)], [h2, hinf], rtol=1e-5)
    scaled = diagonal(-1e-9, B=[1e-9])
    np.testing.assert_allclose([lti.h2_norm(scaled), lti.hinf_norm(scaled)], [5e-10**0.5, 1], 1e-9)


@pytest.mark.parametrize("peak", [1e6, 1e8])
def test_row_25_a_lightly_damped_peak(peak):
    z = 0.5 / peak
    sys = StateSpace([[0, 1.0], [-1.0, -2 * z]], [[0], [1.0]], [[1.0, 0]])
    np.testing.assert_allclose(lti.hinf_norm(sys), peak / np.sqrt(1 - z * z), rtol=1e-7)


@pytest.mark.parametrize("h", [[1.0, 2, 3], [0.25, 0, -0.925, 0, 2.35, 0, -0.925, 0, 0.25]])
def test_row_26_hinf_of_a_finite_impulse_response(h):
    n = len(h) - 1
    sys = StateSpace(np.eye(n, k=-1), np.eye(n, 1), [h[1:]], [h[:1]], dt=True)
    gains = np.abs(np.fft.fft(h, 1 << 14))
    np.testing.assert_allclose(lti.hinf_norm(sys), gains.max(), rtol=1e-6)


@pytest.mark.parametrize(("m", "p"), [(1, 3), (3, 1), (2, 3)])
@both_times
def test_row_26_hinf_of_a_non_square_system(m, p, dt):
    sys = random_dense(4, m, p, dt=dt, seed=m)
    if dt:
        sys = StateSpace(np.diag([0.5, 0.0, 0.0, -0.7]), sys.B, sys.C, sys.D, dt)
    norm = oracle("ab13dd", sys.A, sys.B, sys.C, sys.D, bool(dt))[0]
    np.testing.assert_allclose(lti.hinf_norm(sys), norm, rtol=1e-8)


def test_row_27_hinf_of_an_unstable_system():
    for sys, pole in ((UNSTABLE, r"1\+0j"), (GROWING, r"1\.9\+0j")):
        with pytest.raises(lti.UnstableError, match=f"the worst, {pole}, is outside.*; remove or"):
            lti.hinf_norm(sys)
        zero = StateSpace(sys.A, sys.B, 0 * sys.C, None, sys.dt)
        np.testing.assert_allclose(lti.linf_norm(sys), error(sys, zero, 40001), rtol=1e-6)


def test_row_28_h2_with_feedthrough():
    assert lti.h2_norm(StateSpace([[-1.0]], [[1.0]], [[1.0]], [[1e-3]])) == np.inf
    # In discrete time it is one more term of the impulse response: sum of 0.5^2k, and D^2
    discrete = StateSpace([[0.5]], [[1.0]], [[1.0]], [[3.0]], dt=True)
    np.testing.assert_allclose(lti.h2_norm(discrete), np.sqrt(4 / 3 + 9), rtol=1e-14)


WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("control", "slycot", "ctrlsys", "torch", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import numpy as np
import lti
from lti import hankel_norm_approximation

for dt in (0, True):
    pole = 0.5 if dt else -0.5
    A = pole * np.diag([0.3, 1.0, 1.5])
    plain = lti.StateSpace(A, np.ones((3, 1)), np.ones((1, 3)), None, dt)
    grown = lti.StateSpace(np.diag([2.0, pole]), np.ones((2, 1)), np.ones((1, 2)), None, dt)
    for reduce in (lti.balanced_truncation, lti.singular_perturbation, lti.modal_truncation,
                   hankel_norm_approximation):
        reduce(plain, 1).verify()
        reduce(grown, 1, unstable="split").verify()
    for f in (lti.hankel_singular_values, lti.controllability_gramian, lti.observability_gramian,
              lti.h2_norm, lti.hinf_norm, lti.linf_norm, lti.hankel_norm, lti.bilinear):
        f(plain)
    lti.balanced_truncation(plain, 1, frequencies=(0, 1))
    lti.balanced_truncation(plain, 1, input_weight=plain)
print("done")
"""


def test_row_29_without_compiled_extras():
    done = subprocess.run(
        [executable, "-W", "error", "-c", WITHOUT], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == "done\n", done.stderr


# ------------------------------------------------------------------ equations


@both_balanced
@pytest.mark.parametrize(
    "options",
    [
        {"frequencies": (0.0, 1.0)},
        {"times": (0, 10)},
        {"input_weight": DISCRETE, "weighting": "wang"},
        {"output_weight": DISCRETE, "weighting": "lin-chiu"},
        {"method": "balancing-free"},
        {"unstable": "split"},
    ],
    ids=str,
)
def test_row_30_every_option_in_discrete_time(reduce, options):
    sys = GROWING if "unstable" in options else DISCRETE
    small = reduce(sys, 2, **options).system
    assert small.order == 2 and small.is_discrete
    assert error(sys, small) < 0.6 * grid_peak(sys)
    if reduce is lti.singular_perturbation:
        np.testing.assert_allclose(at_rest(small), at_rest(sys), rtol=1e-12)


def test_row_30_what_does_not_exist_says_what_does():
    for option, known in (
        ({"method": "lqg"}, "'square-root', 'balancing-free'; got 'lqg'"),
        ({"unstable": "coprime"}, "'raise', 'split'; got 'coprime'"),
        ({"weighting": "bounded-real"}, "'enns', 'lin-chiu', 'wang'; got 'bounded-real'"),
    ):
        with pytest.raises(lti.OptionError, match=f"must be one of {known}"):
            lti.balanced_truncation(DISCRETE, 2, **option)


@pytest.mark.parametrize("gap", [1e-6, 1e-10])
@pytest.mark.parametrize("n", [12, 64])
def test_row_31_gramians_with_a_pole_near_minus_one(n, gap):
    rng = np.random.default_rng(n)
    poles = np.concatenate([[-1 + gap], rng.uniform(-0.9, 0.9, n - 1)])
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    B, C = rng.standard_normal((n, 2)), rng.standard_normal((2, n))
    sys = StateSpace(Q * poles @ Q.T, B, C, None, True)
    P, O = lti.controllability_gramian(sys), lti.observability_gramian(sys)
    between = 1 - np.outer(poles, poles)
    b, c = Q.T @ B, C @ Q
    for X, exact in ((P, b @ b.T / between), (O, c.T @ c / between)):
        values = np.linalg.eigvalsh(X)
        assert values[0] >= -1e-15 * values[-1]
        # Q poles Q^T has rounding eps, which is eps / gap of the distance to the circle
        np.testing.assert_allclose(X, Q @ exact @ Q.T, atol=1e-15 / gap * values[-1], rtol=0)


def coupled(gap, dt):
    """An unstable and a stable pole, 2 gap apart, that hardly have two eigenvectors."""
    shift = 1.0 if dt else 0.0
    return StateSpace([[shift + gap, 1], [0, shift - gap]], [[1.0], [2]], [[1.0, 3]], None, dt)


@pytest.mark.parametrize("gap", [1e-2, 1e-5, 1e-8])
@both_times
def test_row_32_poles_that_can_be_separated(gap, dt):
    sys = coupled(gap, dt)
    parts = lti.balance(sys, unstable="split").parts
    s = np.exp(1j * np.array([0.5, 2.0])) if dt else 1j * np.array([0.5, 2.0])
    both = response(parts.stable, s) + response(parts.rest, s)
    np.testing.assert_allclose(both, response(sys, s), rtol=1e-14 / gap)


@pytest.mark.parametrize("gap", [1e-16, 1e-17, 1e-100, 1e-200])
def test_row_32_poles_that_cannot_be_separated_stay_together(gap):
    sys = coupled(gap, 0)
    for reduce in METHODS:
        reduction = quietly(reduce, sys, 2, unstable="split")
        assert np.isinf(reduction.hsv).all()
        np.testing.assert_allclose(
            response(reduction.system, [1j]), response(sys, [1j]), rtol=1e-12
        )


@pytest.mark.parametrize("multiplicity", [1, 2, 3, 4])
def test_row_32_integrators_in_a_row(multiplicity):
    m, n = multiplicity, multiplicity + 2
    A = np.diag([*np.zeros(m), -1.0, -2.0]) + np.diag([*np.ones(m - 1), 0, 0], 1)
    for seed in range(10):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
        sys = StateSpace(Q @ A @ Q.T, Q @ np.ones((n, 1)), np.ones((1, n)) @ Q.T)
        reduction = quietly(lti.balanced_truncation, sys, m + 1, unstable="split")
        assert np.isinf(reduction.hsv).sum() == m
        s = 1j * np.array([0.5, 1.0, 2.0])
        gap = np.abs(response(sys, s) - response(reduction.system, s)).max()
        assert gap <= reduction.error_bound + 1e-6 < 0.05


@pytest.mark.parametrize("order", [6, 9, 11])
def test_row_33_small_values_asked_for(order):
    # hsv[order] is below sqrt(eps) * hsv[0] from order 7 on
    reduction = lti.balanced_truncation(CAUCHY, order)
    assert reduction.order == reduction.system.order == order and reduction.flags == ()
    exact = 2 * truth(CAUCHY, digits=90)[order:].sum()  # which such a system attains at s = 0
    gap = at_rest(CAUCHY) - at_rest(reduction.system)
    np.testing.assert_allclose(abs(gap[0, 0]), exact, rtol=1e-4, atol=1e-14)


def test_row_34_hinf_of_random_systems():
    for seed in range(300):
        sys = random_dense(4, 1 + seed % 2, 1 + seed % 3, dt=[0, True][seed % 2], seed=seed)
        norm = float(lti.hinf_norm(sys))
        poles = np.linalg.eigvals(sys.A)
        if sys.is_discrete:
            t = np.concatenate([np.linspace(-np.pi, np.pi, 200), np.angle(poles)])
        else:
            w = np.abs(poles).max() * np.logspace(-3, 3, 100)
            t = np.concatenate([-w, [0.0], w, poles.imag])

        def gains(t, sys=sys):
            s = np.exp(1j * t) if sys.is_discrete else 1j * t
            return np.linalg.norm(response(sys, s), ord=2, axis=(-2, -1))

        t = np.unique(t)
        best = gains(t)
        top = max(best.max(), 0 if sys.is_discrete else np.linalg.norm(sys.D, 2))
        near = np.clip(np.argsort(-best)[:4], 1, len(t) - 2)
        low, high = t[near - 1], t[near + 1]
        for _ in range(5):  # each of the four intervals, ten times finer
            fine = np.linspace(low, high, 21)
            best = gains(fine.ravel()).reshape(fine.shape)
            top, k = max(top, best.max()), np.clip(best.argmax(axis=0), 1, 19)
            low, high = (fine[k + i, np.arange(len(near))] for i in (-1, 1))
        assert top * (1 - 1e-12) <= norm * (1 + 1e-9) and norm <= top * (1 + 1e-7), seed


def test_row_35_hankel_norm_approximation_of_fast_decaying_values():
    sigma = truth(CAUCHY, digits=90)
    reduction = hankel_norm_approximation(CAUCHY, 10)
    measured = error(CAUCHY, reduction.system)
    assert sigma[10] * (1 - 1e-6) <= measured <= sigma[10:].sum() * (1 + 1e-6)
    assert reduction.order == 10 and measured <= reduction.error_bound * (1 + 1e-6)
    np.testing.assert_allclose(reduction.error_bound, sigma[10:].sum(), rtol=1e-2)


def test_row_35_hankel_norm_approximation_of_a_benchmark(data_file):
    sys, data = load(data_file, "CDplayer")
    reduction = hankel_norm_approximation(sys, 40)
    measured = float(lti.hinf_norm(sys - reduction.system, rtol=1e-3))
    assert (
        measured <= data["hsv"].ravel()[40:].sum() and measured < 0.0286
    )  # of balanced truncation


def test_row_36_no_fortran_is_called():
    for path in (ROOT / "lti").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in [getattr(node, "module", None) or "", *(a.name for a in node.names)]
        }
        assert not imported & {"slycot", "ctrlsys", "ctypes", "cffi"}, path


@pytest.mark.parametrize("method", ["square-root", "balancing-free"])
def test_row_37_discrete_singular_perturbation_of_random_systems(method):
    for seed in range(25):
        sys = random_dense(6, 2, 2, dt=True, seed=seed)
        small = lti.singular_perturbation(sys, 3, method=method).system
        np.testing.assert_allclose(at_rest(small), at_rest(sys), atol=1e-11 * grid_peak(sys))
        P = scipy.linalg.solve_discrete_lyapunov(small.A, small.B @ small.B.T)
        Q = scipy.linalg.solve_discrete_lyapunov(small.A.T, small.C.T @ small.C)
        kept = np.sort(np.sqrt(np.linalg.eigvals(P @ Q).real))[::-1]
        np.testing.assert_allclose(kept, lti.hankel_singular_values(sys)[:3], rtol=1e-7)


# ------------------------------------------------------------------ the table


def test_every_row_has_a_test():
    tested = {int(m[1]) for name in globals() if (m := re.match(r"test_row_(\d+)_", name))}
    assert list(ROWS) == list(range(1, 38)) and tested == set(ROWS)


def test_the_page_has_the_same_rows():
    page = (ROOT / "docs/edge-cases.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", page, re.MULTILINE)
    assert {int(number): case.strip() for number, case in rows} == ROWS
    assert [int(number) for number, _ in rows] == list(ROWS)
