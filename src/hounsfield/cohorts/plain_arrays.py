"""NumPy's files of plain numbers, read by many threads at a time.

NumPy reads the header of a file as an expression of Python, and while one thread does so, another that compiles Python,
as TensorFlow does, can fail: "AST constructor recursion depth mismatch" (CPython issue 106905, seen with 3.11.7). The
header that ``numpy.save`` writes for plain numbers is simple enough to be read as text.
"""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_HEAD = struct.Struct("<6sBBH")
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(rb"\{'descr': '([<|][bifu]\d)', 'fortran_order': (True|False), 'shape': \(([\d, ]*)\), \} *\n")


def mapped_array(path: Path) -> npt.NDArray[Any]:
    """The array in a file of ``numpy.save``, memory-mapped and read-only.

    Raises:
        ValueError: the file holds no plain numbers in version 1.0 of the format, or is cut.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        dtype, shape, order = _header(file)
        return np.memmap(path, dtype, "r", file.tell(), shape, order)


def member_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """An array by its name in an archive of ``numpy.savez``.

    Raises:
        ValueError: see :func:`mapped_array`.
        KeyError: there is no such array.
    """
    with archive.open(f"{name}.npy") as file:
        dtype, shape, order = _header(file)
        return np.frombuffer(file.read(), dtype).reshape(shape, order=order)


def _header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], Any]:
    head = file.read(_HEAD.size)
    magic, major, minor, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0, 0)
    found = _HEADER.fullmatch(file.read(length)) if (magic, major, minor) == (_MAGIC, 1, 0) else None
    if found is None:
        raise ValueError("it holds no plain numbers in NumPy's format")
    shape = tuple(int(size) for size in found[3].replace(b" ", b"").split(b",") if size)
    return np.dtype(found[1].decode()), shape, "F" if found[2] == b"True" else "C"
