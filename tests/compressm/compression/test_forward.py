"""A layer that computes something else than its parameters say, or that no longer runs, stays."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, layer_norm, pad, silu, softplus

from compressm import (
    DSS,
    LRU,
    LSSL,
    S4,
    S4D,
    S5,
    At,
    Compressor,
    Mamba,
    States,
    compress_,
    load_lti_,
    resize_,
    to_lti,
)
from compressm.ops.selective_scan import selective_scan_reference
from tests.compressm.delta_layers import StandIn, randomized
from tests.compressm.foreign_layers import (
    MinimalLRU,
    PublishedS4D,
    PytorchLRU,
    neural_lru,
    recur,
    s5,
)
from tests.compressm.helpers import is_unchanged, parameters_of

D, N = 4, 12


def sequences(length=40, batch=16):
    return torch.randn(batch, length, D, generator=torch.Generator().manual_seed(1)) + 0.5


def cut_of(layer, n=3, data=True):
    (cut,) = compress_(layer, States(n), data=sequences().split(8) if data else ()).layers
    return cut


def other(kind, before=lambda u: u, after=lambda y: y):
    """A type that computes more than `kind`, with the same parameters."""

    class Other(kind):
        def forward(self, u, *args, **options):
            y = super().forward(before(u), *args, **options)
            return (after(y[0]), *y[1:]) if isinstance(y, tuple) else after(y)

    return Other


# ------------------------------------------------------------------ known by names and shapes


class Poles(MinimalLRU):
    """theta_log is the angle, and nu_log a logit of the modulus, or one of the two."""

    def __init__(self, modulus, angle):
        super().__init__(D, N)
        self.modulus, self.angle = modulus, angle

    def forward(self, u):
        poles = torch.polar(self.modulus(self.nu_log), self.angle(self.theta_log))
        B = self.gamma_log.exp()[:, None] * torch.complex(self.B_re, self.B_im)
        return recur(u, poles, B, torch.complex(self.C_re, self.C_im)) + self.D * u


class Selective(nn.Module):
    """The parameters of Mamba, the parts of two of which may be in another sequence."""

    def __init__(self, parts="tBC", gate_first=False):
        super().__init__()
        e, self.rank, self.parts, self.gate_first = 2 * D, 2, parts, gate_first
        self.in_proj, self.out_proj = nn.Linear(D, 2 * e, bias=False), nn.Linear(e, D, bias=False)
        self.conv1d = nn.Conv1d(e, e, 4, groups=e, padding=3)
        self.x_proj = nn.Linear(e, self.rank + 2 * N, bias=False)
        self.dt_proj = nn.Linear(self.rank, e)
        self.A_log = nn.Parameter(torch.arange(1.0, N + 1).log().repeat(e, 1))
        self.D = nn.Parameter(torch.ones(e))
        with torch.no_grad():
            self.x_proj.weight.mul_(4)

    def forward(self, u):
        x, z = self.in_proj(u).chunk(2, -1)[:: -1 if self.gate_first else 1]
        weight, bias = self.conv1d.weight, self.conv1d.bias
        x = silu(conv1d(pad(x.mT, (3, 0)), weight, bias, groups=len(weight))).mT
        n = self.A_log.shape[1]
        sizes = [self.rank if part == "t" else n for part in self.parts]
        found = dict(zip(self.parts, self.x_proj(x).split(sizes, -1), strict=True))
        dt, A = softplus(self.dt_proj(found["t"])), -self.A_log.exp()
        y, _ = selective_scan_reference(x, dt, A, found["B"], found["C"], self.D)
        return self.out_proj(y * silu(z))


def norm(u):
    return layer_norm(u, u.shape[-1:])


def doubled(u):
    return 2 * u


def with_linear():
    layer = MinimalLRU(D, N)
    layer.mix = nn.Linear(D, D)
    layer.__class__ = other(MinimalLRU, layer.mix)
    return layer


def of_another_width():
    layer = MinimalLRU(D, N)
    layer.readout = nn.Linear(D, 7)
    layer.__class__ = other(MinimalLRU, after=layer.readout)
    return layer


def neural(before):
    layer = neural_lru(D, N)
    layer.__class__ = other(type(layer), before)
    return layer


def delta_rule(before=lambda u: u):
    layer = randomized(StandIn("GatedDeltaNet", D)).eval()
    layer.__class__ = other(StandIn, before)
    return layer


OTHERS = {
    "a norm before": lambda: other(MinimalLRU, norm)(D, N),
    "a linear layer before": with_linear,
    "a linear layer after": of_another_width,
    "tanh after": lambda: other(MinimalLRU, after=torch.tanh)(D, N),
    "angles without exp": lambda: Poles(lambda x: (-x.exp()).exp(), lambda x: x),
    "moduli by a sigmoid": lambda: Poles(lambda x: (-x).sigmoid(), torch.exp),
    "LRU-pytorch": lambda: other(PytorchLRU, norm)(D, 5, N),
    "neural-ssm": lambda: neural(norm),
    "s5-pytorch": lambda: other(s5.S5, norm)(D, N),
    "s5-pytorch, bidirectional": lambda: other(s5.S5, doubled)(D, N, bidir=True),
    "Mamba, another sequence": lambda: Selective("BCt"),
    "Mamba, B for C": lambda: Selective("tCB"),
    "Mamba, gate first": lambda: Selective(gate_first=True),
    "Gated DeltaNet": lambda: delta_rule(doubled),
}
OWN = [DSS, LRU, LSSL, Mamba, S4, S4D, S5]


@pytest.mark.parametrize("name", OTHERS)
def test_a_layer_that_is_not_what_its_names_say_is_not_cut(name):
    torch.manual_seed(0)
    layer = OTHERS[name]()
    before = parameters_of(layer)
    cut = cut_of(layer)
    assert cut.after == cut.before and "parameters say" in cut.skipped
    assert is_unchanged(layer, before)


@pytest.mark.parametrize(
    "kind, data", [(x, data) for x in OWN for data in (True, False) if data or x is not Mamba]
)
def test_neither_is_a_subclass_of_ours_that_computes_more(kind, data):
    torch.manual_seed(0)
    cut = cut_of(other(kind, lambda u: norm(u) * 5, torch.tanh)(D, N), data=data)
    assert cut.after == N and "parameters say" in cut.skipped


# ------------------------------------------------------------------ what is cut all the same


SAME = {
    "Mamba": Selective,
    "Gated DeltaNet": delta_rule,
    "neural-ssm, state before the update": lambda: neural_lru(D, N),
    "s5-pytorch": lambda: s5.S5(D, N),
    "s5-pytorch, bidirectional": lambda: s5.S5(D, N, bidir=True),
    "operations after it, as published": lambda: PublishedS4D(D, N),
    "another feed-through": lambda: Bypassed(D, N),
}


class Bypassed(MinimalLRU):
    def forward(self, u):
        return 1 + 3 * u.tanh() + super().forward(u)


@pytest.mark.parametrize("name", SAME)
def test_a_layer_that_is_what_its_names_say_is_cut(name):
    torch.manual_seed(0)
    layer = SAME[name]()
    data = [x.mT if name.endswith("published") else x for x in sequences(37).split(8)]
    (cut,) = compress_(layer, States(3), data=data).layers
    assert cut.skipped is None and cut.after == 3


@pytest.mark.parametrize(
    "kind, options", [(x, {}) for x in OWN] + [(x, {"bidirectional": True}) for x in (S5, S4D)]
)
def test_so_is_a_subclass_of_ours_that_bypasses_it(kind, options):
    class Bypassed(kind):
        def forward(self, u, *args):
            return u + super().forward(u, *args)

    torch.manual_seed(0)
    cut = cut_of(Bypassed(D, N, **options))
    assert cut.skipped is None and cut.after == 3


@pytest.mark.parametrize("kind", [lambda: MinimalLRU(D, N), Selective])
def test_autocast_is_no_reason_to_refuse(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, D), kind())
    compressor = Compressor(model, policy=States(3), schedule=At(1))
    with torch.autocast("cpu", torch.bfloat16):
        y = model(sequences())
    y.float().square().mean().backward()
    (cut,) = compressor.step().layers
    assert cut.skipped is None and cut.after == 3


# ------------------------------------------------------------------ what no longer runs


class Learned(LRU):
    """Begins with a state that is a parameter."""

    def __init__(self):
        super().__init__(D, N)
        self.x0 = nn.Parameter(torch.zeros(N, 2))

    def forward(self, u, state=None):
        return super().forward(u, torch.view_as_complex(self.x0).expand(len(u), -1))


class Counting(Mamba):
    """Has a vector of the size that it had at first."""

    def __init__(self):
        super().__init__(D, N)
        self.weights = torch.ones(N)

    def forward(self, u, state=None):
        return super().forward(u, state) + 0 * (self.A_log * self.weights).sum()


class Masked(MinimalLRU):
    """Takes two arguments, of which one has the size of the batch, and reads its size from N."""

    def __init__(self, reads_size):
        super().__init__(D, N)
        self.N = N if reads_size else -1

    def forward(self, u, mask, *, scale):
        return super().forward(u * mask) * scale + 0 * self.nu_log.view(self.N).sum()


class Masking(nn.Module):
    def __init__(self, layer, by_name):
        super().__init__()
        self.layer, self.by_name = layer, by_name

    def forward(self, u):
        mask = torch.ones(*u.shape[:2], 1)
        if self.by_name:
            return self.layer(mask=mask, u=u, scale=1.0)
        return self.layer(u, mask, scale=1.0)


@pytest.mark.parametrize("kind, data", [(Learned, True), (Learned, False), (Counting, True)])
def test_a_subclass_of_ours_that_would_not_run_after_the_cut_is_left_as_it_is(kind, data):
    torch.manual_seed(0)
    layer = kind()
    cut = cut_of(layer, data=data)
    assert cut.after == N and "would not run forward after the cut" in cut.skipped
    layer(sequences())


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("reads_size", [False, True])
def test_a_layer_of_more_arguments_is_called_as_it_was(by_name, training, reads_size):
    torch.manual_seed(0)
    model = Masking(Masked(reads_size), by_name)
    if training:
        compressor = Compressor(model, policy=States(3), schedule=At(1))
        model(sequences()).square().mean().backward()
        (cut,) = compressor.step().layers
    else:
        cut = cut_of(model)
    if reads_size:
        assert cut.after == N and "would not run forward after the cut" in cut.skipped
    else:
        assert cut.after == 3 and cut.skipped is None
    model(sequences())


def test_what_a_layer_of_more_arguments_computes_is_looked_at():
    torch.manual_seed(0)

    class Normed(Masked):
        def forward(self, u, mask, *, scale):
            return super().forward(norm(u), mask, scale=scale)

    cut = cut_of(Masking(Normed(False), False))
    assert cut.after == N and "parameters say" in cut.skipped


# ------------------------------------------------------------------ parameters that stay


class Decays(nn.Module):
    """x_i[t] = p_i x_i[t-1] + u[t], of which the sum is the output."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.linspace(0.1, 0.9, 6))
        self.c = nn.Parameter(torch.ones(6))

    def forward(self, u):
        return recur(u, self.p + 0j, torch.ones(len(self.p), 1) + 0j, self.c[None] + 0j)


def test_new_parameters_in_place_of_the_old_ones_are_refused():
    layer, write = Decays(), nn.Parameter

    @to_lti.register
    def _(layer: Decays, conjugate: bool = True):
        import lti

        p, c = layer.p.double() + 0j, layer.c.double() + 0j
        B = torch.ones_like(p)[:, None]
        return lti.DiagonalStateSpace(p, B, c[None] / (1 + conjugate), conjugate=conjugate)

    @load_lti_.register
    def _(layer: Decays, system, optimizer=None):
        weights = (1 + system.conjugate) * system.C[0] * system.B[:, 0]
        if write is resize_:
            resize_(layer.p, system.poles.real.float(), optimizer)
            resize_(layer.c, weights.real.float(), optimizer)
        else:
            layer.p = nn.Parameter(system.poles.real.float())
            layer.c = nn.Parameter(weights.real.float())

    before, held = parameters_of(layer), dict(layer.named_parameters())
    (cut,) = compress_(layer, States(3)).layers
    assert cut.after == 6 and "new parameters in the place of p, c" in cut.skipped
    assert is_unchanged(layer, before)
    write = resize_
    (cut,) = compress_(layer, States(3)).layers
    assert cut.after == 3 and all(p is held[name] for name, p in layer.named_parameters())
