"""The report on a network that labels whole images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from hounsfield.evaluation.assessment import Assessment
from hounsfield.evaluation.curves import confusion_matrix
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.selective import decision_confidence, risk_coverage
from hounsfield.reports.base import Answer, Read
from hounsfield.reports.figures import (
    confusion_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    score_histogram,
)
from hounsfield.reports.sections.certainty import calibration_section, uncertainty_section
from hounsfield.reports.sections.clinical import clinical_section
from hounsfield.reports.sections.content import Block, Section, listed, lowered, number, of_hundred
from hounsfield.reports.sections.data import has_groups, label_counts, label_shares
from hounsfield.reports.sections.evidence import evidence
from hounsfield.reports.sections.groups import robustness_section, subgroup_section
from hounsfield.reports.sections.label_answers import ANSWERS, words
from hounsfield.reports.sections.label_results import results_section
from hounsfield.reports.sections.label_training import training_section
from hounsfield.reports.sections.operating import operating_section
from hounsfield.reports.sections.wording import FEW, given_image, missed_of, share_of, tested_on
from hounsfield.runs import LabelRun
from hounsfield.tasks import TASKS, LabelTask, label_kind, threshold_text, thresholds

# What the model puts out and predicts.
OUTPUTS: dict[LabelTask, str] = {
    "binary": (
        "Given {image}, the model gives the probability of '{positive}' as opposed to '{negative}', and predicts "
        "'{positive}' when it is above {threshold}."
    ),
    "multi-class": (
        "Given {image}, the model gives a probability for each of {labels}, and predicts the most probable one."
    ),
    "multi-label": (
        "Given {image}, the model gives a separate probability for each of {labels}, and predicts every label whose "
        "probability is above {threshold}."
    ),
}


class LabelPage:
    """What the report takes from labels of whole images; see ``base.Page``."""

    joined: ClassVar[str] = " or "
    tiles: ClassVar[Mapping[str, str]] = {
        name: METRICS[name].title for name in ("auc", "accuracy", "sensitivity", "specificity", "ppv", "npv")
    }
    titles: ClassVar[Mapping[str, str]] = {name: metric.title for name, metric in METRICS.items()}
    card: ClassVar[tuple[str, ...]] = (
        "auc",
        "average_precision",
        "accuracy",
        "balanced_accuracy",
        "sensitivity",
        "specificity",
        "ppv",
        "npv",
        "ece",
    )
    chosen: ClassVar[str] = "the epoch, the calibration and the threshold"
    distrust: ClassVar[str] = "When should it not answer?"
    cases_title: ClassVar[str] = "Evidence"
    explains: ClassVar[bool] = True
    answers: ClassVar[Mapping[str, Answer]] = ANSWERS
    cases = staticmethod(evidence)
    training = staticmethod(training_section)
    words = staticmethod(words)

    def what_it_does(self, run: LabelRun) -> str:
        """One sentence."""
        image, labels, threshold = (
            given_image(run.bundle),
            run.bundle.labels,
            threshold_text(run.bundle.threshold, run.bundle.labels),
        )
        return OUTPUTS[label_kind(run.bundle.task)].format(
            image=image, labels=listed(labels), negative=labels[0], positive=labels[-1], threshold=threshold
        )

    def how_well(self, run: LabelRun) -> Iterator[str]:
        """The main figures as counts of 100."""
        yield tested_on(run)
        yield from FIGURES[label_kind(run.bundle.task)](run)
        if not TASKS[run.bundle.task].multi_label:
            # Those that are not sound stand above everything else.
            yield from (verdict.text() for verdict in run.verdicts if verdict.sound)

    def not_for(self, run: LabelRun) -> Iterator[str]:
        """Which groups it serves worse."""
        bias = run.additions.get("bias")
        if bias is None and has_groups(run):
            yield f"Patient groups have not been compared; hounsfield evaluate {run.testable} does it."
        elif bias is None or not bias["attributes"]:
            yield "The data has no attribute such as sex, age or site, so no groups could be compared."
        elif bias["findings"]:
            named = list(dict.fromkeys(str(finding["group"]) for finding in bias["findings"]))
            yield f"Its performance differs beyond chance for {listed(named[:4])} (see Subgroups)."
        else:
            known = listed(bias["attributes"])
            yield f"No difference between groups by {known} is beyond chance, which does not prove that there is none."
            if open_gaps := bias.get("not_excluded"):
                widest = max(open_gaps, key=lambda gap: max(abs(gap["low"]), abs(gap["high"])))
                yield (
                    f"Not excluded is a gap of {lowered(METRICS[widest['metric']].title)} of {widest['group']} from "
                    f"{widest['low']:+.2f} to {widest['high']:+.2f}; Subgroups has the patients that would show one."
                )
            if bias["too_small"]:
                yield f"{len(bias['too_small']):,} groups are too small to judge."
        readable = [str(probe["attribute"]) for probe in (bias or {}).get("probes") or () if probe["readable"]]
        if readable:
            yield f"Its features reveal {listed(readable)}: see Subgroups for whether it matters."

    def when_not(self, run: LabelRun) -> Iterator[str]:
        """How often it is wrong, with and without the least confident predictions."""
        confidence, right = decision_confidence(run.shown.answers, run.bundle.threshold)
        curve = risk_coverage(confidence, right)
        place = int(np.searchsorted(curve.coverage, 0.8 - 1e-9))
        yield (
            f"It answers every image unless told to abstain, and {of_hundred(float(1 - right.mean()))} of 100 answers "
            f"are wrong; without the least confident fifth, {of_hundred(float(curve.risk[place]))} of 100 are."
        )
        if run.bundle.novelty is not None:
            yield (
                "Images unlike the training images (of another kind, blank or inverted) are flagged as out of "
                "distribution."
            )

    def limits(self, run: LabelRun) -> Iterator[str]:
        """Whether the figures rest on few images of a label."""
        answers = run.shown.answers
        least = int(min(answers.truth.sum(axis=0).min(), answers.absent.sum(axis=0).min()))
        if least < FEW:
            yield (
                f"Only {least:,} {run.split} images have the rarest label, or lack the most frequent one: its "
                "intervals are wide."
            )

    def card_facts(self, run: LabelRun) -> Iterator[str]:
        """Calibration and threshold."""
        yield f"Calibration: {run.bundle.scaling.name}"
        yield from (verdict.text() for verdict in run.verdicts)
        if thresholds(run.bundle.threshold, run.bundle.labels, run.bundle.task):
            yield f"Decision threshold: {threshold_text(run.bundle.threshold, run.bundle.labels, 4)}"

    def truth(self, run: LabelRun) -> Iterator[Block]:
        """Images by label and split, and by label and group."""
        yield label_counts(run)
        yield from label_shares(run)

    def results(self, run: LabelRun) -> tuple[Section, ...]:
        """Figures, calibration, thresholds, abstention, subgroups and robustness."""
        return (
            results_section(run, self.titles, self.chosen),
            calibration_section(run),
            operating_section(run),
            uncertainty_section(run),
            subgroup_section(run),
            *clinical_section(run),
            robustness_section(run),
        )

    def figures(self, assessment: Assessment, read: Read | None = None) -> dict[str, Figure]:
        """Every figure of a test; curves are left out where no label can be ranked. No image is needed."""
        del read
        answers, estimates = assessment.answers, assessment.estimates
        figures = {
            "reliability": reliability_figure(answers, assessment.groups),
            "scores": score_histogram(answers, assessment.threshold),
        }
        if (matrix := confusion_matrix(answers)).ndim == 2:
            figures["confusion"] = confusion_figure(matrix, answers.labels)
        if answers.answerable.any():
            figures["roc"] = roc_figure(answers, estimates)
            figures["precision_recall"] = precision_recall_figure(answers, estimates)
        return figures


def _auc(run: LabelRun) -> str:
    found = run.estimates["auc"]
    ends = "" if found["low"] is None else f", 95 % interval {found['low']:.3f} to {found['high']:.3f}"
    return f"AUC {number(found['value'])}{ends}"


def _binary(run: LabelRun) -> Iterator[str]:
    negative, positive = run.bundle.labels
    yield (
        f"Of 1,000 images with '{positive}' it misses {missed_of(run, 'sensitivity')}; of 1,000 with '{negative}' it "
        f"raises a false alarm in {missed_of(run, 'specificity')}."
    )
    value = run.estimates["auc"]["value"]
    if value is not None:
        yield (
            f"Given one image with '{positive}' and one with '{negative}', it ranks the first higher in "
            f"{of_hundred(value)} of 100 pairs ({_auc(run)})."
        )
    rarer = min(int(run.shown.answers.truth.sum()), int((~run.shown.answers.truth).sum()))
    if rarer < FEW:
        yield f"Only {rarer:,} images of the rarer label were tested, so these figures are uncertain."


def _classes(run: LabelRun) -> Iterator[str]:
    yield f"It labels {share_of(run, 'accuracy')} of 100 images correctly; averaged over the labels: {_auc(run)}."
    weakest = _weakest(run, "sensitivity")
    yield f"{weakest[0].upper()}{weakest[1:]}."
    answers = run.shown.answers
    counts = confusion_matrix(answers)
    np.fill_diagonal(counts, 0)
    if counts.sum():
        truth, predicted = np.unravel_index(int(counts.argmax()), counts.shape)
        yield (
            f"The most frequent error is '{answers.labels[predicted]}' instead of '{answers.labels[truth]}' "
            f"({int(counts.max()):,} times)."
        )


def _weakest(run: LabelRun, metric: str) -> str:
    known = {label: run.estimates.get(f"{metric}_{label}", {}).get("value") for label in run.bundle.labels}
    found = {label: value for label, value in known.items() if value is not None}
    if not found:
        return "no label could be judged by itself"
    worst = min(found, key=lambda label: found[label])
    return f"the weakest label is '{worst}' ({lowered(METRICS[metric].title)} {found[worst]:.3f})"


def _labels(run: LabelRun) -> Iterator[str]:
    yield f"Averaged over the labels: {_auc(run)}; {_weakest(run, 'auc')}."


# The main figures as counts of 100.
FIGURES: dict[LabelTask, Callable[[LabelRun], Iterator[str]]] = {
    "binary": _binary,
    "multi-class": _classes,
    "multi-label": _labels,
}
