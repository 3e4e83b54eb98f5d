"""``write_image``: an ``Image`` into a file of the format that its suffix names, whole or not at all.

A format takes the pixels exactly as they are or the call is refused; what would change them silently (a float in a PNG,
a label that does not fit) is for the caller to choose. Geometry is kept by NIfTI, NRRD, MetaImage, ``.npz`` and DICOM;
PNG, TIFF and ``.npy`` have no place for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from hounsfield.errors import ImageError
from hounsfield.images.dicom_writer import write_multiframe
from hounsfield.images.image import Image
from hounsfield.images.orientation import affine_to_ras
from hounsfield.images.windows import apply_window

Writer = Callable[[Image, Path], None]

# The only types that hold values of another type without changing one.
_HELD_BY = {"bool": "uint8", "float16": "float32"}
# The longest side that a NIfTI-1 header can declare.
_NIFTI_1_LIMIT = 32767


def write_image(
    image: Image, path: str | Path, *, window: tuple[float, float] | None = None, sources: Sequence[Path] = ()
) -> None:
    """Write an image by the suffix of ``path``: see ``WRITERS``. The file appears when it is complete.

    Args:
        image: what to write.
        path: where to; a file that is there is replaced.
        window: (center, width) in the units of the pixels, for PNG and TIFF alone: values are mapped through it to
            0 … 255. Needed to put floats or negative values in a PNG.
        sources: DICOM files that the image was derived from, for ``.dcm`` alone: patient and study are taken from the
            first, and all are referenced.

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
    with written_whole(path, suffix) as temporary:
        if suffix == ".dcm":
            write_multiframe(image, temporary, sources)
        else:
            WRITERS[suffix](image, temporary)


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


@contextmanager
def written_whole(path: Path, suffix: str) -> Iterator[Path]:
    """Give a temporary name in the same folder; rename it at the end, or remove it where something fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def _refused(image: Image, path_kind: str, holds: str) -> ImageError:
    pixels = image.pixels
    return ImageError(
        f"{path_kind} holds {holds}, and the image has {pixels.dtype} pixels of shape {pixels.shape} from "
        f"{pixels.min()} to {pixels.max()}. Choose a window to make a picture of it, or a format that keeps these "
        "values (.nii.gz, .nrrd, .npz)."
    )


def _flat_pixels(image: Image, kind: str) -> NDArray[Any]:
    """A 2D image in the order of OpenCV."""
    if image.rank != 2 or image.channels not in {1, 3}:
        raise _refused(image, kind, "one 2D image of 1 or 3 channels")
    return image.pixels[..., ::-1] if image.channels == 3 else image.pixels


def _encode(suffix: str, pixels: NDArray[Any], path: Path) -> None:
    done, content = cv2.imencode(suffix, np.ascontiguousarray(pixels))
    if not done:
        raise ImageError(f"OpenCV could not encode pixels of shape {pixels.shape} and type {pixels.dtype} as {suffix}.")
    path.write_bytes(content.tobytes())


def _write_png(image: Image, path: Path) -> None:
    pixels = _flat_pixels(image, "A PNG")
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 65535:
        raise _refused(image, "A PNG", "whole numbers from 0 to 65535")
    _encode(".png", pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16), path)


def _write_tiff(image: Image, path: Path) -> None:
    pixels = _flat_pixels(image, "A TIFF")
    if pixels.dtype.name not in {"uint8", "int8", "uint16", "int16", "int32", "float32", "float64"}:
        raise _refused(image, "A TIFF", "integers of up to 32 bits with a sign, or floats")
    _encode(".tif", pixels, path)


def _write_npy(image: Image, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, image.pixels, allow_pickle=False)


def _write_npz(image: Image, path: Path) -> None:
    geometry = {"spacing": image.spacing, "affine": image.affine}
    arrays = {name: np.asarray(value) for name, value in geometry.items() if value is not None}
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, pixels=image.pixels, **arrays)


def _write_nifti(image: Image, path: Path) -> None:
    pixels = image.pixels
    if image.channels == 3 and pixels.dtype == np.uint8:
        colour = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        values: NDArray[Any] = np.ascontiguousarray(pixels).view(colour)[..., 0].T
    elif image.channels == 1:
        values = pixels[..., 0].T
    else:
        raise _refused(image, "NIfTI", "one value a voxel, or red, green and blue of 8 bits")
    kind = nibabel.Nifti2Image if max(values.shape) > _NIFTI_1_LIMIT else nibabel.Nifti1Image
    affine = None if image.affine is None else affine_to_ras(image.affine)
    written = kind(values, affine, dtype=values.dtype)
    written.header.set_xyzt_units("mm")
    if affine is not None:
        written.set_qform(affine, 1, strip_shears=True)
        exact = np.allclose(written.get_qform(), affine, atol=1e-4)
        written.header["qform_code"] = 1 if exact else 0  # a qform cannot hold shears
        written.set_sform(affine, 1)
    elif image.spacing is not None:
        written.header.set_zooms(image.spacing[::-1])
    nibabel.save(written, path)


def _write_itk(image: Image, path: Path) -> None:
    if image.rank != 3 or image.affine is None:
        raise ImageError(
            f"NRRD and MetaImage hold a volume with a position in the patient, and the image is of rank {image.rank} "
            f"{'without' if image.affine is None else 'with'} an affine. Write '.nii.gz' or '.npz', which can leave "
            "the position open."
        )
    colour = image.channels > 1
    if image.channels not in {1, 3}:
        raise _refused(image, "A volume file", "1 or 3 values a voxel")
    pixels = np.ascontiguousarray(image.pixels if colour else image.pixels[..., 0])
    volume = SimpleITK.GetImageFromArray(pixels, isVector=colour)
    lengths = np.linalg.norm(image.affine[:3, :3], axis=0)
    volume.SetOrigin(image.affine[:3, 3].tolist())
    volume.SetSpacing(lengths[::-1].tolist())
    volume.SetDirection((image.affine[:3, :3] / lengths)[:, ::-1].reshape(-1).tolist())
    try:
        SimpleITK.WriteImage(volume, str(path), True)
    except RuntimeError as error:
        raise OSError(f"SimpleITK could not write {path.name}: {str(error).splitlines()[-1]}") from error


# Suffix -> what writes it; DICOM is apart, for it takes references too.
WRITERS: dict[str, Writer] = {
    ".png": _write_png,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".npy": _write_npy,
    ".npz": _write_npz,
    ".nii": _write_nifti,
    ".nii.gz": _write_nifti,
    ".nrrd": _write_itk,
    ".mha": _write_itk,
}
