"""Selective layers: what a state is worth, and that nothing but the states left out is missing."""

import copy
import importlib
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import silu

import lti
from compressm import (
    LRU,
    Budget,
    Compressor,
    ErrorBound,
    Every,
    KeepEnergy,
    Mamba,
    MetricDrop,
    Order,
    UnsupportedLayerError,
    compress_,
    preview,
    to_lti,
)
from compressm.gramians.observe import observe
from compressm.gramians.signals import Signal
from compressm.gramians.types import state_values
from compressm.systems.find import agree_on_states_, compressible_layers, selective_layers
from compressm.systems.selective.evaluate import coefficients
from compressm.systems.selective.form import is_selective, state_count
from compressm.systems.selective.keep import keep_states_

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported
GRAMIANS = ("model", "input", "data")
N = 6
HEADS = {"mamba_n_heads": 4, "mamba_d_head": 4, "mamba_n_groups": 2, "mamba_d_state": N}
# Class, module of transformers, and the configuration of a small one
FOREIGN = {
    "Mamba": ("MambaMixer", "mamba", {"state_size": N}),
    "FalconMamba": ("FalconMambaMixer", "falcon_mamba", {"state_size": N}),
    "Mamba2": (
        "Mamba2Mixer",
        "mamba2",
        {"state_size": N, "num_heads": 4, "head_dim": 4, "n_groups": 2, "use_bias": True},
    ),
    "Jamba": (
        "JambaMambaMixer",
        "jamba",
        {"mamba_d_state": N, "mamba_dt_rank": 2, "num_attention_heads": 2},
    ),
    "Bamba": ("BambaMixer", "bamba", HEADS),
}
NORMED = ("FalconMamba", "Jamba")


def foreign(name):
    """A mixer of transformers of that name, 8 inputs, with parameters at random."""
    pytest.importorskip("transformers")
    mixer, module, options = FOREIGN[name]
    module = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
    config = getattr(module, f"{name}Config")(hidden_size=8, **options)
    more = {} if name in ("Jamba", "Bamba") else {"initialize_mixer_weights": False}
    layer = randomized(getattr(module, mixer)(config, layer_idx=0, **more).double())
    if name == "Mamba2":
        layer.time_step_limit = (0.5, 0.8)
    return layer


def own(d_state=N, d_model=8, seed=0):
    return randomized(Mamba(d_model, d_state).double(), seed)


def randomized(module, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * torch.randn_like(p))
    return module


def layer_of(name):
    return own() if name == "own" else foreign(name)


def language_model(name="Mamba", layers=2, dtype=torch.float32):
    transformers = pytest.importorskip("transformers")
    _, _, options = FOREIGN[name]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=11, hidden_size=8, num_hidden_layers=layers, pad_token_id=None, **options
    )
    torch.manual_seed(0)
    return getattr(transformers, f"{name}ForCausalLM")(config).to(dtype)


def signal(batch=2, length=9, d_model=8, seed=1):
    generator = torch.Generator().manual_seed(seed)
    u, g = torch.randn(2, batch, length, d_model, dtype=torch.float64, generator=generator)
    return Signal(u, g)


@pytest.fixture
def exact(monkeypatch):
    """transformers computes the scan in single precision; here in double."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def without(layer, dropped):
    """The layer with rows of C at zero, of these states."""
    full = copy.deepcopy(layer)
    with torch.no_grad():
        if full.A_log.ndim == 2:
            rank = full.dt_proj.weight.shape[1]
            full.x_proj.weight[[rank + N + i for i in dropped]] = 0
        else:
            channels = full.out_proj.weight.shape[1]
            rows = [channels + N * (2 + group) + i for group in (0, 1) for i in dropped]
            full.conv1d.weight[rows] = 0
            full.conv1d.bias[rows] = 0
    return full


@torch.no_grad()
def scanned(layer, u):
    """The output, or for Mamba2 what goes into the norm, which is in single precision."""
    if not hasattr(layer, "norm"):
        return layer(u)
    seen = []
    hook = layer.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    layer(u)
    hook.remove()
    return seen[0]


# ------------------------------------------------------------------ which layers


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_the_family_is_known_by_names_and_shapes(name):
    layer = layer_of(name)
    assert is_selective(layer) and state_count(layer) == N
    assert [(n, m is layer) for n, m in compressible_layers(layer)] == [("", True)]
    layer.register_parameter("A_b_log", nn.Parameter(torch.zeros(3)))  # of a second direction
    assert not is_selective(layer)


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(2, 2), lambda: LRU(2, 3), lambda: nn.LSTM(2, 2)]
)
def test_other_modules_are_not_of_the_family(make):
    assert not is_selective(make())
    for use in (state_count, lambda m: keep_states_(m, [0]), lambda m: state_values(m, [signal()])):
        with pytest.raises(UnsupportedLayerError, match="no selective layer"):
            use(make())


def test_a_layer_of_other_shapes_is_not_of_the_family():
    layer = own()
    layer.D = nn.Parameter(torch.zeros(3))
    assert not is_selective(layer)


def test_layers_come_in_the_order_of_the_model_and_each_once():
    layer = own()
    model = nn.ModuleDict({"a": layer, "b": nn.Sequential(LRU(8, 3), own()), "c": layer})
    assert [name for name, _ in compressible_layers(model)] == ["a", "b.0", "b.1"]
    assert [name for name, _ in selective_layers(model)] == ["a", "b.1"]


def test_what_to_lti_was_taught_is_one_layer_and_its_parts_are_none():
    class Outer(nn.Sequential):
        pass

    @to_lti.register
    def _(layer: Outer, conjugate=True):
        raise NotImplementedError

    model = nn.Sequential(Outer(own()), own())
    assert [name for name, _ in compressible_layers(model)] == ["0", "1"]
    assert [name for name, _ in selective_layers(model)] == ["1"]


# ------------------------------------------------------------------ what the scan works with


def run(layer, u):
    """The states h of all times, each a tensor, the coefficients, and the output of the layer."""
    x, dt, A, B, C, z = coefficients(layer, u)
    B, C = (part.repeat_interleave(x.shape[-1] // part.shape[2], 2) for part in (B, C))
    h, states, y = torch.zeros(1, dtype=x.dtype, requires_grad=True), [], []
    for t in range(x.shape[1]):
        h = (dt[:, t, :, None] * A).exp() * h + (dt * x)[:, t, :, None] * B[:, t]
        h.retain_grad()
        states.append(h)
        y.append((h * C[:, t]).sum(-1))
    y = torch.stack(y, 1) + layer.D.repeat_interleave(x.shape[-1] // len(layer.D)) * x
    y = layer.norm(y, z) if hasattr(layer, "norm") else y * silu(z)
    return states, (x, dt, A, B, C), layer.out_proj(y)


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_the_coefficients_give_the_output_of_the_layer(name, exact):
    layer, u = layer_of(name), signal().u
    atol = 1e-6 if hasattr(layer, "norm") else 1e-12
    assert torch.allclose(run(layer, u)[2], layer(u), rtol=0, atol=atol)


@pytest.mark.parametrize("steps", ["one by one", "together"])
def test_our_mamba_is_that_of_transformers(steps, exact):
    theirs, ours = foreign("Mamba"), own(seed=1)
    ours.load_state_dict(theirs.state_dict())
    u = signal(length=30).u
    if steps == "together":
        y = ours(u)
    else:
        state, outputs = None, []
        for t in range(30):
            output, state = ours.step(u[:, t], state)
            outputs.append(output)
        y = torch.stack(outputs, 1)
    assert torch.allclose(y, theirs(u), rtol=0, atol=1e-10)


# ------------------------------------------------------------------ a choice of states


@settings(max_examples=10)
@given(kept=st.lists(st.integers(0, N - 1), unique=True, min_size=1), seed=st.integers(0, 9))
def test_what_is_left_is_the_layer_without_the_other_states(kept, seed):
    layer, u = own(seed=seed), signal().u
    full = without(layer, set(range(N)) - set(kept))
    keep_states_(layer, kept)
    assert state_count(layer) == len(kept)
    assert torch.allclose(layer(u), full(u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kept", [[4, 0, 3], [5], list(range(N))])
@pytest.mark.parametrize("name", ["Mamba", "Mamba2", "Bamba"])
def test_so_it_is_in_transformers(name, kept, exact):
    layer, u = foreign(name), signal().u
    full = without(layer, set(range(N)) - set(kept))
    same = dict(layer.named_parameters())
    same["A_log"]._no_weight_decay = True
    keep_states_(layer, kept)
    assert torch.allclose(scanned(layer, u), scanned(full, u), rtol=0, atol=1e-12)
    assert torch.allclose(layer(u), full(u), rtol=0, atol=1e-6)
    assert layer.ssm_state_size == state_count(layer) == len(kept)
    assert all(same[key] is p for key, p in layer.named_parameters())
    assert layer.A_log._no_weight_decay
    linear = layer.x_proj if name == "Mamba" else layer.in_proj
    assert linear.out_features == len(linear.weight)
    assert layer.conv1d.groups == layer.conv1d.in_channels == len(layer.conv1d.weight)
    if name != "Mamba":
        assert layer.conv_dim == layer.conv1d.out_channels == 16 + 4 * len(kept)


class NormOver(nn.Module):
    """rms over some states, weight and all, times a mask."""

    def __init__(self, norm, over, mask):
        super().__init__()
        self.eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
        self.weight, self.over, self.mask = norm.weight, over, mask

    def forward(self, x):
        mean = x[..., self.over].square().mean(-1, keepdim=True)
        return x * (mean + self.eps).rsqrt() * self.weight * self.mask


@pytest.mark.parametrize("name", NORMED)
def test_where_B_and_C_are_normed_the_norm_is_that_of_the_states_that_stay(
    name, exact, monkeypatch
):
    if name == "Jamba":  # its norm says torch.float32, so the twin's stands in for it
        module = importlib.import_module("transformers.models.jamba.modeling_jamba")
        twin = lambda self, x: NormOver(self, slice(None), 1.0)(x)  # noqa: E731
        monkeypatch.setattr(module.JambaRMSNorm, "forward", twin)
    layer, u, kept = foreign(name), signal().u, [4, 0, 3]
    full, mask = copy.deepcopy(layer), torch.zeros(N).double()
    mask[kept] = 1.0
    full.b_layernorm = NormOver(full.b_layernorm, kept, 1.0)
    full.c_layernorm = NormOver(full.c_layernorm, kept, mask)
    keep_states_(layer, kept)
    assert torch.allclose(layer(u), full(u), rtol=0, atol=1e-12)
    assert layer.b_layernorm.weight.shape == layer.c_layernorm.weight.shape == (3,)


@pytest.mark.parametrize("indices", [[], [0, N], [-1], [1, 2, 1]])
@pytest.mark.parametrize("name", ["own", "Mamba2"])
def test_indices_that_name_no_states_are_refused_and_nothing_changes(name, indices):
    layer = layer_of(name)
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(lti.OrderError, match="different numbers from 0 to 5"):
        keep_states_(layer, indices)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_a_cut_layer_trains_on_and_every_parameter_moves(name):
    layer, s = layer_of(name).float(), signal()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)

    def learn():
        loss = (layer(s.u.float()) - s.g.float()).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss  # held, as loops do, across the cut

    loss = learn()
    keep_states_(layer, [4, 0, 3], optimizer)
    before = {key: p.detach().clone() for key, p in layer.named_parameters()}
    assert learn() != loss
    for key, p in layer.named_parameters():
        assert (p != before[key]).any(), key


# ------------------------------------------------------------------ what a state is worth


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_values_are_those_of_a_plain_loop_whose_adjoint_states_are_autograds(name, exact):
    layer, s = layer_of(name), signal(batch=3, length=12)
    states, (_, dt, A, B, C), output = run(layer, s.u)
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


def test_of_the_model_they_are_hankel_values_of_the_modes_of_the_mean_system():
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
def test_values_go_with_the_states(name, gramians, exact):
    layer, s, permuted = layer_of(name), [signal()], [3, 5, 0, 1, 4, 2]
    before = state_values(layer, s, gramians)
    assert before.shape == (N,) and before.dtype == np.float64 and (before > 0).all()
    keep_states_(layer, permuted)
    assert np.allclose(state_values(layer, s, gramians), before[permuted], rtol=1e-6)


@pytest.mark.parametrize("gramians", GRAMIANS)
@pytest.mark.parametrize("matrix", ["B", "C"])
def test_states_that_nothing_drives_or_shows_are_worth_nothing(matrix, gramians):
    layer, s, at = own(), signal(), 1 if matrix == "B" else 1 + N
    with torch.no_grad():
        layer.x_proj.weight[at + 2] = 0
    values = state_values(layer, [s], gramians)
    assert values[2] == 0 and (np.delete(values, 2) > 0).all()


def test_states_that_the_loss_does_not_feel_are_worth_nothing():
    layer, s = own(), signal()
    with torch.no_grad():  # one channel is driven, and of that one nothing goes out
        layer.in_proj.weight[:16].zero_()
        layer.conv1d.bias.zero_()
        layer.conv1d.bias[0] = 1.0
        layer.out_proj.weight[:, 0] = 0
    assert (state_values(layer, [s], "input") > 0).all()
    assert (state_values(layer, [s], "data") == 0).all()


def test_of_what_averages_to_nothing_only_second_moments_know():
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


def test_values_that_cannot_be_had_are_refused():
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


# ------------------------------------------------------------------ in a cut


def stack(*layers):
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_compress_keeps_the_states_of_the_largest_values(gramians):
    model, u = stack(own(), own(seed=3)), signal().u
    full = copy.deepcopy(model)
    torch.manual_seed(5)
    signals = observe(model, [u], gramians == "data")
    values = {name: state_values(m, signals[name], gramians) for name, m in selective_layers(model)}
    torch.manual_seed(5)
    event = compress_(model, Order(4), gramians=gramians, data=[u], multiple_of=2)
    for cut, layer, whole in zip(event.layers, model, full, strict=True):
        kept = np.sort(np.argsort(-values[cut.name])[:4])
        keep_states_(whole, kept)
        assert torch.equal(whole.A_log, layer.A_log)
        assert (cut.before, cut.after, cut.order, cut.skipped) == (N, 4, 4, None)
        assert cut.gramians == gramians
        assert np.allclose(cut.hsv, np.sort(values[cut.name])[::-1])
        assert cut.energy_kept == pytest.approx(cut.hsv[:4].sum() / cut.hsv.sum())
        assert cut.error_bound == float("inf") and cut.flops == (0, 0)
        per_state = 16 + 2 * 16
        assert cut.parameters[0] - cut.parameters[1] == 2 * per_state
    assert torch.equal(model(u), full(u))


def test_preview_and_a_dry_run_say_so_and_change_nothing():
    model, u = stack(own(), LRU(8, 12)), signal().u
    before = copy.deepcopy(model.state_dict())
    few, all_ = preview(model, [Order(3), KeepEnergy(1.0)], data=[u])
    assert [cut.after for cut in few.layers] == [3, 3]
    assert [(cut.after, cut.skipped) for cut in all_.layers][0] == (N, None)
    event = compress_(model, Order(3), data=[u], dry_run=True)
    assert [(cut.after, cut.gramians) for cut in event.layers] == [(3, "input")] * 2
    event = compress_(model[0], lambda hsv, slots: 3, data=[u], multiple_of=4, dry_run=True)
    assert (event.layers[0].after, event.layers[0].order) == (4, 4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_a_budget_goes_over_layers_of_both_kinds(gramians):
    model, u = stack(LRU(8, 12), own(), LRU(8, 12)), signal().u
    event = compress_(model, Budget(total=12), gramians=gramians, data=[u])
    after = [model[0].d_state, model[1].d_state, model[2].d_state]
    assert [cut.after for cut in event.layers] == after
    assert all(n >= 1 for n in after) and 6 <= sum(after) <= 12


def test_a_search_by_a_metric_cuts_copies_of_selective_layers():
    model, u = stack(own()), signal().u
    with torch.no_grad():
        model[0].x_proj.weight[1 + N + 2] = 0  # of this state C shows nothing: it can go
        y = model(u)
    event = compress_(model, MetricDrop(lambda m: -(m(u) - y).abs().max().item(), 1e-9), data=[u])
    assert event.layers[0].after == N - 1 and torch.allclose(model(u), y, rtol=0, atol=1e-9)


def test_without_data_selective_layers_are_refused_and_others_are_not():
    with pytest.raises(ValueError, match="no data reached the layers"):
        compress_(stack(LRU(8, 12), own()), Order(3))
    assert compress_(stack(LRU(8, 12)), Order(3)).layers[0].after == 3


def test_what_cannot_be_cut_is_left_alone_and_says_why():
    u = signal().u
    model = stack(own(), LRU(8, 12))
    ours, lru = compress_(model, ErrorBound(1e3), data=[u]).layers
    assert ours.after == N and "no bound" in ours.skipped and lru.after < 12
    layer = own()
    tied = nn.ModuleList([layer, own(seed=1)])
    tied[1].A_log = layer.A_log
    tied.forward = lambda u: tied[1](tied[0](u))
    for cut in compress_(tied, Order(3), data=[u]).layers:
        assert cut.after == N and "A_log is also a parameter of another" in cut.skipped
    (cut,) = compress_(own(), Order(3), data=[u * float("nan")]).layers
    assert cut.after == N and "not finite" in cut.skipped
    silent = own()
    nn.init.zeros_(silent.x_proj.weight)
    (cut,) = compress_(silent, Order(3), data=[u]).layers
    assert cut.after == N and "all zero" in cut.skipped


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_a_compressor_observes_the_step_before_the_cut(gramians):
    model = stack(own(), nn.Linear(8, 8), own(seed=1))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    compressor = Compressor(
        model, optimizer, policy=Order(2), schedule=Every(2, stop=2), gramians=gramians
    )
    events = []
    for step in range(4):
        s = signal(seed=step)
        model(s.u).mul(s.g).sum().backward()
        if step == 1:
            seen = {"0": s.u, "2": model[1](model[0](s.u)).detach()}
        optimizer.step()
        optimizer.zero_grad()
        before = copy.deepcopy(model)
        events.append(compressor.step())
        if step == 1 and gramians != "data":
            for cut in events[-1].layers:
                layer = before.get_submodule(cut.name)
                values = state_values(layer, [Signal(seen[cut.name])], gramians)
                assert np.allclose(cut.hsv, np.sort(values)[::-1])
    assert [event is not None for event in events] == [False, True, False, False]
    assert [(cut.after, cut.skipped) for cut in events[1].layers] == [(2, None)] * 2
    for (key, p), q in zip(model.named_parameters(), before.parameters(), strict=True):
        assert p.shape == q.shape, key
    assert compressor._observer.signals == {}


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_for_exact_gramians_selective_layers_alone_are_observed(gramians):
    model = stack(LRU(8, 12), own())
    compressor = Compressor(model, policy=Order(2), schedule=Every(1), gramians=gramians)
    model(signal().u)
    seen = list(compressor._observer.stop())
    assert seen == (["1"] if gramians == "model" else ["0", "1"])


def test_a_layer_that_no_input_reached_in_the_step_is_left_alone():
    model = stack(own())
    compressor = Compressor(model, policy=Order(2), schedule=Every(1))
    assert "none of its inputs was observed" in compressor.step().layers[0].skipped
    assert model[0].d_state == N


# ------------------------------------------------------------------ models of transformers


def tokens(batch=3, length=12):
    return torch.randint(0, 11, (batch, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("gramians", GRAMIANS)
@pytest.mark.parametrize("name", ["Mamba", "FalconMamba", "Mamba2"])
def test_a_language_model_is_cut_while_it_trains_and_trains_on(name, gramians):
    model = language_model(name)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    compressor = Compressor(
        model, optimizer, policy=Order(2), schedule=Every(2, stop=2), gramians=gramians
    )
    for _ in range(3):
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        loss = model(tokens(), labels=tokens()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        event = compressor.step()
        if event is not None:
            assert [(cut.after, cut.skipped) for cut in event.layers] == [(2, None)] * 2
    assert model.config.state_size == 2
    for key, p in model.named_parameters():
        assert p.shape == before[key].shape and (p != before[key]).any(), key


@torch.no_grad()
@pytest.mark.parametrize("name", ["Mamba", "FalconMamba", "Mamba2"])
def test_a_cut_language_model_generates_with_a_cache(name):
    model, prompt = language_model(name).eval(), tokens()
    compress_(model, Order(4), data=[prompt])
    first, _ = (layer for _, layer in selective_layers(model))
    keep_states_(first, [2, 0])  # layers may differ
    expected = prompt
    for _ in range(5):
        following = model(expected, use_cache=False).logits[:, -1].argmax(-1)
        expected = torch.cat([expected, following[:, None]], 1)
    found = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=5,
        do_sample=False,
        use_cache=True,
        eos_token_id=None,
    )
    assert torch.equal(found, expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["Mamba", "FalconMamba", "Mamba2"])
def test_a_cut_language_model_is_saved_and_loaded(name, tmp_path):
    model = language_model(name).eval()
    compress_(model, Order(4), data=[tokens()])
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert loaded.config.state_size == 4
    assert torch.equal(loaded(tokens()).logits, model(tokens()).logits)


@torch.no_grad()
def test_layers_of_different_numbers_of_states_load_one_by_one():
    model = language_model().eval()
    for n, (_, layer) in zip((2, 5), selective_layers(model), strict=True):
        keep_states_(layer, range(n))
    agree_on_states_(model)
    assert model.config.state_size == N  # no configuration can say it
    fresh = language_model().eval()
    for n, (_, layer) in zip((2, 5), selective_layers(fresh), strict=True):
        keep_states_(layer, range(n))
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(tokens()).logits, model(tokens()).logits)


def test_a_part_of_a_model_does_not_speak_for_its_configuration():
    model = language_model()
    block = model.backbone.layers[0]
    compress_(block, Order(2), data=[torch.randn(2, 9, 8)])
    assert block.mixer.ssm_state_size == 2 and model.config.state_size == N
