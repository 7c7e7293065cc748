"""The structure of S4: its Gramian by ADI and its readout, beside those of dense matrices."""

import pytest
import torch

import lti
from compressm import States, compress_
from compressm.layers import S4
from compressm.layers.low_rank import without_power


def trained(noise=0.1, **options):
    """An S4 whose parameters have moved, with poles at the bound that float32 allows."""
    torch.manual_seed(0)
    layer = S4(3, 40, 50, **options)
    with torch.no_grad():
        layer.log_dt.copy_(torch.tensor([1e-3, 1e-2, 0.3]).log())
        for p in (layer.log_A_real, layer.A_imag, layer.P, layer.B):
            p.mul_(1 + noise * torch.randn_like(p))
        layer.A_imag[:, -1] = 1e5
    return layer


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_factor_solves_the_equation_and_gives_the_same_values(noise, bidirectional):
    layer = trained(noise, bidirectional=bidirectional)
    with torch.no_grad():
        G = layer.to_lti()
        R = layer.observability_factor(G)
    assert R is not None and R.shape == G.A.shape
    Q, norm = R @ R.mT, torch.linalg.matrix_norm
    assert (norm(G.A.mT @ Q @ G.A - Q + G.C.mT @ G.C) < 1e-13 * norm(Q)).all()
    S, dense = lti.gramian_factors(G)
    values, expected = (torch.linalg.svdvals(x.mT @ S) for x in (R, dense))
    assert ((values - expected).abs() < 1e-9 * expected[:, :1]).all()


def test_without_shared_matrices_or_low_rank_part_there_is_none():
    layer = trained(shared=False)
    assert layer.observability_factor(layer.to_lti()) is None
    compress_(layer, States(4))
    assert layer.rank == 0 and layer.observability_factor(layer.to_lti()) is None


def test_poles_that_are_no_shifts_give_none(monkeypatch):
    from compressm.layers import low_rank

    monkeypatch.setattr(low_rank, "_refined", lambda poles, w, q: (0 * poles - 1e6, poles.abs()))
    layer = trained()
    assert layer.observability_factor(layer.to_lti()) is None


@pytest.mark.parametrize("length", [1, 2, 7, 50])
@pytest.mark.parametrize("points", [1, 2**21])
def test_the_readout_without_the_factor_it_is_stored_with(length, points, monkeypatch):
    monkeypatch.setattr("compressm.layers.low_rank.POINTS", points)
    layer = trained(bidirectional=True)
    with torch.no_grad():
        w, Q, _ = layer._continuous(torch.float64)
        C = torch.view_as_complex(layer.C.double())
        once = without_power(C, w, Q, length)
        again = once - layer._times_power(once, length)
    assert (again - C).abs().max() < 1e-10 * once.abs().max()


def test_a_cut_by_the_structure_is_that_of_the_dense_system(monkeypatch):
    cuts = []
    data = torch.randn(16, 50, 3).split(8)
    for structured in (True, False):
        if not structured:
            monkeypatch.setattr(S4, "observability_factor", lambda self, system: None)
        layer = trained()
        (cut,) = compress_(layer, States(12), data=data).layers
        assert cut.after == 12
        cuts.append((cut, layer(data[0]).detach()))
    (one, y), (other, z) = cuts
    assert one.order == other.order
    assert abs(one.output_error - other.output_error) < 1e-4 * other.output_error
    assert (y - z).abs().max() < 1e-4 * z.abs().max()
