"""Cohorts from DICOM series with segmentations or structure sets of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.cohorts.arrays import file_identity
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.files import FileSource
from hounsfield.cohorts.folders import headers_below
from hounsfield.cohorts.headers import merge_headers
from hounsfield.cohorts.mask_build import FoundMasks, build_mask_cohort
from hounsfield.cohorts.mask_files import read_label_maps
from hounsfield.cohorts.masks import Layer
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.stacks import Stacks, stack_series
from hounsfield.errors import CohortError, ImageError
from hounsfield.hardware import out_of_files
from hounsfield.images.dicom_contours import enclosed, read_regions, referenced_series
from hounsfield.images.files import refuse_unlisted
from hounsfield.images.image import Image
from hounsfield.images.reading import DIRECTORIES

KIND = "dicom masks"
SEGMENTATION, STRUCTURES = "SEG", "RTSTRUCT"
# The first bytes of a DICOM file, as far as it tells what it is.
PREAMBLE, MAGIC, HEAD_BYTES = 128, b"DICM", 1024
# Segmentation, Label Map Segmentation and RT Structure Set Storage (PS3.4, B.5).
CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}".encode() for end in ("66.4", "66.7", "481.3"))


class DicomMasks:
    """Masks in segmentation objects and structure sets; see ``MaskSource``.

    Args:
        root: the folder that paths are relative to.
        files: sample → (path, modality) of each object.
    """

    def __init__(self, root: Path, files: Mapping[str, Sequence[tuple[str, str]]]) -> None:
        self.root = Path(root)
        self.files = dict(files)

    def layers(self, sample: str, image: Image) -> Iterator[Layer]:
        """See ``MaskSource.layers``."""
        for path, modality in self.files[sample]:
            if modality == STRUCTURES:
                for region in read_regions(self.root / path):
                    yield Layer(enclosed(region, image), label=region.name, place=path)
            else:
                for mask, names, _ in read_label_maps(self.root / path):
                    yield Layer(mask, names, place=path, strict=bool(names))

    def digest(self, samples: Sequence[str]) -> str:
        """See ``MaskSource.digest``."""
        digest = hashlib.blake2b(f"{self.root.resolve()}\n".encode(), digest_size=16)
        for sample in samples:
            for path, modality in self.files[sample]:
                identity = file_identity(os.path.join(self.root, path))  # noqa: PTH118 - called for each image
                digest.update(f"{sample}|{path}|{modality}|{identity}\n".encode())
        return digest.hexdigest()


def has_dicom_masks(path: Path) -> bool:
    """Whether a folder holds a DICOM segmentation or a structure set."""
    if not path.is_dir():
        return False
    for parent, folders, names in os.walk(path, onerror=refuse_unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.upper() not in DIRECTORIES and _is_mask(Path(parent, name)):
                return True
    return False


def _is_mask(path: Path) -> bool:
    """Whether a file is one of both by the class in its first bytes; the whole header would take long of many files."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        if out_of_files(error):
            raise
        return False
    return head[PREAMBLE : PREAMBLE + len(MAGIC)] == MAGIC and any(uid in head for uid in CLASSES)


def load_dicom_masks(path: Path, options: Options) -> Cohort:
    """The cohort of the DICOM series below a folder that segmentations or structure sets are of.

    An object names the series that it was drawn on; where it does not, it is of the only series of its study.

    Raises:
        CohortError: there is no such object, or none is of a series that is there.
    """
    root = Path(options.images) if options.images else path
    every = list(headers_below(root, options.progress)) if root.is_dir() else []
    objects = [(name, header) for name, header in every if header.get("modality") in {SEGMENTATION, STRUCTURES}]
    pictures = [(name, header) for name, header in every if "Rows" in header and header.get("modality") != SEGMENTATION]
    if not objects:
        raise CohortError(
            f"Found no DICOM segmentation (SEG) and no structure set (RTSTRUCT) in {root}, among {len(every):,} DICOM "
            "files. Expected them beside the series that they are of. Check the path."
        )
    stacks = stack_series(pictures)
    files, lost = _owners(root, objects, stacks)
    if not files:
        raise CohortError(
            f"Found {len(objects)} DICOM segmentations or structure sets in {root}, and no series that one of them is "
            f"of, first {objects[0][0]}. Expected the series that they were drawn on below the same folder. Copy them "
            "there."
        )
    notes = [*stacks.notes]
    if lost:
        notes.append(
            f"{len(lost)} segmentations or structure sets are of no series here and were left out: "
            f"{', '.join(lost[:NUM_NAMED])}."
        )
    if len(files) < len(stacks.samples):
        notes.append(f"{len(stacks.samples) - len(files)} images have no mask and were left out.")
    facts = [header for sample, header in stacks.samples if sample in files]
    table = merge_headers(pd.DataFrame({"image": [*files]}), dict(enumerate(facts)))
    found = FoundMasks(
        images=table,
        source=DicomMasks(root, files),
        mask={sample: ";".join(name for name, _ in each) for sample, each in files.items()},
        notes=tuple(notes),
        image_source=FileSource(root, stacks.series),
        listed=frozenset(stacks.series),
    )
    return build_mask_cohort(found, options, root=root, kind=KIND, name=path.resolve().name)


def _owners(
    root: Path, objects: Sequence[tuple[str, dict[str, Any]]], stacks: Stacks
) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """Sample → the objects that are of it, in the order of the samples; and the objects of none."""
    by_series: dict[str, list[str]] = {}
    by_study: dict[str, list[str]] = {}
    for sample, header in stacks.samples:
        by_series.setdefault(header.get("SeriesInstanceUID", ""), []).append(sample)
        by_study.setdefault(header.get("StudyInstanceUID", ""), []).append(sample)
    owned: dict[str, list[tuple[str, str]]] = {}
    lost = []
    for name, header in objects:
        try:
            series = [sample for each in referenced_series(root / name) for sample in by_series.get(each, [])]
        except ImageError:
            series = []
        of = series or by_study.get(header.get("StudyInstanceUID", "-"), [])
        if len(of) != 1:
            lost.append(name)
        else:
            owned.setdefault(of[0], []).append((name, str(header["modality"])))
    order = [sample for sample, _ in stacks.samples if sample in owned]
    return {sample: sorted(owned[sample]) for sample in order}, lost
