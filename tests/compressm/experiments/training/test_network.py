"""The network of a run: tokens are embedded."""

import torch

from compressm.experiments.training import model_of


def test_tokens_are_embedded(data, recipe):
    model = model_of(data, recipe)
    assert model.encoder.weight.shape == (16, 4)
    x = data.x_train[:2]
    assert torch.equal(model.encoder(x), model.encoder.weight[x.long()])
