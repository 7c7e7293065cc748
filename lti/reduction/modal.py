"""Modal truncation: the modes of largest gain."""

from __future__ import annotations

import numpy as np

from lti._backend.arrays import from_numpy, is_complex, namespace, narrow, tail_sums, to_numpy
from lti._backend.blocks import blocks_of
from lti._backend.checks import no_derivative
from lti.errors import DimensionError, OptionError, ReductionWarning, warn
from lti.hankel import OrderChoice, hankel_singular_values, pad
from lti.reduction.balancing import Balancing
from lti.reduction.bounds import cast_gain, may_exceed, stable_part
from lti.reduction.certificate import Claim, Reduction
from lti.reduction.methods import register_method
from lti.systems.algebra import state_scaling
from lti.systems.convert import as_statespace
from lti.systems.decouple import block_sizes
from lti.systems.diagonalize import eigenvectors
from lti.systems.protocol import System, SystemLike
from lti.systems.schur import schur_form
from lti.systems.split import Split, parts_of
from lti.systems.stability import close_to_boundary, is_stable, require_stable
from lti.systems.statespace import DiagonalStateSpace, StateSpace
from lti.systems.units import BACKWARD

__all__ = ["modal_truncation"]

EPS = 2.0**-52


def modal_truncation(
    sys: SystemLike,
    order: int | None = None,
    tol: float | None = None,
    *,
    relative: bool = False,
    energy: float | None = None,
    unstable: str = "raise",
    alpha: float | None = None,
) -> Reduction:
    """G_r = D + sum of c_i b_i / (s - p_i) over the modes of largest |c_i| |b_i| / |Re p_i|.

    Parameters
    ----------
    sys : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        One system (no batch) of n states, with a basis of eigenvectors.
    order : int, optional
        States to keep, 0 to n. Conjugate pairs of a real system stay together: an order that would
        divide one is lowered by one.
    tol : float, optional
        In place of `order`: the smallest order whose error bound is within `tol`.
    relative : bool, optional
        Count `tol` in units of ``hsv[0]``.
    energy : float, optional
        In place of `order`: the smallest order that keeps this fraction of the sum of the gains.
    unstable : {"raise", "split"}, optional
        Refuse a system with unstable poles, or keep their modes.
    alpha : float, optional
        With ``unstable="split"``: the boundary of what is kept, as in `balance`.

    Returns
    -------
    Reduction
        With poles of `sys`. Its bound is the sum of the gains of the modes left out, its lower
        bound the Hankel singular value ``hsv[order]``: how much is lost against balancing.

    Raises
    ------
    UnstableError
        If `sys` has an unstable pole and ``unstable="split"`` was not given.
    DefectiveError
        If A has no basis of eigenvectors to working precision.
    DimensionError
        If `sys` is a batch.
    OrderError
        If not just one of `order`, `tol` and `energy` is given, or it is out of range.
    DerivativeError
        If torch records derivatives of A, but of a diagonal system.

    Warns
    -----
    ReductionWarning
        If the order was lowered to keep a conjugate pair together.

    References
    ----------
    Davison, "A method for simplifying linear dynamic systems", IEEE TAC 11 (1966); Varga,
    "Enhanced modal approach for model reduction", Math. Modelling of Systems 1 (1995).

    Examples
    --------
    >>> import lti, numpy as np
    >>> sys = lti.StateSpace(np.diag([-1.0, -9.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> lti.modal_truncation(sys, order=1).system.poles
    array([-1.+0.j])
    """
    sys = as_statespace(sys)
    _require_one(sys)
    if unstable == "raise":
        require_stable(sys)
    choice = OrderChoice(order, tol, relative, energy)
    return _reduced(sys, parts_of(sys.double(), unstable, alpha), choice)


class ModalTruncation:
    """The method behind `modal_truncation`; of a balancing it takes the system and its parts."""

    name = "modal"

    def reduce(self, balancing: Balancing, choice: OrderChoice) -> Reduction:
        """The reduction of the system of `balancing` to the order of `choice`."""
        if not balancing.exact:
            raise OptionError(
                "modal truncation uses no Gramians, got Gramians "
                f"{balancing.factors.name}; leave these options out, or choose balanced truncation"
            )
        _require_one(balancing.system)
        return _reduced(balancing.system, balancing.parts, choice)


MODAL = register_method(ModalTruncation())


def _require_one(sys: System) -> None:
    if sys.batch_shape:
        raise DimensionError(
            f"modal_truncation takes one system, got a batch of shape {sys.batch_shape}; loop over "
            "it"
        )


def _reduced(sys: System, parts: Split, choice: OrderChoice) -> Reduction:
    if not isinstance(sys, DiagonalStateSpace):
        no_derivative("modal_truncation, but of a diagonal system, has", sys.A)
    k, n = parts.rest.order, sys.order
    T, W, sizes, gains, scale, lost, size = _modes(parts.stable.to_dense())
    ends = np.cumsum([k, *sizes])  # the orders that part no pair
    tails = np.append(tail_sums(gains), 0.0)
    bounds = np.full(n + 1, np.inf)
    bounds[k:] = tails[np.searchsorted(ends, np.arange(k, n + 1), side="right") - 1]
    kept = np.full(k, np.inf)
    sigma = pad(np.concatenate([kept, to_numpy(hankel_singular_values(parts.stable))]), n)
    weights = np.zeros(n - k)
    weights[ends[1:] - k - 1] = gains  # all at the last state of a mode, so that pairs stay whole
    values = sigma if choice.energy is None else np.concatenate([kept, weights])
    asked = choice.select(values, bounds, k)
    r, flags = int(ends[ends <= asked].max()), close_to_boundary(parts.stable, size)
    if r < n and not flags:
        flags = may_exceed(bounds[r], lost, n * EPS * gains.sum())
    if r < asked:
        flags.append(f"order lowered from {asked} to {r}: a conjugate pair stays together")
    T, W = (from_numpy(x, like=sys.B) for x in (T[:, : r - k], W[: r - k]))
    xp, dense = namespace(sys.B), sys.double().to_dense()
    T = xp.concat([parts.T[:, :k], parts.T[:, k:] @ T], axis=-1)
    W = xp.concat([parts.W[:k, :], W @ parts.W[k:, :]], axis=-2)
    exact = StateSpace(W @ dense.A @ T, W @ dense.B, dense.C @ T, dense.D, sys.dt)
    A, B, C, D = (narrow(x, sys.B) for x in exact.matrices)
    system = StateSpace(A, B, C, D, sys.dt, sys.labels.without_states())
    reduced, bound = stable_part(system, k), from_numpy(np.asarray(bounds[r]), like=exact.B)
    if r > k:  # the modes that stay carry the rounding of V
        bound = bound + n * EPS * scale
    if system.B.dtype != exact.B.dtype:
        stays = bool(is_stable(reduced))
        bound = bound + (cast_gain(stable_part(exact, k), reduced) if stays else float("inf"))
        if not stays:
            flags.append(f"unstable in {sys.B.dtype}: convert the system to float64")
    for flag in flags:
        warn(flag, ReductionWarning)
    hsv, lower = (from_numpy(np.asarray(x), sys.B) for x in (sigma, sigma[r] if r < n else 0.0))
    return Reduction(
        original=sys,
        system=system,
        order=r,
        hsv=narrow(hsv, sys.B),
        claim=Claim(
            error_bound=narrow(bound, sys.B),
            lower_bound=narrow(lower, sys.B),
            pair=(parts.stable, reduced) if parts.stable.order < n else None,
            roundoff_scale=from_numpy(np.asarray(scale), like=sys.B),
        ),
        T=narrow(T, sys.B),
        W=narrow(W, sys.B),
        method="modal truncation",
        flags=tuple(flags),
    )


def _modes(
    sys: StateSpace,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float, float, np.ndarray]:
    """T, W of the modes in descending order of gain; states and gain of each; scale, lost, size.

    `scale` is what the gains are rounded to, `lost` what rounding of A has moved the system by, and
    `size` the largest entry of A.

    A pair p, conj(p) of a real system is one mode: x = v z + conj(v z) = 2 (Re v Re z - Im v Im z).
    """
    is_real = not is_complex(sys.B)
    A, B, C = (to_numpy(x) for x in (sys.A, sys.B, sys.C))
    d = state_scaling(StateSpace(A, B, C, None, sys.dt))
    A = A / d[:, None] * d
    poles, V, condition = eigenvectors(A)
    B, C = B / d[:, None], C * d
    b, c = (np.abs(x).max(initial=0.0) or 1.0 for x in (B, C))  # squares need room
    B, C = B / b, C / c
    U = np.linalg.inv(V)
    decay = 1 - np.abs(poles) if sys.is_discrete else -poles.real
    gains = b * c * np.linalg.norm(C @ V, axis=0) * np.linalg.norm(U @ B, axis=1) / decay
    scale = b * c * condition * np.linalg.norm(B) * np.linalg.norm(C) / decay.min(initial=np.inf)
    moved = _moved(A, poles) * np.linalg.norm(U, axis=1) if len(A) else gains
    lost = float((gains * moved / decay).sum())
    first = np.flatnonzero(poles.imag >= 0) if is_real else np.arange(len(poles))
    pair = is_real & (poles[first].imag > 0)
    gains = np.where(pair, 2.0, 1.0) * gains[first]
    T, W, sizes = [], [], []
    descending = np.argsort(-gains, kind="stable")
    for i, two in zip(first[descending], pair[descending], strict=True):
        v, u = V[:, i], U[i]
        T += [v.real, v.imag] if two else [v.real if is_real else v]
        W += [2 * u.real, -2 * u.imag] if two else [u.real if is_real else u]
        sizes.append(1 + two)
    empty = np.zeros((0, sys.order))
    return (
        d[:, None] * np.array(T or empty).T,
        np.array(W or empty) / d,
        np.array(sizes, dtype=int),
        gains[descending],
        float(scale),
        lost,
        np.asarray(np.abs(A).max(initial=0.0)),
    )


def _moved(A: np.ndarray, poles: np.ndarray) -> np.ndarray:
    """By how much rounding of its irreducible block moves each pole (n,), its sensitivity aside."""
    form = schur_form(A)
    moved = BACKWARD * EPS * block_sizes(form)
    for k in blocks_of(form.edges):
        size = k.stop - k.start
        moved[k] /= size if size > 1 else np.inf  # that of a triangle is not moved
    at = abs(poles[:, None] - form.poles).argmin(axis=1)
    return moved[at]
