"""Results of detectors: one measurement group with a rectangle for each finding."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from pydicom.dataset import Dataset

from hounsfield.dicom_results import reports
from hounsfield.dicom_results.base import Author, Source
from hounsfield.dicom_results.codes import concept, label_concept
from hounsfield.dicom_results.labels import common

KINDS: tuple[str, ...] = ("report",)


def make(author: Author, sources: Sequence[Source], kind: str) -> Dataset | None:  # noqa: ARG001 - one kind only
    """A report on the images of one study; see ``dicom_results.OBJECTS``."""
    number = itertools.count(1)
    groups = [group for source in sources for group in _groups(author, source, number)]
    return reports.report(author, sources, groups, _nothing_found(author, sources) if not groups else ())


def _groups(author: Author, source: Source, number: Iterator[int]) -> Iterator[Any]:
    prediction: Any = source.prediction
    for box, label, score in zip(prediction.boxes.tolist(), prediction.labels, prediction.scores.tolist(), strict=True):
        dataset, plane = _plane(source, box)
        yield reports.region(
            author,
            source,
            dataset,
            plane,
            finding=label_concept(label, author.codes),
            name=f"{label} {next(number)}",
            measurements=[reports.probability(author, score)],
        )


def _plane(source: Source, box: list[float]) -> tuple[Dataset, tuple[float, float, float, float]]:
    """The image in which a rectangle is drawn: of a volume, the slice through the middle of the box."""
    if len(box) == 4:
        return source.datasets[0], (box[0], box[1], box[2], box[3])
    first, top, left, last, bottom, right = box
    middle = min(int((first + last) / 2), len(source.datasets) - 1)
    return source.datasets[middle], (top, left, bottom, right)


def _nothing_found(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    return [
        reports.found(label_concept(label, author.codes), concept("absent"), common(source))
        for source in sources
        for label in author.bundle.labels
    ]
