"""Text that is burnt into pixels: which objects are likely to have some, and how it is blacked out.

Nothing here reads pixels. An object is judged by what it says of itself, and parts of its pixels are masked where a
person says so: by rectangles, by rules for devices, or everything outside the regions that an ultrasound device
declares (PS3.3 C.8.5.5).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from hounsfield.errors import ImageError, UsageError
from hounsfield.images.dicom_encapsulated import READABLE
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import read_layout
from hounsfield.images.dicom_pixels import stored_pixels
from hounsfield.textfiles import parse_yaml, read_text

BurnedIn = Literal["declared", "likely", "possible", "unlikely"]
Box = tuple[int, int, int, int]
OUTSIDE_REGIONS = "outside-regions"

# Devices and programs that write names and dates into their pictures: ultrasound, captured screens, scanned documents.
TEXT_MODALITIES = frozenset({"US", "IVUS", "SC", "DOC"})
# PS3.4 table B.5-1: ultrasound and secondary capture, single and multi-frame, with their retired forms.
TEXT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.3", "1.2.840.10008.5.1.4.1.1.3.1", "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6.2", "1.2.840.10008.5.1.4.1.1.6.3",
    "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.1", "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3", "1.2.840.10008.5.1.4.1.1.7.4",
)  # fmt: skip
# Words in ImageType that scanners give to pictures of their own screens: "SCREEN SAVE", "DOSE_INFO", "CSA REPORT".
SCREEN_WORDS = ("SCREEN", "CAPTURE", "DOSE", "REPORT", "PROTOCOL", "PATIENT INFO")
# Modalities whose pixels carry text now and then.
PRONE_MODALITIES = frozenset({"DG", "ECG", "ES", "EPS", "GM", "OT", "RF", "SM", "XA", "XC"})
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class MaskRule(BaseModel):
    """What to mask in the images of a device: every criterion that is given has to hold, letters of either case.

    Attributes:
        modality, manufacturer, model, rows, columns: criteria; ``model`` is Manufacturer's Model Name.
        boxes: rectangles ``(y0, x0, y1, x1)`` in pixels, half-open.
        outside_regions: mask everything outside the regions that the device declares.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    modality: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    rows: int | None = Field(default=None, ge=1)
    columns: int | None = Field(default=None, ge=1)
    boxes: tuple[Box, ...] = ()
    outside_regions: bool = False

    def fits(self, dataset: Dataset) -> bool:
        """Whether an object meets every criterion."""
        keywords = {"Modality": self.modality, "Manufacturer": self.manufacturer, "ManufacturerModelName": self.model}
        texts = all(
            wanted is None or wanted.strip().lower() == str(dataset.get(keyword, "") or "").strip().lower()
            for keyword, wanted in keywords.items()
        )
        sides = {"Rows": self.rows, "Columns": self.columns}
        return texts and all(wanted in {None, dataset.get(keyword)} for keyword, wanted in sides.items())


@dataclass(frozen=True)
class Masks:
    """What is masked: in every image, and in those of certain devices."""

    boxes: tuple[Box, ...] = ()
    outside_regions: bool = False
    rules: tuple[MaskRule, ...] = ()

    def of(self, dataset: Dataset) -> Masks:
        """The boxes for one object, from the first rule that fits it and from what holds for all."""
        rule = next((rule for rule in self.rules if rule.fits(dataset)), MaskRule())
        return replace(
            self,
            boxes=self.boxes + rule.boxes,
            outside_regions=self.outside_regions or rule.outside_regions,
            rules=(),
        )

    def __bool__(self) -> bool:
        return bool(self.boxes or self.outside_regions or self.rules)


def read_masks(given: list[str], rules: Path | None = None) -> Masks:
    """The masks of a command line: ``"Y0,X0,Y1,X1"`` or ``"outside-regions"``, and a YAML file of rules.

    Raises:
        UsageError: a text is neither, or a box is empty.
        ImageError: the file of rules cannot be read, or is malformed.
    """
    boxes = tuple(_parse_box(text) for text in given if text != OUTSIDE_REGIONS)
    return Masks(boxes, OUTSIDE_REGIONS in given, read_rules(rules) if rules else ())


def read_rules(path: Path) -> tuple[MaskRule, ...]:
    """The rules in a YAML file: a list, each with criteria and with ``boxes`` or ``outside_regions``.

    Raises:
        ImageError: the file cannot be read, or a rule is malformed or masks nothing.
    """
    try:
        rules = TypeAdapter(tuple[MaskRule, ...]).validate_python(parse_yaml(read_text(path)))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ImageError(
            f"The mask rules in '{path}' cannot be read ({reason}). Expected a YAML list of rules with any of "
            "modality, manufacturer, model, rows and columns, and with boxes [[y0, x0, y1, x1], …] or "
            "outside_regions: true."
        ) from error
    for number, rule in enumerate(rules, 1):
        if not rule.boxes and not rule.outside_regions:
            raise ImageError(f"Rule {number} in '{path}' masks nothing: give it boxes, or outside_regions: true.")
        for box in rule.boxes:
            _check_box(box, f"rule {number} of '{path}'")
    return rules


def _parse_box(text: str) -> Box:
    try:
        y0, x0, y1, x1 = (int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"The mask '{text}' was given, and expected is Y0,X0,Y1,X1 in pixels (rows Y0 up to Y1, columns X0 up to "
            f"X1, the last ones not included) or {OUTSIDE_REGIONS}."
        ) from error
    _check_box((y0, x0, y1, x1), f"--mask {text}")
    return y0, x0, y1, x1


def _check_box(box: Box, place: str) -> None:
    y0, x0, y1, x1 = box
    if not (0 <= y0 < y1 and 0 <= x0 < x1):
        raise UsageError(
            f"The rectangle {box} of {place} is empty or begins outside the image: expected y0 < y1 and x0 < x1, from "
            "0. The order is Y0,X0,Y1,X1."
        )


def burned_in(dataset: Dataset) -> BurnedIn:
    """Whether the pixels may show text, by what the object says of itself.

    ``"declared"``: it says so. ``"likely"``: ultrasound, a secondary capture, a screen or a film, unless de-identifying
    has cleaned its pixels before; that such an object denies it is not enough. ``"possible"``: its modality has text
    now and then, and it does not deny it.
    """
    says = str(dataset.get("BurnedInAnnotation", "") or "").strip().upper()
    if says == "YES":
        return "declared"
    if says == "NO" and _was_cleaned(dataset):
        return "unlikely"
    if _is_captured(dataset):
        return "likely"
    prone = _modality(dataset) in PRONE_MODALITIES or "SECONDARY" in _image_type(dataset)
    return "possible" if prone and says != "NO" else "unlikely"


def _modality(dataset: Dataset) -> str:
    return str(dataset.get("Modality", "") or "OT").strip().upper()


def _image_type(dataset: Dataset) -> str:
    return str(dataset.get("ImageType", "") or "").upper()


def _is_captured(dataset: Dataset) -> bool:
    syntax = UID(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ExplicitVRLittleEndian))
    film = syntax.is_transfer_syntax and syntax.is_encapsulated and syntax not in READABLE
    kind = str(dataset.get("SOPClassUID", "")) in TEXT_CLASSES or _modality(dataset) in TEXT_MODALITIES
    return film or kind or "ConversionType" in dataset or any(word in _image_type(dataset) for word in SCREEN_WORDS)


def _was_cleaned(dataset: Dataset) -> bool:
    codes = dataset.get("DeidentificationMethodCodeSequence") or []
    return any(code.get("CodeValue") == "113101" for code in codes)


def has_pixels(dataset: Dataset) -> bool:
    """Whether an object has a pixel element."""
    return any(keyword in dataset for keyword in PIXELS)


def mask_pixels(dataset: Dataset, masks: Masks, max_pixels: int) -> None:
    """Black out rectangles in every frame, in place; compressed pixels become uncompressed ones.

    Raises:
        ImageError: the pixels cannot be decoded, a rectangle does not lie in the image, or there are no regions.
    """
    path = Path("The object")
    header = _header_with_pixels(dataset)
    layout = read_layout(header, path, max_pixels)
    if layout.bits_allocated == 1 or "PixelData" not in dataset:
        raise ImageError(
            "The object has pixels of single bits or of floats, in which nothing can be masked: expected integers of 8 "
            "bits or more. Leave it out, or say --keep-pixels after looking at it."
        )
    values, layout = stored_pixels(header, layout, path, range(layout.frames))
    masked = values.copy()
    hidden = _hidden(dataset, masks, (layout.rows, layout.columns))
    masked[:, hidden] = masked.max() if layout.photometric == "MONOCHROME1" else masked.min()
    width = layout.bits_allocated // 8
    content = masked.astype(f"<{'i' if layout.signed else 'u'}{width}").tobytes()
    dataset.PixelData = content + b"\0" * (len(content) % 2)
    dataset["PixelData"].VR = "OB" if width == 1 else "OW"
    dataset["PixelData"].is_undefined_length = False
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = layout.photometric, int(layout.signed)
    if layout.samples > 1:
        dataset.PlanarConfiguration = 0
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _header_with_pixels(dataset: Dataset) -> Header:
    """What decoding needs, as it would stand in a file: readers expect values that are not converted yet."""
    needed = Dataset()
    for element in dataset:
        if element.tag.group in {0x0028, 0x7FE0}:
            needed.add(element)
    needed.file_meta = dataset.file_meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, needed)
    return Header(pydicom.dcmread(io.BytesIO(buffer.getvalue()), force=True))


def _hidden(dataset: Dataset, masks: Masks, sides: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels of a frame are blacked out."""
    hidden = np.zeros(sides, bool)
    if masks.outside_regions:
        hidden |= ~_inside_regions(dataset, sides)
    for y0, x0, y1, x1 in masks.boxes:
        if y1 > sides[0] or x1 > sides[1]:
            raise ImageError(
                f"The rectangle {(y0, x0, y1, x1)} to be masked does not lie in an image of {sides[0]} rows and "
                f"{sides[1]} columns. Its order is y0, x0, y1, x1; correct it, or say by a rule which images it is for."
            )
        hidden[y0:y1, x0:x1] = True
    return hidden


def _inside_regions(dataset: Dataset, sides: tuple[int, int]) -> NDArray[np.bool_]:
    inside = np.zeros(sides, bool)
    for region in dataset.get("SequenceOfUltrasoundRegions") or []:
        x0, y0, x1, y1 = (_corner(region, name) for name in ("MinX0", "MinY0", "MaxX1", "MaxY1"))
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    if not inside.any() or inside.all():
        raise ImageError(
            f"The object declares {'no region of its image' if not inside.any() else 'the whole image as one region'}, "
            f"so there is nothing to tell its text by. Mask rectangles instead of {OUTSIDE_REGIONS}."
        )
    return inside


def _corner(region: Dataset, name: str) -> int:
    value: Any = region.get(f"RegionLocation{name}")
    return int(value) if value is not None and value != "" else 0
