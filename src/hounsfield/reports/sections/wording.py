"""Sentences that the summaries of several families share."""

from __future__ import annotations

from typing import Any

from hounsfield.bundle import Bundle
from hounsfield.reports.sections.content import UNDEFINED, listed, of_hundred, unreliable
from hounsfield.reports.sections.data import shared_patients
from hounsfield.runs import RunRecord

# Fewer test images with or without a label, or fewer objects, than this leave any figure uncertain.
FEW = 50
# Columns that say where an image was taken.
SOURCES = {"site", "hospital", "institution", "centre", "center"}


def given_image(bundle: Bundle) -> str:
    """What the model is given, with its article: "an MR volume"."""
    kind = image_kind(bundle)
    image = f"{kind} image".strip() if len(bundle.input_shape) == 3 else f"{kind} volume".strip()
    # An abbreviation that is read letter by letter: an MR volume, an X-ray image, but a US image.
    spelled = kind.split(" ")[0].isupper()
    article = "an" if image[0] in ("AEFHILMNORSX" if spelled else "aeioAEIO") else "a"
    return f"{article} {image}"


def image_kind(bundle: Bundle) -> str:
    """The modality of the training images, or modalities; empty where unknown."""
    return bundle.modality or listed(bundle.source_range.modalities)


def network_text(run: RunRecord) -> str:
    """The network with its width, and its companion if it has one: "resnet18 of width 32"."""
    plan: Any = run.plan
    told: str = plan.network + (f" of width {plan.width}" if plan.width else "")
    if getattr(plan, "companion", None) is None:
        return told
    if not run.has_companions:
        return f"{told}, without the companion of the plan, since the training was interrupted"
    return f"{told}, averaged with {plan.companion.network} of width {plan.companion.width} trained from scratch"


def tested_on(run: RunRecord) -> str:
    """How many images of how many patients the figures are from."""
    if run.split != "test":
        told = "which also chose the training epoch" + (", since the test images are sealed" if run.sealed else "")
    elif run.patients_known and not shared_patients(run.cohort):
        told = "of patients that it had not seen in training" if run.num_patients is None else "not seen in training"
    else:
        told = "that were not used in training"
    comma = "," if told.startswith("which") else ""
    return f"It was tested on {run.num_cases:,} {run.split} images{of_patients(run)}{comma} {told}."


def tested_where(run: RunRecord) -> str:
    """Whether training and test images are known to be of one source, or of several, as a sentence."""
    chosen = run.environment["data"].get("test_on")
    if chosen:
        return f"Test images are those with {chosen}, and the others trained."
    trained, tested = run.rows("train"), run.rows(run.split)
    for column in map(str, run.cohort.columns):
        if column.lower() in SOURCES and trained[column].notna().all() and tested[column].notna().all():
            apart = set(trained[column]).isdisjoint(set(tested[column]))
            return f"Training and {run.split} images are of {'other' if apart else 'the same'} levels of '{column}'."
    return "Training and test images come from one DATA; whether of one source is not recorded."


def of_patients(run: RunRecord) -> str:
    """How many patients the tested images are of, " of 12 patients"; empty where that is unknown."""
    return "" if run.num_patients is None else f" of {run.num_patients:,} patients"


def missed_of(run: RunRecord, metric: str) -> str:
    """What is lacking of a metric that is a share, as a count of 1,000, with its interval."""
    found = run.estimates[metric]
    if found["value"] is None:
        return "an unknown number"
    text = f"{1000 * (1 - found['value']):.0f}"
    if found["low"] is None:
        return text
    ends = f"{1000 * (1 - found['high']):.0f} to {1000 * (1 - found['low']):.0f}"
    return f"{text} (95 % interval {ends}{unreliable(found)})"


def share_of(run: RunRecord, metric: str) -> str:
    """A metric that is a share as a count of 100, with its interval."""
    found = run.estimates[metric]
    text = of_hundred(found["value"])
    if text == UNDEFINED:
        return "an unknown number"
    if found["low"] is None:
        return text
    return f"{text} (95 % interval {of_hundred(found['low'])} to {of_hundred(found['high'])}{unreliable(found)})"


def test_use(run: RunRecord) -> str:
    """How often figures were computed on the run's test images, and since when; whether they were sealed."""
    if run.sealed:
        return "The test images are sealed: nothing was computed on them."
    uses, opened = run.test_uses, run.event("seal opened")
    if run.split != "test" or not uses:
        return "There is no test." if run.split != "test" else "Uses of the test images were not counted."
    sealed = f"The test images were sealed in training and opened on {str(opened.get('time'))[:10]}. " if opened else ""
    times = "once" if len(uses) == 1 else f"{len(uses):,} times"
    by = listed(sorted({str(use.get("by", "a command")) for use in uses}))
    first, last = str(uses[0].get("time"))[:10], str(uses[-1].get("time"))[:10]
    days = f"on {first}" if first == last else f"from {first} to {last}"
    return f"{sealed}Figures were computed on the test images {times} ({by}), {days}."
