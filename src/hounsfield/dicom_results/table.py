"""Which objects a prediction of each family becomes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from hounsfield.bundle import Bundle
from hounsfield.bundle.about import Code
from hounsfield.dicom_results import boxes, labels, masks, values
from hounsfield.dicom_results.base import Author, Written, write
from hounsfield.dicom_results.captures import captures
from hounsfield.dicom_results.evidence import maps
from hounsfield.dicom_results.sources import Source, find_sources
from hounsfield.errors import ImageError
from hounsfield.inference import BasePrediction
from hounsfield.tasks import Family

# Makes the objects of one kind for images of one study.
Maker = Callable[[Author, Sequence[Source]], list[Dataset]]
KINDS = ("report", "segmentation", "map", "capture")
# Those that are made where nothing else is asked for.
USUAL = ("report", "segmentation")

OBJECTS: dict[Family, dict[str, Maker]] = {
    "labels": {"report": labels.report, "map": maps, "capture": captures},
    "values": {"report": values.report, "map": maps, "capture": captures},
    "boxes": {"report": boxes.report, "capture": captures},
    "masks": {"report": masks.report, "segmentation": masks.segmentations, "capture": captures},
}


def write_results(
    predictions: Sequence[BasePrediction],
    bundle: Bundle,
    folder: Path,
    *,
    kinds: Sequence[str] = USUAL,
    codes: Mapping[str, Code] | None = None,
    quirk: str | None = None,
    options: Mapping[str, object] | None = None,
) -> list[Written]:
    """Write the results of DICOM images, for each study.

    UIDs are derived from the bundle, its use, the images and the kind: made again, the same result has the same UID.

    Args:
        predictions: of images in DICOM form.
        bundle: that made them.
        folder: that exists, for the files.
        kinds: that are wanted of those that the family can make.
        codes: of labels, see ``read_codes``; labels without one get a private code.
        quirk: "ohif" draws a region around the whole image for a classification.
        options: of the predictor that differ from its defaults.

    Raises:
        ImageError: an image is not in DICOM form, or its header breaks the standard.
        OSError: the folder cannot be written to.
    """
    author = Author(bundle, codes or {}, quirk, options or {})
    # The library's warnings quote names of patients.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        studies: dict[str, list[Source]] = {}
        for source in find_sources(predictions):
            studies.setdefault(source.study, []).append(source)
        makers = {kind: make for kind, make in OBJECTS[bundle.family].items() if kind in kinds}
        return [
            write(dataset, kind, folder)
            for sources in studies.values()
            for kind, make in makers.items()
            for dataset in _made(make, author, sources, kind)
        ]


def _made(make: Maker, author: Author, sources: Sequence[Source], kind: str) -> list[Dataset]:
    try:
        return make(author, sources)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # What the library says of a header may quote a patient's name; the keyword of what is missing does not.
        name = getattr(error, "name", None)
        what = f"lacks {name}" if name and tag_for_keyword(name) else f"breaks the standard ({type(error).__name__})"
        raise ImageError(
            f"No DICOM {kind} could be made for {sources[0].prediction.image} and the images of its study, since a "
            f"header {what}. Check the headers with dciodvfy, or leave the "
            "images out."
        ) from error
