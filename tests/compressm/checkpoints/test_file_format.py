"""Nested values in one file: what is loaded was saved, and a failed save changes nothing."""

import os
from collections import Counter, OrderedDict

import pytest
import torch
from safetensors.torch import load_file

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
    with pytest.raises(OSError, match="No space left"):
        save_tree(tmp_path / "tree", {"a": 2})
    assert load_tree(tmp_path / "tree") == {"a": 1} and os.listdir(tmp_path) == ["tree"]
