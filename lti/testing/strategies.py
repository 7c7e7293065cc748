"""Systems for hypothesis: stable ones of every kind, unstable ones, and factors of any Gramian."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import is_complex
from lti._backend.checks import one_of
from lti.errors import OptionError
from lti.systems.discretize import bilinear
from lti.systems.protocol import System
from lti.systems.statespace import DiagonalStateSpace, StateSpace
from lti.testing.examples import all_pass, as_code, unitary

try:
    from hypothesis import note
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "lti.testing needs hypothesis, which is not installed: run 'pip install hypothesis'"
    ) from error

__all__ = ["excitations", "stable_systems", "unstable_systems"]

Size = int | tuple[int, int]

FORMS, FIELDS = ("dense", "diagonal", "conjugate"), ("real", "complex")


KINDS = (
    "generic", "near-boundary", "non-minimal", "repeated", "all-pass", "bad-units", "chain"
)  # fmt: skip


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
        * "all-pass": equal Hankel singular values, and with its own D equal gains;
        * "bad-units": generic ones with states in units of 2^-40 to 2^40;
        * "chain": far from normal, each state drives the one before it by up to 1e6 times; these
          are dense, and not in an orthonormal basis.
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
    """Factors S (n, k) of any P: of low or full rank, some directions small, some never excited.

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
        if kind == "chain" and f != "dense":
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
            "conjugate ones are real and of even order, repeated ones have two equal parts, chains "
            "are dense"
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
    if form == "dense" and kind != "chain":
        U = draw(_bases(sys.order, is_complex))
        sys = StateSpace(U @ sys.A @ U.conj().T, U @ sys.B, sys.C @ U.conj().T, sys.D, dt)
    if kind == "bad-units":
        sys = draw(_in_other_units(sys))
    note(f"sys = {as_code(sys)}")
    return sys


@st.composite
def _in_other_units(draw: Any, sys: Any) -> Any:
    """The same transfer function, with each state in a unit that is a power of two."""
    stored = sys.B.shape[-2]
    powers = draw(st.lists(st.integers(-40, 40), min_size=stored, max_size=stored))
    d = 2.0 ** np.array(powers)
    units = {"B": sys.B / d[:, None], "C": sys.C * d}
    if isinstance(sys, StateSpace):
        units["A"] = sys.A / d[:, None] * d
    return replace(sys, **units)


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
    if kind == "chain":
        steps = draw(st.lists(st.integers(-2, 6), min_size=n - 1, max_size=n - 1))
        A = np.diag(A.diagonal()) + np.diag(10.0 ** np.array(steps, float), 1)
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
