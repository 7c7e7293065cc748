"""Convolutions by blocks of time against those by FFT: values, derivatives, when they are taken."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressm import DSS, LSSL, S4, S4D, States, compress_
from compressm.layers import channels
from compressm.layers.channels import diagonal_kernel
from compressm.ops.channel_conv import BLOCK, blocks_pay, causal_conv, diagonal_conv


def problem(batch, length, H, n, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(batch, length, H, dtype=dtype, generator=generator)
    radius, phase = torch.rand(2, H, n, dtype=torch.float64, generator=generator)
    poles = torch.polar(radius, 6.3 * phase)
    weights = torch.randn(H, n, dtype=torch.complex128, generator=generator)
    return [x.requires_grad_() for x in (u, poles, weights)]


def by_fft(u, poles, weights):
    kernel = diagonal_kernel(poles, weights[:, None], u.shape[1], u.dtype)[:, 0]
    return causal_conv(u.mT, kernel).mT


@given(
    st.integers(0, 3),
    st.sampled_from([1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 100]),
    st.integers(1, 4),
    st.integers(0, 5),
    st.integers(0, 2**31),
)
def test_both_ways_are_one_map(batch, length, H, n, seed):
    arguments = problem(batch, length, H, n, seed)
    found = []
    for conv in (diagonal_conv, by_fft):
        y = conv(*arguments)
        slope = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
        found.append((y, *torch.autograd.grad(y, arguments, slope, allow_unused=batch == 0)))
    for one, other in zip(*found, strict=True):
        if one is None or other is None:
            assert batch == 0
            continue
        assert one.shape == other.shape and one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_derivatives_of_both_orders():
    arguments = problem(2, 2 * BLOCK + 3, 2, 2)
    assert torch.autograd.gradcheck(diagonal_conv, arguments)
    assert torch.autograd.gradgradcheck(diagonal_conv, problem(1, BLOCK + 2, 1, 1))


def test_slow_modes_keep_single_precision():
    u, poles, weights = problem(2, 16_384, 3, 4, dtype=torch.float32)
    poles = torch.polar(torch.full((3, 4), 1 - 1e-7, dtype=torch.float64), poles.angle())
    exact = by_fft(u.double(), poles, weights)
    assert (diagonal_conv(u, poles, weights) - exact).norm() < 1e-4 * exact.norm()


LAYERS = {
    "S4D": lambda: S4D(3, 4),
    "bidirectional": lambda: S4D(3, 4, bidirectional=True),
    "DSS": lambda: DSS(3, 4),
    "softmax": lambda: DSS(3, 4, version="softmax", l_max=200),
    "S4": lambda: S4(3, 4),
    "reduced S4": lambda: reduced(S4(3, 8)),
    "bidirectional S4": lambda: reduced(S4(3, 8, bidirectional=True)),
    "LSSL": lambda: LSSL(3, 4),
    "reduced LSSL": lambda: reduced(LSSL(3, 8)),
}


def reduced(layer):
    compress_(layer, States(4))
    return layer


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_the_same_by_either(name, monkeypatch):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    u = torch.randn(2, 200, 3, dtype=torch.float64, requires_grad=True)
    assert blocks_pay(u, layer.d_state)
    found = []
    for pays in (True, False):
        monkeypatch.setattr(channels, "blocks_pay", lambda u, n, pays=pays: pays)
        y = layer(u)
        parameters = [x for x in layer.parameters() if x.requires_grad]
        slopes = torch.autograd.grad(y.square().sum(), [u, *parameters], materialize_grads=True)
        found.append((y, *slopes))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("n", [3, 40], ids=["blocks", "fft"])
@pytest.mark.parametrize("kind", [S4D, DSS, S4])
def test_a_compiled_layer_is_one_graph(kind, n):
    layer, u = kind(2, n), torch.randn(2, 200, 2)
    if kind is S4:  # in full it reads the length of its kernel from a tensor
        compress_(layer, States(n - 1))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(u), layer(u))


@pytest.mark.parametrize("n", [3, 40], ids=["blocks", "fft"])
@pytest.mark.parametrize("layer", [S4D, DSS])
def test_several_gradients_at_once(layer, n):
    layer, u = layer(2, n), torch.randn(2, 200, 2, requires_grad=True)
    y = layer(u)
    slopes = torch.randn(3, *y.shape)
    each = [torch.autograd.grad(y, u, slope, retain_graph=True)[0] for slope in slopes]
    (together,) = torch.autograd.grad(y, u, slopes, is_grads_batched=True)
    torch.testing.assert_close(together, torch.stack(each))


def test_few_states_in_long_sequences_go_by_blocks():
    u = torch.randn(1, 400, 2)
    assert blocks_pay(u, 10) and not blocks_pay(u, 11)
    assert not blocks_pay(torch.randn(1, 10_000, 1), 33)
    assert not blocks_pay(u.to("meta"), 4)


@pytest.mark.parametrize("length", [1, 2, 7, 12, 997])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 3)])
def test_a_convolution_by_fft_and_its_slopes_are_the_sums(leading, length):
    torch.manual_seed(0)
    u = torch.randn(*leading, length, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(*leading[-1:], length, dtype=torch.float64, requires_grad=True)
    lag = torch.arange(length) - torch.arange(length)[:, None]  # of output j and input i
    direct = (u[..., None, :] @ torch.where(lag >= 0, kernel[..., lag], 0))[..., 0, :]
    slope = torch.randn_like(direct)
    expected = torch.autograd.grad(direct, (u, kernel), slope)
    y = causal_conv(u, kernel)
    torch.testing.assert_close(y, direct)
    torch.testing.assert_close(torch.autograd.grad(y, (u, kernel), slope), expected)


def test_derivatives_by_fft_of_both_orders():
    u, kernel = (torch.randn(*x, 5, dtype=torch.float64).requires_grad_() for x in [(2, 3), (3,)])
    assert torch.autograd.gradcheck(causal_conv, (u, kernel))
    assert torch.autograd.gradgradcheck(causal_conv, (u, kernel))


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning")  # in torch's own rules
def test_transformations_of_functions_go_by_fft():
    layer, u = S4D(2, 3).requires_grad_(False), torch.randn(4, 200, 2)
    slope = torch.func.jvp(layer, (u,), (u,))[1]
    torch.testing.assert_close(slope, layer(u))
    each = torch.func.vmap(lambda one: layer(one[None])[0])(u)
    torch.testing.assert_close(each, layer(u), rtol=1e-4, atol=1e-5)
