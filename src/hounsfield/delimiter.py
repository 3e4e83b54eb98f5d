"""What separates the columns and the decimals of a text table, told in one way for samples and for predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hounsfield.textfiles import require_regular

if TYPE_CHECKING:
    import pandas as pd

# Commas come first where a header of one column has none of them.
DELIMITERS = (",", ";", "\t")
# A spreadsheet has as many columns at most.
MAX_COLUMNS = 2**14
MAX_LINE = 2**22
WHOLE, WITH_COMMA = r"[+-]?\d+", r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"


def delimiter_of(path: Path) -> str:
    """The comma, semicolon or tab that the first line of a text file has most of.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no regular file, its first line is no UTF-8, or it has more than ``MAX_COLUMNS`` columns.
    """
    require_regular(path)
    with path.open(encoding="utf-8-sig") as stream:
        first, second = stream.readline(MAX_LINE), stream.readline(MAX_LINE)
    # Of a row that is longer than its header pandas would make an index of as many levels.
    delimiter_in(second)
    return delimiter_in(first)


def delimiter_in(first: str) -> str:
    """The comma, semicolon or tab that a line has most of.

    Raises:
        ValueError: it is longer than ``MAX_LINE``, or has more than ``MAX_COLUMNS`` columns.
    """
    delimiter = max(DELIMITERS, key=first.count)
    if len(first) >= MAX_LINE or first.count(delimiter) >= MAX_COLUMNS:
        raise ValueError(f"its first line has more than {MAX_COLUMNS:,} columns or {MAX_LINE:,} characters")
    return delimiter


def decimal_comma_columns(table: pd.DataFrame, delimiter: str) -> dict[str, pd.Series[str]]:
    """The columns of a text table whose numbers have decimal commas, with points instead.

    Only where a semicolon or a tab separates the columns, and only those of which every cell is empty, a whole number
    or a number with a comma, and one has a comma.

    Args:
        table: as it was read; columns that are no text are passed over.
        delimiter: of its columns.
    """
    if delimiter == ",":
        return {}
    found = {}
    for name, cells in table.items():
        filled = cells[cells.notna()]
        if not all(isinstance(cell, str) for cell in filled):
            continue
        text = filled.str.strip()
        numbers = text[text != ""]
        with_comma = numbers.str.fullmatch(WITH_COMMA)
        if with_comma.any() and (with_comma | numbers.str.fullmatch(WHOLE)).all():
            found[str(name)] = text.str.replace(",", ".", regex=False).reindex(cells.index)
    return found
