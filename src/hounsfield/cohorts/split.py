"""Splits and folds: by patient, stratified by label, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.cohort import SPLITS, Cohort
from hounsfield.cohorts.digest import pixel_digest
from hounsfield.cohorts.folds import given_folds
from hounsfield.cohorts.targets import TARGETS
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.image import Image
from hounsfield.progress import Progress, silent

# Where a class has too few patients for every side: the order in which sides get one.
COVERAGE_ORDER = (0, 2, 1)

# Of rows in train, validation and test, where no split is given.
FRACTIONS = (0.7, 0.1, 0.2)


def assign_splits(
    cohort: Cohort,
    *,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
    pictures: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> Cohort:
    """Give every row a split; splits that the data has are kept, and validation is taken out of training when missing.

    Rows of one patient stay together, and so do rows of one picture; where no ``pictures`` are given, that is looked
    into only where a patient is unknown.

    Args:
        cohort: any cohort.
        seed: the same seed gives the same splits.
        fractions: of rows in train, validation and test.
        pictures: image → a number that images of the same picture share, where duplicates were looked for already;
            otherwise the images are read to find those with the same pixels.
        progress: receives reports on the images read to find duplicates.

    Raises:
        CohortError: the given splits have no training rows, or the fractions are not three that sum to one.
    """
    if len(fractions) != 3 or min(fractions) < 0 or fractions[0] <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise CohortError(
            f"Found the fractions {fractions}: expected three that sum to 1, for train, validation and test."
        )
    given = cohort.table["split"]
    if given.isna().all():
        return _split_all(cohort, seed, fractions, pictures, progress)
    if given.isna().any():
        raise CohortError(
            f"Found {int(given.isna().sum())} of {len(cohort)} rows without a split: expected one for all or none. "
            "Fill them."
        )
    if not len(cohort.rows("train")):
        raise CohortError(
            f"The given splits of {cohort.name} have no training rows: expected at least train. Name some rows "
            "'train', or remove the splits to have them made."
        )
    if len(cohort.rows("validation")):
        return cohort
    return _carve_validation(cohort, seed, fractions, pictures, progress)


def _split_all(
    cohort: Cohort,
    seed: int,
    fractions: tuple[float, float, float],
    pictures: Mapping[str, int] | None,
    progress: Progress,
) -> Cohort:
    groups, note = row_groups(cohort, pictures=pictures, progress=progress)
    sides = distribute(
        TARGETS[cohort.family].strata(cohort), groups, fractions, seed=seed, coverage_order=COVERAGE_ORDER
    )
    splits = [SPLITS[side] for side in sides]
    counts = ", ".join(f"{splits.count(split)} {split}" for split in SPLITS)
    told = f"Splits were made with seed {seed}, stratified by label: {counts}."
    return cohort.with_splits(splits).with_notes(told, note)


def _carve_validation(
    cohort: Cohort,
    seed: int,
    fractions: tuple[float, float, float],
    pictures: Mapping[str, int] | None,
    progress: Progress,
) -> Cohort:
    rows = cohort.rows("train")
    train = cohort.subset(rows)
    groups, note = row_groups(train, pictures=pictures, progress=progress)
    part = fractions[1] / (fractions[0] + fractions[1])
    sides = distribute(TARGETS[train.family].strata(train), groups, (1 - part, part), seed=seed)
    splits = cohort.table["split"].to_numpy(dtype=object).copy()
    splits[rows[sides == 1]] = "validation"
    told = (
        f"No validation split was given: {int((sides == 1).sum())} of {len(rows)} training rows were taken for it with "
        f"seed {seed}."
    )
    return cohort.with_splits(list(splits)).with_notes(told, note)


def assign_folds(
    cohort: Cohort,
    num_folds: int,
    *,
    seed: int = 0,
    pictures: Mapping[str, int] | None = None,
    progress: Progress = silent,
) -> npt.NDArray[np.int64]:
    """Distribute the training and validation rows over folds; see ``assign_splits`` for how and for ``pictures``.

    Folds that the table gives are kept, unless a patient is in several.

    Returns:
        The fold of each row from 0 to ``num_folds`` − 1; −1 for rows of the test split.

    Raises:
        CohortError: fewer than two folds, fewer patients than folds, fewer given folds, or rows without a split.
    """
    rows = np.sort(np.concatenate([cohort.rows("train"), cohort.rows("validation")]))
    if cohort.table["split"].isna().any():
        raise CohortError(
            "Found rows without a split: folds are made of training and validation rows. Call assign_splits first."
        )
    part = cohort.subset(rows)
    groups, _ = row_groups(part, pictures=pictures, progress=progress)
    num_groups = len(np.unique(groups))
    if num_folds < 2 or num_groups < num_folds:
        raise CohortError(
            f"Cannot make {num_folds} folds of {num_groups} patients: expected at least two folds and a patient for "
            "each."
        )
    folds = np.full(len(cohort), -1, np.int64)
    if (given := given_folds(part.table, num_folds)) is not None:
        folds[rows] = given
        return folds
    folds[rows] = distribute(TARGETS[part.family].strata(part), groups, [1 / num_folds] * num_folds, seed=seed)
    return folds


def row_groups(
    cohort: Cohort, *, pictures: Mapping[str, int] | None = None, progress: Progress = silent
) -> tuple[npt.NDArray[np.int64], str]:
    """Number the groups of rows that must stay together, and say in words what they are.

    A group is a patient, or patients who share a picture; the views of a sample are of one patient. Where no
    ``pictures`` are given and every row has a patient, the images are not read.
    """
    patients = cohort.table["patient"]
    codes, names = pd.factorize(patients)
    groups = np.where(codes >= 0, codes, len(names) + pd.factorize(cohort.table["sample"])[0])
    if cohort.knows_patients:
        grouped = f"Rows were grouped by patient: {len(names)} patients."
        if pictures is None:
            return groups, grouped
        joined, num_joined = _joined_by_picture(cohort, groups, pictures, progress)
        shared = f" {num_joined} patients share a picture with another one and were kept in the same split."
        return joined, grouped + shared * bool(num_joined)
    joined, num_joined = _joined_by_picture(cohort, groups, pictures, progress)
    unknown = int(patients.isna().sum())
    who = (
        "Patients are unknown"
        if unknown == len(cohort)
        else f"The patients of {unknown} of {len(cohort)} rows are unknown"
    )
    return joined, (
        f"{who}: images of one patient may be in several splits, and test figures may be too good. {num_joined} "
        "duplicates and changed copies were kept on the side of their first image."
    )


def _joined_by_picture(
    cohort: Cohort, groups: npt.NDArray[np.int64], pictures: Mapping[str, int] | None, progress: Progress
) -> tuple[npt.NDArray[np.int64], int]:
    """The groups after those that share a picture became one, and by how many they are fewer."""
    if pictures is None:
        alike = same_pixels(cohort, progress=progress)
    else:
        alike = np.array([pictures[image] for image in cohort.table["image"]], np.int64)
    joined = _join(groups, alike)
    return joined, len(np.unique(groups)) - len(np.unique(joined))


def same_pixels(cohort: Cohort, *, progress: Progress = silent) -> npt.NDArray[np.int64]:
    """A number for each row that rows of the same pixels share; a grey image stored as colour is the same image.

    An image that cannot be read shares its number with no other.
    """
    numbers: dict[str, int] = {}
    result = np.empty(len(cohort), np.int64)
    for row, image in enumerate(cohort.stream()):
        key = f"unreadable {row}" if isinstance(image, ImageError) else pixel_digest(_grey_once(image))
        result[row] = numbers.setdefault(key, len(numbers))
        if row % 256 == 0 or row + 1 == len(cohort):
            progress("looking for exact duplicates", row + 1, len(cohort))
    return result


def _grey_once(image: Image) -> Image:
    pixels = image.pixels
    if image.channels == 3 and (pixels[..., :1] == pixels).all():
        return image.replace(pixels=pixels[..., :1])
    return image


def _join(groups: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The connected parts of two partitions of the same rows, numbered by the lowest group in them."""
    joined = groups
    while True:
        lowered = _lowest_in(groups, _lowest_in(others, joined))
        if np.array_equal(lowered, joined):
            return joined
        joined = lowered


def _lowest_in(parts: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    lowest = np.full(int(parts.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, parts, values)
    return np.asarray(lowest[parts])


def distribute(
    strata: npt.NDArray[np.bool_] | npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    fractions: Sequence[float],
    *,
    seed: int,
    coverage_order: Sequence[int] | None = None,
) -> npt.NDArray[np.int64]:
    """Give each group a side so that every side has its fraction of the rows of every stratum.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, algorithm 1) on groups: the stratum with
    the fewest groups left goes first. A group's side is drawn with the sides' remaining need as weights, so that large
    patients do not all end in the largest side; a stratum that has just enough groups left gives one to each side
    without any.

    Args:
        strata: (rows, strata) booleans, or how often each row counts.
        groups: (rows,) numbers of groups that stay whole.
        fractions: of each side; they sum to one.
        seed: of the draw.
        coverage_order: which side a stratum with too few groups serves first; ascending by default.

    Returns:
        (rows,) the side of each row.
    """
    _, groups = np.unique(groups, return_inverse=True)
    num_groups = int(groups.max(initial=-1)) + 1
    counts = np.zeros((num_groups, strata.shape[1]), np.int64)
    np.add.at(counts, groups, strata)
    state = _Distribution(counts, np.bincount(groups, minlength=num_groups), fractions, coverage_order, seed)
    return state.run()[groups]


class _Distribution:
    """One call of ``distribute``: what each side still needs, in plain lists, which are quick element by element."""

    def __init__(
        self,
        counts: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        fractions: Sequence[float],
        coverage_order: Sequence[int] | None,
        seed: int,
    ) -> None:
        self._generator = np.random.default_rng(seed)
        self._counts = counts
        self._sizes: list[int] = sizes.tolist()
        used = [side for side, fraction in enumerate(fractions) if fraction > 0]
        self._sides = [side for side in (coverage_order or range(len(fractions))) if side in used]
        self._needs = [[fraction * total for fraction in fractions] for total in counts.sum(axis=0).tolist()]
        self._room = [fraction * int(sizes.sum()) for fraction in fractions]
        self._has = [[0] * len(fractions) for _ in range(counts.shape[1])]
        self._result = np.full(len(sizes), -1, np.int64)

    def run(self) -> npt.NDArray[np.int64]:
        while (left := self._result < 0).any():
            remaining = (self._counts[left] > 0).sum(axis=0)
            if not remaining.any():
                break
            stratum = int(np.argmin(np.where(remaining > 0, remaining, np.iinfo(np.int64).max)))
            members = self._generator.permutation(np.flatnonzero(left & (self._counts[:, stratum] > 0)))
            draws = self._generator.random(len(members))
            for position, group in enumerate(members.tolist()):
                self._place(group, self._choose(stratum, group, len(members) - position, float(draws[position])))
        return self._result

    def _choose(self, stratum: int, group: int, num_left: int, draw: float) -> int:
        uncovered = [side for side in self._sides if not self._has[stratum][side]]
        if num_left <= len(uncovered):
            return uncovered[0]
        size = int(self._counts[group, stratum])
        needs = self._needs[stratum]
        fitting = [side for side in self._sides if needs[side] >= size / 2 and self._room[side] > 0]
        fitting = fitting or [side for side in self._sides if needs[side] > 0] or self._sides
        weights = [max(needs[side], 1e-9) for side in fitting]
        threshold = draw * sum(weights)
        for side, weight in zip(fitting, weights, strict=True):
            threshold -= weight
            if threshold < 0:
                return side
        return fitting[-1]

    def _place(self, group: int, side: int) -> None:
        self._result[group] = side
        self._room[side] -= self._sizes[group]
        for stratum in np.flatnonzero(self._counts[group]).tolist():
            self._needs[stratum][side] -= int(self._counts[group, stratum])
            self._has[stratum][side] += 1
