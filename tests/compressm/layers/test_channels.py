"""What layers of channels are computed with: convolutions and kernels."""

import pytest
import torch

from compressm.layers.channels import causal_conv, decaying, diagonal_kernel

LENGTHS = pytest.mark.parametrize("length", [1, 2, 3, 8, 13])


@LENGTHS
def test_a_causal_convolution_is_its_sum(length):
    torch.manual_seed(0)
    u, kernel = torch.randn(2, 3, length).double(), torch.randn(3, length).double()
    y = torch.zeros_like(u)
    for lag in range(length):
        y[..., lag:] += kernel[:, lag, None] * u[..., : length - lag]
    assert torch.allclose(causal_conv(u, kernel), y, rtol=0, atol=1e-12)


@LENGTHS
def test_a_diagonal_kernel_is_a_sum_of_powers(length):
    torch.manual_seed(0)
    poles = torch.polar(torch.rand(3, 4).double(), 6 * torch.rand(3, 4).double())
    weights = torch.randn(3, 2, 4, dtype=torch.complex128)  # two outputs of each channel
    powers = poles[:, None, :, None] ** torch.arange(length)
    exact = (weights[..., None] * powers).sum(-2).real
    assert torch.allclose(diagonal_kernel(poles, weights, length), exact, rtol=0, atol=1e-12)


def test_decay_is_never_rounded_to_none():
    dt, log_re = torch.tensor([1e-30, 1.0]), torch.tensor([-80.0, 0.0])
    w = decaying(dt, log_re, torch.tensor([1.0, 2.0]))
    assert (w.real < 0).all() and w[1].item() == pytest.approx(-1 + 2j)
