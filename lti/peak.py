"""max over w of |G(j w)|: the largest gain of a system over all frequencies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from lti._backend.arrays import Array, from_numpy, namespace, narrow, torch_backend, tracked
from lti._backend.checks import in_range
from lti._backend.shifts import shift_of
from lti.errors import NonFiniteError, UnstableError
from lti.gramians.exact import ExactFactors, exact_factors
from lti.hankel import square_root
from lti.systems.algebra import host_copy, in_units, member, state_scaling
from lti.systems.decouple import block_sizes
from lti.systems.discretize import to_continuous, to_discrete
from lti.systems.modes import decay_of, gains_of, largest_gain, minus, modes_of, of_size_one
from lti.systems.operators import difference
from lti.systems.protocol import System
from lti.systems.response import points, responder, transfer_function
from lti.systems.schur import schur_form
from lti.systems.split import split
from lti.systems.stability import is_stable, require_stable, time_unit
from lti.systems.statespace import DiagonalStateSpace, StateSpace

__all__ = ["peak", "peak_gain", "peak_or_pole", "stacked", "with_derivative"]

EPS = 2.0**-52
SCAN = 32  # frequencies at which a large system itself is looked at
LOST = 1e-10  # relatively, by rounding of a Schur form: more, and each gain is of the system itself
Peak = tuple[float, float]  # a gain, and its frequency


def peak_gain(G: System, F: System | None, rtol: float) -> Array:
    """`hinf_norm` of G - F, with the two responses evaluated apart; of G if F is None."""
    return peak(G, F, rtol)[0]


def peak(
    G: System,
    F: System | None,
    rtol: float,
    form: System | None = None,
    minimal: System | None = None,
) -> tuple[Array, Array]:
    """`peak_gain`, and the frequency at which it is attained.

    `form` is G in coordinates in which it is quick to evaluate, `minimal` what is above rounding
    of it, balanced: the search is done with them, its result compared with a gain of G itself.
    """
    like = G.B
    G, F = host_copy(G), F and host_copy(F)
    form, minimal = form and host_copy(form), minimal and host_copy(minimal)
    for sys in (form or G, F):
        if sys is not None:
            require_stable(sys)

    def member_peak(i: tuple[int, ...]) -> Peak:
        own, other = member(G, i), None if F is None else member(F, i)
        if form is None:
            return _peak(own, other, rtol)
        gain, w = _peak(member(form, i), other, rtol, minimal and member(minimal, i))
        return max(gain, _gain_at(own, other, w)), w

    return stacked(member_peak, G.batch_shape, like)


def with_derivative(sys: System, gain: Array, w: Array) -> Array:
    """The gains (...) with the derivatives of |G(j w)| at fixed frequencies w (...), in torch."""
    if not tracked(*sys.matrices):
        return gain
    from lti._backend import autograd  # imports torch, which is optional

    # The frequency moves with the system: at a peak that shows in the second derivative only
    names = [x for x in ("poles", "A", "B", "C", "D") if x in sys.__dataclass_fields__]
    first = replace(sys, **{name: autograd.First.apply(getattr(sys, name)) for name in names})
    xp, double, each = namespace(gain), first.double(), []
    for i in np.ndindex(sys.batch_shape):
        G, at = member(double, i), w[i][None]
        finite = bool(xp.isfinite(at))
        each.append(transfer_function(G, points(G, at))[0] if finite else G.D)
    slope = xp.linalg.matrix_norm(xp.stack([x + 0j for x in each]), ord=2)
    return torch_backend().attach(gain, narrow(xp.reshape(slope, sys.batch_shape), like=gain))


def _gain_at(G: System, F: System | None, w: float) -> float:
    """|G(j w) - F(j w)|."""
    systems = (G,) if F is None else (G, F)
    if np.isfinite(w):
        each = [transfer_function(x, points(x, np.array([w])))[0] for x in systems]
    else:
        each = [x.D for x in systems]
    return float(np.linalg.norm(each[0] if F is None else each[0] - each[1], ord=2))


def stacked(value: Callable[..., Peak], batch: Any, like: Array) -> tuple[Array, Array]:
    """value(i) of each system i of a batch, in the library and precision of `like`."""
    pairs = np.array([value(i) for i in np.ndindex(batch)]).reshape(-1, 2)
    gains, w = (narrow(from_numpy(x.reshape(batch), like), like) for x in pairs.T)
    return gains, w


def _peak(G: System, F: System | None, rtol: float, minimal: System | None = None) -> Peak:
    """The largest gain of one NumPy system G - F over all frequencies, and its frequency."""
    if 0 in (G.n_inputs, G.n_outputs):
        return 0.0, 0.0
    is_real, dt = not any(np.iscomplexobj(x.to_dense().A) for x in (G, F) if x), G.dt
    if F is not None:  # what is equal in the two leaves no rounding
        G, F = replace(G, D=G.D - F.D), replace(F, D=0 * F.D)
    gain, t = _by_modes(G, F, rtol, is_real) or _by_level_sets(G, F, rtol, minimal)
    in_range("the largest gain is", np.array(gain))
    if G.is_discrete:
        t = (t + np.pi) % (2 * np.pi) - np.pi
    return gain, (abs(t) if is_real else t) / (1.0 if dt is True else dt or 1.0)


def _modest(G: System, F: System | None, minimal: System | None) -> tuple[float, Any, Any, Any]:
    """All scaled to entries of at most one in B, C and D of G and F, and how much this took out."""

    def top(x: np.ndarray) -> float:
        return float(np.abs(x).max(initial=0.0)) or 1.0

    systems = [x for x in (G, F) if x is not None]
    sizes = [top(x.B) * top(x.C) for x in systems]
    sizes += [top(x.D) for x in systems if x.D.any()]
    size = min(max(sizes), 1e300)

    def scaled(x: System) -> System:
        b, c = top(x.B), top(x.C)
        return replace(x, B=x.B / b, C=(x.C / c) * (b / size * c), D=x.D / size)

    return size, scaled(G), F and scaled(F), minimal and scaled(minimal)


@np.errstate(all="ignore")  # what leaves the range of numbers is seen by the checks
def _by_modes(G: System, F: System | None, rtol: float, is_real: bool) -> Peak | None:
    """The peak, or None if rounding of the modes is not far below `rtol`.

    A frequency t stands for s = j t, in discrete time for z = e^{j t}.
    """
    try:
        modes, other = modes_of(G), None if F is None else modes_of(F)
        if modes is None or (F and other is None):
            return None
        modes = minus(modes, other) if other else modes
        decay = decay_of(modes)
        modes, size = of_size_one(modes)
        if not (size and modes.order and (decay > 0).all()):
            return None
    except NonFiniteError:  # beyond the range of numbers
        return None
    leading = modes.poles[np.argsort(-abs(modes.C).max(axis=0) / decay)[:SCAN]]
    leading = np.angle(leading) if G.is_discrete else leading.imag
    t = np.append(leading, 0.0)
    respond = [responder(x, 3) for x in (G, F) if x is not None]
    of = gains_of(modes)

    def boundary(t: Any) -> Any:
        return np.exp(1j * t) if G.is_discrete else 1j * t

    def gains(t: np.ndarray) -> np.ndarray:
        return of(boundary(t))

    def confirmed(best: Peak, tol: float) -> tuple[float, float] | None:
        """The gain of the system itself at the peak, and the tolerance that rounding leaves."""
        t = np.append(best[1], leading[:2])  # rounding is largest at leading modes
        response, *others = (transfer(boundary(t)) / size for transfer in respond)
        exact = np.linalg.norm(response - others[0] if others else response, 2, (-2, -1))
        # Of a difference no more digits are asked for than the two responses have
        rounding = 2 * modes.order * EPS * float(np.linalg.norm(response[0]))
        tol = max(tol, 4 * rounding / best[0]) if others and best[0] else tol
        room = (1 + tol) * best[0] - gains(t)
        return (float(exact[0]), tol) if (abs(exact - gains(t)) <= room / 4).all() else None

    def climb(t: float) -> Peak:
        top = np.array([t, *_climbed(gains, t, abs(boundary(t) - modes.poles).min())])
        found = gains(top)
        best = float(found.max()), float(top[found.argmax()])
        return zero if zero[0] >= (1 - 1e-2 * rtol) * best[0] else best  # rounding moves it

    scan = gains(t)
    zero = float(scan[-1]), 0.0
    best = climb(float(t[scan.argmax()]))
    exact = confirmed(best, rtol)
    found = exact and largest_gain(modes, best, exact[1] / 4, is_real)
    if exact and found and found[0] > best[0] and (last := climb(found[1])) != best:
        best, exact = last, confirmed(last, exact[1])
    return (size * exact[0], best[1]) if exact and found else None


def _climbed(gains: Callable, t: float, reach: float) -> tuple[float, float]:
    """Two guesses of the local maximum near t, by parabolas through ever closer points."""
    best, step = (0.0, t), 0.1 * reach
    for _ in range(6):
        near = t + step * np.array([-1.0, 0.0, 1.0])
        found = gains(near)
        low, here, high = found
        best = max(best, (found.max(), near[found.argmax()]))
        bend = low - 2 * here + high
        move = (low - high) / (2 * bend) if bend < 0 else np.sign(high - low)
        t, step = t + step * np.clip(move, -1, 1), step / 4
    return float(best[1]), float(t)


def _by_level_sets(G: System, F: System | None, rtol: float, minimal: System | None) -> Peak:
    """The same by the Hamiltonian matrices of a model, the minimal system in balanced coordinates.

    It has few states and no bad units. The gain that is returned is one of the system itself.
    """
    size, G, F, minimal = _modest(G, F, minimal and replace(minimal, D=G.D))
    gain, t = _of_model(G, F, rtol, minimal)
    if np.isfinite(t):
        gain = _gain_at(G, F, t / (1.0 if G.dt in (0, True) else G.dt))
    return size * gain, t


def _of_model(G: System, F: System | None, rtol: float, minimal: System | None) -> Peak:
    """`_by_level_sets` of modest entries."""
    known = minimal is not None and bool(is_stable(minimal.to_dense()))
    forms: Any = [(G, minimal) if known else _quick_and_minimal(G)]
    forms += [] if F is None else [_quick_and_minimal(F)]
    rate = 1.0 if G.is_discrete else time_unit(forms[0][1].poles)
    forms = [(_in_time(quick, rate), _in_time(minimal, rate)) for quick, minimal in forms]
    model: Any = forms[0][1] if F is None else difference(forms[0][1], forms[1][1])
    respond = [responder(quick, SCAN) for quick, _ in forms]
    poles, approximate = _modes_of(model)

    def boundary(t: Any) -> Any:
        return np.exp(1j * t) if G.is_discrete else 1j * t

    def model_gains(t: np.ndarray) -> np.ndarray:
        return _norms(approximate(boundary(t)))

    def gains(t: np.ndarray) -> np.ndarray:
        responses = [of(boundary(t)) for of in respond]
        return _norms(responses[0] if F is None else responses[0] - responses[1])

    def climb(t: float) -> Peak:
        top = np.array(_climbed(model_gains, t, np.abs(boundary(t) - poles).min(initial=1.0)))
        return max(zip(gains(top), top, strict=True))

    # Also some poles of the system itself, lest the model lack one
    start = np.concatenate([poles, _some(forms[0][0].poles)])
    if G.is_discrete:
        turns = np.pi * np.arange(16) / 8  # those of _on_the_line, so that their gains are below
        start, level = np.concatenate([np.angle(start), turns, turns + 0.1]), (0.0, 0.0)
    else:
        start = np.concatenate([np.imag(start), np.abs(start), -np.abs(start), [0.0]])
        level = float(np.linalg.norm(model.D, ord=2)), np.inf
    seen = _some(start)
    best = max(level, max(zip(gains(seen), seen, strict=True)))
    best = max(best, climb(best[1] if best[1] < np.inf else 0.0))
    best = max(best, climb(start[np.argmax(model_gains(start))]))
    level = best[0]
    if level < 1e-300 or not np.isfinite(level) or model.order == 0:
        return best[0], rate * best[1]
    line, place = _on_the_line(model, level)
    if np.linalg.norm(line.D, ord=2) >= level:
        return best[0], rate * best[1]  # constant to rounding
    for _ in range(100):
        crossings = _crossings(line, level * (1 + rtol))
        t = place(np.concatenate([crossings, (crossings[1:] + crossings[:-1]) / 2]))
        found = gains(t)
        if found.size:
            best = max(best, (found.max(), t[np.argmax(found)]))
        if found.max(initial=0.0) <= level * (1 + rtol):
            break
        best = max(best, climb(t[np.argmax(found)]))
        level = best[0]
    if gains(np.zeros(1))[0] >= (1 - 1e-13) * best[0]:  # which rounding alone has moved
        best = best[0], 0.0
    return float(best[0]), float(rate * best[1])


def _norms(responses: np.ndarray) -> np.ndarray:
    return np.linalg.norm(in_range("the gains are", responses), ord=2, axis=(-2, -1))


def _in_time(sys: System, rate: float) -> System:
    """The same gains, at frequencies smaller by `rate`."""
    if rate == 1.0:
        return sys
    name = "poles" if isinstance(sys, DiagonalStateSpace) else "A"
    return replace(sys, B=sys.B / rate, **{name: getattr(sys, name) / rate})


def _some(values: np.ndarray) -> np.ndarray:
    """At most `SCAN` of the values, evenly spaced in their order."""
    return np.sort(values)[:: len(values) // SCAN + 1]


def _quick_and_minimal(sys: System) -> tuple[System, StateSpace]:
    """The system where it is quick to evaluate, and what is above rounding of it, balanced."""
    try:
        found = exact_factors(sys)
        model = _balanced(found)
    except UnstableError:
        parts = split(sys)
        try:
            return sys, _in_units(parts.with_projected(_balanced(exact_factors(parts.stable))))
        except UnstableError:  # a pole too close to the boundary
            return sys, _in_units(sys.to_dense())
    if not is_stable(model):
        return sys, _in_units(sys.to_dense())
    rounded = found.roundoff > LOST * np.linalg.norm(found.R.conj().T @ found.S)
    return sys if isinstance(sys, DiagonalStateSpace) or rounded else found.system, model


def _balanced(found: ExactFactors) -> StateSpace:
    """The states above rounding, in balanced coordinates."""
    _, right, left = square_root(found.S, found.R)
    A, B, C, D = found.system.to_dense().matrices
    return StateSpace(left @ A @ right, left @ B, C @ right, D, found.system.dt)


def _modes_of(sys: StateSpace) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Poles and response of a model, by its modes."""
    poles, V = np.linalg.eig(sys.A)
    try:
        modes = DiagonalStateSpace(poles, np.linalg.solve(V, sys.B + 0j), sys.C @ V, sys.D, sys.dt)
        return poles, responder(modes, SCAN)
    except (np.linalg.LinAlgError, NonFiniteError):
        return poles, responder(sys, SCAN)


def _in_units(sys: StateSpace) -> StateSpace:
    """The same system in units of its states in which its matrices are balanced."""
    return in_units(sys, state_scaling(sys))


def _on_the_line(sys: System, level: float) -> tuple[System, Callable]:
    """A continuous system with the gains of `sys`, and the map of its frequencies to theirs.

    Its gain at infinity must be well below `level`, or the Hamiltonian has no digits left. The
    bilinear map and a rotation of the circle keep every gain, and put another point there.
    """
    if not sys.is_discrete and np.linalg.norm(sys.D, ord=2) < 0.5 * level:
        return sys, lambda w: w
    a = 1.0 if sys.is_discrete else shift_of(sys.poles)
    circle = sys if sys.is_discrete else to_discrete(sys, a)
    angles = np.pi * np.arange(16) / 8
    turns = np.exp(1j * angles)
    gain = np.linalg.norm(transfer_function(circle, -turns), ord=2, axis=(-2, -1))
    distance = np.abs(circle.poles[:, None] + turns).min(axis=0)
    best = np.argmax((level - gain) * distance)
    turn = turns[best] if best % 8 else turns[best].real  # real systems stay real
    turned = StateSpace(circle.A / turn, circle.B / turn, circle.C, circle.D, True)

    def place(w: np.ndarray) -> np.ndarray:
        t = angles[best] + 2 * np.arctan(w)
        return t if sys.is_discrete else a * np.tan(t / 2)

    return to_continuous(turned, 1.0), place


def _crossings(sys: System, level: float) -> np.ndarray:
    """Frequencies w, ascending, where a singular value of G(j w) may equal `level` (> |D|)."""
    B, C, D = sys.B / level**0.5, sys.C / level**0.5, sys.D / level
    R = np.eye(sys.n_inputs) - D.conj().T @ D
    S = np.eye(sys.n_outputs) - D @ D.conj().T
    A = sys.A + B @ np.linalg.solve(R, D.conj().T @ C)
    hamiltonian = np.block(
        [
            [A, B @ np.linalg.solve(R, B.conj().T)],
            [-C.conj().T @ np.linalg.solve(S, C), -A.conj().T],
        ]
    )
    values = np.linalg.eigvals(hamiltonian)
    # Rounding moves a double eigenvalue by the root of eps; C B is large where the modes cancel
    size = np.linalg.norm(A) + np.linalg.norm(B) * np.linalg.norm(C)
    near = np.abs(values.real) <= 1e-4 * np.abs(values) + 1e-7 * size
    return np.unique(values.imag[near])


def peak_or_pole(G: System, rtol: float) -> Peak:
    """The peak of one NumPy system that may have poles on the boundary: infinite there."""
    if isinstance(G, DiagonalStateSpace):
        poles, rounding = G.poles, 0.0
    else:  # rounding moves a pole in proportion to all of its block, unless that is the pole itself
        form = schur_form(G.A)
        poles, sizes = form.poles, block_sizes(form)
        rounding = np.where(sizes > np.abs(poles), G.order * sizes, 0.0)
    size = np.abs(poles)
    gap, slack = (np.abs(size - 1), 1.0) if G.is_discrete else (np.abs(np.real(poles)), size)
    if (gap <= 4 * EPS * (slack + rounding)).any():
        return float("inf"), float("nan")
    return _peak(G, None, rtol)
