"""Selective layers are known by names and shapes; a form from outside is one registration."""

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from compressm import LRU, SelectiveForm, States, UnsupportedLayerError, compress_, register_form
from compressm.gramians.types import state_values
from compressm.ops.selective_scan import selective_scan
from compressm.systems.find import compressible_layers
from compressm.systems.selective.evaluate import layer_output
from compressm.systems.selective.form import FORMS, is_selective, state_count
from compressm.systems.selective.keep import keep_states_
from tests.compressm.selective_layers import FOREIGN, GRAMIANS, N, layer_of, own, signal


@pytest.mark.parametrize("name", ["own", *FOREIGN])
def test_forms_are_known_by_names_and_shapes(name):
    layer = layer_of(name)
    assert is_selective(layer) and state_count(layer) == N
    assert [(n, m is layer) for n, m in compressible_layers(layer)] == [("", True)]
    layer.register_parameter("A_b_log", nn.Parameter(torch.zeros(3)))  # of a second direction
    assert not is_selective(layer)


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(2, 2), lambda: LRU(2, 3), lambda: nn.LSTM(2, 2)]
)
def test_other_modules_are_not_selective(make):
    assert not is_selective(make())
    for use in (state_count, lambda m: keep_states_(m, [0]), lambda m: state_values(m, [signal()])):
        with pytest.raises(UnsupportedLayerError, match="no selective layer"):
            use(make())


def test_a_layer_of_other_shapes_is_not_selective():
    layer = own()
    layer.D = nn.Parameter(torch.zeros(3))
    assert not is_selective(layer)


# ------------------------------------------------------------------ a form from outside


class Tiny(nn.Module):
    """h <- exp(dt A) h + dt u B^T, y = h C, where dt, B and C are linear in u."""

    def __init__(self, d, n):
        super().__init__()
        self.A_log = nn.Parameter(torch.rand(d, n))
        self.steps = nn.Linear(d, d, bias=False)
        self.ports = nn.Linear(d, 2 * n, bias=False)

    def forward(self, u):
        B, C = self.ports(u).chunk(2, -1)
        dt = softplus(self.steps(u))
        return selective_scan(u, dt, -self.A_log.exp(), B, C, torch.zeros(u.shape[-1]))[0]


class TinyForm(SelectiveForm):
    """`Tiny` by its parameters."""

    needed = frozenset({"A_log", "steps.weight", "ports.weight"})

    def __init__(self, module):
        self.module, (self.channels, self.n_states) = module, module.A_log.shape

    def shapes(self):
        d, n = self.channels, self.n_states
        return {"steps.weight": (d, d), "ports.weight": (2 * n, d)}

    def coefficients(self, u):
        m, u = self.module, u.to(self.module.A_log)
        B, C = m.ports(u).unsqueeze(2).chunk(2, -1)
        return u, softplus(m.steps(u)), -m.A_log.exp(), B, C, u

    def tail(self, y, x, z):
        return y

    def places(self, kept):
        n = self.n_states
        return {"A_log": (1, kept), "ports.weight": (0, [*kept, *(n + i for i in kept)])}

    def counts(self, n):
        return {"ports.out_features": 2 * n}


@pytest.fixture
def tiny():
    """Return a layer whose form is registered until the test is over."""
    assert register_form(TinyForm) is TinyForm
    torch.manual_seed(0)
    yield Tiny(4, 8)
    FORMS.remove(TinyForm)


def test_a_registered_form_gives_the_output_of_its_layer(tiny):
    u = torch.randn(2, 9, 4)
    assert is_selective(tiny) and state_count(tiny) == 8
    assert torch.allclose(layer_output(tiny, u), tiny(u), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gramians", GRAMIANS)
def test_a_layer_of_a_registered_form_is_cut(tiny, gramians):
    u = torch.randn(16, 30, 4)
    with torch.no_grad():
        tiny.ports.weight[[1, 8 + 5]] = 0  # of two states nothing is driven, or read
        y = tiny(u)
    (cut,) = compress_(tiny, States(6), gramians=gramians, data=u.split(4)).layers
    assert (cut.before, cut.after, cut.skipped) == (8, 6, None)
    assert tiny.A_log.shape == (4, 6) and tiny.ports.out_features == 12
    assert torch.allclose(tiny(u), y, rtol=0, atol=1e-6)


def test_without_the_registration_a_layer_is_not_selective():
    assert not is_selective(Tiny(4, 8))
    with pytest.raises(UnsupportedLayerError, match="with the parameters of .* or Mamba2 or "):
        state_count(Tiny(4, 8))
