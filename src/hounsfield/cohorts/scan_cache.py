"""The facts of a scan kept on disk, so that images that did not change are not decoded to be looked at again."""

from __future__ import annotations

import hashlib
import logging
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from hounsfield import atomic
from hounsfield.atomic import make_private
from hounsfield.version import __version__

# Raised whenever a fact is computed in another way.
FORMAT_VERSION = 1

LOGGER = logging.getLogger(__name__)
TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    bytes: pa.binary(),
    float: pa.float64(),
    int: pa.int64(),
    bool: pa.bool_(),
    tuple[int, ...]: pa.list_(pa.int64()),
    tuple[float, ...]: pa.list_(pa.float64()),
    tuple[str, ...]: pa.list_(pa.string()),
}
Record = TypeVar("Record", bound=tuple[Any, ...])


def scan_file(folder: Path, sources: str, kind: type[tuple[Any, ...]]) -> Path:
    """Where the facts of some images are kept.

    Args:
        folder: of the cache.
        sources: the digest of the images' bytes; see ``ImageSource.digest``.
        kind: the named tuple of facts; other fields make another file.
    """
    parts = (sources, __version__, str(FORMAT_VERSION), *typing.get_type_hints(kind))
    return folder / f"{hashlib.blake2b('|'.join(parts).encode(), digest_size=16).hexdigest()}.parquet"


def load_facts(path: Path, kind: type[Record]) -> list[Record] | None:
    """The facts that were kept, or ``None`` where there are none that can be read."""
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path, memory_map=True)
        columns = [_values(table.column(name), column) for name, column in typing.get_type_hints(kind).items()]
    except (OSError, KeyError, pa.ArrowException) as error:
        LOGGER.warning("The kept scan %s cannot be read (%s); the images are looked at again.", path, error)
        return None
    return [kind(*values) for values in zip(*columns, strict=True)]


def keep_facts(path: Path, facts: Sequence[tuple[Any, ...]], kind: type[tuple[Any, ...]]) -> None:
    """Keep facts; where the disk does not take them, the next scan decodes the images again."""
    hints = typing.get_type_hints(kind)
    arrays = [
        pa.array(list(values), type=_arrow_type(hint))
        for values, hint in zip(zip(*facts, strict=True), hints.values(), strict=True)
    ]
    try:
        make_private(path.parent)
        with atomic.replacing(path) as temporary:
            # Pictures and thumbnails do not get smaller, and would only take longer to read.
            texts = [name for name, hint in hints.items() if _plain(hint) is str]
            pq.write_table(pa.table(arrays, names=list(hints)), temporary, use_dictionary=texts, compression="none")
    except OSError as error:
        LOGGER.warning("The scan cannot be kept in %s (%s).", path.parent, error.strerror or error)


def _plain(hint: Any) -> Any:
    """The type of a hint such as ``str | None`` when there is a value."""
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    return options[0] if len(options) == 1 and typing.get_origin(hint) is not tuple else hint


def _arrow_type(hint: Any) -> pa.DataType:
    return TYPES[_plain(hint)]


def _values(column: pa.ChunkedArray, hint: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if typing.get_origin(_plain(hint)) is tuple:
        return [None if value is None else tuple(value) for value in values]
    return values
