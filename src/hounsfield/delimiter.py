"""What separates the columns of a text table, told in one way for tables of samples and of predictions."""

from __future__ import annotations

from pathlib import Path

# Commas come first where a header of one column has none of them.
DELIMITERS = (",", ";", "\t")


def delimiter_of(path: Path) -> str:
    """The comma, semicolon or tab that the first line of a text file has most of.

    Raises:
        OSError: the file cannot be read.
        ValueError: its first line is no UTF-8.
    """
    with path.open(encoding="utf-8-sig") as stream:
        first = stream.readline()
    return max(DELIMITERS, key=first.count)
