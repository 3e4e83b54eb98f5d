"""The report on a network that finds objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from hounsfield.evaluation.detection import DetectionAssessment, image_errors
from hounsfield.evaluation.detection_titles import TITLES, class_figure, detection_title
from hounsfield.reports.base import Answer, Read
from hounsfield.reports.box_figures import (
    counting_figure,
    detection_precision_figure,
    free_response_figure,
    worst_cases_figure,
    worst_images,
)
from hounsfield.reports.sections.box_answers import ANSWERS, words
from hounsfield.reports.sections.box_cases import drawn_cases
from hounsfield.reports.sections.box_results import counting_section, detection_results_section, score_section
from hounsfield.reports.sections.box_training import training_section
from hounsfield.reports.sections.content import Block, Section, listed, number, of_hundred
from hounsfield.reports.sections.data import box_tables, label_counts
from hounsfield.reports.sections.wording import FEW, given_image, share_of, tested_on
from hounsfield.runs import BoxRun

# A class or size whose AP50 or AP is lower than another's by less than this is not called weaker.
NOTABLE = 0.05
# Images with many objects are compared with the others where there are so many of both.
ENOUGH = 8


class BoxPage:
    """What the report takes from boxes around objects; see ``base.Page``."""

    joined: ClassVar[str] = " and "
    tiles: ClassVar[Mapping[str, str]] = {
        "ap50": "AP50",
        "recall": "Sensitivity",
        "precision": "Precision",
        "count_mae": "Counting error per image",
    }
    titles: ClassVar[Mapping[str, str]] = TITLES
    card: ClassVar[tuple[str, ...]] = tuple(TITLES)
    chosen: ClassVar[str] = "the epoch and the score threshold"
    distrust: ClassVar[str] = "When should its findings be doubted?"
    cases_title: ClassVar[str] = "Cases"
    explains: ClassVar[bool] = False
    answers: ClassVar[Mapping[str, Answer]] = ANSWERS
    cases = staticmethod(drawn_cases)
    training = staticmethod(training_section)
    words = staticmethod(words)

    def what_it_does(self, run: BoxRun) -> str:
        """One or two sentences."""
        return (
            f"Given {given_image(run.bundle)}, the model draws boxes around objects ({listed(run.bundle.labels)}), "
            f"each with a score, and reports and counts those with a score of at least {run.bundle.threshold:.3g}."
        )

    def how_well(self, run: BoxRun) -> Iterator[str]:
        """The main figures as counts of 100."""
        detections, estimates = run.shown.detections, run.estimates
        yield f"{tested_on(run)} They hold {len(detections.truth_classes):,} objects."
        yield (
            f"Of 100 objects it finds {share_of(run, 'recall')}, with {_false_findings(run):.2g} false positives per "
            f"image; of 100 findings {share_of(run, 'precision')} are correct. A finding is correct when it overlaps "
            "its object with an IoU of at least .5."
        )
        yield f"AP50 {number(estimates['ap50']['value'])}, AP {number(estimates['ap']['value'])}{_weakest(run)}."
        yield _counting(run)

    def not_for(self, run: BoxRun) -> Iterator[str]:
        """Which objects it finds less well."""
        sizes = {name: run.estimates.get(f"ap_{name}", {}) for name in ("small", "medium", "large")}
        known = {name: found["value"] for name, found in sizes.items() if found.get("value") is not None}
        if len(known) > 1:
            worst, best = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
            if known[best] - known[worst] > NOTABLE:
                # "AP, sides below 32" without its first word.
                worse, better = (detection_title(f"ap_{name}", ())[4:] for name in (worst, best))
                yield (
                    f"Objects with {worse} pixels are found less well (AP {known[worst]:.3f}) than those with {better} "
                    f"pixels ({known[best]:.3f})."
                )
        yield "Patient groups have not been compared."

    def when_not(self, run: BoxRun) -> Iterator[str]:
        """When findings and counts are uncertain."""
        yield from _crowds(run)
        yield (
            f"The network returns at most {run.plan.max_detections:,} findings per image, or per window of a larger "
            "one."
        )
        if run.bundle.novelty is not None:
            yield (
                "Images unlike the training images (of another kind, blank or inverted) are flagged as out of "
                "distribution: do not rely on their counts."
            )
        yield "A score is not a probability: it ranks findings, and was not calibrated."

    def limits(self, run: BoxRun) -> Iterator[str]:
        """Rare classes, annotation, and what has no counterpart for boxes."""
        counts = dict(zip(run.bundle.labels, run.shown.detections.truth_counts().sum(axis=0).tolist(), strict=True))
        few = [f"{label} ({count:,})" for label, count in counts.items() if count < FEW]
        if few:
            yield f"Some classes have few {run.split} objects, so their intervals are wide: {listed(few)}."
        yield (
            "Objects that the annotators missed count as false positives, and boxes that they drew differently as "
            "missed objects."
        )
        yield (
            "Calibration, label sets, subgroups, robustness and heat maps concern the probability that an image has a "
            "label; for boxes they are not part of this report."
        )

    def card_facts(self, run: BoxRun) -> Iterator[str]:
        """The score threshold."""
        yield f"Score threshold: {run.bundle.threshold:.4g}"

    def truth(self, run: BoxRun) -> Iterator[Block]:
        """Images and objects by class and split, and the sides of boxes."""
        yield label_counts(run)
        yield from box_tables(run)

    def results(self, run: BoxRun) -> tuple[Section, ...]:
        """Figures, counts, and the score threshold."""
        return (
            detection_results_section(run, self.titles, self.chosen),
            counting_section(run),
            score_section(run),
        )

    def figures(self, assessment: DetectionAssessment, read: Read | None = None) -> dict[str, Figure]:
        """Every figure of a test; the worst cases where images can be read and some have errors."""
        figures = {
            "free_response": free_response_figure(assessment),
            "precision_recall": detection_precision_figure(assessment),
            "counts": counting_figure(assessment),
        }
        if read is not None and len(worst_images(assessment)):
            figures["worst_cases"] = worst_cases_figure(assessment, read)
        return figures


def _false_findings(run: BoxRun) -> float:
    """False positives per image at the threshold."""
    test = run.shown
    return float(image_errors(test.detections, threshold=test.threshold, overlap=test.overlap)["false"].mean())


def _counting(run: BoxRun) -> str:
    """How far counts are off."""
    bias, error, low, high = (
        run.estimates[name]["value"] for name in ("count_bias", "count_mae", "count_low", "count_high")
    )
    text = f"Counts are off by {number(error, 2)} objects per image on average"
    if bias is not None:
        text += f"; the bias is {bias:+.2f}"
    if low is not None and high is not None:
        text += f", and in 95 of 100 images the difference is between {low:+.1f} and {high:+.1f}"
    return f"{text}."


def _weakest(run: BoxRun) -> str:
    known = {label: run.estimates.get(class_figure("ap50", label), {}).get("value") for label in run.bundle.labels}
    found = {label: value for label, value in known.items() if value is not None}
    if len(found) < 2:
        return ""
    worst = min(found, key=lambda label: found[label])
    return f"; the weakest class is '{worst}' (AP50 {found[worst]:.3f})"


def _crowds(run: BoxRun) -> Iterator[str]:
    """Whether objects are missed more often where there are many."""
    test = run.shown
    errors = image_errors(test.detections, threshold=test.threshold, overlap=test.overlap)
    objects = errors["hits"] + errors["missed"]
    middle = float(np.median(objects[objects > 0])) if objects.any() else 0.0
    crowded, others = objects > middle, (objects > 0) & (objects <= middle)
    if min(int(crowded.sum()), int(others.sum())) < ENOUGH:
        return
    parts = [of_hundred(float(errors["hits"][rows].sum() / objects[rows].sum())) for rows in (crowded, others)]
    yield f"In images with more than {middle:g} objects it finds {parts[0]} of 100, in the others {parts[1]}."
