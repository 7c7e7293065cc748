"""`lti reduce`: a system with fewer states, and the error that this makes."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

import lti
from lti.cli.tables import load_one, noted, number, reduced_part, status, table, title
from lti.errors import FileError, OptionError
from lti.files import check_writable, save
from lti.reduction.methods import method_names

__all__ = ["add_to"]


def add_to(commands: Any, model: dict[str, Any]) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "reduce",
        help="a system with fewer states, and the error that this makes",
        description="Reduce a system, measure the error, and check it against the bounds.",
    )
    command.set_defaults(command=reduce)
    option = command.add_argument
    option("model", **model)
    size = command.add_mutually_exclusive_group(required=True)
    size.add_argument("--order", type=int, metavar="N", help="states to keep")
    size.add_argument("--tol", type=float, metavar="X", help="largest H-infinity error allowed")
    size.add_argument(
        "--energy",
        type=float,
        metavar="E",
        help="fraction of the sum of the Hankel singular values to keep",
    )
    option("--relative", action="store_true", help="count --tol in units of the Hankel norm")
    option(
        "--method",
        choices=method_names(),
        default="balanced-truncation",
        help="how to reduce (%(default)s)",
    )
    option(
        "--unstable",
        choices=("raise", "split"),
        default="raise",
        help="refuse a system with unstable poles (raise), or keep these as they are (split)",
    )
    option(
        "--alpha",
        type=float,
        metavar="X",
        help="with --unstable split, also keep the poles on or beyond this boundary",
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


PICTURES = (".png", ".pdf", ".svg")


def reduce(arguments: argparse.Namespace, notes: list[Any]) -> None:
    options = _options(arguments)
    if arguments.output:
        check_writable(arguments.output)
    if arguments.plot:
        _check_picture(arguments.plot)
    with status("reading"):
        system = load_one(arguments.model)
    with status(f"reducing {system.order} states"):
        balancing = lti.balance(system, **options)
        reduction = balancing.reduce(
            arguments.method,
            arguments.order,
            tol=arguments.tol,
            relative=arguments.relative,
            energy=arguments.energy,
        )
    error, peak, hsv = None, None, np.asarray(reduction.hsv)
    largest = float(hsv[np.isfinite(hsv)].max(initial=0.0))
    if arguments.verify:
        with status("measuring the error"):
            error, peak = map(float, reduction.verify(return_frequency=True))
    figure = None
    if arguments.plot:
        with status("drawing"):
            from lti.plotting import plot_reduction

            figure = plot_reduction(reduction)

    errors = {"best possible": reduction.lower_bound, "measured": error,
              "upper bound": reduction.error_bound}  # fmt: skip
    rows = []
    for name, value in errors.items():
        if value is not None and (np.isfinite(value) and (value > 0 or name != "best possible")):
            relative = number(value / largest) if largest else "-"
            rows.append((name, number(value), relative))
    columns = ("H-infinity error", "absolute", "relative")
    change = f"{system.order} -> {reduction.order} states, {reduction.method}"
    table(f"{title(arguments.model, system)}: {change}", columns, rows)

    part = reduced_part(bool(np.isinf(hsv).any()), arguments.alpha)
    unit = "Hankel norm" if balancing.exact else "largest of the values"
    lines = [("relative to", f"the {unit}{part}, {largest:.4g}")]
    if peak is not None and error:
        per = "sample" if system.dt is True else "s"
        lines.append(("attained at", f"w = {peak:.4g} rad/{per}"))
    lines += noted(notes, reduction.flags)
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
    table(None, ("", ""), lines)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `lti.balance`."""
    if arguments.relative and arguments.tol is None:
        raise OptionError("--relative goes with --tol; leave it out, or give --tol")
    if arguments.alpha is not None and arguments.unstable != "split":
        raise OptionError("--alpha says which poles are kept; give --unstable split with it")
    options: dict[str, Any] = {"unstable": arguments.unstable, "alpha": arguments.alpha}
    for name in ("frequencies", "times"):
        if (interval := getattr(arguments, name)) is not None:
            options[name] = [tuple(interval)]
    return options


def _check_picture(path: Path) -> None:
    if path.suffix.lower() not in PICTURES:
        raise FileError(f"{path} is none of {', '.join(PICTURES)}; choose one of these formats")
    if path.is_dir() or not path.parent.is_dir():
        raise FileError(f"no file can be written at {path}; choose one in a folder that exists")
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError(
            "--plot needs matplotlib, which is not installed: run 'pip install matplotlib'"
        )
