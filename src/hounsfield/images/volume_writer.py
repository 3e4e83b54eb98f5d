"""Volumes as NRRD and MetaImage, written by SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK

from hounsfield.errors import ImageError
from hounsfield.images.image import Image
from hounsfield.images.unwritable import unwritable

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)


def write_itk(image: Image, path: Path) -> None:
    """Write a volume of 1 or 3 values a voxel with its position, compressed."""
    if image.rank != 3 or image.affine is None:
        raise ImageError(
            f"NRRD and MetaImage hold a volume with a position in the patient, and the image is of rank {image.rank} "
            f"{'without' if image.affine is None else 'with'} an affine. Write '.nii.gz' or '.npz', which can leave "
            "the position open."
        )
    colour = image.channels > 1
    if image.channels not in {1, 3}:
        raise unwritable(image, "A volume file", "1 or 3 values a voxel")
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
