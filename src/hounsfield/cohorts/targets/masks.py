"""Truth as masks: the labels of a sample are those that are marked anywhere in its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.finding import Finding
from hounsfield.cohorts.masks import masks_of
from hounsfield.cohorts.targets.base import Samples
from hounsfield.cohorts.targets.labels import IMBALANCE, LabelTargets
from hounsfield.errors import CohortError

# A label that takes less than this share of the images in which it is marked is hard to find.
SMALL_SHARE = 0.001


class MaskTargets(LabelTargets):
    """See ``Targets``."""

    def check(self, samples: Samples) -> None:
        """Every sample has a mask; see ``Targets.check``."""
        super().check(samples)
        masks = masks_of(samples)
        absent = [sample for sample in samples.table["sample"] if sample not in masks.facts]
        if absent:
            raise CohortError(
                f"The cohort '{samples.name}' has {len(absent)} samples without a mask, first '{absent[0]}'. Expected "
                "one for each: add them, or leave the rows out."
            )

    def check_trainable(self, samples: Samples) -> None:
        """Each label is marked in some training and some validation image."""
        present = (self.targets(samples) > 0).astype(np.int64)
        for split in ("train", "validation"):
            rows = samples.rows(split)
            if len(rows) and not present[rows].any():
                raise CohortError(
                    f"The masks of all {len(rows):,} {split} images of the cohort '{samples.name}' are empty: nothing "
                    "is marked that could be learned. Check that these are the masks of these images, or leave the "
                    "column 'split' out to have the split made."
                )
            absent = [
                label
                for label, some in zip(samples.labels, present[rows].max(axis=0, initial=0).tolist(), strict=True)
                if not some
            ]
            if absent:
                raise CohortError(
                    f"The {split} split of the cohort '{samples.name}' has no mask with {', '.join(absent)}: each "
                    "label is needed there. Add images of more patients, or leave the column 'split' out to have the "
                    "split made."
                )

    def findings(self, samples: Samples, shapes: Sequence[tuple[int, ...]]) -> list[Finding]:  # noqa: ARG002 - of the contract
        """Labels that take little of their images, labels of very different frequency, and splits without one."""
        return [*_small(samples), *_imbalance(samples), *_untested(samples)]


def mask_counts(samples: Samples) -> npt.NDArray[np.int64]:
    """Pixels of each label in each image as read: (rows, labels)."""
    masks = masks_of(samples)
    counts = [masks.counts(str(sample), samples.labels) for sample in samples.table["sample"]]
    return np.array(counts, np.int64).reshape(-1, len(samples.labels))


def mask_shares(samples: Samples) -> npt.NDArray[np.float64]:
    """The share of each image that each label takes: (rows, labels)."""
    masks = masks_of(samples)
    pixels = np.array([masks.facts[str(sample)].pixels for sample in samples.table["sample"]], np.float64)
    return np.asarray(mask_counts(samples) / np.maximum(pixels, 1)[:, np.newaxis])


def _small(samples: Samples) -> list[Finding]:
    shares = mask_shares(samples)
    small = {
        label: float(np.median(column[column > 0]))
        for label, column in zip(samples.labels, shares.T, strict=True)
        if (column > 0).any() and np.median(column[column > 0]) < SMALL_SHARE
    }
    if not small:
        return []
    listed = ", ".join(f"{label} ({share:.2g} of the image)" for label, share in small.items())
    return [Finding("note", "Small structures", f"{listed}: patches are drawn so that they are seen often enough.")]


def _imbalance(samples: Samples) -> list[Finding]:
    images = (mask_counts(samples) > 0).sum(axis=0)
    most, least = int(images.argmax()), int(images.argmin())
    if images[most] < IMBALANCE * images[least]:
        return []
    text = (
        f"'{samples.labels[most]}' is marked in {images[most] / max(images[least], 1):.0f} times as many images as "
        f"'{samples.labels[least]}' ({images[least]:,}): look at the figures of each label."
    )
    return [Finding("note", "Imbalance of labels", text)]


def _untested(samples: Samples) -> list[Finding]:
    present, rows = mask_counts(samples), samples.rows("test")
    absent = [
        label
        for label, some in zip(samples.labels, present[rows].max(axis=0, initial=0).tolist(), strict=True)
        if not some
    ]
    if not len(rows) or not absent:
        return []
    text = f"No test image has a mask with {', '.join(absent)}, so the test says nothing of it."
    return [Finding("warning", "Labels without a test", text)]
