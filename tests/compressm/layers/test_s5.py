"""S5 as a layer, as a system, and back; and loading states of other sizes."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from compressm.layers.s5 import S5

W = torch.linspace(0, 3.14, 200, dtype=torch.float64)
EACH_METHOD = pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
EACH_KIND = pytest.mark.parametrize("conj_sym", [True, False])


def s5(d_model=3, d_state=12, dtype=torch.float64, seed=0, **options):
    torch.manual_seed(seed)
    return S5(d_model, d_state, **options).to(dtype)


def snapshot(layer):
    return {name: p.detach().clone() for name, p in layer.named_parameters()}


def is_unchanged(layer, before):
    return all(torch.equal(p, before[name]) for name, p in layer.named_parameters())


@torch.no_grad()
def gap(G, F):
    """max |G - F| / max |G| over frequencies, of two systems with real output."""
    g, f = (lti.frequency_response(system, W) for system in (G, F))
    return float((g - f).abs().max() / g.abs().max())


def modes(poles, seed=0, d=3, outputs=3, conjugate=True, scale=1.0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.complex128, generator=generator)

    poles = torch.as_tensor(poles, dtype=torch.complex128)
    B, C = scale * normal(len(poles), d), normal(outputs, len(poles))
    return lti.DiagonalStateSpace(poles, B, C, dt=True, conjugate=conjugate)


def by_hand(layer, u):
    """The states of one sequence, (time, n), by the equations of the paper's section 2."""
    re, im, log_step, B = (
        layer.get_parameter(name).detach().numpy()
        for name in ("Lambda_re", "Lambda_im", "log_step", "B")
    )
    Lambda, step = np.minimum(re, -1e-4) + 1j * im, np.exp(log_step)
    B = B[..., 0] + 1j * B[..., 1]
    if layer.discretization == "zoh":
        A_bar = np.exp(Lambda * step)
        B_bar = ((A_bar - 1) / Lambda)[:, None] * B
    else:
        A_bar = (1 + step / 2 * Lambda) / (1 - step / 2 * Lambda)
        B_bar = (step / (1 - step / 2 * Lambda))[:, None] * B
    x, states = 0, []
    for now in u:
        x = A_bar * x + B_bar @ now
        states.append(x)
    return np.array(states)


def output_by_hand(layer, u):
    C = layer.C.detach().numpy()
    C = (2 if layer.conj_sym else 1) * (C[..., 0] + 1j * C[..., 1])
    y = (by_hand(layer, u) @ C[:3].T).real + layer.D.detach().numpy() * u
    if layer.bidirectional:
        y = y + (by_hand(layer, u[::-1])[::-1] @ C[3:].T).real
    return y


# ------------------------------------------------------------------ the layer


@EACH_METHOD
@EACH_KIND
@pytest.mark.parametrize("bidirectional", [False, True])
def test_forward_is_the_equation(discretization, conj_sym, bidirectional):
    layer = s5(discretization=discretization, conj_sym=conj_sym, bidirectional=bidirectional)
    with torch.no_grad():
        layer.Lambda_re[0] = 0.3  # beyond the clip
    u = torch.randn(2, 50, 3, dtype=torch.float64)
    for y, sequence in zip(layer(u).detach().numpy(), u.numpy(), strict=True):
        assert np.allclose(y, output_by_hand(layer, sequence), rtol=0, atol=1e-11)


@given(length=st.integers(1, 40), n=st.integers(0, 6), seed=st.integers(0, 99))
def test_steps_equal_forward(length, n, seed):
    layer = s5(d_state=n, seed=seed)
    u = torch.randn(2, length, 3, dtype=torch.float64)
    y, state = [], None
    for t in range(length):
        output, state = layer.step(u[:, t], state)
        y.append(output)
    assert torch.allclose(torch.stack(y, 1), layer(u), rtol=0, atol=1e-10)
    assert state.shape == (2, n)


def test_forward_continues_from_a_state():
    layer, state = s5(), None
    u = torch.randn(2, 30, 3, dtype=torch.float64)
    for t in range(11):
        _, state = layer.step(u[:, t], state)
    assert torch.allclose(layer(u[:, 11:], state), layer(u)[:, 11:], rtol=0, atol=1e-10)


def test_a_bidirectional_layer_has_no_state():
    layer, u = s5(bidirectional=True), torch.zeros(1, 4, 3, dtype=torch.float64)
    with pytest.raises(lti.OptionError, match="both ends"):
        layer.step(u[:, 0])
    with pytest.raises(lti.OptionError, match="both ends"):
        layer(u, torch.zeros(1, 12, dtype=torch.complex128))


@EACH_METHOD
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_reach_every_parameter(discretization, bidirectional):
    layer = s5(dtype=torch.float32, discretization=discretization, bidirectional=bidirectional)
    layer(torch.randn(2, 20, 3)).square().sum().backward()
    for name, p in layer.named_parameters():
        assert torch.isfinite(p.grad).all() and (p.grad != 0).all(), name


def test_without_states_the_layer_is_its_feedthrough():
    layer, u = s5(d_state=0), torch.randn(2, 5, 3, dtype=torch.float64)
    assert torch.equal(layer(u), layer.D * u)
    assert layer.to_lti().order == 0


def test_mixed_precision():
    layer, u = s5(dtype=torch.float32), torch.randn(2, 40, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(u), layer(u))
        assert layer(u.bfloat16()).dtype == torch.float32


@EACH_METHOD
def test_single_precision_loses_nothing_on_short_steps(discretization):
    """(exp(w) - 1) / w as it stands would lose four digits here."""
    layer = s5(discretization=discretization, dt_min=1e-5, dt_max=1e-4, dtype=torch.float32)
    torch.nn.init.zeros_(layer.D)
    u = torch.randn(2, 100, 3)
    single, double = layer(u), layer.double()(u)
    assert (single - double).abs().max() < 3e-6 * double.abs().max()


# ------------------------------------------------------------------ where it starts


@EACH_KIND
@pytest.mark.parametrize("blocks", [1, 4])
def test_eigenvalues_are_those_of_the_normal_part_of_hippo(conj_sym, blocks):
    layer = s5(d_state=12, blocks=blocks, conj_sym=conj_sym)
    size = (24 if conj_sym else 12) // blocks
    i = np.arange(size)
    A = -np.tril(np.sqrt(np.outer(2 * i + 1, 2 * i + 1)), -1) - np.diag(i + 1)
    low_rank = np.sqrt(i + 0.5)
    exact = np.linalg.eigvals(A + np.outer(low_rank, low_rank))
    exact = exact[exact.imag > 0] if conj_sym else exact
    stored = torch.complex(layer.Lambda_re, layer.Lambda_im).detach().numpy()
    for block in stored.reshape(blocks, -1):
        order, exact_order = np.argsort(block.imag), np.argsort(exact.imag)
        assert np.allclose(block[order], exact[exact_order], rtol=1e-6, atol=1e-5)


def test_B_starts_as_a_real_matrix_in_the_basis_of_eigenvectors():
    layer = s5(d_state=4, seed=7)
    torch.manual_seed(7)
    real = torch.randn(8, 3).double().numpy() / math.sqrt(8)
    root = np.sqrt(2 * np.arange(8) + 1)
    skew = np.tril(np.outer(root, root), -1) / 2
    _, V = np.linalg.eigh(-1j * (skew.T - skew))
    B = torch.view_as_complex(layer.B.detach()).numpy()
    for row, v in zip(B, V.T[4:], strict=True):  # each row is free up to a phase, as v is
        exact = v.conj() @ real
        assert np.allclose(np.outer(row.conj(), row), np.outer(exact.conj(), exact), atol=1e-6)


@EACH_KIND
def test_initial_sizes_follow_the_paper(conj_sym):
    layer = s5(d_model=64, d_state=128, blocks=4, conj_sym=conj_sym, dt_min=0.01, dt_max=0.2)
    n = 256 if conj_sym else 128
    assert layer.B.square().sum(-1).mean().item() == pytest.approx(1 / n, rel=0.05)
    assert layer.C.var().item() == pytest.approx(1 / n, rel=0.05)
    low, high = math.log(0.01), math.log(0.2)
    assert low < layer.log_step.min() and layer.log_step.max() < high
    assert layer.log_step.var().item() == pytest.approx((high - low) ** 2 / 12, rel=0.2)
    assert s5(d_model=64, d_state=128, C_init="complex_normal").C.var().item() == pytest.approx(
        0.5, rel=0.05
    )
    assert s5(d_model=4000, d_state=2).D.var().item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 5}, "divide the 12 states, got 5"),
        ({"blocks": 0}, "divide the 12 states, got 0"),
        ({"discretization": "euler"}, "'zoh' or 'bilinear'; got 'euler'"),
        ({"C_init": "zeros"}, "got 'zeros'"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(lti.OptionError, match=message):
        s5(**options)


# ------------------------------------------------------------------ stability


@given(
    re=st.sampled_from([0.0, 1e30, -1e-4, -1e6]) | st.floats(-1e3, 1e3),
    im=st.floats(-1e6, 1e6),
    log_step=st.floats(-30, 5),
    discretization=st.sampled_from(["zoh", "bilinear"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_poles_are_inside_the_unit_circle_also_after_rounding(
    re, im, log_step, discretization, dtype
):
    layer = s5(d_state=1, dtype=dtype, discretization=discretization)
    for name, value in (("Lambda_re", re), ("Lambda_im", im), ("log_step", log_step)):
        torch.nn.init.constant_(layer.get_parameter(name), value)
    assert layer.poles.abs() < 1
    assert abs(layer.poles.item()) < 1  # the stored number's modulus, in double precision
    assert abs(layer.to_lti().poles.item()) < 1
    before = layer.to_lti()
    assert torch.isfinite(torch.view_as_real(before.B.detach())).all()
    layer.load_lti_(before)  # what a layer computes, it can take back
    pole, folded = layer.to_lti().poles.item(), before.poles.item()
    assert abs(pole - complex(folded.real, abs(folded.imag))) < 4e-6


# ------------------------------------------------------------------ layer -> system


@EACH_METHOD
@EACH_KIND
@pytest.mark.parametrize("conjugate", [True, False])
def test_the_system_one_step_ahead_plus_D_is_the_layer(discretization, conj_sym, conjugate):
    layer = s5(discretization=discretization, conj_sym=conj_sym)
    system = layer.to_lti(conjugate=conjugate)
    dense = system.to_dense()
    impulses = torch.zeros(3, 30, 3, dtype=torch.float64)
    impulses[range(3), 0, range(3)] = 1
    h = layer(impulses).permute(1, 2, 0)  # (time, output, input)
    h[0] -= torch.diag(layer.D)
    power = torch.eye(dense.order, dtype=dense.A.dtype)
    for t in range(30):
        assert torch.allclose(h[t], (dense.C @ power @ dense.B).real, rtol=0, atol=1e-10)
        power = dense.A @ power
    assert not system.D.any()
    assert system.dt is True and system.conjugate is conjugate
    assert system.order == (24 if conjugate else 12)


def test_the_system_of_both_directions_has_the_outputs_of_both():
    layer = s5(bidirectional=True)
    dense = layer.to_lti().to_dense()
    assert (dense.n_inputs, dense.n_outputs) == (3, 6)
    impulses = torch.zeros(3, 21, 3, dtype=torch.float64)
    impulses[range(3), 10, range(3)] = 1
    y = layer(impulses).permute(1, 2, 0)
    power = torch.eye(dense.order, dtype=torch.float64)
    for lag in range(11):
        forward, backward = (dense.C @ power @ dense.B).split(3)
        if lag == 0:
            assert torch.allclose(y[10], forward + backward + torch.diag(layer.D), atol=1e-10)
        else:
            assert torch.allclose(y[10 + lag], forward, rtol=0, atol=1e-10)
            assert torch.allclose(y[10 - lag], backward, rtol=0, atol=1e-10)
        power = dense.A @ power


def test_the_system_is_in_double_precision_and_has_the_derivatives_of_the_parameters():
    layer = s5(dtype=torch.float32)
    system = layer.to_lti()
    Lambda = torch.complex(layer.Lambda_re.double(), layer.Lambda_im.double())
    assert torch.equal(system.poles, (layer.log_step.double().exp() * Lambda).exp())
    assert system.B.dtype == system.C.dtype == torch.complex128
    lti.hankel_norm(system).backward()
    for name in layer.state_axes:
        assert layer.get_parameter(name).grad.any(), name
    with torch.no_grad():
        assert not layer.to_lti().B.requires_grad


@EACH_KIND
@pytest.mark.parametrize("conjugate", [True, False])
def test_the_system_does_not_share_memory_with_the_layer(conj_sym, conjugate):
    layer = s5(conj_sym=conj_sym)
    system = layer.to_lti(conjugate=conjugate)
    parts = [system.poles, system.B, system.C]
    before = [x.clone() for x in parts]
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(1)
    assert all(torch.equal(x, y) for x, y in zip(parts, before, strict=True))


# ------------------------------------------------------------------ system -> layer


@EACH_METHOD
@EACH_KIND
@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)])
def test_round_trip(discretization, conj_sym, conjugate, dtype, tolerance):
    layer = s5(dtype=dtype, discretization=discretization, conj_sym=conj_sym)
    before = layer.to_lti()
    steps = layer.log_step.detach().clone()
    layer.load_lti_(layer.to_lti(conjugate=conjugate))
    assert gap(before, layer.to_lti()) < tolerance
    assert torch.allclose(layer.log_step, steps.mean())
    assert layer.C.dtype == dtype


def test_the_layer_computes_the_system_that_it_took():
    layer, u = s5(dtype=torch.float32), torch.randn(2, 30, 3)
    y = layer(u)
    layer.load_lti_(layer.to_lti())
    assert torch.allclose(layer(u), y, rtol=0, atol=1e-5)


@EACH_METHOD
@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize("n", [0, 5, 30])
def test_another_number_of_states(n, conjugate, discretization):
    layer = s5(dtype=torch.float32, discretization=discretization)
    same, D = dict(layer.named_parameters()), layer.D.detach().clone()
    system = modes(torch.polar(torch.rand(n) * 0.95, 3 * torch.rand(n)), conjugate=conjugate)
    layer.load_lti_(system)
    assert layer.d_state == n and layer(torch.randn(2, 9, 3)).shape == (2, 9, 3)
    assert all(same[name] is p for name, p in layer.named_parameters())
    assert torch.equal(layer.D, D)
    if n:
        assert gap(system, layer.to_lti(conjugate=conjugate)) < 1e-5
    layer.load_lti_(modes([0.5]))  # also from no states, whose steps have no mean
    assert gap(modes([0.5]), layer.to_lti()) < 1e-5


@EACH_KIND
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_truncated_system_goes_back(conj_sym, bidirectional):
    layer = s5(d_state=32, conj_sym=conj_sym, bidirectional=bidirectional)
    reduction = lti.balanced_truncation(layer.to_lti(), order=16)
    modal, _ = lti.diagonalize(reduction.system, conjugate=True)
    layer.load_lti_(modal)
    assert gap(reduction.system, layer.to_lti()) < 1e-10
    assert len(layer.C) == (6 if bidirectional else 3)


@EACH_METHOD
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_real_negative_and_vanishing_poles_and_either_of_a_pair(discretization, dtype):
    poles = [0.9, 0.999, 0.0, -0.5, -0.99, 0.3 - 0.6j, 0.8 + 0.1j, 0.7 - 1e-30j, -0.2 - 0.0j]
    system = modes(poles)
    layer = s5(dtype=dtype, discretization=discretization)
    layer.load_lti_(system)
    assert all(torch.isfinite(p).all() for p in layer.parameters())
    assert gap(system, layer.to_lti()) < (3e-5 if dtype == torch.float32 else 1e-12)
    assert (layer.Lambda_im >= 0).all()  # the upper half-plane
    layer(torch.randn(2, 20, 3, dtype=dtype)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@EACH_METHOD
def test_padding_and_idle_states_stay_finite_and_idle(discretization):
    layer, system = s5(dtype=torch.float32, discretization=discretization), modes([0, 0.9j, 0.5, 1])
    system.poles[3] = 0.99
    system.B[0], system.C[:, 0] = 0, 0  # a slot that only fills up a stack
    system.B[1], system.C[:, 2] = 0, 0
    layer.load_lti_(system)
    assert all(torch.isfinite(p).all() for p in layer.parameters())
    assert gap(system, layer.to_lti()) < 1e-5
    layer(torch.randn(2, 20, 3)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_a_real_mode_of_a_real_system_stays_real():
    poles, ones = torch.tensor([0.999, 0.5]).double(), torch.ones(2, 3).double()
    system = lti.DiagonalStateSpace(poles, ones, ones.mT / 4, conjugate=True)  # half weight
    layer = s5()
    layer.load_lti_(system)
    assert gap(system, layer.to_lti()) < 1e-12
    assert not layer.Lambda_im.any() and not layer.B[..., 1].any() and not layer.C[..., 1].any()


@EACH_METHOD
def test_a_pole_slower_than_the_clip_gets_a_shorter_step(discretization):
    layer = s5(discretization=discretization)
    mean = layer.log_step.detach().mean()
    system = modes([1 - 1e-9, 0.5, (1 - 1e-8) * np.exp(1j)])
    layer.load_lti_(system)
    assert gap(system, layer.to_lti()) < 1e-6  # at frequency 0 the gain is 1e9
    assert torch.allclose(layer.to_lti().poles, system.poles, rtol=0, atol=1e-15)
    assert (layer.Lambda_re <= -1e-4 + 1e-16).all()
    assert (layer.log_step < mean).all() and (layer.log_step == layer.log_step[0]).all()


def test_numpy_systems():
    layer, system = s5(), modes([0.9j, 0.5])
    arrays = (x.numpy() for x in (system.poles, system.B, system.C))
    layer.load_lti_(lti.DiagonalStateSpace(*arrays, conjugate=True))
    assert gap(system, layer.to_lti()) < 1e-12


def test_rows_of_B_and_columns_of_C_keep_the_ratio_of_their_lengths():
    def lengths(layer):
        rows = layer.B.detach().flatten(1).norm(dim=1)
        return rows, layer.C.detach().transpose(0, 1).flatten(1).norm(dim=1)

    layer = s5()
    rows, columns = lengths(layer)
    ratio = rows.mean() / columns.mean()
    layer.load_lti_(modes([0.9j, 0.5, 0.99], scale=1e3))
    rows, columns = lengths(layer)
    assert torch.allclose(rows / columns, ratio)


def test_dtype_frozenness_and_optimizer():
    layer = s5().requires_grad_(False)
    layer.load_lti_(modes([0.9j, 0.5]))
    assert all(p.dtype == torch.float64 and not p.requires_grad for p in layer.parameters())
    layer = s5()
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    for _ in range(2):
        layer(torch.randn(2, 9, 3, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        layer.load_lti_(modes([0.9j, 0.5]), optimizer)
        assert set(optimizer.state) == {layer.D}


@pytest.mark.parametrize(
    ("system", "error"),
    [
        (modes([0.5, 1.0]), lti.UnstableError),
        (modes([0.5, 1.5j]), lti.UnstableError),
        (modes([0.5, 1 - 1e-7]), lti.UnstableError),  # inside, yet not after rounding
        (modes([0.5], d=2), lti.DimensionError),
        (modes([0.5], outputs=6), lti.DimensionError),
        (modes([0.5], scale=1e80), lti.NonFiniteError),
        (lti.DiagonalStateSpace(*([torch.ones(1, 1)] * 3)), lti.DimensionError),
        (
            lti.DiagonalStateSpace(
                torch.full([1], 0.5), torch.ones(1, 3), torch.ones(3, 1), torch.eye(3)
            ),
            lti.DimensionError,
        ),
        (
            lti.DiagonalStateSpace(torch.full([1], -0.5), torch.ones(1, 3), torch.ones(3, 1), dt=0),
            lti.TimebaseError,
        ),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_changes(system, error):
    layer = s5(dtype=torch.float32)
    before = snapshot(layer)
    with pytest.raises(error, match="S5|finite"):
        layer.load_lti_(system)
    assert is_unchanged(layer, before)


# ------------------------------------------------------------------ checkpoints


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("n", [0, 5, 12, 40])
def test_a_state_dict_of_any_size_loads(n, bidirectional):
    small = s5(d_state=n, seed=1, bidirectional=bidirectional)
    layer = s5(bidirectional=bidirectional)
    same, saved = dict(layer.named_parameters()), small.state_dict()
    layer.load_state_dict(saved)
    assert all(same[name] is p for name, p in layer.named_parameters())
    u = torch.randn(2, 9, 3, dtype=torch.float64)
    assert torch.equal(layer(u), small(u))
    with torch.no_grad():
        layer.B.add_(1)
    assert torch.equal(small.state_dict()["B"], saved["B"])  # no memory is shared
    assert not n or not torch.equal(layer.B, small.B)


def test_a_copy_resizes_itself_not_the_original():
    layer, small = s5(), s5(d_state=4)
    clone = copy.deepcopy(layer)
    clone.load_state_dict(small.state_dict())
    assert (clone.d_state, layer.d_state) == (4, 12)


def test_a_checkpoint_of_the_other_directedness_is_refused():
    layer, saved = s5(), s5(d_state=5, bidirectional=True).state_dict()
    before = snapshot(layer)
    with pytest.raises(RuntimeError, match="size mismatch for C"):
        layer.load_state_dict(saved)
    assert layer.d_state == 12 and torch.equal(layer.C, before["C"])
