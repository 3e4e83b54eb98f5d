"""Images that are rows of large NumPy arrays, in ``.npy`` files or in ``.npz`` archives, read with flat memory."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import struct
import tempfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts import hdf5
from hounsfield.errors import CohortError, ImageError, ResourceError
from hounsfield.images.arrays import CHANNEL_COUNTS, without_transparency
from hounsfield.images.image import Image
from hounsfield.images.limits import pixel_limit
from hounsfield.images.reference import Reference

# So many bytes are read at once: few enough to keep memory flat, enough to make the call's own cost vanish.
CHUNK_BYTES = 2**20
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    KeyError,
)


@dataclass(frozen=True)
class ArrayHeader:
    """What a ``.npy`` header declares: the first axis counts the images."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def row_bytes(self) -> int:
        """The bytes of one image."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class RowReader(Protocol):
    """Reads consecutive rows of one array as bytes.

    Attributes:
        reason: why the last rows are missing, where that is known.
    """

    reason: str

    def block(self, start: int, stop: int) -> bytes:
        """The bytes of rows ``start`` to ``stop``; fewer when the file ends early."""


class DirectRows:
    """Rows that lie as they are in a file: read at their offset, so the file is never mapped into memory."""

    reason = ""

    def __init__(self, file: IO[bytes], header: ArrayHeader, base: int = 0) -> None:
        self._file = file
        self._header = header
        self._start = base + header.offset
        self._lock = threading.Lock()
        weakref.finalize(self, file.close)

    def block(self, start: int, stop: int) -> bytes:
        """See ``RowReader.block``."""
        with self._lock:
            self._file.seek(self._start + start * self._header.row_bytes)
            return self._file.read((stop - start) * self._header.row_bytes)


class UnpackedRows:
    """Rows of a compressed member, which is unpacked once to a temporary file; as much of it as is whole."""

    def __init__(self, path: Path, member: str, header: ArrayHeader) -> None:
        self.reason = ""
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the reader, and vanishes with it
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                shutil.copyfileobj(stream, unpacked, CHUNK_BYTES)
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                unpacked.close()
                raise ResourceError(
                    f"The disk of {tempfile.gettempdir()} is full: reading {path.name} needs "
                    f"{math.prod(header.shape) * header.dtype.itemsize:,} bytes there. Free space, or set TMPDIR to a "
                    "folder on a larger disk."
                ) from error
            self.reason = str(error)
        self._rows = DirectRows(unpacked, header)

    def block(self, start: int, stop: int) -> bytes:
        """See ``RowReader.block``."""
        return self._rows.block(start, stop)


class ArraySource:
    """Reads references such as ``train_images[17]``, volume 17 of that array, from the arrays of an archive or a file.

    Args:
        arrays: file and member (None for a plain ``.npy``) of each array, by the name that references use.
    """

    def __init__(self, arrays: dict[str, tuple[Path, str | None]]) -> None:
        self._arrays = dict(arrays)
        self._headers = {name: read_header(path, member) for name, (path, member) in arrays.items()}
        self._random = threading.local()

    def references(self, name: str) -> list[Reference]:
        """Every reference of one array, in order."""
        return [Reference(name, row) for row in range(self._headers[name].shape[0])]

    def header(self, name: str) -> ArrayHeader:
        """Shape and type of one array."""
        return self._headers[name]

    def read(self, reference: Reference) -> Image:
        """See ``ImageSource.read``."""
        if not hasattr(self._random, "readers"):
            self._random.readers = {}
        (image,) = self._images([reference], self._random.readers)
        if isinstance(image, ImageError):
            raise image
        return image

    def stream(self, references: Sequence[Reference]) -> Iterator[Image | ImageError]:
        """See ``ImageSource.stream``."""
        return self._images(references, {})

    def digest(self, references: Sequence[Reference]) -> str:
        """See ``ImageSource.digest``; an archive is identified by its path, size and time of change."""
        digest = hashlib.blake2b(digest_size=16)
        for path in sorted({path for path, _ in self._arrays.values()}):
            status = path.stat()
            digest.update(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        digest.update("\n".join(reference.text for reference in references).encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, tuple[Path, str | None]]:
        return self._arrays

    def __setstate__(self, state: dict[str, tuple[Path, str | None]]) -> None:
        self.__init__(state)  # type: ignore[misc]  # open files and locks do not travel to another process; names do

    def _images(self, references: Sequence[Reference], readers: dict[str, RowReader]) -> Iterator[Image | ImageError]:
        position = 0
        while position < len(references):
            located = self._locate(references[position])
            if isinstance(located, ImageError):
                yield located
                position += 1
                continue
            name, start = located
            stop = start + 1
            limit = max(1, CHUNK_BYTES // max(self._headers[name].row_bytes, 1))
            while stop - start < limit and self._follows(references, position + stop - start, name, stop):
                stop += 1
            yield from self._block(name, start, stop, readers)
            position += stop - start

    def _follows(self, references: Sequence[Reference], position: int, name: str, row: int) -> bool:
        if position >= len(references) or row >= self._headers[name].shape[0]:
            return False
        return references[position].path == name and references[position].volume == row

    def _locate(self, reference: Reference) -> tuple[str, int] | ImageError:
        row, header = reference.volume, self._headers.get(reference.path)
        if row is not None and header is not None and 0 <= row < header.shape[0]:
            return reference.path, row
        ranges = ", ".join(f"{name}[0] to [{header.shape[0] - 1}]" for name, header in self._headers.items())
        return ImageError(f"There is no image '{reference}': the arrays hold {ranges}. Check the reference.")

    def _block(self, name: str, start: int, stop: int, readers: dict[str, RowReader]) -> Iterator[Image | ImageError]:
        header = self._headers[name]
        path, member = self._arrays[name]
        reason = "the file ends too early"
        try:
            if name not in readers:
                readers[name] = open_rows(path, member, header)
            data = readers[name].block(start, stop)
            reason = readers[name].reason or reason
        except DAMAGE as error:
            data, reason = b"", str(error)
        num_whole = len(data) // header.row_bytes
        values = np.frombuffer(data, header.dtype, num_whole * math.prod(header.shape[1:]))
        values = native(values.reshape(num_whole, *header.shape[1:]))
        for row in values:
            # A copy: who keeps one image must not keep the whole chunk with it.
            yield Image(pixels=with_channels(row).copy())
        for row_number in range(start + num_whole, stop):
            yield ImageError(
                f"The image {name}[{row_number}] of {path.name} cannot be read ({reason}). Copy the file again from "
                "its source."
            )


def open_rows(path: Path, member: str | None, header: ArrayHeader) -> RowReader:
    """The way to an array's rows: at offsets in the file where they lie uncompressed, else unpacked."""
    if hdf5.is_hdf5(path):
        return hdf5.Hdf5Rows(path, str(member))
    if member is None:
        return DirectRows(path.open("rb"), header)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(member)
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        return UnpackedRows(path, member, header)
    file = path.open("rb")
    # The local header (APPNOTE.TXT 4.3.7): 30 bytes, the last four of which are the lengths of name and extra field.
    file.seek(entry.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    return DirectRows(file, header, entry.header_offset + 30 + name_length + extra_length)


def read_header(path: Path, member: str | None) -> ArrayHeader:
    """Read what an array of images declares, and refuse what cannot be a stack of images.

    Raises:
        CohortError: the file is damaged or truncated, needs pickle, or its shape is that of no stack of images.
    """
    where = f"{path}" if member is None else f"the array '{member}' of {path}"
    try:
        if hdf5.is_hdf5(path):
            shape, dtype = hdf5.shape_and_type(path, str(member))
            # Its rows are read as numbers, wherever they lie in the file.
            header, fortran, num_bytes = ArrayHeader(shape, dtype, 0), False, math.prod(shape) * dtype.itemsize
        elif member is None:
            with path.open("rb") as stream:
                header, fortran, num_bytes = *_parse_header(stream), path.stat().st_size
        else:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                header, fortran, num_bytes = *_parse_header(stream), archive.getinfo(member).file_size
    except DAMAGE as error:
        raise CohortError(
            f"Cannot read {where} ({error}): expected a NumPy array. Copy the file again from its source, or save it "
            "again with numpy.save or numpy.savez."
        ) from error
    if header.dtype.hasobject:
        raise CohortError(
            f"Found Python objects in {where}, which only pickle could load, and pickle can run any program: expected "
            "plain numbers. Save the array again with a numeric type, for example images.astype('uint8')."
        )
    _check_shape(header, fortran, where)
    if num_bytes < header.offset + header.shape[0] * header.row_bytes:
        raise CohortError(
            f"Found {where} truncated: shape {header.shape} and type {header.dtype} need "
            f"{header.offset + header.shape[0] * header.row_bytes:,} bytes, and {num_bytes:,} are there. Copy it again."
        )
    return header


def _parse_header(stream: IO[bytes]) -> tuple[ArrayHeader, bool]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    return ArrayHeader(tuple(shape), dtype, stream.tell()), bool(fortran)


def _check_shape(header: ArrayHeader, fortran: bool, where: str) -> None:
    shape = header.shape
    if header.dtype.kind not in "biuf" or header.dtype.itemsize > 8:
        raise CohortError(f"Found values of type {header.dtype} in {where}: expected integers, floats or booleans.")
    if len(shape) not in (3, 4, 5) or 0 in shape or (len(shape) == 5 and shape[-1] not in CHANNEL_COUNTS):
        raise CohortError(
            f"Found the shape {shape} in {where}: expected (images, rows, columns), (images, slices, rows, columns), "
            "or one of these with 1, 3 or 4 channels last, and none of them zero."
        )
    limit = pixel_limit()
    if math.prod(shape[1:]) > limit:
        raise CohortError(
            f"Found images of {math.prod(shape[1:]):,} values in {where}: the limit is {limit:,}. Raise "
            "--max-pixels if the data is to be trusted."
        )
    if fortran and len(shape) > 1:
        raise CohortError(
            f"Found {where} in column order, in which no image lies in one piece. Save it again with "
            "numpy.ascontiguousarray(images)."
        )


def native(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Booleans as uint8, half floats as float32, foreign byte orders as the machine's own."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype == np.float16:
        return values.astype(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def with_channels(row: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """One image with its channels last: an axis is added where the last one is no channel axis; transparency goes."""
    if row.ndim == 2 or (row.ndim == 3 and row.shape[-1] not in CHANNEL_COUNTS):
        return row[..., np.newaxis]
    return without_transparency(row)


def file_identity(path: str | os.PathLike[str]) -> str:
    """Size and time of change of a file as text; ``absent`` when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for each image: a Path would take longer than the call
    except OSError:
        return "absent"
    return f"{status.st_size}|{status.st_mtime_ns}"
