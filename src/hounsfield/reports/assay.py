"""The report of an assay: one HTML page, the fields as a table, and all figures as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing

from hounsfield.atomic import replacing, write_json, write_text
from hounsfield.errors import require
from hounsfield.evaluation.assay import Assay, SpecimenAssay
from hounsfield.evaluation.field_rates import Figure
from hounsfield.reports.figures import COLOURS, GREY, dress, new_figure
from hounsfield.reports.svg import svg_of
from hounsfield.testing.assay import CountedFields
from hounsfield.version import __version__

TEMPLATES = Path(__file__).parent / "templates"
# Specimens in a figure; the table has all.
MOST_DRAWN = 40


def write_assay(found: CountedFields, name: str, folder: Path) -> list[Path]:
    """Write ``assay.html``, ``assay.json`` and ``fields.csv``, and return their paths.

    Args:
        found: the counted fields.
        name: of the table, for the title.
        folder: made when it is not there.

    Raises:
        MissingDependency: Jinja2 is not installed.
        OSError: the folder cannot be made or written to.
    """
    jinja2 = require("jinja2", "the HTML report of an assay")
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    page = environment.get_template("assay.html").render(
        name=name,
        assay=found.assay,
        found=found,
        refused=found.fields[found.fields["refused"] != ""],
        figures=[(title, svg_of(drawing, f"figure{at}", title)) for at, (title, drawing) in enumerate(_figures(found))],
        told=told,
        as_share=as_share,
        version=__version__,
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / file for file in ("assay.html", "assay.json", "fields.csv")]
    write_json(paths[1], found.to_dict())
    with replacing(paths[2]) as temporary:
        found.fields.to_csv(temporary, index=False)
    write_text(paths[0], page)
    return paths


def told(figure: Figure | None, show: Callable[[float], str] | None = None) -> str:
    """A figure with its interval as words: three significant digits, or as ``show`` does."""
    show = show or _significant
    if figure is None or not math.isfinite(figure.value):
        return "–"
    if figure.value == 0 and figure.low == 0:
        return f"below {show(figure.high)}"
    return f"{show(figure.value)} ({show(figure.low)} to {show(figure.high)})"


def as_share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f} %"


def _significant(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _figures(found: CountedFields) -> list[tuple[str, Drawing]]:
    assay = found.assay
    drawn = [("Concentration by specimen", _concentrations(assay))]
    if assay.kind is not None:
        drawn.append((f"Share of {assay.kind} by specimen", _shares(assay)))
    if assay.slope is not None:
        drawn.append(("Counts along the dilutions", _dilutions(assay)))
    return drawn


def _concentrations(assay: Assay) -> Drawing:
    return _by_specimen(assay, f"Particles per {assay.unit}", [("fields", lambda one: one.concentration)])


def _shares(assay: Assay) -> Drawing:
    return _by_specimen(
        assay,
        f"Share of {assay.kind}",
        [("corrected", lambda one: one.share_corrected), ("as found", lambda one: one.share_by_grid or one.share)],
    )


def _by_specimen(
    assay: Assay, axis: str, series: Sequence[tuple[str, Callable[[SpecimenAssay], Figure | None]]]
) -> Drawing:
    """One line a specimen, with a point and an interval for each series that has one."""
    specimens = assay.specimens[:MOST_DRAWN]
    figure = new_figure(5.4, 0.7 + 0.32 * len(specimens))
    axes = figure.add_subplot()
    for number, (name, of) in enumerate(series):
        points = [(at, one) for at, one in enumerate(map(of, specimens)) if one and math.isfinite(one.value)]
        places = np.array([at for at, _ in points]) + 0.18 * (number - (len(series) - 1) / 2)
        values = np.array([one.value for _, one in points])
        ends = np.array([[one.low, one.high] for _, one in points]).reshape(-1, 2)
        reach = np.abs(ends.T - values)
        axes.errorbar(values, places, xerr=reach, fmt="o", color=COLOURS[number], markersize=4, capsize=2, label=name)
    dress(axes, "", axis, "")
    axes.set_yticks(range(len(specimens)), [one.specimen for one in specimens], fontsize=8)
    axes.invert_yaxis()
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8)
    return figure


def _dilutions(assay: Assay) -> Drawing:
    """What each dilution of a specimen gives for the undiluted one, over what all of its dilutions give."""
    figure = new_figure(5.4, 3.2)
    axes = figure.add_subplot()
    axes.axhline(1, color=GREY, linewidth=1)
    blanks = assay.detection.blanks if assay.detection else ()
    for one in (each for each in assay.specimens if each.specimen not in blanks):
        points = sorted((dilution, ratio) for dilution, ratio in one.recovery.items() if ratio > 0)
        axes.plot(
            [each for each, _ in points],
            [ratio for _, ratio in points],
            "o-",
            color=COLOURS[0],
            alpha=0.5,
            markersize=3,
            linewidth=1,
        )
    axes.set_xscale("log")
    dilutions = sorted({dilution for one in assay.specimens for dilution in one.recovery})
    axes.set_xticks(dilutions, [f"{dilution:g}" for dilution in dilutions])
    axes.minorticks_off()
    dress(axes, "", "Dilution factor", "Found over expected")
    return figure
