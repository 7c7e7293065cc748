"""Frequency responses against the definition, in every form a system has."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti import DiagonalStateSpace, StateSpace
from lti.systems import response as module
from tests.lti.helpers import random_dense, random_ring, response, systems

W = np.array([-3.0, -0.5, 0.0, 0.1, 1.0, 2.5])


def points(sys, w):
    return np.exp(1j * w * (1 if sys.dt is True else sys.dt)) if sys.is_discrete else 1j * w


@given(systems(), st.lists(st.floats(-10, 10), max_size=6))
def test_the_definition(sys, w):
    w = np.array(w)
    ours = lti.frequency_response(sys, w)
    assert ours.shape == (len(w), sys.n_outputs, sys.n_inputs) and ours.dtype == np.complex128
    expected = response(sys, points(sys, w))
    np.testing.assert_allclose(ours, expected, atol=1e-12 * (1 + np.abs(expected).max(initial=0)))


def test_a_discrete_response_is_the_transform_of_the_impulse_response():
    ring = random_ring(3, 2, 2, seed=1, smallest=0.1, largest=0.5, conjugate=True)
    dense, B = ring.to_dense(), ring.to_dense().B
    total = np.array([dense.D] * len(W), dtype=complex)
    for k in range(1, 80):
        total += np.exp(-1j * W * k)[:, None, None] * (dense.C @ B)
        B = dense.A @ B
    np.testing.assert_allclose(lti.frequency_response(ring, W), total, atol=1e-13)


def test_the_unit_of_frequency():
    sys = random_dense(3, dt=0.25, seed=2)
    unit = StateSpace(sys.A, sys.B, sys.C, sys.D, True)
    np.testing.assert_allclose(
        lti.frequency_response(sys, W), lti.frequency_response(unit, W / 4), rtol=1e-13
    )


@given(systems(dt=0))
def test_real_systems_are_conjugate_symmetric(sys):
    if np.iscomplexobj(sys.to_dense().A) or np.iscomplexobj(sys.to_dense().B):
        return
    np.testing.assert_allclose(
        lti.frequency_response(sys, -W), lti.frequency_response(sys, W).conj(), atol=1e-11
    )


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("stack", [(), (3,), (2, 3)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_a_stack_is_a_loop_in_every_library(library, is_complex, stack, dt):
    sys = random_dense(3, dt=dt, stack=stack, is_complex=is_complex, seed=3)
    values = lti.frequency_response(library.system(sys), W)
    assert library.owns(values) and tuple(values.shape) == (*stack, 6, 3, 2)
    for i in np.ndindex(stack):
        one = StateSpace(sys.A[i], sys.B[i], sys.C[i], sys.D[i], dt)
        np.testing.assert_allclose(np.asarray(values)[i], response(one, points(one, W)), rtol=1e-10)


@pytest.mark.parametrize("conjugate", [False, True])
def test_a_diagonal_stack_is_a_loop_in_every_library(library, conjugate):
    rings = [random_ring(3, 2, 4, seed=k, conjugate=conjugate) for k in range(3)]
    poles, B, C, D = (np.stack([getattr(r, k) for r in rings]) for k in ("poles", "B", "C", "D"))
    stack = library.system(DiagonalStateSpace(poles, B, C, D, True, conjugate))
    values = lti.frequency_response(stack, library(W))
    assert library.owns(values)
    for value, ring in zip(np.asarray(values), rings, strict=True):
        np.testing.assert_allclose(value, response(ring, np.exp(1j * W)), rtol=1e-11)


def test_many_frequencies_are_done_in_pieces(monkeypatch):
    sys = random_dense(5, seed=4, stack=(2,))
    whole = lti.frequency_response(sys, W)
    monkeypatch.setattr(module, "CHUNK", 2 * 25 * 4)
    np.testing.assert_array_equal(lti.frequency_response(sys, W), whole)


@pytest.mark.parametrize("single", [np.float32, np.complex64])
def test_single_precision(library, single):
    sys = StateSpace(*(library(np.asarray(x, single)) for x in (-np.eye(2), np.ones((2, 1)),
                                                               np.ones((1, 2)))))  # fmt: skip
    values = np.asarray(lti.frequency_response(sys, W))
    assert values.dtype == np.complex64
    np.testing.assert_allclose(values[:, 0, 0], 2 / (1 + 1j * W), rtol=1e-6)


@pytest.mark.parametrize(("n", "m", "p"), [(0, 2, 3), (3, 0, 2), (3, 2, 0)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_no_states_inputs_or_outputs(library, n, m, p, diagonal):
    sys = DiagonalStateSpace(np.full(n, 0.5), np.ones((n, m)), np.ones((p, n)), np.ones((p, m)))
    sys = library.system(sys if diagonal else sys.to_dense())
    values = np.asarray(lti.frequency_response(sys, W))
    assert values.shape == (6, p, m)
    if n == 0:
        np.testing.assert_array_equal(values, 1)


@pytest.mark.parametrize("w", [[1j], 1.0, [[1.0]]])
def test_senseless_frequencies(w):
    with pytest.raises(lti.DimensionError, match="w must be a vector of real frequencies, got"):
        lti.frequency_response(random_dense(2), w)


def test_unstable_systems_have_responses():
    np.testing.assert_allclose(lti.frequency_response(([[1.0]], [[1.0]], [[1.0]]), [0.0]), [[[-1]]])


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("dt", [0, True])
def test_many_points_share_a_schur_form(monkeypatch, dt, is_complex):
    sys, w = random_dense(40, 2, 3, dt=dt, seed=1, is_complex=is_complex), np.linspace(-3, 3, 101)
    fast = lti.frequency_response(sys, w)
    monkeypatch.setattr(module, "MANY", 1000)
    slow = lti.frequency_response(sys, w)
    assert not np.array_equal(fast, slow)
    np.testing.assert_allclose(fast, slow, atol=1e-12 * np.abs(slow).max())


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("seed", range(5))
def test_an_integrator_in_any_basis_has_no_gain_at_zero(dt, seed):
    rng = np.random.default_rng(seed)
    R, units = rng.standard_normal((6, 6)), 10 ** rng.uniform(-6, 6, 6)
    poles = np.array([0.0, -0.3, -0.5, -0.7, -0.9, -1.1]) + bool(dt)
    A = R @ np.diag(poles) @ np.linalg.inv(R) / units[:, None] * units
    sys = lti.as_statespace((A, np.ones((6, 1)), np.ones((1, 6)), None, dt))
    with pytest.raises(lti.OptionError, match="pole at frequency zero"):
        lti.dcgain(sys)
    with pytest.raises(lti.OptionError, match="pole at frequency zero"):
        lti.frequency_response(sys, [0.1, 0.0])
    assert np.isfinite(lti.frequency_response(sys, [0.1])).all()


def test_slow_poles_that_the_entries_determine_are_no_integrators():
    slow = StateSpace([[-1e-20, 0.0], [1e10, -1.0]], [[1.0], [0.0]], [[0.0, 1e-20]])
    assert np.allclose(lti.dcgain(slow), 1e10)
    companion = np.diag(np.ones(11), 1)
    companion[-1] = -np.poly(-np.arange(1.0, 13))[:0:-1]
    gain = lti.dcgain((companion, np.eye(12)[:, -1:], np.eye(12)[:1]))
    assert np.allclose(gain, 1 / np.prod(np.arange(1.0, 13)), rtol=1e-9)


def test_a_response_beyond_the_range_is_said_to_be_one():
    with pytest.raises(lti.OptionError, match="beyond the range"):
        lti.frequency_response(([[-1.0]], [[1e200]], [[1e200]]), [0.0])


@pytest.mark.parametrize("b", [0, 8, 16, 24, 40])
@pytest.mark.parametrize("a", [0, 8, 16, 40])
def test_no_spread_of_entries_costs_digits_of_a_gain(a, b):
    for c in range(0, 41, 8):
        E = [[10.0**-a, 10.0**b], [10.0**-c, 1.0]]
        (p, q), (r, s) = [[Fraction(x) for x in row] for row in E]
        det = p * s - q * r
        if abs(det) < (p * s + q * r) / 1000:
            continue
        found = lti.dcgain((-np.array(E), np.ones((2, 1)), np.array([[0.0, 1.0]]))).item()
        assert abs(Fraction(found) - (p - r) / det) <= 1e-9 * (p + r) / abs(det)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("upper", [True, False])
def test_a_cascade_in_any_order_of_its_states(upper, library):
    A = 100 * np.triu(np.random.default_rng(0).standard_normal((3, 12, 12)), 1) - np.eye(12)
    b, c = np.eye(12)[:, -1:], np.eye(12)[:1]
    matrices = [A, np.stack([b] * 3), np.stack([c] * 3)]
    exact = np.array([lti.frequency_response((x, b, c), [0.0]).real.item() for x in A])
    if not upper:
        A, B, C = matrices
        matrices = [A[:, ::-1, ::-1].copy(), B[:, ::-1].copy(), C[:, :, ::-1].copy()]
    if library == "torch":
        matrices = [torch.tensor(x) for x in matrices]
    for sys in (lti.StateSpace(*matrices), lti.StateSpace(*(x[0] for x in matrices))):
        gain = np.asarray(lti.dcgain(sys)).reshape(-1)
        np.testing.assert_allclose(gain, exact[: len(gain)], rtol=1e-9)
        assert np.abs(np.asarray(lti.bilinear(sys).poles)).max() < 1e-3
        sampled = np.asarray(lti.discretize(sys, 0.1, "bilinear").poles)
        assert np.abs(sampled - 0.95 / 1.05).max() < 1e-9
