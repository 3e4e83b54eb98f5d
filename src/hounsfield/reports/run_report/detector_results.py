"""The sections on what the test of a detector says: figures with intervals, curves, counts, the score in use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.counting import COVERAGE, count_intervals
from hounsfield.evaluation.detection import image_errors
from hounsfield.evaluation.detection_matching import class_events
from hounsfield.evaluation.detection_titles import TITLES
from hounsfield.evaluation.free_response import LUNA_RATES
from hounsfield.reports.detection import (
    counting_figure,
    detection_precision_figure,
    free_response_figure,
    precision_recall,
)
from hounsfield.reports.run_report.content import (
    UNDEFINED,
    Block,
    Callout,
    Drawing,
    Paragraph,
    Section,
    Table,
    interval,
    number,
    percent,
    with_interval,
)
from hounsfield.reports.run_report.results import CURVE_POINTS, metric_table, on_what
from hounsfield.reports.svg import svg_of
from hounsfield.runs.record import DetectorRun

# Scores that are shown beside the one in use.
SCORES = (0.1, 0.3, 0.5, 0.7, 0.9)
CLOSE = 0.02
# Counts for which intervals are shown.
COUNTED = (0, 5, 20, 50)
BY_LABEL = ("ap", "ap50", "luna16")
COUNTS = ("count_bias", "count_mae", "count_low", "count_high")


def detection_results_section(run: DetectorRun) -> Section:
    """Every figure with its interval, by class and by size, and curves."""
    objects = len(run.shown.detections.truth_classes)
    blocks: list[Block] = [
        Paragraph(f"{on_what(run)} The images hold {objects:,} objects."),
        metric_table(run, TITLES, "the epoch and the score from which findings are said"),
        Paragraph(
            "AP: average precision, the mean over recalls of how many findings are true, averaged over classes and "
            "over overlaps (IoU) of .50 to .95 as COCO does; AP50 and AP75 at one overlap; sides are in pixels. LUNA16 "
            "score: the mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false findings an image."
        ),
        *_class_table(run),
        *_curves(run),
    ]
    return Section("results", "Results", tuple(blocks))


def _class_table(run: DetectorRun) -> Iterator[Table]:
    labels = run.bundle.labels
    if len(labels) < 2:
        return
    objects = run.shown.detections.truth_counts().sum(axis=0)
    rows = [
        (label, f"{int(count):,}", *(with_interval(run.estimates.get(f"{name}_{label}", {})) for name in BY_LABEL))
        for label, count in zip(labels, objects, strict=True)
    ]
    yield Table("Each class", ("class", "objects", *(TITLES[name] for name in BY_LABEL)), tuple(rows))


def _curves(run: DetectorRun) -> Iterator[Drawing]:
    rates = [(f"{rate:g}", with_interval(run.estimates[f"sensitivity_fp_{rate:g}"])) for rate in LUNA_RATES]
    yield Drawing(
        svg_of(free_response_figure(run.shown), "froc", "Free-response curve"),
        "How many objects are found, against how many false findings an image come with them, at every score. Points: "
        "all classes together, with 95 % intervals.",
        Table("", ("false findings an image", "sensitivity"), tuple(rates)),
    )
    yield Drawing(
        svg_of(detection_precision_figure(run.shown), "pr", "Precision-recall curve"),
        "How many of the findings are true, against how many objects are found, at every score; the point is the score "
        "in use.",
        _precision_table(run),
    )


def _precision_table(run: DetectorRun) -> Table:
    test, rows = run.shown, []
    for label, name in enumerate(test.detections.labels):
        events = class_events(test.detections, label, threshold=test.overlap)
        if events.num_truths.sum():
            _, recall, precision = precision_recall(events)
            best = [float(precision[recall >= at].max(initial=0.0)) for at in CURVE_POINTS]
            rows.append((name, *map(number, best)))
    return Table("", ("precision at recall of", *(f"{at:g}" for at in CURVE_POINTS)), tuple(rows))


def counting_section(run: DetectorRun) -> Section:
    """How well the number of findings tells the number of objects, and how sure a new count is."""
    labels = run.bundle.labels
    names = ["all classes", *(labels if len(labels) > 1 else ())]
    endings = ["", *(f"_{label}" for label in labels)][: len(names)]
    rows = [(name, *_counted(run, ending)) for name, ending in zip(names, endings, strict=True)]
    blocks: tuple[Block, ...] = (
        Drawing(
            svg_of(counting_figure(run.shown), "counts", "Found less true objects against their mean"),
            "Each point is an image; the lines are the bias and the limits between which 95 of 100 images lie (Bland "
            "and Altman 1986).",
        ),
        Table(
            "Objects an image, found less true",
            ("", "bias", "mean absolute error", "limits of agreement"),
            tuple(rows),
            "With 95 % intervals; those of the limits stand in Results. A bias that rises with the number of objects "
            "shows in the figure, not in the mean.",
            beside=True,
        ),
    )
    return Section("counting", "Counting", (*blocks, *_promised(run)))


def _promised(run: DetectorRun) -> Iterator[Table]:
    """Between which numbers the true one lies when so many are found, by what the bundle keeps of validation."""
    kept = run.bundle.counting
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
        "What a count says of a new image",
        ("class", *(f"{count} found" for count in COUNTED)),
        tuple(rows),
        f"The true number lies between these in {percent(COVERAGE)} of images like the {len(kept.counts_true):,} of "
        "validation (split-conformal). hounsfield predict RUN INPUT --counts FILE gives them for each image.",
    )


def _counted(run: DetectorRun, ending: str) -> tuple[str, str, str]:
    found = [run.estimates.get(f"{figure}{ending}", {}) for figure in COUNTS]
    limits = interval(found[2].get("value"), found[3].get("value"), 2)
    return with_interval(found[0], 2), with_interval(found[1], 2), limits


def score_section(run: DetectorRun) -> Section:
    """The score from which a finding is said, and what others do."""
    in_use = run.bundle.threshold
    scores = [(in_use, " (in use)"), *((score, "") for score in SCORES if abs(score - in_use) > CLOSE)]
    rows = [(f"{score:.3g}{name}", *_at(run, score)) for score, name in sorted(scores)]
    blocks = (
        Paragraph(
            f"A finding is said from a score of {in_use:.3g} on. It was chosen on validation images, where it has the "
            "greatest F1, before the test images were looked at."
        ),
        Table(
            f"Other scores, and what they do on {run.split} images",
            ("score", "objects found", "findings that are true", "false findings an image", "counting bias"),
            tuple(rows),
            "Another one is used by: hounsfield predict RUN INPUT --threshold T. Choose it on other images than these.",
        ),
    )
    return Section("operating", "The score in use", blocks)


def _at(run: DetectorRun, score: float) -> Iterator[str]:
    test = run.shown
    errors = image_errors(test.detections, threshold=score, overlap=test.overlap)
    hits, missed, false = (int(errors[name].sum()) for name in ("hits", "missed", "false"))
    yield number(hits / (hits + missed) if hits + missed else None)
    yield number(hits / (hits + false) if hits + false else None)
    yield number(false / test.detections.num_images, 2)
    yield f"{float(np.mean(errors['false'] - errors['missed'])):+.2f}"


def left_out_section() -> Section:
    """What the report of a classifier has and that of a detector has not."""
    told = Callout(
        "note",
        "What this report does not hold",
        "Calibration, sets of labels, groups of patients, worse images and heat maps are about the probability that an "
        "image has a label, which a detector does not give; they have not been carried over to boxes.",
    )
    return Section("left-out", "Left out", (told,))
