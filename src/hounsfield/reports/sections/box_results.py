"""The sections on the test of a detector: figures with intervals, curves, counts, the score threshold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from hounsfield.evaluation.counting import COVERAGE, count_intervals
from hounsfield.evaluation.detection import image_errors
from hounsfield.evaluation.detection_matching import class_events
from hounsfield.evaluation.detection_titles import TITLES, class_figure
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.evaluation.free_response import LUNA_RATES
from hounsfield.reports.box_figures import (
    counting_figure,
    detection_precision_figure,
    free_response_figure,
    precision_recall,
)
from hounsfield.reports.sections.content import (
    UNDEFINED,
    Block,
    Drawing,
    Paragraph,
    Section,
    Table,
    interval,
    number,
    percent,
    with_interval,
)
from hounsfield.reports.sections.metric_table import CURVE_POINTS, metric_table, on_what
from hounsfield.reports.svg import svg_of
from hounsfield.runs import BoxRun

# Scores that are shown beside the threshold in use.
SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)
CLOSE = 0.02
# Counts for which intervals are shown.
COUNTED = (0, 5, 20, 50)
BY_LABEL = ("ap", "ap50", "luna16")
COUNTS = ("count_bias", "count_mae", "count_low", "count_high")


def detection_results_section(run: BoxRun, titles: Mapping[str, str], chosen: str) -> Section:
    """Every figure with its interval, by class and by size, and curves."""
    objects = len(run.shown.detections.truth_classes)
    blocks: list[Block] = [
        Paragraph(f"{on_what(run)} The images hold {objects:,} objects."),
        metric_table(run, titles, chosen),
        Paragraph(
            "AP: average precision, the mean precision over all recalls, averaged over classes and over IoU "
            "thresholds of .50 to .95 as in COCO; AP50 and AP75 use one IoU threshold; sides are in pixels. LUNA16 "
            "score: the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives (FP) per image."
        ),
        *_class_table(run),
        *_curves(run),
    ]
    return Section("results", "Results", tuple(blocks))


def _class_table(run: BoxRun) -> Iterator[Table]:
    labels = run.bundle.labels
    if len(labels) < 2:
        return
    objects = run.shown.detections.truth_counts().sum(axis=0)
    rows = [
        (
            label,
            f"{int(count):,}",
            *(with_interval(run.estimates.get(class_figure(name, label), {})) for name in BY_LABEL),
        )
        for label, count in zip(labels, objects, strict=True)
    ]
    yield Table("Each class", ("class", "objects", *(TITLES[name] for name in BY_LABEL)), tuple(rows))


def _curves(run: BoxRun) -> Iterator[Drawing]:
    rates = [(f"{rate:g}", with_interval(run.estimates[f"sensitivity_fp_{rate:g}"])) for rate in LUNA_RATES]
    yield Drawing(
        svg_of(free_response_figure(run.shown), "froc", "Free-response curve"),
        "Sensitivity against false positives per image, at every score threshold. Points: all classes together, with "
        "95 % intervals.",
        Table("", ("false positives per image", "sensitivity"), tuple(rates)),
    )
    yield Drawing(
        svg_of(detection_precision_figure(run.shown), "pr", "Precision-recall curve"),
        "Share of correct findings against sensitivity, at every score threshold; the point is the threshold in use.",
        _precision_table(run),
    )


def _precision_table(run: BoxRun) -> Table:
    test, rows = run.shown, []
    for label, name in enumerate(test.detections.labels):
        events = class_events(test.detections, label, threshold=test.overlap)
        if events.num_truths.sum():
            _, recall, precision = precision_recall(events)
            best = [float(precision[recall >= at].max(initial=0.0)) for at in CURVE_POINTS]
            rows.append((name, *map(number, best)))
    return Table("", ("precision at recall of", *(f"{at:g}" for at in CURVE_POINTS)), tuple(rows))


def counting_section(run: BoxRun) -> Section:
    """How well objects are counted, and how certain a new count is."""
    labels = run.bundle.labels
    rows = [("all classes", *_counted(run, COUNTS))]
    if len(labels) > 1:
        rows += [(label, *_counted(run, [class_figure(name, label) for name in COUNTS])) for label in labels]
    blocks: tuple[Block, ...] = (
        Drawing(
            svg_of(counting_figure(run.shown), "counts", "Difference of found and true counts against their mean"),
            "Each point is an image; the lines are the bias and the 95 % limits of agreement (Bland and Altman 1986).",
        ),
        Table(
            "Objects per image, found minus true",
            ("", "bias", "mean absolute error", "limits of agreement"),
            tuple(rows),
            "With 95 % intervals; those of the limits are in Results. A bias that grows with the number of objects "
            "shows in the figure, not in the mean.",
            beside=True,
        ),
    )
    return Section("counting", "Counting", (*blocks, *_promised(run)))


def _promised(run: BoxRun) -> Iterator[Table]:
    """Prediction intervals of a new count, from the validation images in the bundle."""
    kept = run.bundle.kept(DetectionUncertainty)
    if kept is None or not len(kept.counts_true):
        return
    rows = []
    for column, label in enumerate(run.bundle.labels):
        true, found = kept.counts_true[:, column], kept.counts_found[:, column]
        low, high = count_intervals(true, found, np.array(COUNTED))
        ends = zip(low, high, strict=True)
        rows.append(
            (label, *(f"{least:.0f} to {most:.0f}" if np.isfinite(most) else UNDEFINED for least, most in ends))
        )
    yield Table(
        "Prediction intervals of a new count",
        ("class", *(f"{count} found" for count in COUNTED)),
        tuple(rows),
        f"The true number is between these in {percent(COVERAGE)} of images like the {len(kept.counts_true):,} "
        "validation images (split conformal). hounsfield predict RUN INPUT --counts FILE gives them for each image.",
    )


def _counted(run: BoxRun, names: Sequence[str]) -> tuple[str, str, str]:
    found = [run.estimates.get(name, {}) for name in names]
    limits = interval(found[2].get("value"), found[3].get("value"), 2)
    return with_interval(found[0], 2), with_interval(found[1], 2), limits


def score_section(run: BoxRun) -> Section:
    """The score threshold in use, and the effect of others."""
    in_use = cast("float", run.bundle.threshold)  # a detector has one for all labels
    scores = [(in_use, " (in use)"), *((score, "") for score in SCORES if abs(score - in_use) > CLOSE)]
    rows = [(f"{score:.3g}{name}", *_at(run, score)) for score, name in sorted(scores)]
    blocks = (
        Paragraph(
            f"Score threshold {in_use:.3g}: the best F1 on validation images, chosen before the test images were used."
        ),
        Table(
            f"Other score thresholds, and their effect on {run.split} images",
            ("threshold", "sensitivity", "precision", "false positives per image", "counting bias"),
            tuple(rows),
            "To use another threshold: hounsfield predict RUN INPUT --threshold T. Choose it on other images than "
            "these.",
        ),
    )
    return Section("operating", "Score threshold", blocks)


def _at(run: BoxRun, score: float) -> Iterator[str]:
    test = run.shown
    errors = image_errors(test.detections, threshold=score, overlap=test.overlap)
    hits, missed, false = (int(errors[name].sum()) for name in ("hits", "missed", "false"))
    yield number(hits / (hits + missed) if hits + missed else None)
    yield number(hits / (hits + false) if hits + false else None)
    yield number(false / test.detections.num_images, 2)
    yield f"{float(np.mean(errors['false'] - errors['missed'])):+.2f}"
