"""Gramians of states and of spectra: what they tend to, and what balancing with them keeps."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lti
from lti.testing import (
    assert_gramian,
    assert_reproduces,
    assert_stays_stable,
    excitations,
    stable_systems,
)
from lti.testing.strategies import FORMS

SEEDS = st.integers(0, 999)


def states_of(sys, u):
    sys = sys.double().to_dense()
    x, states = np.zeros((len(u), sys.order), dtype=sys.A.dtype), []
    for now in np.moveaxis(u, 1, 0):
        x = x @ sys.A.T + now @ sys.B.T
        states.append(x)
    return np.stack(states, axis=1)


def square(S):
    return S @ np.conj(S.T)


@given(st.data(), stable_systems(), st.booleans())
def test_with_one_side_exact_every_order_is_stable(data, sys, dual):
    S = data.draw(excitations(sys))
    assert_stays_stable(sys, **{"observability" if dual else "controllability": S})


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(st.data(), stable_systems(), st.booleans())
def test_with_one_side_exact_ten_thousand_are_stable(data, sys, dual):
    S = data.draw(excitations(sys))
    assert_stays_stable(sys, **{"observability" if dual else "controllability": S})


def test_with_both_sides_given_it_need_not_be_and_the_assertion_sees_that():
    rng, wild = np.random.default_rng(0), 0
    for _ in range(200):
        A = rng.standard_normal((3, 3))
        A *= 0.95 / abs(np.linalg.eigvals(A)).max()
        sys = lti.StateSpace(A, rng.standard_normal((3, 1)), rng.standard_normal((1, 3)), dt=True)
        S, R = rng.standard_normal((2, 3, 3))
        balancing = lti.balance(sys, controllability=S, observability=R)
        poles = np.linalg.eigvals(balancing.balanced.A[:2, :2])
        wild += abs(poles).max() > 1
    assert wild > 5


def test_the_assertion_of_stability_can_fail(monkeypatch):
    sys = lti.StateSpace([[0.9, 5.0], [0.0, 0.9]], np.ones((2, 1)), np.ones((1, 2)), dt=True)
    exact = lti.testing.assertions.balance
    monkeypatch.setattr(
        "lti.testing.assertions.balance",
        lambda sys, controllability, observability: exact(
            sys, controllability=controllability, observability=np.diag([1.0, 0.01])
        ),
    )
    with pytest.raises(AssertionError, match="beyond the boundary"):
        assert_stays_stable(sys, controllability=np.array([[1.0, 0.9], [0.9, 1.0]]))


@settings(max_examples=50)
@given(stable_systems(dt=True, kind="generic"), SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_what_the_data_never_excite_costs_nothing(sys, seed, sequences, length):
    u = np.random.default_rng(seed).standard_normal((sequences, length, sys.n_inputs))
    assert assert_reproduces(sys, u) <= min(sys.order, sequences * length)


def test_a_reduction_that_misses_an_excited_direction_is_found(monkeypatch):
    sys = lti.StateSpace(np.diag([0.9, 0.5]), np.ones((2, 1)), np.ones((1, 2)), dt=True)
    exact = lti.testing.assertions.balance

    def worse(sys, controllability):
        S = controllability.factor * np.array([[1.0], [1e-14]])
        return exact(sys, controllability=S)

    monkeypatch.setattr("lti.testing.assertions.balance", worse)
    with pytest.raises(AssertionError, match="outputs that differ"):
        assert_reproduces(sys, np.ones((1, 9, 1)))


@settings(max_examples=50)
@given(stable_systems(kind="generic", dt=True))
def test_a_white_spectrum_gives_the_exact_gramian(sys):
    k = 1024  # poles are 1/8 from the circle: 0.875**1024 is below rounding
    white = np.broadcast_to(np.eye(sys.n_inputs), (k, *2 * (sys.n_inputs,))) / k**0.5
    P = square(lti.spectral_factor(sys, 2 * np.pi * np.arange(k) / k, white).factor)
    assert_gramian(sys, P)


def test_white_states_give_the_exact_gramian_within_sampling_error():
    sys = lti.DiagonalStateSpace([0.9, 0.5j], np.ones((2, 1)), np.ones((1, 2)), dt=True)
    P = lti.controllability_gramian(sys)
    errors = []
    for count in (20, 2000):
        u = np.random.default_rng(0).standard_normal((count, 200, 1))
        found = square(lti.GramianFactor.of_states(states_of(sys, u)[:, -1]).factor)
        errors.append(np.linalg.norm(found - P) / np.linalg.norm(P))
    assert errors[1] < 0.1 and errors[1] < errors[0] / 3


@settings(max_examples=50)
@given(
    st.sampled_from(FORMS).flatmap(lambda f: stable_systems(dt=True, form=f, kind="generic")),
    SEEDS,
    st.integers(1, 9),
    st.integers(1, 3),
)
def test_states_and_spectrum_of_the_same_inputs_agree(sys, seed, length, sequences):
    """Where the inputs repeat themselves until the start is forgotten."""
    real = not np.iscomplexobj(sys.to_dense().B) and not np.iscomplexobj(sys.to_dense().A)
    u = np.random.default_rng(seed).standard_normal((sequences, length, sys.n_inputs))
    w, roots = lti.input_spectrum(u)
    if not real:  # both signs of each frequency count
        k = np.arange(len(w))
        inner = (k > 0) & (2 * k < length)
        roots[inner] /= 2**0.5
        w = np.concatenate([w, -w[inner]])
        roots = np.concatenate([roots, roots[inner].conj()])
    S = lti.spectral_factor(sys, w, roots)
    periods = 300 // length + 2
    x = states_of(sys, np.tile(u, (1, periods, 1)))[:, -length:]
    expected = square(lti.GramianFactor.of_states(x.reshape(-1, sys.order)).factor)
    assert S.factor.shape[-1] <= max(sys.order, 2 * len(w) * sequences)
    np.testing.assert_allclose(
        square(S.factor), expected, rtol=1e-9, atol=1e-11 * abs(expected).max()
    )


def test_a_spectral_factor_is_what_enns_weighting_tends_to():
    sys = lti.StateSpace(np.diag([0.9, 0.2]), np.ones((2, 1)), np.ones((1, 2)), dt=True)
    weight = lti.StateSpace([[0.7]], [[1.0]], [[0.5]], [[0.2]], dt=True)
    w = 2 * np.pi * np.arange(512) / 512
    roots = lti.frequency_response(weight, w) / 512**0.5
    P = lti.spectral_factor(sys, w, roots)
    ours, enns = lti.balance(sys, controllability=P), lti.balance(sys, input_weight=weight)
    np.testing.assert_allclose(ours.hsv, enns.hsv, rtol=1e-12)


def test_a_continuous_system_under_one_frequency():
    sys = lti.StateSpace([[-1.0]], [[1.0]], [[1.0]])
    P = square(lti.spectral_factor(sys, [2.0], np.ones((1, 1, 1))).factor)
    np.testing.assert_allclose(P, [[1 / 5]])


@given(SEEDS, st.lists(st.integers(1, 7), min_size=1, max_size=4), st.booleans())
def test_one_batch_after_another_is_all_at_once(seed, sizes, is_complex):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((sum(sizes), 3)) + 1j * is_complex * rng.standard_normal(
        (sum(sizes), 3)
    )
    x = x * [1.0, 1e-7, 1e-14]  # small directions do not drown
    parts = np.split(x, np.cumsum(sizes)[:-1])
    P = lti.GramianFactor.of_states(parts[0])
    for part in parts[1:]:
        P = P.joined(part)
    scale = np.array([1.0, 1e-7, 1e-14])
    expected = x.T @ x.conj() / len(x)
    assert P.samples == len(x)
    np.testing.assert_allclose(
        square(P.factor) / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-8
    )


def test_a_gramian_as_it_is():
    P = np.array([[2.0, 1.0], [1.0, 2.0]])
    np.testing.assert_allclose(square(lti.GramianFactor.of_gramian(P).factor), P)
    torch.testing.assert_close(
        lti.GramianFactor.of_gramian(torch.eye(2, dtype=torch.float32)).factor,
        torch.eye(2, dtype=torch.float64),
    )
    with pytest.raises(lti.OptionError, match="eigenvalue -1"):
        lti.GramianFactor.of_gramian(np.diag([1.0, -1.0]))
    with pytest.raises(lti.OptionError, match=r"P - P\^H"):
        lti.GramianFactor.of_gramian(np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(lti.DimensionError, match="square"):
        lti.GramianFactor.of_gramian(np.ones((2, 3)))


def test_a_name_is_told():
    sys = lti.StateSpace(np.diag([0.9, 0.2]), np.ones((2, 1)), np.ones((1, 2)), dt=True)
    given = lti.GramianFactor(np.diag([1.0, 2.0]), "of the pump in March")
    reduction = lti.balanced_truncation(
        sys, order=1, controllability=given, observability=np.eye(2)
    )
    assert reduction.method == "balanced truncation, Gramians of the pump in March, user-supplied"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda s: lti.spectral_factor(s, [0.0], np.ones((2, 1, 1))), lti.DimensionError, "roots"),
        (lambda s: lti.spectral_factor(s, [0.0], [[[np.nan]]]), lti.NonFiniteError, "roots"),
        (lambda s: lti.input_spectrum(np.ones((2, 3))), lti.DimensionError, "sequences"),
        (lambda s: lti.input_spectrum(np.ones((2, 0, 1))), lti.DimensionError, "empty"),
        (lambda s: lti.GramianFactor.of_states(np.ones((0, 2))), lti.DimensionError, "sample"),
        (lambda s: lti.GramianFactor.of_states([[np.inf, 0.0]]), lti.NonFiniteError, "states"),
        (lambda s: assert_stays_stable(s), lti.OptionError, "one of"),
        (lambda s: assert_reproduces(s, np.ones((1, 2, 3))), lti.DimensionError, "inputs of"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(call, error, match):
    sys = lti.StateSpace([[0.5]], [[1.0]], [[1.0]], dt=True)
    with pytest.raises(error, match=match):
        call(sys)


@pytest.mark.parametrize("form", [lti.StateSpace, lti.DiagonalStateSpace])
def test_a_pole_at_a_frequency_is_said(form):
    A = np.ones((1, 1)) if form is lti.StateSpace else np.ones(1)
    sys = form(A, np.ones((1, 1)), np.ones((1, 1)), dt=True)
    with pytest.raises(lti.OptionError, match="a pole lies"):
        lti.spectral_factor(sys, [0.0], np.ones((1, 1, 1)))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_pole_whose_conjugate_lies_at_a_frequency_is_said(sign):
    z = np.exp(1j * np.array([np.pi / 2]))
    sys = lti.DiagonalStateSpace(
        z if sign > 0 else z.conj(), [[1.0]], [[1.0]], dt=True, conjugate=True
    )
    with pytest.raises(lti.OptionError, match="a pole lies"):
        lti.spectral_factor(sys, [np.pi / 2], np.ones((1, 1, 1)))


def test_states_join_only_the_mean_of_states_of_one_system():
    with pytest.raises(lti.OptionError, match="no mean of states"):
        lti.GramianFactor(np.eye(2)).joined(np.ones((3, 2)))
    with pytest.raises(lti.DimensionError, match="of one system"):
        lti.GramianFactor.of_states(np.ones((3, 2))).joined(np.ones((3, 4)))


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("form", FORMS)
def test_a_stack_is_its_members_in_each_library(form, library):
    rng = np.random.default_rng(0)
    poles = np.array([[0.5, 0.3], [0.2, -0.4]])
    B, C = rng.standard_normal((2, 2, 1)), rng.standard_normal((2, 1, 2))

    def make(p, b, c):
        if form == "dense":
            return lti.StateSpace(*map(library, (p[..., None] * np.eye(2), b, c)), dt=True)
        matrices = map(library, (p + 0.1j, b, c))
        return lti.DiagonalStateSpace(*matrices, dt=True, conjugate=form == "conjugate")

    w, roots = lti.input_spectrum(library(rng.standard_normal((2, 8, 1))))
    stack = make(poles, B, C)
    one = lti.spectral_factor(stack, w, roots).factor
    members = [lti.spectral_factor(make(poles[i], B[i], C[i]), w, roots).factor for i in range(2)]
    assert type(one) is type(members[0]) is type(library(B))
    for i in range(2):
        np.testing.assert_allclose(
            square(np.asarray(one[i])), square(np.asarray(members[i])), atol=1e-12
        )
