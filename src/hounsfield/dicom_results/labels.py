"""Results of classifiers: whether each label is present, with its calibrated probability; no region is invented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset

from hounsfield.dicom_results import reports
from hounsfield.dicom_results.base import Author, Source
from hounsfield.dicom_results.codes import concept, label_concept
from hounsfield.inference.prediction import Prediction

KINDS: tuple[str, ...] = ("report",)


def make(author: Author, sources: Sequence[Source], kind: str) -> Dataset | None:  # noqa: ARG001 - one kind only
    """A report on the images of one study; see ``dicom_results.OBJECTS``."""
    if author.quirk == "ohif":
        groups = [group for source in sources for group in _regions(author, source)]
        return reports.report(author, sources, groups, ())
    evaluations = [item for source in sources for item in _evaluations(author, source)]
    return reports.report(author, sources, (), evaluations)


def _evaluations(author: Author, source: Source) -> list[Dataset]:
    prediction: Any = source.prediction
    items = []
    for label, value in prediction.probabilities.items():
        details = [reports.number(concept("probability"), value, concept("no units")), *common(source)]
        items.append(reports.found(label_concept(label, author.codes), concept(presence(prediction, label)), details))
    return items


def presence(prediction: Prediction, label: str) -> str:
    """Whether a label is "present" or "absent", or "undetermined" where the model does not answer."""
    if prediction.answered is False:
        return "undetermined"
    return "present" if label in prediction.label.split(";") else "absent"


def common(source: Source) -> list[Dataset]:
    """What is said of every image: the image itself, and how unlike those of training it is."""
    items: list[Dataset] = []
    score = source.prediction.ood_score
    if score is not None:
        items.append(reports.number(concept("out of distribution"), score, concept("no units")))
    return items


def _regions(author: Author, source: Source) -> list[Any]:
    """A region around the whole image, for a viewer that shows nothing else."""
    prediction: Any = source.prediction
    dataset = source.datasets[len(source.datasets) // 2]
    box = (0.0, 0.0, float(dataset.Rows), float(dataset.Columns))
    return [
        reports.region(
            author,
            source,
            dataset,
            box,
            finding=label_concept(label, author.codes),
            name=f"{label} {presence(prediction, label)} (whole image)",
            measurements=[reports.probability(author, value)],
        )
        for label, value in prediction.probabilities.items()
        if presence(prediction, label) != "absent"
    ]
