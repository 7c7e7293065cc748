"""The selective scan against its definition, forwards and backwards, and what it remembers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import lti
from compressm.ops.selective_scan import selective_scan, selective_scan_reference


def arguments(batch=2, length=9, d=3, n=4, dtype=torch.float64, seed=0, state=True):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=dtype, generator=generator)

    u, B, C = normal(batch, length, d), normal(batch, length, n), normal(batch, length, n)
    dt, A = normal(batch, length, d).exp() / 2, -normal(d, n).exp()
    parts = [u, dt, A, B, C, normal(d)] + ([normal(batch, d, n)] if state else [])
    return [x.requires_grad_() for x in parts]


def outcome(scan, parts):
    """Outputs, and the gradients of a number in which both of them count."""
    y, last = scan(*parts)
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    gradients = torch.autograd.grad((y * weights).sum() + last.square().sum(), parts)
    return y, last, *gradients


@given(
    length=st.integers(1, 40), d=st.integers(1, 3), n=st.integers(0, 4), state=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_it_is_its_definition_with_its_derivatives(length, d, n, state, seed):
    parts = arguments(length=length, d=d, n=n, seed=seed, state=state)
    for x, y in zip(
        outcome(selective_scan, parts), outcome(selective_scan_reference, parts), strict=True
    ):
        assert x.shape == y.shape
        assert torch.allclose(x, y, rtol=1e-11, atol=1e-11)


def test_the_definition_by_hand():
    u, dt, A, B, C, D, h = (x.detach() for x in arguments(batch=1, length=2, d=1, n=2))
    y, last = selective_scan(u, dt, A, B, C, D, h)
    for t in range(2):
        s = dt[0, t, 0]
        h = torch.exp(s * A) * h + s * B[0, t] * u[0, t, 0]
        assert torch.allclose(y[0, t], (C[0, t] * h).sum() + D * u[0, t], rtol=0, atol=1e-14)
    assert torch.allclose(last, h, rtol=0, atol=1e-14)


def test_derivatives_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(selective_scan, arguments(batch=2, length=5, d=2, n=2))
    assert torch.autograd.gradgradcheck(selective_scan, arguments(batch=1, length=5, d=2, n=2))


def test_second_derivatives_are_those_of_the_loop():
    second = []
    for scan in (selective_scan, selective_scan_reference):
        parts = arguments(batch=2, length=7, d=2, n=2)
        loss = scan(*parts)[0].square().sum()
        (first,) = torch.autograd.grad(loss, parts[2], create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), parts))
    assert all(torch.allclose(x, y, rtol=1e-9) for x, y in zip(*second, strict=True))


def test_arguments_and_incoming_gradients_are_not_written_to():
    parts = arguments()
    y, last = selective_scan(*parts)
    incoming = [torch.randn_like(y), torch.randn_like(last)]
    before = [x.detach().clone() for x in (*parts, *incoming)]
    torch.autograd.grad((y, last), parts, incoming)
    assert all(torch.equal(x, z) for x, z in zip((*parts, *incoming), before, strict=True))


def test_the_last_state_continues_a_sequence():
    u, dt, A, B, C, D, h = arguments(length=30)
    whole, last = selective_scan(u, dt, A, B, C, D, h)
    parts = []
    for now in (slice(0, 11), slice(11, 30)):
        y, h = selective_scan(u[:, now], dt[:, now], A, B[:, now], C[:, now], D, h)
        parts.append(y)
    assert torch.allclose(torch.cat(parts, 1), whole, rtol=0, atol=1e-12)
    assert torch.allclose(h, last, rtol=0, atol=1e-12)


def test_states_of_all_times_are_not_kept():
    length, n = 400, 16
    parts, kept = arguments(length=length, n=n, state=False), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        _, last = selective_scan(*parts)
    states = [x for x in kept if x.shape[-2:] == (3, n) and x.ndim >= 3]
    assert sum(x.numel() for x in states) <= 21 * last.numel()
    assert all(x.untyped_storage().nbytes() == 8 * x.numel() for x in states)  # no views


def test_states_of_all_times_never_exist_at_once():
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            tensors = [x for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
            self.numel = max([self.numel, *(x.numel() for x in tensors)])
            return out

    parts = arguments(length=400, d=32, n=32)
    with Largest() as largest:
        y, last = selective_scan(*parts)
        (y.sum() + last.sum()).backward()
    assert largest.numel == 20 * last.numel()


def test_single_precision_also_under_autocast():
    parts = [x.detach() for x in arguments(length=50)]
    exact, _ = selective_scan(*parts)
    single = [x.float() for x in parts]
    y, last = selective_scan(*single)
    assert y.dtype == last.dtype == torch.float32
    assert torch.allclose(y.double(), exact, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(selective_scan(*single)[0], y)


@pytest.mark.parametrize("shape", [(2, 9), (2, 0, 3), (2, 9, 4)])
def test_an_input_of_another_shape_is_refused(shape):
    _, dt, A, B, C, D = arguments(state=False)
    with pytest.raises(lti.DimensionError, match=r"u must be \(batch, length, 3\)"):
        selective_scan(torch.zeros(shape, dtype=A.dtype), dt, A, B, C, D)
