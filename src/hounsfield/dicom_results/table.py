"""Which objects a prediction of each family becomes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset

from hounsfield.bundle import Bundle
from hounsfield.dicom_results import boxes, labels, values
from hounsfield.dicom_results.base import Author, Source, Written, find_sources, write
from hounsfield.inference import BasePrediction
from hounsfield.tasks import Family


class Objects(Protocol):
    """One entry of ``OBJECTS``: a module with these names.

    Attributes:
        KINDS: of the objects that can be made.
    """

    KINDS: tuple[str, ...]

    def make(self, author: Author, sources: Sequence[Source], kind: str) -> Dataset | None:
        """The object of a kind for images of one study; ``None`` where there is nothing to say in it."""


OBJECTS: dict[Family, Objects] = {"labels": labels, "values": values, "boxes": boxes}
KINDS = ("report", "segmentation", "map", "capture")


def write_results(
    predictions: Sequence[BasePrediction],
    bundle: Bundle,
    folder: Path,
    *,
    kinds: Sequence[str] = KINDS,
    codes: Mapping[str, Mapping[str, str]] | None = None,
    quirk: str | None = None,
) -> list[Written]:
    """Write the results of DICOM images, one object of each kind for each study.

    UIDs are derived from the bundle, the images and the kind: made again, the same result has the same UID.

    Args:
        predictions: of images in DICOM form.
        bundle: that made them.
        folder: that exists, for the files.
        kinds: of those that the family can make, which are wanted.
        codes: label → ``value``, ``scheme`` and ``meaning``; labels without one get a private code.
        quirk: "ohif" draws a region around the whole image for a classification.

    Raises:
        ImageError: an image is not in DICOM form.
        OSError: the folder cannot be written to.
    """
    author = Author(bundle, codes or {}, quirk)
    entry = OBJECTS[bundle.family]
    studies: dict[str, list[Source]] = {}
    for source in find_sources(predictions):
        studies.setdefault(str(source.datasets[0].StudyInstanceUID), []).append(source)
    written = []
    # The library's warnings quote names of patients.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sources in studies.values():
            for kind in entry.KINDS:
                dataset = entry.make(author, sources, kind) if kind in kinds else None
                if dataset is not None:
                    written.append(write(dataset, kind, folder))
    return written
