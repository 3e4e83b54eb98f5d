"""The sections on the test of a segmenter: figures with intervals, each label, sizes, predicted Dice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.evaluation.segmentation_assessment import of_label, tolerance_text
from hounsfield.evaluation.segmentation_figures import FIGURES
from hounsfield.inference.masks import COVERAGE
from hounsfield.reports.mask_figures import dice_figure, sizes_figure
from hounsfield.reports.sections.content import (
    Block,
    Callout,
    Drawing,
    Paragraph,
    Section,
    Table,
    number,
    percent,
    with_interval,
)
from hounsfield.reports.sections.metric_table import metric_table, on_what
from hounsfield.reports.svg import svg_of
from hounsfield.runs.masks import MaskRun

BY_LABEL = ("dice", "nsd", "hd95", "missed", "lesion_sensitivity", "lesion_f1", "pq")
SIZES = ("size_bias", "loa_low", "loa_high", "size_error")


def results_section(run: MaskRun, chosen: str) -> Section:
    """Every figure with its interval, for each label and on the mean."""
    test = run.shown
    titles = {name: test.title(name) for name, figure in FIGURES.items() if figure.mean}
    means = " The figures are means over the labels; each label has its own below."
    blocks: list[Block] = [
        Paragraph(f"{on_what(run)}{means if len(run.bundle.labels) > 1 else ''}"),
        metric_table(run, titles, chosen),
        Paragraph(
            "Masks are compared on the grid of the image as read. Where an image has a structure neither in truth nor "
            "in prediction there is no value. Where one of both is empty, Dice and surface Dice are 0 and distances "
            "infinite, and medians count them so. Surface Dice: the share of both surfaces within "
            f"{tolerance_text(test.tolerance, test.unit)} of the other. Lesions are connected parts; one is found from "
            "an IoU of .1 on."
        ),
        *_label_table(run),
        Drawing(
            svg_of(dice_figure(test), "dice", "Dice of each image"),
            "Each point is an image; diamond and line: the mean with its 95 % interval.",
        ),
    ]
    return Section("results", "Results", tuple(blocks))


def _label_table(run: MaskRun) -> Iterator[Table]:
    labels = run.bundle.labels
    if len(labels) < 2:
        return
    rows = []
    for label in labels:
        found = [run.estimates.get(of_label(name, label), {}) for name in BY_LABEL]
        rows.append((label, f"{found[0].get('n', 0):,}", *map(with_interval, found)))
    yield Table("Each label", ("label", "images", *(run.shown.title(name) for name in BY_LABEL)), tuple(rows))


def sizes_section(run: MaskRun) -> Section:
    """How well sizes are measured, and how certain a new one is."""
    test = run.shown
    what = "Volumes" if test.unit in {"ml", "voxels"} else "Areas"
    rows = [
        (label, *(with_interval(run.estimates.get(of_label(name, label), {})) for name in SIZES))
        for label in run.bundle.labels
    ]
    blocks: list[Block] = [
        Drawing(
            svg_of(sizes_figure(test), "sizes", "Difference of predicted and true size against their mean"),
            "Each point is an image; the lines are the bias and the 95 % limits of agreement (Bland and Altman 1986).",
        ),
        Table(
            f"{what}, predicted minus true ({test.unit})",
            ("label", "bias", "lower limit", "upper limit", "relative error"),
            tuple(rows),
            "With 95 % intervals. A bias that grows with the size shows in the figure, not in the mean.",
            beside=True,
        ),
    ]
    return Section("sizes", what, (*blocks, *_promised(run)))


def _promised(run: MaskRun) -> Iterator[Block]:
    kept = run.bundle.kept(MaskUncertainty)
    if kept is None:
        yield Callout("note", "No intervals of new sizes", "The bundle keeps no validation images to derive them from.")
        return
    rows, test = [], run.shown
    true, predicted = test.of_cases("size_true"), test.of_cases("size_predicted")
    for index, label in enumerate(run.bundle.labels):
        ends = np.array([kept.volume(index, size, COVERAGE)[1:] for size in predicted[:, index]])
        drawn = (true[:, index] > 0) | (predicted[:, index] > 0)
        held = (ends[:, 0] <= true[:, index]) & (true[:, index] <= ends[:, 1])
        typical = float(np.median(predicted[drawn, index])) if drawn.any() else 0.0
        low, high = kept.volume(index, typical, COVERAGE)[1:]
        share = percent(float(held[drawn].mean()), 1) if drawn.any() else "–"
        rows.append((label, f"{typical:.4g}", f"{low:.4g} to {high:.4g}" if np.isfinite(high) else "–", share))
    yield Table(
        "Prediction intervals of a new size",
        ("label", f"median ({test.unit})", f"{percent(COVERAGE)} interval of it", f"held on {run.split} images"),
        tuple(rows),
        f"From {len(kept.dice) // max(len(run.bundle.labels), 1):,} images that the network was not trained on. "
        f"{kept.describe(run.bundle.labels, COVERAGE)} Of images unlike those, which are flagged as out of "
        "distribution, nothing is promised.",
    )


def certainty_section(run: MaskRun) -> Section:
    """How well the Dice of a mask can be predicted without the truth."""
    return Section("certainty", "Predicted Dice", tuple(_certainty(run)))


def _certainty(run: MaskRun) -> Iterator[Block]:
    cases = run.shown.cases
    if "dice_predicted" not in cases:
        yield Paragraph("The bundle keeps no validation images, from which the Dice of a new mask could be predicted.")
        return
    yield Paragraph(
        "From its own probabilities each mask gets the Dice that it is predicted to have, with a 90 % interval, fitted "
        "on images that the network was not trained on: a low one says which masks to look at."
    )
    rows = []
    for label in run.bundle.labels:
        part = cases[(cases["label"] == label) & cases["dice"].notna() & cases["dice_predicted"].notna()]
        if part.empty:
            rows.append((label, "0", "–", "–"))
            continue
        error = (part["dice_predicted"] - part["dice"]).abs()
        held = (part["dice_low"] <= part["dice"]) & (part["dice"] <= part["dice_high"])
        rows.append((label, f"{len(part):,}", number(float(error.mean())), percent(float(held.mean()), 1)))
    yield Table(
        f"Predicted against true Dice on {run.split} images",
        ("label", "images", "mean absolute error", "true Dice in the 90 % interval"),
        tuple(rows),
    )
