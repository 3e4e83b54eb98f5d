"""Masks of images and volumes of any size, on the grid of the image as it was read."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, UsageError
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty, Predicted
from hounsfield.images import Image, write_image
from hounsfield.images.image import Metadata
from hounsfield.inference.appearance import appearances, layout
from hounsfield.inference.base import BasePredictor, Prepared
from hounsfield.inference.engines import Engine
from hounsfield.inference.mask_prediction import MaskPrediction
from hounsfield.inference.novelty import out_of_distribution
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.parallel import Turns
from hounsfield.inference.prediction import DISTANCE_COLUMNS
from hounsfield.inference.sliding import FULL, Segmented, Sliding
from hounsfield.masks import (
    Mask,
    dice,
    label_sizes,
    largest_component,
    pixel_counts,
    region_of,
    region_window,
    size_unit,
)
from hounsfield.preprocessing.grid_change import GridChange
from hounsfield.preprocessing.interpolation import along_axis, area_matrix
from hounsfield.progress import Progress, silent
from hounsfield.tasks import Family

# Of the intervals of volumes and of predicted Dice.
COVERAGE = 0.9
# bfloat16 is allowed where its masks have this Dice with those of float32, on the mean over labels and images.
SAME_MASK = 0.99


class Outlined(NamedTuple):
    """What the network makes of one prepared image, on the grid of the image as it was read.

    Attributes:
        mask: uint8 (spatial …, 1), or (spatial …, labels) where labels overlap; see ``hounsfield.masks``.
        segmented: what it was made of, on the prepared grid.
    """

    mask: Mask
    segmented: Segmented


class Segmenter(BasePredictor[MaskPrediction]):
    """Outlines structures in images; see :class:`BasePredictor`.

    Args:
        bundle: of a segmenter, loaded, or the folder of a run or bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras", or an engine that is open.
        threshold: of labels that overlap, instead of the bundle's own.
        coverage: with which intervals of volumes and of predicted Dice hold the true value.
        mirror: whether mirrored views are averaged, along the axes that training mirrored: up to eight times the time.
        probabilities: whether predictions keep the probability of each label at each pixel.

    Raises:
        BundleError, MissingDependency, UsageError: as :func:`hounsfield.inference.open_engine` does.
        BundleError: the bundle's settings are incomplete.
        UsageError: an option does not fit the bundle.
    """

    FAMILY: ClassVar[Family] = "masks"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"threshold", "coverage", "mirror", "probabilities"})
    _trace: ClassVar[bool] = True

    def __init__(
        self,
        bundle: Bundle | str | Path,
        engine: str | Engine = "auto",
        *,
        threshold: float | None = None,
        coverage: float = COVERAGE,
        mirror: bool = False,
        probabilities: bool = False,
    ) -> None:
        super().__init__(bundle)
        self.sliding = sliding_of(self.bundle, threshold, mirror=mirror)
        self._coverage, self._probabilities = coverage, probabilities
        self._largest = frozenset(self.bundle.settings.get("largest_component", ()))
        self._kept = self.bundle.kept(MaskUncertainty)
        # Images have any size, so each is a batch by itself.
        self._batch_size = 1
        self._open(engine)

    @property
    def overlapping(self) -> bool:
        """Whether a pixel may have several labels."""
        return self.sliding.overlapping

    @property
    def columns(self) -> list[str]:
        """``image``, ``label``, the size with its interval, predicted Dice, uncertainty, distances."""
        size = ["pixels", "size", "unit", *(["size_low", "size_high"] if self._kept else [])]
        dice = ["dice_predicted", "dice_low", "dice_high"] if self._kept else []
        distance = [*DISTANCE_COLUMNS, "flags"] if self.bundle.novelty else ["flags"]
        return ["image", "label", *size, *dice, "uncertainty", *distance]

    def summary(self, predictions: int, rows: int) -> str | None:  # noqa: ARG002 - rows are images times labels
        """Whether intervals are known; see :meth:`BasePredictor.summary`."""
        if self._kept is None:
            return "Sizes come without intervals: the bundle keeps no validation images."
        return self._kept.describe(self.bundle.labels, self._coverage)

    def outline(
        self,
        pixels: Floats,
        change: GridChange,
        shape: Sequence[int],
        *,
        alone: bool = True,
        progress: Progress = silent,
    ) -> Outlined:
        """The mask of a prepared image on the grid of the image as read.

        Args:
            pixels: (spatial …, channels) as the pipeline gives them, of any size.
            change: how their grid lies to that of the image as read.
            shape: spatial lengths of the image as read.
            alone: as of an engine's ``run``.
            progress: told of windows.
        """
        exact = change.is_exact
        keep = self._probabilities or not exact
        found = self.sliding.segment(partial(self._run_window, alone=alone), pixels, progress, keep=keep)
        shares: Any = found.probabilities
        thresholds = FULL * np.asarray(self.sliding.thresholds)
        mask = (
            change.mask_back(found.mask, shape)
            if exact
            else change.labels_back(shares, shape, overlapping=self.overlapping, thresholds=thresholds)
        )
        cleaned = largest_only(mask, self.bundle.labels, self._largest, overlapping=self.overlapping)
        return Outlined(cleaned, found)

    def describe(self, pixels: Floats, features: Floats) -> dict[str, npt.NDArray[Any]]:
        """What novelty is judged by, (1, …) each: features, how the image looks in the network's shape, and lies."""
        return {
            "features": features[np.newaxis],
            "appearance": appearances(reduced(pixels, self.sliding.patch)[np.newaxis]),
            "orientation": layout(pixels)[np.newaxis],
        }

    @classmethod
    def has_files(cls, bundle: Bundle) -> bool:  # noqa: ARG003 - every segmenter writes masks
        """Masks; see :meth:`BasePredictor.has_files`."""
        return True

    def write_files(self, folder: Path, name: str, prediction: MaskPrediction) -> list[Path]:
        """Write the mask as NIfTI, of a 2D image as PNG, and probabilities where they are kept."""
        written = []
        for ending, image in prediction.files():
            suffix = ".nii.gz" if image.rank == 3 or image.pixels.dtype != np.uint8 else ".png"
            written.append(folder / f"{name}{ending}{suffix}")
            write_image(image, written[-1])
        return written

    def _run_window(self, batch: Floats, *, alone: bool) -> tuple[Floats, Floats]:
        logits, features = self.engine.run(batch, alone=alone)
        return logits, features

    def _input_of(self, prepared: Image) -> tuple[int, ...]:
        wanted, found = self.bundle.input_shape, prepared.pixels.shape
        return (*found[:-1], wanted[-1]) if len(found) == len(wanted) else wanted

    @property
    def _alone(self) -> bool:
        return self.rank == 3

    def _predictions(self, prepared: Sequence[Prepared], alone: bool, turns: Turns) -> list[MaskPrediction]:
        return [self._of_image(image, alone, turns.progress if self._alone else silent) for image in prepared]

    def _of_image(self, image: Prepared, alone: bool, progress: Progress) -> MaskPrediction:
        change = image.change or GridChange(np.eye(4))
        mask, found = self.outline(image.pixels, change, image.shape, alone=alone, progress=progress)
        labels, count = self.bundle.labels, len(self.bundle.labels)
        sizes = label_sizes(mask, count, image.spacing, overlapping=self.overlapping).tolist()
        unit = size_unit(self.rank, image.spacing)
        score, reasons = self._distance(image.pixels, found.features)
        named = Metadata(labels=() if self.overlapping else tuple(enumerate(labels, start=1)))
        return MaskPrediction(
            reference=image.reference,
            mask=Image(mask, image.spacing, image.affine, "SEG", named, image.reference),
            labels=labels,
            pixels=dict(zip(labels, pixel_counts(mask, count, overlapping=self.overlapping).tolist(), strict=True)),
            unit=unit,
            sizes={label: self._size(index, sizes[index], unit) for index, label in enumerate(labels)},
            dice={label: self._dice(index, found.expected[index]) for index, label in enumerate(labels)},
            uncertainty=dict(zip(labels, found.uncertainty.tolist(), strict=True)),
            probabilities=self._original(found, change, image.shape) if self._probabilities else None,
            has_intervals=self._kept is not None,
            features=found.features,
            ood_score=score,
            flags=(*reasons, *image.flags),
        )

    def _size(self, label: int, size: float, unit: str) -> Predicted:
        if self._kept is None or self._kept.unit != unit:
            return Predicted(size, math.nan, math.nan)
        found = self._kept.volume(label, size, self._coverage)
        return found if math.isfinite(found.high) else Predicted(size, math.nan, math.nan)

    def _dice(self, label: int, expected: float) -> Predicted | None:
        return None if self._kept is None else self._kept.predicted_dice(label, expected, self._coverage)

    def _original(self, found: Segmented, change: GridChange, shape: Sequence[int]) -> Floats:
        shares: Any = found.probabilities
        shares = shares if self.overlapping else shares[..., 1:]
        return np.asarray(np.nan_to_num(change.probabilities_back(shares, shape)) / FULL, np.float32)

    def _distance(self, pixels: Floats, features: Floats) -> tuple[float | None, tuple[str, ...]]:
        if self.bundle.novelty is None:
            return None, ()
        picture = reduced(pixels, self.sliding.patch)
        lies = {"orientation": layout(pixels)[np.newaxis]}
        scores, flags = out_of_distribution(self.bundle.novelty, picture[np.newaxis], features[np.newaxis], lies)
        return None if scores is None else float(scores[0]), flags[0]

    @classmethod
    def agree(cls, bundle: Bundle, engines: Sequence[Engine], images: Iterable[Floats]) -> bool:
        """Whether masks have a mean Dice of .99 with those of the exact engine; see :meth:`BasePredictor.agree`."""
        sliding, scores = sliding_of(bundle, None), []
        for pixels in images:
            masks = [sliding.segment(partial(_run, engine), pixels, keep=False).mask for engine in engines]
            for label in range(len(bundle.labels)):
                same = dice(*(region_of(mask, label, overlapping=sliding.overlapping) for mask in masks))
                scores.append(1.0 if math.isnan(same) else same)
        return bool(scores) and float(np.mean(scores)) >= SAME_MASK


def _run(engine: Engine, batch: Floats) -> tuple[Floats, Floats]:
    logits, features = engine.run(batch)
    return logits, features


def sliding_of(bundle: Bundle, threshold: float | None, *, mirror: bool = False) -> Sliding:
    """How the network of a bundle is run over an image.

    Raises:
        BundleError: its settings are incomplete.
        UsageError: a threshold is given where labels are exclusive, or mirrored views are asked for and were not
            trained.
    """
    try:
        overlapping, flips = bool(bundle.settings["overlapping"]), tuple(map(int, bundle.settings.get("flips", ())))
    except KeyError as error:
        raise BundleError(
            f"bundle.json in {bundle.folder} lacks {error} among the segmenter's settings: it is damaged or was "
            "edited. Copy the bundle again from where it was made."
        ) from error
    if threshold is not None and not overlapping:
        raise UsageError(
            "The labels of this segmenter exclude each other: each pixel has the most probable one, and there is no "
            "threshold. Leave the threshold out."
        )
    if mirror and not flips:
        raise UsageError(
            "This segmenter was trained without mirrored images, so mirrored views would be worse. Leave --mirror out."
        )
    used = bundle.threshold if threshold is None else threshold
    return Sliding(bundle.input_shape[:-1], overlapping, flips if mirror else (), used)


def reduced(pixels: Floats, shape: Sequence[int]) -> Floats:
    """An image of any size as a small picture of one shape, by averaging areas: (shape …, channels)."""
    for axis, (length, size) in enumerate(zip(pixels.shape[:-1], shape, strict=True)):
        if length != size:
            pixels = along_axis(area_matrix(length, size), pixels, axis)
    return np.ascontiguousarray(pixels, np.float32)


def largest_only(mask: Mask, labels: Sequence[str], chosen: Collection[str], *, overlapping: bool) -> Mask:
    """A mask without the components beside the largest one of some labels; it is changed in place.

    Args:
        mask: (spatial …, 1), or (spatial …, labels) where labels overlap.
        labels: in class order.
        chosen: whose smaller components become background.
        overlapping: whether each label has a channel of its own.
    """
    for index, label in enumerate(labels):
        region = region_of(mask, index, overlapping=overlapping) if label in chosen else None
        if region is None or not region.any():
            continue
        window = region_window(region)
        part = region[window]
        mask[..., index if overlapping else 0][window][part & ~largest_component(part)] = 0
    return mask
