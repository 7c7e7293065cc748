"""Layers as systems: a type is added in a few lines, and what is not supported says so."""

import pytest
import torch
from torch import nn

import lti
from compressm import (
    LRU,
    SequenceModel,
    States,
    UnsupportedLayerError,
    compress_,
    load_lti_,
    to_lti,
)
from compressm.ops.resize import resize_
from compressm.systems.convert import is_supported


class Mine(nn.Module):
    """y[t] = sum of c_i x_i[t], x_i[t] = p_i x_i[t-1] + b_i u[t]: someone else's layer."""

    def __init__(self, n):
        super().__init__()
        self.p = nn.Parameter(torch.linspace(-0.9, 0.9, n))
        self.b = nn.Parameter(torch.randn(n))
        self.c = nn.Parameter(torch.randn(n))

    def forward(self, u):
        x, y = 0.0, []
        for v in u.unbind(1):
            x = self.p * x + self.b * v
            y.append((x * self.c).sum(-1, keepdim=True))
        return torch.stack(y, dim=1)


@to_lti.register
def _(layer: Mine, conjugate: bool = True):
    p, b, c = (x.double() + 0j for x in (layer.p, layer.b, layer.c))
    return lti.DiagonalStateSpace(p, b[:, None], c[None] / (1 + conjugate), conjugate=conjugate)


@load_lti_.register
def _(layer: Mine, system: lti.DiagonalStateSpace, optimizer=None):
    if system.poles.imag.any():
        raise lti.DimensionError("real poles only")
    resize_(layer.p, system.poles.real.float(), optimizer)
    resize_(layer.b, system.B[:, 0].real.float(), optimizer)
    resize_(layer.c, (1 + system.conjugate) * system.C[0].real.float(), optimizer)


def test_a_registered_type_is_compressed_like_any_other():
    torch.manual_seed(0)
    model = nn.Sequential(Mine(12), LRU(1, 12))
    u = torch.randn(2, 30, 1)
    before = model[0](u)
    mine, theirs = compress_(model, States(6)).layers
    assert (mine.before, mine.after, theirs.after) == (12, 6, 6)
    assert model[0].p.shape == (6,)
    assert (model[0](u) - before).abs().max() < mine.error_bound * u.norm()


@pytest.mark.parametrize("function", [to_lti, lambda layer: load_lti_(layer, None)])
def test_what_is_not_supported_says_so(function):
    with pytest.raises(UnsupportedLayerError, match=r"GRU is no layer .* docs/adapters.md"):
        function(nn.GRU(2, 2))
    assert not is_supported(nn.GRU(2, 2)) and is_supported(LRU(2, 2))


def test_our_own_layers_need_no_adapter():
    layer = SequenceModel(1, 1, 4, 6, 1).blocks[0].layer
    assert torch.equal(to_lti(layer).poles, layer.to_lti().poles)
    load_lti_(layer, lti.diagonalize(lti.balance(to_lti(layer)).truncate(4).system, True)[0])
    assert layer.d_state < 6


def test_an_adapter_that_writes_nothing_is_found_out():
    class Idle(Mine):
        pass

    @load_lti_.register
    def _(layer: Idle, system: lti.DiagonalStateSpace, optimizer=None):
        pass

    torch.manual_seed(0)
    (cut,) = compress_(Idle(12), States(6)).layers
    assert cut.after == 12 and "left it with 12 states where 6 were to be written" in cut.skipped


def test_half_an_adapter_says_which_half_is_missing():
    class Half(nn.Module):
        d_state = 4

    @to_lti.register
    def _(layer: Half, conjugate: bool = True):
        return to_lti(Mine(4), conjugate)

    (cut,) = compress_(Half(), States(2)).layers
    assert "can write a system into" in cut.skipped
