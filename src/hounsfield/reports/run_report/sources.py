"""The images of a run, read again from where its data was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hounsfield.cohorts import load_cohort
from hounsfield.images.image import Image
from hounsfield.runs.record import RunRecord


def run_images(run: RunRecord, references: Sequence[str]) -> list[Image | None]:
    """The images of some references in their order, as they were read; ``None`` for one that cannot be read.

    Raises:
        CohortError: the data is not there any more.
    """
    data = run.environment["data"]
    cohort = load_cohort(
        data["data"],
        kind=data["kind"],
        images=Path(data["images"]) if data["images"] else None,
        label_columns=data["label_columns"] or None,
        allow_outside=data["allow_outside"],
        labels=run.bundle.labels,
        task=run.bundle.task,
    )
    return [item if isinstance(item, Image) else None for item in cohort.source.stream(references)]
