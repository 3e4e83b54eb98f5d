"""What a segmenter's planner must know of the masks and the images that are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.masks import MaskFacts, masks_of
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.training_grids import TrainingGrids, canonical_places, training_grids
from hounsfield.errors import CohortError


@dataclass(frozen=True, eq=False)
class TrainingMasks:
    """Lengths in the axes that the pipeline brings images to.

    Attributes:
        grids: of the images.
        counts: (images, labels) pixels of each label.
        places: (images, labels, rank) the mean place of each label, 0 to 1 along each axis; NaN where it is not marked.
        overlapping: whether a pixel may have several labels.
        channels: of the images.
        intensities: of pixels of all labels together, all images alike: (values, channels).
    """

    grids: TrainingGrids
    counts: npt.NDArray[np.int64]
    places: npt.NDArray[np.float64]
    overlapping: bool
    channels: int
    intensities: npt.NDArray[np.float32]


def training_masks(cohort: Cohort, scanned: Scan) -> TrainingMasks:
    """Measure the masks of a segmentation cohort.

    Args:
        cohort: its training rows.
        scanned: the facts of these rows.

    Raises:
        CohortError: nothing is marked in any image that can be read.
    """
    masks = masks_of(cohort)
    ranks = [len(fact.shape) for fact in scanned.facts if fact.reason is None]
    grids = training_grids(cohort, scanned, max(set(ranks), key=ranks.count) if ranks else 3)
    samples = [str(sample) for sample in cohort.table["sample"].iloc[grids.rows]]
    counts = np.array([masks.counts(sample, cohort.labels) for sample in samples], np.int64)
    if not counts.any():
        raise CohortError(
            f"The training masks of the cohort '{cohort.name}' are empty: a segmenter learns from what is marked. "
            "Check the masks and the column 'split'."
        )
    facts = [masks.facts[sample] for sample in samples]
    channels = max(fact.channels for fact in facts)
    values = [part for fact in facts if fact.channels == channels for part in _intensities(fact, masks.labels)]
    pooled = np.concatenate(values) if values else np.zeros((0, channels), np.float32)
    rank = grids.shapes.shape[1]
    found = np.array([_places(each, masks.labels, cohort.labels, rank) for each in facts])
    places = canonical_places(found, grids, scanned)
    return TrainingMasks(grids, counts, places, masks.overlapping, channels, pooled)


def _places(facts: MaskFacts, names: Mapping[str, str], labels: Sequence[str], rank: int) -> npt.NDArray[np.float64]:
    """The mean place of each label in one image, in its own axes: (labels, rank)."""
    sums, counts = np.zeros((len(labels), rank)), np.zeros((len(labels), 1))
    places = np.array(facts.places).reshape(len(facts.names), rank)
    for name, place, count in zip(facts.names, places, facts.counts, strict=True):
        if (label := names.get(name)) in labels:
            sums[labels.index(label)] += count * place
            counts[labels.index(label)] += count
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _intensities(facts: MaskFacts, labels: Mapping[str, str]) -> Iterator[npt.NDArray[np.float32]]:
    """What was drawn from each name that is a label: (values, channels) each."""
    drawn = np.array(facts.intensities, np.float32).reshape(-1, facts.channels)
    start = 0
    for name, count in zip(facts.names, facts.drawn, strict=True):
        if labels.get(name):
            yield drawn[start : start + count]
        start += count
