"""What the report of a classifier says in plain words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.curves import confusion_matrix
from hounsfield.evaluation.selective import decision_confidence, risk_coverage
from hounsfield.reports.run_report.content import listed, number
from hounsfield.reports.run_report.data import has_groups
from hounsfield.reports.run_report.wording import FEW, given_image, of_hundred, tested_on
from hounsfield.runs.record import ClassifierRun


def what_it_does(run: ClassifierRun) -> str:
    """One or two sentences."""
    bundle = run.bundle
    image = given_image(bundle)
    if bundle.task == "binary":
        negative, positive = bundle.labels
        return (
            f"Given {image}, the model gives the probability of '{positive}' against '{negative}', and says "
            f"'{positive}' when it is above {bundle.threshold:.3g}."
        )
    if bundle.task == "multi-class":
        return (
            f"Given {image}, the model gives a probability for each of {listed(bundle.labels)}, and says the "
            "most probable one."
        )
    return (
        f"Given {image}, the model gives a probability for each of {listed(bundle.labels)} by itself, and "
        f"says all that are above {bundle.threshold:.3g}."
    )


def how_well(run: ClassifierRun) -> Iterator[str]:
    """The main figures as counts of a hundred."""
    answers = run.shown.answers
    yield tested_on(run)
    if answers.task == "binary":
        yield from _binary(run)
    elif answers.task == "multi-class":
        yield from _classes(run)
    else:
        yield f"{_auc(run)} averaged over the labels; {_weakest(run, 'auc')}."


def _auc(run: ClassifierRun) -> str:
    found = run.estimates["auc"]
    ends = "" if found["low"] is None else f" ({found['low']:.3f} to {found['high']:.3f})"
    return f"AUC {number(found['value'])}{ends}"


def _binary(run: ClassifierRun) -> Iterator[str]:
    negative, positive = run.bundle.labels
    yield (
        f"Of 100 images with '{positive}' it finds {of_hundred(run, 'sensitivity')}; of 100 with '{negative}' it lets "
        f"{of_hundred(run, 'specificity')} pass and calls the others '{positive}'."
    )
    yield f"{_auc(run)}: so often an image with '{positive}' has the higher probability of two."
    rarer = min(int(run.shown.answers.truth.sum()), int((~run.shown.answers.truth).sum()))
    if rarer < FEW:
        yield f"Only {rarer:,} images of the rarer label were tested, so these figures are uncertain."


def _classes(run: ClassifierRun) -> Iterator[str]:
    yield f"Of 100 images it labels {of_hundred(run, 'accuracy')} rightly; {_auc(run)} averaged over the labels."
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


def _weakest(run: ClassifierRun, metric: str) -> str:
    known = {label: run.estimates.get(f"{metric}_{label}", {}).get("value") for label in run.bundle.labels}
    found = {label: value for label, value in known.items() if value is not None}
    if not found:
        return "no label could be judged by itself"
    worst = min(found, key=lambda label: found[label])
    title = {"auc": "AUC", "sensitivity": "share found"}[metric]
    return f"the weakest label is '{worst}' ({title} {found[worst]:.3f})"


def for_whom_not(run: ClassifierRun) -> Iterator[str]:
    """Which groups it serves worse."""
    bias = run.additions.get("bias")
    if bias is None and has_groups(run):
        yield f"Groups of patients have not been compared (hounsfield evaluate {run.testable} does it)."
    elif bias is None or not bias["attributes"]:
        yield "The data names no attribute such as sex, age or site, so no group could be compared."
    elif bias["findings"]:
        named = list(dict.fromkeys(str(finding["group"]) for finding in bias["findings"]))
        yield f"Its answers differ beyond chance for: {listed(named[:4])} (see Subgroups)."
    else:
        known = listed(bias["attributes"])
        yield f"No group by {known} differs beyond chance, which does not prove that all are served alike."
        if bias["too_small"]:
            yield f"{len(bias['too_small']):,} groups are too small to judge."


def when_not(run: ClassifierRun) -> Iterator[str]:
    """When the model had better not answer, and what it does then."""
    answers = run.shown.answers
    confidence, right = decision_confidence(answers, run.bundle.threshold)
    curve = risk_coverage(confidence, right)
    place = int(np.searchsorted(curve.coverage, 0.8 - 1e-9))
    yield (
        f"It answers every image unless told otherwise, and {100 * float(1 - right.mean()):.0f} of 100 answers are "
        f"wrong; when the least sure fifth is left to a person, {100 * float(curve.risk[place]):.0f} of 100 are."
    )
    if run.bundle.uncertainty is not None and run.bundle.uncertainty.novelty is not None:
        yield "Images unlike those of training (other kinds of images, blank or inverted ones) are flagged."


def rarest(run: ClassifierRun) -> Iterator[str]:
    """Whether the figures rest on few images of a label."""
    answers = run.shown.answers
    counts = answers.truth.sum(axis=0)
    least = int(min(counts.min(), (len(answers) - counts).min()))
    if least < FEW:
        yield f"The rarest label, or its absence, has only {least:,} {run.split} images: its intervals are wide."
