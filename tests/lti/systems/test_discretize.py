"""The bilinear map: back and forth, and what it keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti import DiagonalStateSpace, StateSpace
from lti._backend.shifts import optimal_shift
from lti.systems.discretize import to_discrete
from tests.lti.helpers import random_dense, random_ring, response, same_response, systems

STEPS = st.sampled_from([True, 0.1, 1.0, 2.5])


def shift(dt):
    return 1.0 if dt is True else 2 / dt


@given(systems(dt=0), STEPS)
def test_the_response_is_the_same_at_corresponding_points(sys, dt):
    flat = lti.bilinear(sys, dt)
    assert flat.dt == dt and type(flat) is type(sys) and (flat.dt is True) == (dt is True)
    z = np.exp(1j * np.linspace(-2.5, 2.5, 11))
    s = shift(dt) * (z - 1) / (z + 1)
    expected = response(sys, s)
    np.testing.assert_allclose(
        response(flat, z), expected, atol=1e-11 * (1 + np.abs(expected).max())
    )


@given(systems(dt=0), STEPS)
def test_gramians_are_the_same(sys, dt):
    flat = lti.bilinear(sys, dt)
    for gramian in (lti.controllability_gramian, lti.observability_gramian):
        exact = gramian(sys)
        np.testing.assert_allclose(gramian(flat), exact, atol=1e-11 * (1 + np.abs(exact).max()))


@given(systems(), STEPS)
def test_back_and_forth(sys, dt):
    if sys.is_discrete:
        back = lti.bilinear(lti.bilinear(sys), sys.dt)
    else:
        back = lti.bilinear(lti.bilinear(sys, dt))
    assert back.dt == sys.dt
    names = ["poles", "B", "C", "D"] if isinstance(sys, DiagonalStateSpace) else list("ABCD")
    for name in names:
        one, other = getattr(back, name), getattr(sys, name)
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, atol=1e-11 * (1 + np.abs(other).max(initial=0)))


@given(systems(dt=0, max_order=5), st.floats(1e-3, 1e3))
def test_no_other_shift_brings_the_poles_deeper(sys, other):
    poles = sys.to_dense().poles

    def radius(a):
        return np.abs((a + poles) / (a - poles)).max()

    a = float(optimal_shift(poles).squeeze())
    assert a in np.abs(poles) and radius(a) < 1
    assert all(radius(a) ** 2 <= radius(b) ** 2 + 1e-14 for b in np.abs(poles))
    if len(poles) == 1:  # then there is none at all
        assert radius(a) <= radius(other) + 1e-12


def test_the_shift_of_a_stack_is_each_ones_own(library):
    sys = random_dense(4, stack=(3,), seed=1)
    shifts = np.asarray(optimal_shift(library(sys.poles)))
    assert shifts.shape == (3, 1, 1)
    alone = [optimal_shift(sys.poles[i]).squeeze() for i in range(3)]
    np.testing.assert_allclose(shifts.squeeze(), alone, rtol=1e-14)
    flat = to_discrete(sys, optimal_shift(sys.poles))
    assert (np.abs(flat.poles) < 1).all()


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_libraries_and_precision(library, diagonal, single):
    sys = random_ring(4, seed=2, conjugate=True)
    sys = sys if diagonal else sys.to_dense()
    if single and diagonal:
        sys = DiagonalStateSpace(*(np.asarray(x, np.complex64) for x in (sys.poles, sys.B, sys.C)),
                                 np.asarray(sys.D, np.float32), True, True)  # fmt: skip
    elif single:
        sys = StateSpace(*(np.asarray(x, np.float32) for x in (sys.A, sys.B, sys.C, sys.D)), True)
    flat, exact = lti.bilinear(library.system(sys)), lti.bilinear(sys)
    assert library.owns(flat.B, flat.C, flat.D) and flat.dt == 0
    assert np.asarray(flat.B).dtype == sys.B.dtype and np.asarray(flat.D).dtype == sys.D.dtype
    tol = 1e-4 if single else 1e-11
    np.testing.assert_allclose(np.asarray(flat.B), exact.B, rtol=tol, atol=tol)


@pytest.mark.parametrize("n", [0, 1])
def test_no_states(n):
    sys = StateSpace(-np.eye(n), np.ones((n, 2)), np.ones((3, n)), np.ones((3, 2)))
    flat = lti.bilinear(sys)
    assert flat.order == n and flat.is_discrete
    assert lti.bilinear(flat).D.shape == (3, 2)
    np.testing.assert_allclose(lti.bilinear(flat).D, 1)


@pytest.mark.parametrize("dt", [0, -0.1, np.nan, None, "a", False, np.inf])
def test_a_continuous_system_needs_a_sampling_time(dt):
    for sys in (random_dense(2), DiagonalStateSpace([-1.0], [[1.0]], [[1.0]], dt=0)):
        with pytest.raises(lti.TimebaseError, match="dt=.* pass "):
            lti.bilinear(sys, dt)


# ------------------------------------------------------------------ discretize, undiscretize


@given(systems(dt=0))
def test_a_hold_keeps_the_step_response(sys):
    held = lti.discretize(sys, 0.25)
    assert type(held) is type(sys) and held.dt == 0.25
    t = 0.25 * np.arange(8)
    y = lti.step_response(sys, t)
    np.testing.assert_allclose(lti.step_response(held, t), y, atol=1e-10 * (1 + np.abs(y).max()))


@given(systems(dt=0), st.sampled_from(["zoh", "bilinear"]))
def test_there_and_back(sys, method):
    dt = 0.5 / max(1.0, np.abs(sys.poles).max(initial=0))
    back = lti.undiscretize(lti.discretize(sys, dt, method), method)
    assert type(back) is type(sys) and back.dt == 0
    same_response(back.to_dense(), sys.to_dense(), 1e-7)


@given(systems(dt=0))
def test_both_respond_alike_at_the_prewarped_frequency(sys):
    for w in (0.7, 3.0):
        G, F = (
            lti.frequency_response(x, [w])
            for x in (sys, lti.discretize(sys, 0.5, "bilinear", prewarp=w))
        )
        np.testing.assert_allclose(F, G, atol=1e-10 * (1 + np.abs(G).max()))


def test_integrators_and_labels():
    labels = lti.Labels(name="cart", inputs=("u",), states=("x", "v"))
    sys = lti.StateSpace(np.eye(2, k=1), [[0.0], [1.0]], [[1.0, 0.0]], labels=labels)
    held = lti.discretize(sys, 2.0)
    np.testing.assert_allclose(held.A, [[1, 2], [0, 1]])
    np.testing.assert_allclose(held.B, [[2], [2]])
    assert held.labels == labels
    zero = lti.DiagonalStateSpace([0.0], [[3.0]], [[1.0]], dt=0)
    held = lti.discretize(zero, 2.0)
    np.testing.assert_allclose(held.B, [[6]])
    np.testing.assert_allclose(lti.undiscretize(held).B, [[3]])


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_discretize_in_every_library(library, method):
    sys = random_dense(3, seed=4, stack=(2,))
    held = lti.discretize(library.system(sys), 0.1, method)
    back = lti.undiscretize(held, method)
    assert library.owns(*held.matrices, *back.matrices)
    np.testing.assert_allclose(np.asarray(back.A), sys.A, atol=1e-12)


# ------------------------------------------------------------------ precision

STIFF = StateSpace(np.diag([-1.0, -1e8]), [[1.0], [1e8]], [[1.0, 1.0]])


def singled(sys):
    arrays = [np.asarray(x, np.complex64 if np.iscomplexobj(x) else np.float32)
              for x in sys.matrices]  # fmt: skip
    return type(sys)(*arrays, *([sys.dt, sys.conjugate] if hasattr(sys, "conjugate") else [sys.dt]))


def names(sys):
    return ["poles" if isinstance(sys, DiagonalStateSpace) else "A", "B", "C", "D"]


@pytest.mark.parametrize("function", [
    lambda G: lti.discretize(G, 0.3),
    lambda G: lti.discretize(G, 0.3, "bilinear"),
    lambda G: lti.discretize(G, 0.3, "bilinear", 0.7),
    lambda G: lti.bilinear(G, 0.3),
    lambda G: lti.undiscretize(replace(G, dt=0.3)),
    lambda G: lti.undiscretize(replace(G, dt=0.3), "bilinear"),
    lambda G: lti.bilinear(replace(G, dt=0.3)),
])  # fmt: skip
@pytest.mark.parametrize("form", ["dense", "diagonal", "conjugate"])
def test_single_precision_costs_one_rounding(library, function, form):
    poles = np.array([0.3, 0.99999, 0.9]) * np.exp([0j, 0, 0 if form == "dense" else 2j])
    sys = DiagonalStateSpace(poles, np.ones((3, 2)), np.ones((1, 3)), None, 0, form == "conjugate")
    if form == "dense":
        rng, poles = np.random.default_rng(1), poles.real
        X = np.linalg.qr(rng.standard_normal((3, 3)))[0]
        sys = StateSpace(X * poles @ X.T, X @ sys.B.real, sys.C.real @ X.T)
    single = singled(sys)
    found, exact = function(library.system(single)), function(single.double())
    for name in names(single):
        one, other, given = (getattr(x, name) for x in (found, exact, single))
        assert np.asarray(one).dtype == given.dtype
        np.testing.assert_allclose(np.asarray(one), other.astype(given.dtype), rtol=2e-7, atol=1e-9)


@pytest.mark.parametrize("single", [False, True])
def test_a_slow_state_beside_a_fast_one(library, single):
    sys = library.system(singled(STIFF) if single else STIFF)
    held, eps = lti.discretize(sys, 1.0), 2.0**-23 if single else 2.0**-52
    np.testing.assert_allclose(np.asarray(held.A), np.diag([np.exp(-1), 0]), rtol=8 * eps)
    np.testing.assert_allclose(np.asarray(held.B), [[1 - np.exp(-1)], [1]], rtol=8 * eps)
    t = np.arange(4.0)
    y = np.asarray(lti.step_response(sys, t))[1:, 0, 0]
    np.testing.assert_allclose(y, 1 - np.exp(-t[1:]) + 1, rtol=16 * eps)
    y = np.asarray(lti.impulse_response(sys, t))[1:, 0, 0]
    np.testing.assert_allclose(y, np.exp(-t[1:]), rtol=16 * eps)
    ramp = np.asarray(lti.simulate(sys, t[:, None], t))[:, 0]  # y = t - 1 + e^-t, and t - 1e-8
    np.testing.assert_allclose(ramp[1:], (2 * t - 1 - 1e-8 + np.exp(-t))[1:], rtol=16 * eps)


@pytest.mark.parametrize("size", [1e-12, 1e6, 1e12, 1e150])
@pytest.mark.parametrize("units", [[1.0, 1.0], [2.0**30, 2.0**-30]])
def test_neither_inputs_nor_units_scale_the_exponential(library, size, units):
    d = np.array(units)
    A, B, C = np.array([[0.0, 1], [-1, -0.1]]), np.array([[0.0], [1]]), np.ones((1, 2))
    exact = lti.discretize(StateSpace(A, B, C), 0.1)
    sys = StateSpace(d[:, None] * A / d, size * d[:, None] * B, C / d)
    held = lti.discretize(library.system(sys), 0.1)
    np.testing.assert_allclose(np.asarray(held.A) / d[:, None] * d, exact.A, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(held.B) / d[:, None] / size, exact.B, rtol=1e-14)
    back = lti.undiscretize(held)
    np.testing.assert_allclose(np.asarray(back.A) / d[:, None] * d, A, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(np.asarray(back.B) / d[:, None] / size, B, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_derivatives_of_a_conversion(method):
    sys = random_dense(3, seed=4)
    arrays = [torch.tensor(x, requires_grad=True) for x in sys.matrices]
    convert = lambda *x: lti.discretize(StateSpace(*x), 0.4, method).matrices  # noqa: E731
    assert torch.autograd.gradcheck(convert, arrays)
    assert torch.autograd.gradgradcheck(convert, arrays)
    single = [x.detach().to(torch.float32).requires_grad_() for x in arrays]
    for one, other in zip(
        *(torch.autograd.grad(convert(*x)[1].sum(), x[:2]) for x in (single, arrays)), strict=True
    ):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch
def test_a_hold_compiles_whole():
    arrays = [torch.tensor(x) for x in random_dense(3, seed=4).matrices]
    f = lambda *x: lti.discretize(StateSpace(*x), 0.4).B  # noqa: E731
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arrays), f(*arrays), rtol=1e-13, atol=1e-15)


def test_what_grows_beyond_all_numbers():
    sys = StateSpace([[1000.0]], [[1.0]], [[1.0]])
    for call in (lambda: lti.discretize(sys, 1.0), lambda: lti.step_response(sys, [0.0, 1.0])):
        with pytest.raises(lti.NonFiniteError, match="beyond the range of .*; choose a shorter"):
            call()


def test_there_and_back_without_states():
    sys = StateSpace(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((1, 0)), [[3.0, 4.0]])
    back = lti.undiscretize(lti.discretize(sys, 0.5))
    assert back.order == 0 and back.B.shape == (0, 2) and back.D.tolist() == [[3, 4]]


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda G: lti.discretize(G, 0), lti.TimebaseError, "dt=0 is no sampling time"),
    (lambda G: lti.discretize(G, True), lti.TimebaseError, "dt=True is no sampling time"),
    (lambda G: lti.discretize(lti.discretize(G, 1), 1), lti.TimebaseError, "discrete already"),
    (lambda G: lti.discretize(G, 1, "tustin"), lti.OptionError, "method must be one of 'zoh'"),
    (lambda G: lti.discretize(G, 1, prewarp=1), lti.OptionError, 'goes with method="bilinear"'),
    (lambda G: lti.discretize(G, 1, "bilinear", 4), lti.OptionError, "the Nyquist frequency"),
    (lambda G: lti.discretize(G, 2, "bilinear"), lti.TimebaseError, "would go to infinity"),
    (lambda G: lti.undiscretize(G), lti.TimebaseError, "dt=0 is no sampling time"),
    (lambda G: lti.undiscretize(([[-0.5]], [[1.0]], [[1.0]], None, 1.0)), lti.OptionError,
     "the pole -0.5"),
    (lambda G: lti.undiscretize(([[0.0]], [[1.0]], [[1.0]], None, 1.0)), lti.OptionError,
     "is that of no continuous system"),
    (lambda G: lti.undiscretize(([[-1.0]], [[1.0]], [[1.0]], None, 1.0), "bilinear"),
     lti.TimebaseError, "the pole -1 would go"),
])  # fmt: skip
def test_what_cannot_be_discretized(call, error, text):
    with pytest.raises(error, match=text):
        call(lti.StateSpace([[1.0]], [[1.0]], [[1.0]]))


@pytest.mark.parametrize("seed", range(4))
def test_samples_that_have_lost_a_fast_pole_have_no_logarithm(seed):
    rng = np.random.default_rng(seed)
    R = rng.standard_normal((4, 4))
    A = R @ np.diag([-36.0, -1.0, -2.0, -0.5]) @ np.linalg.inv(R)
    sampled = lti.discretize((A, np.ones((4, 1)), np.ones((1, 4))), 1.0)
    with pytest.raises(lti.OptionError, match="sample more often"):
        lti.undiscretize(sampled)
    back = lti.undiscretize(lti.discretize((A, np.ones((4, 1)), np.ones((1, 4))), 0.1))
    assert np.allclose(back.A, A, rtol=1e-6, atol=1e-6 * abs(A).max())


def test_fast_poles_that_the_entries_keep_have_one():
    A = np.array([[-1000.0, 0.0], [3.0, -1.0]])
    back = lti.undiscretize(lti.discretize((A, np.ones((2, 1)), np.ones((1, 2))), 0.1))
    assert np.allclose(back.A, A)


@pytest.mark.parametrize("seed", range(4))
def test_a_pole_that_the_bilinear_map_moves_to_infinity_is_refused_in_any_basis(seed):
    rng = np.random.default_rng(seed)
    R, B, C = rng.standard_normal((3, 3)), np.ones((3, 1)), np.ones((1, 3))
    fast = R @ np.diag([20.0, -1.0, -2.0]) @ np.linalg.inv(R)
    minus = R @ np.diag([-1.0, 0.5, 0.2]) @ np.linalg.inv(R)
    for trial in (
        lambda: lti.bilinear((fast, B, C), 0.1),
        lambda: lti.discretize((fast, B, C), 0.1, "bilinear"),
        lambda: lti.bilinear((minus, B, C, None, True)),
        lambda: lti.undiscretize((minus, B, C, None, 0.1), "bilinear"),
    ):
        with pytest.raises(lti.TimebaseError, match="would go to infinity"):
            trial()
