"""Key channels of the delta rule: moments against autograd, cut layers against masked ones."""

import copy
import io

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import normalize

import lti
from compressm import (
    KeepEnergy,
    States,
    UnsupportedLayerError,
    compress_,
    keep_states_,
    resize_on_load,
    state_values,
)
from compressm.gramians.signals import Signal
from compressm.gramians.types import group_values
from compressm.systems.selective import form_of, state_count
from compressm.systems.selective.delta_rule import DeltaCoefficients, DeltaRule
from compressm.systems.selective.evaluate import layer_output
from tests.compressm.delta_layers import FOREIGN, HEADS, LAYERS, SIZES, N, layer_of
from tests.compressm.selective_layers import GRAMIANS

KEPT = [[4, 1, 3], [0, 5, 2]]  # of each key head its own


def sequences(batch=2, length=7, seed=1):
    return torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("erase", [0.0, 1.0])
@pytest.mark.parametrize("decays", [1, 3])
def test_moments_are_those_of_autograd(erase, decays):
    torch.manual_seed(0)
    r = lambda *shape: torch.randn(2, 5, *shape, dtype=torch.float64)  # noqa: E731
    c = DeltaCoefficients(
        q=r(2, 3), k=normalize(r(2, 3), dim=-1), x=r(4, 2), a=r(4, decays).sigmoid(),
        b=r(4).sigmoid(), erase=torch.tensor(erase).double(), z=r(4, 2),
    )  # fmt: skip
    q, k = (x.repeat_interleave(2, 2) for x in (c.q, c.k))
    S, states, y = torch.zeros(2, 4, 3, 2, dtype=torch.float64, requires_grad=True), [], []
    for t in range(5):
        project = torch.eye(3) - erase * torch.einsum(
            "bhi,bhj,bh->bhij", k[:, t], k[:, t], c.b[:, t]
        )
        S = project @ (c.a[:, t, ..., None] * S)
        S = S + torch.einsum("bhi,bhj,bh->bhij", k[:, t], c.x[:, t], c.b[:, t])
        S.retain_grad()
        states.append(S)
        y.append(torch.einsum("bhi,bhij->bhj", q[:, t], S).flatten(1))
    y, g = torch.stack(y, 1), r(8)
    (y * g).sum().backward()
    moment, output = DeltaRule().run(c)
    P, Q = (sum(x.detach().square().sum((0, -1)) for x in part)
            for part in (states, [S.grad for S in states]))  # fmt: skip
    torch.testing.assert_close(output, y.detach())
    torch.testing.assert_close(moment, P)
    torch.testing.assert_close(DeltaRule().adjoint(c, g), Q)


@pytest.mark.parametrize("name", LAYERS)
def test_the_output_is_that_of_the_layer(name):
    layer, u = layer_of(name), sequences()
    assert state_count(layer) == N and form_of(layer).groups == HEADS
    y = layer(u)
    assert (layer_output(layer, u) - y).abs().max() < 1e-5 * y.abs().max()


def masked(layer, kept):
    """The layer with keys and queries at zero in the channels that are not kept."""
    full = copy.deepcopy(layer)
    dropped = [g * N + i for g in range(HEADS) for i in range(N) if i not in kept[g]]
    with torch.no_grad():
        if hasattr(full, "conv1d"):
            full.conv1d.weight[[*dropped, *(HEADS * N + i for i in dropped)]] = 0
        else:
            for x in "qk":
                getattr(full, f"{x}_proj").weight[dropped] = 0
    return full


@pytest.mark.parametrize("name", LAYERS)
def test_a_cut_layer_is_the_layer_with_masked_keys_and_queries(name):
    layer, u = layer_of(name), sequences()
    expected = masked(layer, KEPT)(u)  # the norm undoes the factor on the output
    identities = [id(p) for p in layer.parameters()]
    keep_states_(layer, KEPT)
    assert state_count(layer) == 3 and identities == [id(p) for p in layer.parameters()]
    assert (layer(u) - expected).abs().max() < 2e-5 * expected.abs().max()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    layer(u).square().mean().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in layer.parameters())
    optimizer.step()


@pytest.mark.parametrize("indices", [[], [0, N], [[0, 1], [2]], [[0, 1]], [[0, 0], [1, 2]]])
def test_indices_of_no_states_are_refused(indices):
    layer = layer_of("Qwen3_5")
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(lti.OrderError, match="or as many for each of its 2 groups"):
        keep_states_(layer, indices)
    assert all(torch.equal(x, before[name]) for name, x in layer.state_dict().items())


@pytest.mark.parametrize("gramians", GRAMIANS)
@pytest.mark.parametrize("name", LAYERS)
def test_scores_go_with_the_channels(name, gramians):
    layer, s = layer_of(name), Signal(sequences(), sequences(seed=2))
    before, order = group_values(layer, [s], gramians), [[3, 5, 0, 1, 4, 2], [1, 0, 2, 5, 4, 3]]
    assert before.shape == (HEADS, N) and (before > 0).all()
    np.testing.assert_allclose(state_values(layer, [s], gramians), before.sum(0))
    keep_states_(layer, order)
    after = group_values(layer, [s], gramians)
    np.testing.assert_allclose(after, np.take_along_axis(before, np.array(order), 1), rtol=1e-4)


def test_each_head_keeps_the_channels_that_it_uses():
    layer = masked(layer_of("Qwen3_5"), KEPT)
    u = sequences(16, 20)
    before = layer(u)
    event = compress_(layer, KeepEnergy(0.999999), data=[u])
    assert state_count(layer) == event.layers[0].after == 3
    assert (layer(u) - before).abs().max() < 2e-5 * before.abs().max()


def language_model(name):
    torch.manual_seed(0)
    options = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "vocab_size": 11,
               "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
               "layer_types": ["linear_attention", "full_attention"], "pad_token_id": None,
               **SIZES}  # fmt: skip
    if name == "Qwen3Next":
        options |= {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8,
                    "shared_expert_intermediate_size": 8}  # fmt: skip
    config = getattr(transformers, FOREIGN[name][2])(**options)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.mark.parametrize("name", FOREIGN)
def test_models_generate_save_and_load_after_a_cut(name, tmp_path):
    model = language_model(name)
    tokens = torch.randint(0, 11, (3, 9), generator=torch.Generator().manual_seed(0))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    full = model(tokens).logits
    event = compress_(model, States(4), data=[tokens])
    assert all(cut.skipped is None and cut.after == 4 for cut in event.layers)
    assert model.config.linear_key_head_dim == 4

    options = {"max_new_tokens": 5, "do_sample": False}
    generated = model.generate(tokens, **options)
    assert generated.equal(model.generate(tokens, use_cache=False, **options))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(again(tokens).logits, model(tokens).logits)

    fresh = resize_on_load(language_model(name))
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(tokens).logits, model(tokens).logits)
    fresh.load_state_dict(torch.load(io.BytesIO(buffer.getvalue())))  # and up again
    torch.testing.assert_close(fresh(tokens).logits, full)


def test_a_layer_without_an_output_gate_in_half_precision():
    layer, u = layer_of("DeltaNet"), sequences()
    y = layer(u)
    half = layer_output(layer.bfloat16(), u).float()
    assert (half - y).norm() < 0.1 * y.norm()


@pytest.mark.parametrize("name", ["KimiDeltaAttention", "GatedLinearAttention"])
def test_decays_close_to_one_are_not_rounded_to_one(name):
    layer, u = layer_of(name), sequences()
    with torch.no_grad():
        if name == "KimiDeltaAttention":
            layer.dt_bias -= 8
        else:
            layer.gk_proj[1].bias += 6
    exact = 1 - form_of(layer).coefficients(u)[3]
    layer.bfloat16()
    half = 1 - form_of(layer).coefficients(u)[3]
    assert (half / exact).log().abs().mean() < 0.1  # rounded to one, it would be infinite


REFUSED = {
    "its qk_norm is 'sum', not 'l2'": ("DeltaNet", {"qk_norm": "sum"}),
    "go through a feature map": ("GatedLinearAttention", {"feature_map_fn": abs}),
    "its activation is 'gelu', not 'silu'": ("Qwen3_5", {"activation": "gelu"}),
    "no number of states|has the shape": ("OlmoHybrid", {"head_k_dim": None}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_variants_with_another_recurrence_are_refused(message):
    name, attributes = REFUSED[message]
    layer = layer_of(name)
    for attribute, value in attributes.items():
        setattr(layer, attribute, value)
    assert form_of(layer) is None
    with pytest.raises(UnsupportedLayerError, match=message):
        compress_(layer, States(3), data=[sequences()])


@pytest.mark.parametrize("indices", [[[0, 1], 3], [0.5], np.array([0.5]), np.ones((2, 2, 1))])
def test_what_is_no_index_is_refused(indices):
    with pytest.raises(lti.OrderError, match="name each state to keep once"):
        keep_states_(layer_of("Qwen3_5"), indices)


def test_indices_may_be_an_array():
    layer = layer_of("Qwen3_5")
    keep_states_(layer, np.array([[0, 1], [2, 3]]))
    assert state_count(layer) == 2
