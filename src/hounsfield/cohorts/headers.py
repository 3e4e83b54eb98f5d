"""Facts from the headers of DICOM files, without reading their pixels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.cohorts.files import full_path
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.dicom_file import open_header
from hounsfield.images.dicom_metadata import read_metadata
from hounsfield.images.dicom_slide import is_slide, slide_size
from hounsfield.images.limits import pixel_limit
from hounsfield.images.reading import READERS, format_suffix
from hounsfield.images.series_geometry import is_localiser
from hounsfield.progress import Progress, silent

# Columns that a header can fill: attributes of ``Metadata``.
COLUMNS = ("patient", "sex", "age", "view", "site", "manufacturer", "scanner")
# DICOM's identifiers, the most specific first, and the attributes of ``Metadata`` that hold them.
IDENTIFIERS = {
    "SOPInstanceUID": "instance",
    "SeriesInstanceUID": "series",
    "StudyInstanceUID": "study",
    "PatientID": "patient",
}
# The name under which progress is reported.
READING = "reading DICOM headers"


def is_dicom(path: str) -> bool:
    """Whether a file is DICOM by its suffix or, where it has none that is known, by its first bytes."""
    suffix: str | None = os.path.splitext(path)[1].lower()  # noqa: PTH122 - called for each image, as below
    try:
        suffix = suffix if suffix in READERS else format_suffix(Path(path))
    except ImageError:
        return False
    return suffix is not None and READERS[suffix] == READERS[".dcm"]


def read_header(path: str) -> dict[str, Any]:
    """Identifiers and attributes of one DICOM file; empty for what cannot be read. The patient's name is never read.

    Returns:
        A value for each of ``IDENTIFIERS``, of ``COLUMNS``, for ``Rows`` and ``modality``, as far as the header has
        them, ``localiser`` where it is one, and ``slide``, (rows, columns), of a level of a whole slide.
    """
    try:
        header = open_header(Path(path), pixel_limit())
        metadata = read_metadata(header, ())
        rows = header.integer("Rows")
    except ImageError:
        # The reader of pixels will say what is wrong with the file.
        return {}
    values = {identifier: getattr(metadata, name) for identifier, name in IDENTIFIERS.items()}
    values["Rows"] = rows
    values["modality"] = header.text("Modality")
    values["localiser"] = is_localiser(header) or None
    values["slide"] = slide_size(header) if is_slide(header) else None
    values |= {column: getattr(metadata, column) for column in COLUMNS}
    return {key: value for key, value in values.items() if value is not None}


def fill_from_headers(
    table: pd.DataFrame, root: Path, progress: Progress = silent, *, found: bool = False
) -> pd.DataFrame:
    """Fill what the table does not say of its DICOM images from their headers; what it says is kept.

    Args:
        table: a column ``image`` of paths relative to ``root``.
        root: the folder.
        progress: receives reports on files.
        found: whether the images were found in folders, and not listed by the user.

    Raises:
        CohortError: several files that were found are levels of one whole slide, or its label.
    """
    headers = {}
    for row, image in enumerate(table["image"]):
        path = _first_file(full_path(root, image))
        if is_dicom(path):
            headers[row] = read_header(path)
            progress(READING, row + 1, len(table))
    if found:
        _check_slides({table["image"].iloc[row]: header for row, header in headers.items()})
    return merge_headers(table, headers) if headers else table


def _check_slides(headers: Mapping[str, dict[str, Any]]) -> None:
    slides = {image: header for image, header in headers.items() if "slide" in header}
    levels = Counter(header.get("SeriesInstanceUID") for header in slides.values())
    doubtful = [
        image
        for image, header in slides.items()
        if "localiser" in header or levels[header.get("SeriesInstanceUID")] > 1
    ]
    if doubtful:
        raise CohortError(
            f"{len(doubtful):,} images are levels of one whole slide, its label or an overview, such as {doubtful[0]}: "
            "expected one image of each slide. Leave the others out with --exclude, or list one level of each slide in "
            "a table with the columns image and label."
        )


def _first_file(path: str) -> str:
    """The path itself, or the first file of a folder, which holds the slices of one series."""
    if os.path.splitext(path)[1] or not os.path.isdir(path):  # noqa: PTH122, PTH112 - called for each image
        return path
    names = sorted(entry.name for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith("."))
    return full_path(path, names[0]) if names else path


def merge_headers(table: pd.DataFrame, headers: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """Add header values by row number where the table's own column is absent or empty there."""
    table = table.copy()
    for column in COLUMNS:
        values = pd.Series(
            [headers.get(row, {}).get(column) for row in range(len(table))], index=table.index, dtype=object
        )
        if values.notna().any():
            if column in table.columns:
                own = table[column].astype(object)
                values = own.where(own.notna() & (own.astype(str).str.strip() != ""), values)
            table[column] = values
    return table
