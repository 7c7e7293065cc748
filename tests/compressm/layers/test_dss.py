"""DSS: its equations, and the contract of layers of channels."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm.layers.dss import DSS
from compressm.layers.hippo import s4d_legs
from tests.compressm import layer_contract as contract

EXP, SOFTMAX = {"version": "exp"}, {"version": "softmax", "l_max": 25}
EACH_VERSION = pytest.mark.parametrize("options", [EXP, SOFTMAX], ids=["exp", "softmax"])


def dss(options=EXP, d_model=3, d_state=6, dtype=torch.float64, seed=0, **more):
    torch.manual_seed(seed)
    return DSS(d_model, d_state, **options, **more).to(dtype)


def eigenvalues(layer):
    re = layer.get_parameter("Lambda_re" if layer.version == "softmax" else "Lambda_log_neg_re")
    re = re if layer.version == "softmax" else -re.exp()
    return torch.complex(re, layer.Lambda_im).detach().numpy()


def kernel_by_hand(layer, length):
    """Proposition 1 of the paper, where the softmax of all steps is taken over the first l_max."""
    dt, W = layer.log_dt.detach().exp().numpy(), torch.view_as_complex(layer.W.detach()).numpy()
    K = np.zeros((len(dt), length))
    for h, Lambda in enumerate(np.broadcast_to(eigenvalues(layer), W.shape)):
        for w, eigenvalue in zip(W[h], Lambda, strict=True):
            powers = np.exp(eigenvalue * dt[h] * np.arange(length))
            if layer.version == "exp":
                mode = w / eigenvalue * (np.exp(eigenvalue * dt[h]) - 1) * powers
            else:
                total = np.exp(eigenvalue * dt[h] * np.arange(int(layer.l_max))).sum()
                mode = w / eigenvalue * powers / total
            K[h] += mode.real
    return torch.from_numpy(K)


@EACH_VERSION
@pytest.mark.parametrize("length", [1, 2, 25, 60])
@pytest.mark.parametrize("growing", [False, True])
def test_forward_is_the_equation(options, length, growing):
    layer = dss(options)
    if growing and layer.version == "softmax":
        with torch.no_grad():
            layer.Lambda_re[0, :3] = torch.tensor([0.1, 3.0, 0.7])
    u = contract.inputs(layer, length)
    K = torch.diag_embed(kernel_by_hand(layer, length).mT)
    with torch.no_grad():
        assert torch.allclose(layer(u), contract.convolved(layer, K, u), rtol=0, atol=1e-11)


def test_a_softmax_of_fast_growth_does_not_overflow():
    for dtype in (torch.float32, torch.float64):
        layer = dss({"version": "softmax", "l_max": 2000}, dtype=dtype, dt_min=0.1)
        torch.nn.init.constant_(layer.Lambda_re, 50.0)
        y = layer(contract.inputs(layer, 2000))
        y.square().sum().backward()
        assert torch.isfinite(y).all() and (y - layer.D * contract.inputs(layer, 2000)).any()
        assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_growing_modes_are_read_as_the_unstable_system_that_they_are():
    layer = dss(SOFTMAX)
    torch.nn.init.constant_(layer.Lambda_re, 0.2)
    contract.check_that_the_system_is_the_layer(layer)
    contract.check_that_steps_equal_forward(layer)
    with pytest.raises(lti.UnstableError):
        lti.hankel_singular_values(layer.to_lti())


@EACH_VERSION
def test_where_it_starts(options):
    layer = dss(options, d_model=300, d_state=8)
    assert np.allclose(eigenvalues(layer), s4d_legs(8).numpy()[None], rtol=1e-6)
    assert layer.W.var().item() == pytest.approx(1, rel=0.05)
    assert layer.D.var().item() == pytest.approx(1, rel=0.2)
    assert layer.W.shape == (300, 8, 2) and layer.Lambda_im.shape == (1, 8)
    assert np.log(0.001) < layer.log_dt.min() and layer.log_dt.max() < np.log(0.1)


def test_options_are_checked():
    with pytest.raises(lti.OptionError, match="version must be 'exp' or 'softmax'; got 'clip'"):
        dss({"version": "clip"})
    with pytest.raises(lti.OptionError, match="got l_max=None"):
        dss({"version": "softmax"})


@given(
    log_re=st.sampled_from([-80.0, 80.0]) | st.floats(-80, 80),
    im=st.floats(-1e6, 1e6),
    log_dt=st.floats(-30, 5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_poles_of_exp_are_inside_the_unit_circle_also_after_rounding(log_re, im, log_dt, dtype):
    layer = dss(EXP, 1, 1, dtype)
    for name, value in (("Lambda_log_neg_re", log_re), ("Lambda_im", im), ("log_dt", log_dt)):
        torch.nn.init.constant_(layer.get_parameter(name), value)
    assert layer._system()[0].abs() < 1
    assert abs(layer.poles.item()) < 1
    assert torch.isfinite(layer(contract.inputs(layer))).all()
    layer.load_lti_(layer.to_lti())
    assert all(torch.isfinite(p).all() for p in layer.parameters())


@EACH_VERSION
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_system_to_layer(options, dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    contract.check_round_trip(dss(options, dtype=dtype), tolerance)
    contract.check_other_numbers_of_states(dss(options, dtype=dtype), tolerance)
    contract.check_awkward_poles(dss(options, dtype=dtype), tolerance * 10)
    contract.check_real_modes(dss(options, dtype=dtype), tolerance)


@EACH_VERSION
def test_from_layer_to_system(options):
    contract.check_that_the_system_is_the_layer(dss(options))
    contract.check_that_the_system_is_double_and_owns_its_memory(dss(options))
    contract.check_derivatives_of_hankel_singular_values(dss(options, 2, 2))
    contract.check_a_reduced_system(dss(options, d_state=8))


@EACH_VERSION
def test_the_layer_itself(options):
    for length, batch in ((30, 2), (1, 1), (2, 1), (17, 3)):
        contract.check_that_steps_equal_forward(dss(options), length, batch)
    contract.check_that_steps_equal_forward(dss(options, d_state=0))
    contract.check_that_inputs_are_checked(dss(options))
    contract.check_that_gradients_reach_every_parameter(dss(options))
    contract.check_mixed_precision(dss(options, dtype=torch.float32))
    contract.check_what_systems_may_be(partial(dss, options))
    contract.check_single_precision(dss(options, dtype=torch.float32), 1e-6, length=1000)
    contract.check_refusals(dss(options, dtype=torch.float32))


@EACH_VERSION
@pytest.mark.parametrize("n", [0, 4, 6, 11])
def test_state_dicts(options, n):
    def unshared(layer):
        layer.load_lti_(layer.to_lti())
        assert layer.Lambda_im.shape == (3, layer.d_state)
        return layer

    contract.check_that_a_state_dict_loads(dss(options), dss(options, d_state=n, seed=1))
    contract.check_that_a_state_dict_loads(dss(options), unshared(dss(options, d_state=n, seed=1)))
    contract.check_that_a_state_dict_loads(unshared(dss(options)), dss(options, d_state=n, seed=1))
    alien = dss(options, d_model=4, d_state=4)
    contract.check_that_other_state_dicts_are_refused(dss(options), alien, "W")
    contract.check_that_other_state_dicts_are_refused(unshared(dss(options)), alien, "Lambda_im")


def test_a_checkpoint_brings_the_length_that_it_was_normalised_by():
    layer, other = dss({"version": "softmax", "l_max": 7}), dss(SOFTMAX, seed=1)
    layer.load_state_dict(other.state_dict())
    assert layer.l_max == 25
    assert torch.equal(layer(contract.inputs(layer)), other(contract.inputs(layer)))
