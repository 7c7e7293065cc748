"""Modal truncation: poles are kept, pairs stay together, the bound is met."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lti
from tests.lti.helpers import (
    diagonal_systems,
    quiet,
    random_dense,
    unitary,
)


@settings(max_examples=40)
@given(diagonal_systems(), st.integers(0, 99))
def test_modal_truncation_keeps_poles_and_meets_its_bound(sys, seed):
    U = unitary(sys.order, seed, np.iscomplexobj(sys.to_dense().A))
    dense = sys.to_dense()
    turned = lti.StateSpace(
        U @ dense.A @ U.conj().T, U @ dense.B, dense.C @ U.conj().T, dense.D, dense.dt
    )
    try:
        condition = lti.diagonalize(turned)[1]
    except lti.DefectiveError:
        condition = np.inf
    assume(condition <= 1e4)  # hypothesis fails where nearly all systems are refused
    for order in range(sys.order + 1):
        reduction = quiet(lti.modal_truncation, turned, order)
        assert order - 1 <= reduction.order <= order
        assert (reduction.order == order) != ("stays together" in "".join(reduction.flags))
        for pole in np.asarray(reduction.system.poles):
            assert np.abs(pole - dense.poles).min() < 1e-9 * condition
        np.testing.assert_allclose(reduction.W @ reduction.T, np.eye(reduction.order), atol=1e-8)
        scale = float(reduction.scale)
        reduction.verify()
        error = lti.hinf_norm(turned - reduction.system)
        assert error <= reduction.error_bound * (1 + 1e-7) + 1e-9 * scale
        assert error >= reduction.lower_bound * (1 - 1e-7) - 1e-9 * scale
        assert reduction.error_bound < np.inf
        assert np.isrealobj(reduction.system.A) == np.isrealobj(dense.A)


def test_modal_truncation_takes_the_modes_of_largest_gain():
    sys = lti.DiagonalStateSpace([-1.0, -2.0, -100.0], np.ones((3, 1)), [[1.0, 6.0, 50.0]], dt=0)
    np.testing.assert_allclose(quiet(lti.modal_truncation, sys, 1).system.poles, [-2])
    np.testing.assert_allclose(quiet(lti.modal_truncation, sys, 2).system.poles, [-2, -1])
    np.testing.assert_allclose(quiet(lti.modal_truncation, sys, 1).error_bound, 1.5)
    assert (
        quiet(lti.modal_truncation, sys, tol=0.6).order == 2
        and quiet(lti.modal_truncation, sys, tol=1.5).order == 1
    )
    assert (
        quiet(lti.modal_truncation, sys, energy=3 / 4.5).order == 1
        and quiet(lti.modal_truncation, sys, energy=0.7).order == 2
    )


def test_modal_truncation_keeps_pairs_and_unstable_modes():
    A = np.array([[1.5, 0, 0, 0], [0, 0.1, 0.8, 0], [0, -0.8, 0.1, 0], [0, 0, 0, 0.5]])
    sys = lti.StateSpace(A, np.ones((4, 1)), np.ones((1, 4)), dt=True)
    with pytest.raises(lti.UnstableError, match="1 of 4 poles are unstable"):
        lti.modal_truncation(sys, 2)
    with pytest.warns(lti.ReductionWarning, match="order lowered from 2 to 1: a conjugate pair"):
        one = lti.modal_truncation(sys, 2, unstable="split")
    np.testing.assert_allclose(one.system.poles, [1.5])
    three = lti.modal_truncation(sys, 3, unstable="split")
    np.testing.assert_allclose(sorted(abs(three.system.poles)), [0.65**0.5] * 2 + [1.5])
    assert three.verify() <= three.error_bound
    with pytest.raises(lti.OrderError, match="order 0 is less than the 1 states"):
        lti.modal_truncation(sys, 0, unstable="split")
    assert lti.modal_truncation(sys, tol=2.5, unstable="split").order == 3


def test_modal_truncation_refuses_what_has_no_modes():
    with pytest.raises(lti.DefectiveError, match="not diagonalisable"):
        lti.modal_truncation(([[-1.0, 1.0], [0, -1.0]], np.ones((2, 1)), np.ones((1, 2))), 1)
    stack = lti.StateSpace(-np.ones((3, 1, 1)), np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(lti.DimensionError, match=r"got a batch of shape \(3,\)"):
        lti.modal_truncation(stack, 1)


@pytest.mark.parametrize("single", [False, True])
def test_modal_truncation_in_every_library(library, single):
    sys = random_dense(5, 2, 2, dt=True, seed=8)
    if single:
        sys = lti.StateSpace(*(np.float32(x) for x in (sys.A, sys.B, sys.C, sys.D)), dt=True)
    reduction = quiet(lti.modal_truncation, library.system(sys), 3)
    assert library.owns(reduction.system.A, reduction.hsv, reduction.error_bound, reduction.T)
    assert np.asarray(reduction.system.A).dtype == (np.float32 if single else np.float64)
    np.testing.assert_allclose(
        np.asarray(reduction.error_bound),
        quiet(lti.modal_truncation, sys, 3).error_bound,
        rtol=1e-4,
    )


def test_a_pole_close_to_the_boundary_is_flagged():
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    B, C = rng.standard_normal((6, 1)), rng.standard_normal((1, 6))
    for dt, poles in ((True, [1 - 1e-9, 0.5, -0.3, 0.2, 0.1, -0.6]),
                      (0, [-1e-9, -0.5, -0.3, -0.2, -0.1, -0.6])):  # fmt: skip
        A = turn @ np.diag(poles) @ turn.T
        with pytest.warns(lti.ReductionWarning, match="of the stability boundary"):
            reduction = lti.modal_truncation(lti.StateSpace(A, B, C, None, dt), 3)
        assert "rounding this pole" in reduction.flags[0]
