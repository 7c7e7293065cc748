"""`compressm inspect` with inputs: Gramian types side by side, and what is wrong in one line."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compressm import LRU, KeepEnergy, Mamba, preview
from tests.compressm.experiments.helpers import walks
from tests.compressm.foreign_layers import MinimalLRU
from tests.compressm.foreign_model import Own
from tests.compressm.helpers import model_of


@pytest.fixture
def inspect(call, monkeypatch):
    """Return a function that runs `compressm inspect` beside a model and inputs of it."""
    monkeypatch.setenv("COLUMNS", "120")
    np.save("x.npy", walks())
    torch.save(model_of(d_state=12).state_dict(), "model.pt")

    return partial(call, "inspect")


def test_the_command_shows_gramian_types_side_by_side(inspect, tmp_path):
    code, out, err = inspect("model.pt", "--data", "x.npy", "--json", "report.json")
    assert (code, err) == (0, "") and "Assumed of the model: pool=mean" in out
    report = json.loads((tmp_path / "report.json").read_text())
    model, types = model_of(d_state=12), ("model", "input", "data")
    policies = [None, *map(KeepEnergy, (0.9, 0.99, 0.999))]
    torch.manual_seed(0)
    x = torch.from_numpy(walks()).float()
    events = iter(preview(model, policies, gramians=types, data=[x]))
    rows = [line.split("blocks.")[1] for line in out.splitlines() if "blocks." in line][2:]
    for gramians in types:
        for i, keep in enumerate(("default", "0.9", "0.99", "0.999")):
            for k, cut in enumerate(next(events).layers):
                saved = report[gramians][keep][k]
                assert (saved["after"], saved["gramians"]) == (cut.after, cut.gramians)
                assert (saved["error_bound"] is None) == (gramians != "model" and cut.after < 12)
                assert f"{cut.after} ({100 * cut.energy_kept:.4g}%" in rows[2 * i + k]
                assert saved["output_error"] == cut.output_error
                if cut.output_error is not None:
                    assert f"; {100 * cut.output_error:.2g}%)" in rows[2 * i + k]
    _, out, _ = inspect("model.pt", "--data", "x.npy", "--energy", "0.5", "--sequences", "3")
    assert "\ndefault" not in out and "\n0.5" in out


def test_the_command_says_why_a_layer_is_left(inspect):
    model = model_of(d_state=12)
    with torch.no_grad():
        model.blocks[1].layer.C.zero_()
    torch.save(model.state_dict(), "model.pt")
    code, out, _ = inspect("model.pt", "--data", "x.npy", "--energy", "0.9")
    assert code == 0
    told = " ".join(out.split())
    assert "at 0.9, input, blocks.1.layer: its Hankel singular values are all zero" in told


MODEL = "tests.compressm.foreign_model"


@pytest.mark.parametrize(
    "argv, message",
    [
        ("model.pt --key a", "--key and --model are of use with --data only"),
        ("no.pt --data x.npy", "there is no file no.pt"),
        ("model.pt --data none.npy", "none.npy cannot be read as arrays (FileNotFoundError"),
        ("model.pt --data nodata", "no data set of that name is known; there are cifar, digits"),
        ("model.pt --data model.pt", "is no .npz, .npy or .safetensors file"),
        ("model.pt --data broken.npz", "broken.npz cannot be read as arrays"),
        ("model.pt --data objects.npy", "objects.npy cannot be read as arrays"),
        ("model.pt --data two.npz", "two.npz holds a, b, and no x_train or x_test; give --key"),
        ("model.pt --data two.npz --key c", "two.npz holds a, b, and no c; give --key"),
        ("model.pt --data words.npy", "words.npy holds <U3, which cannot be inputs"),
        ("model.pt --data nan.npy", "nan.npy holds numbers that are not finite"),
        ("model.pt --data empty.npy", "empty.npy holds no sequences, its shape is (0, 30, 2)"),
        ("model.pt --data thin.npy", "does not accept the inputs (9, 30, 1) of numbers in thin"),
        ("foreign.pt --data x.npy", "cannot be rebuilt (it is another package's); give --model"),
        ("tokens.pt --data many.npy", "does not accept the inputs (60, 3) of tokens in many.npy"),
        ("model.pt --data tokens.npy", "does not accept the inputs (2, 3) of tokens in tokens.npy"),
        ("model.pt --data x.npy --option pool=max", "there is no pooling 'max'"),
        ("model.pt --data x.npy --option speed=3", "(no layer has an option 'speed'"),
        ("layer.pt --data x.npy", "layer.pt holds no SequenceModel, as it has no encoder.weight"),
        ("mamba.pt --data x.npy", "blocks.1.layer cannot be rebuilt (found no state-space layer"),
        (f"model.pt --data x.npy --model {MODEL}:build", "model.pt does not fit Own (size mis"),
        (f"model.pt --data x.npy --model {MODEL}:number", ":number returns no nn.Module but int"),
        (f"model.pt --data x.npy --model {MODEL}:none", "none could not be called (Attribute"),
        (f"model.pt --data x.npy --model {MODEL}", "foreign_model could not be called (TypeError"),
        (f"model.pt --data x.npy --model {MODEL}:build --option pool=last", "options pool have no"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(inspect, argv, message):
    np.savez("two.npz", a=walks(), b=walks())
    np.save("nan.npy", walks() * np.nan)
    np.save("empty.npy", walks(0))
    np.save("thin.npy", walks(channels=1))
    np.save("tokens.npy", np.zeros((2, 3), int))
    np.save("words.npy", np.array(["one", "two"]))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    with open("broken.npz", "wb") as file:
        file.write(b"PK\x03\x04")
    torch.save(LRU(2, 4).state_dict(), "layer.pt")
    mixed = model_of(d_state=12)
    mixed.blocks[1].layer = Mamba(4, 3)
    torch.save(mixed.state_dict(), "mamba.pt")
    mixed.blocks[1].layer = MinimalLRU(4, 3)
    torch.save(mixed.state_dict(), "foreign.pt")
    tokens = model_of(d_state=12)
    tokens.encoder = nn.Embedding(7, 4)
    torch.save(tokens.state_dict(), "tokens.pt")
    np.save("many.npy", np.arange(180).reshape(60, 3) // 25)  # the last are beyond
    code, out, err = inspect(*argv.split())
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("compressm: ") and message in err


# ------------------------------------------------------------------ what a file may hold


@pytest.mark.parametrize("name", ["forward", "training", "_modules", "[red]x", "a b"])
def test_any_name_that_can_be_printed_is_a_name(inspect, name):
    torch.save({f"{name}.{k}": x for k, x in LRU(2, 4).state_dict().items()}, "named.pt")
    code, out, _ = inspect("named.pt")
    assert code == 0 and any(line.startswith(f"{name} ") for line in out.splitlines())


@pytest.mark.parametrize("name", [0, "esc\x1b[31m"])
def test_other_names_are_refused(inspect, name):
    torch.save({name: torch.ones(2)} | LRU(2, 4).state_dict(), "named.pt")
    code, out, err = inspect("named.pt")
    assert (code, out) == (2, "") and f"the name {name!r}, which is no printable text" in err


@pytest.mark.parametrize("data", [(), ("--data", "x.npy")])
def test_tables_fit_80_columns_whatever_the_names(inspect, monkeypatch, data):
    monkeypatch.setenv("COLUMNS", "80")
    model = model_of(d_state=12)
    prefix = "" if data else "a_long_name.of_a_wrapper.around_the.model."
    torch.save({f"{prefix}{k}": x for k, x in model.state_dict().items()}, "long.pt")
    code, out, _ = inspect("long.pt", *data)
    assert code == 0 and "…" not in out and max(map(len, out.splitlines())) <= 80


def test_a_folder_stands_for_the_weights_in_it(inspect, tmp_path):
    (tmp_path / "run").mkdir()
    save_file(LRU(2, 4).state_dict(), "run/model.safetensors")
    assert inspect("run") == inspect("run/model.safetensors")
    save_file(LRU(3, 5).state_dict(), "run/checkpoint.safetensors")
    assert inspect("run") == inspect("run/checkpoint.safetensors")


@pytest.mark.parametrize("states", [8, 5])
def test_tied_weights_may_be_missing_and_layers_may_have_been_cut(inspect, states):
    tensors = tied(states).state_dict()
    del tensors["out.weight"]
    torch.save(tensors, "tied.pt")
    code, out, err = inspect(
        "tied.pt", "--data", "x.npy", "--model", "tests.compressm.cli.test_inspect:tied"
    )
    assert (code, err) == (0, "") and f"  {states}  " in out.splitlines()[3]


def tied(n=8):
    """Return a model whose readout is tied to its encoder."""
    model = Own(n)
    model.encoder, model.out = nn.Linear(2, 2), nn.Linear(2, 2)
    model.out.weight = model.encoder.weight
    return model


@pytest.mark.parametrize("numbers", [np.uint8, np.int64])
def test_whole_numbers_with_channels_are_no_tokens(inspect, numbers):
    np.save("pixels.npy", np.arange(9 * 30 * 2).reshape(9, 30, 2).astype(numbers))
    assert inspect("model.pt", "--data", "pixels.npy", "--energy", "0.9")[0] == 0
