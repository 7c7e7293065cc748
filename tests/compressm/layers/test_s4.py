"""S4: its equations, and the contract of layers of channels, before and after a reduction."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm.layers.hippo import hippo_legs, hippo_nplr
from compressm.layers.s4 import S4
from tests.compressm import layer_contract as contract
from tests.compressm.helpers import is_unchanged, parameters_of

KINDS = {
    "shared": {},
    "unshared": {"shared": False},
    "bidirectional": {"bidirectional": True},
}
EACH_KIND = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())


def s4(d_model=3, d_state=4, l_max=24, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    return S4(d_model, d_state, l_max, **options).to(dtype)


def mixed(dtype=torch.float64, n=6, **options):
    """A layer of rank 0, with poles of its own in each channel."""
    layer = s4(dtype=dtype, **options)
    torch.manual_seed(5)
    poles = torch.polar(0.4 + torch.rand(n) * 0.55, 3 * torch.rand(n))
    layer.load_lti_(contract.system_for(layer, poles))
    assert layer.rank == 0
    return layer


def by_hand(layer, u):
    """Section 2 of the paper for A = Lambda - P P^H with both of every pair, one channel at a time.

    C is what is stored over (1 - A'^L).
    """
    H, dt = layer.d_model, layer.log_dt.detach().exp().numpy()
    Lambda = torch.complex(-layer.log_A_real.exp(), layer.A_imag).detach().numpy()
    P, B, C = (torch.view_as_complex(x.detach()).numpy() for x in (layer.P, layer.B, layer.C))
    y = layer.D.detach().numpy() * u
    for h in range(H):
        own = h if len(Lambda) > 1 else 0
        A = np.diag(closed(Lambda[own]))
        for p in P:
            A = A - np.outer(closed(p[own]), closed(p[own]).conj())
        one = np.eye(len(A))
        inverse = np.linalg.inv(one - dt[h] / 2 * A)
        A_bar, B_bar = inverse @ (one + dt[h] / 2 * A), inverse @ closed(B[own]) * dt[h]
        undo = np.linalg.inv(one - np.linalg.matrix_power(A_bar, int(layer.l_max)))
        rows = C[h] if layer.bidirectional else C[h][None]
        for row, sequence, back in zip(rows, (u[:, h], u[::-1, h]), (1, -1), strict=False):
            x, out = np.zeros(len(A)), []
            for now in sequence:
                x = A_bar @ x + B_bar * now
                out.append((closed(row) @ undo @ x).real)
            y[:, h] += out[::back]
    return y


def closed(x):
    return np.concatenate([x, x.conj()])


@EACH_KIND
@pytest.mark.parametrize("rank", [1, 0])
@pytest.mark.parametrize("length", [1, 2, 23, 24, 25, 100])
def test_forward_is_the_equation(options, rank, length):
    layer = s4(**options) if rank else mixed(**options)
    u = contract.inputs(layer, length)
    for y, sequence in zip(layer(u).detach().numpy(), u.numpy(), strict=True):
        assert np.allclose(y, by_hand(layer, sequence), rtol=0, atol=1e-10)


@pytest.mark.parametrize("l_max", [1, 2, 3, 24])
def test_what_is_stored_depends_on_the_length_and_what_is_computed_does_not(l_max):
    layer, other = s4(l_max=l_max), s4(l_max=100)
    u = contract.inputs(layer)
    assert not torch.allclose(layer.C, other.C, atol=1e-3)
    assert torch.allclose(layer(u), other(u), atol=1e-3 if l_max < 3 else 1e-5)  # C was rounded
    before = parameters_of(layer)
    layer(contract.inputs(layer, 9 * l_max))
    assert is_unchanged(layer, before) and layer.l_max == l_max


def test_the_state_matrix_is_that_of_hippo():
    A, B = hippo_legs(8)
    _, _, _, V = hippo_nplr(8)
    layer = s4(d_model=1, d_state=4)
    G = layer.to_lti()
    dt = layer.log_dt.detach().exp()
    identity = torch.eye(8, dtype=torch.float64)
    inverse = torch.linalg.inv(identity - dt / 2 * A)
    A, B = inverse @ (identity + dt / 2 * A), inverse @ B * dt
    # [Re x, Im x] of the upper half of V^H x is an orthogonal basis, up to the root of 2
    T = math.sqrt(2) * torch.cat([V[:, 4:].mH.real, V[:, 4:].mH.imag])
    assert torch.allclose(T @ T.mT, identity)
    assert torch.allclose(T @ A @ T.mT, G.A[0], atol=1e-6)
    assert torch.allclose(T @ B / math.sqrt(2), G.B[0, :, 0], atol=1e-6)


def test_where_it_starts():
    layer = s4(d_model=300, d_state=4)
    C = layer._output()
    assert (C.abs() ** 2).mean().item() == pytest.approx(1, rel=0.1)
    assert layer.D.var().item() == pytest.approx(1, rel=0.2)
    assert math.log(0.001) < layer.log_dt.min() and layer.log_dt.max() < math.log(0.1)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {
        "log_dt": (300,), "log_A_real": (1, 4), "A_imag": (1, 4), "P": (1, 1, 4, 2),
        "B": (1, 4, 2), "C": (300, 4, 2), "D": (300,),
    }  # fmt: skip
    assert s4(shared=False).P.shape == (1, 3, 4, 2)
    with pytest.raises(lti.OptionError, match="l_max must be a length, got 0"):
        s4(l_max=0)


@given(
    log_A_real=st.sampled_from([-80.0, 80.0]) | st.floats(-80, 80),
    A_imag=st.floats(-1e6, 1e6),
    log_dt=st.floats(-30, 5),
    P=st.sampled_from([0.0, 1.0, 1e3]),
    rank=st.sampled_from([0, 1]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_poles_are_inside_the_unit_circle(log_A_real, A_imag, log_dt, P, rank, dtype):
    layer = s4(1, 1, 8, dtype)
    if rank == 0:
        layer.load_lti_(contract.system_for(layer, [0.5]))
    values = {"log_A_real": log_A_real, "A_imag": A_imag, "log_dt": log_dt, "P": P}
    for name, value in values.items():
        torch.nn.init.constant_(layer.get_parameter(name), value)
    A = layer.to_lti(conjugate=False)
    assert (A.poles.abs() < 1).all()
    assert torch.isfinite(layer(contract.inputs(layer, 8))).all()
    if rank == 0:
        layer.load_lti_(layer.to_lti())
        assert all(torch.isfinite(p).all() for p in layer.parameters())


@EACH_KIND
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_system_to_layer(options, dtype):
    tolerance = 2e-5 if dtype == torch.float32 else 1e-10
    # HiPPO-LegS of more states has eigenvectors so close to each other that modes lose digits
    contract.check_round_trip(s4(d_state=1, dtype=dtype, **options), tolerance)
    contract.check_round_trip(mixed(dtype=dtype, **options), tolerance)
    contract.check_other_numbers_of_states(s4(dtype=dtype, **options), tolerance)
    contract.check_awkward_poles(s4(dtype=dtype, **options), tolerance * 10)
    if "bidirectional" not in options:
        contract.check_real_modes(s4(dtype=dtype, **options), tolerance)


@EACH_KIND
def test_from_layer_to_system(options):
    for make in (s4, mixed):
        contract.check_that_the_system_is_the_layer(make(**options))
        contract.check_that_the_system_is_double_and_owns_its_memory(make(**options))
    contract.check_derivatives_of_hankel_singular_values(s4(2, 1, 4, **options))
    contract.check_derivatives_of_hankel_singular_values(mixed(n=2, **options))
    contract.check_a_reduced_system(s4(**options))
    contract.check_a_reduced_system(mixed(**options))


def test_a_reduction_leaves_a_diagonal_layer_of_the_same_class():
    layer = s4()
    same = dict(layer.named_parameters())
    contract.check_a_reduced_system(layer)
    assert layer.rank == 0 and layer.P.shape == (0, 3, layer.d_state, 2)
    assert layer.log_A_real.shape == (3, layer.d_state)
    assert isinstance(layer.to_lti(), lti.DiagonalStateSpace)
    assert all(p is same[name] for name, p in layer.named_parameters())


@pytest.mark.parametrize("make", [s4, mixed])
def test_the_layer_itself(make):
    for length, batch in ((30, 2), (1, 1), (2, 1), (17, 3), (60, 1)):
        contract.check_that_steps_equal_forward(make(), length, batch)
    contract.check_that_there_is_no_state(make(bidirectional=True))
    contract.check_that_inputs_are_checked(make())
    contract.check_that_gradients_reach_every_parameter(make())
    contract.check_that_gradients_reach_every_parameter(make(bidirectional=True))
    contract.check_mixed_precision(make(dtype=torch.float32))
    contract.check_what_systems_may_be(make)
    contract.check_single_precision(make(dtype=torch.float32, l_max=500), 1e-5, length=500)
    contract.check_single_precision(make(dtype=torch.float32, l_max=100), 1e-5, length=500)
    contract.check_refusals(make(dtype=torch.float32))
    contract.check_refusals(make(dtype=torch.float32, bidirectional=True))


@pytest.mark.parametrize("log_dt", [-14.0, -11.5, -7.0, 3.0])
def test_slow_modes_have_derivatives_in_single_precision(log_dt):
    layer = s4(2, 6, 64, torch.float32)
    with torch.no_grad():
        layer.log_dt[0] = log_dt
    u = torch.randn(2, 64, 2)
    exact = copy.deepcopy(layer).double()
    for one in (layer, exact):
        one(u.to(one.D)).square().mean().backward()
    for p, q in zip(layer.parameters(), exact.parameters(), strict=True):
        assert p.grad.isfinite().all()
        assert (p.grad - q.grad).norm() <= 1e-2 * q.grad.norm()


def test_no_states():
    contract.check_that_steps_equal_forward(s4(d_state=0))
    contract.check_that_steps_equal_forward(mixed(n=0))


@EACH_KIND
@pytest.mark.parametrize("n", [0, 4, 7])
def test_state_dicts(options, n):
    for make in (s4, mixed):
        contract.check_that_a_state_dict_loads(make(**options), s4(d_state=n, seed=1, **options))
        contract.check_that_a_state_dict_loads(make(**options), mixed(n=n, **options))
    contract.check_that_a_state_dict_loads(s4(**options), s4(shared="shared" in options, **{
        k: v for k, v in options.items() if k != "shared"}))  # fmt: skip
    alien = s4(d_model=4, d_state=7, **options)
    contract.check_that_other_state_dicts_are_refused(s4(**options), alien, "A_imag")
    contract.check_that_other_state_dicts_are_refused(mixed(**options), alien, "P")


def test_a_checkpoint_brings_the_length_that_C_is_stored_for():
    layer, other = s4(l_max=7), s4(seed=1)
    layer.load_state_dict(other.state_dict())
    assert layer.l_max == 24
    assert torch.equal(layer(contract.inputs(layer)), other(contract.inputs(layer)))
