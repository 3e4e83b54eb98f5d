"""Results of regressors and graders: a value or grade of the whole image, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset

from hounsfield.dicom_results import reports
from hounsfield.dicom_results.base import Author, Source
from hounsfield.dicom_results.codes import concept, label_concept
from hounsfield.dicom_results.labels import common

KINDS: tuple[str, ...] = ("report",)


def make(author: Author, sources: Sequence[Source], kind: str) -> Dataset | None:  # noqa: ARG001 - one kind only
    """A report on the images of one study; see ``dicom_results.OBJECTS``."""
    return reports.report(author, sources, (), [_evaluation(author, source) for source in sources])


def _evaluation(author: Author, source: Source) -> Dataset:
    said: dict[str, Any] = source.prediction.content()
    finding = label_concept(author.bundle.labels[0], author.codes)
    details = [
        reports.text(concept("value"), str(said["prediction"])),
        *(
            reports.number(concept(name), float(said[key]), concept("no units"))
            for name, key in (("lowest", "low"), ("highest", "high"))
            if isinstance(said.get(key), int | float)
        ),
    ]
    return reports.found(concept("finding"), finding, [*details, *common(source)])
