"""Figures of a test of detection: free response, precision and recall, counts, the worst images with their boxes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hounsfield.drawing.boxed import OUTCOMES, boxed, by_outcome
from hounsfield.evaluation.detection import DetectionAssessment, image_errors
from hounsfield.evaluation.detection_matching import Events, class_events
from hounsfield.evaluation.free_response import LUNA_RATES, free_response
from hounsfield.evaluation.outcomes import Integers
from hounsfield.images.image import Image
from hounsfield.reports.figures import COLOURS, DASHES, GREY, SIDE, dress, new_figure

WORST = 6
PICTURE_SIDE = 420


def free_response_figure(assessment: DetectionAssessment) -> Figure:
    """Draw sensitivity against false positives per image; LUNA16's seven rates are marked, with intervals."""
    detections, estimates = assessment.detections, assessment.estimates
    figure = new_figure(1.25 * SIDE, SIDE)
    axes = figure.add_subplot()
    for label, name in enumerate(detections.labels):
        events = class_events(detections, label, criterion=assessment.criterion, threshold=assessment.overlap)
        curve = free_response(events)
        key = "luna16" if len(detections.labels) == 1 else f"luna16_{name}"
        colour, dash = COLOURS[label % len(COLOURS)], DASHES[label // len(COLOURS) % len(DASHES)]
        legend = f"{name}: LUNA16 score {estimates[key].value:.3f}"
        axes.plot(
            np.maximum(curve.false_findings, LUNA_RATES[0] / 4), curve.sensitivity, dash, color=colour, label=legend
        )
    rows = [estimates[f"sensitivity_fp_{rate:g}"] for rate in LUNA_RATES]
    values = np.array([row.value for row in rows])
    ends = np.array([[row.low for row in rows], [row.high for row in rows]])
    spread = np.nan_to_num(np.abs(ends - values))
    axes.errorbar(
        LUNA_RATES, values, spread, fmt="o", color="black", markersize=4, capsize=2, label="all classes together"
    )
    axes.set_xscale("log", base=2)
    axes.set_xlim(LUNA_RATES[0] / 1.5, LUNA_RATES[-1] * 1.5)
    axes.set_xticks(LUNA_RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
    axes.set_ylim(-0.01, 1.01)
    dress(axes, "Free-response curve", "False positives per image", "Sensitivity")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def detection_precision_figure(assessment: DetectionAssessment) -> Figure:
    """Draw precision against recall for each class at the IoU of the test; the point is the score threshold."""
    detections, estimates = assessment.detections, assessment.estimates
    figure = new_figure(1.25 * SIDE, SIDE)
    axes = figure.add_subplot()
    for label, name in enumerate(detections.labels):
        events = class_events(detections, label, threshold=assessment.overlap)
        if not events.num_truths.sum():
            continue
        scores, recall, precision = precision_recall(events)
        colour, dash = COLOURS[label % len(COLOURS)], DASHES[label // len(COLOURS) % len(DASHES)]
        key = "ap50" if len(detections.labels) == 1 else f"ap50_{name}"
        legend = f"{name}: AP50 {estimates[key].value:.3f}"
        axes.plot(recall, precision, dash, color=colour, label=legend)
        reported = np.flatnonzero(scores >= assessment.threshold)
        if len(reported):
            axes.plot(recall[reported[-1]], precision[reported[-1]], "o", color=colour)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    dress(axes, f"Precision-recall curve at IoU {assessment.overlap:g}", "Recall (sensitivity)", "Precision (PPV)")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def precision_recall(events: Events) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of the findings, best first, and recall and precision with each score as the threshold."""
    scores = np.concatenate([events.hit_scores, events.false_scores])
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(order < len(events.hit_scores))
    return scores[order], hits / events.num_truths.sum(), hits / np.arange(1, len(order) + 1)


def counting_figure(assessment: DetectionAssessment) -> Figure:
    """Draw found minus true counts against their mean, one point per image, with bias and limits of agreement."""
    detections, estimates = assessment.detections, assessment.estimates
    true = detections.truth_counts().sum(axis=1)
    found = detections.counts(assessment.threshold).sum(axis=1)
    figure = new_figure(1.25 * SIDE, SIDE)
    axes = figure.add_subplot()
    axes.plot((true + found) / 2, found - true, "o", color=COLOURS[0], markersize=4, alpha=0.6)
    for name, dash, text in (
        ("count_bias", "-", "bias"),
        ("count_low", "--", "limits of agreement"),
        ("count_high", "--", ""),
    ):
        estimate = estimates[name]
        if math.isfinite(estimate.value):
            label = f"{text} {estimate.value:+.2f}" if name == "count_bias" else text or None
            axes.axhline(estimate.value, color=COLOURS[1], linestyle=dash, label=label)
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    dress(axes, "Objects per image", "Mean of found and true", "Found minus true")
    axes.legend(fontsize=8, framealpha=0.9)
    return figure


def worst_images(assessment: DetectionAssessment, count: int = WORST) -> Integers:
    """The images with most missed objects and false positives together, worst first; only those with some."""
    errors = image_errors(assessment.detections, threshold=assessment.threshold, overlap=assessment.overlap)
    wrong = errors["missed"] + errors["false"]
    order = np.argsort(-wrong, kind="stable")[:count]
    return np.asarray(order[wrong[order] > 0], np.int64)


def worst_cases_figure(assessment: DetectionAssessment, read: Callable[[int], Image], *, count: int = WORST) -> Figure:
    """Draw the worst images with their boxes: objects found and missed, findings correct and false.

    Args:
        assessment: the test.
        read: gives an image by its number, in the pixels of the boxes.
        count: how many.
    """
    errors = image_errors(assessment.detections, threshold=assessment.threshold, overlap=assessment.overlap)
    pictures = {
        row: boxed(
            read(row),
            by_outcome(assessment.detections, row, threshold=assessment.threshold, overlap=assessment.overlap),
            side=PICTURE_SIDE,
        )
        for row in worst_images(assessment, count).tolist()
    }
    columns = min(3, max(1, len(pictures)))
    lines = max(1, math.ceil(len(pictures) / columns))
    tallest = max((picture.shape[0] / picture.shape[1] for picture in pictures.values()), default=1.0)
    figure = new_figure(4.2 * columns, (4.2 * tallest + 0.3) * lines + 0.4)
    for position, (row, picture) in enumerate(pictures.items(), start=1):
        axes = figure.add_subplot(lines, columns, position)
        axes.imshow(picture)
        axes.set_axis_off()
        counts = (
            f"{errors[key][row]:,} {name}"
            for key, name in (("hits", "found"), ("missed", "missed"), ("false", "false"))
        )
        axes.set_title(", ".join(counts), fontsize=9)
    handles = [
        Line2D([], [], color=colour, linestyle="--" if dashed else "-", linewidth=1.5 + strong, label=name)
        for name, colour, dashed, strong in OUTCOMES
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure
