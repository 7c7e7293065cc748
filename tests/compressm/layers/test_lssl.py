"""LSSL: its equations, and the contract of layers of channels, before and after a reduction."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm import States, compress_
from compressm.layers.hippo import hippo_legs
from compressm.layers.lssl import LSSL
from tests.compressm import layer_contract as contract


def lssl(d_model=3, d_state=6, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    return LSSL(d_model, d_state, **options).to(dtype)


def diagonal(dtype=torch.float64, n=6, seed=0, **options):
    """A layer that a system has been written into."""
    layer = lssl(dtype=dtype, seed=seed, **options)
    torch.manual_seed(5)
    poles = torch.polar(0.4 + torch.rand(n) * 0.55, 3 * torch.rand(n))
    layer.load_lti_(contract.system_for(layer, poles))
    assert layer.is_diagonal
    return layer


EACH_FORM = pytest.mark.parametrize("make", [lssl, diagonal])


def by_hand(layer, u):
    """Equations (1), (2) and the bilinear case of (3) of the paper, one channel at a time."""
    parts = (layer.log_dt, layer.A, layer.B, layer.C, layer.D)
    log_dt, A, B, C, D = (p.detach().numpy() for p in parts)
    y = D * u
    for h, dt in enumerate(np.exp(log_dt)):
        if A.ndim == 3:  # poles, B = 1, and one of every pair
            own, b, c = np.diag(A[h, :, 0] + 1j * A[h, :, 1]), np.ones(len(A[h])), C[h] @ [2, 2j]
        else:
            own, b, c = A, B, C[h]
        one = np.eye(len(own))
        inverse = np.linalg.inv(one - dt / 2 * own)
        x = np.zeros(len(own))
        for t, now in enumerate(u[:, h]):
            x = inverse @ (one + dt / 2 * own) @ x + dt * inverse @ b * now
            y[t, h] += (c @ x).real
    return y


@EACH_FORM
@pytest.mark.parametrize("length", [1, 2, 3, 50])
def test_forward_is_the_equation(make, length):
    layer = make()
    u = contract.inputs(layer, length)
    for y, sequence in zip(layer(u).detach().numpy(), u.numpy(), strict=True):
        assert np.allclose(y, by_hand(layer, sequence), rtol=0, atol=1e-12)


def test_where_it_starts():
    layer = lssl(d_model=300, d_state=5)
    A, B = hippo_legs(5)
    assert torch.allclose(layer.A.double(), A, rtol=1e-6, atol=1e-6)
    assert torch.allclose(layer.B.double(), B, rtol=1e-6)
    for p in (layer.C, layer.D):
        assert p.var().item() == pytest.approx(1, rel=0.2)
    assert np.log(0.001) < layer.log_dt.min() and layer.log_dt.max() < np.log(0.1)
    assert (layer.poles.abs() < 1).all()


@given(
    re=st.sampled_from([-1e30, 0.0, 1e6]) | st.floats(-1e3, 1e3),
    im=st.floats(-1e6, 1e6),
    log_dt=st.floats(-30, 5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_poles_of_the_diagonal_form_are_inside_the_unit_circle(re, im, log_dt, dtype):
    layer = lssl(1, 1, dtype)
    layer.load_lti_(contract.system_for(layer, [0.5]))
    torch.nn.init.constant_(layer.log_dt, log_dt)
    with torch.no_grad():
        layer.A.copy_(torch.tensor([re, im]))
    assert layer._system()[0].abs() < 1
    assert abs(layer.poles.item()) < 1
    assert torch.isfinite(layer(contract.inputs(layer))).all()
    layer.load_lti_(layer.to_lti())
    assert all(torch.isfinite(p).all() for p in layer.parameters())


@given(
    M=st.integers(1, 6).flatmap(
        lambda n: st.lists(st.floats(-30, 30, width=32), min_size=n * n, max_size=n * n)
    ),
    log_dt=st.floats(-7, 3),
)
def test_any_parameters_are_stable(M, log_dt):
    n = round(len(M) ** 0.5)
    layer = lssl(1, n)
    with torch.no_grad():
        layer.M.copy_(torch.tensor(M).reshape(n, n))
        layer.log_dt.fill_(log_dt)
    A = layer.A.detach()
    assert torch.linalg.eigvalsh(A + A.mT)[-1] < 0
    assert torch.linalg.matrix_norm(layer.to_lti().A, 2) < 1


def test_trained_fast_it_stays_stable_and_is_cut():
    torch.manual_seed(0)
    layer = LSSL(2, 8)
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    u = torch.randn(4, 100, 2)
    for _ in range(40):
        optimizer.zero_grad()
        (layer(u) - u.roll(20, 1)).square().mean().backward()
        optimizer.step()
    assert compress_(layer, States(4)).layers[0].after == 4


@EACH_FORM
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_system_to_layer(make, dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    # HiPPO-LegS of more states has eigenvectors so close to each other that modes lose digits
    layer = lssl(d_state=2, dtype=dtype) if make is lssl else diagonal(dtype)
    contract.check_round_trip(layer, tolerance)
    contract.check_other_numbers_of_states(make(dtype=dtype), tolerance)
    contract.check_awkward_poles(make(dtype=dtype), tolerance * 10)
    contract.check_real_modes(make(dtype=dtype), tolerance)


@EACH_FORM
def test_from_layer_to_system(make):
    contract.check_that_the_system_is_the_layer(make())
    contract.check_that_the_system_is_double_and_owns_its_memory(make())
    small = lssl(2, 3) if make is lssl else diagonal(n=2)
    contract.check_derivatives_of_hankel_singular_values(small)
    contract.check_a_reduced_system(make())


def test_a_reduction_leaves_a_diagonal_layer_of_the_same_class():
    layer = lssl()
    same = dict(layer.named_parameters())
    contract.check_a_reduced_system(layer)
    n = layer.d_state
    assert layer.is_diagonal and layer.A.shape == layer.C.shape == (3, n, 2)
    assert layer.B.shape == (0,)
    assert isinstance(layer.to_lti(), lti.DiagonalStateSpace)
    assert all(p is same[name] for name, p in layer.named_parameters())


@EACH_FORM
def test_the_layer_itself(make):
    for length, batch in ((30, 2), (1, 1), (2, 1), (17, 3)):
        contract.check_that_steps_equal_forward(make(), length, batch)
    contract.check_that_inputs_are_checked(make())
    contract.check_mixed_precision(make(dtype=torch.float32))
    contract.check_what_systems_may_be(make)
    contract.check_single_precision(make(dtype=torch.float32), 1e-5, length=500)
    contract.check_refusals(make(dtype=torch.float32))
    contract.check_that_gradients_reach_every_parameter(make())


def test_no_states():
    contract.check_that_steps_equal_forward(lssl(d_state=0))
    contract.check_that_steps_equal_forward(diagonal(n=0))


@EACH_FORM
@pytest.mark.parametrize("n", [0, 3, 4, 6, 9])
def test_state_dicts(make, n):
    contract.check_that_a_state_dict_loads(make(), lssl(d_state=n, seed=1))
    contract.check_that_a_state_dict_loads(make(), diagonal(n=n, seed=1))
    alien = lssl(d_model=4, d_state=4)
    contract.check_that_other_state_dicts_are_refused(make(), alien, "C")
