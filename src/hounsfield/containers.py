"""Arrays and tables that others have written: what they claim is bounded before anything is unpacked or allocated."""

from __future__ import annotations

import importlib
import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hounsfield.textfiles import require_regular

if TYPE_CHECKING:
    import pandas as pd

# Bytes of the arrays of one archive, unpacked; the largest that a bundle keeps has a hundredth of it.
MAX_ARRAYS = 2**28
MAX_MEMBERS = 10_000
# Cells of a table: a file of a few bytes may say the same value a billion times.
MAX_CELLS = 5 * 10**7
MAX_COLUMNS = 2**14
MAX_TABLE_BYTES = 2**31


def read_arrays(path: Path, *, limit: int = MAX_ARRAYS) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays of an ``.npz`` file, by name.

    Args:
        path: the file.
        limit: bytes that all of them together may have, unpacked.

    Raises:
        OSError: the file is not there or may not be read.
        ValueError: it is no such archive, is damaged, or claims more than the limit or than it holds.
    """
    require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if len(set(names)) < len(names):
                raise ValueError("it holds a name twice")
            total = sum(member.file_size for member in members)
            if len(members) > MAX_MEMBERS or total > limit:
                raise ValueError(f"its {len(members):,} arrays have {total:,} bytes, and at most {limit:,} are read")
            return {name.removesuffix(".npy"): _array(archive.read(name), name) for name in names}
    except (KeyError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        # Among them encrypted members and methods of compression that Python does not know.
        raise ValueError(str(error) or type(error).__name__) from error


def _array(content: bytes, name: str) -> npt.NDArray[np.generic]:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != len(content) - stream.tell():
        raise ValueError(f"{name} claims {claimed:,} bytes, and holds {len(content) - stream.tell():,}")
    stream.seek(0)
    return np.asarray(np.load(stream, allow_pickle=False))


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """A table in Parquet.

    Args:
        path: the file.
        columns: that are read; all by default.

    Raises:
        OSError: the file is not there or may not be read.
        ValueError: it is no Parquet, is damaged, or claims more rows, columns or bytes than any table has.
    """
    require_regular(path)
    # Imported on use: a prediction needs no tables.
    pandas, pa = importlib.import_module("pandas"), importlib.import_module("pyarrow")
    pq = importlib.import_module("pyarrow.parquet")
    try:
        facts = pq.read_metadata(path)
        bytes_unpacked = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
        if facts.num_columns > MAX_COLUMNS or facts.num_rows * max(facts.num_columns, 1) > MAX_CELLS:
            raise ValueError(f"it has {facts.num_rows:,} rows and {facts.num_columns:,} columns, and a table has fewer")
        if bytes_unpacked > MAX_TABLE_BYTES:
            raise ValueError(f"it has {bytes_unpacked:,} bytes unpacked, and at most {MAX_TABLE_BYTES:,} are read")
        table: pd.DataFrame = pandas.read_parquet(path, columns=columns)
    except (pa.ArrowException, KeyError, TypeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())[:500]) from error
    return table
