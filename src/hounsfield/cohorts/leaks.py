"""Patients and pictures that stand in two splits, and what is done about them before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hounsfield.cohorts.cohort import SPLITS, Cohort
from hounsfield.cohorts.duplicates import DuplicateGroup, duplicate_groups
from hounsfield.cohorts.scan import Scan, scan
from hounsfield.cohorts.targets import TARGETS
from hounsfield.errors import CohortError
from hounsfield.progress import Progress, silent

Kind = Literal["patient", "duplicate", "near-duplicate"]
TEST = "test"


@dataclass(frozen=True)
class Leak:
    """One patient, or one picture, in more than one split.

    Attributes:
        kind: ``patient``, ``duplicate`` (the same pixels) or ``near-duplicate`` (the same picture, changed:
            re-encoded, resized, or an augmented copy).
        rows: every row of the patient or picture that has a split, ascending.
        splits: the splits it stands in, in the order train, validation, test.
    """

    kind: Kind
    rows: tuple[int, ...]
    splits: tuple[str, ...]

    @property
    def into_test(self) -> bool:
        """Whether figures on the test split are touched."""
        return TEST in self.splits


def leaks(
    cohort: Cohort,
    *,
    scanned: Scan | None = None,
    groups: Sequence[DuplicateGroup] | None = None,
    progress: Progress = silent,
) -> tuple[Leak, ...]:
    """Find every patient and every picture that the splits of a cohort have on two sides.

    Args:
        cohort: rows without a split take no part; a cohort without splits has no leaks, and is not read.
        scanned: the pass over its images, where it was made already.
        groups: its duplicates, where they were looked for already.
        progress: receives a report every few images.
    """
    if not cohort.table["split"].notna().any():
        return ()
    scanned = scanned if scanned is not None else scan(cohort, progress=progress)
    groups = groups if groups is not None else duplicate_groups(scanned, progress=progress)
    patients = scanned.patients
    members = patients[patients.notna()].groupby(patients[patients.notna()]).indices
    known = np.flatnonzero(patients.notna().to_numpy())
    found = [_leak(cohort, "patient", known[rows]) for rows in members.values()]
    found += [_leak(cohort, "duplicate" if group.exact else "near-duplicate", np.array(group.rows)) for group in groups]
    return tuple(leak for leak in found if leak is not None)


def _leak(cohort: Cohort, kind: Kind, rows: NDArray[np.int64]) -> Leak | None:
    splits = cohort.table["split"].to_numpy(dtype=object)
    present = [split for split in SPLITS if (splits[rows] == split).any()]
    if len(present) < 2:
        return None
    return Leak(kind, tuple(int(row) for row in rows if splits[row] in SPLITS), tuple(present))


def leaking_rows(cohort: Cohort, found: Sequence[Leak], *, keep_test_leaks: bool = False) -> NDArray[np.int64]:
    """The rows on the training side of every leak, ascending: those outside the last split that the leak reaches.

    Args:
        cohort: the cohort in which the leaks were found.
        found: its leaks.
        keep_test_leaks: look at training against validation alone.
    """
    splits = cohort.table["split"].to_numpy(dtype=object)
    order = SPLITS[:2] if keep_test_leaks else SPLITS
    leaving: set[int] = set()
    for leak in found:
        reached = [split for split in order if split in leak.splits]
        leaving.update(row for row in leak.rows if splits[row] in reached[:-1])
    return np.array(sorted(leaving), dtype=np.int64)


def drop_leaks(
    cohort: Cohort,
    *,
    found: Sequence[Leak] | None = None,
    keep_test_leaks: bool = False,
    progress: Progress = silent,
) -> Cohort:
    """Leave out the training side of every leak, and say so in the notes.

    Test rows always stay; a validation row goes when its patient or its twin is in test, a training row when it is in
    validation or in test.

    Raises:
        CohortError: a label would have no training row left.
    """
    found = leaks(cohort, progress=progress) if found is None else found
    leaving = leaking_rows(cohort, found, keep_test_leaks=keep_test_leaks)
    if not len(leaving):
        return cohort
    kept = cohort.subset(np.setdiff1d(np.arange(len(cohort)), leaving))
    before, after = (TARGETS[cohort.family].trained_labels(one) for one in (cohort, kept))
    if lost := [label for label in before if label not in after]:
        raise CohortError(
            f"{len(leaving):,} rows of the cohort '{cohort.name}' would be left out because their patient or picture "
            f"is also in a later split, and no training image of {', '.join(lost)} would remain. Split the cohort anew "
            "by patient: remove the column 'split'."
        )
    splits = cohort.table["split"].iloc[leaving]
    counts = " and ".join(f"{n:,} of {split}" for split in SPLITS if (n := int((splits == split).sum())))
    return kept.with_notes(f"Left out {counts}, because these were in two splits: {describe_leaks(found)}.")


def settle_leaks(
    cohort: Cohort,
    *,
    drop: bool = False,
    allow: bool = False,
    scanned: Scan | None = None,
    groups: Sequence[DuplicateGroup] | None = None,
    progress: Progress = silent,
) -> Cohort:
    """Decide, before a training, about the leaks of splits that came with the data.

    Between training and validation the training side's rows go, and the notes say so. A leak into test stops the
    training, unless the user has said what is to be done.

    Args:
        cohort: with the splits that were given, before any is assigned.
        drop: ``--drop-leaks``: the training side's rows go.
        allow: ``--allow-leaks``: train all the same; the notes say that test figures are too good.
        scanned: the pass over its images, where it was made already.
        groups: its duplicates, where they were looked for already.
        progress: receives a report every few images.

    Raises:
        CohortError: something leaks into test, and neither was said.
    """
    found = leaks(cohort, scanned=scanned, groups=groups, progress=progress)
    into_test = [leak for leak in found if leak.into_test]
    if not into_test or drop:
        return drop_leaks(cohort, found=found)
    if allow:
        note = f"Test figures are too good: {describe_leaks(into_test)} in training or validation and also in test."
        return drop_leaks(cohort, found=found, keep_test_leaks=True).with_notes(note)
    leaving = leaking_rows(cohort, into_test)
    raise CohortError(
        f"The splits of the cohort '{cohort.name}' leak: in training or validation and also in test are "
        f"{describe_leaks(into_test)}, for example {_example(cohort, into_test[0])}, so test figures would be too "
        f"good. Use --drop-leaks to leave out the {len(leaving):,} rows on the training side, or --allow-leaks to "
        "train anyway; 'hounsfield inspect' lists them."
    )


def describe_leaks(found: Sequence[Leak]) -> str:
    """How many leaks of each kind, in words; patients are counted and never named."""
    words = {
        "patient": ("patient", "patients"),
        "duplicate": ("picture", "pictures"),
        "near-duplicate": ("picture with changed copies", "pictures with changed copies"),
    }
    counts = {kind: sum(leak.kind == kind for leak in found) for kind in words}
    return " and ".join(f"{count:,} {words[kind][count > 1]}" for kind, count in counts.items() if count)


def _example(cohort: Cohort, leak: Leak) -> str:
    """One image of each split that the leak reaches."""
    table = cohort.table.iloc[list(leak.rows)].drop_duplicates("split")
    return " and ".join(f"'{image}' ({split})" for image, split in zip(table["image"], table["split"], strict=True))
