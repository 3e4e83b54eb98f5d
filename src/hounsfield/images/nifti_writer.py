"""NIfTI-1, or NIfTI-2 where a side is too long for it; the header is nibabel's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
from numpy.typing import NDArray

from hounsfield.images.image import Image
from hounsfield.images.label_names import nifti_extension
from hounsfield.images.orientation import affine_to_ras
from hounsfield.images.unwritable import unwritable

# The longest side that a NIfTI-1 header can declare.
NIFTI_1_LIMIT = 32767
COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
# Of libdeflate: files as large as those of zlib's usual level in a third of the time.
LEVEL = 6


def write_nifti(image: Image, path: Path, rescaled: bool = False) -> None:
    """Write one value a voxel, or red, green and blue of 8 bits; gzipped where the name ends in ``.gz``.

    A label map whose metadata names its values carries the names in an extension.

    Args:
        image: what to write.
        path: where to.
        rescaled: write the integers that the image was made of, and their slope and intercept, where these still give
            its values.
    """
    scale = (1.0, 0.0)
    if image.channels == 3 and image.pixels.dtype == np.uint8:
        values: NDArray[Any] = np.ascontiguousarray(image.pixels).view(COLOUR)[..., 0]
    elif image.channels == 1:
        values = image.pixels[..., 0]
        stored = _unscaled(values, image.metadata.rescale) if rescaled else None
        if stored is not None and image.metadata.rescale is not None:
            values, scale = stored, image.metadata.rescale
    else:
        raise unwritable(image, "NIfTI", "one value a voxel, or red, green and blue of 8 bits")
    header = _header(image, values.T)
    header["scl_slope"], header["scl_inter"] = scale
    labels = image.metadata.labels if values.dtype.kind in "iu" else ()
    extension = nifti_extension(labels) if labels else b""
    # Four bytes behind the header say whether an extension follows.
    header["vox_offset"] = int(header["vox_offset"]) + len(extension)
    start = bytes(header.binaryblock) + bytes([bool(extension), 0, 0, 0]) + extension
    values = np.ascontiguousarray(values)
    if path.suffix == ".gz":
        path.write_bytes(imagecodecs.gzip_encode(start + values.tobytes(), level=LEVEL))
        return
    with path.open("wb") as file:
        file.write(start)
        values.tofile(file)


def _header(image: Image, values: NDArray[Any]) -> Any:
    """The header of values in NIfTI's order of axes."""
    kind = nibabel.Nifti2Image if max(values.shape) > NIFTI_1_LIMIT else nibabel.Nifti1Image
    affine = None if image.affine is None else affine_to_ras(image.affine)
    written = kind(values, affine, dtype=values.dtype)
    header = written.header
    header.set_xyzt_units("mm")
    if affine is not None:
        written.set_qform(affine, 1, strip_shears=True)
        exact = np.allclose(written.get_qform(), affine, atol=1e-4)
        header["qform_code"] = 1 if exact else 0  # a qform cannot hold shears
        written.set_sform(affine, 1)
    elif image.spacing is not None:
        header.set_zooms(image.spacing[::-1])
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    return header


def _unscaled(values: NDArray[Any], rescale: tuple[float, float] | None) -> NDArray[Any] | None:
    """The integers of 16 bits that become these values by slope and intercept in the header's single precision.

    A value may differ by the last digit of single precision, which is how far the header's slope may be from the true
    one. ``None`` where some value differs more, or there is no such slope.
    """
    if rescale is None or values.dtype != np.float32:
        return None
    slope, intercept = (float(np.float32(number)) for number in rescale)
    if not (np.isfinite([slope, intercept]).all() and slope):
        return None
    for dtype in (np.int16, np.uint16):
        stored = np.empty(values.shape, dtype)
        if all(_is_unscaled(part, room, slope, intercept) for part, room in zip(values, stored, strict=True)):
            return stored
    return None


def _is_unscaled(values: NDArray[Any], room: NDArray[Any], slope: float, intercept: float) -> bool:
    """Fill a slice with integers; whether they become its values again."""
    with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is told by the comparison
        room[...] = np.rint((values - np.float64(intercept)) / slope)
        again = (room * np.float64(slope) + intercept).astype(np.float32)
        return bool((np.abs(again - values) <= np.spacing(np.abs(values))).all())
