"""The cut of a linear layer: its bound, its stored states, and where stability decides."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

import lti
from compressm import (
    LRU,
    LSSL,
    S4D,
    S5,
    Budget,
    Compressor,
    ErrorBound,
    Every,
    KeepEnergy,
    OutputError,
    SequenceModel,
    States,
    compress_,
)
from compressm.compression.linear import LinearPlan
from compressm.gramians.moments import observability_factor, observed_factor
from compressm.gramians.signals import Signal
from tests.compressm.helpers import cut_by, is_unchanged, lru, model_of, parameters_of

W = torch.linspace(0, 2 * torch.pi, 513, dtype=torch.float64)


@torch.no_grad()
def gap(G, F, w=W):
    """max over w of the largest singular value of G - F."""
    return float(
        torch.linalg.matrix_norm(lti.frequency_response(G, w) - lti.frequency_response(F, w), 2)
        .max()
    )  # fmt: skip


def real_response(layer, w=W):
    """The transfer function of Re(C x), from a complex G: (G(z) + conj(G(conj z))) / 2."""
    G = layer.to_lti(conjugate=False)
    forward, backward = (lti.frequency_response(G, s * w) for s in (1, -1))
    return (forward + backward.conj()) / 2


# ------------------------------------------------------------------ the certificate


@pytest.mark.parametrize("kind", [LRU, S5, S4D])
def test_a_slow_mode_at_the_limit_of_the_precision_is_no_reason_to_refuse(kind):
    torch.manual_seed(0)
    layer = kind(3, 12)
    with torch.no_grad():  # its largest pole as close to the circle as single precision holds
        if kind is LRU:
            layer.nu_log[0], layer.theta_log[0] = -16.0, -9.0
        elif kind is S5:
            layer.Lambda_re[0], layer.Lambda_im[0] = -1e-6, 0.0
        else:
            layer.log_A_real[:, 0], layer.A_imag[:, 0] = -20.0, 0.0
    original = copy.deepcopy(layer)
    cut = compress_(nn.Sequential(layer), States(6)).layers[0]
    assert cut.after == 6 and not cut.skipped and cut.rounding < 1e-3
    assert (layer.to_lti().poles.abs() < 1).all()
    assert gap(original.to_lti(), layer.to_lti()) <= cut.error_bound * (1 + 1e-6)


@pytest.mark.parametrize("conjugate", [True, False])
@pytest.mark.parametrize("policy", [KeepEnergy(0.9), ErrorBound(4.0), States(8)], ids=str)
def test_the_response_after_a_cut_is_the_reduced_system_within_the_bound(conjugate, policy):
    layer = lru(r_max=0.99)
    original = copy.deepcopy(layer)
    balancing = lti.balance(layer.to_lti(conjugate=conjugate))
    cut = compress_(layer, policy, conjugate=conjugate).layers[0]
    assert cut.after == layer.d_state < cut.before and cut.skipped is None
    reduced = balancing.truncate(cut.order).system
    written = layer.to_lti(conjugate=conjugate)
    w = torch.cat([W, written.poles.angle()])
    peak = torch.linalg.matrix_norm(lti.frequency_response(reduced, w), 2).max()
    assert gap(written, reduced, w) / peak < 1e-5
    error = real_response(layer) - real_response(original)  # what the layer outputs is real
    assert torch.linalg.matrix_norm(error, 2).max() <= cut.error_bound
    bound = float(lti.error_bound(cut.hsv, cut.order))
    assert bound <= cut.error_bound <= bound * (1 + 1e-4)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    d_model=st.integers(1, 4),
    d_state=st.integers(2, 20),
    fraction=st.floats(0, 1, exclude_max=True),
    max_phase=st.sampled_from([0.1, math.pi, 2 * math.pi]),
)
def test_any_cut_stays_within_its_bound_and_near_its_system(
    seed, d_model, d_state, fraction, max_phase
):
    layer = lru(d_state, d_model, seed, r_max=0.99, max_phase=max_phase)
    before = copy.deepcopy(layer).to_lti()
    stored = 1 + int(fraction * (d_state - 1))  # less than all, so that every example is cut
    cut = compress_(layer, States(stored)).layers[0]
    assert cut.skipped is None and cut.after == layer.d_state <= stored < cut.before
    assert gap(layer.to_lti(), before) <= cut.error_bound
    assert cut.rounding < 1e-4


@pytest.mark.parametrize("kind", [S4D, S5])
def test_the_bound_of_two_directions_holds_where_their_errors_add_up(kind):
    layer = kind(1, 4, bidirectional=True).double()
    G = layer.to_lti()
    poles = torch.exp(-torch.tensor([0.05, 0.2, 0.8, 2.0], dtype=torch.float64)) + 0j
    shape = G.poles.shape
    B, C = torch.ones_like(G.B), torch.ones_like(G.C) / 2
    layer.load_lti_(lti.DiagonalStateSpace(poles.expand(shape), B, C, dt=True, conjugate=True))
    before, u = copy.deepcopy(layer), torch.ones(1, 2000, 1, dtype=torch.float64)
    (cut,) = compress_(layer, States(1)).layers
    gain = (layer(u) - before(u))[0, 1000].abs().item()  # in the middle of a constant
    bound = float(lti.error_bound(cut.hsv, cut.order).max())
    assert cut.after == 1 and bound < gain <= cut.error_bound <= 1.5 * bound


def test_the_real_system_needs_fewer_states_than_the_complex_one_at_one_error():
    errors = {}
    for conjugate in (True, False):
        layer = lru(64, 8)
        before = real_response(layer)
        compress_(layer, States(24), conjugate=conjugate)
        assert layer.d_state == 24
        errors[conjugate] = torch.linalg.matrix_norm(real_response(layer) - before, 2).max()
    assert errors[True] < 0.8 * errors[False]


def test_keeping_everything_changes_nothing_bit_for_bit():
    model = model_of()
    before = parameters_of(model)
    for policy in (KeepEnergy(1.0), States(16), States(100), ErrorBound(0.0)):
        for cut in compress_(model, policy).layers:
            assert (cut.before, cut.after, cut.skipped) == (16, 16, None)
    assert is_unchanged(model, before)


# ------------------------------------------------------------------ stored states


def test_real_eigenvalues_that_need_all_stored_states_are_no_failure():
    layer = lru(4, 2, r_min=0.1, r_max=0.9, max_phase=1e-3)
    (cut,) = compress_(layer, KeepEnergy(0.9999)).layers
    assert cut.after == 4 and cut.skipped is None and "nothing to remove" in cut.advice


def test_an_order_is_raised_to_what_its_stored_states_hold():
    layer = lru()
    cut = compress_(layer, lambda hsv, stored: 7).layers[0]
    assert cut.order >= 7 and cut.after == layer.d_state
    deeper = lru()
    assert compress_(deeper, lambda hsv, stored: cut.order).layers[0].after == cut.after


@pytest.mark.parametrize("policy", [KeepEnergy(0.9), States(13), Budget(total=30)], ids=str)
def test_stored_states_come_in_multiples(policy):
    model, other = model_of(d_state=32), model_of(d_state=32)
    event = compress_(model, policy, multiple_of=8)
    plain = compress_(other, policy)
    for cut, free in zip(event.layers, plain.layers, strict=True):
        assert cut.after % 8 == 0 and cut.after < 32
        if isinstance(policy, KeepEnergy):
            assert free.after <= cut.after < free.after + 8
            assert cut.energy_kept >= free.energy_kept
        else:
            assert cut.after <= free.after


# ------------------------------------------------------------------ where stability decides


def test_only_unstable_channels_take_the_exact_gramian(every_state):
    torch.manual_seed(3)  # a draw of which one channel would be unstable
    layer = S4D(3, 8, dt_min=0.05, dt_max=0.3)
    G = layer.to_lti()
    u, g = torch.randn(2, 30, 3), torch.randn(2, 30, 3)
    g[..., 1] = torch.linspace(0, 1, 30) ** 8 * 100  # of which the loss feels the end only
    signals = {"": [Signal(u, g)]}
    (cut,) = cut_by(layer, signals, States(3), "data").layers
    assert cut.skipped is None and cut.after <= 3 and (layer.to_lti().poles.abs() < 1).all()
    S = observed_factor(G, [u])
    values = {
        name: lti.balance(G, controllability=S, observability=R).hsv.detach().numpy()
        for name, R in {"data": observability_factor(G, [g]), "exact": None}.items()
    }
    taken = [
        next(
            (
                k
                for k, v in values.items()
                if np.allclose(v[i] / v[i, 0], cut.hsv[i] / cut.hsv[i, 0])
            ),
            None,
        )
        for i in range(3)
    ]  # the exact one in units of the other
    assert None not in taken and "data" in taken and "exact" in taken


def test_a_cut_names_the_type_that_it_fell_back_to(every_state):
    torch.manual_seed(3)
    layer = S4D(1, 8, dt_min=0.05, dt_max=0.3)
    u, g = torch.randn(2, 30, 1), torch.linspace(0, 1, 30)[:, None].expand(2, 30, 1) ** 8 * 100
    (cut,) = cut_by(layer, {"": [Signal(u, g)]}, States(3), "data", dry_run=True).layers
    (same,) = cut_by(layer, {"": [Signal(u)]}, States(3), "input", dry_run=True).layers
    assert cut.gramians == "input" and (cut.hsv == same.hsv).all()


def test_the_energy_fraction_is_that_of_the_values_it_fell_back_to(every_state):
    torch.manual_seed(39)
    layer = S4D(1, 8, dt_min=0.05, dt_max=0.3)
    u, g = torch.randn(2, 30, 1), torch.linspace(0, 1, 30)[:, None].expand(2, 30, 1) ** 8 * 100
    signals = {"": [Signal(u.cumsum(1), g)]}  # of their own values 5 states keep enough
    (cut,) = cut_by(layer, signals, KeepEnergy(0.99), "data", dry_run=True).layers
    assert cut.gramians == "input" and cut.energy_kept >= 0.99
    (cut,) = cut_by(layer, signals, States(5), "data", dry_run=True).layers
    assert cut.gramians == "input" and cut.after == 5


# ------------------------------------------------------------------ what is refused


def test_a_pruned_parameter_is_named():
    layer = lru()
    prune.random_unstructured(layer, "B", amount=0.5)
    (cut,) = compress_(layer, States(4)).layers
    assert cut.after == 24 and "B is no parameter of the layer" in cut.skipped


def test_an_ill_conditioned_diagonal_form_is_named(monkeypatch):
    torch.manual_seed(0)
    layer, diagonalize = LRU(2, 16), lti.diagonalize
    before = [p.clone() for p in layer.parameters()]

    def inaccurate(*args, **options):
        modal, _ = diagonalize(*args, **options)
        return dataclasses.replace(modal, C=1.01 * modal.C), 1e9

    monkeypatch.setattr(lti, "diagonalize", inaccurate)
    compressor = Compressor(layer, policy=States(4), schedule=Every(1))
    (cut,) = compressor.step().layers
    assert cut.after == 16 and "condition number 1.0e+09, it would differ" in cut.skipped
    assert all(map(torch.equal, layer.parameters(), before))
    monkeypatch.undo()
    assert compressor.step().layers[0].after == 4


# ------------------------------------------------------------------ rounding


def test_rounding_is_accepted_where_it_changes_the_output_less_than_the_cut():
    torch.manual_seed(0)
    model = SequenceModel(1, 10, d_model=8, d_state=64, n_layers=2, layer=LSSL)
    unobserved, u = copy.deepcopy(model), torch.randn(32, 80, 1)
    layer, before = model.blocks[0].layer, copy.deepcopy(model.blocks[0].layer)
    cut = compress_(model, OutputError(0.05), data=u.split(8)).layers[0]
    assert cut.after < 64 and cut.rounding > 2e-3 and cut.output_error < 0.1
    y = before(model.encoder(u))
    assert (layer(model.encoder(u)) - y).norm() < 0.1 * y.norm()
    cut = compress_(unobserved, States(cut.after), data=[u[:7]]).layers[0]  # none is held out
    assert cut.after == 64 and "train in double precision" in cut.skipped


@pytest.mark.parametrize("policy, expected", [(KeepEnergy(0.9), 1), (States(9), -1)], ids=str)
def test_an_order_close_by_is_taken_where_rounding_would_spoil_the_cut(
    policy, expected, monkeypatch
):
    (free,) = compress_(lru(), policy).layers
    bears = LinearPlan._bears
    monkeypatch.setattr(
        LinearPlan,
        "_bears",
        lambda self, r, written, orders: (
            written.poles.shape[-1] != free.after and bears(self, r, written, orders)
        ),
    )
    (cut,) = compress_(lru(), policy).layers
    assert cut.skipped is None and 0 < (cut.after - free.after) * expected <= 4
