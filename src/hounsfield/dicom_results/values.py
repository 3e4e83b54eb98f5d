"""Reports of regressors and graders: a value or grade of the whole image, with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from pydicom.dataset import Dataset

from hounsfield.dicom_results import reports
from hounsfield.dicom_results.base import Author
from hounsfield.dicom_results.codes import concept, label_concept
from hounsfield.dicom_results.sources import Source
from hounsfield.inference.values import ValuePrediction


def report(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """A report on the images of one study; see ``dicom_results.OBJECTS``."""
    return [reports.report(author, sources, (), [_evaluation(author, source) for source in sources])]


def _evaluation(author: Author, source: Source) -> Dataset:
    said = cast("ValuePrediction", source.prediction)
    name = label_concept(said.name, author.codes)
    ends = [(concept("lowest"), said.low), (concept("highest"), said.high)]
    interval: list[Dataset] = [reports.number(end, at) for end, at in ends if at is not None and math.isfinite(at)]
    details = [*interval, *reports.about(source)]
    if said.grade is None:
        return reports.measured(name, said.value, details)
    expected = reports.number(concept("value"), said.value)
    probable = reports.number(concept("probability"), said.probabilities[said.grade])
    return reports.found(name, label_concept(said.grade, author.codes), [probable, expected, *details])
