"""Facts from the headers of DICOM files, without reading their pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pydicom
from pydicom.errors import InvalidDicomError

from hounsfield.cohorts.files import full_path

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
# Column of the table -> DICOM keyword.
KEYWORDS = {
    "patient": "PatientID",
    "sex": "PatientSex",
    "age": "PatientAge",
    "view": "ViewPosition",
    "site": "InstitutionName",
    "manufacturer": "Manufacturer",
    "scanner": "ManufacturerModelName",
}
IDENTIFIERS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID")
YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


def is_dicom(path: str) -> bool:
    """Whether a file is DICOM by its suffix or, where it has none that is known, by the mark after its preamble."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - called for each image, as below
    if suffix in DICOM_SUFFIXES:
        return True
    # A UID as file name ends in digits after a dot, which is no suffix.
    if suffix and not suffix[1:].isdigit():
        return False
    try:
        with open(path, "rb") as stream:  # noqa: PTH123
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(path: str) -> dict[str, Any]:
    """Identifiers and attributes of one DICOM file; empty for what cannot be read. The patient's name is never read.

    Returns:
        The text of each of ``IDENTIFIERS``, and one value for each column of ``KEYWORDS``; missing ones left out.
    """
    try:
        dataset = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=[*KEYWORDS.values(), *IDENTIFIERS], force=True
        )
    # What pydicom raises for damaged headers; the reader of pixels will say what is wrong with the file.
    except (OSError, InvalidDicomError, ValueError, KeyError, TypeError, AttributeError, EOFError, NotImplementedError):
        return {}
    values: dict[str, Any] = {keyword: _text(dataset, keyword) for keyword in IDENTIFIERS}
    values |= {column: _text(dataset, keyword) for column, keyword in KEYWORDS.items()}
    values["age"] = _years(values["age"])
    if values["sex"] not in {"M", "F", "O"}:
        values["sex"] = None
    return {key: value for key, value in values.items() if value is not None}


def fill_from_headers(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Fill what the table does not say of its DICOM images from their headers; what it says is kept.

    Args:
        table: a column ``image`` of paths relative to ``root``.
        root: the folder.
    """
    headers = {}
    for row, image in enumerate(table["image"]):
        path = _first_file(full_path(root, image))
        if is_dicom(path):
            headers[row] = read_header(path)
    return merge_headers(table, headers) if headers else table


def _first_file(path: str) -> str:
    """The path itself, or the first file of a folder, which holds the slices of one series."""
    if os.path.splitext(path)[1] or not os.path.isdir(path):  # noqa: PTH122, PTH112 - called for each image
        return path
    names = sorted(entry.name for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith("."))
    return full_path(path, names[0]) if names else path


def merge_headers(table: pd.DataFrame, headers: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """Add header values by row number where the table's own column is absent or empty there."""
    table = table.copy()
    for column in KEYWORDS:
        values = pd.Series(
            [headers.get(row, {}).get(column) for row in range(len(table))], index=table.index, dtype=object
        )
        if values.notna().any():
            if column in table.columns:
                own = table[column].astype(object)
                values = own.where(own.notna() & (own.astype(str).str.strip() != ""), values)
            table[column] = values
    return table


def _text(dataset: pydicom.Dataset, keyword: str) -> str | None:
    try:
        value = dataset.get(keyword)
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        return None
    text = "" if value is None else str(value).strip()
    return text or None


def _years(age: str | None) -> float | None:
    """Years from DICOM's age string (PS3.5 section 6.2, AS): three digits and D, W, M or Y."""
    if not age or not age[:-1].isdigit() or age[-1].upper() not in YEARS:
        return None
    return round(int(age[:-1]) * YEARS[age[-1].upper()], 3)
