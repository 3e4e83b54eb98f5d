"""The kinds of DATA that hold masks: how each is recognised, and what loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hounsfield.cohorts import mask_folders
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.label_maps import map_folders
from hounsfield.cohorts.options import Options

LOADERS: dict[str, Callable[[Path, Options], Cohort]] = {mask_folders.KIND: mask_folders.load_masks}
MASK_KINDS = tuple(LOADERS)
MASK_FORMS = "images with masks in folders of their own (images and masks, imagesTr and labelsTr)"


def kinds_with_masks(path: Path) -> list[str]:
    """The kinds of DATA with masks that a path can be read as, the likeliest first."""
    return [mask_folders.KIND] if path.is_dir() and map_folders(path) is not None else []
