"""The report in plain words: what the model does, how well, for whom not, and when it does not answer."""

from __future__ import annotations

from collections.abc import Iterator

from hounsfield.reports.run_report import classifier_summary, detector_summary
from hounsfield.reports.run_report.content import Block, Callout, Outcomes, Section
from hounsfield.reports.run_report.data import shared_patients
from hounsfield.reports.run_report.wording import image_kind
from hounsfield.runs.record import DetectorRun, Run


def summary_section(run: Run) -> Section:
    """What a reader must know before anything else."""
    blocks: list[Block] = [
        Outcomes(
            (
                ("What does it do?", what_it_does(run)),
                ("How well?", " ".join(how_well(run))),
                ("For whom not?", " ".join(for_whom_not(run))),
                (uncertainty_question(run), " ".join(when_not(run))),
            )
        ),
        Callout(
            "warning",
            "Not a medical device",
            "These figures say how the model did on these images. They do not say that it is safe or useful in care; "
            "that takes a study where it shall be used.",
        ),
    ]
    return Section("summary", "In short", tuple(blocks))


def what_it_does(run: Run) -> str:
    """One or two sentences."""
    if isinstance(run, DetectorRun):
        return detector_summary.what_it_does(run)
    return classifier_summary.what_it_does(run)


def how_well(run: Run) -> Iterator[str]:
    """The main figures as counts of a hundred."""
    return detector_summary.how_well(run) if isinstance(run, DetectorRun) else classifier_summary.how_well(run)


def for_whom_not(run: Run) -> Iterator[str]:
    """Whom it serves worse, and for whom nothing is known."""
    if isinstance(run, DetectorRun):
        yield from detector_summary.for_what_not(run)
    else:
        yield from classifier_summary.for_whom_not(run)
    kind = image_kind(run.bundle)
    yield (
        f"It knows {f'{kind} images' if kind else 'images'} of the scanners and patients of its training data alone: "
        "test it on images of the place where it shall be used."
    )


def uncertainty_question(run: Run) -> str:
    """A classifier can abstain; what a detector says can only be distrusted."""
    return "When to distrust it?" if isinstance(run, DetectorRun) else "When should it not answer?"


def when_not(run: Run) -> Iterator[str]:
    """When the model had better not answer, and what it does then."""
    return detector_summary.when_not(run) if isinstance(run, DetectorRun) else classifier_summary.when_not(run)


def limitations(run: Run) -> list[str]:
    """What limits the figures, as far as a run can know it."""
    found = ["All images come from one source; no external test has been made with this report."]
    if run.split != "test":
        found.append("There are no test images: figures on validation images are too good.")
    if run.cohort["patient"].isna().any():
        found.append("Patients are not known for all images, so some may be on both sides of the split.")
    elif shared_patients(run.cohort):
        found.append("Some patients are in more than one split, so the figures are too good.")
    found += detector_summary.rarest(run) if isinstance(run, DetectorRun) else classifier_summary.rarest(run)
    if "bias" not in run.additions or not run.additions["bias"]["attributes"]:
        found.append("Subgroups of patients have not been compared.")
    if "robustness" not in run.additions:
        found.append("How the figures fall on worse images has not been measured.")
    if run.event("diagnosis").get("verdict") == "overfitting":
        found.append("The network overfits its training images somewhat.")
    found.append("Labels are taken as they are: how they were made, and how sure they are, is not known to the run.")
    return found
