"""What every DICOM result shares: where it comes from, who made it, its identifiers, and how it is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from highdicom import ContributingEquipment
from highdicom.sr import AlgorithmIdentification
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from hounsfield.atomic import replacing
from hounsfield.bundle import Bundle
from hounsfield.dicom_results.codes import concept
from hounsfield.errors import ImageError
from hounsfield.images import image_files
from hounsfield.inference import BasePrediction
from hounsfield.version import __version__

MANUFACTURER = "Hounsfield"
# UIDs derived from a UUID (PS3.5, B.2): nobody has to register them.
_UUID_ROOT = "2.25"
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


@dataclass(frozen=True)
class Written:
    """One object on disk.

    Attributes:
        uid: SOPInstanceUID.
        kind: "report", "segmentation", "map" or "capture".
        sop_class: SOPClassUID.
        path: of the file.
        sha256: of the file.
    """

    uid: str
    kind: str
    sop_class: str
    path: Path
    sha256: str


@dataclass(frozen=True, eq=False)
class Source:
    """The DICOM images that one prediction was made of.

    Attributes:
        prediction: what was said of them.
        datasets: their headers, without pixels, in the order of the slices.
        frame: which frame of a single one, from 0; ``None`` for all of it.
    """

    prediction: BasePrediction
    datasets: tuple[Dataset, ...]
    frame: int | None


@dataclass(frozen=True, eq=False)
class Author:
    """The model that speaks.

    Attributes:
        bundle: of the model.
        codes: label → ``value``, ``scheme`` and ``meaning`` of its code.
        quirk: of the viewer that the result is made for; see ``Destination`` of the service.
    """

    bundle: Bundle
    codes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    quirk: str | None = None

    @property
    def version(self) -> str:
        """Of the algorithm: that of Hounsfield and the beginning of the bundle's identity, new with each training."""
        return f"{__version__}+{self.bundle.identity[:12]}"

    @property
    def name(self) -> str:
        """Of the algorithm."""
        return f"Hounsfield {self.bundle.task}"

    def uid(self, *parts: str) -> str:
        """A UID that depends on the bundle and on nothing but what is given: a retry gets the same one."""
        digest = hashlib.sha256("\n".join((self.bundle.identity, *parts)).encode()).digest()
        return f"{_UUID_ROOT}.{int.from_bytes(digest[:16], 'big')}"

    def algorithm(self) -> AlgorithmIdentification:
        """TID 4019."""
        return AlgorithmIdentification(self.name, self.version, family=concept("artificial intelligence"))

    def equipment(self) -> ContributingEquipment:
        """The algorithm among the Contributing Equipment, with a Device UID that is new with each training."""
        item = ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=codes.DCM.ProcessingEquipment,
            manufacturer_model_name=self.name,
            software_versions=self.version,
        )
        # highdicom takes only purposes of the standard.
        item.PurposeOfReferenceCodeSequence = [concept("processing algorithm")]
        item.DeviceUID = self.uid("device")
        return item


def find_sources(predictions: Sequence[BasePrediction]) -> list[Source]:
    """The DICOM images of predictions.

    Raises:
        ImageError: an image is not in DICOM form, so that no result can refer to it.
    """
    headers: dict[Path, list[Dataset]] = {}
    return [_source(prediction, headers) for prediction in predictions]


def _source(prediction: BasePrediction, headers: dict[Path, list[Dataset]]) -> Source:
    reference = prediction.reference
    if reference.instance is None or reference.series is None:
        raise ImageError(
            f"{reference.text} is no DICOM image, and DICOM results refer to the images they were made of. Give DICOM "
            "files, or leave out --dicom-results."
        )
    path = Path(reference.path)
    # The folder of a series whose place is named by its UID holds the files of others too.
    folder = path if path.exists() else path.parent
    if folder not in headers:
        files = image_files(folder) if folder.is_dir() else [folder]
        headers[folder] = [_header(file) for file in files]
    chosen = [each for each in headers[folder] if each.get("SeriesInstanceUID") == reference.series]
    if len(chosen) > 1 and not folder.is_dir():
        chosen = [each for each in chosen if each.SOPInstanceUID == reference.instance]
    return Source(prediction, tuple(sorted(chosen, key=depth)), reference.frame)


def _header(file: Path) -> Dataset:
    dataset = pydicom.dcmread(file, stop_before_pixels=True)
    for keyword in _EMPTY_ALLOWED:
        if keyword not in dataset:
            setattr(dataset, keyword, "")
    return dataset


def depth(dataset: Dataset) -> tuple[float, int]:
    """Where a slice lies along the normal of its plane, in mm; slices without a position follow their numbers."""
    number = int(dataset.get("InstanceNumber") or 0)
    orientation, position = dataset.get("ImageOrientationPatient"), dataset.get("ImagePositionPatient")
    if not orientation or not position:
        return 0.0, number
    (a, b, c), (d, e, f) = (map(float, orientation[:3]), map(float, orientation[3:]))
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(n * float(p) for n, p in zip(normal, position, strict=True)), number


def write(dataset: Dataset, kind: str, folder: Path) -> Written:
    """Write an object, on disk when this returns; its name is its UID.

    ``Laterality`` is of type 2C where the body part is paired, and no algorithm here knows it: it is left empty.
    """
    if "Laterality" not in dataset and "ImageLaterality" not in dataset and "PixelData" in dataset:
        dataset.Laterality = ""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    return Written(str(dataset.SOPInstanceUID), kind, str(dataset.SOPClassUID), path, digest)
