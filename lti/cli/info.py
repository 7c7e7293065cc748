"""`lti info`: what a system is, and how many states it needs."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

import lti
from lti.cli.tables import load_one, noted, number, reduced_part, status, table, title

__all__ = ["add_to"]


def add_to(commands: Any, model: dict[str, Any]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "info",
        help="what a system is, and how many states it needs",
        description="Size, stability, norms, and the error bound of every order.",
    )
    command.set_defaults(command=info)
    command.add_argument("model", **model)
    command.add_argument(
        "--alpha",
        type=float,
        metavar="X",
        help="describe the part inside this boundary, in place of the stable part",
    )


ORDERS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800)


TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def info(arguments: argparse.Namespace, notes: list[Any]) -> None:
    with status("reading and measuring"):
        system = load_one(arguments.model)
        balancing = lti.balance(system, unstable="split", alpha=arguments.alpha)
        norms = _norms(balancing)
    kept = balancing.smallest_order
    part = reduced_part(kept > 0, arguments.alpha)
    rows = [
        ("states", str(system.order)),
        ("inputs, outputs", f"{system.n_inputs}, {system.n_outputs}"),
        ("time", _time(system)),
        ("stability", _stability(system)),
        *((name + part, number(x)) for name, x in norms.items()),
        *noted(notes),
    ]
    if balancing.factors.hidden is not None:
        rows.append(("error bounds", f"estimates: {2 * balancing.factors.hidden:.1g} in each"))
    table(title(arguments.model, system), ("", ""), rows)

    hsv, bounds = np.asarray(balancing.hsv), np.asarray(balancing.error_bounds)
    rank, largest = balancing.minimal_order, float(norms["Hankel norm"])
    if largest == 0:
        return
    orders = [kept + r for r in ORDERS if kept + r < rank]
    rows = [
        (str(r), number(hsv[r]), number(bounds[r]), number(bounds[r] / largest)) for r in orders
    ]
    columns = ("order", "best possible error", "error bound", "relative")
    table("Errors of each order, absolute and relative to the Hankel norm", columns, rows)

    rows = []
    for tol in TOLERANCES:
        r = balancing.order_for(tol, relative=True)
        rows.append((f"{tol:.0e}", str(r), number(bounds[r])))
    table("Orders that relative errors need", ("relative error", "order", "error bound"), rows)


def _norms(balancing: lti.Balancing) -> dict[str, Any]:
    """The norms of the stable part; those of a sparse system by its factors and its projection."""
    stable: Any = balancing.parts.stable
    if isinstance(stable, lti.SparseStateSpace):
        h2 = np.inf if stable.D.any() and not stable.is_discrete else np.hypot(
            np.linalg.norm(stable.C @ balancing.factors.S), np.linalg.norm(stable.D))  # fmt: skip
        return {
            "H2 norm": h2,
            "H-infinity norm of the projection": lti.hinf_norm(balancing.balanced),
            "Hankel norm": np.asarray(balancing.hsv).max(initial=0.0),
        }
    return {
        "H2 norm": lti.h2_norm(stable),
        "H-infinity norm": lti.hinf_norm(stable),
        "Hankel norm": lti.hankel_norm(stable),
    }


def _time(system: Any) -> str:
    if not system.is_discrete:
        return "continuous"
    return "discrete" if system.dt is True else f"discrete, sampling time {system.dt:g}"


def _stability(system: Any) -> str:
    full = system.closed() if isinstance(system, lti.DiagonalStateSpace) else system
    poles: Any = np.asarray(full.poles)
    if poles.size == 0:
        return "stable, " + ("no pole is known exactly" if system.order else "without poles")
    inside = 1 - np.abs(poles) if system.is_discrete else -poles.real
    pole, distance, bad = poles[inside.argmin()], inside.min(), int((inside <= 0).sum())
    pair = np.isclose(poles, pole.conj()).any()
    sign = "±" if pair else "+" if pole.imag > 0 else "-"
    text = f"{pole.real + 0:.4g}" + (f" {sign} {abs(pole.imag):.4g}j" if pole.imag else "")
    border = "the unit circle" if system.is_discrete else "the imaginary axis"
    if bad == 0:
        if poles.size < system.order:
            point = "one" if system.is_discrete else "zero"
            return f"stable, by the {poles.size} poles closest to {point}: {text}, ..."
        return f"stable; nearest to {border}: {text}, {distance:.3g} away"
    return f"unstable: {bad} poles on or beyond {border}, the worst {text}, {-distance:.3g} away"
