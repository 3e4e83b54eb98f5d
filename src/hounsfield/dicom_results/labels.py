"""Reports of classifiers: whether each label is present, with its calibrated probability; no region is invented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from highdicom.sr import PlanarROIMeasurementsAndQualitativeEvaluations
from pydicom.dataset import Dataset

from hounsfield.dicom_results import reports
from hounsfield.dicom_results.base import Author
from hounsfield.dicom_results.codes import concept, label_concept
from hounsfield.dicom_results.sources import Source
from hounsfield.inference.prediction import Prediction
from hounsfield.tasks import labels_in, thresholds


def report(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """A report on the images of one study; see ``dicom_results.OBJECTS``."""
    if author.quirk == "ohif":
        groups = [_region(author, source) for source in sources]
        return [reports.report(author, sources, groups, ())]
    evaluations = [item for source in sources for item in _evaluations(author, source)]
    return [reports.report(author, sources, (), evaluations)]


def _evaluations(author: Author, source: Source) -> Iterator[Dataset]:
    prediction, limits = cast("Prediction", source.prediction), _thresholds(author)
    for label, value in prediction.probabilities.items():
        details: list[Dataset] = [reports.number(concept("probability"), value)]
        if label in limits:
            details.append(reports.number(concept("operating point"), limits[label]))
        name, found = label_concept(label, author.codes), concept(presence(author, prediction, label))
        yield reports.found(name, found, [*details, *reports.about(source)])


def _thresholds(author: Author) -> dict[str, float]:
    """The probability above which a label counts as present; of a task that takes the most probable one, empty."""
    given: Any = author.options.get("threshold", author.bundle.threshold)
    return thresholds(given, author.bundle.labels, author.bundle.task)


def presence(author: Author, prediction: Prediction, label: str) -> str:
    """Whether a label is "present" or "absent", or "undetermined" where the model does not answer."""
    if prediction.answered is False:
        return "undetermined"
    return "present" if label in labels_in(prediction.label, author.bundle.task) else "absent"


def _region(author: Author, source: Source) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """A region around the whole image, for a viewer that shows nothing else; named so that nobody takes it for one.

    Each label is a measurement of its own name: the viewer writes names and values below one another.
    """
    prediction = cast("Prediction", source.prediction)
    middle = source.slices[len(source.slices) // 2]
    dataset = source.headers[middle.path]
    predicted = prediction.label if prediction.answered is not False else "not answered"
    return reports.region(
        author,
        source,
        middle,
        (-middle.offset[0], -middle.offset[1], float(dataset.Rows), float(dataset.Columns)),
        finding=concept("whole image"),
        name=f"{predicted or 'no label'} (whole image)",
        measurements=[
            reports.probability(author, value, label_concept(label, author.codes))
            for label, value in prediction.probabilities.items()
        ],
    )
