"""In training, steps that the model is told are padding are not observed."""

import copy

import pytest
import torch
from torch import nn

from compressm import LRU, At, Compressor, States

LENGTHS = torch.tensor([9, 5, 9, 5])
MASK = (torch.arange(9) < LENGTHS[:, None]).long()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = LRU(3, 12)

    def forward(self, x, attention_mask=None, lengths=None, labels=None):
        return self.layer(x)


def prepared(**options):
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    return model, Compressor(model, optimizer, policy=States(4), schedule=At(1), **options)


def train(model, *args, u=None, **kwargs):
    torch.manual_seed(1)
    u = torch.randn(4, 9, 3) if u is None else u
    model(u, *args, **kwargs).square().mean().backward()
    return u


@pytest.mark.parametrize(
    "args, kwargs",
    [
        ((), {"attention_mask": MASK}),
        ((MASK,), {}),
        ((), {"lengths": LENGTHS}),
        ((None, LENGTHS), {}),
    ],
    ids=["mask", "by place", "lengths", "lengths by place"],
)
def test_what_is_padding_is_not_observed(args, kwargs):
    model, compressor = prepared(gramians="data")
    u = train(model, *args, **kwargs)
    train(model, u=u)  # a batch without
    short, long, whole = compressor._observer.stop()["layer"]
    assert torch.equal(short.u, u[[1, 3], :5]) and torch.equal(long.u, u[[0, 2]])
    assert torch.equal(whole.u, u)
    assert all(x.g.shape == x.u.shape for x in (short, long, whole))
    train(model, *args, **kwargs)
    assert not compressor._observer.stop()


def test_a_batch_without_padding_is_kept_as_it_is():
    model, compressor = prepared()
    train(model, attention_mask=torch.ones(4, 9))
    (signal,) = compressor._observer.signals["layer"]
    assert compressor._observer.stop()["layer"] == [signal]


def test_a_cut_does_not_depend_on_what_is_in_the_padding():
    events = []
    for noise in (0.0, 1e3):
        model, compressor = prepared()
        u = train(Model())
        train(model, u=u + noise * (1 - MASK[..., None]), attention_mask=MASK)
        events.append(compressor.step())
    first, second = (event.layers[0].hsv for event in events)
    assert torch.equal(torch.tensor(first), torch.tensor(second))


def test_a_cut_that_is_tried_again_still_leaves_it_out(monkeypatch):
    model, compressor = prepared()
    train(model, attention_mask=MASK)
    expected = copy.deepcopy(compressor).step().layers[0].hsv
    with monkeypatch.context() as patch:
        patch.setattr(compressor, "_proposals", lambda signals: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compressor.step()
    assert (compressor.step().layers[0].hsv == expected).all()
