"""From DATA to a cohort that can be trained on: loaded, looked at, freed of leaks, split."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.cohorts import Cohort, assign_splits, load_cohort
from hounsfield.cohorts.fingerprint import Fingerprint, fingerprint
from hounsfield.cohorts.leaks import settle_leaks
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.errors import CohortError
from hounsfield.progress import Progress, silent


@dataclass(frozen=True)
class DataRequest:
    """What the user said about the data; kept in the run, so that it can be found again.

    Attributes:
        data: a path or a name, as ``load_cohort`` takes it.
        kind: forces the kind of source.
        images: folder of the images, where a table lies elsewhere.
        label_columns: the label columns of a table.
        allow_outside: whether paths of a table may lead out of its folder.
        drop_leaks: leave out the training side of a leak into test.
        allow_leaks: train all the same.
    """

    data: str
    kind: str | None = None
    images: str | None = None
    label_columns: tuple[str, ...] = ()
    allow_outside: bool = False
    drop_leaks: bool = False
    allow_leaks: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a path is made absolute, so that a run can be continued from anywhere."""
        values = asdict(self)
        if Path(self.data).exists():
            values["data"] = str(Path(self.data).resolve())
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataRequest:
        """The inverse of :meth:`to_dict`."""
        return cls(**(values | {"label_columns": tuple(values["label_columns"])}))


@dataclass(frozen=True)
class Prepared:
    """A cohort with splits, and the fingerprint of its training rows."""

    cohort: Cohort
    fingerprint: Fingerprint


def prepare(request: DataRequest, *, seed: int, progress: Progress = silent) -> Prepared:
    """Load a cohort, settle the leaks of its given splits, split what has none, and look at the training rows.

    Raises:
        CohortError: the data cannot be trained on; the message says why.
    """
    cohort = load_cohort(
        request.data,
        kind=request.kind,
        images=Path(request.images) if request.images else None,
        label_columns=request.label_columns or None,
        allow_outside=request.allow_outside,
        progress=progress,
    )
    scanned = scan(cohort, progress=progress)
    cohort = settle_leaks(
        cohort, drop=request.drop_leaks, allow=request.allow_leaks, scanned=scanned, progress=progress
    )
    cohort = assign_splits(cohort, seed=seed, progress=progress)
    _check_trainable(cohort)
    train = cohort.subset(cohort.rows("train"))
    return Prepared(cohort, fingerprint(train, scanned=_scan_of(train, scanned), progress=progress))


def _scan_of(part: Cohort, scanned: Scan) -> Scan:
    facts = dict(zip(scanned.cohort.table["image"], scanned.facts, strict=True))
    return Scan(part, [facts[reference] for reference in part.table["image"]])


def _check_trainable(cohort: Cohort) -> None:
    targets = cohort.targets()
    for split in ("train", "validation"):
        counts = targets[cohort.rows(split)].sum(0)
        complete = counts if cohort.task != "binary" else np.array([len(cohort.rows(split)) - counts[0], counts[0]])
        absent = [label for label, count in zip(cohort.labels, complete, strict=True) if count == 0]
        if absent and (split == "train" or cohort.task != "multi-label"):
            raise CohortError(
                f"The {split} split of the cohort '{cohort.name}' has no image of {', '.join(absent)}: at least one of "
                "each label is needed there. Add images of more patients, or leave the column 'split' out to have the "
                "split made."
            )
