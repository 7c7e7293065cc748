"""The bilinear map: back and forth, and what it keeps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti import DiagonalStateSpace, StateSpace
from lti._backend.shifts import optimal_shift
from lti.systems.discretize import to_discrete
from tests.lti.helpers import random_dense, random_ring, response, systems

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
