"""What a model and its layers may return, where gradients are observed."""

import dataclasses
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import nn

from compressm import LRU, At, Compressor, OptionError, States, compress_
from tests.compressm.helpers import smooth
from tests.compressm.language_models import tokens


@dataclasses.dataclass
class Record:
    y: Any


class Pair(NamedTuple):
    fixed: Any
    y: Any


class Returns(nn.Module):
    """A model that returns a function of what it computes, and whose layer returns one too."""

    def __init__(self, returned, by_layer=lambda y: y):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head, self.returned = LRU(4, 16), nn.Linear(4, 3), returned
        self.layer.register_forward_hook(lambda *given: by_layer(given[-1]))

    def forward(self, u):
        y = self.layer(u)
        y = y["y"] if isinstance(y, dict) else y
        return self.returned(self.head(y))


RETURNED = {
    "tensor": lambda y: y,
    "complex": lambda y: torch.complex(y, y),
    "dict": lambda y: {"y": y},
    "logits": lambda y: {"loss": y.sum(), "logits": y},
    "list": lambda y: [None, [y]],
    "none first": lambda y: (None, y),
    "integers first": lambda y: (y.argmax(-1), y),
    "named tuple": lambda y: Pair(y.detach(), y),
    "dataclass": Record,
}


@pytest.mark.parametrize("name", RETURNED)
def test_gradients_start_from_whatever_a_model_returns(name):
    (cut,) = compress_(Returns(RETURNED[name]), States(4), data=[smooth(16, 20, 4)],
                       gramians="data").layers  # fmt: skip
    assert (cut.gramians, cut.after <= 4, cut.skipped) == ("data", True, None)


def test_so_do_those_of_a_model_without_a_head():
    config = transformers.MambaConfig(
        vocab_size=11, hidden_size=4, state_size=8, num_hidden_layers=1
    )
    model = transformers.MambaModel(config)
    assert compress_(model, States(4), data=[tokens()], gramians="data").layers[0].after == 4


@pytest.mark.parametrize(
    "returned",
    [
        lambda y: y.argmax(-1),
        torch.Tensor.detach,
        lambda y: None,
        lambda y: (),
        torch.Tensor.tolist,
    ],
)
def test_an_output_without_gradient_is_refused(returned):
    model, data = Returns(returned), [smooth(16, 20, 4)]
    with pytest.raises(OptionError, match="needs an output with a gradient"):
        compress_(model, States(4), data=data, gramians="data")
    assert compress_(model, States(4), data=data, gramians="input").layers[0].after == 4


def test_a_layer_may_return_a_mapping():
    model = Returns(RETURNED["tensor"], lambda y: {"y": y})
    compressor = Compressor(model, policy=States(4), schedule=At(1), gramians="data")
    model(smooth(16, 20, 4)).square().sum().backward()
    assert compressor._observer.signals["layer"][0].g.any()
    assert compressor.step().layers[0].after == 4
