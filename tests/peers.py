"""Programs that read the same files: what they say is the truth of some tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from hounsfield.images import Image

RAS_FROM_LPS = np.diag([-1.0, -1, 1, 1])
# (column, row, slice) of NIfTI to (slice, row, column).
REVERSED = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def peer(name: str, package: str = "") -> str:
    """The path of a program; where it is missing the test is skipped, and fails where all real data is demanded."""
    found = shutil.which(name)
    if found is None and os.environ.get("HOUNSFIELD_REQUIRE_DATA") == "1":
        pytest.fail(f"{name} is not installed (Debian: apt-get install {package or name}).")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def dcm2niix_volumes(folder: Path, target: Path) -> list[nibabel.Nifti1Image]:
    """Every volume that dcm2niix makes of a folder, each turned to the nearest canonical orientation."""
    target.mkdir()
    command = [peer("dcm2niix"), "-z", "n", "-b", "n", "-f", "%s_%p", "-o", str(target), str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = []
    for path in sorted(target.glob("*.nii")):
        image = nibabel.load(path)
        values = np.asarray(image.dataobj, dtype=np.float64)
        values = values if values.ndim == 4 else values[..., np.newaxis]
        found.extend(canonical(values[..., index], image.affine) for index in range(values.shape[-1]))
    return found


def as_nifti(image: Image) -> nibabel.Nifti1Image:
    """A volume in NIfTI's convention, turned as those of ``dcm2niix_volumes``."""
    values = image.pixels[..., 0].astype(np.float64)
    return canonical(values.transpose(2, 1, 0), RAS_FROM_LPS @ image.affine @ REVERSED)


def canonical(values: np.ndarray, affine: np.ndarray) -> nibabel.Nifti1Image:
    return nibabel.as_closest_canonical(nibabel.Nifti1Image(values, affine))
