"""The LRU as a layer, as a system, and back; and loading states of other sizes."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm import LRU

W = torch.linspace(0, 3.14, 200, dtype=torch.float64)


def lru(d_model=3, d_state=12, dtype=torch.float32, seed=0, **options):
    torch.manual_seed(seed)
    return LRU(d_model, d_state, **options).to(dtype)


def snapshot(layer):
    return {name: p.detach().clone() for name, p in layer.named_parameters()}


@torch.no_grad()
def gap(G, F):
    """max |G - F| / max |G| over frequencies, of two systems with real output."""
    g, f = (lti.frequency_response(system, W) for system in (G, F))
    return float((g - f).abs().max() / g.abs().max())


def modes(poles, seed=0, d=3, conjugate=True, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.complex128, generator=generator)

    poles = torch.as_tensor(poles, dtype=torch.complex128)
    B, C = scale * normal(len(poles), d), normal(d, len(poles))
    return lti.DiagonalStateSpace(poles, B, C, dt=True, conjugate=conjugate)


# ------------------------------------------------------------------ the layer


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


@given(length=st.integers(1, 40), n=st.integers(0, 6), seed=st.integers(0, 99))
def test_steps_equal_forward(length, n, seed):
    layer = lru(d_state=n, dtype=torch.float64, seed=seed)
    u = torch.randn(2, length, 3, dtype=torch.float64)
    y, state = [], None
    for t in range(length):
        output, state = layer.step(u[:, t], state)
        y.append(output)
    assert torch.allclose(torch.stack(y, 1), layer(u), rtol=0, atol=1e-10)
    assert state.shape == (2, n)


def test_forward_continues_from_a_state():
    layer = lru(dtype=torch.float64)
    u = torch.randn(2, 30, 3, dtype=torch.float64)
    state = None
    for t in range(11):
        _, state = layer.step(u[:, t], state)
    assert torch.allclose(layer(u[:, 11:], state), layer(u)[:, 11:], rtol=0, atol=1e-10)


def test_gradients_reach_every_parameter():
    layer = lru()
    layer(torch.randn(2, 20, 3)).square().sum().backward()
    for name, p in layer.named_parameters():
        assert torch.isfinite(p.grad).all() and (p.grad != 0).all(), name


def test_without_states_the_layer_is_its_feedthrough():
    layer = lru(d_state=0)
    u = torch.randn(2, 5, 3)
    assert torch.equal(layer(u), layer.D * u)
    assert layer.to_lti().order == 0


def test_mixed_precision():
    layer, u = lru(), torch.randn(2, 40, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(u), layer(u))
        assert layer(u.bfloat16()).dtype == torch.float32


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


# ------------------------------------------------------------------ layer -> system


@pytest.mark.parametrize("conjugate", [True, False])
def test_the_system_one_step_ahead_plus_D_is_the_layer(conjugate):
    layer = lru(dtype=torch.float64)
    system = layer.to_lti(conjugate=conjugate)
    dense = system.to_dense()
    impulses = torch.zeros(3, 30, 3, dtype=torch.float64)
    impulses[range(3), 0, range(3)] = 1
    h = layer(impulses).permute(1, 2, 0)  # (time, output, input)
    h[0] -= torch.diag(layer.D)
    power = torch.eye(dense.order, dtype=dense.A.dtype)
    for t in range(30):
        assert torch.allclose(h[t], (dense.C @ power @ dense.B).real, rtol=0, atol=1e-12)
        power = dense.A @ power
    assert not system.D.any()
    assert system.dt is True and system.conjugate is conjugate
    assert system.order == (24 if conjugate else 12)


def test_the_system_is_in_double_precision_and_has_the_derivatives_of_the_parameters():
    layer = lru(r_min=0.9999, r_max=0.99999)
    system = layer.to_lti()
    nu, theta = (p.detach().double() for p in (layer.nu_log, layer.theta_log))
    decay = nu.exp() + 4 * torch.finfo(torch.float32).eps
    exact = torch.polar((-decay).exp(), theta.exp())
    assert torch.equal(system.poles, exact)
    assert system.B.dtype == system.C.dtype == torch.complex128
    lti.hankel_norm(system).backward()
    parameters = (layer.nu_log, layer.theta_log, layer.gamma_log, layer.B, layer.C)
    assert all(p.grad is not None and p.grad.any() for p in parameters)
    with torch.no_grad():
        assert not layer.to_lti().B.requires_grad


@pytest.mark.parametrize("conjugate", [True, False])
def test_the_system_does_not_share_memory_with_the_layer(conjugate):
    layer = lru(dtype=torch.float64)
    system = layer.to_lti(conjugate=conjugate)
    parts = [system.poles, system.B, system.C]
    before = [x.clone() for x in parts]
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(1)
    assert all(torch.equal(x, y) for x, y in zip(parts, before, strict=True))


# ------------------------------------------------------------------ system -> layer


@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_round_trip(conjugate, dtype, tolerance):
    layer = lru(dtype=dtype)
    before = layer.to_lti()
    layer.load_lti_(layer.to_lti(conjugate=conjugate))
    assert gap(before, layer.to_lti()) < tolerance
    assert layer.C.dtype == dtype


@pytest.mark.parametrize("nu_log", [-50.0, -20.0, 4.0])
def test_round_trip_of_extreme_poles(nu_log):
    layer = lru(d_state=3)
    torch.nn.init.constant_(layer.nu_log, nu_log)
    before = layer.to_lti(conjugate=False)
    layer.load_lti_(before)
    after = layer.to_lti(conjugate=False)
    assert torch.allclose(after.poles, before.poles, rtol=0, atol=1e-6)
    assert all(torch.isfinite(p).all() for p in layer.parameters())


@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize("n", [0, 5, 30])
def test_another_number_of_states(n, conjugate):
    layer = lru()
    same = dict(layer.named_parameters())
    D = layer.D.detach().clone()
    system = modes(torch.polar(torch.rand(n) * 0.95, 6 * torch.rand(n)), conjugate=conjugate)
    layer.load_lti_(system)
    assert layer.d_state == n and layer(torch.randn(2, 9, 3)).shape == (2, 9, 3)
    assert all(same[name] is p for name, p in layer.named_parameters())
    assert torch.equal(layer.D, D)
    if n:
        assert gap(system, layer.to_lti(conjugate=conjugate)) < 1e-5


@pytest.mark.parametrize("conjugate", [True, False])
def test_a_truncated_system_goes_back(conjugate):
    layer = lru(d_state=32, dtype=torch.float64)
    reduction = lti.balanced_truncation(layer.to_lti(conjugate=conjugate), order=16)
    modal, _ = lti.diagonalize(reduction.system, conjugate=conjugate)
    layer.load_lti_(modal)
    assert gap(reduction.system, layer.to_lti(conjugate=conjugate)) < 1e-10


def test_real_and_vanishing_poles_and_either_of_a_pair():
    poles = [0.9, 0.999, 0.0, -0.5, 0.3 - 0.6j, 0.8 + 0.1j, 0.7 - 1e-30j]
    system = modes(poles)
    layer = lru()
    layer.load_lti_(system)
    assert all(torch.isfinite(p).all() for p in layer.parameters())
    assert gap(system, layer.to_lti()) < 1e-6
    phase = layer.theta_log.detach().exp()  # in the upper half-plane; 2 pi for 0, whose log is none
    assert ((phase < 3.15) | ((phase - 2 * torch.pi).abs() < 1e-5)).all()
    u = torch.randn(1, 20, 3)
    assert torch.isfinite(layer(u)).all()


def test_real_modes_of_a_real_system_are_exact_and_go_on_learning():
    poles, ones = torch.tensor([0.999, 0.5 + 0j, -0.3]), torch.ones(3, 3)
    system = lti.DiagonalStateSpace(poles, ones, ones / 6, conjugate=True)
    layer = lru()
    layer.load_lti_(system)
    assert gap(system, layer.to_lti()) < 1e-6
    before = layer.theta_log.detach().clone()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(4, 30, 3)).square().mean().backward()
        optimizer.step()
    assert ((layer.theta_log - before).abs() > 1e-4).all()


def test_numpy_systems():
    layer, system = lru(), modes([0.9j, 0.5])
    arrays = (x.numpy() for x in (system.poles, system.B, system.C))
    layer.load_lti_(lti.DiagonalStateSpace(*arrays, conjugate=True))
    assert gap(system, layer.to_lti()) < 1e-6


def test_free_scales_keep_their_meaning():
    layer, system = lru(), modes([0.9j, 0.5, 0.99], scale=1e3)
    row = layer.B.detach().flatten(1).norm(dim=1).mean()
    column = layer.C.detach().transpose(0, 1).flatten(1).norm(dim=1).mean()
    layer.load_lti_(system)
    assert torch.allclose(layer.B.flatten(1).norm(dim=1), row)
    assert torch.allclose(layer.C.transpose(0, 1).flatten(1).norm(dim=1), column)
    gains = (system.B.norm(dim=1) * 2 * system.C.norm(dim=0)).float()
    assert torch.allclose(layer.gamma_log.exp() * row * column, gains)


def test_states_without_input_or_output_stay_finite_and_idle():
    layer, system = lru(), modes([0.9j, 0.5, 0.99])
    system.B[0], system.C[:, 1] = 0, 0
    layer.load_lti_(system)
    assert all(torch.isfinite(p).all() for p in layer.parameters())
    assert gap(system, layer.to_lti()) < 1e-6


def test_dtype_and_frozenness_are_kept():
    layer = lru(dtype=torch.float64).requires_grad_(False)
    layer.load_lti_(modes([0.9j, 0.5]))
    assert all(p.dtype == torch.float64 and not p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize(
    ("system", "error"),
    [
        (modes([0.5, 1.0]), lti.UnstableError),
        (modes([0.5, 1.5j]), lti.UnstableError),
        (modes([0.5, 1 - 1e-7]), lti.UnstableError),  # inside, yet not after rounding
        (modes([0.5], d=2), lti.DimensionError),
        (modes([0.5], scale=1e39), lti.NonFiniteError),
        (lti.DiagonalStateSpace(*([torch.ones(1, 1)] * 3)), lti.DimensionError),
        (
            lti.DiagonalStateSpace(
                torch.full([1], 0.5), torch.ones(1, 3), torch.ones(3, 1), torch.eye(3)
            ),
            lti.DimensionError,
        ),
        (
            lti.DiagonalStateSpace(torch.full([1], -0.5), torch.ones(1, 3), torch.ones(3, 1), dt=0),
            lti.TimebaseError,
        ),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_changes(system, error):
    layer = lru()
    before = snapshot(layer)
    with pytest.raises(error):
        layer.load_lti_(system)
    for name, p in layer.named_parameters():
        assert torch.equal(p, before[name]), name


def test_the_floor_depends_on_the_precision():
    layer = lru(dtype=torch.float64)
    layer.load_lti_(modes([0.5, 1 - 1e-7]))
    assert layer.d_state == 2


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("n", [0, 5, 12, 40])
def test_a_state_dict_of_any_size_loads(n):
    small, layer = lru(d_state=n, seed=1), lru()
    same = dict(layer.named_parameters())
    saved = small.state_dict()
    layer.load_state_dict(saved)
    assert all(same[name] is p for name, p in layer.named_parameters())
    u = torch.randn(2, 9, 3)
    assert torch.equal(layer(u), small(u))
    with torch.no_grad():
        layer.B.add_(1)
    assert torch.equal(small.state_dict()["B"], saved["B"])  # no memory is shared
    assert not n or not torch.equal(layer.B, small.B)


def test_a_copy_resizes_itself_not_the_original():
    layer, small = lru(), lru(d_state=4)
    clone = copy.deepcopy(layer)
    clone.load_state_dict(small.state_dict())
    assert (clone.d_state, layer.d_state) == (4, 12)


def test_saved_parameters_must_agree():
    layer, saved = lru(), lru(d_state=5).state_dict()
    saved["nu_log"] = torch.zeros(6)
    before = snapshot(layer)
    with pytest.raises(lti.DimensionError, match="disagree on the number of states.*'B': 5"):
        torch.nn.Sequential(layer).load_state_dict({f"0.{k}": v for k, v in saved.items()})
    assert all(torch.equal(p, before[name]) for name, p in layer.named_parameters())


@pytest.mark.parametrize("change", ["d_model", "missing"])
def test_other_mismatches_are_torch_errors(change):
    layer = lru()
    saved = lru(d_model=4 if change == "d_model" else 3, d_state=5).state_dict()
    if change == "missing":
        del saved["gamma_log"]
    before = snapshot(layer)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(saved)
    assert layer.d_state == 12 and torch.equal(layer.nu_log, before["nu_log"])
