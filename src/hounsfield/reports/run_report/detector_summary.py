"""What the report of a detector says in plain words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.detection import image_errors
from hounsfield.evaluation.detection_titles import detection_title
from hounsfield.reports.run_report.content import listed, number
from hounsfield.reports.run_report.wording import FEW, given_image, of_hundred, tested_on
from hounsfield.runs.record import DetectorRun

# A class or a size whose AP50 or AP is lower than another's by less is not called the weaker one.
NOTABLE = 0.05
# Crowded images are told apart where there are so many images.
ENOUGH = 8


def what_it_does(run: DetectorRun) -> str:
    """One or two sentences."""
    return (
        f"Given {given_image(run.bundle)}, the model draws boxes around objects ({listed(run.bundle.labels)}), each "
        f"with a score, and says those with a score of at least {run.bundle.threshold:.3g}; so it counts them too."
    )


def how_well(run: DetectorRun) -> Iterator[str]:
    """The main figures as counts of a hundred."""
    detections, estimates = run.shown.detections, run.estimates
    yield f"{tested_on(run)} They hold {len(detections.truth_classes):,} objects."
    yield (
        f"Of 100 objects it finds {of_hundred(run, 'recall')}, with {false_findings(run):.2g} false findings an image; "
        f"of 100 findings {of_hundred(run, 'precision')} are true. A finding is true when it covers its "
        "object (IoU of .5 or more)."
    )
    yield f"AP50 {number(estimates['ap50']['value'])}, AP {number(estimates['ap']['value'])}{_weakest(run)}."
    yield counting(run)


def false_findings(run: DetectorRun) -> float:
    """False findings an image with at least the threshold."""
    test = run.shown
    return float(image_errors(test.detections, threshold=test.threshold, overlap=test.overlap)["false"].mean())


def counting(run: DetectorRun) -> str:
    """How far its counts are off."""
    bias, error, low, high = (
        run.estimates[name]["value"] for name in ("count_bias", "count_mae", "count_low", "count_high")
    )
    told = f"Counts are off by {number(error, 2)} objects an image on average"
    if bias is not None:
        told += f", {abs(bias):.2f} too {'many' if bias > 0 else 'few'} taken together"
    if low is not None and high is not None:
        told += f"; in 95 of 100 images the count lies between {low:+.1f} and {high:+.1f} of the true one"
    return f"{told}."


def _weakest(run: DetectorRun) -> str:
    known = {label: run.estimates.get(f"ap50_{label}", {}).get("value") for label in run.bundle.labels}
    found = {label: value for label, value in known.items() if value is not None}
    if len(found) < 2:
        return ""
    worst = min(found, key=lambda label: found[label])
    return f"; the weakest class is '{worst}' (AP50 {found[worst]:.3f})"


def for_what_not(run: DetectorRun) -> Iterator[str]:
    """Which objects it serves worse."""
    sizes = {name: run.estimates.get(f"ap_{name}", {}) for name in ("small", "medium", "large")}
    known = {name: found["value"] for name, found in sizes.items() if found.get("value") is not None}
    if len(known) > 1:
        worst, best = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
        if known[best] - known[worst] > NOTABLE:
            # "AP, sides below 32" without its first word.
            worse, better = (detection_title(f"ap_{name}", ())[4:] for name in (worst, best))
            yield (
                f"Objects with {worse} pixels are found worse (AP {known[worst]:.3f}) than those with {better} "
                f"({known[best]:.3f})."
            )
    yield "Groups of patients have not been compared."


def when_not(run: DetectorRun) -> Iterator[str]:
    """When findings and counts are uncertain."""
    yield from _crowds(run)
    most = (run.bundle.detector or {}).get("max_detections")
    if most:
        yield f"The network gives at most {int(most):,} findings of one look at an image or a part of it."
    if run.bundle.counting is not None and run.bundle.counting.novelty is not None:
        yield "Images unlike those of training (other kinds, blank or inverted) are flagged: distrust their counts."
    yield "A score is no probability: it orders findings, and was not calibrated."


def _crowds(run: DetectorRun) -> Iterator[str]:
    """Whether objects are missed more often where there are many."""
    test = run.shown
    errors = image_errors(test.detections, threshold=test.threshold, overlap=test.overlap)
    objects = errors["hits"] + errors["missed"]
    middle = float(np.median(objects[objects > 0])) if objects.any() else 0.0
    crowded, others = objects > middle, (objects > 0) & (objects <= middle)
    if min(int(crowded.sum()), int(others.sum())) < ENOUGH:
        return
    parts = [100 * errors["hits"][rows].sum() / objects[rows].sum() for rows in (crowded, others)]
    yield f"In images with more than {middle:g} objects it finds {parts[0]:.0f} of 100, in the others {parts[1]:.0f}."


def rarest(run: DetectorRun) -> Iterator[str]:
    """What limits the figures of a detector beside what limits all."""
    counts = dict(zip(run.bundle.labels, run.shown.detections.truth_counts().sum(axis=0).tolist(), strict=True))
    few = [f"{label} ({count:,})" for label, count in counts.items() if count < FEW]
    if few:
        yield f"Of some classes there are few {run.split} objects, so their intervals are wide: {listed(few)}."
    yield "Objects that the annotators left out count as false findings, and boxes that they drew otherwise as misses."
