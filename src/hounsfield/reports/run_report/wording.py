"""Sentences that the summaries of classifiers and of detectors share."""

from __future__ import annotations

from hounsfield.bundle import Bundle
from hounsfield.reports.run_report.content import listed
from hounsfield.runs.record import Run

# Fewer test images with or without a label, or fewer objects of it, than this leave any figure wide open.
FEW = 50


def given_image(bundle: Bundle) -> str:
    """What the model is given, with its article: "an MR volume"."""
    kind = image_kind(bundle)
    image = f"{kind} image".strip() if len(bundle.input_shape) == 3 else f"{kind} volume".strip()
    article = "an" if image[0].lower() in "aeio" else "a"
    return f"{article} {image}"


def image_kind(bundle: Bundle) -> str:
    """The modality of the training images, or modalities; empty where unknown."""
    return bundle.modality or listed(bundle.source_range.modalities)


def tested_on(run: Run) -> str:
    """On how many images of how many patients the figures are."""
    seen = "that it had never seen" if run.split == "test" else "that also chose its epoch"
    return f"It was tested on {run.num_cases:,} {run.split} images{of_patients(run)} {seen}."


def of_patients(run: Run) -> str:
    """How many patients the tested images are of, " of 12 patients"; empty where that is not known."""
    return "" if run.num_patients is None else f" of {run.num_patients:,} patients"


def of_hundred(run: Run, metric: str) -> str:
    """A share as a count of a hundred, with its interval."""
    found = run.estimates[metric]
    if found["value"] is None:
        return "an unknown number"
    low, high = (found["low"], found["high"])
    ends = "" if low is None else f" (95 % interval {100 * low:.0f} to {100 * high:.0f})"
    return f"{100 * found['value']:.0f}{ends}"
