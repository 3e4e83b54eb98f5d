"""What every DICOM result shares: who made it, its identifiers, and how it is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from highdicom import ContributingEquipment
from highdicom.sr import AlgorithmIdentification
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from hounsfield.atomic import replacing
from hounsfield.bundle import Bundle
from hounsfield.bundle.about import Code
from hounsfield.dicom_results.codes import concept
from hounsfield.explanation import Explainer
from hounsfield.version import __version__

MANUFACTURER = "Hounsfield"
# In the description of every series, and in the pixels of every picture.
WARNING = "Research only, not for diagnosis"
# Of the series that results make in a study; no device counts so far.
SERIES_NUMBERS = {"report": 9100, "segmentation": 9200, "map": 9300, "capture": 9400}
# UIDs derived from a UUID (PS3.5, B.2): nobody has to register them.
_UUID_ROOT = "2.25"


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
class Author:
    """The model that speaks.

    Attributes:
        bundle: of the model.
        codes: label → its code.
        quirk: of the viewer that the result is made for; see ``Destination`` of the service.
        options: of the predictor, such as another threshold than the bundle's.
    """

    bundle: Bundle
    codes: Mapping[str, Code] = field(default_factory=dict)
    quirk: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """Of the algorithm: that of Hounsfield and the beginning of the bundle's identity, new with each training."""
        return f"{__version__}+{self.bundle.identity[:12]}"

    @property
    def name(self) -> str:
        """Of the algorithm."""
        return f"Hounsfield {self.bundle.task}"

    @property
    def description(self) -> str:
        """Of the series that results make."""
        return f"{self.name}. {WARNING}"

    @cached_property
    def explainer(self) -> Explainer:
        """Finds where the evidence lies, by hiding parts of the image: that needs no Keras."""
        return Explainer(self.bundle, "occlusion")

    @property
    def device(self) -> str:
        """UID of the algorithm, new with each training."""
        return self._derived("device")

    def uid(self, *parts: str) -> str:
        """A UID that depends on the bundle, on how it was used, and on what is given: a retry gets the same one."""
        labels = {label: code.model_dump() for label, code in sorted(self.codes.items())}
        used = [self.quirk, labels, {name: self.options[name] for name in sorted(self.options)}]
        return self._derived(json.dumps(used), *parts)

    def _derived(self, *parts: str) -> str:
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
        item.DeviceUID = self.device
        return item


def write(dataset: Dataset, kind: str, folder: Path) -> Written:
    """Write an object, on disk when this returns; its name is its UID.

    ``Laterality`` is of type 2C where the body part is paired, and no algorithm here knows it: it is left empty. A
    segmentation must not have it. ``PatientOrientation`` is one where nothing else tells how an image lies.
    """
    if kind in ("map", "capture") and "Laterality" not in dataset and "ImageLaterality" not in dataset:
        dataset.Laterality = ""
    if kind == "segmentation" and "FrameOfReferenceUID" not in dataset and "PatientOrientation" not in dataset:
        dataset.PatientOrientation = ""
    # Labels are in any script, whatever the images' own texts are written in.
    dataset.SpecificCharacterSet = "ISO_IR 192"
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
    return Written(str(dataset.SOPInstanceUID), kind, str(dataset.SOPClassUID), path, digest)
