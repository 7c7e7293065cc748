"""The LRU: its equation, where it starts, how it stores modes, and the contract of layers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressm import LRU
from tests.compressm import layer_contract as contract


def lru(d_model=3, d_state=12, dtype=torch.float32, seed=0, **options):
    torch.manual_seed(seed)
    return LRU(d_model, d_state, **options).to(dtype)


def test_forward_is_the_equation():
    layer = lru(dtype=torch.float64)
    u = torch.randn(2, 50, 3, dtype=torch.float64)
    nu, theta, gamma, B, C, D = (p.detach().numpy() for p in layer.parameters())
    pole = np.exp(-(np.exp(nu) + 4 * 2.0**-52) + 1j * np.exp(theta))
    B, C = B[..., 0] + 1j * B[..., 1], C[..., 0] + 1j * C[..., 1]
    x = np.zeros((2, 12))
    for t, y in enumerate(layer(u).detach().numpy().swapaxes(0, 1)):
        x = pole * x + np.exp(gamma) * (u[:, t].numpy() @ B.T)
        assert np.allclose(y, (x @ C.T).real + D * u[:, t].numpy(), rtol=1e-11, atol=1e-11)


def test_initialisation_follows_the_paper():
    layer = lru(d_model=16, d_state=4000, r_min=0.5, r_max=0.8, max_phase=1.0)
    r, phase = layer.poles.abs() ** 2, layer.poles.angle()
    for x, low, high in ((r, 0.25, 0.64), (phase, 0.0, 1.0)):  # uniform: range, mean, variance
        assert low - 1e-6 < x.min() and x.max() < high + 1e-6
        assert x.mean().item() == pytest.approx((low + high) / 2, abs=0.02 * (high - low))
        assert x.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.05)
    assert torch.allclose(layer.gamma_log.exp() ** 2, 1 - r, atol=1e-5)
    assert layer.B.var().item() == pytest.approx(1 / 32, rel=0.03)
    assert layer.C.var().item() == pytest.approx(1 / 4000, rel=0.03)


@given(
    nu_log=st.sampled_from([-50.0, 88.0]) | st.floats(-50, 88),
    theta_log=st.floats(-40, 5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_poles_are_inside_the_unit_circle_also_after_rounding(nu_log, theta_log, dtype):
    layer = lru(d_state=1, dtype=dtype)
    torch.nn.init.constant_(layer.nu_log, nu_log)
    torch.nn.init.constant_(layer.theta_log, theta_log)
    assert layer.poles.abs() < 1
    assert abs(layer.poles.item()) < 1  # the stored number's modulus, in double precision
    assert abs(layer.to_lti().poles.item()) < 1


@pytest.mark.parametrize("nu_log", [-50.0, -20.0, 4.0])
def test_round_trip_of_extreme_poles(nu_log):
    layer = lru(d_state=3)
    torch.nn.init.constant_(layer.nu_log, nu_log)
    before = layer.to_lti(conjugate=False)
    layer.load_lti_(before)
    after = layer.to_lti(conjugate=False)
    assert torch.allclose(after.poles, before.poles, rtol=0, atol=1e-6)
    assert all(torch.isfinite(p).all() for p in layer.parameters())


def test_the_system_has_the_poles_in_double_precision():
    layer = lru(r_min=0.9999, r_max=0.99999)
    nu, theta = (p.detach().double() for p in (layer.nu_log, layer.theta_log))
    decay = nu.exp() + 4 * torch.finfo(torch.float32).eps
    assert torch.equal(layer.to_lti().poles, torch.polar((-decay).exp(), theta.exp()))


def test_phases_are_those_of_the_upper_half_plane():
    layer = lru()
    layer.load_lti_(contract.system_for(layer, [0.9, 0.0, -0.5, 0.3 - 0.6j, 0.8 + 0.1j]))
    phase = layer.theta_log.detach().exp()  # 2 pi in place of 0, whose log is not finite
    assert ((phase < 3.15) | ((phase - 2 * torch.pi).abs() < 1e-5)).all()


def test_real_modes_go_on_learning():
    layer = lru()
    contract.check_real_modes(layer, 1e-5)
    before = layer.theta_log.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 30, 3)).square().mean().backward()
        optimizer.step()
    assert ((layer.theta_log - before).abs() > 1e-4).all()


def test_free_scales_keep_their_meaning():
    layer = lru()
    system = contract.system_for(layer, [0.9j, 0.5, 0.99], scale=1e3)
    row = layer.B.detach().flatten(1).norm(dim=1).mean()
    column = layer.C.detach().transpose(0, 1).flatten(1).norm(dim=1).mean()
    layer.load_lti_(system)
    assert torch.allclose(layer.B.flatten(1).norm(dim=1), row)
    assert torch.allclose(layer.C.transpose(0, 1).flatten(1).norm(dim=1), column)
    gains = (system.B.norm(dim=1) * 2 * system.C.norm(dim=0)).float()
    assert torch.allclose(layer.gamma_log.exp() * row * column, gains)


def test_the_largest_pole_depends_on_the_precision():
    layer = lru(dtype=torch.float64)
    layer.load_lti_(contract.system_for(layer, [0.5, 1 - 1e-7]))  # refused in single precision
    assert layer.d_state == 2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_from_system_to_layer(dtype, tolerance):
    contract.check_round_trip(lru(dtype=dtype), tolerance)
    contract.check_other_numbers_of_states(lru(dtype=dtype), 10 * tolerance)
    contract.check_awkward_poles(lru(dtype=dtype), 10 * tolerance)
    contract.check_real_modes(lru(dtype=dtype), 10 * tolerance)


def test_from_layer_to_system():
    contract.check_that_the_system_is_the_layer(lru(dtype=torch.float64))
    contract.check_that_the_system_is_double_and_owns_its_memory(lru(dtype=torch.float64))
    contract.check_derivatives_of_hankel_singular_values(lru(2, 2, torch.float64))
    contract.check_a_reduced_system(lru(d_state=16, dtype=torch.float64))


def test_the_layer_itself():
    for length, batch in ((30, 2), (1, 1), (2, 1), (17, 3)):
        contract.check_that_steps_equal_forward(lru(dtype=torch.float64), length, batch)
    contract.check_that_steps_equal_forward(lru(d_state=0, dtype=torch.float64))
    contract.check_that_inputs_are_checked(lru())
    contract.check_that_gradients_reach_every_parameter(lru())
    contract.check_mixed_precision(lru())
    contract.check_what_systems_may_be(lru)
    contract.check_refusals(lru())


@pytest.mark.parametrize("n", [0, 5, 12, 40])
def test_state_dicts(n):
    contract.check_that_a_state_dict_loads(lru(), lru(d_state=n, seed=1))
    alien = lru(d_model=4, d_state=5)
    contract.check_that_other_state_dicts_are_refused(lru(), alien, "nu_log")
