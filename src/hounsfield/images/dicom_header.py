"""The data elements that reading an image needs, taken from a DICOM data set without converting the rest."""

from __future__ import annotations

import math
import struct
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

# Every element that is read. Others, patients' names above all, are dropped while the file is parsed.
KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "Modality",
    "Manufacturer",
    "InstitutionName",
    "ManufacturerModelName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "BodyPartExamined",
    "SliceThickness",
    "SpacingBetweenSlices",
    "EchoTime",
    "EchoNumbers",
    "TriggerTime",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "ViewPosition",
    "SequenceOfUltrasoundRegions",
    "DiffusionBValue",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "TemporalPositionIdentifier",
    "Laterality",
    "ImageLaterality",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelSpacing",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "RescaleIntercept",
    "RescaleSlope",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DirectoryRecordSequence",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
TAGS: dict[str, BaseTag] = {keyword: Tag(keyword) for keyword in KEYWORDS}
SPECIFIC_TAGS = list(TAGS.values())
# Elements that stand inside items of the sequences above.
TAGS |= {
    keyword: Tag(keyword)
    for keyword in (
        "FrameVOILUTSequence",
        "LUTData",
        "LUTDescriptor",
        "PhysicalDeltaX",
        "PhysicalDeltaY",
        "PhysicalUnitsXDirection",
        "PhysicalUnitsYDirection",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
        "PlaneOrientationSequence",
        "PlanePositionSequence",
        "ReferencedFileID",
    )
}
# Compressed pixels end with a delimiter instead (PS3.5 section A.4).
UNDEFINED_LENGTH = 2**32 - 1
BINARY_FORMATS = {"FD": ("d", 8), "FL": ("f", 4)}


class Header:
    """Typed access to the elements of a data set; a missing, empty or unreadable value is ``None`` or empty.

    Values are decoded from their bytes here because pydicom's general conversion would take longer than reading the
    pixels; what this fast way does not know is left to pydicom.
    """

    __slots__ = ("content", "dataset")

    def __init__(self, dataset: Dataset, content: bytes = b"") -> None:
        self.dataset = dataset
        self.content = content

    def __contains__(self, keyword: str) -> bool:
        return TAGS[keyword] in self.dataset

    def raw(self, keyword: str) -> bytes | memoryview | None:
        """The bytes of a value as they stand in the file, or ``None``; long ones are a view of the file's content."""
        element = self.dataset.get_item(TAGS[keyword], keep_deferred=bool(self.content))
        if self.content and element is not None and element.value is None and element.length:
            if element.length == UNDEFINED_LENGTH:
                value = self.dataset[TAGS[keyword]].value
                return value if isinstance(value, bytes) else None
            return memoryview(self.content)[element.value_tell : element.value_tell + element.length]
        return element.value if element is not None and isinstance(element.value, bytes) else None

    def value(self, keyword: str) -> Any:
        """A value as pydicom converts it, or ``None``."""
        tag = TAGS[keyword]
        return self.dataset[tag].value if tag in self.dataset else None

    def text(self, keyword: str) -> str | None:
        """The whole value as text, several values joined by a backslash."""
        element = self.dataset.get_item(TAGS[keyword])
        if element is None or not element.value:
            return None
        if isinstance(element.value, bytes):
            if not element.value.isascii() or b"\x1b" in element.value:
                return self._foreign_text(keyword, element.value)
            return element.value.decode("ascii").strip(" \x00") or None
        if isinstance(element.value, str):
            return element.value.strip(" \x00") or None
        return "\\".join(str(value) for value in element.value) if hasattr(element.value, "__iter__") else None

    def _foreign_text(self, keyword: str, content: bytes) -> str | None:
        """Text beyond ASCII: pydicom knows the character sets; where the file names a wrong one, Latin letters."""
        try:
            text = str(self.dataset[TAGS[keyword]].value)
        except (LookupError, ValueError):
            text = content.decode("latin-1")
        return text.strip(" \x00") or None

    def decimals(self, keyword: str) -> tuple[float, ...]:
        """Every value of a DS, IS, FD or FL element; empty if one of them is no finite number."""
        element = self.dataset.get_item(TAGS[keyword])
        if element is None or element.value is None or element.value == b"":
            return ()
        try:
            numbers = tuple(float(value) for value in self._parts(keyword, element))
        except (ValueError, TypeError, struct.error):
            return ()
        return numbers if all(map(math.isfinite, numbers)) else ()

    def decimal(self, keyword: str) -> float | None:
        """The first value of ``decimals``."""
        numbers = self.decimals(keyword)
        return numbers[0] if numbers else None

    def integer(self, keyword: str) -> int | None:
        """The value of a US, SS or IS element."""
        element = self.dataset.get_item(TAGS[keyword])
        if element is None:
            return None
        value = element.value
        if isinstance(value, bytes):
            if len(value) == 2 and element.VR in {"US", None} and keyword != "NumberOfFrames":
                return int.from_bytes(value, "little" if element.is_little_endian else "big")
            value = self.dataset[TAGS[keyword]].value
        try:
            return int(value)
        except (ValueError, TypeError):
            return None

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence; empty where there is none."""
        if TAGS[keyword] not in self.dataset:
            return []
        value = self.dataset[TAGS[keyword]].value
        return [Header(item) for item in value] if value and isinstance(value[0], Dataset) else []

    def item(self, keyword: str) -> Header | None:
        """The first item of a sequence."""
        items = self.items(keyword)
        return items[0] if items else None

    def _parts(self, keyword: str, element: Any) -> Any:
        value = element.value
        if not isinstance(value, bytes):
            return value if hasattr(value, "__iter__") and not isinstance(value, str) else (value,)
        if element.VR in BINARY_FORMATS:
            code, size = BINARY_FORMATS[element.VR]
            return struct.unpack(f"{'<' if element.is_little_endian else '>'}{len(value) // size}{code}", value)
        if element.VR in {"DS", "IS"} or keyword in TEXT_DECIMALS:
            return value.strip(b" \x00").split(b"\\")
        value = self.dataset[TAGS[keyword]].value
        return value if hasattr(value, "__iter__") and not isinstance(value, str) else (value,)


# Decimals that are text also in files with implicit value representations, which do not name the kind.
TEXT_DECIMALS = frozenset(
    {
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "ImagerPixelSpacing",
        "SliceThickness",
        "RescaleSlope",
        "RescaleIntercept",
        "WindowCenter",
        "WindowWidth",
    }
)
