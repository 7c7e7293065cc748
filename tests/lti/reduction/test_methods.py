"""Every method in every kind of arithmetic: the table of docs/methods.md is what passes here."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import lti
from tests.lti.helpers import random_dense, random_ring

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"
N = 6


def weight(sys, k):
    W = random_dense(2, k, k, dt=sys.dt, seed=5, is_complex=np.iscomplexobj(sys.to_dense().A))
    return lti.StateSpace(W.A, W.B, W.C, W.D + 2 * np.eye(k), W.dt)


def both(rule):
    return lambda sys: {
        "input_weight": weight(sys, 2), "output_weight": weight(sys, 3), "weighting": rule
    }  # fmt: skip


# Name: the function, and its options; a bound holds unless the name is among UNBOUNDED
METHODS = {
    "balanced truncation": (lti.balanced_truncation, {}),
    "balanced truncation, balancing-free": (lti.balanced_truncation, {"method": "balancing-free"}),
    "singular perturbation": (lti.singular_perturbation, {}),
    "singular perturbation, balancing-free": (
        lti.singular_perturbation, {"method": "balancing-free"},
    ),
    "Hankel-norm approximation": (lti.hankel_norm_approximation, {}),
    "modal truncation": (lti.modal_truncation, {}),
    "H2-optimal interpolation": (lti.irka, {}),
    "input and output weights, Enns": (lti.balanced_truncation, both("enns")),
    "input and output weights, Lin-Chiu": (lti.balanced_truncation, both("lin-chiu")),
    "input and output weights, Wang": (lti.balanced_truncation, both("wang")),
    "bands of frequency": (lti.balanced_truncation, {"frequencies": (0.1, 1.0)}),
    "bands of frequency, Wang": (
        lti.balanced_truncation, {"frequencies": (0.1, 1.0), "weighting": "wang"},
    ),
    "windows of time": (lti.balanced_truncation, {"times": (0, 4)}),
    "windows of time, Wang": (lti.balanced_truncation, {"times": (0, 4), "weighting": "wang"}),
    "unstable part split off": (lti.balanced_truncation, {"unstable": "split"}),
}  # fmt: skip
UNBOUNDED = {
    "H2-optimal interpolation",
    "input and output weights, Enns",
    "input and output weights, Lin-Chiu",
    "bands of frequency",
    "windows of time",
}
LIBRARIES = {"numpy": np.asarray, "torch": torch.tensor}


def system(name, dt, kind):
    if kind == "conjugate":
        sys = random_ring(N // 2, 2, 3, seed=2, largest=0.9, conjugate=True)
        sys = sys if dt else lti.bilinear(sys)
    else:
        sys = random_dense(N, 2, 3, dt=dt, seed=2, is_complex=kind == "complex")
    if "unstable" in name:
        sys = sys.to_dense()
        A = np.block([[sys.A, np.zeros((N, 1))], [np.zeros((1, N)), np.full((1, 1), 1.25)]])
        B, C = np.vstack([sys.B, np.ones((1, 2))]), np.hstack([sys.C, np.ones((3, 1))])
        sys = lti.StateSpace(A, B, C, sys.D, sys.dt)
    return sys


def works(name, dt, kind, library):
    """What the certificate promises, checked: raises AssertionError or an error of lti if not."""
    reduce, options = METHODS[name]
    sys, make = system(name, dt, kind), LIBRARIES[library]
    options = options(sys) if callable(options) else options
    if isinstance(sys, lti.DiagonalStateSpace):
        given = lti.DiagonalStateSpace(
            make(sys.poles), make(sys.B), make(sys.C), make(sys.D), sys.dt, sys.conjugate
        )
    else:
        given = lti.StateSpace(make(sys.A), make(sys.B), make(sys.C), make(sys.D), sys.dt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lti.ReductionWarning)
        reduction = reduce(given, 4, **options)
    small = reduction.system
    assert isinstance(small.A, np.ndarray if library == "numpy" else torch.Tensor)
    assert small.dt == sys.dt and reduction.order == small.order <= 4
    assert np.iscomplexobj(np.asarray(small.A)) == (kind == "complex")
    error, bound = float(reduction.verify()), float(reduction.error_bound)
    assert np.isinf(bound) == (name in UNBOUNDED)
    assert 0 < error <= bound * (1 + 1e-8)
    # The measured error is that of the two responses, on a grid
    w = np.linspace(-3, 3, 101)
    gap = np.linalg.norm(np.asarray(reduction.error_response(w)), 2, axis=(-2, -1)).max()
    assert gap <= error * (1 + 1e-8) and gap > 0.2 * error


COLUMNS = [(dt, kind) for dt in (0, True) for kind in ("real", "complex", "conjugate")]


def head():
    """The head of the table: a method, a time, a kind of system."""
    heads = [f"{'discrete' if dt else 'continuous'}, {kind}" for dt, kind in COLUMNS]
    return "| method | bound | " + " | ".join(heads) + " |"


def row(name):
    """The row of a method, with the libraries where its certificate holds; it raises if not."""
    cells = ["no" if name in UNBOUNDED else "yes"]
    for dt, kind in COLUMNS:
        for library in LIBRARIES:
            works(name, dt, kind, library)
        cells.append(", ".join(LIBRARIES))
    return f"| {name} | " + " | ".join(cells) + " |"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_everywhere_as_the_page_says(name):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert row(name) in lines, "run python -m tests.lti.reduction.test_methods"


def test_the_page_has_no_other_method():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index(head()) + 2
    table = lines[start : start + lines[start:].index("")] if "" in lines[start:] else lines[start:]
    assert [line.split("|")[1].strip() for line in table] == list(METHODS)


if __name__ == "__main__":
    print(head(), "|---" * (len(COLUMNS) + 2) + "|", *map(row, METHODS), sep="\n")
