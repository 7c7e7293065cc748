"""A page of HTML that compares runs: table, metrics, states, spectra, and every cut."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from html import escape
from math import isfinite
from pathlib import Path

from matplotlib.figure import Figure

from compressm.errors import RunError
from compressm.experiments.data import METRICS, Metric
from compressm.experiments.report.pictures import INK, draw_orders, draw_score, draw_spectra
from compressm.experiments.report.results import plus
from compressm.experiments.runs import Run

__all__ = ["save_report"]

COLORS = {"full": "#555555", "compressed": "#0072B2", "small": "#D55E00", "after": "#009E73"}
COLUMNS = 2  # of spectra, side by side

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #333; max-width: 1080px; margin: 2rem auto;
       padding: 0 1rem; }
h1, h2 { font-weight: 600; line-height: 1.2; } h2 { margin-top: 2.5rem; }
img { max-width: 100%; } .note { color: #666; font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 1.2rem 0.25rem 0; text-align: right; border-bottom: 1px solid #e4e4e4;
         white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; }
.text { text-align: left; }
"""


def save_report(runs: Sequence[Run], path: Path) -> list[Path]:
    """Write the page, which contains its pictures, and the same pictures as files beside it.

    Parameters
    ----------
    runs
        At least one; runs are compared with the full run of the same seed, if there is one.
    path
        Of the page; the names of the pictures begin with its name.

    Returns
    -------
    list of Path
        All files that were written, the page first.

    Raises
    ------
    RunError
        If the runs are of several tasks.
    """
    written, images = [path], {}
    for name, figure in _figures(runs):
        content = io.BytesIO()
        figure.savefig(content, dpi=160, bbox_inches="tight")
        images[name] = base64.b64encode(content.getvalue()).decode()
        written.append(path.with_name(f"{path.stem}-{name}.png"))
        written[-1].write_bytes(content.getvalue())
    path.write_text(_page(runs, images), encoding="utf-8")
    return written


def _figures(runs: Sequence[Run]) -> Iterator[tuple[str, Figure]]:
    results = [run.result for run in runs]
    colors = [COLORS[run.arm] for run in runs]
    labels = [result.name for result in results]
    for name, draw in ((_metric(runs).name, draw_score), ("orders", draw_orders)):
        figure = Figure(figsize=(10, 5), layout="constrained", facecolor="white")
        draw(figure.subplots(), results, colors, labels, gap=0.055)
        yield name, figure
    for run in runs:
        layers = run.result.events[0].layers if run.result.events else ()
        shown = [place for place, cut in enumerate(layers) if cut.hsv.size]
        if shown:
            rows = -(-len(shown) // COLUMNS)
            columns = min(COLUMNS, len(shown))
            figure = Figure((10, 4.8 * rows), layout="constrained", facecolor="white")
            grid = figure.subplots(rows, columns, squeeze=False)
            for axes, place in zip(grid.flat, shown, strict=False):
                draw_spectra(axes, run.result, place)
                axes.set_title(layers[place].name, loc="left", color=INK)
            for axes in grid.flat[len(shown) :]:
                axes.set_visible(False)
            yield f"spectra-{run.result.name}", figure


def _page(runs: Sequence[Run], images: dict[str, str]) -> str:
    names, metric = ", ".join(run.result.name for run in runs), _metric(runs)
    parts = [
        f"<h1>{escape(' and '.join(dict.fromkeys(_data(run) for run in runs)))}</h1>",
        _table(*_results(runs)),
        f"<p class=note>{metric.title} on the whole test set; for a run that has not finished, on "
        "the subset used during training. Seconds are those of training steps and cuts, without "
        "evaluations; the speed-up is relative to the full run of the same seed.</p>",
        f"<h2>{metric.title} over time</h2>",
        _image(images, metric.name, f"Test {metric.name} over seconds of training: {names}"),
        "<h2>Orders over time</h2>",
        _image(images, "orders", f"Stored states of each layer over steps: {names}"),
    ]
    for name in images:
        if name.startswith("spectra-"):
            of = name.removeprefix("spectra-")
            parts += [
                f"<h2>Spectra of {escape(of)}</h2>",
                "<p class=note>Hankel singular values of each layer: each cut keeps the solid "
                "part and truncates the faint part.</p>",
                _image(images, name, f"Hankel singular values of {of}, with the cuts"),
            ]
    cuts = list(_cuts(runs))
    if cuts:
        used = [place for place in range(len(CUTS)) if any(cut[place] for cut in cuts)]
        rows = [[cut[place] for place in used] for cut in cuts]
        parts += [
            "<h2>Cuts</h2>",
            _table([CUTS[place] for place in used], rows, text=(0, 2, used.index(8) + 1)),
            "<p class=note>The error bound is on the H-infinity norm of the change of the layer; "
            "there is none if states are scored by data, nor for selective layers. The output "
            "error is measured on sequences that were held out. The test subset is that used in "
            f"training: its {metric.name} just before and just after the cut.</p>",
        ]
    parts += ["<h2>Settings</h2>", _table(*_settings(runs), text=(0,))]
    body = "\n".join(parts)
    return (
        "<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>\n"
        "<meta name=viewport content='width=device-width'>\n"
        f"<title>{escape(names)}</title>\n<style>{STYLE}</style>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _metric(runs: Sequence[Run]) -> Metric:
    """The metric of all runs; RunError if they have several."""
    found = {run.result.metric.name: run.result.metric for run in runs}
    if len(found) > 1:
        raise RunError(
            f"the runs are measured by {' and '.join(found)}, which cannot be compared; give runs "
            "of one data set"
        )
    return runs[0].result.metric


def _data(run: Run) -> str:
    return str(getattr(run.result.settings, "data", ""))


def _results(runs: Sequence[Run]) -> tuple[Sequence[str], list[list[str]]]:
    full = {run.result.seed: run.result for run in runs if run.arm == "full" and run.finished}
    metric = _metric(runs)
    rows = []
    for run in runs:
        result = run.result
        states = dict.fromkeys([plus(result.history[0].orders), plus(result.orders)])
        against = full.get(result.seed)
        tested = [METRICS[name].shown(value) for name, value in result.measured.items()]
        if not run.finished:
            tested[-1] += f" at step {result.history[-1].step:,} of {result.settings.steps:,}"
        rows.append(
            [
                result.name,
                *tested,
                metric.difference(result.score - against.score) if against else "",
                " → ".join(states),
                f"{result.parameters:,}" if run.finished else "",
                f"{result.seconds:,.1f}",
                f"{against.seconds / result.seconds:.1f}×" if against and run.finished else "",
            ]
        )
    against = "points against full" if metric.is_fraction else "against full"
    head = ("run", *(f"test {name}" for name in runs[0].result.measured), against)
    return (*head, "states", "parameters", "seconds", "speed-up"), rows


CUTS = ("run", "step", "layer", "states", "energy discarded", "error bound")
CUTS += ("bound / largest value", "output error", "test subset", "not cut because")


def _cuts(runs: Sequence[Run]) -> Iterator[list[str]]:
    for run in runs:
        for event in run.result.events:
            looks = [p for p in run.result.history if p.step == event.step]
            for cut in event.layers:
                bounded = isfinite(cut.error_bound) and cut.hsv.size
                yield [
                    run.result.name,
                    f"{event.step:,}",
                    cut.name,
                    f"{cut.before} → {cut.after}",
                    f"{1 - cut.energy_kept:.3%}",
                    f"{cut.error_bound:.3g}" if bounded else "none",
                    f"{cut.error_bound / cut.hsv.max():.2%}" if bounded else "",
                    "" if cut.output_error is None else f"{cut.output_error:.2%}",
                    " → ".join(point.metric.shown(point.score, 1) for point in looks[:2]),
                    cut.skipped or "",
                ]


def _settings(runs: Sequence[Run]) -> tuple[Sequence[str], list[list[str]]]:
    """A row for each setting, a column for each run."""
    found = [{"arm": x.arm, "seed": x.result.seed, **asdict(x.result.settings)} for x in runs]
    rows = []
    for name in dict.fromkeys(name for settings in found for name in settings):
        values = [_shown(settings.get(name)) for settings in found]
        rows.append([name, *values])
    return ("setting", *(run.result.name for run in runs)), rows


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _image(images: dict[str, str], name: str, about: str) -> str:
    return f"<img src='data:image/png;base64,{images[name]}' alt='{escape(about, quote=True)}'>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table; the columns in `text` are aligned to the left, the others to the right."""

    def row(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if place in text else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )

    lines = [f"<tr>{row('th', head)}</tr>", *(f"<tr>{row('td', cells)}</tr>" for cells in rows)]
    return "\n".join(["<div class=wide><table>", *lines, "</table></div>"])
