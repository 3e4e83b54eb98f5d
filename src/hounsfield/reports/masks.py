"""The report on a network that outlines structures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.evaluation.segmentation_assessment import SegmentationAssessment, of_label, tolerance_text
from hounsfield.evaluation.segmentation_figures import FIGURES, TITLES
from hounsfield.reports.base import Answer, Read
from hounsfield.reports.mask_figures import mask_figures
from hounsfield.reports.sections.content import UNDEFINED, Block, Section, Table, listed, number, percent, with_interval
from hounsfield.reports.sections.data import NAMES, label_counts
from hounsfield.reports.sections.mask_answers import ANSWERS, words
from hounsfield.reports.sections.mask_cases import outlined_cases
from hounsfield.reports.sections.mask_results import certainty_section, results_section, sizes_section
from hounsfield.reports.sections.mask_training import training_section
from hounsfield.reports.sections.mean_groups import groups_section
from hounsfield.reports.sections.wording import FEW, given_image, tested_on
from hounsfield.runs.masks import MaskRun


class MaskPage:
    """What the report takes from outlines of structures; see ``base.Page``."""

    joined: ClassVar[str] = " and "
    tiles: ClassVar[Mapping[str, str]] = {name: TITLES[name] for name in ("dice", "nsd", "hd95", "lesion_f1")}
    titles: ClassVar[Mapping[str, str]] = TITLES
    card: ClassVar[tuple[str, ...]] = tuple(name for name, figure in FIGURES.items() if figure.mean)
    chosen: ClassVar[str] = "the epoch, and which labels keep their largest component alone"
    distrust: ClassVar[str] = "When should its outlines be doubted?"
    cases_title: ClassVar[str] = "Cases"
    explains: ClassVar[bool] = False
    answers: ClassVar[Mapping[str, Answer]] = ANSWERS
    cases = staticmethod(outlined_cases)
    training = staticmethod(training_section)
    words = staticmethod(words)

    def what_it_does(self, run: MaskRun) -> str:
        """One sentence."""
        several = "each of which may cover others" if run.plan.overlapping else "which exclude each other"
        exclusive = f" ({several})" if len(run.bundle.labels) > 1 else ""
        whose = "their sizes" if len(run.bundle.labels) > 1 else "its size"
        return (
            f"Given {given_image(run.bundle)}, the model outlines {listed(run.bundle.labels)}{exclusive} and measures "
            f"{whose}."
        )

    def how_well(self, run: MaskRun) -> Iterator[str]:
        """The main figures."""
        found = run.estimates
        yield tested_on(run)
        yield f"The mean Dice is {with_interval(found['dice'])}{_by_label(run)}."
        near = tolerance_text(run.shown.tolerance, run.shown.unit)
        yield f"The share of both surfaces within {near} of the other (surface Dice) is {with_interval(found['nsd'])}."
        if found["missed"]["value"]:
            yield f"Structures were missed entirely in {percent(found['missed']['value'], 1)} of the images with them."

    def not_for(self, run: MaskRun) -> Iterator[str]:
        """Which groups it serves worse, and what it draws where there is nothing."""
        if run.estimates["false"]["value"]:
            yield (
                f"In {percent(run.estimates['false']['value'], 1)} of the images without a structure it drew one all "
                "the same."
            )
        bias = run.additions.get("bias")
        if bias and bias["findings"]:
            named = list(dict.fromkeys(str(finding["group"]) for finding in bias["findings"]))
            yield f"Its Dice differs beyond chance for {listed(named[:4])} (see Subgroups)."
        elif bias and bias["attributes"]:
            known = listed(bias["attributes"])
            yield f"No difference between groups by {known} is beyond chance, which does not prove that there is none."
        else:
            yield "Patient groups have not been compared."

    def when_not(self, run: MaskRun) -> Iterator[str]:
        """How uncertain masks and sizes are."""
        if run.bundle.kept(MaskUncertainty) is not None:
            yield (
                "Every mask comes with the Dice that it is predicted to have, and every size with an interval: look at "
                "masks with a low predicted Dice."
            )
        if run.bundle.novelty is not None:
            yield (
                "Images unlike the training images (of another kind, region or orientation, blank or inverted) are "
                "flagged as out of distribution: do not rely on their masks."
            )

    def limits(self, run: MaskRun) -> Iterator[str]:
        """Few images, and what annotation means for the figures."""
        if run.num_cases < FEW:
            yield f"Only {run.num_cases:,} {run.split} images were used, so the intervals are wide."
        yield "True masks are taken as they are: how far two annotators would agree is not known to the run."

    def card_facts(self, run: MaskRun) -> Iterator[str]:
        """The grid on which the network works, and what is done to its masks."""
        steps = " × ".join(f"{step:.3g}" for step in run.plan.spacing)
        yield f"Prepared images have a spacing of {steps}"
        largest = run.bundle.settings.get("largest_component", ())
        if largest:
            yield f"Only the largest connected part is kept of {listed(largest)}"

    def truth(self, run: MaskRun) -> Iterator[Block]:
        """Images with each label by split, and the sizes of structures in tested images."""
        yield label_counts(run)
        rows = []
        for split, test in run.tested.items():
            true = test.of_cases("size_true")
            for index, label in enumerate(run.bundle.labels):
                held = true[true[:, index] > 0, index]
                if len(held):
                    ends = f"{held.min():.4g} to {held.max():.4g}"
                    rows.append((NAMES[split], label, f"{len(held):,}", f"{float(np.median(held)):.4g}", ends))
        yield Table(
            f"True sizes ({run.shown.unit})", ("split", "label", "images with it", "median", "range"), tuple(rows)
        )

    def results(self, run: MaskRun) -> tuple[Section, ...]:
        """Figures, sizes, predicted Dice and subgroups."""
        return (results_section(run, self.chosen), sizes_section(run), certainty_section(run), groups_section(run))

    def figures(self, assessment: SegmentationAssessment, read: Read | None = None) -> dict[str, Figure]:
        """Every figure of a test; the worst cases where images can be read."""
        return mask_figures(assessment, read)


def _by_label(run: MaskRun) -> str:
    labels = run.bundle.labels
    if len(labels) < 2:
        return ""
    values = {label: number(run.estimates.get(of_label("dice", label), {}).get("value")) for label in labels}
    return f" ({', '.join(f'{label}: {value}' for label, value in values.items() if value != UNDEFINED)})"
