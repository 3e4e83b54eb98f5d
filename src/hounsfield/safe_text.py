"""Names and cells as they may be shown: of files that anybody named, to terminals, spreadsheets and pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Control characters, marks that turn the direction of text, line separators, and what stands for bytes that are not
# UTF-8 in the names of files.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)")
_NEUTRAL = re.compile(r"'(?=[=+@\-\t\r\\])")


def shown(text: str, *, lines: bool = False) -> str:
    """A text in which nothing hides: characters that are not to be seen, and bytes that are no text, are escaped.

    Args:
        text: for example the name of a file; Python has the bytes of one that are not UTF-8 as lone surrogates.
        lines: keeps line breaks and tabs.
    """
    return _UNSAFE.sub(lambda found: found[0] if lines and found[0] in "\n\t" else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    return _NAMED.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def cell(value: object) -> object:
    """A value for a CSV table: of a text that a spreadsheet would compute an apostrophe stands before it.

    Numbers stay as they are, also as text. :func:`uncell` gives the text back.
    """
    if not isinstance(value, str):
        return value
    marked = f"'{value}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value
    return shown(marked)


def uncell(text: str) -> str:
    """The text of which :func:`cell` made a cell, but for what was escaped."""
    return _NEUTRAL.sub("", text, count=1) if text.startswith("'") else text


def plain_cells(table: pd.DataFrame) -> pd.DataFrame:
    """A table that was read from CSV, with the texts of which :func:`cell` made its cells."""
    texts = table.select_dtypes(include=["object", "string"])
    return table.assign(**texts.map(lambda value: uncell(value) if isinstance(value, str) else value))


def markdown(line: str) -> str:
    """A line of Markdown in which names make neither tags nor links nor further lines."""
    return shown(line).replace("<", "&lt;").replace("](", "]\\(")
