"""S4D: its equations, and the contract of layers of channels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm.layers.hippo import s4d_inv, s4d_legs, s4d_lin
from compressm.layers.s4d import S4D
from tests.compressm import layer_contract as contract

EACH_METHOD = pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
EACH_DIRECTION = pytest.mark.parametrize("bidirectional", [False, True])


def s4d(d_model=3, d_state=6, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    return S4D(d_model, d_state, **options).to(dtype)


def by_hand(layer, u):
    """The recurrence of section 3 of the paper, one channel and one state after the other."""
    log_dt, log_A_real, A_imag, C, D = (
        layer.get_parameter(name).detach().numpy()
        for name in ("log_dt", "log_A_real", "A_imag", "C", "D")
    )
    y = D * u
    for h in range(u.shape[1]):
        dt = np.exp(log_dt[h])
        for n in range(A_imag.shape[1]):
            A = -np.exp(log_A_real[h, n]) + 1j * A_imag[h, n]
            if layer.discretization == "zoh":
                A_bar, B_bar = np.exp(dt * A), (np.exp(dt * A) - 1) / A
            else:
                A_bar, B_bar = (1 + dt * A / 2) / (1 - dt * A / 2), dt / (1 - dt * A / 2)
            for rows, sequence in enumerate((u[:, h], u[::-1, h])[: 1 + layer.bidirectional]):
                c = C[h, rows, n] if layer.bidirectional else C[h, n]
                x, out = 0, []
                for now in sequence:
                    x = A_bar * x + B_bar * now
                    out.append(2 * ((c[0] + 1j * c[1]) * x).real)
                y[:, h] += out[::-1] if rows else out
    return y


@EACH_METHOD
@EACH_DIRECTION
@pytest.mark.parametrize("length", [1, 2, 50])
def test_forward_is_the_equation(discretization, bidirectional, length):
    layer = s4d(discretization=discretization, bidirectional=bidirectional)
    u = contract.inputs(layer, length)
    for y, sequence in zip(layer(u).detach().numpy(), u.numpy(), strict=True):
        assert np.allclose(y, by_hand(layer, sequence), rtol=0, atol=1e-12)


def test_where_it_starts():
    poles = {"lin": s4d_lin, "inv": s4d_inv, "legs": s4d_legs}
    for init, law in poles.items():
        layer = s4d(d_model=2, d_state=8, init=init)
        A = torch.complex(-layer.log_A_real.exp(), layer.A_imag)
        assert torch.allclose(A, law(8).expand(2, -1), rtol=1e-6)
    layer = s4d(d_model=400, d_state=16, dt_min=0.01, dt_max=0.2)
    low, high = math.log(0.01), math.log(0.2)
    assert low < layer.log_dt.min() and layer.log_dt.max() < high
    assert layer.log_dt.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.1)
    assert layer.C.square().sum(-1).mean().item() == pytest.approx(1, rel=0.05)
    assert layer.D.var().item() == pytest.approx(1, rel=0.2)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "log_dt": (400,), "log_A_real": (400, 16), "A_imag": (400, 16), "C": (400, 16, 2),
        "D": (400,),
    }  # fmt: skip
    assert s4d(bidirectional=True).C.shape == (3, 2, 6, 2)


@pytest.mark.parametrize("option", ["init", "discretization"])
def test_unknown_options_are_refused(option):
    with pytest.raises(lti.OptionError, match=f"{option} must be .* or .*; got 'euler'"):
        s4d(**{option: "euler"})


@given(
    log_A_real=st.sampled_from([-80.0, 80.0]) | st.floats(-80, 80),
    A_imag=st.floats(-1e6, 1e6),
    log_dt=st.floats(-30, 5),
    discretization=st.sampled_from(["zoh", "bilinear"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_poles_are_inside_the_unit_circle_also_after_rounding(
    log_A_real, A_imag, log_dt, discretization, dtype
):
    layer = s4d(1, 1, dtype, discretization=discretization)
    for name, value in (("log_A_real", log_A_real), ("A_imag", A_imag), ("log_dt", log_dt)):
        torch.nn.init.constant_(layer.get_parameter(name), value)
    assert layer._system()[0].abs() < 1
    assert abs(layer.poles.item()) < 1
    assert torch.isfinite(layer(contract.inputs(layer))).all()
    layer.load_lti_(layer.to_lti())  # what a layer computes, it can take back
    assert all(torch.isfinite(p).all() for p in layer.parameters())


@EACH_METHOD
@EACH_DIRECTION
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_system_to_layer(discretization, bidirectional, dtype):
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12

    def new():
        return s4d(dtype=dtype, discretization=discretization, bidirectional=bidirectional)

    contract.check_round_trip(new(), tolerance)
    contract.check_other_numbers_of_states(new(), tolerance)
    contract.check_awkward_poles(new(), tolerance * 10)
    if not bidirectional:
        contract.check_real_modes(new(), tolerance)


@EACH_METHOD
@EACH_DIRECTION
def test_from_layer_to_system(discretization, bidirectional):
    options = {"discretization": discretization, "bidirectional": bidirectional}
    contract.check_that_the_system_is_the_layer(s4d(**options))
    contract.check_that_the_system_is_double_and_owns_its_memory(s4d(**options))
    contract.check_derivatives_of_hankel_singular_values(s4d(1, 2, **options))
    contract.check_a_reduced_system(s4d(d_state=8, **options))


def test_the_layer_itself():
    for discretization in ("zoh", "bilinear"):
        for length, batch in ((30, 2), (1, 1), (2, 1), (17, 3)):
            layer = s4d(discretization=discretization)
            contract.check_that_steps_equal_forward(layer, length, batch)
    contract.check_that_steps_equal_forward(s4d(d_state=0))
    contract.check_that_there_is_no_state(s4d(bidirectional=True))
    contract.check_that_inputs_are_checked(s4d())
    contract.check_that_gradients_reach_every_parameter(s4d(init="inv"))
    contract.check_that_gradients_reach_every_parameter(s4d(init="inv", bidirectional=True))
    contract.check_mixed_precision(s4d(dtype=torch.float32))
    contract.check_what_systems_may_be(s4d)
    contract.check_single_precision(s4d(dtype=torch.float32), 1e-6, length=1000)


def test_refusals():
    contract.check_refusals(s4d(dtype=torch.float32))
    contract.check_refusals(s4d(dtype=torch.float32, bidirectional=True))


@EACH_DIRECTION
@pytest.mark.parametrize("n", [0, 4, 6, 11])
def test_state_dicts(n, bidirectional):
    layer, other = (s4d(d_state=k, seed=k, bidirectional=bidirectional) for k in (6, n))
    contract.check_that_a_state_dict_loads(layer, other)
    alien = s4d(d_state=4, bidirectional=not bidirectional)
    contract.check_that_other_state_dicts_are_refused(s4d(bidirectional=bidirectional), alien, "C")
    alien = s4d(d_model=4, d_state=4)
    contract.check_that_other_state_dicts_are_refused(s4d(), alien, "A_imag")
