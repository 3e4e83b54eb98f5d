"""What a cohort knows of the masks of its images, and the one way in which a row's mask is read.

A source gives the mask of an image in **layers**: one label map, or one file or shape for each label. Each layer is
brought onto the grid of the image, and its values are named; the names become the labels of the cohort.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.mask_grids import on_grid
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.image import Image
from hounsfield.masks import IGNORE

# How far from a whole number a value of a mask may be.
WHOLE = 1e-3
# What a source calls a region of which it is not known what it is.
UNLABELLED = frozenset({"ignore", "ignored", "unlabelled", "unlabeled", "unknown", "void"})
# Of a name that is no label: what it marks is not known.
IGNORED = "\0ignored"
# What a source calls a region in which there is nothing, though it has a number.
BACKGROUND = frozenset({"background", "bg"})


@dataclass(frozen=True, eq=False)
class Layer:
    """What one file, or one list of shapes, marks in one image.

    Attributes:
        mask: whole numbers in one channel, on any grid; 0 is nothing.
        names: value → what it marks.
        label: what every other value marks; where it is empty, such a value has its number for a name.
        place: where it comes from, for messages.
        strict: whether a value without a name is no class.
        blurred: whether it was black and white with smoothed edges.
    """

    mask: Image
    names: Mapping[int, str] = field(default_factory=dict)
    label: str = ""
    place: str = ""
    strict: bool = False
    blurred: bool = False

    def name(self, value: int) -> str:
        """What a value marks."""
        return self.names.get(value) or self.label or str(value)


class MaskSource(Protocol):
    """How the mask of a sample is found."""

    def layers(self, sample: str, image: Image) -> Iterator[Layer]:
        """What is marked in an image, layer by layer; raises ``ImageError`` when it cannot be read."""

    def digest(self, samples: Sequence[str]) -> str:
        """The identity of what lies behind the masks: another digest when one of them changes."""


class MaskFacts(NamedTuple):
    """What is kept of one mask, as its source names it. ``reason`` says why it cannot be used.

    Attributes:
        reason: as a text, ``None`` where the mask is good.
        names: of what is marked, sorted.
        counts: pixels of each.
        pixels: of the image.
        spacing: of the image in mm; empty where unknown.
        shared: pixels of each that another name marks, too.
        moved: whether the mask was on another grid.
        outside: share of the marked pixels that lie outside the image.
        blurred: whether it was black and white with smoothed edges.
        channels: of the image.
        drawn: how many pixels of each name the intensities are of.
        intensities: of pixels drawn at random from each name in turn, all channels of one pixel after each other.
        places: of each name in turn, the mean place of the drawn pixels along each axis of the image, 0 to 1.
    """

    reason: str | None = None
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    pixels: int = 0
    spacing: tuple[float, ...] = ()
    shared: tuple[int, ...] = ()
    moved: bool = False
    outside: float = 0.0
    blurred: bool = False
    channels: int = 1
    drawn: tuple[int, ...] = ()
    intensities: tuple[float, ...] = ()
    places: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of a cohort.

    Attributes:
        source: gives the layers of each sample.
        labels: name in the source → label of the cohort, empty for background; what such a name is not in it marks is
            not known.
        overlapping: whether some pixel has several labels, so that each label gets a channel of its own.
        facts: sample → what its mask holds.
    """

    source: MaskSource
    labels: Mapping[str, str]
    overlapping: bool
    facts: Mapping[str, MaskFacts] = field(repr=False)

    def counts(self, sample: str, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """Pixels of each label in one image: (labels,)."""
        counts = dict.fromkeys(labels, 0)
        facts = self.facts[sample]
        for name, count in zip(facts.names, facts.counts, strict=True):
            if (label := self.labels.get(name)) in counts:
                counts[label] += count
        return np.array([*counts.values()], np.int64)


class MaskedSamples(Protocol):
    """What :func:`read_mask` reads of a cohort; see ``Cohort`` for the attributes."""

    @property
    def table(self) -> Any:
        """One row per sample."""

    @property
    def labels(self) -> tuple[str, ...]:
        """In class order."""

    @property
    def masks(self) -> Masks | None:
        """Where the masks come from."""

    @property
    def name(self) -> str:
        """For messages."""


def masks_of(cohort: MaskedSamples) -> Masks:
    """Where the masks of a cohort come from.

    Raises:
        CohortError: it has none.
    """
    if cohort.masks is None:
        raise CohortError(
            f"The cohort '{cohort.name}' has no masks, which segmentation is trained and tested on. Give images with "
            "masks, or choose how DATA is read with --kind."
        )
    return cohort.masks


def read_mask(cohort: MaskedSamples, row: int, image: Image) -> Image:
    """The mask of one sample on the grid of its image.

    Args:
        cohort: with masks.
        row: of its table.
        image: of that row, as read.

    Returns:
        Uint8 (spatial …, 1), or (spatial …, labels) where labels overlap; see ``hounsfield.masks``.

    Raises:
        ImageError: it cannot be read, or does not lie on the image.
        CohortError: the cohort has no masks.
    """
    masks, sample = masks_of(cohort), str(cohort.table["sample"].iloc[row])
    codes = {label: index for index, label in enumerate(cohort.labels)}
    mask = np.zeros((*image.shape, len(cohort.labels) if masks.overlapping else 1), np.uint8)
    for layer in masks.source.layers(sample, image):
        values = on_grid(whole_numbers(layer), image).mask
        for value in distinct(values):
            label = masks.labels.get(layer.name(value), IGNORED)
            where = values == value
            if label in codes and masks.overlapping:
                mask[where, codes[label]] = 1
            else:
                mask[where] = codes[label] + 1 if label in codes else IGNORE if label == IGNORED else 0
    return image.replace(pixels=mask, modality="SEG")


def distinct(values: npt.NDArray[np.integer]) -> list[int]:
    """The values of a layer that mark something, ascending; several times as fast as sorting all of them."""
    low, high = int(values.min()), int(values.max())
    dense = high - low < 2**20
    found = np.flatnonzero(np.bincount(values.ravel() - low)) + low if dense else np.unique(values)
    return [int(value) for value in found if value]


def whole_numbers(layer: Layer) -> Image:
    """The mask of a layer as uint8 or int32.

    Raises:
        ImageError: it has several channels, values with fractions, or values that are not finite.
    """
    mask = layer.mask
    if mask.channels != 1:
        raise ImageError(f"it has {mask.channels} channels, where one with a number for each class is expected")
    pixels = mask.pixels
    if pixels.dtype.kind == "f":
        if not (finite := np.isfinite(pixels)).all():
            raise ImageError(f"it has values that are not finite, such as {pixels[~finite][0]}")
        # A scale factor in the header leaves whole numbers a little beside themselves.
        whole = np.rint(pixels)
        if np.abs(whole).max() > 2**31 or not np.abs(whole - pixels).max() < WHOLE:
            raise ImageError(f"its values have fractions, such as {_first_fraction(pixels):.6g}")
        pixels = whole
    return mask.replace(pixels=pixels.astype(np.int32 if pixels.dtype != np.uint8 else np.uint8))


def _first_fraction(pixels: npt.NDArray[Any]) -> float:
    wrong = pixels[~(np.abs(pixels - np.rint(pixels)) < WHOLE)]
    return float(wrong[0]) if wrong.size else float(np.abs(pixels).max())
