"""Systems at the door: shapes, dtypes, time bases, and one clear sentence where they do not fit."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti import DiagonalStateSpace, StateSpace
from tests.lti.helpers import (
    boundary,
    diagonal_systems,
    random_dense,
    random_ring,
    response,
    systems,
)

A, B, C = -np.eye(2), np.ones((2, 1)), np.ones((1, 2))


# ------------------------------------------------------------------ what a system is


def test_attributes():
    sys = random_dense(4, 2, 3, dt=0.5, stack=(5,))
    assert (sys.order, sys.n_inputs, sys.n_outputs, sys.batch_shape) == (4, 2, 3, (5,))
    assert sys.is_discrete and sys.dt == 0.5 and sys.to_dense() is sys
    assert sys.poles.shape == (5, 4) and sys.poles.dtype == np.complex128
    ring = random_ring(4, 2, 3, conjugate=True)
    assert (ring.order, ring.n_inputs, ring.n_outputs, ring.batch_shape) == (8, 2, 3, ())
    assert ring.A.shape == (8, 8) and ring.A.dtype == np.float64 and ring.is_discrete
    assert random_ring(4).order == 4
    with pytest.raises(AttributeError):
        sys.A = A  # frozen


def test_defaults():
    sys = StateSpace(A, B, C)
    assert sys.dt == 0 and not sys.is_discrete
    np.testing.assert_array_equal(sys.D, [[0.0]])
    diagonal = DiagonalStateSpace([0.5], [[1.0]], [[1.0]])
    assert diagonal.dt is True and diagonal.is_discrete and not diagonal.conjugate


def test_repr():
    assert repr(random_dense(4, 2, 3)) == (
        "StateSpace(order=4, inputs=2, outputs=3, continuous, float64)"
    )
    text = repr(random_dense(4, 2, 3, dt=0.5, stack=(5,), is_complex=True))
    assert text == (
        "StateSpace(batch=(5,), order=4, inputs=2, outputs=3, discrete dt=0.5, complex128)"
    )
    sys = DiagonalStateSpace(torch.tensor([0.5], dtype=torch.float32), torch.ones(1, 1),
                             torch.ones(1, 1), conjugate=True)  # fmt: skip
    text = (
        "DiagonalStateSpace(order=2, stored=1, conjugate, inputs=1, outputs=1, discrete, float32)"
    )
    assert repr(sys) == text


@given(diagonal_systems())
def test_the_dense_form_is_the_same_system(sys):
    dense, s = sys.to_dense(), boundary(sys, 20)
    scale = 1e-12 * (1 + np.abs(response(sys, s)).max())
    np.testing.assert_allclose(response(dense, s), response(sys, s), atol=scale)
    if sys.conjugate:
        assert dense.A.dtype == np.float64 and dense.order == 2 * sys.poles.size
        x = np.array([1 + 2j]) * np.ones(sys.poles.size)  # [Re x, Im x] moves as x does
        moved = dense.A @ np.concatenate([x.real, x.imag])
        np.testing.assert_allclose(
            moved, np.concatenate([(sys.poles * x).real, (sys.poles * x).imag]), atol=1e-14
        )
        y = 2 * (sys.C @ x).real
        np.testing.assert_allclose(dense.C @ np.concatenate([x.real, x.imag]), y, atol=1e-12)


@given(systems())
def test_poles_are_eigenvalues(sys):
    ours, theirs = (
        np.sort_complex(np.round(x, 5)) for x in (sys.to_dense().poles, np.linalg.eigvals(sys.A))
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


# ------------------------------------------------------------------ dtypes


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_dtypes_are_kept(library, dtype):
    sys = StateSpace(*(library(x.astype(dtype)) for x in (A, B, C)))
    arrays = [sys.A, sys.B, sys.C, sys.D]
    assert library.owns(*arrays) and {np.asarray(x).dtype for x in arrays} == {np.dtype(dtype)}
    double = sys.double()
    assert {np.asarray(x).dtype for x in (double.A, double.D)} == {np.result_type(dtype, float)}


def test_dtypes_are_joined():
    assert StateSpace(A.astype(np.float32), B, C).A.dtype == np.float64
    assert StateSpace(A, B + 0j, C).C.dtype == np.complex128
    assert StateSpace(-np.eye(2, dtype=int), np.ones((2, 1), bool), [[1, 2]]).B.dtype == np.float64
    sys = DiagonalStateSpace([0.5 + 0j], [[1.0]], [[1.0]], [[1.0]], conjugate=True)
    assert sys.B.dtype == np.complex128 and sys.D.dtype == np.float64


def test_unsuitable_dtypes():
    with pytest.raises(lti.DimensionError, match="dtype float16 is not supported; convert to"):
        StateSpace(*(x.astype(np.float16) for x in (A, B, C)))
    with pytest.raises(lti.DimensionError, match="dtype .*; pass real or complex numbers|hold no"):
        StateSpace(np.array([["a"]]), [[1.0]], [[1.0]])
    with pytest.raises(lti.DimensionError, match="hold no numbers|pass real or complex"):
        StateSpace(np.array([[None]]), [[1.0]], [[1.0]])


def test_libraries_do_not_mix():
    for other in (torch.ones(2, 1), array_api_strict.ones((2, 1))):
        with pytest.raises(lti.DimensionError, match="different array libraries .*B: .*; pass all"):
            StateSpace(A, other, C)


# ------------------------------------------------------------------ shapes


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ((np.ones((2, 3)), B, C), r"A must be square, got shape \(2, 3\)"),
        ((A, np.ones((3, 1)), C), r"B has shape \(3, 1\) but A has 2 states; B must be"),
        ((A, B, np.ones((1, 3))), r"C has shape \(1, 3\) but A has 2 states; C must be"),
        ((A, B, C, np.ones((2, 2))), r"D has shape \(2, 2\) but C has 1 outputs and B 1 inputs"),
        (
            (A, np.ones(2), C),
            r"B must be a matrix .* got shape \(2,\); a single column is \(n, 1\)",
        ),
        ((A, B, np.ones(2)), r"C must be a matrix"),
        ((1.0, B, C), r"A must be a matrix .* got shape \(\)"),
        ((A, B, C, 0.0), r"D has shape \(\) but"),
        (
            (np.stack([A] * 2), np.stack([B] * 3), C),
            r"the leading axes do not broadcast: \(2, 2, 2",
        ),
    ],
)
def test_wrong_shapes_of_dense_systems(matrices, message):
    with pytest.raises(lti.DimensionError, match=message):
        StateSpace(*matrices)


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ((0.5, B, C), "poles must have an axis, got a scalar"),
        (([0.5], B, C), r"B has shape \(2, 1\) but poles has 1 states"),
        (([0.5, 0.1], B, np.ones((1, 1))), r"C has shape \(1, 1\) but poles has 2 states"),
        (([0.5, 0.1], np.ones(2), C), "B must be a matrix"),
        ((np.ones((3, 2)) / 2, np.ones((2, 2, 1)), C), "the leading axes do not broadcast"),
    ],
)
def test_wrong_shapes_of_diagonal_systems(matrices, message):
    with pytest.raises(lti.DimensionError, match=message):
        DiagonalStateSpace(*matrices)


def test_leading_axes_broadcast(library):
    stacked = StateSpace(library(A), library(np.ones((4, 1, 2, 1))), library(np.ones((3, 1, 2))))
    assert stacked.batch_shape == (4, 3)
    assert tuple(stacked.A.shape) == (4, 3, 2, 2) and tuple(stacked.D.shape) == (4, 3, 1, 1)
    ring = DiagonalStateSpace(library(np.array([0.5, 0.25])), library(np.ones((3, 2, 1))),
                              library(C))  # fmt: skip
    assert ring.batch_shape == (3,) and tuple(ring.poles.shape) == (3, 2)
    assert tuple(ring.A.shape) == (3, 2, 2)


# ------------------------------------------------------------------ numbers


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["A", "B", "C", "D"])
def test_numbers_that_are_not_finite(library, name, bad):
    matrices = {"A": A.copy(), "B": B.copy(), "C": C.copy(), "D": np.zeros((1, 1))}
    index = tuple(k - 1 for k in matrices[name].shape)
    matrices[name][index] = bad
    message = f"{name} has 1 entries that are not finite, the first {bad} at index {index}; clean"
    with pytest.raises(lti.NonFiniteError) as caught:
        StateSpace(**{k: library(x) for k, x in matrices.items()})
    assert message in str(caught.value)


def test_poles_that_are_not_finite():
    with pytest.raises(lti.NonFiniteError, match=r"poles has 2 entries .* at index \(1,\)"):
        DiagonalStateSpace([0.5, np.nan, np.inf * 1j], np.ones((3, 1)), np.ones((1, 3)))


def test_a_conjugate_system_is_real():
    with pytest.raises(lti.DimensionError, match="real, but D is complex; pass its real part"):
        DiagonalStateSpace([0.5], [[1.0]], [[1.0]], [[1j]], conjugate=True)


# ------------------------------------------------------------------ time


@pytest.mark.parametrize("dt", [0, 0.0, 1, 0.1, True, np.float64(0.1), np.int64(0), np.bool_(True)])
def test_time_bases(dt):
    sys = StateSpace(A / 2, B, C, dt=dt)
    assert (
        sys.dt == dt
        and sys.is_discrete == bool(dt)
        and (sys.dt is True) == (isinstance(dt, (bool, np.bool_)))
    )


@pytest.mark.parametrize("dt", [-1, False, None, np.nan, np.inf, "0.1", np.False_, 1j])
def test_what_is_no_time_base(dt):
    with pytest.raises(lti.TimebaseError, match="dt=.* is not a time base; pass 0"):
        StateSpace(A, B, C, dt=dt)
    with pytest.raises(lti.TimebaseError, match="dt=.* is not a time base; pass 0"):
        DiagonalStateSpace([0.5], [[1.0]], [[1.0]], dt=dt)


@pytest.mark.parametrize(
    ("one", "other", "joint"),
    [
        (0, 0, 0),
        (True, True, True),
        (True, 0.1, 0.1),
        (0.1, True, 0.1),
        (0.1, 0.1, 0.1),
        (0, 0.0, 0),
    ],
)
def test_time_bases_that_go_together(one, other, joint):
    difference = StateSpace(A / 2, B, C, dt=one) - StateSpace(A / 2, B, C, dt=other)
    assert difference.dt == joint and (difference.dt is True) == (joint is True)


@pytest.mark.parametrize(("one", "other"), [(0, True), (True, 0), (0, 0.1), (0.1, 0.2), (1, 0)])
def test_time_bases_that_do_not(one, other):
    message = f"different time bases, dt={one} and dt={other}; convert one of them first"
    with pytest.raises(lti.TimebaseError, match=message):
        StateSpace(A / 2, B, C, dt=one) - StateSpace(A / 2, B, C, dt=other)


# ------------------------------------------------------------------ differences


@given(systems(dt=True, max_order=4), st.integers(0, 99))
def test_difference_subtracts_responses(sys, seed):
    other = random_dense(3, sys.n_inputs, sys.n_outputs, dt=True, seed=seed)
    gap, s = sys - other, boundary(sys, 20)
    assert gap.order == sys.order + 3
    expected = response(sys, s) - response(other, s)
    np.testing.assert_allclose(
        response(gap, s), expected, atol=1e-12 * (1 + np.abs(expected).max())
    )


def test_differences_that_make_no_sense():
    sys = StateSpace(A, B, C)
    with pytest.raises(lti.DimensionError, match="got 1 inputs, 1 outputs and 2, 1"):
        sys - StateSpace(A, np.ones((2, 2)), C)
    with pytest.raises(lti.DimensionError, match=r"batches of one shape .* \(\) and \(3,\)"):
        sys - StateSpace(np.stack([A] * 3), B, C)
    for other in ("1", (A, B, C)):
        with pytest.raises(TypeError, match="unsupported operand"):
            sys - other


# ------------------------------------------------------------------ stability


@pytest.mark.parametrize(
    ("poles", "dt", "message"),
    [
        ([0.5, 1.5], True, "1 of 2 poles are unstable: the worst, 1.5, is outside the open unit "
                           "disc (by 0.5); remove or stabilise these modes first"),
        ([-1.25, 1.0], 0.1, "2 of 2 poles are unstable: the worst, -1.25, is outside the open"),
        ([1.0], True, "the worst, 1, is on the boundary of the open unit disc (by 0)"),
        ([-1.0, 0.25], 0, "1 of 2 poles are unstable: the worst, 0.25, is outside the open left "
                          "half-plane (by 0.25)"),
        ([0.0], 0, "the worst, 0, is on the boundary of the open left half-plane (by 0)"),
        ([1j], 0, "the worst, 0+1j, is on the boundary"),
    ],
)  # fmt: skip
def test_the_worst_pole_is_named(poles, dt, message):
    n = len(poles)
    sys = DiagonalStateSpace(np.array(poles), np.ones((n, 1)), np.ones((1, n)), dt=dt)
    with pytest.raises(lti.UnstableError) as caught:
        lti.hankel_singular_values(sys)
    assert message in str(caught.value)


def test_every_error_is_a_value_error_of_one_family():
    names = [name for name in lti.__all__ if name.endswith("Error")]
    for name in names:
        assert issubclass(getattr(lti, name), lti.LTIError) and issubclass(lti.LTIError, ValueError)
