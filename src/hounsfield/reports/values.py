"""The report on a network that predicts values or grades."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from matplotlib.figure import Figure

from hounsfield.evaluation.value_assessment import ValueAssessment
from hounsfield.evaluation.value_uncertainty import ValueUncertainty
from hounsfield.evaluation.values import TITLES
from hounsfield.reports.base import Answer, Read
from hounsfield.reports.sections.clinical import clinical_section
from hounsfield.reports.sections.content import Block, Section, Table, listed, with_interval
from hounsfield.reports.sections.data import NAMES, label_counts, quartiles
from hounsfield.reports.sections.groups import robustness_section
from hounsfield.reports.sections.mean_groups import groups_section
from hounsfield.reports.sections.value_answers import ANSWERS, words
from hounsfield.reports.sections.value_cases import value_cases
from hounsfield.reports.sections.value_results import ranges_section, results_section
from hounsfield.reports.sections.value_training import training_section
from hounsfield.reports.sections.wording import FEW, given_image, share_of, tested_on
from hounsfield.reports.value_figures import value_figures
from hounsfield.runs.values import ValueRun


class ValuePage:
    """What the report takes from values and grades of whole images; see ``base.Page``."""

    joined: ClassVar[str] = " to "
    tiles: ClassVar[Mapping[str, str]] = {
        name: TITLES[name] for name in ("r2", "mae", "kappa_quadratic", "accuracy", "within_one")
    }
    titles: ClassVar[Mapping[str, str]] = TITLES
    card: ClassVar[tuple[str, ...]] = tuple(TITLES)
    chosen: ClassVar[str] = "the epoch and the width of the ranges"
    distrust: ClassVar[str] = "When should its values be doubted?"
    cases_title: ClassVar[str] = "Evidence"
    explains: ClassVar[bool] = True
    answers: ClassVar[Mapping[str, Answer]] = ANSWERS
    cases = staticmethod(value_cases)
    training = staticmethod(training_section)
    words = staticmethod(words)

    def what_it_does(self, run: ValueRun) -> str:
        """One sentence."""
        image, labels = given_image(run.bundle), run.bundle.labels
        if run.ordered:
            return (
                f"Given {image}, the model gives the probability of each of the grades {listed(labels)}, and predicts "
                "the most probable one."
            )
        return f"Given {image}, the model predicts a number: {labels[0]}."

    def how_well(self, run: ValueRun) -> Iterator[str]:
        """The main figures."""
        yield tested_on(run)
        found = run.estimates
        if run.ordered:
            yield (
                f"Of 100 images it grades {share_of(run, 'accuracy')} correctly and {share_of(run, 'within_one')} at "
                f"most one grade off; the quadratic kappa is {with_interval(found['kappa_quadratic'])}."
            )
            return
        low, high = found["loa_low"]["value"], found["loa_high"]["value"]
        yield (
            f"It is off by {found['mae']['value']:.4g} on average, and in about 95 of 100 images it is between "
            f"{low:+.4g} and {high:+.4g} of the true value. It explains the share {with_interval(found['r2'])} of the "
            "variance (R²)."
        )

    def not_for(self, run: ValueRun) -> Iterator[str]:
        """Which groups it serves worse, and which values it was not trained on."""
        bias = run.additions.get("bias")
        if bias and bias["findings"]:
            named = list(dict.fromkeys(str(finding["group"]) for finding in bias["findings"]))
            yield f"Its errors differ beyond chance for {listed(named[:4])} (see Subgroups)."
        elif bias and bias["attributes"]:
            known = listed(bias["attributes"])
            yield f"No difference between groups by {known} is beyond chance, which does not prove that there is none."
        else:
            yield "Patient groups have not been compared."
        if not run.ordered:
            values = run.rows("train")["label"].astype(float)
            yield f"It was trained on values from {values.min():g} to {values.max():g}, and cannot be relied on beyond."

    def when_not(self, run: ValueRun) -> Iterator[str]:
        """How uncertain values are."""
        if run.bundle.kept(ValueUncertainty) is not None:
            yield "Every value has a range that holds the true one with a given probability (see Prediction ranges)."
        if run.bundle.novelty is not None:
            yield (
                "Images unlike the training images (of another kind, blank or inverted) are flagged as out of "
                "distribution: do not rely on their values."
            )

    def limits(self, run: ValueRun) -> Iterator[str]:
        """Whether the figures rest on few images, and what networks do at the ends."""
        if run.num_cases < FEW:
            yield f"Only {run.num_cases:,} {run.split} images were used, so the intervals are wide."
        if not run.ordered:
            yield (
                "Predictions tend to the middle of the training values: low ones are predicted too high, high ones too "
                "low."
            )

    def card_facts(self, run: ValueRun) -> Iterator[str]:
        """Of values the scale on which the network was trained."""
        if not run.ordered:
            settings = run.bundle.settings
            yield f"Training values: mean {settings['mean']:.4g}, standard deviation {settings['deviation']:.4g}"

    def truth(self, run: ValueRun) -> Iterator[Block]:
        """Images by grade and split, or the values of each split."""
        if run.ordered:
            yield label_counts(run)
            return
        rows = []
        for split, name in NAMES.items():
            part = run.rows(split)
            if not part.empty:
                values = part["label"].astype(float)
                rows.append((name, f"{len(part):,}", quartiles(values), f"{values.min():g} to {values.max():g}"))
        columns = ("split", "images", "median and quartiles", "range")
        yield Table(f"{run.bundle.labels[0]} by split", columns, tuple(rows))

    def results(self, run: ValueRun) -> tuple[Section, ...]:
        """Figures, ranges, subgroups and robustness."""
        return (
            results_section(run, self.titles, self.chosen),
            ranges_section(run),
            groups_section(run),
            robustness_section(run),
            *clinical_section(run),
        )

    def figures(self, assessment: ValueAssessment, read: Read | None = None) -> dict[str, Figure]:
        """Every figure of a test; no image is needed."""
        del read
        return value_figures(assessment)
