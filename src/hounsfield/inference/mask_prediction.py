"""What a segmenter says of one image."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.mask_uncertainty import Predicted
from hounsfield.images import Image
from hounsfield.inference.prediction import BasePrediction, Row
from hounsfield.inference.sliding import entropy
from hounsfield.masks import region_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskPrediction(BasePrediction):
    """The outlines of structures in an image.

    Attributes:
        mask: uint8 on the grid of the image as read, with its geometry: one channel with 0 for background and i + 1 for
            label i, or, where labels overlap, one channel of zeros and ones for each.
        labels: in class order.
        pixels: label → pixels or voxels of the mask.
        unit: of sizes: "ml", "mm²", and without a spacing "voxels" or "pixels".
        sizes: label → the volume or area of the mask, with the interval that holds the true one; its ends are ``nan``
            where the bundle keeps no validation images, or too few.
        dice: label → the Dice that the mask is predicted to have, with its interval; ``None`` of an empty mask.
        uncertainty: label → the mean entropy of a pixel of the mask, 0 to 1; ``nan`` of an empty one.
        probabilities: (spatial …, labels) float32 on the grid of the image, where they were asked for.
        has_intervals: whether the bundle keeps validation images.
    """

    mask: Image
    labels: tuple[str, ...]
    pixels: dict[str, int]
    unit: str
    sizes: dict[str, Predicted]
    dice: dict[str, Predicted | None]
    uncertainty: dict[str, float]
    probabilities: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    has_intervals: bool = True

    @property
    def overlapping(self) -> bool:
        """Whether the mask has a channel for each label."""
        return self.mask.channels > 1

    def region(self, label: str) -> npt.NDArray[np.bool_]:
        """Where a label is: (spatial …)."""
        return region_of(np.asarray(self.mask.pixels), self.labels.index(label), overlapping=self.overlapping)

    def rows(self) -> list[Row]:
        """One row per label."""
        return [{"image": self.image, "label": label} | self._row(label) for label in self.labels]

    def files(self) -> Iterator[tuple[str, Image]]:
        """The images that make up the prediction, each with the ending of its name."""
        if not self.overlapping:
            yield "", self.mask
        else:
            for index, label in enumerate(self.labels):
                yield (
                    f"_{index + 1}-{_in_name(label)}",
                    self.mask.replace(pixels=self.mask.pixels[..., index : index + 1]),
                )
        if self.probabilities is not None:
            for index, label in enumerate(self.labels):
                pixels = self.probabilities[..., index : index + 1]
                yield f"_p{index + 1}-{_in_name(label)}", self.mask.replace(pixels=pixels)
            yield "_uncertainty", self.mask.replace(pixels=self._doubt(self.probabilities))

    def draw(self, image: Image) -> Figure:
        """The outlines over the image, with sizes; of a volume three slices. See :meth:`BasePrediction.draw`."""
        drawing = importlib.import_module("hounsfield.drawing.outlines")
        sizes = {label: f"{self.sizes[label].value:.4g} {self.unit}" for label in self.labels}
        figure: Figure = drawing.outlines_figure(image, self.mask, labels=sizes, title=self.image)
        return figure

    def content(self) -> dict[str, Any]:
        """Sizes, predicted Dice and uncertainty of each label; the mask itself is a file."""
        return {"shape": list(self.mask.shape), "labels": {label: self._row(label) for label in self.labels}}

    def _doubt(self, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(spatial …, 1) the entropy of each pixel, 0 to 1; of labels that overlap that of the most uncertain one."""
        if self.overlapping:
            return np.asarray(entropy(probabilities, overlapping=True).max(axis=-1, keepdims=True), np.float32)
        background = 1 - probabilities.sum(axis=-1, keepdims=True)
        return entropy(np.concatenate([background, probabilities], axis=-1), overlapping=False)

    def _row(self, label: str) -> Row:
        size, dice = self.sizes[label], self.dice[label]
        row: Row = {"pixels": self.pixels[label], "size": _rounded(size.value), "unit": self.unit}
        if self.has_intervals:
            row |= {"size_low": _rounded(size.low), "size_high": _rounded(size.high)}
            ends = (None, None, None) if dice is None else tuple(_rounded(each) for each in dice)
            row |= dict(zip(("dice_predicted", "dice_low", "dice_high"), ends, strict=True))
        row["uncertainty"] = _rounded(self.uncertainty[label])
        return row | self.distance() | {"flags": ";".join(self.flags)}


def _rounded(value: float) -> float | None:
    """Five significant digits; what is undefined or infinite is left out, as JSON has neither."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _in_name(label: str) -> str:
    """A label as part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in label)
