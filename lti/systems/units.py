"""Units of the states in which a Schur form rounds inputs, outputs and poles least."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import H, frobenius
from lti._backend.blocks import blocks_of, choose_scaling, evened
from lti.systems.schur import TINY, SchurForm, schur_form

__all__ = ["BACKWARD", "differ", "form_with_ports", "least_rounding"]

EPS = 2.0**-52
POOR = 1e-12  # a rounding that other units may mend
OTHER = 4  # powers of two between two choices of units that are worth a second form
BACKWARD = 10.0  # |A - Q T Q^H| of LAPACK's Schur form, in units of eps |A|
STEPS = 20  # at most, of the search for units
ENOUGH = 0.8  # of the rounding before a step, which ends it
RIDGE = 1e-8
SAMPLES = 4
FAR = 4.0  # log of the largest change of a unit by Newton's method


def form_with_ports(A: np.ndarray, B: np.ndarray, C: np.ndarray, discrete: bool) -> SchurForm:
    """A Schur form of A in units in which C (s - A)^-1 B keeps its digits, at a few points s.

    Of the form of A alone and one in units that weigh B and C as well, the one that rounds less.
    """
    form = schur_form(A)
    if not B.any() or not C.any() or (np.diff(form.edges) == 1).all():
        return form
    B, C = B / abs(B).max(), C / abs(C).max()
    points = _samples(form.poles, discrete)
    lost, S, R = _lost(form, B, C, points)
    k = int(np.argmax(lost))
    form = replace(form, lost=float(lost[k]))
    if not POOR < lost[k] < np.inf:
        return form
    S, R = (np.linalg.norm(form.Q @ X[k], axis=1) for X in (S, R))
    units = least_rounding(form, A, B, C, S, R)
    if not differ(units, form.d):
        return form
    other = schur_form(A, choose_scaling(A, units))
    other = replace(other, lost=float(_lost(other, B, C, points)[0].max()))
    return min(form, other, key=lambda x: x.lost)


def _lost(form: SchurForm, B: np.ndarray, C: np.ndarray, s: np.ndarray) -> Any:
    """The rounding of G(s_k), relative to the largest |G(s_k)|, and both resolvents' factors."""
    inputs, outputs = form.Q.conj().T @ (B / form.d[:, None]), (C * form.d) @ form.Q
    n = len(form.T)
    E = s[:, None, None] * np.eye(n) - form.T
    with np.errstate(all="ignore"):
        try:
            S, R = np.linalg.solve(E, inputs), np.linalg.solve(H(E), outputs.conj().T)
        except np.linalg.LinAlgError:  # a pole
            return np.full(len(s), np.inf), E, E
        a, x, y, b, c = (_size(X) for X in (form.T, S, R, inputs, outputs))
        lost = EPS * (BACKWARD / n * y * a * x + y * b + c * x) / _size(outputs @ S).max()
    return lost, S, R


def _samples(poles: np.ndarray, discrete: bool) -> np.ndarray:
    """Points on the circle and beyond all poles; in continuous time as far from zero as poles."""
    size = abs(poles[poles != 0])
    low, high = size.min(initial=np.inf), size.max(initial=0.0)
    if discrete:
        radii = np.array([1.0, 2 * max(1.0, high)])
    else:
        radii = np.geomspace(low, high, SAMPLES) if high else np.ones(1)
    return radii * np.exp(0.2j * np.pi)


def _size(X: np.ndarray) -> np.ndarray:
    return np.linalg.norm(X, axis=(-2, -1))


def differ(d: np.ndarray, other: np.ndarray) -> bool:
    """Whether units differ so much that it is worth a second form."""
    return bool(np.ptp(np.log2(d / other)) > OTHER)


def least_rounding(
    form: SchurForm, A: np.ndarray, B: np.ndarray, C: np.ndarray, S: np.ndarray, R: np.ndarray
) -> np.ndarray:
    """d (n,), powers of two: units of the states in which rounding is least, to first order.

    It is |R| |A| |S| + |R| |B| + |C| |S| in each irreducible block, where the rows of S and R have
    norms S (n,) and R (n,) in the units of `form`.
    """
    d = form.d[:, None]
    S, R = S[:, None], R[:, None]
    B, C = (np.linalg.norm(X, axis=1, keepdims=True) for X in (B / d, C.T * d))
    A, units = abs(A) / d * d.T, form.d.copy()
    for k in blocks_of(form.edges):
        if k.stop - k.start > 1:
            i = np.flatnonzero(form.Q[:, k].any(axis=1))
            units[i] *= _least(A[i[:, None], i], S[i], R[i], B[i], C[i])
    return units


def _least(A: np.ndarray, S: Any, R: Any, B: Any, C: Any) -> np.ndarray:
    """min |R| |A| |S| + |R| |B| + |C| |S| over the units d (n,), a function convex in log d.

    M holds the norms that the terms are products of, |A| and |R| |S|, |R| |B|, |C| |S|, weighted by
    these terms: the sum falls as |M|_F does, which is least where rows are as large as columns.
    """
    d, before = np.ones((len(A), 1)), np.inf
    for _ in range(STEPS):
        sizes = [float(frobenius(X)) or TINY for X in (A, S, R, B, C)]
        a, s, r, b, c = sizes
        A1, S1, R1, B1, C1 = (x / y for x, y in zip((A, S, R, B, C), sizes, strict=True))
        M = BACKWARD / len(A) * r * a * s * (A1**2 + (S1 * R1.T) ** 2)
        M += r * b * (B1 * R1.T) ** 2 + c * s * (S1 * C1.T) ** 2
        if not M.sum() < ENOUGH * before:
            break
        before = M.sum()
        M /= before
        move = evened(np.sqrt(M))
        M *= (move.T / move) ** 2
        N = M + M.T  # Newton's method: states also move together
        N = np.diag(N.sum(axis=1) * (1 + RIDGE) + RIDGE) - N
        newton = np.linalg.solve(N, (M - M.T).sum(axis=1)) / 2
        move *= np.exp(np.clip(newton, -FAR, FAR))[:, None]
        d = d * move
        A, S, R, B, C = A / move * move.T, S / move, R * move, B / move, C * move
    return 2.0 ** np.round(np.log2(d[:, 0]))
