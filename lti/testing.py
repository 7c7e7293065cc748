"""Does sigma_r+1 <= ||G - G_r|| <= 2 sum(sigma) hold? Systems for hypothesis, and assertions."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lti._array import is_complex, to_numpy
from lti._checks import one_of
from lti.balancing import balance, balanced_truncation
from lti.discretize import bilinear
from lti.empirical import GramianFactor
from lti.errors import DimensionError, OptionError, ReductionWarning
from lti.gramians import controllability_gramian, observability_gramian
from lti.hankel import hankel_singular_values
from lti.interop import as_statespace
from lti.norms import hinf_norm
from lti.reduction import Reduction
from lti.system import DiagonalStateSpace, StateSpace, System

try:
    from hypothesis import note
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "lti.testing draws systems with hypothesis; pip install compressm[testing]"
    ) from error

__all__ = [
    "all_pass",
    "as_code",
    "assert_balanced",
    "assert_error_bound",
    "assert_gramian",
    "assert_reproduces",
    "assert_stays_stable",
    "excitations",
    "stable_systems",
    "unitary",
    "unstable_systems",
]

Size = int | tuple[int, int]

FORMS, FIELDS = ("dense", "diagonal", "conjugate"), ("real", "complex")
KINDS = ("generic", "near-boundary", "non-minimal", "repeated", "all-pass")

# Quarters come first, for examples to shrink to: they make zeros, coincidences and exact
# cancellation likely. Floats make them near misses.
QUARTERS = st.integers(-8, 8).map(lambda k: k / 4)
VALUES = QUARTERS | st.floats(-2, 2, width=32)
COMPLEX_VALUES = st.builds(complex, VALUES, VALUES)
DECAYS = st.integers(1, 16).map(lambda k: -k / 4) | st.floats(-4, -0.125, width=32)
FREQUENCIES = st.integers(-16, 16).map(lambda k: k / 4) | st.floats(-4, 4, width=32)
RADII = st.integers(0, 3).map(lambda k: k / 4) | st.floats(0, 0.875, width=32)
ANGLES = st.floats(-3.125, 3.125, width=32)
TURNS = st.sampled_from([1, -1, 1j, -1j]) | ANGLES.map(lambda t: np.exp(1j * t))
# Of the poles that these kinds are about, how far inside the stability boundary
GAPS = {
    "near-boundary": st.integers(3, 9).map(lambda k: 10.0**-k),
    "unstable": st.integers(1, 4).map(lambda k: -k / 4),
}


# ------------------------------------------------------------------ strategies


def stable_systems(
    *,
    order: Size = (1, 6),
    inputs: Size = (1, 3),
    outputs: Size = (1, 3),
    dt: float | bool | None = None,
    field: str | None = None,
    form: str | None = None,
    kind: str | None = None,
    feedthrough: bool = True,
) -> st.SearchStrategy[Any]:
    """G = (A, B, C, D) with stable poles, of every kind; shrinks to few states, quarters, zeros.

    A failing example prints its systems as code.

    Parameters
    ----------
    order, inputs, outputs : int or (least, most), optional
        Sizes, from 1. The order of a conjugate system counts its real states.
    dt : float or True, optional
        Time base; by default one of 0, True and 0.5.
    field : {"real", "complex"}, optional
        Whether the transfer function is that of a real system; by default either.
    form : {"dense", "diagonal", "conjugate"}, optional
        A `StateSpace` in a random orthonormal basis, a `DiagonalStateSpace`, or one with
        ``conjugate=True``, which is real; by default any.
    kind : str, optional
        By default any of

        * "generic": modest numbers, with zeros among them; poles at least 1/8 from the boundary;
        * "near-boundary": some poles within 1e-3 to 1e-9 of it;
        * "non-minimal": states that no input reaches, or that no output sees;
        * "repeated": each Hankel singular value twice, two copies of a system side by side;
        * "all-pass": equal Hankel singular values, and with its own D equal gains.
    feedthrough : bool, optional
        Whether D may differ from zero.

    Returns
    -------
    SearchStrategy
        Of `StateSpace` and `DiagonalStateSpace` in double precision.

    Raises
    ------
    OptionError
        If an option does not exist, or no system meets all of them.

    Examples
    --------
    >>> from hypothesis import given
    >>> import lti, lti.testing
    >>> @given(lti.testing.stable_systems(order=(1, 3), kind="non-minimal"))
    ... def test_bound(sys):
    ...     lti.testing.assert_error_bound(sys)
    >>> test_bound()
    """
    if kind is not None:
        one_of("kind", kind, KINDS)
    kinds = KINDS if kind is None else (kind,)
    return _systems(_designs(order, inputs, outputs, field, form, kinds), dt, feedthrough)


def unstable_systems(
    *,
    order: Size = (1, 6),
    inputs: Size = (1, 3),
    outputs: Size = (1, 3),
    dt: float | bool | None = None,
    field: str | None = None,
    form: str | None = None,
    feedthrough: bool = True,
) -> st.SearchStrategy[Any]:
    """G = (A, B, C, D) with at least one pole 1/4 to 1 beyond the stability boundary.

    Parameters
    ----------
    order, inputs, outputs, dt, field, form, feedthrough : optional
        As in `stable_systems`.

    Returns
    -------
    SearchStrategy

    Raises
    ------
    OptionError
        As `stable_systems`.

    Examples
    --------
    >>> import lti.testing
    >>> systems = lti.testing.unstable_systems(order=2, dt=0)
    """
    designs = _designs(order, inputs, outputs, field, form, ("unstable",))
    return _systems(designs, dt, feedthrough)


@st.composite
def excitations(draw: Any, sys: System) -> np.ndarray:
    """S (n, k), a factor of any P: that of states which only some inputs, or none, ever drive.

    Few columns or many, in directions of very different size, some of them zero.

    Parameters
    ----------
    draw : callable
        Given by hypothesis.
    sys : StateSpace or DiagonalStateSpace
        Of n states.

    Examples
    --------
    >>> from hypothesis import given, strategies as st
    >>> import lti.testing
    >>> @given(st.data(), lti.testing.stable_systems(order=(1, 3)))
    ... def test_stability(data, sys):
    ...     S = data.draw(lti.testing.excitations(sys))
    ...     lti.testing.assert_stays_stable(sys, controllability=S)
    >>> test_stability()
    """
    n, k = sys.order, draw(st.integers(1, sys.order + 2))
    U = draw(_bases(n, is_complex(sys.to_dense().B)))
    sizes = st.just(0.0) | st.integers(-6, 0).map(lambda d: 10.0**d)
    S = U[:, : min(n, k)] * draw(st.lists(sizes, min_size=min(n, k), max_size=min(n, k)))
    return S @ unitary(max(n, k), draw(st.integers(0, 999)))[: min(n, k), :k]


def _designs(
    order: Size, inputs: Size, outputs: Size, field: str | None, form: str | None, kinds: Any
) -> list[tuple[str, str, str, list[tuple[int, int]]]]:
    """Form, field and kind, with the sizes of one stored copy; the most readable first."""
    for name, value, known in (("field", field, FIELDS), ("form", form, FORMS)):
        if value is not None:
            one_of(name, value, known)
    designs = []
    for kind, f, k in itertools.product(kinds, FORMS, FIELDS):
        if form not in (None, f) or field not in (None, k) or (f, k) == ("conjugate", "complex"):
            continue
        copies = 2 if kind == "repeated" else 1
        states = copies * (2 if f == "conjugate" else 1)
        units = ((order, states), (inputs, copies), (outputs, copies))
        spans = [_span(size, unit) for size, unit in units]
        if all(low <= high for low, high in spans):
            designs.append((f, k, kind, spans))
    if not designs:
        raise OptionError(
            f"no system has {form=}, {field=}, kinds={kinds!r}, {order=}, {inputs=}, {outputs=}: "
            "conjugate ones are real and of even order, repeated ones have two equal parts"
        )
    return designs


def _span(size: Size, unit: int) -> tuple[int, int]:
    """How many units make the least and the most of a size."""
    low, high = (size, size) if isinstance(size, int) else size
    return -(-low // unit), high // unit


@st.composite
def _systems(draw: Any, designs: list, dt: Any, feedthrough: bool) -> Any:
    form, field, kind, spans = draw(st.sampled_from(designs))
    dt = draw(st.sampled_from([0, True, 0.5]) if dt is None else st.just(dt))
    is_complex = field == "complex"
    make = _all_pass_systems if kind == "all-pass" else _plain_systems
    sys = draw(make(form, is_complex, kind, dt, *spans))
    if not feedthrough:
        sys = replace(sys, D=0 * sys.D)
    if form == "dense":
        U = draw(_bases(sys.order, is_complex))
        sys = StateSpace(U @ sys.A @ U.conj().T, U @ sys.B, sys.C @ U.conj().T, sys.D, dt)
    note(f"sys = {as_code(sys)}")
    return sys


# How much is drawn depends on nothing that was drawn before but the number of states, a list's
# length: otherwise hypothesis cannot make a failing example smaller.


@st.composite
def _plain_systems(
    draw: Any,
    form: str,
    is_complex: bool,
    kind: str,
    dt: Any,
    order: Any,
    inputs: Any,
    outputs: Any,
) -> Any:
    """Poles on the diagonal; of dense systems the real and imaginary parts, and couplings above."""
    complex_states = is_complex or form == "conjugate"
    values = COMPLEX_VALUES if complex_states else VALUES
    m, p = draw(st.integers(*inputs)), draw(st.integers(*outputs))
    gap = draw(GAPS[kind]) if kind in GAPS else None
    row, column = (st.lists(values, min_size=k, max_size=k) for _, k in (inputs, outputs))
    couplings = st.lists(values, max_size=5 if form == "dense" else 0)
    state = st.tuples(_poles(dt), st.booleans(), row, column, couplings)
    states = draw(st.lists(state, min_size=order[0], max_size=order[1]))
    n = len(states)
    poles: Any = np.array(
        [
            _moved(pole, gap, dt) if gap is not None and (i == 0 or also) else pole
            for i, (pole, also, *_) in enumerate(states)
        ],
        complex,
    )
    B = np.array([state[2][:m] for state in states])
    C = np.array([state[3][:p] for state in states]).T
    A = np.diag(poles if complex_states else _real_poles(poles, dt))
    # No larger than the gap, or rounding would move a multiple pole across the boundary
    for i, (*_, above) in enumerate(states):
        A[i, i + 1 : i + 1 + len(above)] = np.multiply(gap or 0.25, above[: n - i - 1])
    for i in range(0, n - 1 if form == "dense" and not is_complex else 0, 2):
        a, w = poles[i].real, poles[i].imag
        if w:
            A[i : i + 2, i : i + 2] = [[a, w], [-w, a]]
    if kind == "non-minimal":  # the last states drive the others, and are not driven by them
        side = draw(st.sampled_from(["inputs", "outputs", "both"]))
        hidden = min(n, draw(st.integers(1, order[1])))
        if side != "outputs":
            B[n - hidden - _divides(A, n - hidden) :] = 0
        if side != "inputs":
            C[:, : hidden + _divides(A, hidden)] = 0
    copies = 2 if kind == "repeated" else 1
    A, B, C = (np.kron(np.eye(copies), x) for x in (A, B, C))
    D = np.zeros((copies * outputs[1], copies * inputs[1]), complex if is_complex else float)
    entries = draw(st.lists(COMPLEX_VALUES if is_complex else VALUES, max_size=D.size))
    D.flat[: len(entries)] = entries
    D = D[: len(C), : B.shape[1]]
    if form == "dense":
        return StateSpace(A, B, C, D, dt)
    return DiagonalStateSpace(A.diagonal(), B, C, D, dt, form == "conjugate")


def _poles(dt: Any) -> st.SearchStrategy[complex]:
    if dt:
        return st.builds(lambda radius, turn: radius * complex(turn), RADII, TURNS)
    return st.builds(complex, DECAYS, FREQUENCIES)


def _moved(pole: complex, gap: float, dt: Any) -> complex:
    """A pole in the same direction, `gap` inside the stability boundary."""
    if dt:
        return (1 - gap) * (pole / abs(pole) if pole else 1)
    return complex(-gap, pole.imag)


def _real_poles(poles: Any, dt: Any) -> Any:
    """Real poles as far from the stability boundary as these are."""
    return np.where(poles.real < 0, -1, 1) * np.abs(poles) if dt else poles.real


def _divides(A: np.ndarray, cut: int) -> bool:
    """Whether a cut between the states cut - 1 and cut divides a pair."""
    return 0 < cut < len(A) and A[cut, cut - 1] != 0


@st.composite
def _all_pass_systems(
    draw: Any,
    form: str,
    is_complex: bool,
    kind: str,
    dt: Any,
    order: Any,
    inputs: Any,
    outputs: Any,
) -> Any:
    """gain * [G, 0; 0, 0] for an all-pass G, of which a diagonal one needs distinct poles."""
    m, p = draw(st.integers(*inputs)), draw(st.integers(*outputs))
    k, gain = min(m, p), draw(st.sampled_from([1.0, 0.25, 3.0]))
    V = draw(_bases(k, is_complex))
    low, high = order
    if form == "dense":
        poles: Any = np.array(draw(st.lists(_poles(0), min_size=low, max_size=high)))
        directions = V[:, np.arange(len(poles)) % k].conj().T
        G = all_pass(poles if is_complex else poles.real, directions)
    else:
        decay = st.integers(1, 16 + high).map(lambda k: -k / 4)
        span = (1, 16) if form == "conjugate" else (-16, 16) if is_complex else (0, 0)
        pole = st.builds(complex, decay, st.integers(*span).map(lambda k: k / 4))
        poles = np.array(draw(st.lists(pole, min_size=low, max_size=high, unique=True)))
        poles = poles if any(span) else poles.real
        v = V[:, :1]
        B, C = np.ones((len(poles), 1)) * v.conj().T, v * _residues(poles, form)
        G = DiagonalStateSpace(poles, B, C, np.eye(k), 0, form == "conjugate")
    wide, tall = np.eye(k, m), gain * np.eye(p, k)
    G = replace(G, B=G.B @ wide, C=tall @ G.C, D=tall @ G.D @ wide)
    return bilinear(G, dt) if dt else G


def _residues(poles: Any, form: str) -> Any:
    """Those of prod (s + p^*) / (s - p) at the stored poles."""
    closed = np.concatenate([poles, poles.conj()]) if form == "conjugate" else poles
    apart = poles[:, None] - closed + np.eye(len(poles), len(closed))
    return np.prod((poles[:, None] + closed.conj()) / apart, axis=1)


@st.composite
def _bases(draw: Any, n: int, is_complex: bool) -> np.ndarray:
    """An orthonormal basis; the one of unit vectors comes first."""
    seed = draw(st.integers(0, 999))
    return unitary(n, seed, is_complex) if seed else np.eye(n)


# ------------------------------------------------------------------ systems with a known truth


def unitary(n: int, seed: int, is_complex: bool = False) -> np.ndarray:
    """U^H U = I, a random orthogonal or unitary matrix.

    Parameters
    ----------
    n : int
        Size.
    seed : int
        Equal seeds give equal matrices.
    is_complex : bool, optional

    Returns
    -------
    array (n, n)
    """
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n))
    return np.linalg.qr(X + 1j * rng.standard_normal((n, n)) if is_complex else X)[0]


def all_pass(poles: Any, directions: Any = None) -> StateSpace:
    """prod (s + p^*) / (s - p) in balanced form, P = Q = I: every gain is 1, every order's error 2.

    Parameters
    ----------
    poles : array (n,)
        In the open left half-plane.
    directions : array (n, m), optional
        Of m inputs and outputs, the unit vector that each pole acts on; by default there is one.

    Returns
    -------
    StateSpace
        Continuous.

    Examples
    --------
    >>> import lti, lti.testing
    >>> G = lti.testing.all_pass([-1.0, -2.0])
    >>> print(f"{lti.hinf_norm(G):.6f}", lti.hankel_singular_values(G).round(6))
    1.000000 [1. 1.]
    """
    poles = np.asarray(poles)
    v = np.ones((len(poles), 1)) if directions is None else np.asarray(directions)
    B = np.sqrt(-2 * poles.real)[:, None] * v
    # P = I asks for A + A^H = -B B^H: the cascade of Takenaka and Malmquist
    A = np.diag(poles) - np.tril(B @ B.conj().T, -1)
    return StateSpace(A, B, -B.conj().T, np.eye(v.shape[1]), 0)


def as_code(sys: System) -> str:
    """lti.StateSpace(A=..., B=..., C=..., D=..., dt=...): an expression that makes `sys` again.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts

    Returns
    -------
    str

    Examples
    --------
    >>> import lti, lti.testing
    >>> print(lti.testing.as_code(lti.StateSpace([[-0.5]], [[1.0]], [[2.0]])))
    lti.StateSpace(
        A=[[-0.5]],
        B=[[1.0]],
        C=[[2.0]],
        D=[[0.0]],
        dt=0,
    )
    """
    sys = as_statespace(sys)
    diagonal = isinstance(sys, DiagonalStateSpace)
    names = ("poles" if diagonal else "A", "B", "C", "D")
    entries = [f"{name}={_literal(to_numpy(getattr(sys, name)))}" for name in names]
    entries += [f"dt={sys.dt!r}"] + ["conjugate=True"] * getattr(sys, "conjugate", False)
    return f"lti.{type(sys).__name__}(\n" + "".join(f"    {entry},\n" for entry in entries) + ")"


def _literal(x: np.ndarray) -> str:
    x = x + 0  # no negative zeros
    if x.size and x.dtype in (np.float64, np.complex128):
        return repr(x.tolist())
    return f"np.array({x.tolist()!r}, dtype={str(x.dtype)!r}).reshape({x.shape})"


# ------------------------------------------------------------------ assertions


def assert_error_bound(
    reduction: Reduction | System,
    order: int | None = None,
    *,
    method: Callable[[Any, int], Reduction] = balanced_truncation,
    tol: float = 1e-8,
) -> np.ndarray:
    """lower_bound <= ||G - G_r||_inf <= error_bound, of a reduction, or of a system at every order.

    Parameters
    ----------
    reduction : Reduction, StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        What to check, or a system to reduce and check.
    order : int, optional
        Of the reduced system; by default each from the number of poles that are not stable to n.
    method : callable, optional
        ``method(sys, order)`` makes a `Reduction`; its warnings are not repeated.
    tol : float, optional
        Relative accuracy of the norm.

    Returns
    -------
    array (...) or (orders, ...)
        The measured errors; infinite where the bound is.

    Raises
    ------
    AssertionError
        If an error lies outside its bounds, or a gain on a grid of frequencies above the norm. The
        message has the numbers, and the system as code.

    Notes
    -----
    The error is the norm of one system, ``W_o (F - F_r) W_i`` of `Reduction.pair` and
    `Reduction.weights`, and not measured as `Reduction.verify` does. Where a bound is infinite
    there is nothing to check. Rounding may add ``1e3 n eps (|R| |S| + moved)``: what it does to
    the values, relative to `Reduction.scale`, and to the poles, which moves a gain by up to
    ``moved = |C (s - A)^-1| (|s| + |A|) |(s - A)^-1 B|`` times eps; with a `Reduction.pair` also
    ``|C| |(s - A)^-1| |B|``, B and C of the whole system, and of D ``4 eps |D|``. That is 1e-11 or
    so of the norm of a well-conditioned system, and all of it if poles are within 1e-12 of the
    boundary.

    Examples
    --------
    >>> import lti, lti.testing, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.testing.assert_error_bound(sys).round(4)
    array([1.5  , 0.038, 0.   ])
    """
    if not isinstance(reduction, Reduction):
        sys = as_statespace(reduction)
        if order is not None:
            orders = [order]
        else:
            poles = to_numpy(sys.to_dense().poles)
            unstable = np.abs(poles) >= 1 if sys.is_discrete else poles.real >= 0
            orders = range(int(unstable.sum(-1).max(initial=0)), sys.order + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReductionWarning)
            reductions = [method(sys, r) for r in orders]
        errors = np.stack([assert_error_bound(x, tol=tol) for x in reductions])
        return errors if order is None else errors[0]
    error = reduction.error
    hsv, shape = to_numpy(reduction.hsv), error.batch_shape
    top = np.where(np.isfinite(hsv), hsv, 0).max(axis=-1, initial=0)
    scale = top if reduction.scale is None else to_numpy(reduction.scale)
    eps = np.finfo(hsv.dtype).eps
    lower, upper, scale = (
        np.broadcast_to(to_numpy(x), shape)
        for x in (reduction.lower_bound, reduction.error_bound, scale)
    )
    # A stable part that was split off is what rounding left of the whole
    norms = (np.linalg.norm(to_numpy(x)) for x in (reduction.original.B, reduction.original.C))
    split = float(np.prod(list(norms))) if reduction.pair else 0.0
    fed = np.linalg.norm(to_numpy(reduction.system.D), axis=(-2, -1))
    fed = np.broadcast_to(fed, shape)
    errors = np.full(shape, np.inf)
    for i in np.ndindex(shape):
        if np.isinf(upper[i]):
            continue
        A, B, C, D = (to_numpy(x)[i] for x in (error.A, error.B, error.C, error.D))
        E = StateSpace(A, B, C, D, error.dt)
        errors[i] = norm = float(hinf_norm(E, tol))
        gain, w, moved = _grid(E, split)
        rounding = 1e3 * hsv.shape[-1] * eps * (scale[i] + moved) + 4 * eps * fed[i]
        # The Hamiltonian of a small error holds the squares of the large parts that cancel in it
        loss = tol + min(1e-3, eps * (scale[i] / max(norm, rounding, 1e-300)) ** 2)
        for what, low, high, slack in (
            (f"the gain at {w:.9g} is above the norm", gain, norm, loss),
            ("the error is above its bound", norm, upper[i], tol),
            ("the error is below what an order can reach", lower[i], norm, loss),
        ):
            if low > high * (1 + slack) + rounding:
                raise AssertionError(
                    f"{reduction.method} to order {reduction.order}{f', member {i}' * bool(i)}: "
                    f"{what}, {low:.9g} > {high:.9g}, and rounding allows "
                    f"{high * slack + rounding:.1g}\n\n"
                    f"sys = {as_code(reduction.original)}\n"
                    f"lti.hinf_norm(sys - reduction.system)  # {norm:.9g}, "
                    f"bounds {lower[i]:.9g} and {upper[i]:.9g}"
                )
    return errors


def _grid(sys: StateSpace, split: float) -> tuple[float, float, float]:
    """The largest gain on a grid that has the frequencies of the poles, where, and `moved`.

    The last is what a relative change of A and s moves a gain by, in units of that change; and one
    of B and C relative to their norms before they were split, whose product is given.
    """
    A, B, C, D = sys.A, sys.B, sys.C, sys.D
    poles = np.linalg.eigvals(A)
    if sys.is_discrete:
        w = np.concatenate([np.linspace(-np.pi, np.pi, 64), np.angle(poles)])
    else:
        w = np.outer(np.abs(poles), np.logspace(-1, 1, 7)).ravel()
        w = np.concatenate([-w, [0.0], w, poles.imag])
    s = np.exp(1j * w) if sys.is_discrete else 1j * w
    resolvent = np.linalg.inv(s[:, None, None] * np.eye(len(A)) - A)
    gains, states, seen = (
        np.linalg.norm(x, ord=2, axis=(-2, -1))
        for x in (C @ resolvent @ B + D, resolvent @ B, C @ resolvent)
    )
    moved = states * seen * (np.abs(s) + np.linalg.norm(A))
    moved += split * np.linalg.norm(resolvent, axis=(-2, -1))
    return float(gains.max()), float(w[gains.argmax()]), float(moved.max())


def assert_balanced(sys: System, hsv: Any = None, *, tol: float = 1e-8) -> None:
    """P = Q = diag(sigma): both Gramians are the Hankel singular values, descending.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
    hsv : array (..., n), optional
        What they should be; by default `hankel_singular_values`.
    tol : float, optional
        Largest deviation of an entry, in units of ``hsv[0]``. Rounding gives a state of the value
        sigma one of about ``n eps |R| |S| / sqrt(hsv[0] sigma)``.

    Raises
    ------
    AssertionError
        If an entry of a Gramian deviates by more.

    Examples
    --------
    >>> import lti, lti.testing
    >>> lti.testing.assert_balanced(lti.testing.all_pass([-1.0, -2.0]), [1.0, 1.0])
    """
    sys = as_statespace(sys)
    hsv = to_numpy(hankel_singular_values(sys)) if hsv is None else np.asarray(to_numpy(hsv))
    allowed = tol * hsv.max(axis=-1, initial=0.0)[..., None, None]
    for name, gramian in (("P", controllability_gramian), ("Q", observability_gramian)):
        excess = np.abs(to_numpy(gramian(sys)) - hsv[..., None] * np.eye(hsv.shape[-1])) - allowed
        if excess.max(initial=0.0) > 0:
            at = np.unravel_index(excess.argmax(), excess.shape)
            raise AssertionError(
                f"{name} deviates from diag(hsv) by {(excess + allowed)[at]:.3g} at "
                f"{tuple(map(int, at))}, allowed is {tol:g} hsv[0] = {allowed.max():.3g}; "
                f"hsv = {hsv.tolist()}\n\nsys = {as_code(sys)}"
            )


def assert_gramian(
    sys: System, P: Any, kind: str = "controllability", *, tol: float = 1e-12
) -> None:
    """A P + P A^H + B B^H = 0, or A P A^H - P + B B^H = 0, with P = P^H >= 0.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
    P : array (..., n, n)
        In the coordinates of ``sys.to_dense()``.
    kind : {"controllability", "observability"}, optional
        Observability: with ``A^H, C^H`` in place of ``A, B``.
    tol : float, optional
        Largest residual, in units of the norms of its terms, ``2 |A| |P| + |B|^2`` or
        ``|A|^2 |P| + |P| + |B|^2``; largest ``|P - P^H|`` and most negative eigenvalue, of ``|P|``.

    Raises
    ------
    AssertionError
        If one of the three is larger.
    OptionError
        If `kind` is neither.

    Examples
    --------
    >>> import lti, lti.testing
    >>> lti.testing.assert_gramian(([[-1.0]], [[2.0]], [[1.0]]), [[2.0]])
    """
    one_of("kind", kind, ("controllability", "observability"))
    sys = as_statespace(sys)
    dense, P = sys.double().to_dense(), np.asarray(to_numpy(P))
    A, B, C = (to_numpy(x) for x in (dense.A, dense.B, dense.C))
    if kind == "observability":
        A, B = np.conj(np.swapaxes(A, -1, -2)), np.conj(np.swapaxes(C, -1, -2))
    AH, BH, PH = (np.conj(np.swapaxes(x, -1, -2)) for x in (A, B, P))
    a, b, size = (np.linalg.norm(x, axis=(-2, -1)) for x in (A, B, P))
    if sys.is_discrete:
        residual, terms = A @ P @ AH - P + B @ BH, (a**2 + 1) * size + b**2
    else:
        residual, terms = A @ P + P @ AH + B @ BH, 2 * a * size + b**2
    lowest = np.linalg.eigvalsh((P + PH) / 2).min(axis=-1, initial=0.0)
    for what, value, unit in (
        ("residual of its equation", np.linalg.norm(residual, axis=(-2, -1)), terms),
        ("P - P^H", np.linalg.norm(P - PH, axis=(-2, -1)), size),
        ("negative eigenvalue", -lowest, size),
    ):
        if (value > tol * unit).any():
            at = np.unravel_index(np.argmax(value - tol * unit), value.shape)
            raise AssertionError(
                f"the {kind} Gramian has a {what} of {value[at]:.3g}, allowed is {tol:g} * "
                f"{unit[at]:.3g}\n\nP = {P.tolist()}\nsys = {as_code(sys)}"
            )


def assert_stays_stable(
    sys: System, *, controllability: Any = None, observability: Any = None
) -> np.ndarray:
    """A_r^H Sigma_r A_r <= Sigma_r: with one Gramian given and one exact, every order is stable.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Stable.
    controllability, observability : array (..., n, k) or GramianFactor
        One of the two: as in `lti.balance`.

    Returns
    -------
    array (orders, ...)
        Of each order from 1 to that of the last value above rounding, the largest modulus of a
        pole, in continuous time the largest real part.

    Raises
    ------
    AssertionError
        If a pole lies beyond the boundary by more than ``1e2 n eps |R| |A| |S| / sigma_r``, which
        rounding allows.
    OptionError
        If not just one of the two is given.

    Examples
    --------
    >>> import lti, lti.testing, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.testing.assert_stays_stable(sys, controllability=np.diag([1.0, 10.0])).round(2)
    array([-1.98, -1.  ])
    """
    if (controllability is None) == (observability is None):
        raise OptionError("give one of controllability and observability; the other is exact")
    sys = as_statespace(sys)
    balancing = balance(sys, controllability=controllability, observability=observability)
    A, S, R, sigma = (
        to_numpy(x)
        for x in (
            balancing.balanced.A,
            balancing.factors.S,
            balancing.factors.R,
            balancing.sigma,
        )
    )
    sizes = [np.linalg.norm(x, axis=(-2, -1)) for x in (R, to_numpy(sys.to_dense().A), S)]
    moved = 1e2 * sys.order * np.finfo(A.dtype).eps * np.prod(np.broadcast_arrays(*sizes), axis=0)
    worst = []
    for r in range(1, balancing.minimal_order + 1):
        poles = np.linalg.eigvals(A[..., :r, :r])
        poles = abs(poles) if sys.is_discrete else poles.real
        worst.append(poles.max(axis=-1))
        alive = sigma[..., r - 1] > 0  # members of lower rank are filled up with zeros
        allowed = moved / np.where(alive, sigma[..., r - 1], 1.0)
        excess = worst[-1] - float(sys.is_discrete) - allowed
        if (alive & (excess > 0)).any():
            at = np.unravel_index(np.argmax(np.where(alive, excess, -1)), excess.shape)
            raise AssertionError(
                f"at order {r} there is a pole at {worst[-1][at]:.12g}, beyond the boundary by "
                f"more than rounding allows, {allowed[at]:.3g}\n\nsys = {as_code(sys)}\n"
                f"controllability, observability = {controllability!r}, {observability!r}"
            )
    return np.array(worst)


def assert_reproduces(sys: System, u: Any, *, tol: float = 1e-8) -> int:
    """y_r = y on the inputs whose states were balanced: what they never excite costs nothing.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Stable, discrete, of n states; no stack.
    u : array (sequences, length, m)
        Inputs, each from the state zero.
    tol : float, optional
        Largest deviation of an output, in units of the largest output plus ``|C| |x|``, the largest
        that the states met could give.

    Returns
    -------
    int
        The order that sufficed: at most the number of dimensions of the states met.

    Raises
    ------
    AssertionError
        If an output deviates by more.
    DimensionError
        If `u` does not fit.

    Examples
    --------
    >>> import lti, lti.testing, numpy as np
    >>> sys = lti.StateSpace(np.diag([0.9, 0.5, 0.1]), np.ones((3, 1)), np.ones((1, 3)), dt=True)
    >>> lti.testing.assert_reproduces(sys, np.ones((1, 2, 1)))  # two states in all
    2
    """
    sys, u = as_statespace(sys).double().to_dense(), np.asarray(to_numpy(u))
    if u.ndim != 3 or u.shape[-1] != sys.n_inputs or sys.batch_shape or not sys.is_discrete:
        raise DimensionError(
            f"inputs of {sys} are (sequences, length, {sys.n_inputs}), got shape {u.shape}; it "
            "must be discrete, and no stack"
        )
    y, x = _simulated(sys, u)
    S = GramianFactor.of_states(x.reshape(-1, sys.order))
    balancing = balance(sys, controllability=S)
    order = balancing.minimal_order
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReductionWarning)
        reduced = balancing.truncate(order).system
    error = np.abs(_simulated(reduced, u)[0] - y).max(initial=0.0)
    size = np.abs(y).max(initial=0.0) + np.linalg.norm(to_numpy(sys.C)) * np.abs(x).max(initial=0.0)
    rank = np.linalg.matrix_rank(x.reshape(-1, sys.order))
    if error > tol * size or order > rank:
        raise AssertionError(
            f"order {order} gives outputs that differ by {error:.3g} at a size of {size:.3g}, "
            f"allowed is {tol:g}; the states met have {rank} dimensions\n\n"
            f"sys = {as_code(sys)}\nu = {u.tolist()}"
        )
    return order


def _simulated(sys: StateSpace, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y[t] = C x[t] + D u[t], x[t+1] = A x[t] + B u[t] from zero; x[1], ... too."""
    A, B, C, D = (to_numpy(M) for M in sys.matrices)
    x, states, outputs = np.zeros((len(u), sys.order), dtype=A.dtype), [], []
    for now in np.moveaxis(u, 1, 0):
        outputs.append(x @ C.T + now @ D.T)
        x = x @ A.T + now @ B.T
        states.append(x)
    return np.stack(outputs, axis=1), np.stack(states, axis=1)
