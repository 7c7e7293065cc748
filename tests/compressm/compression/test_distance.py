"""What is lost between the reduced system and the layer: by its diagonal form, by rounding."""

import copy
import math

import pytest
import torch

import lti
from compressm import LSSL, S4, ErrorBound, KeepEnergy, States, compress_
from compressm.compression.distance import distance
from tests.compressm.helpers import is_unchanged, parameters_of

W = torch.linspace(0, math.pi, 300, dtype=torch.float64)


def layer_of(kind, channels, n, seed):
    torch.manual_seed(seed)
    return kind(channels, n).double()


@torch.no_grad()
def error(layer, original):
    """max |G_r - G| over channels and frequencies, the resonances included."""
    G, G_r = original.to_lti(), layer.to_lti()
    slow = torch.logspace(-6, -1, 200, dtype=torch.float64)
    gap = lambda w: lti.frequency_response(G_r, w) - lti.frequency_response(G, w)  # noqa: E731
    return float(max(gap(w).abs().max() for w in (W, slow)))


@pytest.mark.parametrize("kind, channels, n, seed, policy", [
    (LSSL, 3, 12, 2, States(10)),
    (LSSL, 3, 16, 2, ErrorBound(1e-3)),
    (LSSL, 3, 24, 2, States(20)),
    (LSSL, 3, 24, 0, ErrorBound(1e-3)),
    (LSSL, 2, 32, 1, States(26)),
    (S4, 3, 24, 0, KeepEnergy(0.9999)),
])  # fmt: skip
def test_a_nearly_defective_reduced_system_is_within_the_bound_or_refused(
    kind, channels, n, seed, policy
):
    layer = layer_of(kind, channels, n, seed)
    original, before = copy.deepcopy(layer), parameters_of(layer)
    (cut,) = compress_(layer, policy).layers
    if cut.skipped:
        assert "condition number" in cut.skipped and "double" not in cut.skipped
        assert is_unchanged(layer, before)
    else:
        assert error(layer, original) <= cut.error_bound <= 10 * error(layer, original)


def test_fewer_states_are_kept_where_the_diagonal_form_of_more_is_bad():
    layer = layer_of(LSSL, 3, 24, 2)
    original, by_data = copy.deepcopy(layer), copy.deepcopy(layer)
    (cut,) = compress_(layer, States(20)).layers
    assert cut.after < 14 and cut.rounding < 1e-6  # 14 hold all that 20 may
    v = torch.randn(16, 200, 3, dtype=torch.float64)
    (cut,) = compress_(by_data, States(20), data=[v]).layers
    with torch.no_grad():
        y = original(v)
        assert (by_data(v) - y).norm() < 0.02 * y.norm()
    assert cut.after < 24 and cut.output_error < 0.02


def test_a_diagonal_form_of_another_system_is_seen_at_any_condition_number():
    torch.manual_seed(0)
    A, B, C = torch.randn(5, 8, 8).double() / 4, torch.randn(5, 8, 1), torch.randn(5, 1, 8)
    dense = lti.StateSpace(A, B.double(), C.double(), dt=True)
    modal, _ = lti.diagonalize(dense, conjugate=True)
    assert distance(modal, modal, dense)[0] < 1e-10
    modal.C[2] *= 1.01
    loss, peak = distance(modal, modal, dense)
    gain = lambda G: lti.frequency_response(G, W)[2].abs().max()  # noqa: E731
    assert 0.01 * gain(dense) <= loss <= 0.03 * gain(dense) <= 0.1 * peak
    other = lti.DiagonalStateSpace(modal.poles, modal.B, 1.5 * modal.C, dt=True, conjugate=True)
    assert distance(other, modal, dense)[0] >= 0.5 * peak
