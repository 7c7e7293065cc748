"""HiPPO-LegS, its normal part, and the initial poles of S4D, against the closed forms."""

import math

import pytest
import torch

from compressm.layers.hippo import hippo_legs, hippo_normal, hippo_nplr, s4d_inv, s4d_legs, s4d_lin

SIZES = pytest.mark.parametrize("n", [0, 1, 2, 7, 64])


@SIZES
def test_legs_entry_by_entry(n):
    A, B = hippo_legs(n)
    for i in range(n):
        assert B[i].item() == pytest.approx(math.sqrt(2 * i + 1), rel=1e-15)
        for j in range(n):
            exact = 0 if i < j else -(i + 1) if i == j else -math.sqrt((2 * i + 1) * (2 * j + 1))
            assert A[i, j].item() == pytest.approx(exact, rel=1e-14)
    assert A.shape == (n, n) and A.dtype == B.dtype == torch.float64


def test_legs_projects_on_legendre_polynomials():
    """x' = (A x + B u) / t, run on a polynomial of the past, finds its coefficients."""
    A, B = hippo_legs(3)
    # u(s) = s on [0, t] is t (1/2 P0 + 1/2 P1) in shifted Legendre polynomials, of norm 1/(2i+1)
    x = torch.tensor([0.5, 0.5 / math.sqrt(3), 0.0], dtype=torch.float64)
    assert torch.allclose(A @ x + B, x)  # x(t) = t x, so x' = x = A x + B


@SIZES
def test_normal_plus_low_rank_is_legs(n):
    A, b = hippo_legs(n)
    poles, P, B, V = hippo_nplr(n)
    identity = torch.eye(n, dtype=V.dtype)
    assert torch.allclose(V.mH @ V, identity, atol=1e-12)
    assert torch.allclose(V @ (torch.diag(poles) - P.outer(P.conj())) @ V.mH, A + 0j, atol=1e-10)
    assert torch.allclose(V @ B, b + 0j, atol=1e-10)


@SIZES
def test_eigenvalues_of_the_normal_part(n):
    A, _ = hippo_legs(n)
    p = torch.tensor([math.sqrt(i + 0.5) for i in range(n)], dtype=torch.float64)
    poles, V = hippo_normal(n)
    assert torch.allclose((A + p.outer(p)).to(V) @ V, V * poles, atol=1e-10)
    assert (poles.real == -0.5).all() and (poles.imag.diff() > 0).all()
    assert torch.allclose(poles.imag, -poles.imag.flip(0), atol=1e-10)


def test_initial_poles_of_s4d():
    for k, (lin, inv) in enumerate(zip(s4d_lin(16), s4d_inv(16), strict=True)):
        assert lin.item() == pytest.approx(-0.5 + 1j * math.pi * k)
        assert inv.item() == pytest.approx(-0.5 + 1j * 32 / math.pi * (32 / (2 * k + 1) - 1))
    poles, _ = hippo_normal(32)
    assert torch.equal(s4d_legs(16), poles[poles.imag > 0])
    legs, inv = s4d_legs(16)[-1].imag.item(), s4d_inv(16)[0].imag.item()
    assert legs == pytest.approx(inv, rel=0.1)  # S4D-Inv is the law of their asymptotics
