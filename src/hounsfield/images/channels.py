"""Several files, or the volumes of one, as the channels of one image, such as the sequences of an MRI."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.colour import is_grey
from hounsfield.images.image import Image
from hounsfield.images.reference import Reference

# Corners of two grids that are the same lie within this share of a voxel.
SAME_GRID = 0.01


def read_channels(reference: Reference, read: Callable[[Reference], Image]) -> Image:
    """One image of several, each of which becomes one channel, or as many as it has where it is in colour.

    All have the grid of the first. A volume on another grid is resampled linearly (labels to the nearest voxel) onto
    it where both say where they lie; values beyond its edge are its least one. ``metadata.resampled`` says so.

    Args:
        reference: whose ``parts`` are read.
        read: one of them.

    Raises:
        ImageError: one cannot be read, or lies on another grid and does not say where; or a file has more volumes than
            are named.
    """
    parts = reference.parts()
    images = [read(part) for part in parts]
    _refuse_more_volumes(parts, read)
    first, resampled = images[0], False
    channels = []
    for part, given in zip(parts, images, strict=True):
        same = _same_grid(first, given)
        image = given if same else _onto(first, given, part)
        resampled = resampled or not same
        channels.append(image.pixels[..., :1] if is_grey(image.pixels) else image.pixels)
    kinds = {values.dtype for values in channels}
    if len(kinds) > 1:
        channels = [values.astype(np.float32) for values in channels]
    metadata = vars(first.metadata) | {"resampled": resampled, "windows": ()}
    return first.replace(
        pixels=np.concatenate(channels, axis=-1), metadata=type(first.metadata)(**metadata), reference=reference
    )


def _refuse_more_volumes(parts: Sequence[Reference], read: Callable[[Reference], Image]) -> None:
    """Refuse a file whose volumes are the channels, and which has one more than are named."""
    paths = {part.path for part in parts}
    if len(paths) > 1 or parts[-1].frame is None:
        return
    try:
        read(parts[-1].replace(frame=len(parts)))
    except ImageError:
        return
    raise ImageError(
        f"{parts[0].path} has more than the {len(parts)} volumes that are named as channels. Name all of them."
    )


def _same_grid(first: Image, other: Image) -> bool:
    if first.shape != other.shape:
        return False
    if first.affine is None or other.affine is None:
        return True
    ends = np.array([[0, 0, 0, 1], [*([0] * (3 - first.rank)), *(length - 1 for length in first.shape), 1]], np.float64)
    apart = np.abs(ends @ first.affine.T - ends @ other.affine.T).max()
    return bool(apart <= SAME_GRID * min(first.spacing or (1.0,)))


def _onto(first: Image, other: Image, part: Reference) -> Image:
    """A volume on the grid of another one."""
    if first.rank != 3 or other.rank != 3 or first.affine is None or other.affine is None:
        sizes = " and ".join("×".join(map(str, image.shape)) for image in (first, other))
        raise ImageError(
            f"{part} is a channel of an image that starts with another file, and the two have the sizes {sizes} "
            "without a position in the patient by which one could be resampled onto the other. Give files of one grid."
        )
    step = np.linalg.inv(other.affine) @ first.affine
    # Loaded when it is needed, which is rare.
    transform = importlib.import_module("scipy.ndimage").affine_transform
    order = 0 if other.modality == "SEG" else 1
    channels: list[npt.NDArray[np.float32]] = [
        transform(
            values.astype(np.float32),
            step[:3, :3],
            step[:3, 3],
            output_shape=first.shape,
            order=order,
            cval=float(values.min()),
        )
        for values in np.moveaxis(other.pixels, -1, 0)
    ]
    return first.replace(pixels=np.stack(channels, axis=-1))
