"""Poles of sparse systems that are unstable or lightly damped: Arnoldi steps with a pencil."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import schur

from lti._backend.arrays import Array
from lti.errors import ConvergenceError, DefectiveError, OptionError
from lti.systems.irreducible import MODERATE
from lti.systems.pencil import Pencil
from lti.systems.schur import poles_of

__all__ = [
    "closest_poles",
    "is_pole",
    "lightly_damped",
    "refined",
    "some_poles",
    "suspects",
    "unstable_poles",
    "unstable_subspaces",
]

STEPS = 30  # Arnoldi steps of a search
MOST = 120  # and of a search for a subspace
CLOSE = 1e-8  # relative residual of a pole that counts as found
EXACT = 1e-12  # and of an invariant subspace
SEEN = 0.1  # and of one that is to be refined
LIGHT = 1e-2  # damping ratio below which a pole is lightly damped
VERY = 1e-6  # and decay in discrete time, also of a real pole close to -1
SOME = 10  # lightly damped poles that are refined
NEXT_TO = 1e-2  # relative residual of an estimate that is close to a pole
SAME = 1e-6  # relative distance of two values of one pole
ROUNDS = 8  # of inverse iteration
POWERS = 6  # of (A - p E)^-1 E, that tell a pole from a place that rounding makes one
ONCE = 1e3  # a growth that falls by this factor was none of a pole
FEW = 6  # poles closest to zero, or in discrete time to one
OFF = 0.03  # of a suspected pole: the distance of the shift, so that others are seen as well
APART = 1e-6  # the largest rounding of a split, relative
EVEN = 1e-10  # of a pole, or of the shift: a real part this small may be rounding


def some_poles(pencil: Pencil, discrete: bool) -> Array:
    """All poles of small irreducible diagonal blocks, and of large ones some.

    Those closest to zero, or in discrete time to one, lightly damped ones and unstable ones.
    """
    parts = getattr(pencil, "irreducible", None)
    poles, large = parts() if parts else (np.zeros(0), [pencil])
    found = [poles]
    for block in large:
        try:
            found.append(_some_of(block, discrete))
        except ConvergenceError:
            if block.order > MODERATE:
                raise
            poles = _all_of(block)
            if not _confirmed(block, poles, discrete) and (_excess(poles, discrete) >= 0).any():
                raise
            found.append(poles)
    return np.concatenate(found)


def _some_of(pencil: Pencil, discrete: bool) -> Array:
    """The same of one block. Unstable poles are those that `unstable_poles` confirms."""
    found = closest_poles(pencil, 1.0 if discrete else 0.0, FEW)
    near, seen = suspects(pencil, found, discrete)
    outside = _excess(found, discrete) > EVEN * abs(found)
    near, found = [*near, *found[outside].tolist()], found[~outside]
    light, poles = lightly_damped(pencil, np.append(found, seen), discrete)
    found = np.concatenate([found[~light[: len(found)]], poles])
    for pole in near:
        if (abs(found - pole) <= SAME * abs(pole)).any():
            continue
        more = unstable_poles(pencil, pole, discrete)
        apart = abs(more[:, None] - found).min(axis=1, initial=np.inf) > SAME * abs(pole)
        found = np.concatenate([found, more[apart]])
    return found


def unstable_poles(pencil: Pencil, near: complex, discrete: bool) -> Array:
    """Those close to an estimate, by their invariant subspaces; none if there are no such.

    What projections show of a pencil that is far from normal proves nothing: the pencil itself
    need not have a pole there, but one that differs from it by rounding. Where the left and the
    right subspace do not match, a dense form tells, of a system of moderate size.
    """
    try:
        X, W = unstable_subspaces(pencil, near, discrete)
        poles = np.linalg.eigvals(W @ pencil.product(1.0, 0.0, X))
    except DefectiveError:
        poles = _all_of(pencil) if pencil.order <= MODERATE else np.zeros(0)
        poles = poles[_excess(poles, discrete) >= 0]
    return poles if _confirmed(pencil, poles, discrete) else poles[:0]


def _confirmed(pencil: Pencil, poles: Array, discrete: bool) -> bool:
    """Whether the worst of these values is on or beyond the boundary, and a pole."""
    if not poles.size:
        return False
    worst = complex(poles[np.argmax(_excess(poles, discrete))])
    return _excess(worst, discrete) > -EVEN * abs(worst) and is_pole(pencil, worst)


def is_pole(pencil: Pencil, pole: complex) -> bool:
    """Whether (A - p E)^-1 E makes a vector large again and again: elsewhere, it does so once."""
    try:
        inverse = pencil.factor(1.0, -pole.real if pole.imag == 0 else -pole)
    except OptionError:
        return True
    x, away = _start(pencil.order)[:, None], []
    with np.errstate(all="ignore"):
        for _ in range(POWERS):
            x = inverse.solve(pencil.product(0.0, 1.0, x / np.linalg.norm(x)))
            away.append(1 / np.linalg.norm(x))
    return bool(away[-1] <= max(ONCE * away[0], SAME * abs(pole)))


def _all_of(pencil: Pencil) -> Array:
    """All poles, of the dense form."""
    inverse = pencil.factor(0.0, 1.0).solve
    return poles_of(inverse(pencil.product(1.0, 0.0, np.eye(pencil.order))))


def _start(n: int) -> Array:
    """A vector in no special direction."""
    return np.cos(np.arange(1.0, n + 1) ** 1.5)


def closest_poles(pencil: Pencil, target: float, count: int) -> Array:
    """The poles closest to `target`, by Arnoldi steps with ``(A - t E)^-1 E``."""
    shift = target
    try:
        found = _inverse(pencil, shift).extend(STEPS)
        sizes = np.sort(abs(found.values))[::-1]
        covered = len(sizes) > 1 and sizes[1] < CLOSE * sizes[0]  # by one pole at the target
    except OptionError:
        covered = True
    if covered:
        shift = _beside(pencil, target)
        found = _inverse(pencil, shift).extend(STEPS)
    for _ in range(2):
        at = np.argsort(-abs(found.values))[:count]
        at = at[(found.residuals[at] <= CLOSE * abs(found.values[at])) & (found.values[at] != 0)]
        if len(at) == count or found.ended:
            break
        found.extend(STEPS)
    poles = shift + 1 / found.values[at]
    away, off = abs(poles - target), shift - target
    if np.count_nonzero(away <= 0.1 * off) > 1:  # rounding of a multiple pole is a root of eps
        return np.where(away <= 0.1 * off, target, poles)
    return np.where(away <= CLOSE * off, target, poles)


def suspects(pencil: Pencil, poles: Array, discrete: bool) -> tuple[list[complex], Array]:
    """Where unstable poles may be, and others close to the boundary: values of Arnoldi steps.

    Of E^-1 A, and of a Cayley transform: with ``(A - s E)^-1 (A + s E)``, s > 0, unstable poles
    come before all stable ones, and those of size s first; s is between the sizes of `poles` and
    of the largest ones. Lightly damped poles come next.
    """
    far = _plain(pencil).extend(STEPS)
    found, seen = [far.values], [far.values[far.residuals <= SEEN * abs(far.values)]]
    sizes = abs(np.concatenate([poles, far.values]))
    if not discrete and sizes.any():
        s = float(np.sqrt(sizes[sizes > 0].min()) * np.sqrt(sizes.max()))
        try:
            inverse = pencil.factor(1.0, -s).solve
        except OptionError:
            return [complex(s)], np.zeros(0)
        cayley = _Arnoldi(lambda x: inverse(pencil.product(1.0, s, x)), pencil).extend(STEPS)
        other = cayley.values != 1
        values = cayley.values[other]
        found.append(s * (values + 1) / (values - 1))
        seen.append(found[-1][cayley.residuals[other] <= SEEN * abs(values - 1)])
    worst = (x[np.argmax(_excess(x, discrete))] for x in found if x.size)
    outside = [complex(x) for x in worst if _excess(x, discrete) > EVEN * abs(x)]
    return outside, np.concatenate(seen)


def lightly_damped(pencil: Pencil, near: Array, discrete: bool) -> tuple[Array, Array]:
    """The values of `near` that belong to poles of little damping, and these poles, refined.

    Their decay, by which their share in a Gramian is divided, needs more digits than they do.
    """
    if discrete:  # the damping ratio of (z - 1) / (z + 1)
        decay, away = abs(1 - abs(near) ** 2), abs(near**2 - 1)
    else:
        decay, away = abs(np.real(near)), abs(near)
    ratio = decay / np.where(away > 0, away, 1.0)
    ratio = np.where(discrete & (decay < VERY) & (np.real(near) < 0), decay, ratio)
    light = (away > 0) & (ratio < LIGHT)
    found: list[complex] = []
    tries = SOME
    for at in np.argsort(ratio, kind="stable"):
        pole = complex(near[at])
        known = [*found, *np.conj(found)] if not pencil.is_complex else found
        if not tries or not light[at]:
            break
        if any(abs(pole - x) <= SAME * abs(x) for x in known):
            continue
        tries -= 1
        if (better := refined(pencil, pole, discrete=discrete)) is not None:
            found.append(better)
    poles: Any = np.array(found, dtype=complex)
    if not pencil.is_complex:
        poles = np.concatenate([poles, poles[poles.imag != 0].conj()])
    return light, poles


def refined(
    pencil: Pencil, pole: complex, x: Array = None, y: Array = None, *, discrete: bool = False
) -> complex | None:
    """The pole next to an estimate, ``y^H A x / y^H E x`` of its two eigenvectors.

    None if the estimate is close to no pole, or to an unstable one that rounding would move as far.
    x and y are where the iteration starts.
    """
    if x is None or y is None:
        x = y = _start(pencil.order)[:, None]
    for _ in range(ROUNDS):
        try:
            inverse = pencil.factor(1.0, -pole)
        except OptionError:  # that is a pole
            return pole
        for _ in range(2):
            x = inverse.solve(pencil.product(0.0, 1.0, x / np.linalg.norm(x)))
            y = inverse.adjoint(pencil.adjoint_product(0.0, 1.0, y / np.linalg.norm(y)))
        x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
        Ax, Ex = (pencil.product(*which, x) for which in ((1.0, 0.0), (0.0, 1.0)))
        with np.errstate(all="ignore"):
            paired = np.vdot(y, Ex)
            better = complex(np.vdot(y, Ax) / paired)
        moved = abs(better - pole)
        if not moved <= 0.1 * abs(pole):  # of a defective pole, not even a number
            break
        pole = better
        if moved <= CLOSE * abs(pole):
            break
    rest, size = np.linalg.norm(Ax - pole * Ex), np.linalg.norm(Ax) + abs(pole) * np.linalg.norm(Ex)
    settled = moved <= CLOSE * abs(pole) and abs(paired) > APART * np.linalg.norm(Ex)
    near = rest <= NEXT_TO * size and (settled or _excess(pole, discrete) < 0)
    return pole if near else None


def unstable_subspaces(pencil: Pencil, near: complex, discrete: bool) -> tuple[Array, Array]:
    """X, W with A X = E X L, W A = L W E, W E X = I: L has the unstable poles close to `near`.

    Stable poles that cannot be told apart from them, as of a double integrator, are among these.
    X and W are real of a real pencil, and empty where no unstable pole is found.
    """
    shift: Any = near * (1 + OFF)
    if abs(near) <= 1e-6 * _size(pencil):
        shift = _beside(pencil, near)
    if not pencil.is_complex and abs(near.imag) <= EVEN * abs(shift):
        shift = shift.real
    sides = [_inverse(pencil, shift, adjoint) for adjoint in (False, True)]
    for slack in (EVEN, 1e-8, 1e-6, 1e-4, 1e-2, 0.1):
        X, Y = (_subspace(side, shift, discrete, slack, pencil.is_complex) for side in sides)
        if X.shape == Y.shape:
            pairing = Y.conj().T @ pencil.product(0.0, 1.0, X)
            sizes = np.linalg.svd(pairing, compute_uv=False)
            if X.size == 0 or sizes[-1] > APART * np.linalg.norm(pencil.product(0.0, 1.0, X), 2):
                return X, np.linalg.solve(pairing, Y.conj().T)
    raise DefectiveError(
        f"a stable and an unstable pole near {near:.6g} are too close to be split; move the poles "
        "apart, or remove one"
    )


def _subspace(
    found: _Arnoldi, shift: complex, discrete: bool, slack: float, is_complex: bool
) -> Array:
    """An orthonormal basis of what belongs to poles above ``-slack |shift|``."""
    while True:
        if found.values.size == 0:
            found.extend(STEPS)
        values = np.where(found.values == 0, 1e-300, found.values)
        poles = (np.conj(shift) if found.adjoint else shift) + 1 / values
        seen = found.residuals <= CLOSE * abs(values)
        wanted = seen & (_excess(poles, discrete) >= -slack * np.maximum(abs(poles), abs(shift)))
        exact = found.residuals <= EXACT * abs(values)
        if found.ended or len(values) >= MOST or (exact[wanted].all() and (seen & ~wanted).any()):
            break
        found.extend(STEPS)
    X = found.basis(wanted)
    if not is_complex and X.size:
        U, s, _ = np.linalg.svd(np.hstack([X.real, X.imag]), full_matrices=False)
        X = U[:, s > 1e-6 * s[0]]
    return X


def _excess(poles: Any, discrete: bool) -> Any:
    """How far outside of the stable region."""
    return abs(poles) - 1 if discrete else np.real(poles)


def _size(pencil: Pencil) -> float:
    """The size of the largest poles, about."""
    return float(abs(_plain(pencil).extend(STEPS).values).max(initial=1e-300))


def _beside(pencil: Pencil, pole: complex) -> Any:
    """A shift to the right of a pole, at a tenth of the distance to the next one."""
    off = 1e-6 * _size(pencil)
    values = _inverse(pencil, pole + off).extend(STEPS).values
    away = abs(off + 1 / values[values != 0])
    return pole + max(off, 0.1 * min(away[away > 0.1 * off], default=0.0))


def _plain(pencil: Pencil) -> _Arnoldi:
    """Steps with E^-1 A, which find the largest poles first."""
    inverse = pencil.factor(0.0, 1.0).solve
    return _Arnoldi(lambda x: inverse(pencil.product(1.0, 0.0, x)), pencil)


def _inverse(pencil: Pencil, shift: complex, adjoint: bool = False) -> _Arnoldi:
    """Steps with (A - t E)^-1 E, or with its form for left eigenvectors."""
    inverse, is_complex = pencil.factor(1.0, -shift), isinstance(shift, complex)
    if adjoint:
        return _Arnoldi(lambda x: inverse.adjoint(pencil.adjoint_product(0.0, 1.0, x)), pencil,
                        is_complex, adjoint)  # fmt: skip
    return _Arnoldi(lambda x: inverse.solve(pencil.product(0.0, 1.0, x)), pencil, is_complex)


class _Arnoldi:
    """M V = V H + rest: an orthonormal basis V of x, M x, M^2 x, ..., which is never restarted."""

    def __init__(
        self,
        step: Callable[[Array], Array],
        pencil: Pencil,
        is_complex: bool = False,
        adjoint: bool = False,
    ) -> None:
        n, self._step, self.adjoint = pencil.order, step, adjoint
        x = _start(n)
        dtype = complex if pencil.is_complex or is_complex else float
        self._V = (x / np.linalg.norm(x))[:, None].astype(dtype)
        self._columns: list[Array] = []
        self.values = self.residuals = np.zeros(0)
        self.ended = n == 0

    def extend(self, steps: int) -> _Arnoldi:
        """So many steps more."""
        start = len(self._columns)
        V = np.empty((len(self._V), start + steps + 1), dtype=self._V.dtype, order="F")
        V[:, : start + 1] = self._V
        for k in range(start + 1, start + steps + 1):
            if self.ended:
                break
            y = np.asarray(self._step(V[:, k - 1 : k])[:, 0], dtype=V.dtype)
            before, h = np.linalg.norm(y), np.zeros(k, dtype=V.dtype)
            if not np.isfinite(before):
                raise ConvergenceError(
                    "the poles are not found: solutions with A leave the range of double "
                    "precision, as where each state drives the next one far more than it is "
                    "driven by it; reduce a dense form (to_dense), or a part of the system"
                )
            for _ in range(2):  # once more, for what rounding has left
                part = V[:, :k].conj().T @ y
                y, h = y - V[:, :k] @ part, h + part
            rest = float(np.linalg.norm(y))
            self.ended = rest <= 1e-14 * before or k == len(V)
            self._columns.append(np.append(h, 0.0 if self.ended else rest))
            V[:, k] = 0.0 if self.ended else y / rest
        self._V = V[:, : len(self._columns) + 1]
        k = len(self._columns)
        self._H = np.zeros((k + 1, k), dtype=V.dtype)
        for j, column in enumerate(self._columns):
            self._H[: j + 2, j] = column
        self.values, Z = np.linalg.eig(self._H[:k])
        self.residuals = abs(self._H[k, k - 1] * Z[-1]) if k else np.zeros(0)
        return self

    def basis(self, wanted: Array) -> Array:
        """Orthonormal columns that span what belongs to some of the values."""
        if not wanted.any():
            return self._V[:, :0]
        k = len(self._columns)
        ordered: Any = schur(
            self._H[:k], output="complex", sort=lambda t: wanted[np.argmin(abs(self.values - t))]
        )
        _, Q, count = ordered
        return self._V[:, :k] @ Q[:, :count]
