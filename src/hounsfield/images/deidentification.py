"""De-identification of a DICOM object by the basic profile of PS3.15 Annex E, with dates shifted.

The profile is the table in ``confidentiality.json``; this module applies it, to nested items as well, to the object as
``dicom_conformance`` reads it: by the dictionary's value representations, whatever the file says. Where the table
leaves a choice (``X/Z``, ``X/D``, …) the attribute stays and its content goes, which fits every kind of object. Beyond
the table go: private attributes, curves, overlays and attributes that the dictionary does not know; values that break
their representation; unlisted names of persons, network titles, addresses, and the attributes and groups that the
file lists as ours; unlisted UIDs, which are replaced; and texts that repeat a name or number of the patient.

One secret key decides everything, so that objects that are processed on different days still belong together: a
patient's pseudonym, the new UIDs and the patient's date offset are HMAC-SHA-256 of what they replace. Without the key
they cannot be computed from a list of candidates; who holds the key can re-identify, so it belongs with the patients'
data. The option "Retain Longitudinal Temporal Information with Modified Dates" is used (PS3.15 E.3.6): every date of a
patient moves by the same number of days, times of day stay, the date of birth goes.

What this cannot do: read text that is burnt into pixels (see ``burned_in``), or hide a face.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hounsfield.errors import ImageError
from hounsfield.images.burned_in import BurnedIn, Masks, burned_in, has_pixels, mask_pixels
from hounsfield.images.confidentiality import PROFILE
from hounsfield.images.dicom_conformance import BINARY, CHARACTER_SET, TEXTS, Conformant, conformant, keyword_of
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_mosaic import read_mosaic
from hounsfield.images.dicom_remains import without_remains
from hounsfield.images.limits import pixel_limit
from hounsfield.images.pseudonyms import (
    check_key,
    date_shift,
    identity_of,
    is_registered,
    moved_date,
    private_words,
    pseudonym,
    renewed_uid,
    values_of,
)
from hounsfield.version import __version__

# Sound can say a name, and nothing here listens (PS3.4 table B.5-1: audio waveforms).
SOUND_CLASSES = "1.2.840.10008.5.1.4.1.1.9.4."
# Pixels have a size that their object explains; inside items these would be pictures that nobody checks.
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
LOOKUP_TABLES = {
    0x00281201: 0x00281101, 0x00281202: 0x00281102, 0x00281203: 0x00281103, 0x00283006: 0x00283002,
}  # fmt: skip
WAVEFORM, WAVEFORM_SIZE = 0x54001010, ("WaveformBitsAllocated", "NumberOfWaveformChannels", "NumberOfWaveformSamples")
ICC_PROFILE, AGE, MODALITY, SOP_CLASS = 0x00282000, 0x00101010, 0x00080060, 0x00080016
# Without these nothing is known of the pixels.
IMAGE_LAYOUT = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip

_DUMMIES: dict[str, Any] = {
    "AS": "000Y", "DA": "19000101", "DS": "0", "DT": "19000101", "FD": 0.0, "FL": 0.0, "IS": "0", "OB": b"\0\0",
    "OW": b"\0\0", "TM": "000000", "UI": None, "UN": b"\0\0", "UR": "urn:removed", "US": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Deidentified:
    """A de-identified object and what is to be known about it.

    Attributes:
        dataset: the new object; the original is untouched.
        patient: the pseudonym that stands in PatientID and PatientName.
        burned_in: whether the pixels may show text: see ``burned_in.burned_in``. A person must look at those that are
            not ``"unlikely"``.
        masked: whether parts of the pixels were blacked out.
        kept: keywords of the attributes whose values stayed as they were, nested ones too.
        kept_text: those of them that hold free text.
        broken: keywords of the attributes that were emptied or removed because a value broke its representation.
    """

    dataset: Dataset
    patient: str
    burned_in: BurnedIn
    masked: bool
    kept: frozenset[str]
    kept_text: frozenset[str]
    broken: frozenset[str]


def deidentify(
    dataset: Dataset,
    key: bytes,
    *,
    keep_characteristics: bool = False,
    masks: Masks | None = None,
    keep_pixels: bool = False,
) -> Deidentified:
    """Apply the basic profile with modified dates to a copy of an object.

    Patients are told apart by PatientID, or else by name and date of birth, or else by the study.

    Args:
        dataset: the object.
        key: the secret, at least 16 bytes; the same one gives the same pseudonyms, UIDs and date offsets.
        keep_characteristics: keep sex, age (90 years for all above 89), size, weight and the like.
        masks: what to black out in the pixels.
        keep_pixels: leave pixels that are likely to show text as they are; otherwise they are masked or refused.

    Raises:
        ImageError: the key is too short; an attribute cannot be decoded, so that nothing can be said about it; the
            pixels are likely to show text, and nothing says what to do; or their end cannot be found.
    """
    check_key(key)
    with decoding():
        _check_stands_alone(dataset)
        read = conformant(dataset)
        read.dataset.file_meta = _renewed_meta(dataset)
        _check_kind(read)
        flag = burned_in(read.dataset)
        masked = _treat_pixels(read.dataset, flag, masks or Masks(), keep_pixels=keep_pixels)
        identity = identity_of(read.dataset)
        patient = pseudonym(identity, key)
        kept = PROFILE.characteristics if keep_characteristics else frozenset()
        rules = _Rules(key, date_shift(identity, key), kept, private_words(read.dataset))
        cleaned = rules.cleaned(read.dataset)
        cleaned.PatientName = cleaned.PatientID = patient
        _declare(cleaned, keep_characteristics=keep_characteristics, masked=masked)
        _finish(cleaned, read)
    return Deidentified(
        cleaned, patient, flag, masked, frozenset(rules.kept), frozenset(rules.kept_text), frozenset(read.broken)
    )


@contextmanager
def decoding() -> Iterator[None]:
    """Silence pydicom's warnings on values that break their VR, and turn what it raises on them into one error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ImageError, OSError):
        raise
    # Deliberately broad, as in dicom_file: pydicom raises dozens of kinds, and their text may quote values.
    except Exception as error:
        raise ImageError(
            f"The object has an attribute that cannot be decoded or written again ({type(error).__name__}), so nobody "
            "can say what it holds. Expected a conformant object; repair it, or remove the attribute, first."
        ) from error


def _check_stands_alone(dataset: Dataset) -> None:
    """Refuse what would be another picture without its private attributes."""
    if read_mosaic(Header(dataset), Path("The object")) is not None:
        raise ImageError(
            "The object is a mosaic: private attributes, which are removed, say where its slices are, and without them "
            "it would pass for one flat picture. Convert it to a DICOM series, as in hounsfield convert FILE FOLDER, "
            "and de-identify that."
        )


def _check_kind(read: Conformant) -> None:
    dataset = read.dataset
    unreadable = [keyword for keyword in IMAGE_LAYOUT if keyword in read.broken]
    if unreadable:
        raise ImageError(
            f"The object's {', '.join(unreadable)} cannot be read, so nobody can say where its pixels begin and end. "
            "Copy it again from its source."
        )
    kind = str(dataset.get("SOPClassUID", "") or "")
    if kind.startswith(SOUND_CLASSES):
        raise ImageError("The object is a sound recording, in which names may be spoken. Leave it out.")
    syntax = dataset.file_meta.TransferSyntaxUID
    if (kind and not is_registered(kind)) or not syntax.is_transfer_syntax:
        raise ImageError(
            "The object is of a kind or in a transfer syntax that is not known here, so nobody can say what it holds. "
            "Convert it with the tool that wrote it, or leave it out."
        )


def _treat_pixels(dataset: Dataset, flag: BurnedIn, masks: Masks, *, keep_pixels: bool) -> bool:
    """Mask or refuse pixels with text, and cut what stands beside the pixels; whether something was masked."""
    if not has_pixels(dataset):
        return False
    chosen = masks.of(dataset)
    if chosen:
        mask_pixels(dataset, chosen, pixel_limit())
    elif flag in {"declared", "likely"} and not keep_pixels:
        says = "says that its pixels show text" if flag == "declared" else "is of a kind whose pixels often show text"
        raise ImageError(
            f"The object {says} (ultrasound, a secondary capture, a screen, a film), which may name the patient. Mask "
            "it with --mask Y0,X0,Y1,X1, with --mask outside-regions, or with --mask-rules FILE; or look at it and say "
            "--keep-pixels."
        )
    without_remains(dataset, dataset.file_meta.TransferSyntaxUID)
    return bool(chosen)


@dataclass
class _Rules:
    """What one patient's objects are cleaned by, and what was kept."""

    key: bytes
    shift: dt.timedelta
    characteristics: frozenset[int]
    private_words: re.Pattern[str] | None
    kept: set[str] = field(default_factory=set)
    kept_text: set[str] = field(default_factory=set)

    def cleaned(self, dataset: Dataset, *, nested: bool = False) -> Dataset:
        """A new data set with what may stay."""
        result = Dataset()
        for element in dataset:
            if nested and int(element.tag) in PIXEL_TAGS | {CHARACTER_SET}:
                continue
            treated = self._treated(element, dataset)
            if treated is not None:
                result.add(treated)
        return result

    def _treated(self, element: DataElement, parent: Dataset) -> DataElement | None:
        tag = int(element.tag)
        action = PROFILE.actions.get(tag)
        if action is None:
            return self._unlisted(element, parent)
        if tag in self.characteristics:
            return self._stays(element)
        if tag in PROFILE.dates:
            return self._dated(element, action)
        return self._acted_on(element, action)

    def _acted_on(self, element: DataElement, action: str) -> DataElement | None:
        if action == "X":
            return None
        if action == "U":
            return _with(element, [renewed_uid(text, self.key) for text in values_of(element)])
        if element.VR == "SQ":
            return self._sequence(element) if action == "X/Z/U*" else DataElement(element.tag, "SQ", Sequence())
        if action in {"Z", "X/Z"}:
            return DataElement(element.tag, element.VR, None)
        return _dummy(element)

    def _unlisted(self, element: DataElement, parent: Dataset) -> DataElement | None:
        """An attribute that the profile keeps: what identifies nevertheless goes."""
        tag, vr = int(element.tag), element.VR
        if tag in PROFILE.removed or element.tag.group in PROFILE.removed_groups or vr in {"AE", "UR"}:
            return None
        if vr in BINARY:
            return self._binary(element, parent) if tag in PROFILE.binary else None
        if vr == "UI" and tag != SOP_CLASS:
            return _with(element, [renewed_uid(text, self.key) for text in values_of(element)])
        treatments = {"SQ": self._sequence, "PN": _dummy, "DA": self._dated, "DT": self._dated}
        return treatments.get(vr, self._stays)(element)

    def _stays(self, element: DataElement) -> DataElement:
        """An attribute with its values, but for those that repeat a name or a number of the patient."""
        tag, vr = int(element.tag), element.VR
        if tag == AGE:
            element = _with(element, [_top_coded(text) for text in values_of(element)])
        free = vr in TEXTS or (vr == "CS" and element.tag.group != 0x0028 and tag != MODALITY)
        if self.private_words is not None and free:
            texts = values_of(element)
            safe = ["REMOVED" if self.private_words.search(text) else text for text in texts]
            if safe != texts:
                return _with(element, safe)
        if not element.is_empty:
            self.kept.add(keyword_of(element.tag))
            if vr in TEXTS:
                self.kept_text.add(keyword_of(element.tag))
        return element

    def _binary(self, element: DataElement, parent: Dataset) -> DataElement:
        tag, content = int(element.tag), element.value
        length = _explained(tag, content, parent)
        self.kept.add(keyword_of(element.tag))
        if length is None or len(content) <= length + 1:
            return element
        return DataElement(element.tag, element.VR, content[:length] + b"\0" * (length % 2), already_converted=True)

    def _sequence(self, element: DataElement) -> DataElement:
        items = [self.cleaned(item, nested=True) for item in element.value]
        return DataElement(element.tag, "SQ", Sequence(items))

    def _dated(self, element: DataElement, action: str = "Z") -> DataElement | None:
        """Dates moved; times of day as they are. What an action demands and cannot be had becomes a dummy."""
        texts = values_of(element)
        moved = texts if element.VR == "TM" else [moved_date(text, self.shift) for text in texts]
        if any(moved) or not any(texts):
            return _with(element, moved)
        return _dummy(element) if action == "D" else _with(element, moved)


def _with(element: DataElement, values: list[str]) -> DataElement:
    return DataElement(element.tag, element.VR, values if len(values) > 1 else values[0] if values else None)


def _dummy(element: DataElement) -> DataElement:
    return DataElement(element.tag, element.VR, _DUMMIES.get(element.VR, "REMOVED"))


def _explained(tag: int, content: bytes, parent: Dataset) -> int | None:
    """How many bytes of a binary value its object explains: look-up tables, colour profiles and signals."""
    if tag == ICC_PROFILE:
        # ISO 15076-1, 7.2.2 and 7.2.11: its size, and its signature.
        return int.from_bytes(content[:4], "big") if content[36:40] == b"acsp" else 0
    if tag in LOOKUP_TABLES:
        descriptor = parent.get(LOOKUP_TABLES[tag])
        entries = values_of(descriptor)[0] if descriptor is not None else ""
        return 2 * (int(entries) % 2**16 or 2**16) if entries else 0
    if tag == WAVEFORM:
        factors = (parent.get(keyword) for keyword in WAVEFORM_SIZE)
        return math.prod(int(factor or 0) for factor in factors) // 8
    return None


def _top_coded(age: str) -> str:
    return "090Y" if age.endswith("Y") and age[:-1].isdecimal() and int(age[:-1]) > 89 else age


def _declare(dataset: Dataset, *, keep_characteristics: bool, masked: bool) -> None:
    """De-identification attributes of PS3.15 E.1.1 and the codes of CID 7050."""
    codes = [
        ("113100", "Basic Application Confidentiality Profile"),
        ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ]
    if keep_characteristics:
        codes.append(("113108", "Retain Patient Characteristics Option"))
    if masked:
        codes.append(("113101", "Clean Pixel Data Option"))
        dataset.BurnedInAnnotation = "NO"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [f"Hounsfield {__version__}", "PS3.15 Annex E basic profile, modified dates"]
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    items = []
    for value, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items


def _finish(dataset: Dataset, read: Conformant) -> None:
    """The file header, and a character set that every text left can be written in."""
    if not all(text.isascii() for element in dataset.iterall() if element.VR in TEXTS for text in values_of(element)):
        dataset.SpecificCharacterSet = "ISO_IR 192"
    meta = read.dataset.file_meta
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128


def _renewed_meta(original: Dataset) -> FileMetaDataset:
    """A file header with nothing of the old one but the transfer syntax; the preamble can hide data too."""
    old = getattr(original, "file_meta", None) or Dataset()
    implicit = getattr(original, "original_encoding", (True, True))[0]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(
        old.get("TransferSyntaxUID", "") or (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
    )
    return meta
