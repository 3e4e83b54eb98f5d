"""Tables of predictions and features as CSV, Parquet, JSON or NPZ, written under a temporary name and renamed."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np

from hounsfield.atomic import replacing
from hounsfield.errors import UsageError
from hounsfield.inference.prediction import BasePrediction, Row
from hounsfield.safe_text import cell, shown

# Rows that are turned into columns at once when Parquet is written.
ROW_GROUP = 1024
# Columns that hold text.
TEXTS = frozenset({"image", "prediction", "flags", "set", "answer", "label"})
# Columns that are true or false.
TRUTHS = frozenset({"out_of_distribution"})
FEATURE_SUFFIXES = (".npz", ".csv", ".parquet")


def feature_row(prediction: BasePrediction) -> Row:
    """The feature vector of one image as a row."""
    return {"image": prediction.image, **{f"f{number}": float(v) for number, v in enumerate(prediction.features)}}


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """Write rows as they come; the file appears when it is complete, and replaces one that was there.

    Args:
        path: its suffix decides the form: .csv, .parquet or .json.
        columns: in order, "image" first.
        rows: a value for each column: text in those of ``TEXTS``, true or false in ``TRUTHS``, numbers in the others.

    Returns:
        The number of rows.

    Raises:
        UsageError: the suffix is another one.
    """
    path = Path(path)
    check_table_path(path)
    write = WRITERS[path.suffix.lower()]
    with replacing(path) as temporary:
        return write(temporary, columns, rows)


def write_features(path: str | Path, predictions: Iterable[BasePrediction]) -> int:
    """Write feature vectors, as .csv or .parquet with the columns "image", "f0", "f1", …, or as .npz.

    An ``.npz`` holds the arrays "image" (n,) and "features" (n, features), float32.

    Returns:
        The number of images.

    Raises:
        UsageError: the suffix is another one.
    """
    path = Path(path)
    check_table_path(path, FEATURE_SUFFIXES)
    stream = iter(predictions)
    if path.suffix.lower() == ".npz":
        with replacing(path) as temporary:
            return _write_npz(temporary, stream)
    return write_feature_rows(path, map(feature_row, stream))


def write_feature_rows(path: str | Path, rows: Iterable[Row]) -> int:
    """Write the rows of :func:`feature_row` as .csv or .parquet, and return their number."""
    stream = iter(rows)
    first = list(islice(stream, 1))
    return write_table(path, list(first[0]) if first else ["image"], chain(first, stream))


def check_table_path(path: Path, suffixes: Sequence[str] = (".csv", ".parquet", ".json")) -> None:
    """Refuse, before any work is done, an output that could not be written at its end.

    Raises:
        UsageError: the suffix is not among ``suffixes``, or the folder does not exist.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"The output '{path}' ends in '{path.suffix}': expected one of {', '.join(suffixes)}.")
    if not path.parent.is_dir():
        raise UsageError(f"The folder {path.parent} of the output does not exist. Make it first, or choose another.")


def write_csv(stream: IO[str], columns: Sequence[str], rows: Iterable[Row]) -> int:
    """Write rows as CSV into an open stream, and return their number."""
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    count = 0
    for row in rows:
        writer.writerow({name: cell(value) for name, value in row.items()})
        count += 1
    return count


def _write_csv_file(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    with path.open("w", encoding="utf-8", newline="") as stream:
        return write_csv(stream, columns, rows)


def _write_json(path: Path, _columns: Sequence[str], rows: Iterable[Row]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as stream:
        stream.write("[")
        for count, row in enumerate(rows, start=1):
            stream.write(",\n " if count > 1 else "\n ")
            stream.write(json.dumps(_text(row), ensure_ascii=False))
        stream.write("\n]\n")
    return count


def _write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> int:
    with path.open("wb") as stream:
        return write_parquet(stream, columns, rows)


def write_parquet(
    stream: IO[bytes], columns: Sequence[str], rows: Iterable[Row], facts: Mapping[str, str] | None = None
) -> int:
    """Write rows as Parquet into an open stream, and return their number; ``facts`` go into the file's metadata."""
    # Imported when a Parquet file is asked for: it takes longer than a prediction.
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    special = dict.fromkeys(TEXTS, arrow.string()) | dict.fromkeys(TRUTHS, arrow.bool_())
    schema = arrow.schema([(name, special.get(name, arrow.float64())) for name in columns], metadata=facts)
    count = 0
    with parquet.ParquetWriter(stream, schema) as writer:
        for part in _parts(rows):
            writer.write_table(arrow.Table.from_pylist([_text(row) for row in part], schema=schema))
            count += len(part)
    return count


def _text(row: Row) -> Row:
    """The row with names that every file can hold: those of files need not be UTF-8."""
    return {name: shown(value) if isinstance(value, str) else value for name, value in row.items()}


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while part := list(islice(iterator, ROW_GROUP)):
        yield part


def _write_npz(path: Path, predictions: Iterable[BasePrediction]) -> int:
    names, vectors = [], []
    for prediction in predictions:
        names.append(shown(prediction.image))
        vectors.append(prediction.features)
    features = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
    with path.open("wb") as stream:
        np.savez(stream, image=np.array(names, dtype=np.str_), features=features)
    return len(names)


# Suffix -> the function that writes such a file.
WRITERS: dict[str, Callable[[Path, Sequence[str], Iterable[Row]], int]] = {
    ".csv": _write_csv_file,
    ".parquet": _write_parquet,
    ".json": _write_json,
}
