"""Mamba-2 and Mamba in heads inside today's hybrids; layers that only look like a known one."""

import copy
import importlib

import pytest
import torch
import transformers
from torch import nn

from compressm import Mamba, States, UnsupportedLayerError, compress_, keep_states_, resize_on_load
from compressm.systems.selective import form_of, state_count
from compressm.systems.selective.evaluate import layer_output
from tests.compressm.selective_layers import foreign, randomized

N = 6
HEADS = {"mamba_n_heads": 4, "mamba_d_head": 4, "mamba_n_groups": 2, "mamba_d_state": N}
# Mixer, module of transformers, configuration
HYBRIDS = {
    "NemotronH": (
        "NemotronHMamba2Mixer",
        "nemotron_h",
        {"mamba_num_heads": 4, "mamba_head_dim": 4, "n_groups": 2, "ssm_state_size": N},
    ),
    "GraniteMoeHybrid": ("GraniteMoeHybridMambaLayer", "granitemoehybrid", HEADS),
    "Zamba2": (
        "Zamba2MambaMixer",
        "zamba2",
        {"n_mamba_heads": 4, "mamba_headdim": 4, "mamba_ngroups": 2, "mamba_d_state": N},
    ),
    "FalconH1": ("FalconH1Mixer", "falcon_h1", {"mamba_d_ssm": 16, **HEADS}),
    "FalconH1 with norm": (
        "FalconH1Mixer",
        "falcon_h1",
        {"mamba_d_ssm": 16, "mamba_rms_norm": True, **HEADS},
    ),
    "Zamba": (
        "ZambaMambaMixer",
        "zamba",
        {"mamba_d_state": N, "n_mamba_heads": 2, "mamba_dt_rank": 2},
    ),
}


def layer_of(name):
    mixer, module, options = HYBRIDS[name]
    code = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
    config = getattr(transformers, f"{name.split()[0]}Config")(hidden_size=8, **options)
    layer = randomized(getattr(code, mixer)(config, layer_idx=0)).eval()
    if module == "falcon_h1":  # the model gives it to the layer
        factors = torch.rand(1, 1, layer.in_proj.out_features)
        layer.register_buffer("mup_vector", factors, persistent=False)
        layer.ssm_in_multiplier = 1.3
    return layer


def inputs(batch=2, length=9):
    return torch.randn(batch, length, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", HYBRIDS)
def test_the_output_is_that_of_the_layer(name):
    layer, u = layer_of(name), inputs()
    y = layer(u)
    assert state_count(layer) == N
    assert (layer_output(layer, u) - y).abs().max() < 1e-6 * y.abs().max()


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_cut_is_the_layer_without_the_dropped_rows_of_C(name):
    layer, u = layer_of(name), inputs()
    groups = form_of(layer).groups
    kept = [[4, 1, 3], [0, 5, 2]][:groups]
    full = copy.deepcopy(layer)
    with torch.no_grad():
        if name == "Zamba":
            rank = full.dt_proj_weight.shape[-1]
            full.x_proj_weight[:, [rank + N + i for i in (0, 2, 5)]] = 0
        else:
            rows = [16 + (groups + g) * N + i for g in range(groups) for i in range(N)
                    if i not in kept[g]]  # fmt: skip
            full.conv1d.weight[rows] = 0
            full.conv1d.bias[rows] = 0
    keep_states_(layer, kept[0] if groups == 1 else kept)
    y = full(u)
    assert (layer(u) - y).abs().max() < 1e-6 * y.abs().max()


def language_model(name):
    torch.manual_seed(0)
    options = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 8,
               "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": None,
               "bos_token_id": None, "eos_token_id": None, **HYBRIDS[name][2]}  # fmt: skip
    if name == "NemotronH":
        options |= {"layers_block_type": ["mamba", "attention"], "head_dim": 4}
    if name == "GraniteMoeHybrid":
        options |= {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 8,
                    "num_local_experts": 0}  # fmt: skip
    config = getattr(transformers, f"{name}Config")(**options)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


@pytest.mark.parametrize("name", ["NemotronH", "GraniteMoeHybrid", "FalconH1"])
def test_models_generate_save_and_load_after_a_cut(name, tmp_path):
    model = language_model(name)
    tokens = torch.randint(0, 11, (3, 7), generator=torch.Generator().manual_seed(0))
    full, state = model(tokens).logits, copy.deepcopy(model.state_dict())
    event = compress_(model, States(4), data=[tokens])
    assert event.layers and all(cut.skipped is None and cut.after == 4 for cut in event.layers)
    options = {"max_new_tokens": 4, "do_sample": False}
    assert model.generate(tokens, **options).equal(
        model.generate(tokens, use_cache=False, **options)
    )
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(again(tokens).logits, model(tokens).logits)
    fresh = resize_on_load(language_model(name))
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(tokens).logits, model(tokens).logits)
    fresh.load_state_dict(state)  # and up again
    torch.testing.assert_close(fresh(tokens).logits, full)


def changed(change):
    layer = foreign("Mamba2")
    change(layer)
    return layer


NEARLY = {
    "has more_ of shape": lambda x: x.register_buffer("more_", torch.ones(3)),
    "has no D": lambda x: delattr(x, "D"),
    r"A_log has 2 axes, not 1": lambda x: setattr(x, "A_log", nn.Parameter(torch.ones(4, 1))),
    r"dt_bias has the shape \(5,\), not \(4,\)": lambda x: setattr(
        x, "dt_bias", nn.Parameter(torch.ones(5))
    ),
}


@pytest.mark.parametrize("difference", NEARLY)
def test_a_nearly_known_layer_is_refused_with_the_difference(difference):
    layer = changed(NEARLY[difference])
    with pytest.raises(UnsupportedLayerError, match=f"looks like Mamba2, but {difference}"):
        compress_(nn.Sequential(layer), States(3), data=[inputs()])
    model = nn.Sequential(Mamba(8, 4), layer.float())
    event = compress_(nn.Sequential(Mamba(8, 4)), States(3), data=[inputs()])
    assert event.layers[0].after == 3  # alone

    class Tuple(nn.Module):
        def __init__(self):
            super().__init__()
            self.known, self.nearly = model

        def forward(self, u):
            return self.known(u)

    event = compress_(Tuple(), States(3), data=[inputs()])
    known, nearly = event.layers
    assert known.after == 3 and nearly.skipped.startswith("looks like Mamba2, but")


def test_layers_that_are_none_are_not_said_to_look_like_one():
    attention = nn.MultiheadAttention(8, 2)
    with pytest.raises(UnsupportedLayerError, match="found no layer"):
        compress_(nn.Sequential(attention, nn.Linear(8, 8), nn.Conv1d(8, 8, 3)), States(3))


def test_kimi_linear_says_what_is_missing():
    code = importlib.import_module("transformers.models.kimi_linear.modeling_kimi_linear")
    config = transformers.KimiLinearConfig(hidden_size=8, linear_num_heads=2, linear_head_dim=6)
    layer = code.KimiLinearDeltaAttention(config, layer_idx=0)
    with pytest.raises(
        UnsupportedLayerError, match="looks like DeltaNet, but has no k_conv1d.weight"
    ):
        compress_(layer, States(3), data=[inputs()])
