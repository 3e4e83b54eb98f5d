"""The report in plain words: what the model does, how well, for whom not, and when it does not answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.curves import confusion_matrix
from hounsfield.evaluation.selective import decision_confidence, risk_coverage
from hounsfield.reports.run_report.content import Answers, Block, Callout, Section, listed, number
from hounsfield.reports.run_report.data import shared_patients
from hounsfield.reports.run_report.record import RunRecord

# Fewer test images with or without the label than this leave any figure wide open.
FEW = 50


def summary_section(run: RunRecord) -> Section:
    """What a reader must know before anything else."""
    blocks: list[Block] = [
        Answers(
            (
                ("What does it do?", what_it_does(run)),
                ("How well?", " ".join(how_well(run))),
                ("For whom not?", " ".join(for_whom_not(run))),
                ("When should it not answer?", " ".join(when_not(run))),
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


def what_it_does(run: RunRecord) -> str:
    """One or two sentences."""
    bundle = run.bundle
    kind = bundle.modality or listed(bundle.source_range.modalities)
    image = f"{kind} image".strip() if len(bundle.input_shape) == 3 else f"{kind} volume".strip()
    article = "an" if image[0].lower() in "aeio" else "a"
    if bundle.task == "binary":
        negative, positive = bundle.labels
        return (
            f"Given {article} {image}, the model gives the probability of '{positive}' against '{negative}', and says "
            f"'{positive}' when it is above {bundle.threshold:.3g}."
        )
    if bundle.task == "multi-class":
        return (
            f"Given {article} {image}, the model gives a probability for each of {listed(bundle.labels)}, and says the "
            "most probable one."
        )
    return (
        f"Given {article} {image}, the model gives a probability for each of {listed(bundle.labels)} by itself, and "
        f"says all that are above {bundle.threshold:.3g}."
    )


def how_well(run: RunRecord) -> Iterator[str]:
    """The main figures as counts of a hundred."""
    answers = run.shown.answers
    patients = f" of {len(set(run.shown.groups)):,} patients" if run.shown.groups is not None else ""
    seen = "that it had never seen" if run.split == "test" else "that also chose its epoch"
    yield f"It was tested on {len(answers):,} {run.split} images{patients} {seen}."
    if answers.task == "binary":
        yield from _binary(run)
    elif answers.task == "multi-class":
        yield from _classes(run)
    else:
        yield f"{_auc(run)} averaged over the labels; {_weakest(run, 'auc')}."


def _of_hundred(run: RunRecord, metric: str) -> str:
    found = run.estimates[metric]
    if found["value"] is None:
        return "an unknown number"
    low, high = (found["low"], found["high"])
    ends = "" if low is None else f" (95 % interval {100 * low:.0f} to {100 * high:.0f})"
    return f"{100 * found['value']:.0f}{ends}"


def _auc(run: RunRecord) -> str:
    found = run.estimates["auc"]
    ends = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"AUC {number(found['value'])}{ends}"


def _binary(run: RunRecord) -> Iterator[str]:
    negative, positive = run.bundle.labels
    yield (
        f"Of 100 images with '{positive}' it finds {_of_hundred(run, 'sensitivity')}; of 100 with '{negative}' it lets "
        f"{_of_hundred(run, 'specificity')} pass and calls the others '{positive}'."
    )
    yield f"{_auc(run)}: so often an image with '{positive}' has the higher probability of two."
    rarer = min(int(run.shown.answers.truth.sum()), int((~run.shown.answers.truth).sum()))
    if rarer < FEW:
        yield f"Only {rarer:,} images of the rarer label were tested, so these figures are uncertain."


def _classes(run: RunRecord) -> Iterator[str]:
    yield f"Of 100 images it labels {_of_hundred(run, 'accuracy')} rightly; {_auc(run)} averaged over the labels."
    yield f"{_weakest(run, 'sensitivity').capitalize()}."
    answers = run.shown.answers
    counts = confusion_matrix(answers)
    np.fill_diagonal(counts, 0)
    if counts.sum():
        truth, said = np.unravel_index(int(counts.argmax()), counts.shape)
        yield (
            f"The most frequent mistake is '{answers.labels[said]}' for '{answers.labels[truth]}' "
            f"({int(counts.max()):,} times)."
        )


def _weakest(run: RunRecord, metric: str) -> str:
    known = {label: run.estimates.get(f"{metric}_{label}", {}).get("value") for label in run.bundle.labels}
    found = {label: value for label, value in known.items() if value is not None}
    if not found:
        return "no label could be judged by itself"
    worst = min(found, key=lambda label: found[label])
    title = {"auc": "AUC", "sensitivity": "share found"}[metric]
    return f"the weakest label is '{worst}' ({title} {found[worst]:.3f})"


def for_whom_not(run: RunRecord) -> Iterator[str]:
    """Whom it serves worse, and for whom nothing is known."""
    bias = run.additions.get("bias")
    if bias is None:
        yield "Groups of patients have not been compared (hounsfield evaluate RUN does it)."
    elif bias["findings"]:
        named = list(dict.fromkeys(str(finding["group"]) for finding in bias["findings"]))
        yield f"Its answers differ beyond chance for: {listed(named[:4])} (see Subgroups)."
    elif bias["attributes"]:
        known = listed(bias["attributes"])
        yield f"No group by {known} differs beyond chance, which does not prove that all are served alike."
        if bias["too_small"]:
            yield f"{len(bias['too_small']):,} groups are too small to judge."
    else:
        yield "The data names no attribute such as sex, age or site, so no group could be compared."
    bundle = run.bundle
    kind = bundle.modality or listed(bundle.source_range.modalities)
    yield (
        f"It knows {f'{kind} images' if kind else 'images'} of the scanners and patients of its training data alone: "
        "test it on images of the place where it shall be used."
    )


def when_not(run: RunRecord) -> Iterator[str]:
    """When the model had better not answer, and what it does then."""
    answers = run.shown.answers
    confidence, right = decision_confidence(answers, run.bundle.threshold)
    curve = risk_coverage(confidence, right)
    place = int(np.searchsorted(curve.coverage, 0.8 - 1e-9))
    yield (
        f"It answers every image unless told otherwise, and {100 * float(1 - right.mean()):.0f} of 100 answers are "
        f"wrong; when the least sure fifth is left to a person, {100 * float(curve.risk[place]):.0f} of 100 are."
    )
    if run.bundle.doubt is not None and run.bundle.doubt.novelty is not None:
        yield "Images unlike those of training (other kinds of images, blank or inverted ones) are flagged."


def limitations(run: RunRecord) -> list[str]:
    """What limits the figures, as far as a run can know it."""
    answers = run.shown.answers
    found = ["All images come from one source; no external test has been made with this report."]
    if run.split != "test":
        found.append("There are no test images: figures on validation images are too good.")
    if run.cohort["patient"].isna().any():
        found.append("Patients are not known for all images, so some may be on both sides of the split.")
    elif shared_patients(run.cohort):
        found.append("Some patients are in more than one split, so the figures are too good.")
    counts = answers.truth.sum(axis=0)
    least = int(min(counts.min(), (len(answers) - counts).min()))
    if least < FEW:
        found.append(
            f"The rarest label, or its absence, has only {least:,} {run.split} images: its intervals are wide."
        )
    if "bias" not in run.additions or not run.additions["bias"]["attributes"]:
        found.append("Subgroups of patients have not been compared.")
    if "robustness" not in run.additions:
        found.append("How the figures fall on worse images has not been measured.")
    if run.event("diagnosis").get("verdict") == "overfitting":
        found.append("The network overfits its training images somewhat.")
    found.append("Labels are taken as they are: how they were made, and how sure they are, is not known to the run.")
    return found
