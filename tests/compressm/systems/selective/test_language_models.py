"""Language models of transformers, cut while they train; then saved, loaded, run with a cache."""

import pytest
import torch

from compressm import Compressor, Every, States, UnequalStatesWarning, compress_
from compressm.systems.find import selective_layers
from compressm.systems.selective.keep import keep_states_
from tests.compressm.selective_layers import GRAMIANS, language_model, tokens


@pytest.mark.parametrize("gramians", GRAMIANS)
@pytest.mark.parametrize("name", ["Mamba", "FalconMamba", "Mamba2"])
def test_a_language_model_is_cut_while_it_trains_and_trains_on(name, gramians):
    model = language_model(name)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    compressor = Compressor(
        model, optimizer, policy=States(2), schedule=Every(2, stop=2), gramians=gramians
    )
    events = []
    for _ in range(3):
        before = {key: p.detach().clone() for key, p in model.named_parameters()}
        loss = model(tokens(), labels=tokens()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        events.append(compressor.step())
    assert [event is not None for event in events] == [False, True, False]
    assert [(cut.after, cut.skipped) for cut in events[1].layers] == [(2, None)] * 2
    assert model.config.state_size == 2
    for key, p in model.named_parameters():
        assert p.shape == before[key].shape and (p != before[key]).any(), key


@torch.no_grad()
@pytest.mark.parametrize("name", ["Mamba", "FalconMamba", "Mamba2"])
def test_a_cut_language_model_generates_with_a_cache(name):
    model, prompt = language_model(name).eval(), tokens()
    compress_(model, States(4), data=[prompt])
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
    compress_(model, States(4), data=[tokens()])
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert loaded.config.state_size == 4
    assert torch.equal(loaded(tokens()).logits, model(tokens()).logits)


def test_a_configuration_stays_where_a_layer_is_not_known(tmp_path):
    model = language_model("Mamba")
    model.backbone.layers[0].mixer.register_buffer("more", torch.ones(2), persistent=False)
    before = model.config.state_size
    event = compress_(model, States(4), data=[tokens()])
    nearly, known = event.layers
    assert "looks like Mamba" in nearly.skipped and known.after == 4
    assert model.config.state_size == before
    with pytest.warns(UnequalStatesWarning, match=f"4 to {before}"):
        model.save_pretrained(tmp_path)
