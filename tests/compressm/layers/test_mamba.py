"""Mamba against its equations, its mean system, and the states it keeps."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm.layers.mamba import Mamba
from compressm.systems.selective.keep import keep_states_
from tests.compressm import layer_contract as contract


def mamba(d_model=5, d_state=6, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    layer = Mamba(d_model, d_state, **options).to(dtype)
    with torch.no_grad():
        layer.A_log.add_(0.3 * torch.randn_like(layer.A_log))  # channels differ, as after training
        layer.D.add_(torch.randn_like(layer.D))
    return layer


def inputs(batch=2, length=20, d_model=5, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, d_model, dtype=dtype, generator=generator)


def by_hand(layer, u):
    """The output and, for each time, (dt, B, C, x): one sequence, one step at a time."""
    w = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    A = -np.exp(w["A_log"])
    E, N = A.shape
    R = w["dt_proj.weight"].shape[1]

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    xz = u.numpy() @ w["in_proj.weight"].T
    x, z = xz[:, :E], xz[:, E:]
    taps = w["conv1d.weight"][:, 0]  # the last one is for the present
    h, outputs, seen = np.zeros((E, N)), [], []
    for t in range(len(x)):
        past = [taps[:, -1 - k] * x[t - k] for k in range(min(t + 1, taps.shape[1]))]
        v = sum(past) + w["conv1d.bias"]
        v = v * sigmoid(v)
        rows = w["x_proj.weight"] @ v
        B, C = rows[R : R + N], rows[R + N :]
        dt = np.log1p(np.exp(w["dt_proj.weight"] @ rows[:R] + w["dt_proj.bias"]))
        h = np.exp(dt[:, None] * A) * h + dt[:, None] * B * v[:, None]
        y = h @ C + w["D"] * v
        outputs.append(w["out_proj.weight"] @ (y * z[t] * sigmoid(z[t])))
        seen.append((dt, B, C, v))
    return np.array(outputs), seen


# ------------------------------------------------------------------ the layer


@pytest.mark.parametrize("options", [{}, {"d_conv": 1, "expand": 3, "dt_rank": 3}])
def test_forward_is_the_equation(options):
    layer, u = mamba(**options), inputs()
    for y, sequence in zip(layer(u).detach().numpy(), u, strict=True):
        assert np.allclose(y, by_hand(layer, sequence)[0], rtol=0, atol=1e-12)


@given(
    length=st.integers(1, 30), n=st.integers(0, 5), d_conv=st.integers(1, 4), seed=st.integers(0, 9)
)
def test_steps_equal_forward(length, n, d_conv, seed):
    layer, u = mamba(d_state=n, d_conv=d_conv, seed=seed), inputs(length=length)
    y, state = [], None
    for t in range(length):
        output, state = layer.step(u[:, t], state)
        y.append(output)
    assert torch.allclose(torch.stack(y, 1), layer(u), rtol=0, atol=1e-10)
    window, h = state
    assert window.shape == (2, 10, d_conv - 1) and h.shape == (2, 10, n)


def test_forward_continues_from_a_state():
    layer, u, state = mamba(), inputs(), None
    for t in range(11):
        _, state = layer.step(u[:, t], state)
    assert torch.allclose(layer(u[:, 11:], state), layer(u)[:, 11:], rtol=0, atol=1e-10)


def test_inputs_are_checked():
    contract.check_that_inputs_are_checked(mamba())
    with pytest.raises(lti.DimensionError, match=r"u is torch.float32, but .* torch.float64"):
        mamba()(inputs().float())


def test_parameters_have_their_published_names_and_shapes():
    shapes = {name: tuple(p.shape) for name, p in mamba(d_model=20).named_parameters()}
    assert shapes == {
        "A_log": (40, 6),
        "D": (40,),
        "in_proj.weight": (80, 20),
        "conv1d.weight": (40, 1, 4),
        "conv1d.bias": (40,),
        "x_proj.weight": (2 + 12, 40),
        "dt_proj.weight": (40, 2),
        "dt_proj.bias": (40,),
        "out_proj.weight": (20, 40),
    }
    assert mamba(d_model=20).d_model == 20 and mamba(d_model=20).d_state == 6


def test_initialisation_follows_the_paper():
    torch.manual_seed(0)
    layer = Mamba(2000, 4)
    assert torch.allclose(-layer.A_log.exp(), -torch.arange(1.0, 5).expand(4000, 4))
    assert (layer.D == 1).all()
    dt = torch.nn.functional.softplus(layer.dt_proj.bias).log()
    low, high = math.log(0.001), math.log(0.1)
    assert low - 1e-3 < dt.min() and dt.max() < high + 1e-3
    assert dt.mean().item() == pytest.approx((low + high) / 2, abs=0.1)
    assert dt.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.05)
    bound = 125**-0.5
    assert layer.dt_proj.weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert layer.dt_proj.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.02)


def test_gradients_reach_every_parameter_and_it_learns():
    layer = mamba(dtype=torch.float32)
    u = inputs(dtype=torch.float32)
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (layer(u) - u.cumsum(1).tanh()).square().mean()
        loss.backward()
        for name, p in layer.named_parameters():
            assert torch.isfinite(p.grad).all() and p.grad.any(), name
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_mixed_precision():
    layer, u = mamba(dtype=torch.float32), inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(u)
    assert torch.allclose(y.float(), layer(u), atol=0.05)


# ------------------------------------------------------------------ the mean system


@pytest.mark.parametrize("form", ["tensor", "generator"])
def test_the_surrogate_is_at_the_mean_of_dt_B_and_C(form):
    layer, u = mamba(), inputs(batch=3)
    G = layer.surrogate(u if form == "tensor" else (part for part in (u[:1], u[1:])))
    seen = [now for sequence in u for now in by_hand(layer, sequence)[1]]
    dt, B, C = (np.mean([now[i] for now in seen], axis=0) for i in range(3))
    G_numpy = [x.detach().numpy() for x in (G.poles, G.B, G.C)]
    assert np.allclose(G_numpy[0], np.exp(-dt[:, None] * np.exp(layer.A_log.detach().numpy())))
    assert np.allclose(G_numpy[1][..., 0], dt[:, None] * B)
    assert np.allclose(G_numpy[2][:, 0], C)
    assert G.dt is True and not G.conjugate and not G.D.any()
    assert G.batch_shape == (10,) and (G.order, G.n_inputs, G.n_outputs) == (6, 1, 1)


def test_the_surrogate_of_a_layer_that_does_not_select_is_its_scan():
    layer = mamba()
    with torch.no_grad():  # x is constant when only the bias of the convolution is left
        layer.conv1d.weight.zero_()
        layer.conv1d.bias.copy_(torch.linspace(0.5, 1.5, 10))
        layer.out_proj.weight.copy_(torch.eye(5, 10))
        layer.D.zero_()
    u = inputs(batch=1)
    G = layer.surrogate(u)
    x = torch.nn.functional.silu(layer.conv1d.bias)
    z = layer.in_proj(u)[0, :, 10:15]
    h = torch.zeros(10, 6, dtype=torch.float64)
    for t, y in enumerate(layer(u)[0]):
        h = G.poles * h + G.B[..., 0] * x[:, None]
        expected = (G.C[:, 0] * h).sum(-1)[:5] * torch.nn.functional.silu(z[t])
        assert torch.allclose(y, expected, rtol=0, atol=1e-12)


def test_the_surrogate_is_in_double_precision_stable_and_has_derivatives():
    layer = mamba(dtype=torch.float32)
    G = layer.surrogate(inputs(dtype=torch.float32))
    assert G.poles.dtype == G.B.dtype == torch.float64
    assert (G.poles > 0).all() and (G.poles < 1).all()
    lti.hankel_norm(G).sum().backward()
    for name in ("A_log", "x_proj.weight", "dt_proj.bias", "conv1d.weight", "in_proj.weight"):
        assert layer.get_parameter(name).grad.any(), name


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(lti.DimensionError, match="got none"):
        mamba().surrogate([])


# ------------------------------------------------------------------ a choice of states


@given(kept=st.lists(st.integers(0, 5), min_size=1, unique=True), seed=st.integers(0, 9))
def test_keeping_states_removes_what_the_others_contribute(kept, seed):
    layer, u = mamba(seed=seed), inputs()
    full, others = copy.deepcopy(layer), sorted(set(range(6)) - set(kept))
    with torch.no_grad():
        full.x_proj.weight[[1 + 6 + i for i in others]] = 0  # rows of C
    same = dict(layer.named_parameters())
    before = {name: p.detach().clone() for name, p in same.items()}
    keep_states_(layer, kept)
    assert torch.allclose(layer(u), full(u), rtol=0, atol=1e-12)
    assert layer.d_state == len(kept)
    assert layer.x_proj.out_features == len(layer.x_proj.weight) == 1 + 2 * len(kept)
    for name, p in layer.named_parameters():
        assert p is same[name]
        assert name in ("A_log", "x_proj.weight") or torch.equal(p, before[name])


def test_a_chosen_layer_goes_on_learning_with_its_optimizer():
    layer, u = mamba(), inputs()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)

    def learn():
        optimizer.zero_grad()
        layer(u).square().mean().backward()
        optimizer.step()

    learn()
    exp_avg = optimizer.state[layer.in_proj.weight]["exp_avg"].clone()
    keep_states_(layer, torch.tensor([4, 0]), optimizer)
    assert torch.equal(optimizer.state[layer.in_proj.weight]["exp_avg"], exp_avg)
    before = layer.A_log.detach().clone()
    learn()
    assert (layer.A_log != before).all()


@pytest.mark.parametrize("indices", [[0, 6], [-1], [1, 2, 1]])
def test_indices_that_name_no_state_are_refused_and_nothing_changes(indices):
    layer = mamba()
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    with pytest.raises(lti.OrderError, match="different numbers from 0 to 5"):
        keep_states_(layer, indices)
    assert all(torch.equal(p, before[name]) for name, p in layer.named_parameters())


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("n", [0, 3, 6, 40])
def test_a_state_dict_of_any_size_loads(n):
    other, layer = mamba(d_state=n, seed=1), mamba()
    same = dict(layer.named_parameters())
    torch.nn.Sequential(layer).load_state_dict(torch.nn.Sequential(other).state_dict())
    assert all(same[name] is p for name, p in layer.named_parameters())
    u = inputs()
    assert layer.d_state == n and torch.equal(layer(u), other(u))
    with torch.no_grad():
        layer.A_log.add_(1)
    assert not n or not torch.equal(layer.A_log, other.A_log)  # no memory is shared


def test_a_state_dict_of_another_size_leaves_each_precision_alone():
    layer, other = mamba(dtype=torch.bfloat16), mamba(d_state=3, dtype=torch.float32)
    layer.A_log = torch.nn.Parameter(layer.A_log.detach().float())
    layer.load_state_dict(other.state_dict())
    assert (layer.A_log.dtype, layer.x_proj.weight.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("change", ["d_model", "dt_rank", "disagree", "missing"])
def test_other_mismatches_are_torch_errors(change):
    options = {"d_model": {"d_model": 4}, "dt_rank": {"dt_rank": 2}}.get(change, {})
    layer, saved = mamba(), mamba(d_state=3, **options).state_dict()
    if change == "disagree":
        saved["A_log"] = torch.zeros(10, 4)
    if change == "missing":
        del saved["A_log"]
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(saved)
    assert layer.d_state == 6
