"""python-control's names: its conventions, checked against python-control with Slycot."""

import control
import numpy as np
import pytest

import lti
from lti.python_control import balred, gram, hsvd, norm
from tests.lti.helpers import random_dense

KINDS = [(0, 1, 1), (0, 3, 2), (0.5, 2, 1)]


def system(dt=0, m=2, p=2, n=6):
    return random_dense(n, m, p, dt=dt, seed=3).to_control()


def gains(sys):
    return sys(1j * np.geomspace(0.01, 100, 50))


@pytest.mark.parametrize("method", ["truncate", "matchdc"])
def test_balred_is_controls(method):
    sys = system()
    ours, theirs = balred(sys, 3, method), control.balred(sys, 3, method)
    np.testing.assert_allclose(gains(ours), gains(theirs), atol=1e-10)
    assert isinstance(ours, control.StateSpace) and ours.nstates == 3


def test_a_list_of_orders_gives_a_list():
    sys = system()
    assert [x.nstates for x in balred(sys, [2, 4])] == [2, 4]
    assert [x.nstates for x in balred(sys, np.array([3]))] == [3]
    assert balred(sys, np.int64(3)).nstates == 3


def test_labels_and_time_are_kept():
    sys = system(0.5).copy(name="plant")
    sys.set_inputs(["force", "wind"])
    reduced = balred(sys, 2, "matchdc")
    assert reduced.dt == 0.5 and reduced.name == "plant"
    assert reduced.input_labels == ["force", "wind"] and reduced.state_labels == ["x[0]", "x[1]"]


@pytest.mark.parametrize("method", ["truncate", "matchdc"])
def test_unstable_poles_stay(method):
    sys = control.append(control.ss(control.tf([1], [1, -1])), system(m=1, p=1))
    ours, theirs = balred(sys, 3, method), control.balred(sys, 3, method)
    np.testing.assert_allclose(gains(ours), gains(theirs), atol=1e-10)
    assert np.isclose(ours.poles(), 1).any()
    with pytest.raises(lti.OrderError, match="order 0 is less than the 1 states"):
        balred(sys, 0)


def test_alpha_is_where_stability_ends():
    assert balred(system(), 2, alpha=0.0).nstates == balred(system(0.5), 2, alpha=1).nstates == 2
    for dt, alpha in ((0, 0.1), (0.5, 1.1), (0.5, 0.0)):
        with pytest.raises(lti.OptionError, match=f"alpha must be .*, got {alpha}"):
            balred(system(dt), 2, alpha=alpha)


@pytest.mark.parametrize(("dt", "m", "p"), KINDS)
def test_gramians_are_controls(dt, m, p):
    sys = system(dt, m, p)
    for kind in ("c", "o"):
        W = gram(sys, kind)
        np.testing.assert_allclose(W, control.gram(sys, kind), atol=1e-10)
        R = gram(sys, kind + "f")
        np.testing.assert_allclose(R.T @ R, W, atol=1e-10)
        assert R.shape == W.shape and not np.tril(R, -1).any() and (np.diag(R) >= 0).all()
    np.testing.assert_allclose(np.abs(gram(sys, "of")), np.abs(control.gram(sys, "of")), atol=1e-9)


def test_factors_of_low_rank_and_of_many_inputs():
    A, B = np.diag([-1.0, -2.0, -3.0]), np.array([[1.0], [0.0], [0.0]])
    for state, dt, value in ((A, 0, 0.5), (0 * A, True, 1)):
        R = gram(control.ss(state, B, B.T, 0, dt), "cf")
        np.testing.assert_allclose(R, np.diag([np.sqrt(value), 0, 0]), atol=1e-12)
    sys = control.ss(A, np.ones((3, 5)), B.T, np.zeros((1, 5)))  # control.gram(..., "cf") fails
    R = gram(sys, "cf")
    np.testing.assert_allclose(R.T @ R, control.gram(sys, "c"), atol=1e-12)
    with pytest.raises(lti.OptionError, match="type='x' is not a Gramian; choose"):
        gram(sys, "x")


def test_hsvd_is_controls_and_knows_discrete_time():
    values = hsvd(system())
    np.testing.assert_allclose(values, control.hsvd(system()), rtol=1e-8)
    assert values.dtype == np.float64 and (np.diff(values) <= 0).all()
    discrete = control.sample_system(system(), 0.1, "bilinear")
    np.testing.assert_allclose(hsvd(discrete), values, rtol=1e-8)
    with pytest.raises(lti.UnstableError):
        hsvd(control.tf([1], [1, -1]))


@pytest.mark.parametrize(("dt", "m", "p"), KINDS)
def test_norms_are_controls(dt, m, p):
    sys = system(dt, m, p)
    sys.D[:] *= bool(dt)
    for kind in (2, "inf"):
        ours, theirs = norm(sys, kind), control.norm(sys, kind)
        assert isinstance(ours, float) and np.isclose(ours, theirs, rtol=1e-5)
    assert norm(sys) == norm(sys, 2) and norm(sys, np.inf) == norm(sys, "inf")
    with pytest.raises(lti.OptionError, match="p=1 is no norm of a system; choose 2 or 'inf'"):
        norm(sys, 1)


def test_systems_without_a_time_base_are_refused():
    sys = control.ss([[-1.0]], [[1.0]], [[1.0]], 0, None)
    for function in (hsvd, norm, lambda s: gram(s, "c"), lambda s: balred(s, 1)):
        with pytest.raises(lti.TimebaseError, match="dt=None"):
            function(sys)


@pytest.mark.parametrize("kind", ["c", "o"])
def test_the_gramians_of_a_complex_system(kind):
    sys = lti.StateSpace([[-1.0, 1j], [0.5, -2.0 + 3j]], [[1j], [2.0]], [[1.0, 1.0 - 1j]])
    P, R = gram(sys, kind), gram(sys, kind + "f")
    A, Q = (
        (sys.A, sys.B @ sys.B.conj().T) if kind == "c" else (sys.A.conj().T, sys.C.conj().T @ sys.C)
    )
    assert np.allclose(A @ P + P @ A.conj().T + Q, 0, atol=1e-12)
    assert np.allclose(R.conj().T @ R, P, atol=1e-12)
    assert np.allclose(R, np.triu(R)) and (R.diagonal().real > 0).all()
    assert not R.diagonal().imag.any()
