"""Secondary captures: the drawn prediction as a picture, for a PACS that shows nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from highdicom.sc import SCImage
from pydicom.dataset import Dataset

from hounsfield.dicom_results.base import MANUFACTURER, SERIES_NUMBERS, WARNING, Author
from hounsfield.dicom_results.sources import Source
from hounsfield.images import Reference

# Height of the banner as a share of the picture's.
BANNER = 0.05


def captures(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """One picture for each image; see ``dicom_results.OBJECTS``."""
    return [_capture(author, source, number) for number, source in enumerate(sources, start=1)]


def _capture(author: Author, source: Source, number: int) -> Dataset:
    dataset, key = source.datasets[0], source.key
    series = str(dataset.SeriesInstanceUID)
    picture: Dataset = SCImage.from_ref_dataset(
        dataset,
        picture_of(author, source),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        series_instance_uid=author.uid("series", "capture", series),
        series_number=SERIES_NUMBERS["capture"],
        sop_instance_uid=author.uid("capture", *key),
        instance_number=number,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=author.name,
        software_versions=author.version,
        series_description=author.description[:64],
        contributing_equipment=[author.equipment()],
    )
    # The picture lies as its image does; empty where that does not tell.
    picture.PatientOrientation = dataset.get("PatientOrientation") or ""
    return picture


def picture_of(author: Author, source: Source) -> npt.NDArray[np.uint8]:
    """The prediction on its image under a banner, (rows, columns, 3); no name of a file or patient is in it."""
    prediction = replace(source.prediction, reference=Reference(f"{author.name}, version {author.version}"))
    figure = prediction.draw(source.image())
    height = float(figure.get_figheight())
    figure.set_figheight(height * (1 + BANNER))
    for axes in figure.axes:
        left, bottom, width, tall = axes.get_position().bounds
        axes.set_position((left, bottom / (1 + BANNER), width, tall / (1 + BANNER)))
    figure.text(
        0.5,
        1 - BANNER / 2 / (1 + BANNER),
        WARNING,
        ha="center",
        va="center",
        fontsize=11,
        color="white",
        backgroundcolor="darkred",
    )
    figure.canvas.draw()
    return np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])  # type: ignore[attr-defined]
