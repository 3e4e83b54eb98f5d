"""Whether files may be levels of whole slides, by their first bytes: loading pydicom takes longer than a prediction."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from hounsfield.errors import ImageError
from hounsfield.images.files import open_file

# The class of objects of whole slides, which stands behind little else.
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
BEGINNING = 2**12


def without_surplus(files: Sequence[Path]) -> list[Path]:
    """The files of a folder with one level of each whole slide; see ``slide_levels.without_surplus``.

    Raises:
        ImageError: as ``surplus_levels``.
    """
    if not any(map(may_be_slide, files)):
        return list(files)
    kept: list[Path] = importlib.import_module("hounsfield.images.slide_levels").without_surplus(files)
    return kept


def may_be_slide(path: Path) -> bool:
    """Whether the class of whole slides stands at the beginning of a file."""
    try:
        with open_file(path) as file:
            return WHOLE_SLIDE.encode() in file.read(BEGINNING)
    except ImageError:
        return False
