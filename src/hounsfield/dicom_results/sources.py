"""The DICOM images that predictions were made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.config import RAISE
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from hounsfield.errors import ImageError
from hounsfield.images import Image, read_series
from hounsfield.images.dicom_file import read_content, refusing
from hounsfield.images.files import GZIP_MAGIC
from hounsfield.images.limits import pixel_limit
from hounsfield.images.reading import read_reference
from hounsfield.images.stored import Finder, Stored
from hounsfield.inference import BasePrediction

# What every object says of patient and study, empty where it is not known (type 2 of PS3.3, C.7.1.1 and C.7.2.1).
_EMPTY_ALLOWED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
)
# What stands in their places after a de-identification is often no value of such elements: PS3.5, 6.2.
_CHECKED = frozenset({"AS", "CS", "DA", "DS", "DT", "IS", "TM"})
_SEXES = frozenset({"", "M", "F", "O"})
_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")


@dataclass(frozen=True, eq=False)
class Source:
    """The DICOM images that one prediction was made of.

    Attributes:
        prediction: what was said of them.
        slices: of the image that was predicted, in order; one for a 2D image.
        headers: of the files, without pixels.
    """

    prediction: BasePrediction
    slices: tuple[Stored, ...]
    headers: Mapping[Path, Dataset]

    @property
    def datasets(self) -> list[Dataset]:
        """The headers of the files, each once, in the order of the slices."""
        return [self.headers[path] for path in dict.fromkeys(stored.path for stored in self.slices)]

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return str(self.datasets[0].StudyInstanceUID)

    @property
    def key(self) -> list[str]:
        """What tells these images from all others: instances and frames."""
        return [f"{self.headers[stored.path].SOPInstanceUID}/{stored.frame}" for stored in self.slices]

    def image(self) -> Image:
        """The image that was predicted, read again."""
        reference = self.prediction.reference
        if Path(reference.path).is_file() or reference.frame is not None:
            return read_reference(reference)
        return read_series(list(dict.fromkeys(stored.path for stored in self.slices)))


def frame_numbers(stored: Stored) -> list[int] | None:
    """As DICOM counts frames, from 1; ``None`` where the file holds one."""
    return None if stored.frame is None else [stored.frame + 1]


def find_sources(predictions: Sequence[BasePrediction]) -> list[Source]:
    """The DICOM images of predictions.

    Raises:
        ImageError: an image is not in DICOM form, so that no result can refer to it.
    """
    finder = Finder()
    headers: dict[Path, Dataset] = {}
    found = []
    for prediction in predictions:
        slices = finder.find(prediction.reference)
        for stored in slices:
            if stored.path not in headers:
                headers[stored.path] = _header(stored.path)
        source = Source(prediction, slices, headers)
        _complete_thickness(source.datasets)
        found.append(source)
    return found


def _header(path: Path) -> Dataset:
    with refusing(path):
        with path.open("rb") as stream:
            is_packed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        content = BytesIO(read_content(path, pixel_limit(None))[0]) if is_packed else path
        dataset = pydicom.dcmread(content, stop_before_pixels=True, force=True)
    if missing := [keyword for keyword in _NEEDED if not dataset.get(keyword)]:
        raise ImageError(
            f"{path} lacks {', '.join(missing)}, without which no DICOM result can refer to it. Export it again from "
            "its source."
        )
    for keyword in {element.keyword for element in _of_patient_and_study(dataset) if not _is_valid(element)}:
        del dataset[keyword]
    for keyword in _EMPTY_ALLOWED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    return dataset


def _complete_thickness(datasets: Sequence[Dataset]) -> None:
    """Let slices whose header leaves the thickness empty, as it may, be as thick as they lie apart."""
    places = [each.get("ImagePositionPatient") for each in datasets]
    if len(places) < 2 or not all(places):
        return
    steps = np.linalg.norm(np.diff(np.array(places, float), axis=0), axis=1)
    for each in datasets:
        if not each.get("SliceThickness"):
            each.SliceThickness = f"{np.median(steps):.6g}"


def _of_patient_and_study(dataset: Dataset) -> Iterator[DataElement]:
    """What is copied into each object, apart from identifiers and sequences."""
    for tag in list(dataset.keys()):
        keyword = keyword_for_tag(tag)
        if keyword and (tag >> 16 == 0x0010 or keyword in _EMPTY_ALLOWED):
            yield _element(dataset, tag)


def _element(dataset: Dataset, tag: int) -> DataElement:
    """An element of a header, one without a value where its value cannot be read."""
    try:
        return dataset[tag]
    except (TypeError, ValueError):
        return DataElement(tag, "UN", None)


def _is_valid(element: DataElement) -> bool:
    """Whether a value is one that its element can have."""
    if element.VR not in _CHECKED:
        return bool(element.VR != "UN")
    try:
        values = element.value if element.VM > 1 else [element.value]
        for value in values:
            validate_value(element.VR, str(value or ""), RAISE)
    except (TypeError, ValueError):
        return False
    return element.keyword != "PatientSex" or (element.value or "") in _SEXES
