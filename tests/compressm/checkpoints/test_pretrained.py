"""Folders of save_pretrained: each layer comes back with as many states as it had."""

import copy
import json
import pickle
import warnings

import pytest
import torch
import transformers

from compressm import (
    CheckpointError,
    UnequalStatesWarning,
    keep_states_,
    load_pretrained,
    resize_on_load,
)
from compressm.systems.find import selective_layers, stored_states

TOKENS = torch.arange(12).reshape(2, 6)


def language_model(kind="Mamba", tied=True):
    torch.manual_seed(0)
    heads = {"num_heads": 4, "head_dim": 4, "n_groups": 2} if kind == "Mamba2" else {}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=16,
        hidden_size=8,
        state_size=6,
        num_hidden_layers=2,
        tie_word_embeddings=tied,
        pad_token_id=0,
        **heads,
    )
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def unequal(kind="Mamba", tied=True):
    """A model whose layers keep 2 and 3 of 6 states."""
    model = language_model(kind, tied)
    for kept, (_, layer) in zip(([0, 4], [1, 2, 5]), selective_layers(model), strict=True):
        keep_states_(layer, kept)
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["Mamba", "Mamba2"])
def test_unequal_sizes_come_back(tmp_path, kind, tied):
    model = unequal(kind, tied)
    model.save_pretrained(tmp_path)
    found = load_pretrained(tmp_path)
    assert type(found) is type(model) and not found.training
    assert [stored_states(layer) for _, layer in selective_layers(found)] == [2, 3]
    with torch.no_grad():
        assert torch.equal(found(TOKENS).logits, model(TOKENS).logits)
        assert torch.equal(
            found.generate(TOKENS, max_new_tokens=4, do_sample=False),
            model.generate(TOKENS, max_new_tokens=4, do_sample=False),
        )
    tie = found.get_output_embeddings().weight is found.get_input_embeddings().weight
    assert tie == tied


@pytest.mark.parametrize(
    "copied", [lambda x: x, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_unequal_sizes_warn_where_they_are_saved(tmp_path, copied):
    full = resize_on_load(language_model())
    model = copied(full)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnequalStatesWarning)
        model.save_pretrained(tmp_path / "equal")
    for kept, (_, layer) in zip(([0, 4], [1, 2, 5]), selective_layers(model), strict=True):
        keep_states_(layer, kept)
    with pytest.warns(UnequalStatesWarning, match=r"2 to 3, .* compressm\.load_pretrained"):
        model.save_pretrained(tmp_path / "unequal")
    with torch.no_grad():
        assert torch.equal(
            load_pretrained(tmp_path / "unequal")(TOKENS).logits, model(TOKENS).logits
        )


def test_weights_in_several_files(tmp_path):
    model = unequal()
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    found = load_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(found(TOKENS).logits, model(TOKENS).logits)


def test_half_precision_stays(tmp_path):
    unequal().to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in load_pretrained(tmp_path).parameters()} == {torch.bfloat16}


def changed(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "is no configuration"),
        (lambda f: changed(f, architectures=["Unknown"]), "does not have"),
        (lambda f: changed(f, architectures=None), "does not have"),
        (lambda f: changed(f, num_hidden_layers=3), "is missing"),
        (lambda f: changed(f, num_hidden_layers=1), "is unknown to it"),
        (lambda f: changed(f, hidden_size=16), "do not fit"),
        (lambda f: (f / "model.safetensors").unlink(), "has no readable model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), "has no readable"),
        (
            lambda f: (f / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "../other.safetensors"}}'
            ),
            "outside of its folder",
        ),
    ],
)
def test_what_is_no_such_folder_is_refused(tmp_path, spoil, message):
    unequal().save_pretrained(tmp_path)
    spoil(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_pretrained(tmp_path)
