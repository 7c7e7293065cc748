"""A family from outside: layers known by the names and shapes of their parameters."""

import pytest
import torch
from torch import nn

import lti
from compressm import (
    Compressor,
    Every,
    Family,
    States,
    UnsupportedLayerError,
    compress_,
    load_lti_,
    register_family,
    to_lti,
)
from compressm.systems.foreign import FAMILIES, family_of


class Leaky(nn.Module):
    """x <- sigmoid(leak) x + drive u, y = read x: real poles between 0 and 1."""

    def __init__(self, n):
        super().__init__()
        self.leak, self.drive = (nn.Parameter(torch.randn(n)) for _ in range(2))
        self.read = nn.Parameter(self.drive.detach().clone())  # balanced, such poles stay real
        self.size = n

    def forward(self, u):
        assert len(self.leak) == self.size
        x, y = 0.0, []
        for v in u.unbind(1):
            x = self.leak.sigmoid() * x + self.drive * v
            y.append((x * self.read).sum(-1, keepdim=True))
        return torch.stack(y, 1)


def read(tensors, conjugate):
    leak, drive, out = (tensors[name].double() for name in ("leak", "drive", "read"))
    return lti.DiagonalStateSpace(
        leak.sigmoid() + 0j,
        drive[:, None] + 0j,
        out[None] * (0.5 if conjugate else 1.0) + 0j,
        conjugate=conjugate,
    )


def write(system, tensors):
    if system.poles.imag.any() or (system.poles.real <= 0).any():
        raise lti.DimensionError("its poles are real and positive")
    parts = {
        "leak": system.poles.real.logit(),
        "drive": system.B.real[:, 0],
        "read": system.C.real[0] * (2 if system.conjugate else 1),
    }
    return {name: value.to(tensors[name]) for name, value in parts.items()}


SHAPES = {"leak": ("n",), "drive": ("n",), "read": ("n",)}


@pytest.fixture
def leaky():
    """Return the family, registered until the test is over."""
    family = register_family(Family("leaky", SHAPES, read, write, counts=("size",)))
    yield family
    FAMILIES.remove(family)


def test_a_registered_family_is_compressed_like_any_other(leaky):
    torch.manual_seed(0)
    layer, u = Leaky(8), torch.randn(2, 30, 1)
    before, same = layer(u), dict(layer.named_parameters())
    assert family_of(layer) is leaky
    (cut,) = compress_(layer, States(4)).layers
    assert (cut.before, cut.after, cut.skipped) == (8, 4, None)
    assert layer.leak.shape == (4,) and layer.size == 4
    assert all(same[name] is p for name, p in layer.named_parameters())
    assert (layer(u) - before).norm() <= cut.error_bound * u.norm()


def test_a_registered_family_is_cut_in_training(leaky):
    torch.manual_seed(0)
    layer = Leaky(8)
    optimizer = torch.optim.AdamW(layer.parameters(), 1e-2)
    compressor = Compressor(layer, optimizer, policy=States(4), schedule=Every(1), gramians="model")
    layer(torch.randn(8, 30, 1)).square().mean().backward()
    optimizer.step()
    (cut,) = compressor.step().layers
    assert (cut.after, cut.gramians, cut.skipped) == (4, "model", None)


def test_without_the_registration_it_is_unknown():
    assert family_of(Leaky(8)) is None
    for use in (to_lti, lambda layer: load_lti_(layer, None)):
        with pytest.raises(UnsupportedLayerError, match="Leaky is no layer"):
            use(Leaky(8))


def test_other_names_or_shapes_are_not_of_the_family(leaky):
    layer = Leaky(8)
    layer.extra = nn.Parameter(torch.zeros(2))  # beside those that are named
    assert family_of(layer) is None
    layer = Leaky(8)
    layer.read = nn.Parameter(torch.zeros(7))  # n is one number
    assert family_of(layer) is None
    layer = Leaky(8)
    layer.read = nn.Parameter(torch.zeros(8, dtype=torch.cfloat))
    assert family_of(layer) is None
    layer = Leaky(8)
    layer.inner = nn.Linear(2, 2)  # in a module that owns none of them
    assert family_of(layer) is leaky


def test_a_family_as_a_part_of_another_module(leaky):
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.core, self.width = Leaky(8), 1

    outer = leaky.under("core", lambda module: hasattr(module, "width"))
    register_family(outer)
    try:
        torch.manual_seed(0)
        module = Outer()
        assert family_of(module) is outer and to_lti(module).order == 16
        (cut,) = compress_(module, States(4)).layers
        assert (cut.name, cut.after) == ("", 4) and module.core.size == len(module.core.leak) == 4
    finally:
        FAMILIES.remove(outer)
