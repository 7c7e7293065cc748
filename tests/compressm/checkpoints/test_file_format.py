"""Nested values in one file: what is loaded was saved, and a failed save changes nothing."""

import json
import os
from collections import Counter, OrderedDict

import pytest
import torch
from safetensors.torch import load_file, save_file

from compressm import CheckpointError
from compressm.checkpoints.file_format import load_tree, save_tree


def test_containers_numbers_and_tensors_come_back(tmp_path):
    tree = {
        "a.b": torch.zeros(()),
        "a": {"b": torch.ones(2, 3).mT, 7: [(1, 2.5, None), "x", True, float("inf")]},
        "kinds": [OrderedDict(z=1, a=2), Counter({3: 2}), torch.zeros(0, 2, dtype=torch.bool)],
    }
    save_tree(tmp_path / "tree", tree)
    found = load_tree(tmp_path / "tree")
    assert [type(x) for x in found["kinds"]] == [OrderedDict, Counter, torch.Tensor]
    (left, shape), (right, other) = (torch.utils._pytree.tree_flatten(x) for x in (tree, found))
    assert shape == other and len(left) == 12
    for x, y in zip(left, right, strict=True):
        assert type(x) is type(y)
        assert torch.equal(x, y) and x.dtype == y.dtype if isinstance(x, torch.Tensor) else x == y


def test_other_readers_find_a_tensor_by_its_path(tmp_path):
    save_tree(tmp_path / "tree", {"model": {"head.bias": torch.ones(2)}})
    assert torch.equal(load_file(tmp_path / "tree")["model.head.bias"], torch.ones(2))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"extra": [{1, 2}]}, r"extra\.0 is a set, .* without pickle"),
        ({None: 1}, "keys that are no str or int"),
    ],
)
def test_what_needs_pickle_is_refused_and_the_old_file_stays(tmp_path, tree, message):
    save_tree(tmp_path / "tree", {"a": 1})
    with pytest.raises(CheckpointError, match=message):
        save_tree(tmp_path / "tree", tree)
    assert load_tree(tmp_path / "tree") == {"a": 1}


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    save_tree(tmp_path / "tree", {"a": 1})

    def full(descriptor):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_tree(tmp_path / "tree", {"a": 2})
    assert load_tree(tmp_path / "tree") == {"a": 1} and os.listdir(tmp_path) == ["tree"]


TREE = {
    "model": {"weight": torch.arange(6.0).reshape(2, 3), "z": torch.ones(2, dtype=torch.cfloat)},
    "steps": [1, 2.5, None, "text"],
    "double": torch.ones(1, dtype=torch.complex128),
}


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = tmp_path / "tree"
    save_tree(path, TREE)
    good, expected = path.read_bytes(), repr(load_tree(path))
    refused = 0
    for at in range(len(good)):
        for bit in (0, 3, 6):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
            try:
                assert repr(load_tree(path)) == expected  # padding, or the names of a header
            except CheckpointError:
                refused += 1
    assert refused > 2 * len(good)


def test_no_truncated_file_is_read(tmp_path):
    path = tmp_path / "tree"
    save_tree(path, TREE)
    good = path.read_bytes()
    for size in range(0, len(good), 7):
        path.write_bytes(good[:size])
        with pytest.raises(CheckpointError):
            load_tree(path)


def written_as(path, record):
    save_file({"weight": torch.ones(2)}, path, {"compressm": json.dumps(record)})


def test_a_file_of_the_first_format_is_read(tmp_path):
    path = tmp_path / "old"
    written_as(path, {"dict": [["weight", {"tensor": "weight"}], ["step", 3]]})
    found = load_tree(path)
    assert torch.equal(found["weight"], torch.ones(2)) and found["step"] == 3


@pytest.mark.parametrize(
    "record, message",
    [
        ({"format": 3, "tree": {}}, "has format 3.*update compressm"),
        ({"format": 2, "sha256": "0", "tree": "{}"}, "does not fit its checksum"),
        ({"dict": [["a", {"tensor": "missing"}]]}, "header of .* is damaged"),
        ({"dict": 5}, "header of .* is damaged"),
        ([], "header of .* is damaged"),
        ({"unknown": []}, "header of .* is damaged"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path, record, message):
    written_as(tmp_path / "file", record)
    with pytest.raises(CheckpointError, match=message):
        load_tree(tmp_path / "file")
