"""The section with typical and worst cases of a run: the part that all families share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hounsfield.cohorts import Cohort, load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import HounsfieldError
from hounsfield.explanation import Explainer, Explanation
from hounsfield.images import Image, Reference
from hounsfield.inference import BadImage
from hounsfield.progress import Progress, silent
from hounsfield.reports.base import Cases, Page
from hounsfield.reports.sections.content import Callout
from hounsfield.runs import RunRecord


def show_cases(run: RunRecord, page: Page[Any], *, wanted: bool = True, progress: Progress = silent) -> Cases:
    """Typical and worst cases of the split that is shown; where that is impossible, the reason."""
    if not wanted:
        return Cases((Callout("note", "Left out", "The report was made without pictures (--no-evidence)."),))
    try:
        return page.cases(run, progress)
    except HounsfieldError as error:
        return Cases((Callout("warning", "No cases could be shown", str(error)),))


def _cohort(run: RunRecord) -> Cohort:
    request = DataRequest.from_dict(run.environment["data"])
    return load_request(request, labels=run.bundle.labels, task=run.bundle.task)


def explained(run: RunRecord, explainer: Explainer, samples: Sequence[str]) -> Iterator[Explanation | None]:
    """The explanation of each sample, of several images that of the one with the most weight; ``None`` if unreadable.

    Raises:
        CohortError: the data is no longer there.
    """
    cohort = _cohort(run)
    row_of = {cohort.table["sample"].iloc[row]: int(row) for row in cohort.samples()}
    for sample in samples:
        rows = cohort.views(row_of[sample]).tolist() if sample in row_of else []
        images = [image for image in cohort.stream(rows) if isinstance(image, Image)] if rows else []
        references = cohort.references(rows)
        if len(images) < len(rows) or not images:
            yield None
            continue
        found = explainer.explain_sample(Reference(sample), list(zip(references, images, strict=True)))
        yield None if isinstance(found, BadImage) else found[0]


def run_images(run: RunRecord, samples: Sequence[str]) -> list[Image | None]:
    """Images of some samples of a run in their order, read from where its data was; ``None`` where unreadable.

    Raises:
        CohortError: the data is no longer there.
    """
    cohort = _cohort(run)
    row_of = {sample: row for row, sample in enumerate(cohort.table["sample"])}
    known = [sample for sample in samples if sample in row_of]
    found = dict(zip(known, cohort.stream([row_of[sample] for sample in known]), strict=True))
    return [item if isinstance(item := found.get(sample), Image) else None for sample in samples]
