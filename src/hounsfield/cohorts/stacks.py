"""Which DICOM files of a folder are slices of one volume, so that they make one sample."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hounsfield.cohorts.files import full_path
from hounsfield.images.slide_levels import surplus_levels

# Modalities of which the files of one series are slices; of all others each file is an image of its own.
SLICED = frozenset({"CT", "MR", "PT"})


@dataclass(frozen=True)
class Stacks:
    """The samples among DICOM files.

    Attributes:
        samples: (reference, header facts) of each image or volume, in the order of their first files.
        series: reference of each volume → its files.
        notes: what was decided.
    """

    samples: list[tuple[str, dict[str, Any]]]
    series: dict[str, tuple[str, ...]]
    notes: list[str]


def stack_series(files: Sequence[tuple[str, dict[str, Any]]]) -> Stacks:
    """Take the files of each CT, MR or PET series together as one volume, and leave out its localisers.

    Of a whole slide, whose levels lie in several files, one level is taken.

    A volume's reference is the folder that holds its files and no others, or else that folder with the series'
    identifier behind it.

    Args:
        files: path and header facts of each DICOM image, as ``headers.read_header`` gives them.

    Raises:
        ImageError: a slide has no level that --level or --max-pixels allows.
    """
    images = [(path, header) for path, header in files if not header.get("localiser")]
    levels = {
        path: (header["SeriesInstanceUID"], header["slide"])
        for path, header in images
        if "slide" in header and "SeriesInstanceUID" in header
    }
    surplus, notes = surplus_levels(levels)
    images = [(path, header) for path, header in images if path not in surplus]
    slices: dict[str, list[str]] = {}
    for path, header in images:
        if header.get("modality") in SLICED and "SeriesInstanceUID" in header:
            slices.setdefault(header["SeriesInstanceUID"], []).append(path)
    volumes = {series: paths for series, paths in slices.items() if len(paths) > 1}
    in_folder = Counter(os.path.dirname(path) for path, _ in files)  # noqa: PTH120 - called for each image
    references = {series: _reference(series, paths, in_folder) for series, paths in volumes.items()}
    samples: dict[str, dict[str, Any]] = {}
    for path, header in images:
        samples.setdefault(references.get(header.get("SeriesInstanceUID", ""), path), header)
    if volumes:
        notes.append(
            f"{sum(map(len, volumes.values()))} slices of CT, MR or PET were stacked into the {len(volumes)} volumes "
            "of their series; to have each slice by itself, key the table by SOPInstanceUID."
        )
    if localisers := sum(bool(header.get("localiser")) for _, header in files):
        notes.append(f"{localisers} localisers were left out.")
    return Stacks(list(samples.items()), {references[series]: tuple(paths) for series, paths in volumes.items()}, notes)


def _reference(series: str, paths: Sequence[str], in_folder: Counter[str]) -> str:
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120 - called for each series
    return folder if folder and in_folder[folder] == len(paths) else full_path(folder, series)
