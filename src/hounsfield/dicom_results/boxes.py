"""Reports of detectors: one measurement group with a rectangle for each finding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import cast

from highdicom.sr import Measurement, PlanarROIMeasurementsAndQualitativeEvaluations
from pydicom.dataset import Dataset

from hounsfield.dicom_results import reports
from hounsfield.dicom_results.base import Author
from hounsfield.dicom_results.codes import concept, label_concept
from hounsfield.dicom_results.sources import Source
from hounsfield.inference.prediction import DetectionPrediction


def report(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """A report on the images of one study; see ``dicom_results.OBJECTS``."""
    number = itertools.count(1)
    groups = [group for source in sources for group in _groups(author, source, number)]
    return [reports.report(author, sources, groups, () if groups else _nothing_found(author, sources))]


def _groups(
    author: Author, source: Source, number: Iterator[int]
) -> Iterator[PlanarROIMeasurementsAndQualitativeEvaluations]:
    prediction = cast("DetectionPrediction", source.prediction)
    for box, label, score in zip(prediction.boxes.tolist(), prediction.labels, prediction.scores.tolist(), strict=True):
        begin, end = box[: len(box) // 2], box[len(box) // 2 :]
        stored, extent = source.slices[0], []
        if len(begin) == 3:
            # Drawn in the slice through its middle; how far it reaches stands beside it.
            middle = int((begin[0] + end[0]) / 2)
            stored = source.slices[min(max(middle, 0), len(source.slices) - 1)]
            extent = [_along(author, "first slice", begin[0]), _along(author, "last slice", end[0])]
        yield reports.region(
            author,
            source,
            stored,
            (*begin[-2:], *end[-2:]),
            finding=label_concept(label, author.codes),
            name=f"{label} {next(number)}",
            measurements=[reports.probability(author, score), *extent],
        )


def _along(author: Author, name: str, place: float) -> Measurement:
    return Measurement(concept(name), round(place, 2), concept("no units"), algorithm_id=author.algorithm())


def _nothing_found(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    return [
        reports.found(label_concept(label, author.codes), concept("absent"), reports.about(source))
        for source in sources
        for label in author.bundle.labels
    ]
