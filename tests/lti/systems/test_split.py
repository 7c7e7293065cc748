"""Stable and unstable parts: their sum is the system, the unstable one is kept."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti.systems.split import split
from tests.lti.helpers import (
    boundary,
    close,
    diagonal_systems,
    quiet,
    random_dense,
    response,
    same_response,
)


def shifted(sys, seed):
    """`sys` with some of its poles mirrored to the other side, none on the boundary."""
    stays = np.random.default_rng(seed).random(sys.poles.shape) < 0.5
    if sys.is_discrete:  # those near 0 go no further than 2.5: next to 1e15 all poles are marginal
        mirrored = 1.25 / np.where(abs(sys.poles) < 0.5, 0.5, sys.poles).conj()
    else:
        mirrored = -np.conj(sys.poles)
    return replace(sys, poles=np.where(stays, sys.poles, mirrored))


@given(diagonal_systems(), st.integers(0, 99))
def test_a_system_is_the_sum_of_its_parts(sys, seed):
    sys = shifted(sys, seed)
    for form in (sys, sys.to_dense()):
        parts = split(form)
        stable, rest, dense = parts.stable, parts.rest, form.to_dense()
        assert stable.order + rest.order <= sys.order and type(stable) is type(form)
        close(parts.W @ parts.T, np.eye(stable.order + rest.order), 1e-9)
        whole = rest.to_dense() + stable.to_dense() if rest.order else stable
        w = np.array([0.1, 1.7])  # where no pole lies
        np.testing.assert_allclose(
            lti.frequency_response(whole, w), lti.frequency_response(form, w), atol=1e-6
        )
        size = np.abs(parts.T).max(initial=1.0) * np.abs(parts.W).max(initial=1.0)
        size *= 1 + np.abs(dense.A).max(initial=0.0)
        both = np.block([[rest.A, np.zeros((rest.order, stable.order))],
                         [np.zeros((stable.order, rest.order)), stable.to_dense().A]])  # fmt: skip
        turned = parts.W @ dense.A @ parts.T
        np.testing.assert_allclose(
            turned, both, atol=1e-9 * size * (1 + np.abs(dense.A).max(initial=0.0))
        )
        stable_poles, rest_poles = np.asarray(stable.poles), np.asarray(rest.poles)
        if sys.is_discrete:
            assert (abs(stable_poles) < 1).all() and (abs(rest_poles) >= 1).all()
        else:
            assert (stable_poles.real < 0).all() and (rest_poles.real >= 0).all()
        assert np.isrealobj(rest.A) == np.isrealobj(dense.A)


@pytest.mark.parametrize("dt", [0, True, 0.5])
@pytest.mark.parametrize("reduce", [lti.balanced_truncation, lti.singular_perturbation])
def test_the_unstable_part_is_kept_and_the_certificate_is_of_the_rest(dt, reduce):
    good = random_dense(6, 2, 3, dt=dt, seed=1)
    bad = np.array([[1.2, 0.5], [-0.5, 1.2]])
    A = scipy.linalg.block_diag(good.A, bad) + np.eye(8, k=3) / 4
    sys = lti.StateSpace(
        A, np.ones((8, 2)) + np.eye(8, 2), np.ones((3, 8)) + np.eye(3, 8), None, dt
    )
    with pytest.raises(lti.UnstableError, match='2 of 8 poles are unstable.*unstable="split"'):
        reduce(sys, 4)
    parts = split(sys)
    sigma = lti.hankel_singular_values(parts.stable)
    for order in range(2, 9):
        reduction = reduce(sys, order, unstable="split")
        assert reduction.order == order and np.isrealobj(reduction.system.A)
        np.testing.assert_array_equal(reduction.hsv[:2], np.inf)
        np.testing.assert_allclose(reduction.hsv[2:], sigma, rtol=1e-12)
        kept = np.sort_complex(reduction.system.poles)[-2:]
        np.testing.assert_allclose(kept, [1.2 - 0.5j, 1.2 + 0.5j], rtol=1e-12)
        error = lti.hinf_norm(parts.stable - reduction.pair[1])
        np.testing.assert_allclose(reduction.verify(), error, rtol=1e-6, atol=1e-12)
        assert reduction.lower_bound <= error + 1e-12 and error <= reduction.error_bound + 1e-12
        s = boundary(sys, 60)
        gap = response(sys, s) - response(reduction.system, s)
        assert np.linalg.norm(gap, 2, axis=(1, 2)).max() <= error * (1 + 1e-6) + 1e-11
    with pytest.raises(lti.OrderError, match="order 1 is less than the 2 states of unstable poles"):
        reduce(sys, 1, unstable="split")
    assert quiet(reduce, sys, tol=1e6, unstable="split").order == 2
    assert quiet(reduce, sys, energy=1e-9, unstable="split").order == 3


def test_integrators_are_kept_and_said_to_be_on_the_boundary():
    sys = lti.StateSpace(np.diag([0.0, -1.0, -2.0]), np.ones((3, 1)), np.ones((1, 3)))
    with pytest.raises(lti.UnstableError, match="is on the boundary of the open left half-plane"):
        lti.balance(sys)
    reduction = lti.balanced_truncation(sys, 2, unstable="split")
    assert reduction.system.poles.real.max() == 0
    assert reduction.lower_bound <= reduction.verify() <= reduction.error_bound * (1 + 1e-9) < 0.1


def test_a_stack_splits_where_its_members_agree(library):
    poles = np.array([[0.5, 1.5, 0.25], [-2.0, 0.1, 0.3]])
    sys = library.system(lti.DiagonalStateSpace(poles, np.ones((3, 2)), np.ones((2, 3))))
    for form in (sys, sys.to_dense()):
        reduction = lti.balanced_truncation(form, 2, unstable="split")
        assert library.owns(reduction.system.A, reduction.verify())
        error, bound = np.asarray(reduction.verify()), np.asarray(reduction.error_bound)
        assert error.shape == (2,) and (error <= bound * (1 + 1e-8)).all()
    uneven = lti.DiagonalStateSpace(
        np.abs(poles) - [[0, 0, 0], [1.5, 0, 0]], np.ones((3, 1)), np.ones((1, 3))
    )
    with pytest.raises(lti.DimensionError, match="from 0 to 1 unstable poles"):
        lti.balance(uneven, unstable="split")


@pytest.mark.parametrize("unit", [1.0, 1e6, 1e9])
def test_the_rounding_of_a_split_does_not_depend_on_the_units(unit):
    d = np.array([unit, 1.0, 1.0, 1.0])
    A, B, C = np.diag([0.0, -1.0, -3.0, -10.0]), np.ones((4, 1)) / d[:, None], np.ones((1, 4)) * d
    balancing = lti.balance((A, B, C), unstable="split")
    np.testing.assert_allclose(balancing.hsv[1:3], [0.656, 0.0548], rtol=2e-3)
    reduction = balancing.truncate(2)
    assert reduction.flags == ()
    np.testing.assert_allclose(reduction.verify(), reduction.error_bound, rtol=1e-6)
    claim = replace(reduction.claim, error_bound=reduction.error_bound / 100)
    with pytest.raises(lti.CertificateError):
        replace(reduction, claim=claim).verify()


def test_unstable_states_that_do_nothing_are_left_out():
    A, B, C = np.diag([1.0, 2.0, -3.0, -4.0]), np.array([[1.0, 0, 1, 1]]).T, np.ones((1, 4))
    for turn in (np.eye(4), np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]):
        for b, c in ((B, C), (C.T, B.T)):  # not reached, or not seen
            sys = lti.StateSpace(turn @ A @ turn.T, turn @ b, c @ turn.T)
            balancing = lti.balance(sys, unstable="split")
            assert balancing.minimal_order == 3 and balancing.smallest_order == 1
            assert balancing.hsv.shape == (4,) and np.isinf(balancing.hsv[:1]).all()
            small = balancing.truncate(3)
            w = np.array([0.3, 2.0])
            np.testing.assert_allclose(
                lti.frequency_response(small.system, w), lti.frequency_response(sys, w), rtol=1e-9
            )
            assert lti.modal_truncation(sys, 3, unstable="split").order == 3
            assert lti.hankel_norm_approximation(sys, 2, unstable="split").verify() > 0
    modal = lti.DiagonalStateSpace(np.diag(A), B, C)
    assert lti.balance(modal, unstable="split").minimal_order == 3


def test_a_chain_is_split_in_any_units():
    rng = np.random.default_rng(0)
    A = np.diag([-1.0, 0.5, -2.0, 0.25, -3.0]) + np.diag(np.full(4, 1e5), 1)
    B, C = np.eye(5)[:, 4:], np.eye(5)[:1]
    expected = lti.balance((A, B, C), unstable="split").hsv
    for _ in range(5):
        d = 2.0 ** rng.integers(-40, 40, 5)
        sys = A / d[:, None] * d, B / d[:, None], C * d
        np.testing.assert_allclose(lti.balance(sys, unstable="split").hsv, expected, rtol=1e-12)


@pytest.mark.parametrize("module", [np, torch])
def test_unstable_states_that_do_nothing_are_left_out_of_a_batch(module):
    n, rng = 4, np.random.default_rng(0)
    A = np.stack([np.diag([-1.0, -2.0, -3.0, 0.5]), np.diag([-1.5, 0.7, -2.5, -4.0])])
    B, C = rng.normal(size=(2, n, 1)), rng.normal(size=(2, 1, n))
    B[0, 3] = 0  # no input reaches the unstable state of the first system
    both = B.copy()
    both[1, 1] = 0  # nor that of the second
    kept = {False: 4, True: 3}
    for nothing, inputs in ((False, B), (True, both)):
        sys = lti.StateSpace(*(module.asarray(x) for x in (A, inputs, C)))
        balancing = lti.balance(sys, unstable="split")
        assert balancing.minimal_order == kept[nothing]
        if nothing:
            reduced = balancing.truncate(3).system
            for i in (0, 1):
                full, small = (
                    lti.StateSpace(*(np.asarray(x[i]) for x in form.matrices))
                    for form in (sys, reduced)
                )
                same_response(full, small, 1e-12)


def in_some_bases(A, seeds=3):
    """The system of A, all inputs and outputs, as it is and in rotated bases."""
    n = len(A)
    yield lti.StateSpace(A, np.ones((n, 1)), np.ones((1, n)))
    for seed in range(seeds):
        Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
        yield lti.StateSpace(Q @ A @ Q.T, Q @ np.ones((n, 1)), np.ones((1, n)) @ Q.T)


BESIDE = {
    "an integrator": np.zeros((1, 1)),
    "two in a row": np.eye(2, k=1),
    "three in a row": np.eye(3, k=1),
    "an oscillator": np.array([[0.0, 1.0], [-1.0, 0.0]]),
    "a fast unstable pole": np.array([[1e4]]),
}


@pytest.mark.parametrize(
    "name, fast",  # what coincides at zero is hidden by the rounding of a pole at 1e8
    [(x, fast) for x in BESIDE for fast in (1e2, 1e6, 1e8) if len(BESIDE[x]) == 1 or fast < 1e8],
)
def test_slow_stable_poles_are_stable_beside_poles_on_the_boundary(name, fast):
    kept, stable = BESIDE[name], np.array([-0.01, -1.0, -3.0, -fast])
    k, n = len(kept), len(kept) + 4
    A = np.zeros((n, n))
    A[:k, :k], A[k:, k:] = kept, np.diag(stable)
    expected = lti.hankel_singular_values(
        lti.DiagonalStateSpace(stable, np.ones((4, 1)), np.ones((1, 4)), dt=0)
    )
    for sys in in_some_bases(A):
        found = lti.balance(sys, unstable="split").hsv
        assert np.isinf(found[:k]).all()
        np.testing.assert_allclose(found[k:], expected, rtol=1e-7 + 1e-10 * fast)


def test_a_free_chain_keeps_its_one_pole_at_zero():
    n = 60
    K = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    K[0, 0] = K[-1, -1] = 1
    A = np.block([[np.zeros((n, n)), np.eye(n)], [-K, -np.diag(np.eye(n)[-1])]])
    sys = lti.StateSpace(A, np.eye(2 * n)[:, [n]], np.eye(2 * n)[:1])
    assert lti.balance(sys, unstable="split").smallest_order == 1
