"""The report in plain words: what the model does, how well, where not to use it, and what limits the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hounsfield.reports.base import Page
from hounsfield.reports.sections.content import Callout, Questions, Section
from hounsfield.reports.sections.data import shared_patients
from hounsfield.reports.sections.wording import image_kind, test_use, tested_where
from hounsfield.runs import RunRecord


def summary_section(run: RunRecord, page: Page[Any]) -> Section:
    """What a reader must know before anything else."""
    questions = Questions(
        (
            ("What is it for?", intended_use(run)),
            ("What does it do?", page.what_it_does(run)),
            ("How well?", " ".join(page.how_well(run))),
            ("Where should it not be used?", " ".join(where_not(run, page))),
            (page.distrust, " ".join(page.when_not(run))),
        )
    )
    cautions = [Callout("warning", "Do not take these figures at their word", text) for text in run.cautions]
    caution = Callout(
        "warning",
        "Not a medical device",
        "These figures describe how the model performed on these images. They do not show that it is safe or useful in "
        "care: that takes a study at the site where it is to be used.",
    )
    return Section("summary", "Summary", (*cautions, questions, caution))


def intended_use(run: RunRecord) -> str:
    """For which use and users its author intends the model."""
    told = run.about.answers(("intended_use", "users"))
    return told or "The intended use is not stated. Its author states it in about.yaml: hounsfield about RUN."


def where_not(run: RunRecord, page: Page[Any]) -> Iterator[str]:
    """Where the model performs worse, and where nothing is known."""
    if run.about.not_for:
        yield f"Not intended: {run.about.answers(('not_for',))}"
    yield from page.not_for(run)
    images = f"{image_kind(run.bundle)} images".strip()
    yield (
        f"It was trained only on {images} from the scanners and patients of its training data: test it on images of "
        "the site where it is to be used."
    )


def limitations(run: RunRecord, page: Page[Any]) -> list[str]:
    """What limits the figures, as far as a run can know it."""
    found = [f"{tested_where(run)} This report holds no external test."]
    if run.sealed:
        found = ["The test images are sealed: figures are on validation images, which chose the epoch, and too good."]
    elif run.split != "test":
        found = ["There are no test images, and figures on validation images are too good."]
    if not run.patients_known:
        found.append("Patients are not known for all images, so images of one patient may be in several splits.")
    elif shared_patients(run.cohort):
        found.append("Some patients are in more than one split, so the figures are too good.")
    found += run.cautions
    found += page.limits(run)
    if "bias" not in run.additions or not run.additions["bias"]["attributes"]:
        found.append("Patient groups have not been compared.")
    if "robustness" not in run.additions:
        found.append("The effect of lower image quality has not been measured.")
    if run.event("diagnosis").get("verdict") == "overfitting":
        found.append("The network overfits its training images.")
    if len(run.test_uses) > 1:
        found.append(f"{test_use(run)} Whoever chooses by them makes the figures too good.")
    if not run.about.reference_standard:
        found.append(
            "Labels are taken as they are: the run does not know how they were made, or how reliable they are."
        )
    return found
