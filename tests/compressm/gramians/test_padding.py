"""In training, steps that the model is told are padding are not observed."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from compressm import LRU, At, Compressor, OptionError, States
from compressm.gramians.batches import without_padding
from compressm.gramians.signals import Signal

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
    short, long, whole = without_padding(compressor._observer.stop())["layer"]
    assert torch.equal(short.u, u[[1, 3], :5]) and torch.equal(long.u, u[[0, 2]])
    assert torch.equal(whole.u, u)
    assert all(x.g.shape == x.u.shape for x in (short, long, whole))
    train(model, *args, **kwargs)
    assert not compressor._observer.stop()


def test_a_batch_without_padding_is_kept_as_it_is():
    model, compressor = prepared()
    train(model, attention_mask=torch.ones(4, 9))
    (signal,) = compressor._observer.signals["layer"]
    assert without_padding(compressor._observer.stop())["layer"] == [signal]


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


def test_padding_of_one_pass_is_not_that_of_another():
    """Passes without, with and again without it; forwards, and computed again backwards."""
    model, compressor = prepared()
    u = torch.randn(4, 9, 3)

    def seen():
        found = [tuple(x.u.shape) for x in without_padding(compressor._observer.stop())["layer"]]
        compressor._observer.start()
        return found

    first = torch.zeros(4, 9)
    first[:, :3] = 1
    train(model, u=u)
    train(model, first, u=u)
    train(model.layer, u=u)
    assert seen() == [(4, 9, 3), (4, 3, 3), (4, 9, 3)]
    with pytest.raises(TypeError, match="unknown"):  # as the model itself refuses it
        model(u, MASK, LENGTHS, None, unknown=1)
    run, leaf = model.layer, u.clone().requires_grad_()
    model.forward = lambda x, attention_mask=None: checkpoint(run, x, use_reentrant=True)
    train(model, first, u=leaf)
    train(model, u=leaf)
    assert seen() == [(4, 3, 3), (4, 9, 3)]


@pytest.mark.parametrize(
    "lengths, valid",
    [
        (7, [7] * 4),
        (torch.tensor(7), [7] * 4),
        (0.5, [6] * 4),
        (torch.tensor([1.0, 0.55, 0.2, 1.0]), [12, 7, 2, 12]),
        ([1, 12, 3, 1], [1, 12, 3, 1]),
        (torch.tensor([1.0, 12.0, 3.0, 0.0]), [1, 12, 3, 0]),
        (torch.tensor([3, 0]), [12] * 4),  # of another batch
        (13, [12] * 4),  # of another length
    ],
)
def test_lengths_are_numbers_of_steps_or_fractions_of_them(lengths, valid):
    signal = Signal(torch.randn(4, 12, 3), padding={"lengths": lengths})
    parts = without_padding({"": [signal]})[""]
    found = sorted(part.u.shape[1] for part in parts for _ in part.u)
    assert found == sorted(n for n in valid if n)


@pytest.mark.parametrize(
    "lengths",
    [-1, 2.5, float("nan"), True, "long", torch.ones(4, 2), torch.ones(4, dtype=torch.bool), 1j],
)
def test_lengths_that_are_neither_are_refused_before_a_cut(lengths):
    model, compressor = prepared()
    train(model, lengths=lengths)
    for _ in range(2):  # the step counts once it succeeds
        with pytest.raises(OptionError, match="lengths must be numbers of steps, or fractions"):
            compressor.step()
    assert compressor.state_dict() == {"steps": 0} and len(model.layer.nu_log) == 12
