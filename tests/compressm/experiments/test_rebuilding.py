"""Models and inputs from files: states weighed by data at the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from compressm import LRU, KeepEnergy, Mamba, SequenceModel, compress_, preview, save_checkpoint
from compressm.cli import main
from compressm.experiments.data import digits
from compressm.experiments.rebuilding import inputs_of, rebuilt
from compressm.experiments.recipes import read_recipe
from compressm.experiments.runs import train
from compressm.experiments.tables import kinds_table
from tests.compressm.foreign_layers import MinimalLRU


def model_of(layer="lru", **options):
    torch.manual_seed(0)
    return SequenceModel(2, 3, d_model=4, d_state=12, n_layers=2, layer=layer, **options)


def inputs(n=9, length=30, channels=2):
    return np.random.default_rng(0).standard_normal((n, length, channels)).cumsum(1)


class Own(nn.Module):
    """A model of which compressm knows nothing but a layer."""

    def __init__(self, n=8):
        super().__init__()
        self.layer, self.out = MinimalLRU(2, n), nn.Linear(2, 3)

    def forward(self, u):
        return self.out(self.layer(u))


def own():
    torch.manual_seed(1)
    return Own()


def number():
    return 3


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Return a function that runs `compressm inspect` in an empty folder: code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    np.save("x.npy", inputs())
    torch.save(model_of().state_dict(), "model.pt")

    def call(*argv):
        code = main(["inspect", *map(str, argv)])
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    "options",
    [{}, {"layer": "s5", "bidirectional": True}, {"layer": "s4d", "pool": "last"}],
    ids=str,
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_sequence_model_is_rebuilt_from_names_and_shapes(tmp_path, options, whole):
    model = model_of(**options).double()
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
    u = torch.as_tensor(inputs()).to(model.head.weight)
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
    model = model_of()
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
    (u,) = inputs_of(model_of(), tmp_path / "x.npy")
    assert torch.equal(u, torch.from_numpy(pixels).float())


def test_any_model_is_rebuilt_by_a_function(tmp_path):
    model, path = Own(), tmp_path / "own.safetensors"
    save_checkpoint(path, model)
    found, assumed = rebuilt(path, "tests.compressm.experiments.test_rebuilding:own")
    u = torch.as_tensor(inputs(), dtype=torch.float32)
    assert assumed == "" and torch.equal(found(u), model(u))


@pytest.mark.parametrize("name", ["x.npy", "one.npz", "two.npz", "named.npz", "x.safetensors"])
def test_inputs_come_from_files_in_the_precision_of_the_model(tmp_path, name):
    x, path = inputs(), tmp_path / name
    arrays = {"one": {"a": x}, "two": {"x_train": x, "x_test": x[:1], "y_train": x[:, 0, 0]}}
    arrays |= {"named": {"a": x[:1], "b": x}, "x": {"a": x}}
    if path.suffix == ".npy":
        np.save(path, x)
    else:
        save = save_file if path.suffix == ".safetensors" else lambda a, p: np.savez(p, **a)
        save(arrays[path.stem], path)
    batches = inputs_of(model_of(), path, "b" if name == "named.npz" else None)
    assert torch.equal(torch.cat(batches), torch.from_numpy(x).float())


def test_the_command_shows_the_kinds_side_by_side(call, tmp_path):
    code, out, err = call("model.pt", "--data", "x.npy", "--json", "report.json")
    assert (code, err) == (0, "") and "Assumed of the model: pool=mean" in out
    report = json.loads((tmp_path / "report.json").read_text())
    model, kinds = model_of(), ("model", "input", "data")
    policies = [None, *map(KeepEnergy, (0.9, 0.99, 0.999))]
    torch.manual_seed(0)
    x = torch.from_numpy(inputs()).float()
    events = iter(preview(model, policies, gramians=kinds, data=[x]))
    rows = [line.split("blocks.")[1] for line in out.splitlines() if "blocks." in line][2:]
    for kind in kinds:
        for i, keep in enumerate(("default", "0.9", "0.99", "0.999")):
            for k, cut in enumerate(next(events).layers):
                saved = report[kind][keep][k]
                assert (saved["after"], saved["gramians"]) == (cut.after, cut.gramians)
                assert (saved["error_bound"] is None) == (kind != "model" and cut.after < 12)
                assert f"{cut.after} ({100 * cut.energy_kept:.4g}%" in rows[2 * i + k]
                assert saved["output_error"] == cut.output_error
                if cut.output_error is not None:
                    assert f"; {100 * cut.output_error:.2g}%)" in rows[2 * i + k]
    _, out, _ = call("model.pt", "--data", "x.npy", "--energy", "0.5", "--sequences", "3")
    assert "\ndefault" not in out and "\n0.5" in out


def test_the_command_says_why_a_layer_is_left(call):
    model = model_of()
    with torch.no_grad():
        model.blocks[1].layer.C.zero_()
    torch.save(model.state_dict(), "model.pt")
    code, out, _ = call("model.pt", "--data", "x.npy", "--energy", "0.9")
    assert code == 0
    told = " ".join(out.split())
    assert "at 0.9, input, blocks.1.layer: its Hankel singular values are all zero" in told


@pytest.mark.parametrize("instead", [False, True])
def test_the_table_says_where_stability_took_another_kind(instead):
    event = compress_(model_of(), KeepEnergy(0.5), dry_run=True)
    cuts = tuple(replace(cut, gramians="input" if instead else "data") for cut in event.layers)
    table = kinds_table([replace(event, layers=cuts)], [None], ["data"])
    (cells,) = (list(column.cells) for column in table.columns[2:])
    assert all(cell.endswith(" by input") == instead for cell in cells) and len(cells) == 2
    assert ("not be stable" in table.caption) == instead


HERE = "tests.compressm.experiments.test_rebuilding"


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
        ("model.pt --data words.npy", "words.npy holds <U3, which are no inputs"),
        ("model.pt --data nan.npy", "nan.npy holds numbers that are not finite"),
        ("model.pt --data empty.npy", "empty.npy holds no sequences, its shape is (0, 30, 2)"),
        ("model.pt --data thin.npy", "does not take the inputs (9, 30, 1) of numbers in thin.npy"),
        ("foreign.pt --data x.npy", "cannot be rebuilt (it is another package's); give --model"),
        ("tokens.pt --data many.npy", "does not take the inputs (60, 3) of tokens in many.npy"),
        ("model.pt --data tokens.npy", "does not take the inputs (2, 3) of tokens in tokens.npy"),
        ("model.pt --data x.npy --option pool=max", "there is no pooling 'max'"),
        ("model.pt --data x.npy --option speed=3", "(no layer has an option 'speed'"),
        ("layer.pt --data x.npy", "layer.pt holds no SequenceModel, as it has no encoder.weight"),
        ("mamba.pt --data x.npy", "blocks.1.layer cannot be rebuilt (found no state-space layer"),
        (f"model.pt --data x.npy --model {HERE}:own", "model.pt does not fit Own (Error"),
        (f"model.pt --data x.npy --model {HERE}:number", ":number gives no nn.Module but int"),
        (f"model.pt --data x.npy --model {HERE}:none", "none could not be called (AttributeError"),
        (f"model.pt --data x.npy --model {HERE}", "test_rebuilding could not be called (TypeError"),
        (f"model.pt --data x.npy --model {HERE}:own --option pool=last", "options pool are of no"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(call, argv, message):
    np.savez("two.npz", a=inputs(), b=inputs())
    np.save("nan.npy", inputs() * np.nan)
    np.save("empty.npy", inputs(0))
    np.save("thin.npy", inputs(channels=1))
    np.save("tokens.npy", np.zeros((2, 3), int))
    np.save("words.npy", np.array(["one", "two"]))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    with open("broken.npz", "wb") as file:
        file.write(b"PK\x03\x04")
    torch.save(LRU(2, 4).state_dict(), "layer.pt")
    mixed = model_of()
    mixed.blocks[1].layer = Mamba(4, 3)
    torch.save(mixed.state_dict(), "mamba.pt")
    mixed.blocks[1].layer = MinimalLRU(4, 3)
    torch.save(mixed.state_dict(), "foreign.pt")
    tokens = model_of()
    tokens.encoder = nn.Embedding(7, 4)
    torch.save(tokens.state_dict(), "tokens.pt")
    np.save("many.npy", np.arange(180).reshape(60, 3) // 25)  # the last are beyond
    code, out, err = call(*argv.split())
    assert (code, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("compressm: ") and message in err
