"""The section with typical and worst cases of a run: the part that all families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hounsfield.cohorts import load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import HounsfieldError
from hounsfield.images.image import Image
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


def run_images(run: RunRecord, samples: Sequence[str]) -> list[Image | None]:
    """Images of some samples of a run in their order, read from where its data was; ``None`` where unreadable.

    Raises:
        CohortError: the data is no longer there.
    """
    request = DataRequest.from_dict(run.environment["data"])
    cohort = load_request(request, labels=run.bundle.labels, task=run.bundle.task)
    row_of = {sample: row for row, sample in enumerate(cohort.table["sample"])}
    known = [sample for sample in samples if sample in row_of]
    found = dict(zip(known, cohort.stream([row_of[sample] for sample in known]), strict=True))
    return [item if isinstance(item := found.get(sample), Image) else None for sample in samples]
