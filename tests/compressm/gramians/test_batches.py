"""Batches as DataLoaders yield them: dicts, padding, entries that the model does not take."""

import pytest
import torch
from torch import nn
from transformers import BatchEncoding

from compressm import LRU, OptionError, SequenceModel, States, compress_
from compressm.gramians.observe import observe


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = LRU(3, 12)

    def forward(self, x, attention_mask=None):
        return self.layer(x)


MASK = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [0] * 4 + [1] * 5, [0] * 9, [1] * 5 + [0] * 4])


@pytest.mark.parametrize("kind", [dict, BatchEncoding])
def test_padding_by_a_mask_is_not_observed(kind):
    u = torch.randn(5, 9, 3)
    batch = kind({"x": u, "attention_mask": MASK, "labels": torch.zeros(5)})
    signals = observe(Model(), [batch, batch], gradients=True)["layer"]
    parts = [u[[1, 4], :5], u[[0]], u[[2], 4:]]
    assert len(signals) == 6
    for signal, part in zip(signals, parts * 2, strict=True):
        assert torch.equal(signal.u, part) and signal.g.shape == part.shape


def test_padding_by_lengths_does_not_change_a_cut():
    u = torch.randn(16, 30, 3)
    padded = torch.cat([u, 1e3 * torch.randn(16, 10, 3)], 1)
    batches = [{"x": padded, "lengths": torch.full((16,), 30)}]
    (cut,) = compress_(Model(), States(6), data=batches).layers
    (expected,) = compress_(Model(), States(6), data=[u]).layers
    assert cut.hsv == pytest.approx(expected.hsv, rel=1e-9)
    assert cut.output_error == pytest.approx(expected.output_error, rel=1e-9)


def test_a_batch_without_an_entry_of_the_model_is_refused_by_name():
    model = SequenceModel(1, 2, d_model=4, d_state=8, n_layers=1)
    with pytest.raises(OptionError, match="entries pixels, label, and the model takes u"):
        compress_(model, data=[{"pixels": torch.zeros(2, 5, 1), "label": torch.zeros(2)}])
