"""Arrays in HDF5 files: found, described and read row by row, and never from another file than the one given."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import require

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
# So deep are groups looked into.
MOST_LEVELS = 4


def _h5py() -> Any:
    return require("h5py", "reading HDF5 files")


def is_hdf5(path: Path) -> bool:
    """Whether a file is HDF5 by its name."""
    return path.suffix.lower() in HDF5_SUFFIXES


def array_names(path: Path) -> list[str]:
    """The data sets of a file that are arrays of their own bytes, by their path in it.

    Raises:
        OSError: it is no HDF5 file.
    """
    with _h5py().File(path, "r") as file:
        return sorted(_below(file, "", MOST_LEVELS))


def _below(group: Any, prefix: str, levels: int) -> list[str]:
    h5py, found = _h5py(), []
    for name in group:
        # Soft and external links lead to other places, and external ones to other files.
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        item = group[name]
        if isinstance(item, h5py.Group) and levels > 1:
            found += _below(item, f"{prefix}{name}/", levels - 1)
        elif isinstance(item, h5py.Dataset) and item.ndim and not item.is_virtual and not item.external:
            found.append(prefix + name)
    return found


def shape_and_type(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """What a data set declares.

    Raises:
        OSError, KeyError: there is no such data set.
    """
    with _h5py().File(path, "r") as file:
        item = _own(file, name)
        return tuple(item.shape), item.dtype


def read_array(path: Path, name: str) -> npt.NDArray[Any]:
    """A whole data set, texts as fixed text.

    Raises:
        OSError, KeyError, ValueError: it cannot be read.
    """
    with _h5py().File(path, "r") as file:
        item = _own(file, name)
        if _h5py().check_string_dtype(item.dtype) is not None:
            return np.asarray(item.asstr()[()], dtype=str)
        return np.asarray(item[()])


def _own(file: Any, name: str) -> Any:
    item = file[name]
    if not isinstance(item, _h5py().Dataset) or item.is_virtual or item.external or item.file.filename != file.filename:
        raise ValueError(f"'{name}' is no array of the file itself")
    return item


class Hdf5Rows:
    """Consecutive rows of a data set as bytes; see ``arrays.RowReader``."""

    reason = ""

    def __init__(self, path: Path, name: str) -> None:
        self._file = _h5py().File(path, "r")
        self._item = _own(self._file, name)
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def block(self, start: int, stop: int) -> bytes:
        """See ``RowReader.block``."""
        with self._lock:
            return np.ascontiguousarray(self._item[start:stop]).tobytes()
