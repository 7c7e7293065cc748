"""Derivatives in torch: gradcheck of every function, on every kind of system, hard ones too."""

import warnings

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import jacrev

import lti
from lti._backend import autograd
from lti.gramians import _torch_op
from tests.lti.helpers import random_dense, random_ring

FORMS = ["dense real", "dense complex", "diagonal real", "diagonal complex", "conjugate"]


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.ReductionWarning)
        yield


def leaf(x):
    return torch.tensor(np.array(x)).requires_grad_()


def drawn(form, dt):
    """The arrays of a system, and the function that makes it of them."""
    if form.startswith("dense"):
        sys = random_dense(4, 2, 2, dt=dt, seed=3, is_complex="complex" in form)
        return [leaf(x) for x in (sys.A, sys.B, sys.C)], dense(dt)
    conjugate = form == "conjugate"
    ring = random_ring(3 if conjugate else 4, 2, 2, seed=4, largest=0.8, conjugate=conjugate)
    sys = ring if dt else lti.bilinear(ring)
    arrays = (sys.poles, sys.B, sys.C)
    if form == "diagonal real":
        poles = np.linspace(-0.5, 0.7, 4) if dt else -np.arange(1.0, 5)
        arrays = (poles, sys.B.real, sys.C.real)
    return [leaf(x) for x in arrays], diagonal(dt, conjugate)


def dense(dt):
    return lambda A, B, C: lti.StateSpace(A, B, C, None, dt)


def diagonal(dt, conjugate=False):
    return lambda p, B, C: lti.DiagonalStateSpace(p, B, C, None, dt, conjugate)


def markov(reduction, k=4):
    """C B, C A B, ... of the reduced system: no choice of coordinates changes them."""
    sys = reduction.system
    terms, B = [], sys.B
    for _ in range(k):
        terms.append(sys.C @ B)
        B = sys.A @ B
    return torch.stack(terms)


FUNCTIONS = {
    "controllability Gramian": lti.controllability_gramian,
    "observability Gramian": lti.observability_gramian,
    "Hankel singular values": lti.hankel_singular_values,
    "values of a balancing": lambda sys: lti.balance(sys).hsv,
    "H2 norm": lti.h2_norm,
    "Hankel norm": lti.hankel_norm,
    "error bound": lambda sys: lti.error_bound(lti.hankel_singular_values(sys)),
    "truncation": lambda sys: markov(lti.balanced_truncation(sys, 2)),
    "singular perturbation": lambda sys: markov(lti.singular_perturbation(sys, 2)),
    "balancing-free": lambda sys: markov(lti.balanced_truncation(sys, 2, method="balancing-free")),
    "response of a truncation": lambda sys: lti.frequency_response(
        lti.balanced_truncation(sys, 2).system, [0.3, 1.0]
    ),
}


def check(f, arrays, **kwargs):
    assert gradcheck(f, arrays, atol=1e-6, rtol=1e-5, nondet_tol=1e-9, **kwargs)


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradcheck(name, form, dt):
    arrays, make = drawn(form, dt)
    check(lambda *x: FUNCTIONS[name](make(*x)), arrays, fast_mode=name != "Hankel singular values")


@pytest.mark.parametrize("dt", [0, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["controllability Gramian", "H2 norm"])
def test_second_derivatives(name, form, dt):
    arrays, make = drawn(form, dt)
    f = lambda *x: FUNCTIONS[name](make(*x))  # noqa: E731
    assert gradgradcheck(f, arrays, atol=1e-5, rtol=1e-4, nondet_tol=1e-8, fast_mode=True)


@pytest.mark.parametrize("name", ["Hankel singular values", "truncation"])
def test_a_second_derivative_that_does_not_exist_is_refused(name):
    arrays, make = drawn("dense real", True)
    value = FUNCTIONS[name](make(*arrays)).sum()
    (first,) = torch.autograd.grad(value, arrays[:1], create_graph=True)
    with pytest.raises(lti.DerivativeError, match="have a first derivative only, and a second"):
        first.sum().backward()


def test_values_are_those_without_derivatives():
    for form in FORMS:
        for dt in (0, True):
            arrays, make = drawn(form, dt)
            for name, f in FUNCTIONS.items():
                with torch.no_grad():
                    plain = f(make(*arrays))
                followed = f(make(*arrays))
                assert followed.requires_grad and not plain.requires_grad
                torch.testing.assert_close(
                    followed.detach(), plain, rtol=1e-12, atol=1e-12, msg=name
                )


# ------------------------------------------------------------------ hard cases


def hidden():
    """Of three states no input reaches two, and no output sees one, in a turned basis."""
    U = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    A = U @ np.array([[0.5, 0.1, 0], [0, 0.3, 0], [0, 0, 0.2]]) @ U.T
    return [leaf(x) for x in (A, U[:, :1], np.array([[1.0, 0.5, 0]]) @ U.T)]


def test_a_singular_gramian():
    arrays, make = hidden(), dense(True)
    check(lambda *x: lti.hankel_singular_values(make(*x))[:1], arrays)
    for name in ("controllability Gramian", "observability Gramian", "H2 norm"):
        check(lambda *x, f=FUNCTIONS[name]: f(make(*x)), arrays)
    for order in (1, 3):  # 3 is lowered to the minimal order, 1
        check(lambda *x, r=order: markov(lti.balanced_truncation(make(*x), r)), arrays)
    slopes = torch.autograd.grad(lti.hankel_singular_values(make(*arrays)).sum(), arrays)
    assert all(x.isfinite().all() for x in slopes)


def twice():
    """Two copies of a system side by side: each value twice."""
    poles = leaf([0.5, 0.2, 0.5, 0.2])
    B = leaf([[1.0, 0], [2, 0], [0, 1], [0, 2]])
    return [poles, B, leaf([[1.0, 0.5, 0, 0], [0, 0, 1, 0.5]])]


def test_repeated_values():
    arrays, make = twice(), diagonal(True)
    for power in (1, 2, 3):  # symmetric functions of the values
        check(lambda *x, k=power: (lti.hankel_singular_values(make(*x)) ** k).sum(), arrays)
    check(lambda *x: markov(lti.balanced_truncation(make(*x), 2)), arrays)
    cut = markov(lti.balanced_truncation(make(*arrays), 1)).sum()  # through equal values
    assert all(x.isfinite().all() for x in torch.autograd.grad(cut, arrays))


def test_the_gramian_of_an_all_pass_is_the_identity():
    A = np.array([[-1.0, 0], [-2 * np.sqrt(2), -2]])
    root = np.array([[np.sqrt(2)], [2]])
    arrays, make = [leaf(x) for x in (A, root, -root.T)], dense(0)
    torch.testing.assert_close(
        lti.controllability_gramian(make(*arrays)).detach(), torch.eye(2, dtype=torch.float64)
    )
    check(lambda *x: lti.hankel_singular_values(make(*x)).sum(), arrays)
    check(lambda *x: lti.controllability_gramian(make(*x)), arrays)


@pytest.mark.parametrize("form", ["dense", "diagonal"])
def test_poles_close_to_the_circle(form):
    poles = [1 - 1e-6, 0.3]
    make = dense(True) if form == "dense" else diagonal(True)
    arrays = [
        leaf(np.diag(poles) if form == "dense" else poles),
        leaf([[1.0], [0.5]]),
        leaf([[1.0, 2]]),
    ]
    rng = np.random.default_rng(1)
    for f in (lambda s: lti.hankel_singular_values(s).sum(), lti.h2_norm):
        slopes = torch.autograd.grad(f(make(*arrays)), arrays)
        for i, (x, slope) in enumerate(zip(arrays, slopes, strict=True)):
            way = torch.tensor(rng.standard_normal(x.shape))
            h = 1e-9 if i == 0 else 1e-6  # well below the distance to the circle
            ends = [
                [y.detach() + t * h * way if y is x else y.detach() for y in arrays]
                for t in (1, -1)
            ]
            measured = (f(make(*ends[0])) - f(make(*ends[1]))) / (2 * h)
            torch.testing.assert_close((slope * way).sum(), measured, rtol=1e-5, atol=0)


def test_one_state_and_none():
    check(
        lambda *x: lti.hankel_singular_values(dense(True)(*x)),
        [leaf([[0.5]]), leaf([[1.0]]), leaf([[2.0]])],
    )
    check(
        lambda *x: lti.hankel_singular_values(diagonal(0)(*x)),
        [leaf([-0.5]), leaf([[1.0]]), leaf([[2.0]])],
    )
    nothing = [leaf(np.zeros((0, 0))), leaf(np.zeros((0, 2))), leaf(np.zeros((1, 0)))]
    assert lti.hankel_singular_values(dense(True)(*nothing)).shape == (0,)


@pytest.mark.parametrize("side", [1, 2])
def test_no_input_or_no_output(side):
    arrays = [leaf([0.5, 0.3]), leaf([[1.0], [2]]), leaf([[1.0, 3]])]
    arrays[side] = leaf(np.zeros_like(arrays[side].detach()))
    for f in (lti.hankel_singular_values, lti.h2_norm):
        slopes = torch.autograd.grad(f(diagonal(True)(*arrays)).sum(), arrays)
        assert all((x == 0).all() for x in slopes)


# ------------------------------------------------------------------ stacks, torch.func, dtypes


@pytest.mark.parametrize("dt", [0, True])
def test_a_stack_is_a_loop(dt):
    arrays, make = drawn("dense real", dt)
    stack = [
        torch.stack([x.detach(), x.detach() * (0.9 if dt else 1.1)]).requires_grad_()
        for x in arrays
    ]
    for name in ("Hankel singular values", "truncation", "H2 norm"):
        f = FUNCTIONS[name]
        whole = torch.autograd.grad(f(make(*stack)).sum(), stack)
        for i in range(2):
            one = [x[i].detach().requires_grad_() for x in stack]
            for x, y in zip(torch.autograd.grad(f(make(*one)).sum(), one), whole, strict=True):
                torch.testing.assert_close(x, y[i], rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch, of conj under vmap
@pytest.mark.parametrize("form", FORMS)
def test_jacrev(form):
    arrays, make = drawn(form, True)
    arrays = [x.detach() for x in arrays]
    f = lambda *x: lti.hankel_singular_values(make(*x))  # noqa: E731
    share = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)  # jacrev takes real arguments only

    def g(share):
        return f(*(x * t for x, t in zip(arrays, share, strict=True)))

    expected = torch.autograd.functional.jacobian(g, share)
    torch.testing.assert_close(jacrev(g)(share), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("single", [torch.float32, torch.complex64])
def test_single_precision_is_computed_in_double(single):
    form = "diagonal real" if single == torch.float32 else "diagonal complex"
    arrays, make = drawn(form, True)
    coarse = [x.detach().to(single).requires_grad_() for x in arrays]
    fine = [x.detach().to(y.dtype).requires_grad_() for x, y in zip(coarse, arrays, strict=True)]
    values = lti.hankel_singular_values(make(*coarse))
    assert values.dtype == torch.float32
    slopes = torch.autograd.grad(values.sum(), coarse)
    expected = torch.autograd.grad(lti.hankel_singular_values(make(*fine)).sum(), fine)
    for x, y in zip(slopes, expected, strict=True):
        assert x.dtype == single
        torch.testing.assert_close(x, y.to(single), rtol=1e-6, atol=0)


def test_what_has_no_derivative_says_so():
    arrays, make = drawn("dense real", True)
    for options in ({"frequencies": (0.1, 1)}, {"times": (0, 4)}):
        with pytest.raises(lti.DerivativeError, match="limited Gramian has no derivative"):
            lti.balance(make(*arrays), **options)


WITHOUT = {
    "input weight": lambda G: lti.balanced_truncation(
        lti.StateSpace(*(x.detach() for x in G.matrices)), order=2, input_weight=G
    ),
    "modal": lambda G: lti.modal_truncation(G, order=2),
    "hankel norm": lambda G: lti.hankel_norm_approximation(G, order=2),
    "irka": lambda G: lti.irka(G, order=2),
    "minimal": lti.minimal,
    "split": lambda G: lti.balanced_truncation(shifted(G), order=3, unstable="split"),
    "a shifted split": lambda G: lti.balance(G, unstable="split", alpha=-2.0),
}


def shifted(G):
    """The same with some poles beyond the boundary."""
    return lti.StateSpace(G.A + 2.0 * torch.eye(G.order, dtype=G.A.dtype), G.B, G.C)


@pytest.mark.parametrize("name", WITHOUT)
def test_no_derivative_is_wrong_for_want_of_one(name):
    A = np.diag(-np.arange(1.0, 6)) + 0.1
    arrays = leaf(A), leaf(np.ones((5, 1))), leaf(np.ones((1, 5)))
    with pytest.raises(lti.DerivativeError, match="no derivative"):
        WITHOUT[name](lti.StateSpace(*arrays))
    detached = lti.StateSpace(*(x.detach() for x in arrays))
    WITHOUT[name](detached)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize(
    "reduce",
    [
        lambda G: lti.modal_truncation(G, order=2),
        lambda G: lti.balanced_truncation(G, order=3, unstable="split", alpha=-1.5),
    ],
)
def test_modes_of_a_diagonal_system_have_derivatives(reduce, conjugate):
    poles = [-1.0 + 0.5j, -2.0 + 1j, -3.0 + 4j] if conjugate else [-1.0, -2.0, -3.0, -4.0]
    B, C = np.random.default_rng(0).standard_normal((2, len(poles), 1))
    arrays = [leaf(x) for x in (poles, B + 0j * conjugate, C.T + 0j * conjugate)]
    make = diagonal(0, conjugate)
    assert gradcheck(lambda *x: markov(reduce(make(*x))), arrays)


ALGEBRA = {
    "feedback": lambda G: lti.feedback(G, 0.1),
    "series": lambda G: lti.series(G, G),
    "parallel": lambda G: lti.parallel(G, 2 * G),
    "zoh": lambda G: lti.discretize(G, 0.1),
    "bilinear": lambda G: lti.discretize(G, 0.1, "bilinear"),
}


@pytest.mark.parametrize("name", ALGEBRA)
def test_systems_of_systems_have_derivatives_twice(name):
    arrays, make = drawn("dense real", 0)
    of = lambda *x: lti.dcgain(ALGEBRA[name](make(*x)))  # noqa: E731
    assert gradcheck(of, arrays) and gradgradcheck(of, arrays)


@pytest.mark.parametrize("simulated", [lti.step_response, lti.impulse_response])
def test_responses_in_time_have_derivatives(simulated):
    arrays, make = drawn("dense real", 0)
    of = lambda *x: simulated(make(*x), torch.linspace(0, 1, 4, dtype=torch.float64))  # noqa: E731
    assert gradcheck(of, arrays) and gradgradcheck(of, arrays)


def test_a_given_factor_has_its_derivative():
    arrays, make = drawn("dense real", True)
    arrays.append(leaf(np.random.default_rng(0).standard_normal((4, 6))))
    check(
        lambda A, B, C, S: markov(lti.balance(make(A, B, C), controllability=S).truncate(2)), arrays
    )


# ------------------------------------------------------------------ torch.compile

COMPILED = [
    ("Hankel singular values", "conjugate", True),
    *[
        pytest.param("Hankel singular values", form, True, marks=pytest.mark.slow)
        for form in FORMS[2:4]
    ],
    *[
        pytest.param("Hankel singular values", form, 0, marks=pytest.mark.slow)
        for form in FORMS[2:]
    ],
    *[
        pytest.param(name, "conjugate", True, marks=pytest.mark.slow)
        for name in ("observability Gramian", "H2 norm", "Hankel norm")
    ],
]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch
@pytest.mark.parametrize(("name", "form", "dt"), COMPILED)
def test_functions_of_diagonal_systems_compile_whole(name, form, dt):
    torch.compiler.reset()
    arrays, make = drawn(form, dt)
    f = lambda *x: FUNCTIONS[name](make(*x))  # noqa: E731
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    value, expected = compiled(*arrays), f(*arrays)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    weight = torch.rand_like(value)
    for x, y in zip(
        *(torch.autograd.grad(v, arrays, weight, allow_unused=True) for v in (value, expected)),
        strict=True,
    ):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12)
    bad = [x.detach().requires_grad_() for x in arrays]
    with torch.no_grad():
        bad[0][1] = 2.0
    with pytest.raises(lti.UnstableError, match="the worst, 2"):
        compiled(*bad)


@pytest.mark.parametrize("shape", [(0, 2, 1), (3, 0, 0), (3, 0, 1), (3, 2, 0), (40, 1, 2)])
def test_factors_of_any_size_are_as_torch_compile_expects_them(shape):
    n, m, p = shape
    poles = torch.linspace(-0.5, 0.9, n, dtype=torch.complex128)
    B, C = (torch.ones(*size, dtype=torch.complex128) for size in ((2, n, m), (2, p, n)))
    for arrays in ((poles, B, C), (poles.real, B.real, C.real)):
        arrays = (arrays[0].expand(2, n).contiguous(), *arrays[1:])
        for conjugate in (False, True):
            torch.library.opcheck(_torch_op.factors, (*arrays, True, conjugate))


# ------------------------------------------------------------------ the general Lyapunov solver


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("is_complex", [False, True])
def test_lyapunov_equations_of_any_right_side(discrete, is_complex):
    sys = random_dense(5, dt=True if discrete else 0, seed=2, is_complex=is_complex)
    M = torch.tensor(random_dense(5, 5, 5, seed=3, is_complex=is_complex).B)
    A = torch.tensor(sys.A)
    X = autograd.solve(A, M, discrete)
    residual = A @ X @ A.mH - X + M if discrete else A @ X + X @ A.mH + M
    assert residual.abs().max() < 1e-12 * X.abs().max()
    check(
        lambda A, M: autograd.Lyapunov.apply(A, M, discrete, None),
        [A.requires_grad_(), M.requires_grad_()],
    )
