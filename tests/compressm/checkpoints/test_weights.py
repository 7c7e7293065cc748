"""Layers found in files of weights: known by their names, read without running anything."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compressm import (
    DSS,
    S4,
    S4D,
    S5,
    KeepEnergy,
    compress_,
    hankel_spectra,
    preview,
)
from compressm.checkpoints.file_format import CheckpointError
from compressm.checkpoints.weights import layers_in, read_checkpoint
from compressm.cli import main
from compressm.systems.find import ssm_layers
from tests.compressm.foreign_layers import MinimalLRU, PytorchLRU
from tests.compressm.helpers import model_of

SIZES = {"d_input": 1, "d_state": 12}


def save(model, path, kind):
    state = model.state_dict()
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"epoch": 3, kind: state} if kind else state, path)


@pytest.mark.parametrize("kind", ["", "state_dict", "model", "safetensors"])
def test_what_is_found_is_what_was_saved(tmp_path, kind):
    model = model_of(**SIZES)
    compress_(model.blocks[0], KeepEnergy(0.8))  # orders of their own
    path = tmp_path / ("weights." + (kind if kind == "safetensors" else "pt"))
    save(model, path, kind)
    found = layers_in(read_checkpoint(path))
    assert [name for name, _ in ssm_layers(found)] == ["blocks.0.layer", "blocks.1.layer"]
    for name, hsv in hankel_spectra(model).items():
        assert (hankel_spectra(found)[name] == hsv).all()


def test_a_layer_saved_alone_is_found():
    layer = model_of(**SIZES).blocks[0].layer
    ((name, found),) = ssm_layers(layers_in(layer.state_dict()))
    assert torch.equal(found.B, layer.B)


@pytest.mark.parametrize(
    "layer",
    [S4D(3, 4, bidirectional=True), S5(3, 4, bidirectional=True), S4(3, 4, bidirectional=True),
     DSS(3, 4, version="softmax", l_max=20)],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_options_that_tensors_show_need_not_be_said(layer):
    ((_, found),) = ssm_layers(layers_in(layer.state_dict()))
    u = torch.randn(2, 20, 3)
    assert torch.equal(found(u), layer(u))


def test_layers_of_other_packages_are_found():
    torch.manual_seed(0)
    model = nn.Sequential(MinimalLRU(3, 8), nn.Linear(3, 3), PytorchLRU(3, 3, 8))
    found = layers_in(model.state_dict())
    assert [name for name, _ in ssm_layers(found)] == ["0", "2"]
    for name, hsv in hankel_spectra(model).items():
        assert (hankel_spectra(found)[name] == hsv).all()
    before, after = (compress_(m, KeepEnergy(0.9), dry_run=True) for m in (model, found))
    assert str(before) == str(after)


def test_double_precision_stays():
    model = model_of(**SIZES).double()
    found = layers_in(model.state_dict())
    assert all(p.dtype == torch.float64 for p in found.parameters())
    for name, hsv in hankel_spectra(model).items():
        assert (hankel_spectra(found)[name] == hsv).all()


def test_no_code_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "was-here"), "w")

    path = tmp_path / "evil.pt"
    with path.open("wb") as file:
        pickle.dump({"model": Evil()}, file)
    torch.save({"model": Evil()}, tmp_path / "evil-too.pt")
    for name in ("evil.pt", "evil-too.pt"):
        with pytest.raises(CheckpointError, match="without running code from it"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_damaged_missing_and_foreign_files(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(CheckpointError, match="there is no file"):
        read_checkpoint(path)
    save(model_of(**SIZES), path, "safetensors" if path.suffix == ".safetensors" else "")
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"hello"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"no weights that can be read .* from it \([^)]"):
            read_checkpoint(path)


def test_files_without_tensors_or_layers(tmp_path):
    torch.save({"a": 1}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"found no state-space layer .* LRU \(nu_log"):
        layers_in(torch.nn.GRU(2, 2).state_dict())
    state = model_of(**SIZES).blocks[0].layer.state_dict()
    state["B"] = state["B"][..., 0]
    with pytest.raises(CheckpointError, match="found no state-space layer"):
        layers_in(state)


def test_the_command_prints_what_a_preview_says(tmp_path, capsys):
    model = model_of(**SIZES)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    report = tmp_path / "report.json"
    before = path.read_bytes()
    assert main(["inspect", str(path), "--energy", "0.9", "0.7", "--json", str(report)]) == 0
    assert path.read_bytes() == before
    printed = capsys.readouterr().out
    events = preview(model, [KeepEnergy(0.7), KeepEnergy(0.9)])
    saved = json.loads(report.read_text())
    for energy, event in zip(("0.7", "0.9"), events, strict=True):
        assert [cut["after"] for cut in saved[energy]] == [cut.after for cut in event.layers]
        for cut in event.layers:
            assert f"{cut.before} → {cut.after}" in printed and cut.name in printed
            assert f"{cut.parameters[1]:,}" in printed and f"{cut.flops[1]:,}" in printed


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "no.pt")]) == 2
    assert capsys.readouterr().err == f"compressm: there is no file {tmp_path / 'no.pt'}\n"
    path = tmp_path / "weights.pt"
    torch.save(S4D(2, 4).state_dict(), path)
    assert main(["inspect", str(path), "--option", "discretization=foo"]) == 2
    assert "discretization must be" in capsys.readouterr().err
    assert main(["inspect", str(path), "--option", "discretisation=zoh"]) == 2
    assert "no layer has an option 'discretisation'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["inspect", "x.pt", "--option", "bilinear"])
    assert "NAME=VALUE" in capsys.readouterr().err
