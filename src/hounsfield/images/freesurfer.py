"""FreeSurfer's volumes, ``.mgh`` and gzipped ``.mgz``.

The header is that of FreeSurfer's wiki page "MghFormat": big-endian, with the direction cosines of the (column, row,
slice) axes and the RAS position of the volume's centre. Where ``goodRASFlag`` is 0, the file knows neither the size of
its voxels nor where they are.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import ImageError
from hounsfield.images.files import Stream, open_file
from hounsfield.images.image import Image, Metadata
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.images.orientation import Affine, affine_from_ras, is_usable, spacing_of
from hounsfield.images.volumes import alike, chosen_volume

HEADER = np.dtype(
    [
        ("version", ">i4"),
        ("sizes", ">i4", 3),
        ("frames", ">i4"),
        ("type", ">i4"),
        ("dof", ">i4"),
        ("good_ras", ">i2"),
        ("spacing", ">f4", 3),
        ("cosines", ">f4", (3, 3)),
        ("centre", ">f4", 3),
    ]
)
# The voxels begin here, whatever of the header is used.
HEADER_BYTES = 284
# type -> NumPy type.
TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}


def read_mgh(path: Path, max_pixels: int = MAX_PIXELS, volume: int | None = None) -> Image:
    """Read a FreeSurfer volume. Values keep their stored type.

    Args:
        path: the file.
        max_pixels: the largest number of voxels accepted; checked, as the file's size is, before memory is taken.
        volume: which volume of a 4D file, from 0; required where there are several.

    Raises:
        ImageError: the file is missing, damaged, truncated, too large, stores other values than numbers, or holds
            several volumes of which none was chosen.
    """
    with open_file(path) as file:
        stream = Stream(file)
        try:
            # A shorter file ends in a ValueError of NumPy's.
            header = np.frombuffer(stream.take(HEADER_BYTES), HEADER, 1)[0]
            shape, dtype = _layout(header, max_pixels, path)
            chosen = chosen_volume(alike(shape, int(header["frames"])), volume, path)
            raw = _voxels(stream, math.prod(shape) * dtype.itemsize, chosen)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ImageError(
                f"'{path}' cannot be read as a FreeSurfer volume: {error}. Expected an undamaged file; copy it again "
                "from its source."
            ) from error
    pixels = np.frombuffer(raw, dtype).reshape(*shape, 1).astype(dtype.newbyteorder("="), copy=False)
    affine = _affine(header, path)
    bits = dtype.itemsize * 8 if dtype.kind in "iu" else None
    spacing = None if affine is None else spacing_of(affine)
    return Image(pixels=pixels, spacing=spacing, affine=affine, metadata=Metadata(bits=bits))


def _layout(header: NDArray[np.void], max_pixels: int, path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    sizes = [int(size) for size in header["sizes"]]
    if int(header["version"]) != 1 or min(sizes) < 1 or int(header["frames"]) < 1:
        raise ImageError(
            f"'{path}' is no FreeSurfer volume: version {header['version']}, sizes {sizes}, {header['frames']} frames. "
            "Expected version 1 and positive sizes; copy it again from its source."
        )
    if math.prod(sizes) > max_pixels:
        raise ImageError(
            f"'{path}' declares {' × '.join(map(str, sizes))} voxels, more than the {max_pixels:,} allowed. If the "
            "file is what it says, raise --max-pixels; else its header is damaged."
        )
    if int(header["type"]) not in TYPES:
        raise ImageError(
            f"'{path}' stores its voxels as FreeSurfer's type {header['type']}. Expected integers of 8 to 32 bits or "
            "32-bit floats; convert it with mri_convert first."
        )
    return tuple(sizes[::-1]), np.dtype(TYPES[int(header["type"])])


def _voxels(stream: Stream, size: int, frame: int) -> bytes | bytearray:
    """The bytes of one frame; behind the last one may stand what else is known of the acquisition."""
    before = size * frame
    if HEADER_BYTES + before + size > stream.capacity:
        raise EOFError(f"{HEADER_BYTES + before + size:,} bytes are declared, more than the file can hold")
    stream.skip(before)
    raw = stream.take(size)
    if len(raw) < size:
        raise EOFError(f"{size:,} bytes of voxels are declared and {len(raw):,} are there")
    stream.verify()
    return raw


def _affine(header: NDArray[np.void], path: Path) -> Affine | None:
    if int(header["good_ras"]) <= 0:
        return None
    ras = np.eye(4)
    with np.errstate(all="ignore"):  # damaged numbers are refused by what they lead to, below
        # The cosines are listed axis by axis.
        ras[:3, :3] = header["cosines"].astype(np.float64).T * header["spacing"].astype(np.float64)
        ras[:3, 3] = header["centre"] - ras[:3, :3] @ (header["sizes"] / 2)
        affine = affine_from_ras(ras)
    if not is_usable(affine) or (header["spacing"] <= 0).any():
        raise ImageError(
            f"'{path}' gives the geometry {affine.tolist()}. Expected positive voxel sizes and an invertible matrix; "
            "correct the header."
        )
    return affine
