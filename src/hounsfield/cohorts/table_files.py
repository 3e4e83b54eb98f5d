"""Reading a table from a file: CSV in any separator and encoding, compressed or not, Excel, Parquet."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import charset_normalizer
import numpy as np
import pandas as pd

from hounsfield.containers import read_parquet
from hounsfield.delimiter import MAX_LINE, decimal_comma_columns, delimiter_in
from hounsfield.errors import CohortError
from hounsfield.hardware import out_of_files
from hounsfield.images.reading import DOUBLE_SUFFIXES, READERS
from hounsfield.textfiles import require_regular

IMAGE_SUFFIX = re.compile(
    "(" + "|".join(re.escape(suffix) for suffix in (*DOUBLE_SUFFIXES, *READERS)) + ")$", re.IGNORECASE
)
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".xlsx", ".csv.gz", ".tsv.gz")
# Columns that are found whatever their case.
OWN_COLUMNS = ("image", "patient", "split")
# So many lines tell whether a text is a list.
LIST_LINES = 200
# A table of samples is never larger, unpacked.
MAX_BYTES = 2**31
LISTS = (list, dict, np.ndarray)
# Unpacked over packed, of tables that are not small when unpacked.
MAX_RATIO = 100
SMALL_BYTES = 2**25
# Characters of the name of a column; whole questions are shorter.
MAX_NAME = 10_000
# So much of a text tells its encoding.
SAMPLE_BYTES = 2**18
# Encodings that spreadsheets write beside Unicode; tried where a text is no UTF-8 and has no mark of UTF-16.
ENCODINGS = ["cp1252", "gb18030", "big5", "shift_jis", "euc_kr", "cp1251", "cp1250"]


def is_table(path: Path) -> bool:
    """Whether a file is a table by its name."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def is_list(path: Path) -> bool:
    """Whether each of the first lines of a text has as many words, two or more, one of which is a file's name."""
    try:
        with path.open("rb") as stream:
            lines = stream.read(2**16).decode("utf-8-sig").splitlines()[:LIST_LINES]
    except (OSError, UnicodeDecodeError) as error:
        if out_of_files(error):
            raise
        return False
    words = [line.split() for line in lines if line.strip()]
    # The last line may have been cut.
    counts = {len(line) for line in words[:-1] or words}
    return len(words) > 1 and len(counts) == 1 and counts != {1} and _is_data(words[0])


def table_stem(path: Path) -> str:
    """The name of a table without its suffixes."""
    name = path.name
    for suffix in (".gz", ".csv", ".tsv", ".parquet", ".xlsx", ".txt"):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name


def read_table(path: Path, *, may_be_empty: bool = False) -> pd.DataFrame:
    """Read a table; all that is not Parquet is text, so that no label such as ``None`` or ``01`` changes.

    Returns:
        The table; ``attrs["notes"]`` says which encoding or sheet was read, where that was a choice.

    Raises:
        CohortError: the file is no table, or it has no rows and that is not allowed.
    """
    notes: list[str] = []
    try:
        require_regular(path)
        table, header = _read(path, notes)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise CohortError(
            f"Cannot read the table {path} ({reason}): expected CSV, TSV, Excel (.xlsx) or Parquet. Save it again in "
            "one of these; CSV in UTF-8 is the safest."
        ) from error
    table.columns = own_columns([str(column).strip() for column in table.columns])
    if table.empty and not may_be_empty:
        raise CohortError(f"The table {path} has no rows: expected one for each image. Fill it.")
    header = [column.strip() for column in header]
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise CohortError(f"The table {path} has the column {', '.join(twice)} more than once. Rename or remove one.")
    longest = max(map(len, table.columns), default=0)
    if longest > MAX_NAME:
        raise CohortError(
            f"The table {path} has a column whose name has {longest:,} characters: expected at most {MAX_NAME:,}. "
            "Begin the table with a line that names its columns, separated by commas, semicolons or tabs."
        )
    table = table.reset_index(drop=True)
    table.attrs["notes"] = notes
    return table


def _as_text(cell: object) -> object:
    """Bytes as text, as some writers of Parquet leave it; what is no UTF-8 as escapes."""
    return cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else cell


def _read(path: Path, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table and its header as it is in the file: pandas gives a repeated column another name."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        table = read_parquet(path)
        # Cells that are lists have no place among labels and names, and are compared as text.
        for column in table.columns:
            cells = table[column]
            if cells.dtype != np.dtype(object):
                continue
            if cells.map(lambda cell: isinstance(cell, LISTS)).any():
                table[column] = cells.astype(str)
            elif cells.map(lambda cell: isinstance(cell, bytes)).any():
                table[column] = cells.map(_as_text)
        return table, [str(column) for column in table.columns]
    if name.endswith(".xlsx"):
        return _read_excel(path, notes)
    text = _text_of(path, notes)
    if name.endswith(".txt"):
        rows = [line.split() for line in text.splitlines() if line.strip()]
        return _without_header(pd.DataFrame(rows, dtype=str), path, notes), []
    separator = _separator(text)
    if name.removesuffix(".gz").endswith(".tsv"):
        separator = "\t"
    first = [str(cell) for cell in _parsed(text, separator, rows=1).iloc[0]]
    if _is_data(first):
        return _without_header(_parsed(text, separator), path, notes), []
    table = _parsed(text, separator, header=0)
    # An empty name is a column without one.
    header = [column for column in _parsed(text, separator, rows=1).iloc[0] if column]
    return table.assign(**decimal_comma_columns(table, separator)), header


def _is_data(cells: Sequence[str]) -> bool:
    """Whether cells are those of a row and not of a header: one of them is the path of an image or of a folder."""
    return any(IMAGE_SUFFIX.search(cell.strip()) or cell.strip().endswith("/") for cell in cells)


def _without_header(table: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    table.columns = pd.Index([f"column {number + 1}" for number in range(len(table.columns))])
    notes.append(f"{path.name} has no header: its columns are called {', '.join(table.columns)}.")
    return table.fillna("")


def _parsed(text: str, separator: str, *, header: int | None = None, rows: int | None = None) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), sep=separator, header=header, nrows=rows, dtype=str, keep_default_na=False)


def _separator(text: str) -> str:
    first, _, rest = text[: 2 * MAX_LINE].partition("\n")
    # Of a row that is longer than its header pandas would make an index of as many levels.
    delimiter_in(rest.partition("\n")[0])
    return delimiter_in(first)


def _text_of(path: Path, notes: list[str]) -> str:
    """The text of a file in the encoding that it is in."""
    is_compressed = path.name.lower().endswith(".gz")
    limit = _most_unpacked(path) if is_compressed else MAX_BYTES
    with (gzip.open if is_compressed else open)(path, "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes" + " when unpacked" * is_compressed)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        best = charset_normalizer.from_bytes(data[:SAMPLE_BYTES], cp_isolation=ENCODINGS).best()
    if best is None:
        raise ValueError("its encoding is not known")
    encoding = _plainest(data, best.encoding)
    notes.append(f"The table {path.name} is no UTF-8 and was read as {encoding}.")
    return data.decode(encoding)


def _plainest(data: bytes, encoding: str) -> str:
    """That of Western Windows where it gives the same text, which is by far the most frequent."""
    try:
        return ENCODINGS[0] if data.decode(ENCODINGS[0]) == data.decode(encoding) else encoding
    except UnicodeDecodeError:
        return encoding


def _most_unpacked(path: Path) -> int:
    """Bytes that a compressed table may have: text gets 5 to 50 times smaller, and not a thousand times."""
    return min(MAX_BYTES, max(SMALL_BYTES, MAX_RATIO * path.stat().st_size))


def _read_excel(path: Path, notes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    with zipfile.ZipFile(path) as archive:
        limit = _most_unpacked(path)
        if sum(entry.file_size for entry in archive.infolist()) > limit:
            raise ValueError(f"it is larger than {limit:,} bytes when unpacked")
    sheets = pd.read_excel(path, sheet_name=None, header=None, dtype=str, keep_default_na=False, engine="openpyxl")
    filled = {str(name): sheet for name, sheet in sheets.items() if not sheet.empty}
    if not filled:
        return pd.DataFrame(), []
    name, sheet = next(iter(filled.items()))
    if len(filled) > 1:
        notes.append(f"The sheet '{name}' of {path.name} was read; the others ({', '.join([*filled][1:])}) were not.")
    header = [str(value) for value in sheet.iloc[0]]
    table = sheet.iloc[1:].reset_index(drop=True)
    table.columns = pd.Index([value or f"Unnamed: {number}" for number, value in enumerate(header)])
    return table, [value for value in header if value]


def own_columns(columns: Sequence[str]) -> list[str]:
    """The columns, those that differ from one of ``OWN_COLUMNS`` in their case alone called as it is."""
    plain = [column.lower() for column in columns]
    return [
        own if own in OWN_COLUMNS and plain.count(own) == 1 else column
        for own, column in zip(plain, columns, strict=True)
    ]
