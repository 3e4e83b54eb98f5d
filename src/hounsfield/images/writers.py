"""``write_image``: an ``Image`` into a file of the format that its suffix names, whole or not at all.

A format takes the pixels exactly as they are or the call is refused; what would change them silently (a float in a PNG,
a label that does not fit) is for the caller to choose. Geometry is kept by NIfTI, NRRD, MetaImage, ``.npz`` and DICOM;
PNG, TIFF and ``.npy`` have no place for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.atomic import replacing
from hounsfield.errors import ImageError
from hounsfield.images.image import Image
from hounsfield.images.windows import apply_window

# Suffix -> module and function that write it, as (image, path); DICOM is apart, for it takes references too. Named, not
# imported: who writes NIfTI files need not wait for SimpleITK and OpenCV to load.
WRITERS: dict[str, tuple[str, str]] = {
    ".png": ("hounsfield.images.raster_writer", "write_png"),
    ".tif": ("hounsfield.images.raster_writer", "write_tiff"),
    ".tiff": ("hounsfield.images.raster_writer", "write_tiff"),
    ".npy": ("hounsfield.images.array_writer", "write_npy"),
    ".npz": ("hounsfield.images.array_writer", "write_npz"),
    ".nii": ("hounsfield.images.nifti_writer", "write_nifti"),
    ".nii.gz": ("hounsfield.images.nifti_writer", "write_nifti"),
    ".nrrd": ("hounsfield.images.volume_writer", "write_itk"),
    ".mha": ("hounsfield.images.volume_writer", "write_itk"),
}
SEGMENTATION_WRITER = ("hounsfield.images.dicom_segmentation_writer", "write_segmentation")
DICOM_WRITER = ("hounsfield.images.dicom_writer", "write_multiframe")

# The only types that hold values of another type without changing one.
_HELD_BY = {"bool": "uint8", "float16": "float32"}
# The integers that pixels of 16 bits and less become by a whole slope and intercept, the smallest first.
_STORED_TYPES = (np.int16, np.uint16, np.int32)


def write_image(
    image: Image,
    path: str | Path,
    *,
    window: tuple[float, float] | None = None,
    sources: Sequence[Path] = (),
    rescaled: bool = False,
) -> None:
    """Write an image by the suffix of ``path``: see ``WRITERS``. The file appears when it is complete.

    Args:
        image: what to write.
        path: where to; a file that is there is replaced.
        window: (center, width) in the units of the pixels, for PNG and TIFF alone: values are mapped through it to
            0 … 255. Needed to put floats or negative values in a PNG.
        sources: DICOM files that the image was derived from, for ``.dcm`` alone: patient and study are taken from the
            first, and all are referenced. A label map whose metadata names its values becomes a segmentation of them.
        rescaled: for NIfTI alone: floats that a file made of integers by one slope and intercept are written as these
            integers again, with both in the header; the values are the same in single precision but for its last digit.

    Raises:
        ImageError: the suffix is not known, or the format cannot hold the image's values, shape or geometry.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if window is not None:
        if suffix not in {".png", ".tif", ".tiff"}:
            raise ImageError(
                f"A window was given for '{path}', and a '{suffix}' file keeps the values themselves. Leave the window "
                "out, or write a PNG or TIFF."
            )
        image = image.replace(pixels=_windowed(image.pixels, window))
    if sources and suffix != ".dcm":
        raise ImageError(f"'{path}' has no place for references to DICOM files. Write '.dcm', or leave 'sources' out.")
    image = _widened(image)
    if suffix == ".dcm":
        module, function = SEGMENTATION_WRITER if image.metadata.labels and sources else DICOM_WRITER
    else:
        module, function = WRITERS[suffix]
    write = getattr(importlib.import_module(module), function)
    with replacing(path) as temporary:
        write(image, temporary, *_extras(suffix, sources, rescaled))


def _extras(suffix: str, sources: Sequence[Path], rescaled: bool) -> list[Any]:
    """What the writer of a format takes beside the image and the path."""
    extras: dict[str, list[Any]] = {".dcm": [sources], ".nii": [rescaled], ".nii.gz": [rescaled]}
    return extras.get(suffix, [])


def suffix_of(path: Path) -> str:
    """The suffix that decides the format, ``.nii.gz`` counting as one.

    Raises:
        ImageError: no writer is known for it.
    """
    name = path.name.lower()
    suffix = ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()
    if suffix not in WRITERS and suffix != ".dcm":
        raise ImageError(
            f"No writer is known for the suffix '{suffix}' of '{path}'. Expected one of "
            f"{', '.join([*sorted(WRITERS), '.dcm'])}; give the file one of these names."
        )
    return suffix


def as_stored(image: Image) -> Image:
    """Floats that were integers in their file as integers again, where all of them are whole: Hounsfield units are.

    The values are the same, and take half of the place.
    """
    if image.pixels.dtype != np.float32 or image.metadata.bits is None:
        return image
    for dtype in _STORED_TYPES:
        pixels = np.empty(image.pixels.shape, dtype)
        if all(_is_held(part, room) for part, room in zip(image.pixels, pixels, strict=True)):
            return image.replace(pixels=pixels)
    return image


def _is_held(values: NDArray[np.float32], room: NDArray[np.integer]) -> bool:
    """Copy values into integers; whether none of them changed."""
    with np.errstate(invalid="ignore"):  # of what does not fit, which is told by the comparison
        room[...] = values
    return bool(np.array_equal(room, values))


def _widened(image: Image) -> Image:
    wider = _HELD_BY.get(str(image.pixels.dtype))
    return image if wider is None else image.replace(pixels=image.pixels.astype(wider))


def _windowed(pixels: NDArray[Any], window: tuple[float, float]) -> NDArray[np.uint8]:
    center, width = window
    if not np.isfinite([center, width]).all() or width < 1:
        raise ImageError(
            f"The window ({center}, {width}) was given, and expected are a finite center and a width of at least 1. "
            "Correct the window."
        )
    return np.rint(apply_window(np.nan_to_num(pixels), center, width) * 255).astype(np.uint8)
