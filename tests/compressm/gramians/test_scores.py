"""The scores of the states of a selective layer, against a plain loop and autograd."""

import copy

import numpy as np
import pytest
import torch

import lti
from compressm.gramians.signals import Signal
from compressm.gramians.types import state_values
from compressm.systems.selective.evaluate import coefficients
from compressm.systems.selective.keep import keep_states_
from tests.compressm.selective_layers import (
    FOREIGN,
    GRAMIANS,
    N,
    layer_of,
    own,
    signal,
    step_through,
)


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_scores_are_those_of_a_plain_loop_and_of_autograd(name, exact):
    layer, s = layer_of(name), signal(batch=3, length=12)
    states, (_, dt, A, B, C), output = step_through(layer, s.u)
    (output * s.g).sum().backward()
    P = torch.stack(states).square().mean((0, 1)).detach()
    Q = torch.stack([h.grad for h in states]).square().mean((0, 1))
    dt, B, C = (part.mean((0, 1)) for part in (dt, B, C))
    shown = C.square() / (1 - (dt[:, None] * A).exp() ** 2)
    driven = (dt[:, None] * B).square() / (1 - (dt[:, None] * A).exp() ** 2)
    parts = [Signal(s.u[:1], s.g[:1]), Signal(s.u[1:], s.g[1:])]
    for gramians, product in {"model": driven * shown, "input": P * shown, "data": P * Q}.items():
        values = state_values(layer, parts, gramians)
        rtol = 1e-5 if hasattr(layer, "norm") else 1e-10  # the norm is in single precision
        assert np.allclose(values, product.sqrt().sum(0).detach(), rtol=rtol), gramians


def test_exact_scores_are_hankel_values_of_the_modes_of_the_mean_system():
    layer, s = own(), signal()
    G = layer.surrogate(s.u)
    modes = [
        lti.DiagonalStateSpace(G.poles[:, [n]], G.B[:, [n]], G.C[..., [n]], dt=True)
        for n in range(N)
    ]
    expected = [lti.hankel_singular_values(mode).sum().item() for mode in modes]
    assert np.allclose(state_values(layer, [s], "model"), expected, rtol=1e-10)


@pytest.mark.parametrize("gramians", GRAMIANS)
@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_scores_go_with_the_states(name, gramians, exact):
    layer, s, permuted = layer_of(name), [signal()], [3, 5, 0, 1, 4, 2]
    before = state_values(layer, s, gramians)
    assert before.shape == (N,) and before.dtype == np.float64 and (before > 0).all()
    keep_states_(layer, permuted)
    assert np.allclose(state_values(layer, s, gramians), before[permuted], rtol=1e-6)


@pytest.mark.parametrize("gramians", GRAMIANS)
@pytest.mark.parametrize("matrix", ["B", "C"])
def test_states_that_are_not_driven_or_not_read_score_zero(matrix, gramians):
    layer, s, at = own(), signal(), 1 if matrix == "B" else 1 + N
    with torch.no_grad():
        layer.x_proj.weight[at + 2] = 0
    values = state_values(layer, [s], gramians)
    assert values[2] == 0 and (np.delete(values, 2) > 0).all()


def test_states_without_influence_on_the_loss_score_zero():
    layer, s = own(), signal()
    with torch.no_grad():  # one channel is driven, and of that one nothing goes out
        layer.in_proj.weight[:16].zero_()
        layer.conv1d.bias.zero_()
        layer.conv1d.bias[0] = 1.0
        layer.out_proj.weight[:, 0] = 0
    assert (state_values(layer, [s], "input") > 0).all()
    assert (state_values(layer, [s], "data") == 0).all()


def test_only_second_moments_see_what_averages_to_zero():
    layer, s = own(), signal()
    x = coefficients(layer, s.u).x.mean((0, 1))
    with torch.no_grad():
        row = layer.x_proj.weight[1 + 2]  # of B: at right angles to the mean of x
        row -= (row @ x) / (x @ x) * x
    values = {gramians: state_values(layer, [s], gramians) for gramians in GRAMIANS}
    values = {gramians: value[2] / value.max() for gramians, value in values.items()}
    assert values["model"] < 1e-12 and min(values["input"], values["data"]) > 0.01


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_single_precision_is_summed_in_double(gramians):
    layer, s = own(), signal(batch=8, length=200)
    double = state_values(layer, [s], gramians)
    single = state_values(copy.deepcopy(layer).float(), [s], gramians)
    half = state_values(layer.bfloat16(), [s], gramians)
    assert coefficients(layer, s.u).B.dtype == torch.float32  # and no state is in half precision
    assert np.allclose(single, double, rtol=1e-4) and np.allclose(half, double, rtol=0.2)


def test_scores_that_cannot_be_computed_are_refused():
    layer, s = own(), signal()
    with pytest.raises(lti.DimensionError, match="none of its inputs was observed"):
        state_values(layer, [])
    with pytest.raises(lti.DimensionError, match="no gradient at its output"):
        state_values(layer, [Signal(s.u)], "data")
    with pytest.raises(lti.OptionError, match="got 'exact'"):
        state_values(layer, [s], "exact")
    s.u[0, 3, 0] = float("nan")
    with pytest.raises(lti.NonFiniteError, match="not finite"):
        state_values(layer, [s])
