"""What tells one volume of a series or of a multi-frame file from another: echo, b-value, phase, kernel, time.

The names are the standard's; what a vendor keeps in private elements is filed under the standard's name for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hounsfield.images.dicom_header import Header, UnreadableElementError
from hounsfield.images.dicom_tags import TAGS

Labels = Mapping[str, Any]

# Label -> (words about a value of it, functional group and element that hold it in a multi-frame file). In the order in
# which they are tried: what makes images of another kind stands before what merely comes later.
LABELS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "StackID": ("stack {}", (("FrameContentSequence", "StackID"),)),
    "EchoNumbers": ("echo {}", ()),
    "EchoTime": ("echo time {} ms", (("MREchoSequence", "EffectiveEchoTime"),)),
    "InversionTime": ("inversion time {} ms", ()),
    "ComplexImageComponent": (
        "{}",
        (("MRImageFrameTypeSequence", "ComplexImageComponent"),),
    ),
    "ImageType": (
        "{}",
        (("MRImageFrameTypeSequence", "FrameType"), ("CTImageFrameTypeSequence", "FrameType")),
    ),
    "DiffusionBValue": ("b-value {} s/mm²", (("MRDiffusionSequence", "DiffusionBValue"),)),
    "DiffusionGradientOrientation": (
        "direction {}",
        (("MRDiffusionSequence/DiffusionGradientDirectionSequence", "DiffusionGradientOrientation"),),
    ),
    "DiffusionNumber": ("direction number {}", ()),
    "TemporalPositionIdentifier": (
        "time point {}",
        (
            ("FrameContentSequence", "TemporalPositionIndex"),
            ("TemporalPositionSequence", "TemporalPositionTimeOffset"),
        ),
    ),
    "NominalPercentageOfCardiacPhase": (
        "{} % of the cardiac cycle",
        (("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),),
    ),
    "TriggerTime": (
        "trigger time {} ms",
        (("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),),
    ),
    "PhaseNumber": ("phase {}", ()),
    "ConvolutionKernel": ("kernel {}", (("CTReconstructionSequence", "ConvolutionKernel"),)),
    "KVP": ("{} kV", (("CTXRayDetailsSequence", "KVP"),)),
    "OpticalPathIdentifier": ("optical path {}", (("OpticalPathIdentificationSequence", "OpticalPathIdentifier"),)),
    "AcquisitionNumber": ("acquisition {}", ()),
    "AcquisitionTime": ("acquired at {}", (("FrameContentSequence", "FrameAcquisitionDateTime"),)),
    "RealTimeTimer": ("time {} s", ()),
    "ContentTime": ("made at {}", (("FrameContentSequence", "FrameReferenceDateTime"),)),
    "SequenceName": ("sequence {}", ()),
    "SeriesDescription": ("description {}", ()),
    "ProtocolName": ("protocol {}", ()),
    "ImageComments": ("comment {}", ()),
}
# Texts in which some scanners tell b-values, directions and contrasts: "ep_b1000#3", "b=1000".
DESCRIPTIONS = ("SequenceName", "SeriesDescription", "ProtocolName", "ImageComments")
STANDARD = tuple(label for label in LABELS if label in TAGS)
# Slices that differ in one of these are of another kind, wherever they lie.
KINDS = (
    "StackID",
    "EchoTime",
    "ComplexImageComponent",
    "DiffusionBValue",
    "ConvolutionKernel",
    "KVP",
    "NominalPercentageOfCardiacPhase",
    "OpticalPathIdentifier",
)
# Where one of these differs among the frames of one position, it is a film over time.
TIMES = (
    "TemporalPositionIdentifier",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "PhaseNumber",
    "AcquisitionNumber",
    "AcquisitionTime",
    "RealTimeTimer",
    "ContentTime",
)
# The same position is passed at other times in each slice, so only the order of these may be compared.
RANKS = ("TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "TriggerTime", "RealTimeTimer")
LAST_RANKS = ("AcquisitionTime",)
# Vectors of a nuclear medicine image (PS3.3 C.8.4.8) that tell its volumes apart, and words about a value of each.
VECTORS = {
    "EnergyWindowVector": "energy window {}",
    "DetectorVector": "detector {}",
    "PhaseVector": "phase {}",
    "RRIntervalVector": "RR interval {}",
    "TimeSlotVector": "time slot {}",
    "TimeSliceVector": "time slice {}",
}
# GE writes its b-values with this added (as in dcm2niix).
GE_B_VALUE = 10**9
GE_COMPONENTS = {0.0: "MAGNITUDE", 1.0: "PHASE", 2.0: "REAL", 3.0: "IMAGINARY"}
# Digits to which numbers are compared; a scanner's own jitter is beyond.
DIGITS = 4


def file_labels(header: Header) -> dict[str, Any]:
    """The labels of a file of one frame; what it does not state is not among them."""
    found = {keyword: value for keyword in STANDARD if (value := _value(header, keyword)) is not None}
    for vendor, read in VENDORS.items():
        if (header.text("Manufacturer") or "").upper().startswith(vendor):
            found = {**read(header), **found}
    return found


def frame_labels(frame: Header, shared: Header | None) -> dict[str, Any]:
    """The labels of one frame of a file with functional groups."""
    found = {}
    for label, (_, places) in LABELS.items():
        for path, keyword in places:
            group = _descend(frame, path) or (_descend(shared, path) if shared else None)
            value = _value(group, keyword) if group else None
            if value is not None:
                found[label] = value
                break
    return found


def words(labels: Labels, chosen: Sequence[str], orders: Mapping[str, Sequence[Any]]) -> str:
    """A few words on what is special about a volume.

    Texts of the file are repeated only where they are codes; otherwise the value's place among all values is named,
    because a damaged file may have a patient's name anywhere.

    Args:
        labels: of the volume.
        chosen: the labels that tell it from the others.
        orders: every value of each of them, in order.
    """
    return ", ".join(_words(label, labels.get(label), orders[label]) for label in chosen)


def _words(label: str, value: Any, order: Sequence[Any]) -> str:
    pattern = LABELS[label][0] if label in LABELS else VECTORS.get(label, f"{label} {{}}")
    if value is None:
        return pattern.format("none")
    if isinstance(value, str):
        shown = _codes(value)
        is_telling = sum(isinstance(other, str) and _codes(other) == shown for other in order) == 1
        if not shown or not is_telling or label in TIMES:
            return f"{label} {order.index(value) + 1} of {len(order)}"
        return pattern.format(" ".join(shown))
    if isinstance(value, tuple):
        return pattern.format(", ".join(f"{number:g}" if isinstance(number, float) else "?" for number in value))
    return pattern.format(f"{value:g}")


def _codes(value: str) -> list[str]:
    return [part for part in value.split("\\") if part in CODES or CODE.fullmatch(part)]


# Words of Image Type, of Complex Image Component and names of kernels that may be repeated in a message.
CODES = frozenset(
    [
        "ORIGINAL",
        "DERIVED",
        "PRIMARY",
        "SECONDARY",
        "AXIAL",
        "LOCALIZER",
        "M",
        "P",
        "R",
        "I",
        "MAGNITUDE",
        "PHASE",
        "REAL",
        "IMAGINARY",
        "MIXED",
        "WATER",
        "FAT",
        "W",
        "F",
        "IP",
        "OP",
        "IN_PHASE",
        "OUT_PHASE",
        "ADC",
        "FA",
        "TRACEW",
        "DIFFUSION",
        "NORM",
        "ND",
        "SUB",
        "MIP",
        "MPR",
        "VOLUME",
        "STANDARD",
        "SOFT",
        "LUNG",
        "BONE",
        "DETAIL",
        "CHEST",
        "HEAD",
        "BODY",
        "SHARP",
        "SMOOTH",
    ]
)
# A kernel of Siemens or Toshiba, as B30f, I31f or FC51.
CODE = re.compile(r"[A-Z]{1,2}\d{2}[a-z]?")


def _descend(header: Header | None, path: str) -> Header | None:
    for keyword in path.split("/"):
        header = header.item(keyword) if header else None
    return header


def _value(header: Header, keyword: str) -> Any:
    """A text, a number or several, rounded; ``None`` where there is none."""
    if keyword in TEXTS:
        text = header.text(keyword)
        return text if keyword != "ImageType" or text is None else text.strip("\\")
    try:
        numbers = tuple(round(number, DIGITS) for number in header.decimals(keyword))
    except UnreadableElementError:
        # It still tells slices apart, whatever it says.
        return header.text(keyword)
    return (numbers[0] if len(numbers) == 1 else numbers) if numbers else None


TEXTS = frozenset(
    {
        "StackID",
        "ComplexImageComponent",
        "ImageType",
        "FrameType",
        "ConvolutionKernel",
        "OpticalPathIdentifier",
        "AcquisitionTime",
        "ContentTime",
        "FrameAcquisitionDateTime",
        "FrameReferenceDateTime",
        "SequenceName",
        "SeriesDescription",
        "ProtocolName",
        "ImageComments",
    }
)


def _private(header: Header, keyword: str) -> Any:
    try:
        numbers = tuple(round(number, DIGITS) for number in header.decimals(keyword))
    except UnreadableElementError:
        return None
    return (numbers[0] if len(numbers) == 1 else numbers) if numbers else None


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _siemens(header: Header) -> dict[str, Any]:
    return _present(
        DiffusionBValue=_private(header, "SiemensBValue"),
        DiffusionGradientOrientation=_private(header, "SiemensGradientDirection"),
    )


def _uih(header: Header) -> dict[str, Any]:
    return _present(
        DiffusionBValue=_private(header, "UIHBValue"),
        DiffusionGradientOrientation=_private(header, "UIHGradientDirection"),
    )


def _philips(header: Header) -> dict[str, Any]:
    gradient = tuple(_private(header, f"PhilipsGradient{axis}") for axis in "XYZ")
    return _present(
        DiffusionBValue=_private(header, "PhilipsBValue"),
        DiffusionGradientOrientation=None if None in gradient else gradient,
        DiffusionNumber=_private(header, "PhilipsGradientNumber"),
        PhaseNumber=_private(header, "PhilipsPhaseNumber"),
    )


def _ge(header: Header) -> dict[str, Any]:
    value = _private(header, "GEBValue")
    value = value[0] if isinstance(value, tuple) else value
    gradient = tuple(_private(header, f"GEGradient{axis}") for axis in "XYZ")
    component = _private(header, "GEImageComponent")
    return _present(
        DiffusionBValue=None if not isinstance(value, float) else value % GE_B_VALUE,
        DiffusionGradientOrientation=None if None in gradient else gradient,
        ComplexImageComponent=GE_COMPONENTS.get(component) if isinstance(component, float) else None,
        RealTimeTimer=_private(header, "GERealTimeTimer"),
    )


VENDORS: dict[str, Callable[[Header], dict[str, Any]]] = {
    "SIEMENS": _siemens,
    "UIH": _uih,
    "PHILIPS": _philips,
    "GE": _ge,
}
