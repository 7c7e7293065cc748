"""Pictures: Hankel singular values, frequency responses, errors within their bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import Array, to_numpy
from lti.errors import DimensionError
from lti.hankel import error_bound, hankel_singular_values
from lti.reduction.balancing import Balancing
from lti.reduction.certificate import Reduction
from lti.systems.convert import as_statespace
from lti.systems.labels import Labels
from lti.systems.protocol import System
from lti.systems.response import frequency_response

__all__ = ["plot_error", "plot_hsv", "plot_reduction", "plot_response"]

# Okabe and Ito's palette: told apart by every kind of colour vision.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, GRAY = "#333333", "#8c8c8c"
ROUNDING = 2.0**-52  # n of it, of the largest Hankel singular value, mean nothing
AT_ZERO = 1e-6  # of the largest pole: a double integrator has poles of the root of rounding
DECADES = 1e-10  # of the peak: a gain below is not worth the room


def plot_hsv(sys: Any, order: int | None = None, ax: Any = None) -> Any:
    """Hankel singular values, and the error bound of every order.

    Parameters
    ----------
    sys : Reduction, Balancing, StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        What has Hankel singular values.
    order : int, optional
        Order to mark; that of a `Reduction` by default.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DimensionError
        If `sys` is a batch.

    Notes
    -----
    The bound of order r stands at value r + 1, the first that is truncated: it is at least twice
    that value. Infinite values, of unstable states, which are kept, stand at the top as triangles.

    Examples
    --------
    >>> from lti.plotting import plot_hsv
    >>> ax = plot_hsv(([[-1.0]], [[1.0]], [[1.0]]))
    """
    given = isinstance(sys, (Reduction, Balancing))
    hsv: Any = to_numpy(sys.hsv if given else hankel_singular_values(sys)).astype(float)
    _require_one(hsv.shape[:-1])
    if isinstance(sys, Reduction) and hsv.size < sys.order:
        raise DimensionError(
            "this method computes no Hankel singular values; plot those of the system, "
            "plot_hsv(reduction.original)"
        )
    bounds = error_bound(hsv)
    if isinstance(sys, Balancing):
        bounds = to_numpy(sys.error_bounds)
    elif isinstance(sys, Reduction):
        order = sys.order if order is None else order
        own = float(to_numpy(sys.error_bound))
        if not np.isclose(own, bounds[sys.order], rtol=0.01):  # the bounds of another method
            bounds = np.full_like(bounds, np.nan)
            bounds[sys.order] = own
    ax, n = _axes(ax), hsv.size
    index, finite = np.arange(1, n + 1), np.isfinite(hsv)
    kept = index <= (n if order is None else order)
    for part, face, label in ((kept, COLORS[0], "kept"), (~kept, "white", "truncated")):
        label = "values" if order is None else f"values {label}"
        shown = part & finite & (hsv > 0)
        if shown.any():
            ax.plot(index[shown], hsv[shown], "o", color=COLORS[0], markerfacecolor=face,
                    markersize=5, label=label)  # fmt: skip
    if not finite.all():
        ax.plot(index[~finite], np.full((~finite).sum(), 0.97), "^", color=COLORS[0], markersize=6,
                transform=ax.get_xaxis_transform(), label="unstable (infinite)")  # fmt: skip
    bounds = _positive(bounds)
    if np.isfinite(bounds).any():
        marker = "D" if np.isfinite(bounds).sum() == 1 else None  # one point makes no line
        ax.plot(
            np.arange(1, n + 2),
            bounds,
            color=COLORS[1],
            marker=marker,
            label="error bound",
        )
    if order is not None:
        ax.axvline(order + 0.5, color=GRAY, linestyle="--", linewidth=1, label=f"order {order}")
    largest = hsv[finite].max(initial=0.0)
    shown = ~finite | (hsv > n * ROUNDING * largest)
    if largest > 0:
        ax.set_yscale("log")
        ax.set_ylim(bottom=hsv[finite & shown].min() / 3)
    end = max(order or 0, min(n, 1.25 * shown.sum()), 1)
    ax.set_xlim(1 - 0.05 * end, 0.6 + 1.02 * end)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return _finish(ax, "Hankel singular values", "number of the value", "Hankel singular value")


def plot_response(
    *systems: System, w: Array | None = None, db: bool = False, phase: bool = False, ax: Any = None
) -> Any:
    """The gain of systems over frequency: the largest singular value of G(j w) or G(e^{j w dt}).

    Parameters
    ----------
    *systems : StateSpace, DiagonalStateSpace, or what `as_statespace` accepts
        Single systems; labels name them in the legend.
    w : array (k,), optional
        Frequencies in rad/s (rad per sample if ``dt`` is True); chosen from the poles, with every
        resonance on the grid, by default. In discrete time it ends at the Nyquist frequency, which
        is drawn.
    db : bool, optional
        Show the gain in decibels, ``20 log10``.
    phase : bool, optional
        Show the phase in degrees in place of the gain, without jumps, of systems with one input and
        one output.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DimensionError
        If a system is a batch, or there is none; with `phase` also if it has more than one input or
        output.

    Examples
    --------
    >>> from lti.plotting import plot_response
    >>> ax = plot_response(([[-1.0]], [[1.0]], [[1.0]]))
    """
    found = _single(systems)
    grid = _grid(found) if w is None else to_numpy(w)
    ax = _axes(ax)
    many = any(sys.n_inputs * sys.n_outputs > 1 for sys in found)
    if phase and many:
        raise DimensionError(
            "the phase is that of one input and one output; pick one of each, or leave phase out"
        )
    responses = [frequency_response(sys, grid) for sys in found]
    if phase:
        gains = [_degrees(response) for response in responses]
    else:
        gains = [_positive(_gain(response)) for response in responses]
    if db and not phase:
        gains = [20 * np.log10(gain) for gain in gains]
    for k, (sys, gain) in enumerate(zip(found, gains, strict=True)):
        label = f"{sys.labels.name or f'system {k + 1}'}, {sys.order} states"
        ax.plot(grid, gain, label=label, color=COLORS[k % len(COLORS)],
                linestyle="--" if k % 2 else "-", linewidth=1.4 if k % 2 else 2.2)  # fmt: skip
    _frequency_axis(ax, found, grid, np.concatenate(gains), linear=db or phase)
    name = "phase [deg]" if phase else "largest singular value" if many else "gain"
    return _finish(ax, "Frequency response", None, f"{name} [dB]" if db and not phase else name)


def plot_error(reduction: Reduction, ax: Any = None) -> Any:
    """The gain of the error over frequency, and the bounds that its peak lies between.

    Parameters
    ----------
    reduction : Reduction
        Of a single system. If the bounds speak of weighted systems, so does the picture.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DimensionError
        If the reduced system is a batch.

    Examples
    --------
    >>> import lti, numpy as np
    >>> from lti.plotting import plot_error
    >>> sys = lti.StateSpace(-np.diag([1.0, 2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> ax = plot_error(lti.balanced_truncation(sys, 1))
    """
    parts = (*(reduction.pair or (reduction.original, reduction.system)), *reduction.weights)
    pair = _single([x for x in parts if x is not None])
    grid, ax = _grid(pair), _axes(ax)
    gain = _positive(_gain(to_numpy(reduction.error_response(grid))))
    ax.plot(grid, gain, color=COLORS[0], linewidth=1.5, label="error")
    bounds = {"upper bound": reduction.error_bound, "lower bound": reduction.lower_bound}
    for (label, bound), color in zip(bounds.items(), (COLORS[1], COLORS[2]), strict=True):
        value = float(to_numpy(bound))
        if 0 < value < np.inf:
            ax.axhline(value, color=color, linewidth=1.5, label=f"{label} {value:.3g}")
            gain = np.append(gain, value)
    _frequency_axis(ax, pair, grid, gain)
    return _finish(ax, "Error of the reduced system", None, "gain of the error")


def plot_reduction(reduction: Reduction) -> Any:
    """Hankel singular values if they are known, both responses, and the error, side by side.

    Parameters
    ----------
    reduction : Reduction
        Of a single system.

    Returns
    -------
    matplotlib Figure
        ``figure.savefig("reduction.png")`` saves it.

    Raises
    ------
    DimensionError
        If the reduced system is a batch, or what is given is no reduction.

    Examples
    --------
    >>> import lti, numpy as np
    >>> from lti.plotting import plot_reduction
    >>> sys = lti.StateSpace(-np.diag([1.0, 2.0]), np.ones((2, 1)), np.ones((1, 2)))
    >>> figure = plot_reduction(lti.balanced_truncation(sys, 1))
    """
    if not isinstance(reduction, Reduction):
        raise DimensionError(
            f"a {type(reduction).__name__} is no Reduction; draw what balanced_truncation or one "
            "of its kind returns, or use plot_hsv and plot_response"
        )
    from matplotlib.figure import Figure

    known = reduction.hsv.shape[-1] > 0 or reduction.original.order == 0
    figure = Figure(figsize=(15 if known else 10, 5), layout="constrained")
    *left, middle, right = figure.subplots(1, 2 + known)
    for ax in left:
        plot_hsv(reduction, ax=ax)
    pair = {"original": reduction.original, "reduced": reduction.system}
    plot_response(*(replace(sys, labels=Labels(name)) for name, sys in pair.items()), ax=middle)
    plot_error(reduction, ax=right)
    return figure


# ------------------------------------------------------------------ what is drawn


def _single(systems: Any) -> list[Any]:
    found = [as_statespace(sys) for sys in systems]
    if not found:
        raise DimensionError("there is no system to draw; pass at least one")
    for sys in found:
        _require_one(sys.batch_shape)
    return found


def _require_one(batch: tuple[int, ...]) -> None:
    if batch:
        raise DimensionError(f"a picture shows one system, got a batch of shape {batch}; pick one")


def _gain(response: Any) -> np.ndarray:
    """The largest singular value at each frequency (k,) of a response (k, p, m)."""
    response = to_numpy(response)
    if 0 in response.shape[1:]:
        return np.zeros(len(response))
    return np.linalg.norm(response, ord=2, axis=(-2, -1))


def _degrees(response: Any) -> np.ndarray:
    """The phase of a response (k, 1, 1) in degrees, without jumps; zeros leave a gap."""
    values = to_numpy(response)[:, 0, 0]
    angle = np.full(len(values), np.nan)
    angle[values != 0] = np.rad2deg(np.unwrap(np.angle(values[values != 0])))
    return angle


def _positive(x: Any) -> np.ndarray:
    """What a logarithmic axis can show; the rest leaves a gap."""
    return np.where((x > 0) & np.isfinite(x), x, np.nan)


def _nyquist(sys: Any) -> float:
    return np.pi / (1.0 if sys.dt is True else sys.dt) if sys.is_discrete else np.inf


def _grid(systems: list[Any]) -> np.ndarray:
    """Frequencies that show every pole: a decade around them all, and each resonance closely."""
    poles: Any = np.concatenate([np.ravel(_continuous_poles(sys)) for sys in systems])
    # Rounding leaves the poles of an integrator beside zero: they have no frequency of their own
    poles = poles[np.abs(poles) > AT_ZERO * np.abs(poles).max(initial=0.0)]
    end = (1 - 1e-4) * min(map(_nyquist, systems))  # a pole may sit at the Nyquist frequency
    size = np.abs(poles) if poles.size else np.array([min(1.0, end)])
    high = min(10 * size.max(), end)
    low = min(size.min() / 10, high / 1000)
    spread = np.geomspace(low, high, 400)
    resonant = poles[np.abs(poles.real) < 0.3 * np.abs(poles)]  # peaks that a grid can miss
    center, width = np.abs(resonant.imag), np.abs(resonant.real)
    undamped = width < 1e-9 * center  # there, the response is infinite: only come close
    width = np.where(undamped, 1e-4 * center, width)
    close = (center[:, None] + width[:, None] * np.array([-3, -1, 0, 1, 3])).ravel()
    grid = np.unique(np.concatenate([spread, close]))
    for pole in center[undamped]:
        grid = grid[np.abs(grid - pole) > 1e-5 * pole]
    return grid[(grid >= low) & (grid <= high)]


def _continuous_poles(sys: Any) -> np.ndarray:
    """The poles; in discrete time log(z) / dt, whose imaginary part is the frequency."""
    poles = to_numpy(sys.poles).astype(complex)
    if not sys.is_discrete:
        return poles
    return np.log(poles[poles != 0]) / (1.0 if sys.dt is True else sys.dt)


# ------------------------------------------------------------------ how it looks


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6.4, 5), layout="constrained")[1]


def _frequency_axis(
    ax: Any, systems: list[Any], grid: Any, gain: np.ndarray, linear: bool = False
) -> None:
    ax.set_xscale("log")
    if (grid > 0).any():
        ax.set_xlim(grid[grid > 0].min(), 1.05 * grid.max())
    gain = gain[np.isfinite(gain)]
    if gain.size == 0:
        ax.set_yticks([])
        ax.text(0.5, 0.5, "zero at every frequency", color=INK, ha="center", transform=ax.transAxes)
    elif not linear:  # single zeros, as at the Nyquist frequency, would take all the room
        ax.set_yscale("log")
        ax.set_ylim(max(np.percentile(gain, 1) / 3, DECADES * gain.max()), 2 * gain.max())
    end = min(map(_nyquist, systems))
    if np.isfinite(end):
        ax.axvline(end, color=GRAY, linestyle=":", linewidth=1.5, label="Nyquist frequency")
    per_sample = any(sys.dt is True for sys in systems)
    ax.set_xlabel(f"frequency [{'rad/sample' if per_sample else 'rad/s'}]")


def _finish(ax: Any, title: str, xlabel: str | None, ylabel: str) -> Any:
    ax.set_title(title, loc="left", color=INK)
    if xlabel:
        ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#ececec", linewidth=0.8)
    ax.set_axisbelow(True)
    if ax.get_legend_handles_labels()[0]:
        # Below, where no curve can run into it
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.02, -0.14), ncols=2,
                  columnspacing=1.2)  # fmt: skip
    return ax
