"""S5: its equations, where it starts, how it stores modes, and the contract of layers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm.layers.s5 import S5
from tests.compressm import layer_contract as contract

EACH_METHOD = pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
EACH_DIRECTION = pytest.mark.parametrize("bidirectional", [False, True])
EACH_KIND = pytest.mark.parametrize("conj_sym", [True, False])


def s5(d_model=3, d_state=12, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    return S5(d_model, d_state, **options).to(dtype)


def by_hand(layer, u):
    """The states of one sequence, (time, n), by the equations of the paper's section 2."""
    re, im, log_step, B = (
        layer.get_parameter(name).detach().numpy()
        for name in ("Lambda_re", "Lambda_im", "log_step", "B")
    )
    Lambda, step = np.minimum(re, -1e-4) + 1j * im, np.exp(log_step)
    B = B[..., 0] + 1j * B[..., 1]
    if layer.discretization == "zoh":
        A_bar = np.exp(Lambda * step)
        B_bar = ((A_bar - 1) / Lambda)[:, None] * B
    else:
        A_bar = (1 + step / 2 * Lambda) / (1 - step / 2 * Lambda)
        B_bar = (step / (1 - step / 2 * Lambda))[:, None] * B
    x, states = 0, []
    for now in u:
        x = A_bar * x + B_bar @ now
        states.append(x)
    return np.array(states)


def output_by_hand(layer, u):
    C = layer.C.detach().numpy()
    C = (2 if layer.conj_sym else 1) * (C[..., 0] + 1j * C[..., 1])
    y = (by_hand(layer, u) @ C[:3].T).real + layer.D.detach().numpy() * u
    if layer.bidirectional:
        y = y + (by_hand(layer, u[::-1])[::-1] @ C[3:].T).real
    return y


@EACH_METHOD
@EACH_KIND
@EACH_DIRECTION
def test_forward_is_the_equation(discretization, conj_sym, bidirectional):
    layer = s5(discretization=discretization, conj_sym=conj_sym, bidirectional=bidirectional)
    with torch.no_grad():
        layer.Lambda_re[0] = 0.3  # beyond the clip
    u = torch.randn(2, 50, 3, dtype=torch.float64)
    for y, sequence in zip(layer(u).detach().numpy(), u.numpy(), strict=True):
        assert np.allclose(y, output_by_hand(layer, sequence), rtol=0, atol=1e-11)


@EACH_KIND
@pytest.mark.parametrize("blocks", [1, 4])
def test_eigenvalues_are_those_of_the_normal_part_of_hippo(conj_sym, blocks):
    layer = s5(d_state=12, blocks=blocks, conj_sym=conj_sym)
    size = (24 if conj_sym else 12) // blocks
    i = np.arange(size)
    A = -np.tril(np.sqrt(np.outer(2 * i + 1, 2 * i + 1)), -1) - np.diag(i + 1)
    low_rank = np.sqrt(i + 0.5)
    exact = np.linalg.eigvals(A + np.outer(low_rank, low_rank))
    exact = exact[exact.imag > 0] if conj_sym else exact
    stored = torch.complex(layer.Lambda_re, layer.Lambda_im).detach().numpy()
    for block in stored.reshape(blocks, -1):
        order, exact_order = np.argsort(block.imag), np.argsort(exact.imag)
        assert np.allclose(block[order], exact[exact_order], rtol=1e-6, atol=1e-5)


def test_B_starts_as_a_real_matrix_in_the_basis_of_eigenvectors():
    layer = s5(d_state=4, seed=7)
    torch.manual_seed(7)
    real = torch.randn(8, 3).double().numpy() / math.sqrt(8)
    root = np.sqrt(2 * np.arange(8) + 1)
    skew = np.tril(np.outer(root, root), -1) / 2
    _, V = np.linalg.eigh(-1j * (skew.T - skew))
    B = torch.view_as_complex(layer.B.detach()).numpy()
    for row, v in zip(B, V.T[4:], strict=True):  # each row is free up to a phase, as v is
        exact = v.conj() @ real
        assert np.allclose(np.outer(row.conj(), row), np.outer(exact.conj(), exact), atol=1e-6)


@EACH_KIND
def test_initial_sizes_follow_the_paper(conj_sym):
    layer = s5(d_model=64, d_state=128, blocks=4, conj_sym=conj_sym, dt_min=0.01, dt_max=0.2)
    n = 256 if conj_sym else 128
    assert layer.B.square().sum(-1).mean().item() == pytest.approx(1 / n, rel=0.05)
    assert layer.C.var().item() == pytest.approx(1 / n, rel=0.05)
    low, high = math.log(0.01), math.log(0.2)
    assert low < layer.log_step.min() and layer.log_step.max() < high
    assert layer.log_step.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.2)
    assert s5(d_model=64, d_state=128, C_init="complex_normal").C.var().item() == pytest.approx(
        0.5, rel=0.05
    )
    assert s5(d_model=4000, d_state=2).D.var().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 5}, "divide the 12 states, got 5"),
        ({"blocks": 0}, "divide the 12 states, got 0"),
        ({"discretization": "euler"}, "'zoh' or 'bilinear'; got 'euler'"),
        ({"C_init": "zeros"}, "got 'zeros'"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(lti.OptionError, match=message):
        s5(**options)


@given(
    re=st.sampled_from([0.0, 1e30, -1e-4, -1e6]) | st.floats(-1e3, 1e3),
    im=st.floats(-1e6, 1e6),
    log_step=st.floats(-30, 5),
    discretization=st.sampled_from(["zoh", "bilinear"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_poles_are_inside_the_unit_circle_also_after_rounding(
    re, im, log_step, discretization, dtype
):
    layer = s5(d_state=1, dtype=dtype, discretization=discretization)
    for name, value in (("Lambda_re", re), ("Lambda_im", im), ("log_step", log_step)):
        torch.nn.init.constant_(layer.get_parameter(name), value)
    assert layer.poles.abs() < 1
    assert abs(layer.poles.item()) < 1  # the stored number's modulus, in double precision
    assert abs(layer.to_lti().poles.item()) < 1
    before = layer.to_lti()
    assert torch.isfinite(torch.view_as_real(before.B.detach())).all()
    layer.load_lti_(before)  # what a layer computes, it can take back
    pole, folded = layer.to_lti().poles.item(), before.poles.item()
    assert abs(pole - complex(folded.real, abs(folded.imag))) < 4e-6


def test_the_system_has_the_poles_in_double_precision():
    layer = s5(dtype=torch.float32)
    Lambda = torch.complex(layer.Lambda_re.double(), layer.Lambda_im.double())
    assert torch.equal(layer.to_lti().poles, (layer.log_step.double().exp() * Lambda).exp())


def test_all_steps_become_the_geometric_mean():
    layer = s5()
    steps = layer.log_step.detach().clone()
    layer.load_lti_(layer.to_lti())
    assert torch.allclose(layer.log_step, steps.mean())


def test_poles_are_stored_in_the_upper_half_plane():
    layer = s5()
    layer.load_lti_(contract.system_for(layer, [0.9, 0.0, -0.5, 0.3 - 0.6j, 0.8 + 0.1j, -0.2 - 0j]))
    assert (layer.Lambda_im >= 0).all()


def test_a_real_mode_of_a_real_system_stays_real():
    layer = s5()
    contract.check_real_modes(layer, 1e-12)
    assert not layer.Lambda_im[:2].any() and not layer.B[:2, :, 1].any()
    assert not layer.C[:, :2, 1].any()


@EACH_METHOD
def test_a_pole_slower_than_the_clip_gets_a_shorter_step(discretization):
    layer = s5(discretization=discretization)
    mean = layer.log_step.detach().mean()
    system = contract.system_for(layer, [1 - 1e-9, 0.5, (1 - 1e-8) * np.exp(1j)])
    layer.load_lti_(system)
    assert contract.gap(system, layer.to_lti()) < 1e-6  # at frequency 0 the gain is 1e9
    assert torch.allclose(layer.to_lti().poles, system.poles, rtol=0, atol=1e-15)
    assert (layer.Lambda_re <= -1e-4 + 1e-16).all()
    assert (layer.log_step < mean).all() and (layer.log_step == layer.log_step[0]).all()


def test_rows_of_B_and_columns_of_C_keep_the_ratio_of_their_lengths():
    def lengths(layer):
        rows = layer.B.detach().flatten(1).norm(dim=1)
        return rows, layer.C.detach().transpose(0, 1).flatten(1).norm(dim=1)

    layer = s5()
    rows, columns = lengths(layer)
    ratio = rows.mean() / columns.mean()
    layer.load_lti_(contract.system_for(layer, [0.9j, 0.5, 0.99], scale=1e3))
    rows, columns = lengths(layer)
    assert torch.allclose(rows / columns, ratio)


@EACH_METHOD
@EACH_KIND
@EACH_DIRECTION
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
def test_from_system_to_layer(discretization, conj_sym, bidirectional, dtype, tolerance):
    def new():
        options = {"discretization": discretization, "bidirectional": bidirectional}
        return s5(dtype=dtype, conj_sym=conj_sym, **options)

    contract.check_round_trip(new(), tolerance)
    contract.check_other_numbers_of_states(new(), 10 * tolerance)
    contract.check_awkward_poles(new(), 10 * tolerance)
    if not bidirectional:
        contract.check_real_modes(new(), 10 * tolerance)


@EACH_METHOD
@EACH_KIND
@EACH_DIRECTION
def test_from_layer_to_system(discretization, conj_sym, bidirectional):
    def new(*sizes, **more):
        options = {"discretization": discretization, "bidirectional": bidirectional}
        return s5(*sizes, conj_sym=conj_sym, **options, **more)

    contract.check_that_the_system_is_the_layer(new())
    contract.check_that_the_system_is_double_and_owns_its_memory(new())
    contract.check_derivatives_of_hankel_singular_values(new(2, 2))
    contract.check_a_reduced_system(new(d_state=16))


def test_the_layer_itself():
    for discretization in ("zoh", "bilinear"):
        options = {"discretization": discretization}
        for length, batch in ((30, 2), (1, 1), (2, 1), (17, 3)):
            contract.check_that_steps_equal_forward(s5(**options), length, batch)
        contract.check_that_gradients_reach_every_parameter(s5(**options))
        contract.check_that_gradients_reach_every_parameter(s5(bidirectional=True, **options))
        # (exp(w) - 1) / w as it stands would lose four digits at short steps
        short = s5(dt_min=1e-5, dt_max=1e-4, dtype=torch.float32, **options)
        torch.nn.init.zeros_(short.D)
        contract.check_single_precision(short, 3e-6, length=100)
    contract.check_that_steps_equal_forward(s5(d_state=0))
    contract.check_that_there_is_no_state(s5(bidirectional=True))
    contract.check_that_inputs_are_checked(s5())
    contract.check_mixed_precision(s5(dtype=torch.float32))
    contract.check_what_systems_may_be(s5)


def test_refusals():
    contract.check_refusals(s5(dtype=torch.float32))
    contract.check_refusals(s5(dtype=torch.float32, bidirectional=True))


@EACH_DIRECTION
@pytest.mark.parametrize("n", [0, 5, 12, 40])
def test_state_dicts(n, bidirectional):
    layer, other = (s5(d_state=k, seed=k, bidirectional=bidirectional) for k in (12, n))
    contract.check_that_a_state_dict_loads(layer, other)
    alien = s5(d_state=5, bidirectional=not bidirectional)
    contract.check_that_other_state_dicts_are_refused(s5(bidirectional=bidirectional), alien, "C")
