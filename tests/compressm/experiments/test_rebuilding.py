"""Models and their inputs, rebuilt from files."""

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from compressm import KeepEnergy, compress_, save_checkpoint
from compressm.experiments.data import digits
from compressm.experiments.rebuilding import inputs_of, rebuilt
from compressm.experiments.recipes import read_recipe
from compressm.experiments.runs import train
from tests.compressm.experiments.helpers import walks
from tests.compressm.foreign_model import Own
from tests.compressm.helpers import model_of


@pytest.mark.parametrize(
    "options",
    [{}, {"layer": "s5", "bidirectional": True}, {"layer": "s4d", "pool": "last"}],
    ids=str,
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_sequence_model_is_rebuilt_from_names_and_shapes(tmp_path, options, whole):
    model = model_of(d_state=12, **options).double()
    compress_(model.blocks[0], KeepEnergy(0.8))  # orders of their own
    path = tmp_path / ("model.safetensors" if whole else "model.pt")
    if whole:
        average = {name: torch.zeros_like(x) for name, x in model.float().state_dict().items()}
        optimizer = torch.optim.AdamW(model.parameters())
        save_checkpoint(path, model, optimizer, extra={"average": average})
    else:
        torch.save(model.state_dict(), path)
    found, assumed = rebuilt(path, **({"pool": "last"} if "pool" in options else {}))
    assert f"pool={model.pool}" in assumed
    u = torch.as_tensor(walks()).to(model.head.weight)
    assert torch.equal(found(u), model.eval()(u))


@pytest.mark.parametrize("layer", ["lru", "mamba"])
def test_a_run_is_rebuilt_as_its_recipe_says(tmp_path, layer):
    recipe = read_recipe(
        "smnist",
        ["data=digits", f"layer={layer}", "layer_options={}", "d_state=8", "steps=2", "cuts=1",
         "cut_window=0.5", "gramians=input", "eval_size=50"],
    )  # fmt: skip
    result = train(recipe, digits(), tmp_path, arm="small", order=5)
    found, assumed = rebuilt(tmp_path / "checkpoint.safetensors")
    u = inputs_of(found, "digits", None, tmp_path / "checkpoint.safetensors", 7)[0]
    assert assumed == "" and torch.equal(u, digits().x_train[:7])
    assert torch.equal(found(u), result.model.eval()(u))


def test_a_model_of_tokens_is_rebuilt(tmp_path):
    model = model_of(d_state=12)
    model.encoder = nn.Embedding(7, 4)
    torch.save(model.state_dict(), tmp_path / "tokens.pt")
    tokens = np.arange(36, dtype=np.uint8).reshape(4, 9) % 7
    np.save(tmp_path / "x.npy", tokens)
    found, _ = rebuilt(tmp_path / "tokens.pt")
    (u,) = inputs_of(found, tmp_path / "x.npy")
    assert torch.equal(found(u), model.eval()(torch.from_numpy(tokens).long()))


def test_whole_numbers_with_channels_are_values(tmp_path):
    pixels = np.arange(36, dtype=np.uint8).reshape(2, 9, 2)
    np.save(tmp_path / "x.npy", pixels)
    (u,) = inputs_of(model_of(d_state=12), tmp_path / "x.npy")
    assert torch.equal(u, torch.from_numpy(pixels).float())


def test_any_model_is_rebuilt_by_a_function(tmp_path):
    model, path = Own(), tmp_path / "own.safetensors"
    save_checkpoint(path, model)
    found, assumed = rebuilt(path, "tests.compressm.foreign_model:build")
    u = torch.as_tensor(walks(), dtype=torch.float32)
    assert assumed == "" and torch.equal(found(u), model(u))


@pytest.mark.parametrize("name", ["x.npy", "one.npz", "two.npz", "named.npz", "x.safetensors"])
def test_inputs_come_from_files_in_the_precision_of_the_model(tmp_path, name):
    x, path = walks(), tmp_path / name
    arrays = {"one": {"a": x}, "two": {"x_train": x, "x_test": x[:1], "y_train": x[:, 0, 0]}}
    arrays |= {"named": {"a": x[:1], "b": x}, "x": {"a": x}}
    if path.suffix == ".npy":
        np.save(path, x)
    else:
        save = save_file if path.suffix == ".safetensors" else lambda a, p: np.savez(p, **a)
        save(arrays[path.stem], path)
    batches = inputs_of(model_of(d_state=12), path, "b" if name == "named.npz" else None)
    assert torch.equal(torch.cat(batches), torch.from_numpy(x).float())
