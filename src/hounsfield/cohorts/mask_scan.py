"""One pass over the masks of a cohort: what each one holds, and how bright what it marks is in the image."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.cohort import ImageSource
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.mask_grids import on_grid
from hounsfield.cohorts.masks import Layer, MaskFacts, MaskSource, distinct, whole_numbers
from hounsfield.cohorts.public import cache_folder
from hounsfield.cohorts.scan_cache import keep_facts, load_facts, scan_file
from hounsfield.errors import ImageError
from hounsfield.hardware import out_of_files
from hounsfield.images.image import Image
from hounsfield.images.reference import Reference
from hounsfield.masks import MAX_LABELS
from hounsfield.progress import Progress, silent

TASK = "looking at every mask"
# Pixels of each name whose intensities are kept, by the names that an image has.
DRAWN = 400
# What is found of an image that has at most so many values: a mask has as few.
FEW_VALUES = 12
# A mask of more values, on an image of few, is the image itself: it may be one of 8 bits.
MANY_VALUES = 20


def scan_masks(
    images: ImageSource,
    masks: MaskSource,
    samples: Sequence[tuple[str, Reference]],
    *,
    folder: Path | None = None,
    progress: Progress = silent,
) -> dict[str, MaskFacts]:
    """The facts of the masks of some samples; each image and mask is read once and let go at once.

    Facts are kept in the cache as long as the files and the version stay the same. Those of masks that could not be
    used are found anew each time.

    Args:
        images: reads the images.
        masks: gives the layers.
        samples: key and image of each.
        folder: where facts are kept; in the user's cache by default.
        progress: receives a report every few masks.
    """
    keys = [sample for sample, _ in samples]
    if not keys:
        return {}
    digests = f"{images.digest([reference for _, reference in samples])}|{masks.digest(keys)}"
    sources = hashlib.blake2b(digests.encode(), digest_size=16).hexdigest()
    kept = scan_file(folder or cache_folder() / "scans", sources, MaskFacts)
    facts = load_facts(kept, MaskFacts) or [MaskFacts(reason="not read yet")] * len(keys)
    rows = [row for row, known in enumerate(facts) if known.reason is not None]
    num_known = len(keys) - len(rows)
    progress(TASK, num_known, len(keys))
    found = ordered_map(lambda row: mask_facts(images, masks, *samples[row]), rows)
    for done, (row, fact) in enumerate(zip(rows, found, strict=True), start=num_known + 1):
        facts[row] = fact
        if done % 20 == 0 or done == len(keys):
            progress(TASK, done, len(keys))
    if rows:
        keep_facts(kept, facts, MaskFacts)
    return dict(zip(keys, facts, strict=True))


def mask_facts(images: ImageSource, masks: MaskSource, sample: str, reference: Reference) -> MaskFacts:
    """Describe the mask of one sample; see ``MaskFacts``."""
    try:
        image = images.read(reference)
        tally = _Tally(image)
        for number, layer in enumerate(masks.layers(sample, image)):
            tally.add(layer, first=number == 0)
        return tally.facts()
    except (ImageError, OSError) as error:
        if out_of_files(error):
            raise
        return MaskFacts(reason=" ".join(str(error).split()))


class _Tally:
    """What the layers of one mask mark, added up."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.names: list[str] = []
        self.counts: Counter[str] = Counter()
        self.shared: Counter[str] = Counter()
        self.drawn: dict[str, npt.NDArray[np.float32]] = {}
        self.places: dict[str, npt.NDArray[np.int64]] = {}
        self.moved, self.outside, self.blurred = False, 0.0, False
        # The last name of each pixel, from 1; another one there is an overlap.
        self.taken = np.zeros(image.shape, np.uint16)
        self.generator = np.random.default_rng(0)

    def add(self, layer: Layer, *, first: bool) -> None:
        """Count one layer; the first one overlaps with nothing."""
        found = on_grid(whole_numbers(layer), self.image)
        self.moved, self.outside = self.moved or found.moved, max(self.outside, found.outside)
        self.blurred = self.blurred or layer.blurred
        values = distinct(found.mask)
        _check_values(values, layer, self.image)
        for value in values:
            name = layer.name(value)
            if name not in self.names:
                self.names.append(name)
            number = self.names.index(name) + 1
            where = found.mask == value
            if not first:
                where &= self.taken != number
                self._count_shared(where, name)
            self.counts[name] += int(where.sum())
            self.taken[where] = number
            places = np.flatnonzero(where)
            chosen = self.generator.choice(places, min(DRAWN, len(places)), replace=False)
            pixels = self.image.pixels.reshape(-1, self.image.channels)[chosen].astype(np.float32)
            self.drawn[name] = np.concatenate([self.drawn.get(name, pixels[:0]), pixels])
            self.places[name] = np.concatenate([self.places.get(name, chosen[:0]), chosen])

    def _count_shared(self, where: npt.NDArray[np.bool_], name: str) -> None:
        others = np.bincount(self.taken[where], minlength=len(self.names) + 1)[1:]
        for other, count in zip(self.names, others.tolist(), strict=True):
            if count:
                self.shared[other] += count
                self.shared[name] += count

    def facts(self) -> MaskFacts:
        """In the order of the names."""
        order = sorted(self.names)
        return MaskFacts(
            names=tuple(order),
            counts=tuple(self.counts[name] for name in order),
            pixels=math.prod(self.image.shape),
            spacing=tuple(map(float, self.image.spacing or ())),
            shared=tuple(self.shared[name] for name in order),
            moved=self.moved,
            outside=self.outside,
            blurred=self.blurred,
            channels=self.image.channels,
            drawn=tuple(len(self.drawn[name]) for name in order),
            intensities=tuple(float(value) for name in order for value in self.drawn[name].ravel()),
            places=tuple(place for name in order for place in self._place(name)),
        )

    def _place(self, name: str) -> list[float]:
        """The mean place of the drawn pixels, of a layer without new ones the middle of the image."""
        axes = np.unravel_index(self.places[name], self.image.shape)
        lengths = self.image.shape
        return [
            float((axis + 0.5).mean() / length) if axis.size else 0.5
            for axis, length in zip(axes, lengths, strict=True)
        ]


def _check_values(values: Sequence[int], layer: Layer, image: Image) -> None:
    """Refuse what is no mask of these classes."""
    unnamed = [value for value in values if value not in layer.names]
    if len(values) > MANY_VALUES and unnamed and (few := len(np.unique(image.pixels))) <= FEW_VALUES:
        raise ImageError(
            f"image and mask look swapped, since the image has {few} values and the mask has {len(values) + 1}"
        )
    if len(values) > MAX_LABELS:
        raise ImageError(f"it has {len(values) + 1} values, more than a mask can have classes")
    if layer.label and len(values) > 1:
        listed = ", ".join(map(str, values[:4])) + (", …" if len(values) > 4 else "")
        raise ImageError(
            f"its mask {layer.place} is of the label '{layer.label}' by its name and has the values {listed}: one is "
            "expected"
        )
    if layer.strict and unnamed:
        known = ", ".join(f"{value} {name}" for value, name in sorted(layer.names.items()))
        raise ImageError(f"it has the value {unnamed[0]}, which is no class (the classes are {known})")
