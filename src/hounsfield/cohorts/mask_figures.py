"""What the masks of a segmentation cohort mark, in a few figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.cohort import SPLITS, Cohort
from hounsfield.cohorts.distribution import Distribution
from hounsfield.cohorts.masks import MaskFacts, masks_of
from hounsfield.cohorts.targets.labels import UNASSIGNED, assigned_splits
from hounsfield.cohorts.targets.masks import mask_counts
from hounsfield.masks import pixel_volume, size_unit


@dataclass(frozen=True)
class MaskFigures:
    """Figures of the masks of a cohort.

    Attributes:
        images: label → images in which it is marked.
        counts: split → label → images in which it is marked; rows without a split are under ``unassigned``.
        unit: of ``sizes``: ml, mm², or pixels where some image has no spacing.
        sizes: label → how much of it there is in an image that has any.
        shares: label → the share of such an image that it takes, the median.
        negatives: images in which nothing is marked.
        overlapping: whether a pixel may have several labels.
        ignored: the share of all pixels of which it is not known what they are.
        moved: masks that lay on another grid than their image.
    """

    images: dict[str, int]
    counts: dict[str, dict[str, int]]
    unit: str
    sizes: dict[str, Distribution]
    shares: dict[str, float]
    negatives: int
    overlapping: bool
    ignored: float
    moved: int


def mask_figures(cohort: Cohort) -> MaskFigures | None:
    """Describe the masks of a cohort; ``None`` for one of another task."""
    if cohort.masks is None:
        return None
    facts = [cohort.masks.facts[str(sample)] for sample in cohort.table["sample"]]
    counts, (sizes, unit) = mask_counts(cohort), mask_sizes(cohort)
    splits = assigned_splits(cohort).to_numpy()
    pixels = np.array([max(each.pixels, 1) for each in facts], np.float64)
    present = [column > 0 for column in counts.T]
    return MaskFigures(
        images=dict(zip(cohort.labels, (counts > 0).sum(axis=0).tolist(), strict=True)),
        counts={
            split: dict(zip(cohort.labels, (counts[splits == split] > 0).sum(axis=0).tolist(), strict=True))
            for split in (*SPLITS, UNASSIGNED)
            if (splits == split).any()
        },
        unit=unit,
        sizes={label: Distribution.of(sizes[:, index][present[index]]) for index, label in enumerate(cohort.labels)},
        shares={
            label: float(np.median((counts[:, index] / pixels)[present[index]])) if present[index].any() else 0.0
            for index, label in enumerate(cohort.labels)
        },
        negatives=int((counts.sum(axis=1) == 0).sum()),
        overlapping=cohort.overlapping,
        ignored=_ignored(cohort, facts),
        moved=sum(each.moved for each in facts),
    )


def mask_sizes(cohort: Cohort) -> tuple[npt.NDArray[np.float64], str]:
    """How much of each label each image has, (rows, labels), and in which unit: see ``masks.label_sizes``."""
    facts = [masks_of(cohort).facts[str(sample)] for sample in cohort.table["sample"]]
    counts = mask_counts(cohort).astype(np.float64)
    if not facts or not all(each.spacing for each in facts):
        return counts, "pixels"
    scales = np.array([pixel_volume(each.spacing) for each in facts])
    return counts * scales[:, np.newaxis], size_unit(len(facts[0].spacing), facts[0].spacing)


def _ignored(cohort: Cohort, facts: list[MaskFacts]) -> float:
    named = masks_of(cohort).labels
    unknown = sum(
        count for each in facts for name, count in zip(each.names, each.counts, strict=True) if name not in named
    )
    return unknown / max(sum(each.pixels for each in facts), 1)
