"""What NRRD and MetaImage have in common: a header of text, and voxels behind it or in a file beside it.

Everything is decoded here. A library that takes a failed inflation for success, or allocates what a header declares,
would give a wrong picture or take the memory.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from hounsfield.errors import ImageError
from hounsfield.images.files import Stream, open_file

HEADER_LIMIT = 2**18
# A value in text, with its sign, point and exponent, and what separates it from the next.
TEXT_BYTES = 32


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of a volume are and how they are stored.

    Attributes:
        sizes: of the axes, the fastest first.
        dtype: of a value, with its byte order.
        path: of the file.
        offset: where in the file they begin.
        lines: lines to leave out from there.
        compressed: whether what follows is deflated, in a gzip or zlib wrapper.
        skip: bytes to leave out after that, inflated ones; ``None`` where the voxels are the end of the file.
        text: whether they are written in digits.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype[Any]
    path: Path
    offset: int = 0
    lines: int = 0
    compressed: bool = False
    skip: int | None = 0
    text: bool = False

    @property
    def count(self) -> int:
        """The number of values."""
        return math.prod(self.sizes)


def refuse(path: Path, found: str, remedy: str) -> NoReturn:
    """Raise an ``ImageError`` of one paragraph."""
    raise ImageError(f"'{path}' {found}. {remedy}")


def damaged(path: Path, error: Exception) -> ImageError:
    """What to raise where decoding fails."""
    reason = " ".join(str(error).split())[-200:]
    return ImageError(
        f"'{path}' cannot be read: {reason}. Expected an undamaged volume; copy it again from its source."
    )


def header_start(path: Path) -> bytes:
    """The first bytes of a file, among which its header must be."""
    with open_file(path) as file:
        return file.read(HEADER_LIMIT)


def header_lines(start: bytes) -> list[tuple[str, int]]:
    """The lines at the start of a file, each with the position after it; the last one needs no line end."""
    lines, position = [], 0
    while position < len(start):
        stop = start.find(b"\n", position)
        end = len(start) if stop < 0 else stop
        lines.append((start[position:end].decode("latin-1").rstrip("\r"), min(end + 1, len(start))))
        position = end + 1
    return lines


def positive_integers(text: str, path: Path) -> tuple[int, ...]:
    """The sizes of axes."""
    words = text.split()
    if not words or not all(word.isdecimal() and len(word) < 19 and int(word) > 0 for word in words):
        refuse(path, f"declares the sizes '{text}'", "Expected positive whole numbers; the header is damaged.")
    return tuple(int(word) for word in words)


def numbers(text: str, count: int, name: str, path: Path) -> NDArray[np.float64]:
    """So many numbers of a field; NaN stands for one that is unknown."""
    try:
        found = np.array(text.split(), dtype=np.float64)
    except ValueError:
        found = np.empty(0)
    if len(found) != count:
        refuse(path, f"gives '{text}' as {name}", f"Expected {count} numbers; correct the header.")
    return found


def known_lengths(lengths: NDArray[np.float64], path: Path) -> NDArray[np.float64] | None:
    """Distances between samples as they are, or ``None`` where one of them is unknown (NaN)."""
    if np.isnan(lengths).any():
        return None
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        refuse(path, f"gives the spacing {lengths.tolist()}", "Expected positive numbers; correct the header.")
    return lengths


def beside(path: Path, name: str) -> Path:
    """A detached data file in the header's folder; one that lies elsewhere, or a list of them, is refused."""
    bare = name[2:] if name.startswith(("./", ".\\")) else name
    if not bare or "%" in bare or bare.upper().startswith("LIST") or bare == ".." or Path(bare).name != bare:
        refuse(
            path,
            f"points to the data file '{name}'",
            "Expected the name of one file in the same folder; save the volume as one file (.nrrd or .mha).",
        )
    return path.with_name(bare)


def decode(voxels: Voxels, path: Path, max_pixels: int) -> NDArray[Any]:
    """The values in native byte order, the slowest axis first.

    Args:
        voxels: what the header declares.
        path: of the header, for messages.
        max_pixels: the largest number of values accepted; checked, as the file's size is, before memory is taken.

    Raises:
        ImageError: the voxels are missing, truncated, damaged, more than declared, or too many.
    """
    if voxels.count > max_pixels:
        refuse(
            path,
            f"declares {' × '.join(map(str, voxels.sizes))} = {voxels.count:,} values, more than the {max_pixels:,} "
            "allowed",
            "If the file is what it says, raise --max-pixels; else its header is damaged.",
        )
    if not voxels.path.exists():
        refuse(path, f"keeps its voxels in '{voxels.path.name}', which is not there", "Put the two files together.")
    try:
        values = _text_values(voxels, path) if voxels.text else _stored_values(voxels, path)
    except (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error) as error:
        raise damaged(path, error) from error
    return values.reshape(voxels.sizes[::-1])


def _stored_values(voxels: Voxels, path: Path) -> NDArray[Any]:
    needed = voxels.count * voxels.dtype.itemsize
    with open_file(voxels.path) as file:
        _go_to_start(file, voxels)
        stream = Stream(file, voxels.compressed)
        skipped = stream.capacity - needed if voxels.skip is None else voxels.skip
        _check_capacity(needed + max(0, skipped), stream.capacity, path)
        stream.skip(skipped)
        raw = stream.take(needed)
        if len(raw) < needed or not stream.verify():
            refuse(path, "holds voxels of another length than declared", "Copy it again from its source.")
    return np.frombuffer(raw, voxels.dtype).astype(voxels.dtype.newbyteorder("="), copy=False)


def _text_values(voxels: Voxels, path: Path) -> NDArray[Any]:
    """Values written in digits: whole ones for integers, all of them within the range of their type."""
    with open_file(voxels.path) as file:
        _go_to_start(file, voxels)
        stream = Stream(file, compressed=False)
        _check_capacity(voxels.count, stream.capacity, path)
        words = stream.take(min(stream.capacity, voxels.count * TEXT_BYTES)).replace(b",", b" ").split()
    kind = np.dtype(np.float64 if voxels.dtype.kind == "f" else object)
    if len(words) != voxels.count:
        refuse(path, f"holds {len(words):,} values in text, and declares {voxels.count:,}", "Copy it again.")
    values = np.array([float(word) if kind.kind == "f" else int(word) for word in words], dtype=kind)
    if kind.kind == "O":
        limits = np.iinfo(voxels.dtype)
        if not limits.min <= min(values) <= max(values) <= limits.max:
            refuse(path, f"holds values beyond the range of {voxels.dtype}", "Correct the type in its header.")
    return values.astype(voxels.dtype.newbyteorder("="))


def _go_to_start(file: BinaryIO, voxels: Voxels) -> None:
    file.seek(voxels.offset)
    for _ in range(voxels.lines):
        if not file.readline(HEADER_LIMIT):
            break


def _check_capacity(needed: int, capacity: int, path: Path) -> None:
    if needed > capacity:
        refuse(
            path,
            f"declares {needed:,} bytes of voxels, more than its file can hold",
            "The file is truncated, or its header is damaged; copy it again from its source.",
        )
