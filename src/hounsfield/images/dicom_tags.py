"""The data elements that reading an image needs, standard and private, and how a private one is stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydicom.datadict import keyword_for_tag
from pydicom.tag import BaseTag, Tag

# Every element that is read. Others, patients' names above all, are dropped while the file is parsed.
KEYWORDS = (
    "SpecificCharacterSet",
    "ImageType",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "SeriesTime",
    "AcquisitionTime",
    "ContentTime",
    "Modality",
    "Manufacturer",
    "InstitutionName",
    "SeriesDescription",
    "ManufacturerModelName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientWeight",
    "BodyPartExamined",
    "SliceThickness",
    "KVP",
    "SequenceName",
    "ProtocolName",
    "ImageComments",
    "SpacingBetweenSlices",
    "EchoTime",
    "EchoNumbers",
    "InversionTime",
    "TriggerTime",
    "FrameTime",
    "ConcatenationUID",
    "InConcatenationNumber",
    "InConcatenationTotalNumber",
    "FrameTimeVector",
    "ConvolutionKernel",
    "NominalPercentageOfCardiacPhase",
    "NominalCardiacTriggerDelayTime",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "ViewPosition",
    "ComplexImageComponent",
    "SequenceOfUltrasoundRegions",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "StackID",
    "Laterality",
    "ImageLaterality",
    "DimensionIndexSequence",
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
    "RescaleType",
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
    "RealWorldValueMappingSequence",
    "GridFrameOffsetVector",
    "DoseGridScaling",
    "DoseUnits",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows",
    "DimensionOrganizationType",
    "Units",
    "DecayCorrection",
    "RadiopharmaceuticalInformationSequence",
    "EnergyWindowVector",
    "DetectorVector",
    "DetectorInformationSequence",
    "PhaseVector",
    "RRIntervalVector",
    "TimeSlotVector",
    "SliceVector",
    "TimeSliceVector",
    "SegmentationType",
    "SegmentSequence",
    "MaximumFractionalValue",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "DirectoryRecordSequence",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
# Elements that stand inside items of the sequences above.
INNER_KEYWORDS = (
    "CodeValue",
    "ColumnPositionInTotalImagePixelMatrix",
    "DimensionIndexValues",
    "EffectiveEchoTime",
    "FrameAcquisitionDateTime",
    "FrameContentSequence",
    "FrameReferenceDateTime",
    "FrameType",
    "FrameVOILUTSequence",
    "LUTData",
    "LUTDescriptor",
    "MRDiffusionSequence",
    "MRImageFrameTypeSequence",
    "MREchoSequence",
    "CTImageFrameTypeSequence",
    "CTReconstructionSequence",
    "CTXRayDetailsSequence",
    "CardiacSynchronizationSequence",
    "DiffusionGradientDirectionSequence",
    "MeasurementUnitsCodeSequence",
    "NominalCardiacTriggerDelayTime",
    "OpticalPathIdentificationSequence",
    "OpticalPathIdentifier",
    "PhysicalDeltaX",
    "PhysicalDeltaY",
    "PhysicalUnitsXDirection",
    "PhysicalUnitsYDirection",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "PlanePositionSlideSequence",
    "RadionuclideHalfLife",
    "RadionuclideTotalDose",
    "RadiopharmaceuticalStartDateTime",
    "RadiopharmaceuticalStartTime",
    "RealWorldValueIntercept",
    "RealWorldValueSlope",
    "ReferencedFileID",
    "ReferencedSegmentNumber",
    "RowPositionInTotalImagePixelMatrix",
    "SegmentIdentificationSequence",
    "SegmentLabel",
    "SegmentNumber",
    "TemporalPositionSequence",
    "TemporalPositionTimeOffset",
    "ZOffsetInSlideCoordinateSystem",
)


@dataclass(frozen=True)
class Private:
    """A private element: which block it is in, which byte of that block, and how its values are stored.

    Attributes:
        group: of the block.
        creator: the text that reserves the block (PS3.5 section 7.8.1).
        element: the last byte of the element's number.
        representation: that of the values where the file says none or UN; SQ and OB are taken as they are.
    """

    group: int
    creator: str
    element: int
    representation: str


# Vendors number their blocks from 0x10; an element copied into another vendor's file moves a few blocks on.
BLOCKS = range(0x10, 0x14)
# Names of our own, after the standard's for the same thing. Their sources are the vendors' conformance statements, as
# dcm2niix and GDCM's dictionary have them.
PRIVATE: dict[str, Private] = {
    "SiemensNumberOfImagesInMosaic": Private(0x0019, "SIEMENS MR HEADER", 0x0A, "US"),
    "SiemensBValue": Private(0x0019, "SIEMENS MR HEADER", 0x0C, "IS"),
    "SiemensGradientDirection": Private(0x0019, "SIEMENS MR HEADER", 0x0E, "FD"),
    "SiemensImageHeader": Private(0x0029, "SIEMENS CSA HEADER", 0x10, "OB"),
    "UIHNumberOfImagesInGrid": Private(0x0065, "Image Private Header", 0x50, "DS"),
    "UIHGridFrames": Private(0x0065, "Image Private Header", 0x51, "SQ"),
    "UIHBValue": Private(0x0065, "Image Private Header", 0x09, "FD"),
    "UIHGradientDirection": Private(0x0065, "Image Private Header", 0x37, "FD"),
    "PhilipsBValue": Private(0x2001, "Philips Imaging DD 001", 0x03, "FL"),
    "PhilipsPhaseNumber": Private(0x2001, "Philips Imaging DD 001", 0x08, "IS"),
    "PhilipsGradientX": Private(0x2005, "Philips MR Imaging DD 001", 0xB0, "FL"),
    "PhilipsGradientY": Private(0x2005, "Philips MR Imaging DD 001", 0xB1, "FL"),
    "PhilipsGradientZ": Private(0x2005, "Philips MR Imaging DD 001", 0xB2, "FL"),
    "PhilipsGradientNumber": Private(0x2005, "Philips MR Imaging DD 005", 0x13, "IS"),
    "PhilipsSUVFactor": Private(0x7053, "Philips PET Private Group", 0x00, "DS"),
    "PhilipsActivityFactor": Private(0x7053, "Philips PET Private Group", 0x09, "DS"),
    "GEGradientX": Private(0x0019, "GEMS_ACQU_01", 0xBB, "DS"),
    "GEGradientY": Private(0x0019, "GEMS_ACQU_01", 0xBC, "DS"),
    "GEGradientZ": Private(0x0019, "GEMS_ACQU_01", 0xBD, "DS"),
    "GERealTimeTimer": Private(0x0021, "GEMS_RELA_01", 0x5E, "DS"),
    "GEBValue": Private(0x0043, "GEMS_PARM_01", 0x39, "IS"),
    "GEImageComponent": Private(0x0043, "GEMS_PARM_01", 0x2F, "SS"),
}


@cache
def private_places(keyword: str) -> list[tuple[int, int]]:
    """(creator, element) of a private element in each of the blocks that writers use."""
    private = PRIVATE[keyword]
    group = private.group << 16
    return [(group | block, group | block << 8 | private.element) for block in BLOCKS]


# Plain integers: pydicom's tags compare themselves in Python, a hundred times a file.
TAGS: dict[str, int] = {keyword: int(Tag(keyword)) for keyword in (*KEYWORDS, *INNER_KEYWORDS)}
SPECIFIC_TAGS: list[BaseTag | int] = list(
    dict.fromkeys(
        [TAGS[keyword] for keyword in KEYWORDS]
        + [tag for keyword in PRIVATE for places in private_places(keyword) for tag in places]
    )
)


def described(keyword: str) -> str:
    """An element's name and number for messages, as in ``RescaleSlope (0028,1053)``."""
    if keyword in PRIVATE:
        private = PRIVATE[keyword]
        return f"{keyword} ({private.group:04X},xx{private.element:02X})"
    tag = BaseTag(TAGS[keyword])
    return f"{keyword_for_tag(tag)} ({tag.group:04X},{tag.element:04X})"
