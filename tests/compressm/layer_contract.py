"""What every linear layer must do, whatever its parameters are: one system, or one a channel."""

import copy
import math

import pytest
import torch
from torch import Tensor

import lti
from compressm import frozen
from tests.compressm.helpers import is_unchanged, parameters_of

W = torch.linspace(0, 3.14, 200, dtype=torch.float64)
LENGTH = 30


def inputs(layer, length=LENGTH, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(batch, length, layer.d_model, dtype=torch.float64, generator=generator)
    return u.to(layer.D.dtype)


def diagonal(G):
    return G if isinstance(G, lti.DiagonalStateSpace) else lti.diagonalize(G, conjugate=True)[0]


@torch.no_grad()
def gap(G, F):
    """max |G - F| / max |G| over frequencies and channels, of systems whose real part counts."""

    def response(system):
        if isinstance(system, lti.DiagonalStateSpace) and not system.conjugate:
            halved = lti.DiagonalStateSpace(system.poles, system.B, system.C / 2, conjugate=True)
            return lti.frequency_response(halved, W)
        return lti.frequency_response(system, W)

    g, f = response(G), response(F)
    return float((g - f).abs().max() / g.abs().max())


def system_for(layer, poles, conjugate=True, scale=1.0, seed=0):
    """A system with these poles, and random B and C, of the shape that the layer takes."""
    like = layer.to_lti()
    poles = torch.as_tensor(poles, dtype=torch.complex128)
    poles, n = poles.expand(*like.batch_shape, -1), poles.shape[-1]
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        shape = (*like.batch_shape, *shape)
        return torch.randn(shape, dtype=torch.complex128, generator=generator)

    B, C = scale * normal(n, like.n_inputs), normal(like.n_outputs, n)
    return lti.DiagonalStateSpace(poles, B, C, dt=True, conjugate=conjugate)


def impulse_response(G, length=LENGTH) -> Tensor:
    """Re(C A^l B), (length, outputs, inputs); of a batch, the channels side by side."""
    G = G.to_dense()
    X, K = G.B, []
    for _ in range(length):
        k = (G.C @ X).real
        K.append(torch.cat([torch.diag(row) for row in k[..., 0].mT]) if k.ndim == 3 else k)
        X = G.A @ X
    return torch.stack(K)


def convolved(layer, K, u):
    """What an impulse response and D make of u, term by term; the second half runs backwards."""
    length = u.shape[1]
    y = layer.D * u
    for lag in range(length):
        ways = K[lag].split(layer.d_model)
        y[:, lag:] += u[:, : length - lag] @ ways[0].mT
        if len(ways) == 2:
            y[:, : length - lag] += u[:, lag:] @ ways[1].mT
    return y


# ------------------------------------------------------------------ the layer


@torch.no_grad()
def check_that_steps_equal_forward(layer, length=LENGTH, batch=2):
    """Also from a state on the way, which forward takes up; and so do those of constants."""
    state = check_each_step(layer, layer(inputs(layer, length, batch)), length, batch)
    channels = layer.to_lti().batch_shape
    assert state.shape == (batch, *channels, layer.d_state)
    check_each_step(frozen(layer), layer(inputs(layer, length, batch)), length, batch)


def check_each_step(layer, whole, length, batch):
    """The steps of `layer` are those of the output `whole`; the last state."""
    u, state, y, middle = inputs(layer, length, batch), None, [], length // 3
    assert torch.allclose(layer(u), whole, rtol=0, atol=1e-10)
    for t in range(length):
        if t == middle and t:
            rest = layer(u[:, t:], state)
            assert torch.allclose(rest, whole[:, t:], rtol=0, atol=1e-10)
        out, state = layer.step(u[:, t], state)
        y.append(out)
    assert torch.allclose(torch.stack(y, 1), whole, rtol=0, atol=1e-10)
    before, zero = layer.initial_state(batch), torch.zeros_like(state)
    assert before.dtype == zero.dtype and torch.equal(before, zero)
    return state


@torch.no_grad()
def check_that_there_is_no_state(layer):
    u = inputs(layer)
    for one in (layer, frozen(layer)):
        with pytest.raises(lti.OptionError, match="both ends"):
            one.step(u[:, 0])
        with pytest.raises(lti.OptionError, match="both ends"):
            one.initial_state(2)
        with pytest.raises(lti.OptionError, match="both ends"):
            one(u, torch.zeros(2, layer.d_model, layer.d_state))
    assert torch.allclose(frozen(layer)(u), layer(u), rtol=0, atol=1e-10)


@torch.no_grad()
def check_that_inputs_are_checked(layer, batch=2):
    """Inputs and states, of whole sequences and of steps, also of the frozen layer."""
    u = torch.randn(batch, LENGTH, layer.d_model, dtype=next(layer.parameters()).dtype)
    for one in (layer, frozen(layer)):
        for wrong in (u[0], u[:, :0], u[..., :-1]):
            with pytest.raises(lti.DimensionError, match="u must be"):
                one(wrong)
        for wrong in (u, u[:, 0, :-1], u[0, 0]):
            with pytest.raises(lti.DimensionError, match="u must be one time step"):
                one.step(wrong)
        for wrong, message in (
            (u.long(), "real floating-point numbers, got torch.int64"),
            (u + 0j, "real floating-point numbers, got torch.complex"),
            (u.to("meta"), "u is on meta, but"),
            (u.numpy(), "u must be a tensor, got a ndarray"),
        ):
            for run, now in ((one, wrong), (one.step, wrong[:, 0])):
                with pytest.raises(lti.DimensionError, match=message):
                    run(now)
        _, state = one.step(u[:, 0])
        for run, now in ((one, u), (one.step, u[:, 0])):
            for wrong, message in wrong_states(state):
                with pytest.raises(lti.DimensionError, match=message):
                    run(now, wrong)


def wrong_states(state):
    """Each with what the message says; the last part of a pair is what is wrong."""
    if isinstance(state, tuple):
        yield state[:1], "must be a pair of tensors, got a tuple"
        yield state[0], "must be a pair of tensors, got a Tensor"
        yield from (((*state[:-1], x), message) for x, message in wrong_states(state[-1]))
        return
    yield state[:1], "state must be .*pass what step returned"
    yield state[..., :-1], "state must be .*pass what step returned"
    yield (state.real if state.is_complex() else state + 0j), "state must be torch"
    precisions = {torch.float32: torch.float64, torch.float64: torch.float32}
    other = precisions[state.real.dtype]
    yield state.to(other.to_complex() if state.is_complex() else other), "state must be torch"
    yield state.to("meta"), "on cpu, got .* on meta"
    yield [state], "state must be a tensor, got a list"


def check_that_gradients_reach_every_parameter(layer):
    layer(inputs(layer)).square().sum().backward()
    for name, p in layer.named_parameters():
        if p.numel():
            assert torch.isfinite(p.grad).all() and (p.grad != 0).all(), name


@torch.no_grad()
def check_mixed_precision(layer):
    u = inputs(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = layer(u)
        assert layer(u.bfloat16()).dtype == torch.float32
        _, state = layer.step(u[:, 0])
        step = layer.step(u[:, 1], state)
        assert layer.step(u[:, 1].bfloat16(), state)[0].dtype == torch.float32
    half = u.bfloat16()  # as from a model in that precision
    assert layer(half).dtype == layer.step(half[:, 1], state)[0].dtype == torch.bfloat16
    assert torch.equal(inside, layer(u))
    assert all(map(torch.equal, step, layer.step(u[:, 1], state)))
    y, after = layer.step(u[:, 1].double(), state)
    assert y.dtype == layer(u.double()).dtype == torch.float32 and after.dtype == state.dtype


@torch.no_grad()
def check_single_precision(layer, tolerance, length=200):
    """`layer` in single precision computes what it computes in double."""
    u = inputs(layer, length)
    single, double = layer(u), copy.deepcopy(layer).double()(u.double())
    assert single.dtype == torch.float32
    assert (single - double).abs().max() < tolerance * double.abs().max()


# ------------------------------------------------------------------ layer -> system


@torch.no_grad()
def check_that_the_system_is_the_layer(layer, length=LENGTH):
    u = inputs(layer, length)
    y = layer(u)
    for conjugate in (True, False):
        G = layer.to_lti(conjugate)
        assert G.dt is True and not G.D.any()
        assert math.prod(G.batch_shape) * G.n_inputs == layer.d_model
        K = impulse_response(G, length)
        assert torch.allclose(convolved(layer, K, u), y, rtol=0, atol=1e-10)
        if isinstance(G, lti.DiagonalStateSpace):
            assert G.conjugate is conjugate and G.poles.shape[-1] == layer.d_state
    assert torch.equal(layer.poles, layer.to_lti(conjugate=False).poles)


def check_that_the_system_is_double_and_owns_its_memory(layer):
    for conjugate in (True, False):
        G = layer.to_lti(conjugate)
        parts = [getattr(G, "poles" if isinstance(G, lti.DiagonalStateSpace) else "A"), G.B, G.C]
        assert all(x.dtype in (torch.float64, torch.complex128) for x in parts)
        assert all(x.requires_grad for x in parts)
        before = [x.detach().clone() for x in parts]
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(1)
            assert all(torch.equal(x, y) for x, y in zip(parts, before, strict=True))
            for p in layer.parameters():
                p.sub_(1)
            assert not layer.to_lti().B.requires_grad


def check_derivatives_of_hankel_singular_values(layer):
    """Of their sum, for every parameter but D, against finite differences."""
    parameters = [p for name, p in layer.named_parameters() if name != "D" and p.numel()]

    def nuclear(*parameters):
        return lti.hankel_singular_values(layer.to_lti()).sum()

    assert torch.autograd.gradcheck(nuclear, parameters, atol=1e-6, rtol=1e-4)
    derivatives = torch.autograd.grad(nuclear(), parameters)
    assert all(g.any() for g in derivatives)


# ------------------------------------------------------------------ system -> layer


def stateless(layer):
    """The names of the parameters that have no state axis."""
    return {name for name, _ in layer.named_parameters()} - layer.state_axes.keys()


def check_round_trip(layer, tolerance):
    """What it computes stays, and so do dtype, identity, and the parameters without states."""
    same, u = dict(layer.named_parameters()), inputs(layer)
    before, kept = layer.to_lti(), parameters_of(layer)
    with torch.no_grad():
        y = layer(u)
        for conjugate in (True, False):
            layer.load_lti_(diagonal(layer.to_lti(conjugate)))
            assert gap(before, layer.to_lti()) < tolerance
            assert (layer(u) - y).abs().max() < 10 * tolerance * y.abs().max()
    after = dict(layer.named_parameters())
    assert all(p is after[name] and p.dtype == layer.D.dtype for name, p in same.items())
    assert all(torch.equal(after[name], kept[name]) for name in stateless(layer))


def check_other_numbers_of_states(layer, tolerance):
    """From any to any, the optimizer starts afresh, and no states leave the feed-through."""
    optimizer = torch.optim.Adam(layer.parameters(), 1e-3)
    torch.manual_seed(3)
    for n in (5, 30, 0, 2):
        layer(inputs(layer)).square().mean().backward()
        optimizer.step()
        assert stateless(layer) <= {
            name for name, p in layer.named_parameters() if p in optimizer.state
        }
        poles = torch.polar(0.3 + torch.rand(n) * 0.65, 3 * torch.rand(n))
        for conjugate in (True, False):
            system = system_for(layer, poles, conjugate)
            layer.load_lti_(system, optimizer)
            assert layer.d_state == n
            if n:
                assert gap(system, layer.to_lti(conjugate)) < tolerance
        assert set(optimizer.state) == {layer.get_parameter(name) for name in stateless(layer)}
        optimizer.zero_grad()
        u = inputs(layer)
        if n == 0:
            assert torch.equal(layer(u), layer.D * u) and layer.to_lti().order == 0


def check_awkward_poles(layer, tolerance):
    """Real, negative, zero, either of a pair; modes that only fill up a batch; idle ones."""
    poles = [
        0.9,
        0.999,
        0.0,
        -0.5,
        -0.99,
        0.3 - 0.6j,
        0.8 + 0.1j,
        0.7 - 1e-30j,
        -0.2,
        0.0,
        0.5,
        0.6,
    ]
    system = system_for(layer, poles)
    system.B[..., -3, :], system.C[..., -3] = 0, 0  # the second zero
    system.B[..., -2, :], system.C[..., -1] = 0, 0
    layer.load_lti_(system)
    assert all(torch.isfinite(p).all() for p in layer.parameters())
    assert gap(system, layer.to_lti()) < tolerance
    assert (layer.to_lti().poles.imag > -1e-6).all()  # of a pair, the one in the upper half-plane
    K = impulse_response(system)
    with torch.no_grad():
        u = inputs(layer)
        y = convolved(layer, K.to(u), u)
        assert (layer(u) - y).abs().max() < 10 * tolerance * y.abs().max()
    for p in layer.parameters():
        p.grad = None
    layer(inputs(layer)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.numel())
    layer.zero_grad()
    lti.hankel_singular_values(layer.to_lti()).sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in layer.parameters())


def check_real_modes(layer, tolerance):
    """With half weight in a conjugate system, as `lti.diagonalize` returns them."""
    like = system_for(layer, [0.99, 0.5, -0.3])
    B, C = torch.ones_like(like.B), torch.ones_like(like.C) / 2
    layer.load_lti_(lti.DiagonalStateSpace(like.poles, B, C, dt=True, conjugate=True))
    powers = torch.tensor([0.99, 0.5, -0.3], dtype=torch.float64) ** torch.arange(LENGTH)[:, None]
    K, unit = impulse_response(layer.to_lti()), impulse_response(like, 1).ne(0).double()
    assert torch.allclose(K, powers.sum(-1)[:, None, None] * unit, rtol=0, atol=tolerance)


def check_what_systems_may_be(make):
    """NumPy arrays too; dtype and `requires_grad` of the parameters stay."""
    layer = make(dtype=torch.float64).requires_grad_(False)
    system = system_for(layer, [0.9j, 0.5])
    arrays = (x.numpy() for x in (system.poles, system.B, system.C))
    layer.load_lti_(lti.DiagonalStateSpace(*arrays, conjugate=True))
    assert gap(system, layer.to_lti()) < 1e-12
    assert all(p.dtype == torch.float64 and not p.requires_grad for p in layer.parameters())


def check_refusals(layer):
    """Nothing is written of what cannot be; `layer` is in single precision."""
    good = system_for(layer, [0.5])

    def with_ones(poles, p, m, **about):
        """A batch, or one system, as the layer takes; of p outputs and m inputs."""
        batch = poles.shape[:-1]
        B, C = torch.ones(*batch, poles.shape[-1], m), torch.ones(*batch, p, poles.shape[-1])
        return lti.DiagonalStateSpace(poles, B + 0j, C + 0j, **about)

    p, m = good.n_outputs, good.n_inputs
    with_feedthrough = with_ones(good.poles, p, m, D=torch.ones(*good.batch_shape, p, m) + 0j)
    other_channels = torch.cat([good.poles, good.poles[:1]]) if good.batch_shape else good.poles
    cases = [
        (system_for(layer, [0.5, 1.0]), lti.UnstableError, "largest pole"),
        (system_for(layer, [0.5, 1.5j]), lti.UnstableError, "largest pole"),
        (system_for(layer, [0.5, 1 - 1e-7]), lti.UnstableError, "fewer states"),
        (with_ones(other_channels, p, m + (not good.batch_shape)), lti.DimensionError, "inputs"),
        (with_ones(good.poles, p + 1, m), lti.DimensionError, "outputs"),
        (system_for(layer, [0.5], scale=1e80), lti.NonFiniteError, "finite"),
        (with_feedthrough, lti.DimensionError, "feed-through"),
        (with_ones(-good.poles, p, m, dt=0), lti.TimebaseError, "discretize"),
        (good.to_dense(), lti.DimensionError, "diagonalize"),
    ]
    before = parameters_of(layer)
    for system, error, message in cases:
        with pytest.raises(error, match=message):
            layer.load_lti_(system)
        assert is_unchanged(layer, before)


def check_a_reduced_system(layer):
    """A balanced truncation to half the order goes back, channel by channel."""
    reduction = lti.balanced_truncation(layer.to_lti(), order=layer.to_lti().order // 2)
    modal, _ = lti.diagonalize(reduction.system, conjugate=True)
    layer.load_lti_(modal)
    assert gap(reduction.system, layer.to_lti()) < 1e-9


# ------------------------------------------------------------------ checkpoints


@torch.no_grad()
def check_that_a_state_dict_loads(layer, other):
    """That of `other`, of another size or form, into `layer`, whose copy stays as it is."""
    clone, before = copy.deepcopy(layer), parameters_of(layer)
    same, saved, u = dict(layer.named_parameters()), other.state_dict(), inputs(layer)
    layer.load_state_dict(saved)
    assert all(same[name] is p for name, p in layer.named_parameters())
    assert torch.equal(layer(u), other(u)) and layer.d_state == other.d_state
    kept = {name: value.clone() for name, value in saved.items()}
    for p in layer.parameters():
        p.add_(1)
    assert all(torch.equal(saved[name], value) for name, value in kept.items())  # no shared memory
    assert is_unchanged(clone, before)


def check_that_other_state_dicts_are_refused(layer, alien, name):
    """One whose `name` has another number of states; one of a layer of other kind."""
    before, saved = parameters_of(layer), layer.state_dict()
    shapes = {key: p.shape for key, p in layer.named_parameters()}
    shape = list(saved[name].shape)
    shape[layer.state_axes[name]] += 1
    with pytest.raises(lti.DimensionError, match="disagree on the number of states"):
        layer.load_state_dict({**saved, name: torch.zeros(shape)})
    assert is_unchanged(layer, before)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(alien.state_dict())
    assert shapes == {key: p.shape for key, p in layer.named_parameters()}
