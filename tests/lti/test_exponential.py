"""e^X against mpmath: slow states beside fast ones, large couplings, any units."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lti
from lti._backend import exponential_op
from lti._backend.exponential import expm
from lti._backend.squaring import exponentials, halvings

RNG = np.random.default_rng(0)
UNITS = 2.0 ** np.array([-27.0, 40.0, 0.0, 13.0, -9.0])
CASES = {
    "slow and fast": np.diag([-1.0, -1e8]),
    "slow and fast, coupled": np.array([[-1.0, 1], [1, -1e8]]),
    "twelve orders": np.array([[-1.1, 1, 2], [3, -1e6, 0], [1, 1, -1e12]]),
    "a large input": np.array([[0.0, 1, 0], [-1, -0.1, 1e12], [0, 0, 0]]),
    "beyond a square": np.array([[-1e-3, 1e200], [0, 0]]),
    "a chain": np.eye(4, k=1) * 1e6,
    "a triangle": np.triu(RNG.standard_normal((5, 5)), 1) * 1e4 - np.diag([1.0, 1e5, 2, 1e4, 3]),
    "complex": np.array([[-0.1 + 2j, 1], [1j, -1e7]]),
    "decayed": np.array([[-50.0, 3], [2, -60]]),
    "growing": np.array([[30.0, 1], [2, -1]]),
    "any": RNG.standard_normal((6, 6)),
    "zero": np.zeros((2, 2)),
}


def exact(X):
    """e^X with as many digits as its squarings cost."""
    k = halvings(X)
    with mpmath.workdps(40 + k):
        Y = mpmath.matrix(X.tolist()) / mpmath.mpf(2) ** k
        term = total = mpmath.eye(len(X))
        for j in range(1, 40):
            term = term * Y / j
            total = total + term
        for _ in range(k):
            total = total * total
        result = np.array([[complex(total[i, j]) for j in range(len(X))] for i in range(len(X))])
    return result if np.iscomplexobj(X) else result.real


@pytest.mark.parametrize("name", CASES)
def test_every_entry_has_its_digits(library, name):
    X = CASES[name]
    found, expected = np.asarray(expm(library(X))), exact(X)
    cancels = np.linalg.norm(X, 2) if name == "any" else 1
    np.testing.assert_allclose(found, expected, rtol=1e-13 * cancels, atol=1e-300)


@given(st.integers(0, 99), st.floats(0, 14), st.floats(0, 14))
def test_nearly_decoupled_states_of_any_speed(seed, spread, size):
    """A dominant diagonal leaves each state its own digits."""
    rng = np.random.default_rng(seed)
    poles = 10 ** rng.uniform(0, spread, 4)
    X = rng.uniform(-0.2, 0.2, (4, 4)) - np.diag(poles)
    X = np.block([[X, 10**size * rng.standard_normal((4, 1))], [np.zeros((1, 5))]])
    found, expected = expm(X), exact(X)
    np.testing.assert_allclose(found[:, :4], expected[:, :4], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found[:, 4], expected[:, 4], rtol=1e-12, atol=1e-14 * 10**size)


@given(st.integers(0, 99))
def test_units_do_not_matter(seed):
    X = np.random.default_rng(seed).standard_normal((5, 5)) * 3
    moved = UNITS[:, None] * X / UNITS
    np.testing.assert_allclose(
        UNITS * expm(moved) / UNITS[:, None], expm(X), rtol=1e-12, atol=1e-13
    )
    *_, last = exponentials(moved)
    np.testing.assert_allclose(UNITS * last / UNITS[:, None], expm(X), rtol=1e-11, atol=1e-12)


def test_a_batch_is_its_members():
    X = np.stack([CASES["slow and fast"], CASES["decayed"], CASES["growing"]])
    np.testing.assert_allclose(expm(X), [expm(x) for x in X], rtol=1e-13)
    assert expm(np.zeros((3, 0, 0))).shape == (3, 0, 0)


@pytest.mark.parametrize("name", ["any", "complex", "decayed", "zero"])
def test_derivatives_of_both_orders_and_kinds(name):
    X = torch.tensor(CASES[name] / (1e6 if name == "complex" else 1)).requires_grad_()
    scale = 1e15 if name == "decayed" else 1.0
    assert torch.autograd.gradcheck(lambda x: scale * expm(x), X)
    assert torch.autograd.gradgradcheck(lambda x: scale * expm(x), X)


def test_the_derivative_of_a_slow_state_beside_a_fast_one():
    X = torch.tensor(CASES["slow and fast"]).requires_grad_()
    (slope,) = torch.autograd.grad(expm(X)[0, 0], X)
    np.testing.assert_allclose(slope[0, 0], np.exp(-1), rtol=1e-13)


def test_what_grows_beyond_all_numbers_is_refused(library):
    with pytest.raises(lti.NonFiniteError, match="choose a shorter time"):
        expm(library(np.array([[1000.0]])))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch
def test_it_compiles_whole_with_its_derivatives():
    X = torch.tensor(np.stack([CASES["decayed"], CASES["growing"]]) / 10).requires_grad_()
    compiled = torch.compile(lambda x: expm(2 * x), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(X), expm(2 * X), rtol=1e-13, atol=0)
    weight = torch.rand_like(X)
    slopes = [torch.autograd.grad(f(X), X, weight)[0] for f in (compiled, lambda x: expm(2 * x))]
    torch.testing.assert_close(*slopes, rtol=1e-11, atol=0)


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_the_operation_is_as_torch_expects_it(kind):
    X = torch.randn(2, 3, 3, dtype=kind, generator=torch.Generator().manual_seed(1))
    torch.library.opcheck(exponential_op.exponential, (X.requires_grad_(),))
    assert torch.autograd.gradcheck(exponential_op.exponential, X)
    assert torch.autograd.gradgradcheck(exponential_op.exponential, X)
