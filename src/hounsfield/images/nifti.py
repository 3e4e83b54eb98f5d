"""NIfTI-1 and NIfTI-2, alone or as a pair, plain or gzipped; every size is checked before memory is taken.

A NIfTI file stores its voxels with the first index running fastest. Read as (k, j, i) they are an ``Image``'s
(slice, row, column) with no voxel moved. The header's fields are those of nifti1.h; nibabel decodes them.

The position in the patient is taken from the sform where ``sform_code`` > 0, else from the qform where
``qform_code`` > 0, as nibabel does; where both codes are 0 the standard gives a size of voxels and no position
("method 1", kept for ANALYZE files), and readers disagree on one, so the affine is ``None``.
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from hounsfield.errors import ImageError
from hounsfield.images.files import Stream, open_file
from hounsfield.images.image import Image, Metadata
from hounsfield.images.label_names import MAX_BYTES, Labels, labels_of_extensions
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.images.orientation import Affine, affine_from_ras, is_usable, spacing_of
from hounsfield.images.volumes import alike, chosen_volume

logger = logging.getLogger(__name__)

# datatype code -> NumPy type and channels (nifti1.h). Complex, 128-bit float and bit-packed data are not images here.
DATATYPES = {
    2: ("u1", 1),
    4: ("i2", 1),
    8: ("i4", 1),
    16: ("f4", 1),
    64: ("f8", 1),
    128: ("u1", 3),
    256: ("i1", 1),
    512: ("u2", 1),
    768: ("u4", 1),
    1024: ("i8", 1),
    1280: ("u8", 1),
    2304: ("u1", 4),
}

# The low three bits of xyzt_units -> millimetres.
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}

# Bytes of the headers, and of the flags behind them that tell of extensions.
NIFTI_1, NIFTI_2, FLAGS = 348, 540, 4
_VECTOR_INTENTS = {1006: "displacement field", 1007: "vector field"}
# Between the header and the voxels stand extensions, which are small; skipping through a compressed file takes time.
_FARTHEST_VOXELS = 2**28


@dataclass(frozen=True)
class _Layout:
    """What the header says about where the voxels are and how they are stored."""

    shape: tuple[int, ...]
    frames: int
    dtype: np.dtype[Any]
    channels: int
    offset: int

    @property
    def voxels(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes_a_frame(self) -> int:
        return self.voxels * self.channels * self.dtype.itemsize


def read_nifti(path: Path, max_pixels: int = MAX_PIXELS, volume: int | None = None) -> Image:
    """Read a NIfTI volume (``.nii``, ``.nii.gz``, or the ``.hdr`` or ``.img`` of a pair, gzipped or not).

    ``scl_slope`` and ``scl_inter`` are applied: voxels of up to 16 bits become float32, wider ones float64. Where they
    say nothing, voxels keep their stored type, so label maps stay integers. Lengths in metres or micrometres become
    millimetres.

    Args:
        path: the file.
        max_pixels: the largest number of voxels accepted; checked, as the file's size is, before memory is taken.
        volume: which volume of a 4D file, from 0; required where there are several.

    Raises:
        ImageError: the file is missing, damaged, truncated, too large, has several frames and none was chosen, holds a
            displacement field, or stores a kind of number that is not an image.
    """
    try:
        # Damaged numbers are refused by what they lead to.
        with np.errstate(all="ignore"), open_file(_header_path(path)) as file:
            start = _Start(Stream(file), path)
            header = start.header
            layout = _layout(header, path, max_pixels)
            chosen = chosen_volume(alike(layout.shape, layout.frames), volume, path)
            labels = start.labels(layout)
            if start.holds_voxels:
                raw = _read_frame(start.stream, start.taken, layout, chosen)
            else:
                with open_file(_data_path(path)) as voxels:
                    raw = _read_frame(Stream(voxels), b"", layout, chosen)
            image = _image(raw, layout, header, _affine(header, len(layout.shape), path))
            return image.replace(metadata=replace(image.metadata, labels=labels)) if labels else image
    except (OSError, EOFError, zlib.error, ValueError, ArithmeticError, HeaderDataError, struct.error) as error:
        raise ImageError(
            f"'{path}' cannot be read as NIfTI: {error}. Expected an undamaged file; copy it again from its source."
        ) from error


def _refuse(path: Path, found: str, remedy: str) -> NoReturn:
    raise ImageError(f"'{path}' {found}. {remedy}")


class _Start:
    """What a file begins with: the header, and what it says of all that follows.

    Args:
        stream: at its beginning; left wherever the reading ended.
        path: as the user gave it.

    Attributes:
        header: decoded.
        taken: the bytes that were taken from the stream.
    """

    def __init__(self, stream: Stream, path: Path) -> None:
        self.stream = stream
        # A compressed file is read once: what comes behind the header of NIfTI-1 would be voxels.
        start = bytes(stream.take(NIFTI_1 + FLAGS))
        sizes = {struct.unpack(order + "i", start[:4])[0] for order in "<>"} if len(start) >= 4 else set()
        self.length = NIFTI_2 if NIFTI_2 in sizes else NIFTI_1
        if self.length == NIFTI_2:
            start += bytes(stream.take(NIFTI_2 - NIFTI_1))
        magic = start[4:8] if self.length == NIFTI_2 else start[344:348]
        known = magic[:3] in {b"n+1", b"ni1", b"n+2", b"ni2"}
        if not sizes & {NIFTI_1, NIFTI_2} or len(start) < self.length or not known:
            _refuse(
                path,
                "is not NIfTI: its first bytes are no NIfTI-1 or NIfTI-2 header",
                "Expected the size 348 or 540 and the magic 'n+1', 'ni1', 'n+2' or 'ni2'; an ANALYZE 7.5 file has no "
                "orientation and must be converted to NIfTI first.",
            )
        kind = nibabel.Nifti2Header if self.length == NIFTI_2 else nibabel.Nifti1Header
        self.taken, self.header = start, kind(start[: self.length], check=False)

    @property
    def holds_voxels(self) -> bool:
        """Whether the voxels follow, rather than stand in the other file of a pair."""
        return bytes(self.header["magic"])[:2] == b"n+"

    def labels(self, layout: _Layout) -> Labels:
        """The names of values in the extensions between header and voxels, where there are any."""
        first = self.length + FLAGS
        has_extensions = len(self.taken) > self.length and self.taken[self.length] > 0
        if not has_extensions or layout.dtype.kind not in "iu" or not first <= layout.offset <= first + MAX_BYTES:
            return ()
        self.taken += bytes(self.stream.take(layout.offset - len(self.taken)))
        return labels_of_extensions(self.taken[first:], self.header.endianness)


def _header_path(path: Path) -> Path:
    """The file with the header: the one that is given, or the ``.hdr`` beside an ``.img``."""
    if not path.name.lower().endswith((".img", ".img.gz")):
        return path
    return _either(path, _pair_name(path)[0] + ".hdr")


def _data_path(path: Path) -> Path:
    """The file of a pair with the voxels: the one that is given, or the ``.img`` beside it."""
    stem, kind = _pair_name(path)
    return path if kind == ".img" else _either(path, stem + ".img")


def _pair_name(path: Path) -> tuple[str, str]:
    """What two files of a pair have in common, and the suffix of this one without that of gzip."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    bare = Path(name)
    return bare.stem, bare.suffix.lower()


def _either(path: Path, name: str) -> Path:
    """The other file of a pair; in capitals or gzipped where it is so."""
    stem, suffix = Path(name).stem, Path(name).suffix
    names = [name, f"{name}.gz", stem + suffix.upper(), f"{stem}{suffix.upper()}.GZ"]
    return next((found for each in names if (found := path.with_name(each)).exists()), path.with_name(name))


def _layout(header: Any, path: Path, max_pixels: int) -> _Layout:
    dims = [int(size) for size in header["dim"]]
    if not 2 <= dims[0] <= 7 or min(dims[1 : dims[0] + 1]) < 1:
        _refuse(
            path,
            f"declares the dimensions {dims}",
            "Expected 2 to 7 axes of at least one voxel; the header is damaged.",
        )
    sizes = dims[1 : dims[0] + 1]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    intent = int(header["intent_code"])
    if len(sizes) > 4:
        kind = _VECTOR_INTENTS.get(intent, "field of several values a voxel")
        _refuse(
            path, f"is a {len(sizes)}-D {kind} of size {sizes}", "Expected one volume; a deformation is not an image."
        )
    code = int(header["datatype"])
    if code not in DATATYPES:
        _refuse(
            path,
            f"stores its voxels as NIfTI datatype {code} (complex, 128-bit, packed or unknown)",
            "Expected integers, 32- or 64-bit floats, or RGB; save the magnitude, or convert the type, first.",
        )
    if math.prod(sizes[:3]) > max_pixels:
        _refuse(
            path,
            f"declares {' × '.join(map(str, sizes[:3]))} voxels, more than the {max_pixels:,} allowed",
            "If the file is what it says, raise --max-pixels; else its header is damaged.",
        )
    name, channels = DATATYPES[code]
    offset = float(header["vox_offset"])
    single = bytes(header["magic"])[:2] == b"n+"
    minimum = int(header["sizeof_hdr"]) if single else 0
    if not math.isfinite(offset) or not 0 <= offset <= _FARTHEST_VOXELS or (single and 0 < offset < minimum):
        _refuse(path, f"places its voxels at byte {offset}", "Expected a byte after the header; the header is damaged.")
    start = int(offset) or (minimum + 4 if single else 0)
    frames = sizes[3] if len(sizes) > 3 else 1
    return _Layout(tuple(sizes[:3][::-1]), frames, np.dtype(header.endianness + name), channels, start)


def _read_frame(stream: Stream, taken: bytes, layout: _Layout, frame: int) -> bytes | bytearray:
    """The voxels of one volume from a stream, of which so many bytes were taken."""
    size = layout.bytes_a_frame
    before = layout.offset + frame * size
    if before + size > stream.capacity:
        raise EOFError(f"the header declares {before + size:,} bytes, more than a file of its size can hold")
    stream.skip(max(0, before - len(taken)))
    ahead = taken[before : before + size]
    raw = ahead + stream.take(size - len(ahead)) if ahead else stream.take(size)
    if len(raw) < size:
        raise EOFError(f"{size:,} bytes of voxels are declared and {len(raw):,} are there")
    if frame == layout.frames - 1:
        stream.verify()
    return raw


def _image(raw: bytes | bytearray, layout: _Layout, header: Any, affine: Affine | None) -> Image:
    pixels: NDArray[Any] = np.frombuffer(raw, dtype=layout.dtype).reshape(*layout.shape, layout.channels)
    if not layout.dtype.isnative:
        pixels = pixels.astype(layout.dtype.newbyteorder("="))
    stored = pixels[..., :3]
    pixels = _scaled(stored, header)
    slope = (float(header["scl_slope"]), float(header["scl_inter"])) if pixels is not stored else None
    rank = len(layout.shape)
    spacing: tuple[float, ...] | None
    if affine is not None:
        spacing = spacing_of(affine)[-rank:]
    else:
        unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
        lengths = [abs(float(length)) * unit for length in header["pixdim"][rank:0:-1]]
        spacing = tuple(lengths) if all(math.isfinite(length) and length > 0 for length in lengths) else None
    bits = layout.dtype.itemsize * 8 if layout.dtype.kind in "iu" else None
    return Image(
        pixels=pixels, spacing=spacing, affine=affine, modality=None, metadata=Metadata(bits=bits, rescale=slope)
    )


def _scaled(pixels: NDArray[Any], header: Any) -> NDArray[Any]:
    """Apply real = slope × stored + intercept; a slope of 0 or one that is not finite means no scaling (nifti1.h)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if pixels.shape[-1] > 1 or slope == 0 or not math.isfinite(slope) or (slope, intercept) == (1.0, 0.0):
        return pixels
    if not math.isfinite(intercept):
        raise ValueError(f"scl_slope is {slope} and scl_inter is {intercept}")
    narrow = pixels.dtype.itemsize <= 2 or pixels.dtype == np.float32
    scaled: NDArray[Any] = np.empty(pixels.shape, np.float32 if narrow else np.float64)
    with np.errstate(over="raise"):
        for stored, real in zip(pixels, scaled, strict=True):  # in double precision, a slice at a time
            real[...] = stored * np.float64(slope) + intercept
    return scaled


def _affine(header: Any, rank: int, path: Path) -> Affine | None:
    """The LPS affine by the precedence that this module's docstring states."""
    codes = int(header["sform_code"]), int(header["qform_code"])
    if max(codes) <= 0:
        return None
    unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    for read in [read for code, read in zip(codes, (_sform, _qform), strict=True) if code > 0]:
        affine = affine_from_ras(np.diag([unit, unit, unit, 1.0]) @ read(header))
        affine = _with_normal(affine) if rank == 2 else affine
        if is_usable(affine):
            if read is _qform and codes[0] > 0:
                logger.warning("%s: its sform is singular or not finite, so its position is that of the qform", path)
            return affine
    _refuse(
        path,
        f"says that it has a position in the patient (sform_code {codes[0]}, qform_code {codes[1]}), and its matrix is "
        "singular or not finite",
        "Expected an invertible matrix; correct the header, or set both codes to 0 to read it without a position.",
    )


def _sform(header: Any) -> Affine:
    return np.asarray(header.get_sform(), dtype=np.float64)


def _qform(header: Any) -> Affine:
    if abs(float(header["pixdim"][0])) != 1:
        # Some writers leave it at 0, where it is to be 1 (nifti1.h); nifti_clib takes what is not negative for 1.
        header = header.copy()
        header["pixdim"][0] = -1.0 if header["pixdim"][0] < 0 else 1.0
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        return np.zeros((4, 4))


def _with_normal(affine: Affine) -> Affine:
    """Give a 2D image whose slice direction is empty the unit normal of its plane."""
    if np.linalg.norm(affine[:3, 0]) > 0:
        return affine
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    length = np.linalg.norm(normal)
    if length > 0:
        affine = affine.copy()
        affine[:3, 0] = normal / length
    return affine
