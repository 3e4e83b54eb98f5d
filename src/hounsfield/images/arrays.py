"""Images in NumPy files: ``.npy``, and ``.npz`` with a single array or with pixels and their geometry."""

from __future__ import annotations

import io
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.files import DEFLATE_LIMIT, open_file
from hounsfield.images.image import Image
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.images.orientation import is_usable

NUMPY_MAGIC = b"\x93NUMPY"
# NumPy's own limit, held before the header is read; a header may declare 4 GB.
MAX_HEADER_BYTES = 10_000
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

# The array that holds the pixels of an archive with geometry, and what may stand beside it.
PIXELS = "pixels.npy"
GEOMETRY = frozenset({"spacing.npy", "affine.npy"})
# A 4×4 matrix of doubles with its header is a tenth of this.
MAX_GEOMETRY_BYTES = 4096
# How the members of an archive may be compressed.
METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


def read_array(path: Path, max_pixels: int = MAX_PIXELS) -> Image:
    """Read a ``.npy`` file, or an ``.npz`` archive.

    An archive holds exactly one array, or ``pixels`` (channels last) with the optional ``spacing`` and ``affine``. The
    shapes of a single array: (rows, columns), (rows, columns, 1|3|4), (slices, rows, columns), (slices, rows, columns,
    1|3|4). A fourth channel is taken for transparency and dropped. The values and their type are kept, except that
    booleans become uint8, half floats float32, and foreign byte orders the machine's own.

    Raises:
        ImageError: the file is damaged, needs pickle, its array is no image or has more than ``max_pixels`` values, or
            an archive holds other arrays or a geometry that does not fit.
    """
    with _refusing(path), open_file(path) as stream:
        if stream.read(6) == NUMPY_MAGIC:
            stream.seek(0)
            size = os.fstat(stream.fileno()).st_size
            return Image(pixels=_with_channels(_read_npy(stream, path, size, max_pixels), path))
        with zipfile.ZipFile(stream) as archive:
            return _read_archive(archive, path, max_pixels)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise ImageError(
            f"{path} is not a NumPy array that can be read ({error}): expected .npy or a single-array .npz with plain "
            "numbers. Save it again with numpy.save(path, array, allow_pickle=False)."
        ) from error


def _read_archive(archive: zipfile.ZipFile, path: Path, max_pixels: int) -> Image:
    members = {member.filename: member for member in archive.infolist() if member.filename.endswith(".npy")}
    if PIXELS in members and len(members) > 1:
        return _with_geometry(archive, members, path, max_pixels)
    if len(members) != 1:
        raise ImageError(
            f"{path} holds {len(members)} arrays, but one image is one array. If it is a data set of many images, "
            "give it as the cohort; otherwise save the wanted array by itself as .npy."
        )
    (member,) = members.values()
    return Image(pixels=_with_channels(_read_member(archive, member, path, max_pixels), path))


def _with_geometry(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], path: Path, max_pixels: int) -> Image:
    if not members.keys() <= GEOMETRY | {PIXELS}:
        raise ImageError(
            f"{path} holds the arrays {sorted(members)}: expected 'pixels', with 'spacing' and 'affine' or neither. "
            "Save each image by itself."
        )
    facts = {name: _read_member(archive, members[name], path, MAX_GEOMETRY_BYTES) for name in GEOMETRY & members.keys()}
    spacing, affine = facts.get("spacing.npy"), facts.get("affine.npy")
    if affine is not None and not (affine.shape == (4, 4) and is_usable(affine)):
        raise ImageError(f"{path} holds the affine {affine.tolist()}: expected an invertible 4×4 matrix. Correct it.")
    if spacing is not None and not (spacing.ndim == 1 and np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ImageError(
            f"{path} holds the spacing {spacing.tolist()}: expected a positive number of millimetres for each axis. "
            "Correct it."
        )
    return Image(
        pixels=_native(_read_member(archive, members[PIXELS], path, max_pixels)),
        spacing=None if spacing is None else tuple(float(length) for length in spacing),
        affine=None if affine is None else affine.astype(np.float64),
    )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, max_pixels: int) -> npt.NDArray[Any]:
    if member.compress_type not in METHODS or member.file_size > member.compress_size * DEFLATE_LIMIT:
        raise ImageError(
            f"{path} declares {member.file_size:,} bytes of '{member.filename}', more than its compressed part can "
            "hold. Save it again with numpy.savez_compressed."
        )
    with archive.open(member) as stream:
        return _read_npy(stream, path, member.file_size, max_pixels)


def _read_npy(stream: IO[bytes], path: Path, num_bytes: int, max_pixels: int) -> npt.NDArray[Any]:
    shape, fortran_order, dtype = _npy_header(stream)
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ImageError(
            f"{path} holds values of type {dtype}, which are no grey values: expected integers, floats or booleans. "
            "Convert the array before saving it."
        )
    count = math.prod(shape)
    if min(shape, default=1) < 0 or count > max_pixels:
        raise ImageError(
            f"{path} declares an array of shape {shape}, more than the limit of {max_pixels} values. Raise "
            "--max-pixels if the file is to be trusted."
        )
    if count * dtype.itemsize > num_bytes:
        raise ImageError(
            f"{path} is truncated: an array of shape {shape} and type {dtype} needs {count * dtype.itemsize} bytes, "
            f"and the file has {num_bytes}. Copy it again from its source."
        )
    values = np.frombuffer(stream.read(count * dtype.itemsize), dtype=dtype)
    # At the end of an archive's member its checksum is compared, so the end must be reached.
    if stream.read(1):
        raise ImageError(
            f"{path} holds more than the one array of shape {shape} that its header declares. Save each image by "
            "itself with numpy.save."
        )
    return values.reshape(shape[::-1]).T if fortran_order else values.reshape(shape)


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type (NEP 1); of a header that is too long nothing is read."""
    start = stream.read(8)
    version = np.lib.format.read_magic(io.BytesIO(start))
    length = stream.read(2 if version == (1, 0) else 4)
    num_bytes = int.from_bytes(length, "little")
    if num_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"its header declares {num_bytes:,} bytes")
    header = io.BytesIO(length + stream.read(num_bytes))
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(header)


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
    return _native(without_transparency(values))


def without_transparency(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Three of four channels of bytes, as pictures with transparency have them; of other types all are kept."""
    return values[..., :3] if values.shape[-1] == 4 and values.dtype == np.uint8 else values


def _native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)
