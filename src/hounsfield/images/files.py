"""Opening the files of every format: regular ones alone, forward and bounded, gzipped or not.

A pipe would block its reader and a device feed it for ever, also where a link leads there, so neither is opened. What
a compressed file declares is held against the most that its bytes can inflate to, and no more is inflated than asked.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import BinaryIO

from hounsfield.errors import ImageError, ResourceError
from hounsfield.hardware import out_of_files
from hounsfield.images.limits import SPARE_BYTES
from hounsfield.textfiles import other_kind

# Deflate cannot shrink further than 1032 to 1 (zlib's technical details), so a small file cannot hold a large image.
DEFLATE_LIMIT = 1032
GZIP_MAGIC = b"\x1f\x8b"
# zlib's names for the wrappers that it accepts: gzip alone; gzip or zlib.
GZIP_WRAPPER = 31
ANY_WRAPPER = 47

# Of the widest value.
MAX_VALUE_BYTES = 8
_CHUNK = 2**20


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        ImageError: there is none, it may not be read, or the path leads to a folder, a pipe, a socket or a device.
        ResourceError: too many files are open.
    """
    try:
        # Looked at before it is opened, for opening some devices does something already; and opened so that a pipe
        # that took the file's place meanwhile cannot block.
        check_regular(path, path.stat())
        return open(path, "rb", opener=_open_at_once)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def check_regular(path: Path, status: os.stat_result) -> None:
    """Refuse what is no regular file.

    Raises:
        ImageError: it is a folder, a pipe, a socket or a device.
    """
    if kind := other_kind(status):
        raise ImageError(f"{path} is {kind}: expected a regular file. Save the image as a file and give its path.")


def read_whole(path: Path, max_pixels: int) -> bytes:
    """The whole content of a regular file.

    Raises:
        ImageError: as ``open_file``, or the file is larger than any image of ``max_pixels`` values.
    """
    with open_file(path) as stream:
        return read_all(stream, path, max_pixels)


def read_all(stream: BinaryIO, path: Path, max_pixels: int) -> bytes:
    """The whole content of an open file, wherever it stands.

    Raises:
        ImageError: it cannot be read, or is larger than any image of ``max_pixels`` values.
    """
    size = os.fstat(stream.fileno()).st_size
    if size > max_pixels * MAX_VALUE_BYTES + SPARE_BYTES:
        raise ImageError(
            f"{path} has {size:,} bytes, more than an image of {max_pixels:,} values can need. Raise --max-pixels "
            "if the file is to be trusted."
        )
    try:
        stream.seek(0)
        return stream.read()
    except OSError as error:
        raise _unreadable(path, error) from error


class Stream:
    """Reads forward through a plain or a compressed file, never producing more than is asked for.

    Args:
        file: at its beginning.
        compressed: whether what follows is inflated; by default, where gzip's magic says so.

    Attributes:
        capacity: the most bytes that can follow.
    """

    def __init__(self, file: BinaryIO, compressed: bool | None = None) -> None:
        self._file = file
        start = file.tell()
        if compressed is None:
            compressed = file.read(2) == GZIP_MAGIC
            file.seek(start)
        self._inflate = zlib.decompressobj(ANY_WRAPPER) if compressed else None
        self._input = b""
        available = max(0, os.fstat(file.fileno()).st_size - start)
        self.capacity = available * DEFLATE_LIMIT if compressed else available

    def take(self, count: int) -> bytes | bytearray:
        """The next ``count`` bytes, or fewer where the file ends."""
        if self._inflate is None:
            return self._file.read(count)
        first = self._inflated(count)
        if len(first) == count:
            return first
        taken = bytearray(first)
        while len(taken) < count and (piece := self._inflated(count - len(taken))):
            taken += piece
        return taken

    def skip(self, count: int) -> None:
        """Go forward by ``count`` bytes."""
        if self._inflate is None:
            self._file.seek(count, 1)
            return
        while count > 0 and (piece := self.take(min(count, _CHUNK))):
            count -= len(piece)

    def verify(self) -> bool:
        """Compare the checksum where the end of the compressed data is near; whether nothing was left over.

        Raises:
            EOFError: the checksum is missing.
            zlib.error: the checksum is wrong.
        """
        if self._inflate is None:
            return True
        surplus = self.take(_CHUNK)
        if len(surplus) < _CHUNK and not self._inflate.eof:
            raise EOFError("the compressed data end before their checksum")
        return not surplus

    def _inflated(self, count: int) -> bytes:
        """At least one byte and at most ``count``, or none where the data end; gzip members follow one another."""
        while self._inflate is not None:
            if len(self._input) < 2:
                self._input += self._file.read(_CHUNK)
            if self._inflate.eof:
                self._input = self._input.lstrip(b"\0")
                if not self._input.startswith(GZIP_MAGIC):
                    break
                self._inflate = zlib.decompressobj(GZIP_WRAPPER)
            ended = not self._input
            piece = self._inflate.decompress(self._input, count)
            self._input = self._inflate.unconsumed_tail or self._inflate.unused_data
            if piece:
                return piece
            if ended and not self._inflate.eof:
                break
        return b""


def refuse_unlisted(error: OSError) -> None:
    """For ``os.walk``, which otherwise passes over a folder that cannot be listed, and the images in it.

    Raises:
        ImageError: it may not be listed.
        ResourceError: too many files are open.
    """
    # The system's own folder at the top of a disk, which only its administrator may list.
    if Path(error.filename).name != "lost+found":
        raise _unreadable(Path(error.filename), error) from error


def is_run(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder is what a training wrote: its tables and figures are no data, wherever it lies."""
    place = Path(folder)
    return (place / "plan.yaml").is_file() and any(
        (place / name).is_file() for name in ("environment.json", "cohort.parquet")
    )


def _open_at_once(name: str, flags: int) -> int:
    # Windows has no pipes in its file system.
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _unreadable(path: Path, error: OSError | ValueError) -> ImageError | ResourceError:
    if missing := out_of_files(error):
        # Not the fault of this image, which must not be left out of a cohort for it.
        return ResourceError(f"{missing}. The file was {path}.")
    reason = getattr(error, "strerror", None) or error
    return ImageError(f"{path} cannot be read: {reason}. Check the path and its rights.")
