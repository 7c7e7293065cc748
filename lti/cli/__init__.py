"""The command line: `lti info` and `lti reduce`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import lti
from lti.errors import DimensionError, FileError, LTIError, OptionError
from lti.files import check_writable, load, save

__all__ = ["main"]

METHODS = {
    "balanced-truncation": "balanced_truncation",
    "singular-perturbation": "singular_perturbation",
    "hankel-norm": "hankel_norm_approximation",
    "modal": "modal_truncation",
}
LIMITED = ("balanced-truncation", "singular-perturbation")  # those that know --frequencies, --times
EXACT = ("balanced truncation", "singular perturbation", "Hankel-norm approximation",
         "modal truncation")  # fmt: skip
PICTURES = (".png", ".pdf", ".svg")
ORDERS = (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 2 where the system or an option is at fault."""
    arguments = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            arguments.command(arguments, notes)
    except LTIError as error:
        print(f"lti: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lti: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lti", description="Smaller linear systems, and how far they are from the large ones."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    model = {"type": Path, "metavar": "MODEL", "help": "a .mat, .npz or .json file with A, B, C, D"}

    command = commands.add_parser(
        "info",
        help="what a system is, and how many states it needs",
        description="Size, stability, norms, and the error bound of every order.",
    )
    command.set_defaults(command=_info)
    command.add_argument("model", **model)

    command = commands.add_parser(
        "reduce",
        help="a system with fewer states, and the error that this makes",
        description="Reduce a system, measure the error, and check it against the bounds.",
    )
    command.set_defaults(command=_reduce)
    option = command.add_argument
    option("model", **model)
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument("--order", type=int, metavar="N", help="states to keep")
    size.add_argument("--tol", type=float, metavar="X", help="largest H-infinity error allowed")
    size.add_argument(
        "--energy", type=float, metavar="E", help="share of the Hankel singular values to keep"
    )
    option("--relative", action="store_true", help="count --tol in units of the Hankel norm")
    option(
        "--method",
        choices=tuple(METHODS),
        default="balanced-truncation",
        help="how to reduce (%(default)s)",
    )
    option(
        "--unstable",
        choices=("raise", "split"),
        default="raise",
        help="refuse a system that is not stable (raise), or keep those poles as they are (split)",
    )
    for name, unit in (("frequencies", "rad per unit of time"), ("times", "units of time")):
        option(
            f"--{name}",
            nargs=2,
            type=float,
            metavar=("FROM", "TO"),
            help=f"only these {name} count, in {unit}",
        )
    option("-o", "--output", type=Path, metavar="FILE", help=".mat, .npz or .json file to write")
    option("--plot", type=Path, metavar="PICTURE", help="also draw values, responses and error")
    option(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure the error and check it against the bounds (the default)",
    )
    return parser


# ------------------------------------------------------------------ lti info


def _info(arguments: argparse.Namespace, notes: list[Any]) -> None:
    with _status("reading and measuring"):
        system = _load(arguments.model)
        balancing = lti.balance(system, unstable="split")
        stable = balancing.parts.stable
        norms = {
            "H2 norm": lti.h2_norm(stable),
            "H-infinity norm": lti.hinf_norm(stable),
            "Hankel norm": lti.hankel_norm(stable),
        }
    kept = balancing.smallest_order
    rows = [
        ("states", str(system.order)),
        ("inputs, outputs", f"{system.n_inputs}, {system.n_outputs}"),
        ("time", _time(system)),
        ("stability", _stability(system)),
        *((name + " of the stable part" * bool(kept), _number(x)) for name, x in norms.items()),
        *_noted(notes),
    ]
    _table(_title(arguments.model, system), ("", ""), rows)

    hsv, bounds = np.asarray(balancing.hsv), np.asarray(balancing.error_bounds)
    rank, largest = balancing.minimal_order, float(norms["Hankel norm"])
    if largest == 0:
        return
    orders = [kept + r for r in ORDERS if kept + r < rank]
    rows = [
        (str(r), _number(hsv[r]), _number(bounds[r]), _number(bounds[r] / largest)) for r in orders
    ]
    columns = ("order", "best possible error", "error bound", "relative")
    _table("Errors of the orders, relative to the Hankel norm", columns, rows)

    rows = []
    for tol in TOLERANCES:
        r = balancing.order_for(tol, relative=True)
        rows.append((f"{tol:.0e}", str(r), _number(bounds[r])))
    _table("Orders that relative errors need", ("relative error", "order", "error bound"), rows)


def _time(system: Any) -> str:
    if not system.is_discrete:
        return "continuous"
    return "discrete" if system.dt is True else f"discrete, sampling time {system.dt:g}"


def _stability(system: Any) -> str:
    poles: Any = np.asarray(system.poles)
    if poles.size == 0:
        return "stable, without poles"
    inside = 1 - np.abs(poles) if system.is_discrete else -poles.real
    pole, distance, bad = poles[inside.argmin()], inside.min(), int((inside <= 0).sum())
    pair = np.isclose(poles, pole.conj()).any()
    sign = "±" if pair else "+" if pole.imag > 0 else "-"
    text = f"{pole.real + 0:.4g}" + (f" {sign} {abs(pole.imag):.4g}j" if pole.imag else "")
    border = "the unit circle" if system.is_discrete else "the imaginary axis"
    if bad == 0:
        return f"stable; nearest to {border}: {text}, {distance:.3g} away"
    return f"not stable: {bad} poles on or beyond {border}, the worst {text}, {-distance:.3g} away"


# ------------------------------------------------------------------ lti reduce


def _reduce(arguments: argparse.Namespace, notes: list[Any]) -> None:
    options = _options(arguments)
    if arguments.output:
        check_writable(arguments.output)
    if arguments.plot:
        _check_picture(arguments.plot)
    with _status("reading"):
        system = _load(arguments.model)
    with _status(f"reducing {system.order} states"):
        reduction = getattr(lti, METHODS[arguments.method])(system, **options)
    error, hsv = None, np.asarray(reduction.hsv)
    largest = float(hsv[np.isfinite(hsv)].max(initial=0.0))
    if arguments.verify:
        with _status("measuring the error"):
            error = float(reduction.verify())
    figure = None
    if arguments.plot:
        with _status("drawing"):
            from lti.plotting import plot_reduction

            figure = plot_reduction(reduction)

    errors = {"best possible": reduction.lower_bound, "measured": error,
              "upper bound": reduction.error_bound}  # fmt: skip
    rows = []
    for name, value in errors.items():
        if value is not None and (np.isfinite(value) and (value > 0 or name != "best possible")):
            relative = _number(value / largest) if largest else "-"
            rows.append((name, _number(value), relative))
    columns = ("H-infinity error", "absolute", "relative")
    change = f"{system.order} -> {reduction.order} states, {reduction.method}"
    _table(f"{_title(arguments.model, system)}: {change}", columns, rows)

    part = " of the stable part" if np.isinf(hsv).any() else ""
    unit = "Hankel norm" if reduction.method in EXACT else "largest of the values"
    lines = [("relative to", f"the {unit}{part}, {largest:.4g}")]
    lines += _noted(notes, reduction.flags)
    if arguments.output:
        save(arguments.output, reduction.system)
        lines.append(("system", str(arguments.output)))
    if figure is not None:
        try:
            figure.savefig(arguments.plot, dpi=150)
        except OSError as error:
            raise FileError(
                f"{arguments.plot} cannot be written ({error}); choose another"
            ) from error
        lines.append(("picture", str(arguments.plot)))
    _table(None, ("", ""), lines)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {name: getattr(arguments, name) for name in ("order", "tol", "energy")}
    options: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    if arguments.relative:
        if arguments.tol is None:
            raise OptionError("--relative goes with --tol; leave it out, or give --tol")
        options["relative"] = True
    for name in ("frequencies", "times"):
        if (interval := getattr(arguments, name)) is not None:
            if arguments.method not in LIMITED:
                raise OptionError(
                    f"--{name} is no option of {arguments.method}; choose --method "
                    f"{' or '.join(LIMITED)}"
                )
            options[name] = [tuple(interval)]
    if arguments.unstable != "raise":
        options["unstable"] = arguments.unstable
    return options


def _check_picture(path: Path) -> None:
    if path.suffix.lower() not in PICTURES:
        raise FileError(f"{path} is none of {', '.join(PICTURES)}; choose one of these formats")
    if path.is_dir() or not path.parent.is_dir():
        raise FileError(f"no file can be written at {path}; choose one in a folder that exists")
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError("--plot needs matplotlib; pip install 'compressm[cli]'")


# ------------------------------------------------------------------ what both share


def _load(path: Path) -> Any:
    system = load(path)
    if system.batch_shape:
        raise DimensionError(
            f"{path} is a stack of shape {system.batch_shape}, and the command line takes one "
            "system; save each in a file of its own"
        )
    return system


def _title(path: Path, system: Any) -> str:
    return f"{path.name}, {system.labels.name}" if system.labels.name else path.name


def _number(x: Any) -> str:
    return f"{float(x):.4g}"


def _noted(notes: list[Any], flags: Sequence[str] = ()) -> list[tuple[str, str]]:
    said = dict.fromkeys([*(str(note.message) for note in notes), *flags])
    return [("note", text) for text in said]


def _has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def _status(text: str) -> AbstractContextManager[Any]:
    """A line that says what is going on, where somebody waits for it."""
    if not (sys.stderr.isatty() and _has_rich()):
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def _table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, by rich where it is installed. Numbers, in titled columns, stand right."""
    if not rows:
        return
    show: Callable[..., None] = _rich_table if _has_rich() else _plain_table
    show(title, columns, rows)


def _rich_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(header_style="bold", box=None, pad_edge=False, show_header=any(columns))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i and column else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    if title:
        console.print(f"\n{title}", style="bold cyan", markup=False)
    console.print(table)


def _plain_table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    shown = [columns, *rows] if any(columns) else rows
    widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
    if title:
        print(f"\n{title}")
    for row in shown:
        cells = [
            text.rjust(width) if i and columns[i] else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    sys.exit(main())
