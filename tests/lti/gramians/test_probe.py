"""Modes of little damping that no input drives, among many others: seen by random columns."""

import numpy as np
import pytest
import scipy.sparse as sparse

import lti
from lti.gramians import probe
from lti.systems.rightmost import refined

Z, W = 1e-9, 13.5  # the decay and the frequency of the resonance


def crowded(b, c, *, k=100, driven=1.0, form="plain", dt=0, seed=0):
    """k pairs of damping ratio 0.1, one of next to none that is coupled by b and c; its response.

    Of the others a part is driven and read.
    """
    rng, f = np.random.default_rng(seed), np.geomspace(1.0, 30.0, k)
    pairs = np.append(f * (-0.1 + 0.99j), -Z + 1j * W)
    if dt:
        pairs = (1 + 0.1 * pairs) / (1 - 0.1 * pairs)
    blocks = [[[p.real, p.imag], [-p.imag, p.real]] for p in pairs]
    A, n = sparse.block_diag(blocks, format="csc"), 2 * k + 2
    B, C = rng.standard_normal((n, 1)), rng.standard_normal((1, n))
    off = np.repeat(np.arange(k + 1) >= driven * k, 2)
    B[off], C[:, off] = 1e-9, 1e-9
    B[-2:, 0], C[0, -2:] = (b, 0), (c, 0)
    P, Q = (np.stack([x[::2] - s * 1j * x[1::2], x[::2] + s * 1j * x[1::2]]) / 2**0.5
            for x, s in ((B[:, 0], 1), (C[0], -1)))  # fmt: skip
    poles = np.stack([pairs, pairs.conj()])
    E = None
    # Pairs that are not coupled would show their poles: one state of each is turned with the next
    turns = [np.array([[0.8, 0.6], [-0.6, 0.8]])] * k
    turn = sparse.block_diag([1.0, *turns, 1.0], format="csc")
    if form == "complex":
        turn = turn @ sparse.diags(np.exp(1j * rng.uniform(0, 6, n)))
    A, B, C = turn @ A @ turn.conj().T, turn @ B, C @ turn.conj().T
    if form == "with_E":
        E = sparse.diags([0.3, 1.0, 0.2], [-1, 0, 1], shape=(n, n)).tocsc()
        A, B = E @ A, E @ B

    def response(w):
        s = np.exp(1j * w) if dt else 1j * w
        return (P * Q / (s - poles)).sum()

    return lti.SparseStateSpace(A, B, C, E=E, dt=dt), response, pairs[-1]


def largest_error(reduction, response, pole, dt):
    """At the resonance, and beside it."""
    w = np.angle(pole) if dt else pole.imag
    decay = 1 - abs(pole) if dt else -pole.real
    w = w + decay * np.array([-1.0, 0.0, 1.0])
    found = lti.frequency_response(reduction.system, w)[:, 0, 0]
    return max(abs(x - response(at)) for x, at in zip(found, w, strict=True))


CASES = [
    ("plain", 0, 1e-5, 1.0),
    ("plain", 0, 1e-5, 1e-5),
    ("with_E", 0, 1e-5, 1.0),
    ("complex", 0, 1e-6, 1e-4),
    ("plain", 1.0, 1e-5, 1e-3),
    ("complex", 1.0, 1e-7, 1.0),
]


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize(("form", "dt", "b", "c"), CASES)
def test_the_bound_counts_a_resonance_among_others(form, dt, b, c):
    sys, response, pole = crowded(b, c, form=form, dt=dt)
    decay = 1 - abs(pole) if dt else -pole.real
    balancing = lti.balance(sys)
    value, rounding = b * c / (4 * decay), 1e3 * 2.0**-52 * 30 / decay
    assert abs(balancing.hsv / value - 1).min() < rounding + 1e-3
    for order in (2, 30):
        reduction = balancing.truncate(order)
        error = largest_error(reduction, response, pole, dt)
        assert error <= reduction.error_bound * (1 + 1e-6) + rounding * value


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
@pytest.mark.parametrize("driven", [0.5, 0.1])
def test_beside_modes_that_nothing_drives(driven):
    sys, response, pole = crowded(1e-5, 1e-3, driven=driven)
    reduction = lti.balanced_truncation(sys, 20)
    error = largest_error(reduction, response, pole, 0)
    assert error - 1e-4 <= reduction.error_bound < 1  # of a gain of 5, of which rounding moves 1e-5
    assert not any("lack" in flag for flag in reduction.flags)
    assert abs(sys.poles - pole).min() < 1e-12


@pytest.mark.filterwarnings("ignore::lti.ReductionWarning")
def test_a_search_that_ends_early_is_flagged(monkeypatch):
    sys, *_ = crowded(1e-5, 1e-3, driven=0.1)
    monkeypatch.setattr(probe, "CLEAN", 1e-9)
    flags = lti.balanced_truncation(sys, 4).flags
    assert any("may lack modes of little damping" in flag for flag in flags)


def test_an_estimate_that_is_no_pole():
    sys, *_ = crowded(1.0, 1.0)
    assert refined(sys.pencil, 5.0 + 10.0j) is None
    assert refined(sys.pencil, -0.01 + 13.4j) == pytest.approx(-Z + W * 1j, abs=1e-12)


def test_an_unstable_pole_that_nothing_drives():
    sys, *_ = crowded(1e-12, 1e-12)
    A = sys.A + 2e-8 * sparse.diags(np.append(np.zeros(sys.order - 2), [1.0, 1.0]))
    with pytest.raises(lti.UnstableError, match=r"13\.5"):
        lti.balanced_truncation(lti.SparseStateSpace(A, sys.B, sys.C), 4)
