"""What blocks leave of a recurrence: by steps, and by the kernel in Triton's interpreter."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compressm.ops.recurrence import recur_, recur_by_step_

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: `make triton` installs it and runs this",
)
# Prints the largest relative error of each; the interpreter must be asked for before the import
COMPARED = """
import torch
from compressm import linear_ssm
from compressm.ops import recurrence
from compressm.ops.recurrence import recur_by_kernel_, recur_by_step_

def compare(pairs):
    print(max(float((x - y).norm() / y.norm()) for x, y in pairs))

torch.manual_seed(0)
for dtype in (torch.complex64, torch.complex128):
    eps = torch.finfo(dtype).eps
    for shape in ((1, 1, 1, 1), (1, 3, 7, 5), (3, 2, 9, 64), (2, 2, 4, 130)):
        for reverse in (False, True):
            x, a = torch.randn(shape, dtype=dtype), torch.randn(shape[::3], dtype=dtype)
            x, y = x / eps, x.clone() / eps
            recur_by_kernel_(x, a, reverse)
            recur_by_step_(y, a, reverse)
            compare([(x, y)])
    u = torch.randn(2, 40, 3, dtype=dtype.to_real(), requires_grad=True)
    poles = (0.9 * torch.rand(70, dtype=dtype)).requires_grad_()
    B, C = (torch.randn(size, dtype=dtype, requires_grad=True) for size in ((70, 3), (3, 70)))
    found = []
    for by in (recur_by_kernel_, recur_by_step_):
        recurrence.recur_by_step_ = by  # what `recur_` takes on a CPU
        y, last = linear_ssm(u, poles, B, C)
        parts = torch.autograd.grad(y.square().sum() + last.abs().sum(), (u, poles, B, C))
        found.append([y, last, *parts])
    compare(zip(*found))
"""
# A kernel is compiled for a card that need not be there
COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from compressm.ops.recurrence import STATES, _kernel

signature = {"reverse": "constexpr", "states": "constexpr"}
for number in ("*fp32", "*fp64"):
    for reverse in (False, True):
        for K in (None, 1):  # one is a constant to the compiler
            constants = {"reverse": reverse, "states": STATES} | ({"K": 1} if K else {})
            kinds = {"x": number, "a": number, "batch": "i32", "n": "i32"}
            kinds["K"] = "constexpr" if K else "i32"
            source = ASTSource(_kernel, kinds | signature, constants)
            for capability in (80, 90):
                print(len(compile(source, GPUTarget("cuda", capability, 32)).asm["cubin"]))
"""


SIZES = st.tuples(*(st.integers(1, most) for most in (3, 4, 9, 5)))  # G, batch, K, n


@given(SIZES, st.booleans(), st.integers(0, 2**31))
def test_it_is_the_recurrence(shape, reverse, seed):
    generator = torch.Generator().manual_seed(seed)
    x, a = (
        torch.randn(size, dtype=torch.complex128, generator=generator)
        for size in (shape, shape[::3])
    )
    given = x.clone()
    recur_(x, a, reverse)
    for g in range(shape[0]):
        now = torch.zeros_like(x[g, :, 0])
        for k in range(shape[2])[:: -1 if reverse else 1]:
            now = a[g] * now + given[g, :, k]
            torch.testing.assert_close(x[g, :, k], now)


def test_poles_may_be_conjugate_views_of_another_precision():
    x = torch.randn(2, 1, 5, 3, dtype=torch.complex128)
    a = torch.randn(2, 3, dtype=torch.complex64)
    y = x.clone()
    recur_(x, a.conj())
    recur_(y, a.conj().resolve_conj().to(torch.complex128))
    torch.testing.assert_close(x, y)


def test_on_a_cpu_it_goes_by_steps():
    x = torch.randn(2, 1, 5, 3, dtype=torch.complex64)
    a = torch.randn(2, 3, dtype=torch.complex64)
    y = x.clone()
    recur_(x, a)
    recur_by_step_(y, a)
    assert torch.equal(x, y)


def printed(script, **environment):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return [float(line) for line in run.stdout.split()]


@needs_triton
def test_the_kernel_does_as_the_steps_do():
    errors = printed(COMPARED, TRITON_INTERPRET="1")
    assert len(errors) == 18
    assert max(errors[:9]) < 1e-5 and max(errors[9:]) < 1e-13


@needs_triton
def test_the_kernel_compiles_for_cards():
    sizes = printed(COMPILED)
    assert len(sizes) == 16 and min(sizes) > 1000


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_the_kernel_does_as_the_steps_do():
    x = torch.randn(3, 2, 70, 130, dtype=torch.complex64)
    a = torch.randn(3, 130, dtype=torch.complex64)
    x, a = x.cuda(), 0.5 * a.cuda()
    for reverse in (False, True):
        one, two = x.clone(), x.clone()
        recur_(one, a, reverse)
        recur_by_step_(two, a, reverse)
        torch.testing.assert_close(one, two)
