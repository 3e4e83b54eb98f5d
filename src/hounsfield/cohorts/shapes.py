"""The shape that an image will have when it is read, told from its header wherever that is enough."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import nibabel
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from hounsfield.cohorts.files import ordered_map
from hounsfield.errors import ImageError
from hounsfield.images import Reference, read_image
from hounsfield.images.dicom import volume_words
from hounsfield.images.dicom_file import open_header, refusing
from hounsfield.images.jpeg import END_OF_IMAGE, jpeg_size
from hounsfield.images.limits import pixel_limit
from hounsfield.images.raster import JPEG_MAGIC, PNG_MAGIC
from hounsfield.images.reading import READERS, format_suffix, read_reference

# An orientation in a header may turn the picture when it is decoded; such files are decoded to know.
TURNING = (b"Exif\x00\x00", b"eXIf")
# How much of a file is looked at for its size.
HEAD_BYTES = 2**18
# Files are looked at in groups of so many.
GROUP_FILES = 32


def image_shapes(root: Path, references: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The spatial shape of each image, without those that are unreadable and those that are folders of slices.

    Args:
        root: the folder that references are relative to.
        references: paths.
    """
    groups = [references[start : start + GROUP_FILES] for start in range(0, len(references), GROUP_FILES)]
    shapes: dict[str, tuple[int, ...]] = {}
    found = ordered_map(lambda paths: [_shape(root, path) for path in paths], groups)
    for group, known in zip(groups, found, strict=True):
        shapes |= {path: shape for path, shape in zip(group, known, strict=True) if shape is not None}
    return shapes


def _shape(root: Path, reference: str) -> tuple[int, ...] | None:
    path = root / reference
    try:
        typed = Reference.parse(reference, root)
        if typed.text != typed.path:
            return read_reference(typed.replace(path=str(root / typed.path))).shape
        suffix = format_suffix(path) if path.is_file() else None
        if suffix is None:
            return None
        quick = _from_header(path, suffix)
        return quick if quick is not None else read_image(path).shape
    except ImageError:
        # Whoever reads its pixels will say what is wrong with it.
        return None


def _from_header(path: Path, suffix: str) -> tuple[int, ...] | None:
    """The shape by the header alone, or ``None`` where only decoding tells it."""
    reader = READERS[suffix]
    if reader == READERS[".png"]:
        return _raster_shape(path)
    if reader == READERS[".dcm"]:
        header = open_header(path, pixel_limit())
        with refusing(path):
            rows, columns, frames = (header.integer(name) for name in ("Rows", "Columns", "NumberOfFrames"))
        if not rows or not columns or (frames or 1) > 1 or volume_words(header, path) is not None:
            return None
        return rows, columns
    if reader == READERS[".nii"]:
        try:
            shape = nibabel.load(path).shape
        except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error):
            return None
        return tuple(int(length) for length in reversed(shape)) if len(shape) == 3 else None
    return None


def _raster_shape(path: Path) -> tuple[int, int] | None:
    """(rows, columns) by the first bytes of a PNG or JPEG file, unless something there may turn the picture."""
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head.startswith((PNG_MAGIC, JPEG_MAGIC)) or any(mark in head for mark in TURNING):
        return None
    try:
        if head.startswith(PNG_MAGIC):
            columns, rows = struct.unpack_from(">II", head, 16)
        else:
            # The reader wants to see the end of the image, which is not looked for here.
            rows, columns, _ = jpeg_size(head + END_OF_IMAGE)
    except (struct.error, IndexError, ValueError):
        return None
    return rows, columns
