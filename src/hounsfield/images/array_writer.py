"""Images as NumPy files: ``.npy`` without geometry, ``.npz`` with it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from hounsfield.images.image import Image

# Of zlib: a third of the time of the usual one, and files that are larger by a few hundredths.
FASTEST = 1


def write_npy(image: Image, path: Path) -> None:
    """Write the pixels alone."""
    with path.open("wb") as file:
        np.save(file, image.pixels, allow_pickle=False)


def write_npz(image: Image, path: Path) -> None:
    """Write ``pixels``, with ``spacing`` and ``affine`` where they are known."""
    arrays = {"pixels": image.pixels, "spacing": image.spacing, "affine": image.affine}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=FASTEST) as archive:
        for name, array in arrays.items():
            if array is not None:
                # NumPy's own writer offers no choice of the level. Beyond 2 GiB a member needs the larger header.
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
