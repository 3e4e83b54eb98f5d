"""Images with geometry, and the readers and writers of every format.

The readers and writers of single formats load heavy packages, so they are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hounsfield.images.image import Image, Metadata
from hounsfield.images.reading import READERS, image_files, input_path, read_image
from hounsfield.images.reference import Reference
from hounsfield.images.windows import WINDOW_PRESETS, apply_window

if TYPE_CHECKING:
    from hounsfield.images.orientation import orientation_of, reorient
    from hounsfield.images.series import read_series
    from hounsfield.images.series_grouping import Grouping, Series, group_series
    from hounsfield.images.writers import write_image

# Public name -> module that it comes from.
LAZY = {
    "Grouping": "hounsfield.images.series_grouping",
    "Series": "hounsfield.images.series_grouping",
    "group_series": "hounsfield.images.series_grouping",
    "orientation_of": "hounsfield.images.orientation",
    "read_series": "hounsfield.images.series",
    "reorient": "hounsfield.images.orientation",
    "write_image": "hounsfield.images.writers",
}

__all__ = [
    "READERS",
    "WINDOW_PRESETS",
    "Grouping",
    "Image",
    "Metadata",
    "Reference",
    "Series",
    "apply_window",
    "group_series",
    "image_files",
    "input_path",
    "orientation_of",
    "read_image",
    "read_series",
    "reorient",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return getattr(importlib.import_module(LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
