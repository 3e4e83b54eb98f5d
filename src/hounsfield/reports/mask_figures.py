"""Figures of a test of segmentation: Dice of each label, agreement of sizes, the worst images with their outlines."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from hounsfield.drawing.outlines import Outline, flat, label_colour, outlined
from hounsfield.evaluation.outcomes import Integers
from hounsfield.evaluation.segmentation_assessment import SegmentationAssessment, of_label
from hounsfield.images.image import Image
from hounsfield.masks import Mask, region_of
from hounsfield.reports.base import Read
from hounsfield.reports.figures import COLOURS, GREY, SIDE, dress, new_figure

WORST = 6
PICTURE_SIDE = 420
# Of more labels a figure has no room; the tables have all.
MOST_LABELS = 12


def mask_figures(assessment: SegmentationAssessment, read: Read | None = None) -> dict[str, Figure]:
    """Every figure of a test by file name without suffix; the worst cases where images and masks are at hand."""
    figures = {"dice": dice_figure(assessment), "sizes": sizes_figure(assessment)}
    if read is not None and assessment.pairs and len(worst_images(assessment)):
        figures["worst_cases"] = worst_cases_figure(assessment, read)
    return figures


def worst_images(assessment: SegmentationAssessment, count: int = WORST) -> Integers:
    """The images with the lowest mean Dice, worst first; only those below 1."""
    scores = assessment.of_images("dice")
    order = np.argsort(np.where(np.isnan(scores), np.inf, scores), kind="stable")[:count]
    return np.asarray(order[scores[order] < 1], np.int64)


def dice_figure(assessment: SegmentationAssessment) -> Figure:
    """Draw the Dice of every image, label by label, with the mean and its interval."""
    labels, values = assessment.labels[:MOST_LABELS], assessment.of_cases("dice")
    figure = new_figure(max(SIDE, 0.9 * len(labels) + 1.2), SIDE)
    axes = figure.add_subplot()
    for place, label in enumerate(labels):
        known = values[:, place][~np.isnan(values[:, place])]
        # A fixed pattern, so that points of one height are seen beside each other.
        beside = place + 0.3 * (np.arange(len(known)) * 0.618 % 1 - 0.5)
        axes.plot(beside, known, "o", color=label_colour(place), markersize=3, alpha=0.5)
        estimate = assessment.estimates[of_label("dice", label)]
        if math.isfinite(estimate.value):
            axes.plot(place, estimate.value, "D", color="black", markersize=5)
        if math.isfinite(estimate.low):
            axes.plot([place, place], [estimate.low, estimate.high], color="black", linewidth=1.5)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylim(-0.02, 1.02)
    dress(axes, "Dice of each image", "", "Dice")
    return figure


def sizes_figure(assessment: SegmentationAssessment) -> Figure:
    """Draw predicted minus true sizes against their mean (Bland, Altman 1986), with bias and limits of each label."""
    figure = new_figure(1.25 * SIDE, SIDE)
    axes = figure.add_subplot()
    true, predicted = assessment.of_cases("size_true"), assessment.of_cases("size_predicted")
    for place, label in enumerate(assessment.labels[:MOST_LABELS]):
        colour, first, second = label_colour(place), true[:, place], predicted[:, place]
        axes.plot((first + second) / 2, second - first, "o", color=colour, markersize=3, alpha=0.6, label=label)
        for name, style in (("size_bias", "-"), ("loa_low", "--"), ("loa_high", "--")):
            value = assessment.estimates[of_label(name, label)].value
            if math.isfinite(value):
                axes.axhline(value, color=colour, linestyle=style, linewidth=0.9)
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    unit = assessment.unit
    dress(axes, "Bland-Altman plot of sizes", f"Mean of true and predicted ({unit})", f"Predicted − true ({unit})")
    axes.legend(fontsize=8, framealpha=0.9)
    return figure


def worst_cases_figure(assessment: SegmentationAssessment, read: Read, *, count: int = WORST) -> Figure:
    """Draw the images with the lowest Dice: true outlines solid, predicted ones dashed.

    Args:
        assessment: the test, with its masks.
        read: gives an image by its number.
        count: how many.
    """
    pictures = {
        row: compared_pictures(read(row), assessment.pairs[row].masks(), assessment.labels, side=PICTURE_SIDE)[1]
        for row in worst_images(assessment, count).tolist()
    }
    columns = min(3, max(1, len(pictures)))
    lines = max(1, math.ceil(len(pictures) / columns))
    tallest = max((picture.shape[0] / picture.shape[1] for picture in pictures.values()), default=1.0)
    figure = new_figure(4.2 * columns, (4.2 * tallest + 0.3) * lines + 0.4)
    scores = assessment.of_images("dice")
    for position, (row, picture) in enumerate(pictures.items(), start=1):
        axes = figure.add_subplot(lines, columns, position)
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(f"mean Dice {scores[row]:.3f}", fontsize=9)
    shown = enumerate(assessment.labels[:MOST_LABELS])
    handles = [Line2D([], [], color=label_colour(place), label=label) for place, label in shown]
    handles.append(Line2D([], [], color=COLOURS[-1], linestyle="--", label="dashed: predicted"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False, fontsize=9)
    return figure


def compared_pictures(
    image: Image, masks: tuple[Mask, Mask], labels: tuple[str, ...], *, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image as it is, and with true outlines, solid, and predicted ones, dashed.

    Of a volume both are of the slice with most of both masks.
    """
    overlapping = masks[0].shape[-1] == len(labels) > 1
    outlines = [
        Outline(region_of(mask, index, overlapping=overlapping), label_colour(index), dashed)
        for mask, dashed in zip(masks, (False, True), strict=True)
        for index in range(len(labels))
    ]
    shown, here = flat(image, outlines)
    return outlined(shown, [], side=side), outlined(shown, here, side=side)
