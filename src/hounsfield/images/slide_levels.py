"""Which files of a whole slide are read: each holds one level of its pyramid, a label, or an overview of the glass."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import open_header
from hounsfield.images.dicom_slide import is_overview, slide_size
from hounsfield.images.limits import pixel_limit
from hounsfield.images.settings import LEVEL_VARIABLE, number_setting
from hounsfield.images.slide_files import WHOLE_SLIDE, may_be_slide

logger = logging.getLogger(__name__)

Size = tuple[int, int]
# Samples of a pixel of a slide.
COLOURS = 3


def chosen_level(sizes: Sequence[Size], number: int | None, limit: int, source: object) -> int:
    """Which of the levels of one slide is read: that of a number from 0, the largest, or the largest within a limit.

    Args:
        sizes: (rows, columns) of each, in any order.
        number: asked for.
        limit: the most values of an image.
        source: for messages.

    Returns:
        The level's place among ``sizes``.

    Raises:
        ImageError: there is no such level, or none of them is within the limit.
    """
    ordered = sorted(range(len(sizes)), key=lambda place: -math.prod(sizes[place]))
    if number is not None and number >= len(ordered):
        raise ImageError(f"{source} has {len(ordered)} levels ({listed(sizes)}), and number {number} was asked for.")
    if number is not None:
        return ordered[number]
    fitting = [place for place in ordered if math.prod(sizes[place]) * COLOURS <= limit]
    if not fitting:
        raise ImageError(
            f"{source} is a whole slide whose levels ({listed(sizes)}) all exceed the limit of {limit} values. "
            "Raise the limit with --max-pixels if the memory is there."
        )
    return fitting[0]


def listed(sizes: Iterable[Size]) -> str:
    """The levels for a message, the largest first."""
    ordered = sorted(sizes, key=lambda size: -math.prod(size))
    return "; ".join(f"{number}: {rows} × {columns} pixels" for number, (rows, columns) in enumerate(ordered))


def surplus_levels(levels: Mapping[str, tuple[str, Size]]) -> tuple[set[str], list[str]]:
    """Of files that hold levels of slides those that are not taken, for a slide is one image.

    Args:
        levels: path → identifier of the slide, and (rows, columns).

    Returns:
        The paths, and a sentence about each slide.

    Raises:
        ImageError: as ``chosen_level``, by the command line's --level and --max-pixels.
    """
    slides: dict[str, list[str]] = {}
    for path, (slide, _) in levels.items():
        slides.setdefault(slide, []).append(path)
    surplus, told = set[str](), []
    for paths in slides.values():
        sizes, folder = [levels[path][1] for path in paths], Path(paths[0]).parent
        taken = chosen_level(sizes, number_setting(LEVEL_VARIABLE), pixel_limit(), folder)
        if len(paths) > 1:
            rows, columns = sizes[taken]
            told.append(
                f"{folder} holds a whole slide in {len(paths)} levels ({listed(sizes)}); the one of {rows} × {columns} "
                "pixels was taken. Choose another with --level."
            )
        surplus.update(path for place, path in enumerate(paths) if place != taken)
    return surplus, told


def without_surplus(files: Sequence[Path]) -> list[Path]:
    """The files of a folder with one level of each whole slide, without labels and overviews; what is left out is told.

    Raises:
        ImageError: as ``surplus_levels``.
    """
    levels: dict[str, tuple[str, Size]] = {}
    overviews = set[str]()
    for path in files:
        if not may_be_slide(path):
            continue
        try:
            header = open_header(path, pixel_limit())
            size, series = slide_size(header), header.text("SeriesInstanceUID")
            if is_overview(header):
                overviews.add(str(path))
            elif size is not None and series and header.text("SOPClassUID") == WHOLE_SLIDE:
                levels[str(path)] = series, size
        except ImageError:
            # Its reader will say what is wrong with it.
            continue
    surplus, told = surplus_levels(levels)
    if overviews and levels:
        surplus |= overviews
        told.append(f"{len(overviews)} labels and overviews of whole slides were left out.")
    for sentence in told:
        logger.warning("%s", sentence)
    return [path for path in files if str(path) not in surplus] if surplus else list(files)
