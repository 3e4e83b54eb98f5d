"""What a network predicts once something that it should not need is removed: a corner, the border, the exposure.

Each intervention is a pure function of an image of either rank. Corners are masked one by one: those in which nothing
stands show what masking alone does, so they are the control of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images import Image
from hounsfield.inference.labels import Predictor
from hounsfield.inference.prediction import BadImage
from hounsfield.progress import Progress, silent
from hounsfield.tasks import questions

CORNER_SHARE = 0.15  # of the rows and of the columns: where burnt-in markers and texts stand
BORDER_SHARE = 0.06  # of each side
EXPOSURE_SHARE = 0.1  # of the range from the 1st to the 99th percentile
UNCHANGED = "unchanged"

Intervention = Callable[[Image], Image]


def mask_corner(image: Image, *, bottom: bool, right: bool) -> Image:
    """Fill one corner with the median of the band around it, slice by slice and channel by channel.

    Args:
        image: of either rank; a volume has this corner masked in each slice.
        bottom: the corner at the last rows; otherwise at the first ones.
        right: the corner at the last columns; otherwise at the first ones.
    """
    pixels = image.pixels.copy()
    view = np.flip(pixels, axis=tuple(axis for axis, flipped in ((-3, bottom), (-2, right)) if flipped))
    rows, columns = (max(1, round(CORNER_SHARE * size)) for size in pixels.shape[-3:-1])
    patch = view[..., : 2 * rows, : 2 * columns, :]
    band = np.ones(patch.shape[-3:-1], dtype=bool)
    band[:rows, :columns] = False
    if not band.any():
        raise ImageError(
            f"An image of {' × '.join(map(str, image.shape))} has nothing around a corner to fill it with; at least 2 "
            "rows or columns are needed. Give the image before it was cropped."
        )
    filling = np.median(patch[..., band, :], axis=-2)
    view[..., :rows, :columns, :] = filling[..., None, None, :].astype(pixels.dtype)
    return image.replace(pixels=pixels)


def mask_border(image: Image) -> Image:
    """Replace a frame at the ends of every spatial axis by the nearest values inside it."""
    margins = [min(max(1, round(BORDER_SHARE * size)), (size - 1) // 2) for size in image.shape]
    inner = image.pixels[tuple(slice(margin, size - margin) for margin, size in zip(margins, image.shape, strict=True))]
    return image.replace(pixels=np.pad(inner, [*((margin, margin) for margin in margins), (0, 0)], mode="edge"))


def shift_exposure(image: Image, *, share: float) -> Image:
    """Add a constant, a share of the range from the 1st to the 99th percentile; pixels become float32."""
    pixels = image.pixels.astype(np.float32)
    finite = pixels[np.isfinite(pixels)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 0.0)
    return image.replace(pixels=pixels + np.float32(share * (high - low)))


INTERVENTIONS: dict[str, Intervention] = {
    "upper left corner masked": partial(mask_corner, bottom=False, right=False),
    "upper right corner masked": partial(mask_corner, bottom=False, right=True),
    "lower left corner masked": partial(mask_corner, bottom=True, right=False),
    "lower right corner masked": partial(mask_corner, bottom=True, right=True),
    "border masked": mask_border,
    "exposure raised": partial(shift_exposure, share=EXPOSURE_SHARE),
    "exposure lowered": partial(shift_exposure, share=-EXPOSURE_SHARE),
}


def predict_interventions(
    predictor: Predictor,
    images: Iterable[Image],
    *,
    interventions: Mapping[str, Intervention] = INTERVENTIONS,
    progress: Progress = silent,
    total: int | None = None,
) -> dict[str, npt.NDArray[np.float64]]:
    """Predict every image as it is and after each intervention; the images are read once, and memory stays flat.

    Args:
        predictor: of the bundle.
        images: each gives one prediction.
        interventions: by name.
        progress: told of the images.
        total: how many there are, if known.

    Returns:
        Probabilities (n, K) as ``evaluation`` takes them: of the positive label of a binary task, otherwise of each
        label; by intervention, the unchanged images under ``UNCHANGED``.

    Raises:
        ImageError: an image could not be predicted, or gave several predictions.
    """
    names = [UNCHANGED, *interventions]
    labels = questions(predictor.bundle.labels, predictor.bundle.task)
    given = 0

    def variants() -> Iterator[Image]:
        nonlocal given
        for image in images:
            given += 1
            yield image
            yield from (change(image) for change in interventions.values())

    rows: list[list[float]] = []
    for prediction in predictor.stream(variants()):
        if isinstance(prediction, BadImage):
            raise ImageError(f"Image {len(rows) // len(names) + 1} could not be predicted. {prediction.reason}")
        rows.append([prediction.probabilities[label] for label in labels])
        progress("testing shortcuts", len(rows) // len(names), total)
    if len(rows) != given * len(names):
        raise ImageError(
            f"{given:,} images and their changed copies gave {len(rows):,} predictions; one each, "
            f"{given * len(names):,}, was expected. Give images of the rank that the network takes."
        )
    found: npt.NDArray[Any] = np.array(rows, dtype=np.float64).reshape(given, len(names), len(labels))
    return {name: found[:, number] for number, name in enumerate(names)}
