"""Powers of poles and of matrices, and the map of a block of time, against their definitions."""

import pytest
import torch

from compressm.ops.powers import causal, krylov, powers_of

LENGTHS = pytest.mark.parametrize("length", [1, 2, 3, 8, 13])


@LENGTHS
def test_powers_of_poles(length):
    poles = torch.tensor([0.5 + 0.1j, 0.0, -0.9j], dtype=torch.complex128)
    powers = torch.stack([poles**j for j in range(length + 1)])
    assert torch.allclose(powers_of(poles, length), powers, rtol=1e-13)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6, 9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_powers_have_derivatives_of_both_orders_at_zero_too(count, dtype):
    poles = torch.tensor([[0.5, -0.9, 0.0]], dtype=dtype)
    poles = (poles + 0.2j if dtype.is_complex else poles).detach()
    poles[0, 2] = 0.0
    assert torch.autograd.gradcheck(lambda x: powers_of(x, count), poles.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: powers_of(x, count), poles)


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")  # in torch's own rules
def test_powers_can_be_transformed():
    poles = torch.tensor([0.5, -0.9, 0.0])
    slope = torch.func.jacfwd(lambda x: powers_of(x, 5))(poles)
    assert torch.allclose(
        slope, torch.autograd.functional.jacobian(lambda x: powers_of(x, 5), poles)
    )
    each = torch.func.vmap(lambda x: powers_of(x, 5), out_dims=1)(poles)
    assert torch.equal(each, powers_of(poles, 5))


@LENGTHS
def test_krylov_rows_are_powers(length):
    torch.manual_seed(0)
    A, C = torch.randn(2, 4, 4).double(), torch.randn(2, 3, 4).double()
    rows = krylov(A, C, length)
    assert rows.shape == (2, 3, length, 4)
    for l in range(length):
        exact = C @ torch.linalg.matrix_power(A, l)
        assert torch.allclose(rows[:, :, l], exact, rtol=1e-12)


@LENGTHS
def test_a_causal_map_is_a_convolution(length):
    kernel, u = torch.randn(2, length, 3, 4).double(), torch.randn(2, length, 4).double()
    y = torch.zeros(2, length, 3, dtype=torch.float64)
    for lag in range(length):
        y[:, lag:] += torch.einsum("gpm,gjm->gjp", kernel[:, lag], u[:, : length - lag])
    mapped = (u.flatten(1).unsqueeze(1) @ causal(kernel)).view(y.shape)
    assert torch.allclose(mapped, y, rtol=0, atol=1e-12)
