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
from hounsfield.tasks import TASKS, questions


def report(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """A report on the images of one study; see ``dicom_results.OBJECTS``."""
    if author.quirk == "ohif":
        groups = [_region(author, source) for source in sources]
        return [reports.report(author, sources, groups, ())]
    evaluations = [item for source in sources for item in _evaluations(author, source)]
    return [reports.report(author, sources, (), evaluations)]


def _evaluations(author: Author, source: Source) -> Iterator[Dataset]:
    prediction, thresholds = cast("Prediction", source.prediction), _thresholds(author)
    for label, value in prediction.probabilities.items():
        details: list[Dataset] = [reports.number(concept("probability"), value)]
        if label in thresholds:
            details.append(reports.number(concept("operating point"), thresholds[label]))
        name, found = label_concept(label, author.codes), concept(presence(author, prediction, label))
        yield reports.found(name, found, [*details, *reports.about(source)])


def _thresholds(author: Author) -> dict[str, float]:
    """The probability above which a label counts as present; of a task that takes the most probable one, empty."""
    bundle = author.bundle
    if TASKS[bundle.task].exclusive:
        return {}
    given: Any = author.options.get("threshold", bundle.threshold)
    asked = questions(bundle.labels, bundle.task)
    return dict(zip(asked, given if isinstance(given, tuple) else [float(given)] * len(asked), strict=True))


def presence(author: Author, prediction: Prediction, label: str) -> str:
    """Whether a label is "present" or "absent", or "undetermined" where the model does not answer."""
    if prediction.answered is False:
        return "undetermined"
    several = TASKS[author.bundle.task].multi_label
    return "present" if label in (prediction.label.split(";") if several else [prediction.label]) else "absent"


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
