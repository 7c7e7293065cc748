"""max over sampled w of |G(j w) - G_r(j w)|: the error of a sparse system, measured from below."""

from __future__ import annotations

from typing import Any

import numpy as np

from lti.peak import peak
from lti.systems.response import response_of
from lti.systems.sparse import SparseStateSpace
from lti.systems.stability import is_stable
from lti.systems.statespace import StateSpace

__all__ = ["sampled_error"]

SMALL = 500  # states, up to which the norm itself is computed, of the dense form
SCAN = 16  # frequencies between and around those of the poles
REFINE = 12  # more of them at the largest gain


def sampled_error(
    G: SparseStateSpace, G_r: StateSpace, form: Any, rtol: float
) -> tuple[float, float, bool]:
    """A gain of G - G_r, its frequency, and whether it is the largest of all.

    The frequencies are those of a scan and of known poles, the one at which a projection `form` of
    G differs most from G_r, and then some around the largest gain. So the result is a lower
    estimate of the norm.
    """
    if G.order <= SMALL:
        error, w = peak(G.equilibrated.system.small_dense(), G_r, rtol)
        return float(error), float(w), True

    def gains(w: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            error = response_of(G, w) - response_of(G_r, w)
        return np.linalg.norm(error, ord=2, axis=(-2, -1))

    w = _scan(G, G_r)
    if form is not None and is_stable(form):
        w = np.append(w, float(peak(form, G_r, 1e-6)[1]))
    w = np.unique(w[np.isfinite(w)])
    found = gains(w)
    for _ in range(REFINE // 2):  # a little to both sides of the largest, ever closer
        i = int(np.argmax(found))
        sides = [_between(w[i], w[j]) for j in (i - 1, i + 1) if 0 <= j < len(w)]
        w, found = np.append(w, sides), np.append(found, gains(np.array(sides)))
        order = np.argsort(w)
        w, found = w[order], found[order]
    i = int(np.argmax(found))
    return float(found[i]), float(w[i]), False


def _scan(G: SparseStateSpace, G_r: StateSpace) -> np.ndarray:
    """Zero, frequencies over the range of the poles that are known, and those of poles of G."""
    rate = 1.0 if G.dt is True else float(G.dt) or 1.0
    poles = np.concatenate([np.ravel(G.poles), np.ravel(G_r.poles)]) + 0j
    own = len(G.poles) - np.count_nonzero(G.poles == 0)
    poles = poles[poles != 0]
    if G.is_discrete:
        poles = np.log(poles)
    resonances = np.imag(poles)[:own]
    sizes = abs(poles[abs(poles) > 0])
    low, high = (sizes.min(), sizes.max()) if sizes.size else (1.0, 1.0)
    high = min(high * 10, np.pi) if G.is_discrete else high * 10
    w = np.geomspace(min(low / 10, high), high, SCAN)
    w = np.concatenate([[0.0], w])
    if G.pencil.is_complex or "c" in (G.B.dtype.kind, G.C.dtype.kind):
        w = np.concatenate([-w[:0:-1], w])
    else:
        resonances = abs(resonances)
    return np.concatenate([w, resonances]) / rate


def _between(a: float, b: float) -> float:
    """The geometric mean of two frequencies of one sign, else the arithmetic one."""
    return float(np.sign(a) * np.sqrt(a * b)) if a * b > 0 else (a + b) / 2
