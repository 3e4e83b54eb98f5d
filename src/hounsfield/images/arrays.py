"""Images in NumPy files: ``.npy``, and ``.npz`` with a single array."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.image import Image

NUMPY_MAGIC = b"\x93NUMPY"
# What NumPy and zipfile raise for damaged input; those of Python's grammar come from NumPy's header parser.
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
# A last axis of this length means channels; of any other length it means columns.
CHANNEL_COUNTS = (1, 3, 4)


def read_array(path: Path, max_pixels: int) -> Image:
    """Read a ``.npy`` file, or an ``.npz`` archive that holds exactly one array, as an image without geometry.

    Shapes: (rows, columns), (rows, columns, 1|3|4), (slices, rows, columns), (slices, rows, columns, 1|3|4). A fourth
    channel is taken for transparency and dropped. The values and their type are kept, except that booleans become
    uint8, half floats float32, and foreign byte orders the machine's own.

    Raises:
        ImageError: the file is damaged, needs pickle, or its array is no image or has more than ``max_pixels`` values.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(6) == NUMPY_MAGIC:
                stream.seek(0)
                values = _read_npy(stream, path, path.stat().st_size, max_pixels)
            else:
                values = _read_single_member(path, max_pixels)
    except DAMAGE as error:
        raise ImageError(
            f"{path} is not a NumPy array that can be read ({error}): expected .npy or a single-array .npz with plain "
            "numbers. Save it again with numpy.save(path, array, allow_pickle=False)."
        ) from error
    return Image(pixels=_with_channels(values, path))


def _read_single_member(path: Path, max_pixels: int) -> npt.NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        if len(members) != 1:
            raise ImageError(
                f"{path} holds {len(members)} arrays, but one image is one array. If it is a data set of many images, "
                "give it as the cohort; otherwise save the wanted array by itself as .npy."
            )
        with archive.open(members[0]) as stream:
            return _read_npy(stream, path, members[0].file_size, max_pixels)


def _read_npy(stream: IO[bytes], path: Path, num_bytes: int, max_pixels: int) -> npt.NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ImageError(
            f"{path} holds values of type {dtype}, which are no grey values: expected integers, floats or booleans. "
            "Convert the array before saving it."
        )
    count = math.prod(shape)
    if min(shape, default=1) < 0 or count > max_pixels:
        raise ImageError(
            f"{path} declares an array of shape {shape}, more than the limit of {max_pixels} values. Raise max_pixels "
            "if the file is to be trusted."
        )
    if count * dtype.itemsize > num_bytes:
        raise ImageError(
            f"{path} is truncated: an array of shape {shape} and type {dtype} needs {count * dtype.itemsize} bytes, "
            f"and the file has {num_bytes}. Copy it again from its source."
        )
    values = np.frombuffer(stream.read(count * dtype.itemsize), dtype=dtype)
    return values.reshape(shape[::-1]).T if fortran_order else values.reshape(shape)


def _with_channels(values: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if values.ndim not in (2, 3, 4) or values.size == 0:
        raise ImageError(
            f"{path} holds an array of shape {values.shape}: expected (rows, columns), (slices, rows, columns), or "
            "one of these with 1, 3 or 4 channels last."
        )
    if values.ndim == 4 and values.shape[-1] not in CHANNEL_COUNTS:
        raise ImageError(
            f"{path} holds an array of shape {values.shape}, whose last axis is not 1, 3 or 4 channels: a series in "
            "time or a batch of images is not one image. Save each image by itself."
        )
    if values.ndim == 2 or (values.ndim == 3 and values.shape[-1] not in CHANNEL_COUNTS):
        values = values[..., np.newaxis]
    if values.shape[-1] == 4:
        values = values[..., :3]
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)
