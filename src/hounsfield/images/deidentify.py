"""De-identification of DICOM objects by the basic profile of PS3.15 Annex E, with dates shifted.

The profile is the table ``confidentiality.ACTIONS``; this module applies it, to nested items as well. Where the table
leaves a choice (``X/Z``, ``X/D``, …) the attribute stays and its content goes, which fits every kind of object. Beyond
the table: private attributes, curves, overlays and attributes that the dictionary does not know are removed, and
names of persons that are not listed are replaced.

One secret key decides everything, so that objects that are processed on different days still belong together: a
patient's pseudonym, the new UIDs and the patient's date offset are HMAC-SHA-256 of what they replace. Without the key
they cannot be computed from a list of candidates; who holds the key can re-identify, so it belongs with the patients'
data. The option "Retain Longitudinal Temporal Information with Modified Dates" is used (PS3.15 E.3.6): every date of a
patient moves by the same number of days, times of day stay, the date of birth goes.

What this cannot do: read text that is burnt into pixels, or hide a face. The first is flagged, see ``burned_in``.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import hmac
import io
import secrets
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hounsfield.errors import ImageError
from hounsfield.images.confidentiality import ACTIONS
from hounsfield.images.dicom_file import refusing
from hounsfield.images.formats import is_dicom
from hounsfield.images.reading import image_files
from hounsfield.images.writers import written_whole
from hounsfield.progress import Progress, silent
from hounsfield.version import __version__

BurnedIn = Literal["declared", "possible", "unlikely"]

# PS3.15 E.3.7, "Retain Patient Characteristics": sex, age, size, weight, ethnic group, smoking, pregnancy, neutered.
CHARACTERISTICS = frozenset(
    {0x00100040, 0x00101010, 0x00101020, 0x00101030, 0x00102160, 0x001021A0, 0x001021C0, 0x00102203}
)

# The date and time of birth are the patient's characteristics, not the study's history.
BIRTH = frozenset({0x00100030, 0x00100032})

# Modalities whose pixels often carry text, and kinds of objects that were made from a screen.
TEXT_PRONE = frozenset({"DG", "DOC", "ECG", "ES", "EPS", "GM", "IVUS", "OT", "RF", "SC", "SM", "US", "XA", "XC"})

_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_WELL_KNOWN_UIDS = "1.2.840.10008."
_LONGEST_SHIFT = 3650
_DUMMIES: dict[str, Any] = {"AS": "000Y", "CS": "REMOVED", "DS": "0", "IS": "0", "OB": b"\0\0", "UN": b"\0\0", "US": 0}


@dataclass(frozen=True)
class Deidentified:
    """A de-identified object and what is to be known about it.

    Attributes:
        dataset: the new object; the original is untouched.
        patient: the pseudonym that stands in PatientID and PatientName.
        burned_in: whether the pixels may show text: the object says so (``"declared"``), its kind makes it
            ``"possible"``, or nothing speaks for it. A person must look at the first two.
    """

    dataset: Dataset
    patient: str
    burned_in: BurnedIn


@dataclass(frozen=True)
class Outcome:
    """What became of the files that were to be de-identified.

    Attributes:
        written: the new files.
        flagged: those of them whose pixels may show text, with what says so.
        left_out: files that could not be de-identified, with the reason.
    """

    written: tuple[Path, ...]
    flagged: dict[Path, BurnedIn]
    left_out: tuple[tuple[Path, str], ...]


def make_key(path: Path) -> None:
    """Write a new random key of 256 bits, readable by its owner alone; an existing file is never replaced.

    Raises:
        OSError: the file exists or cannot be written.
    """
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_hex(32) + "\n")


def read_key(path: Path) -> bytes:
    """The key in a file, without the white space around it.

    Raises:
        ImageError: there is no such file, or it holds fewer than 16 bytes.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ImageError(f"The key file '{path}' cannot be read ({error.strerror}). Check its path.") from error
    _check_key(key)
    return key


def pseudonym(identity: str, key: bytes) -> str:
    """The name that one identity has under one key: ``"HF-"`` and 16 hexadecimal digits."""
    return f"HF-{_digest(key, 'patient', identity).hex()[:16].upper()}"


def deidentify_file(source: Path, target: Path, key: bytes, *, keep_characteristics: bool = False) -> Deidentified:
    """De-identify one DICOM file into another; pixels and transfer syntax stay as they are. See ``deidentify``.

    Raises:
        ImageError: the source is not DICOM, or has an attribute that cannot be decoded.
        OSError: the target cannot be written.
    """
    result = deidentify(read_object(source), key, keep_characteristics=keep_characteristics)
    with written_whole(target, ".dcm") as temporary:
        _write(result.dataset, temporary)
    return result


def deidentify_paths(
    source: Path, target: Path, key: bytes, *, keep_characteristics: bool = False, progress: Progress = silent
) -> Outcome:
    """De-identify one file into another, or every DICOM file of a folder into ``target/PSEUDONYM/INSTANCE_UID.dcm``.

    Files of a folder that cannot be de-identified are left out, and named in the result.

    Raises:
        ImageError: the source does not exist, or nothing in it could be de-identified.
        OSError: a file cannot be written.
    """
    if source.is_file():
        one = deidentify_file(source, target, key, keep_characteristics=keep_characteristics)
        return Outcome((target,), _flags(target, one), ())
    sources = image_files(source)
    written: list[Path] = []
    flagged: dict[Path, BurnedIn] = {}
    left_out: list[tuple[Path, str]] = []
    for number, path in enumerate(sources):
        progress("de-identifying", number, len(sources))
        try:
            result = deidentify(read_object(path), key, keep_characteristics=keep_characteristics)
            written.append(_placed(result, target))
            flagged |= _flags(written[-1], result)
        except ImageError as error:
            left_out.append((path, str(error)))
    progress("de-identifying", len(sources), len(sources))
    if not written:
        reason = f" The first was refused: {left_out[0][1]}" if left_out else ""
        raise ImageError(f"No DICOM file below '{source}' could be de-identified.{reason}")
    return Outcome(tuple(written), flagged, tuple(left_out))


def _placed(result: Deidentified, target: Path) -> Path:
    """Write an object where its new identity says."""
    path = target / result.patient / f"{result.dataset.SOPInstanceUID}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path, ".dcm") as temporary:
        _write(result.dataset, temporary)
    return path


def _flags(path: Path, result: Deidentified) -> dict[Path, BurnedIn]:
    return {} if result.burned_in == "unlikely" else {path: result.burned_in}


def read_object(path: Path) -> Dataset:
    """Read a whole DICOM object, pixels included and not decoded.

    Raises:
        ImageError: the file is no DICOM.
    """
    with refusing(path):
        content = path.read_bytes()
        if not is_dicom(content[:132]):
            raise ImageError(f"'{path}' is no DICOM file, and only these can be de-identified. Convert it instead.")
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        named = bool(dataset.get("SOPClassUID")) and bool(dataset.get("SOPInstanceUID"))
    if not named:
        raise ImageError(
            f"'{path}' has no SOP class and instance UID. Expected a complete DICOM object; only these can be "
            "de-identified."
        )
    return dataset


def deidentify(dataset: Dataset, key: bytes, *, keep_characteristics: bool = False) -> Deidentified:
    """Apply the basic profile with modified dates to a copy of an object.

    Patients are told apart by PatientID, or else by name and date of birth, or else by the study.

    Args:
        dataset: the object.
        key: the secret, at least 16 bytes; the same one gives the same pseudonyms, UIDs and date offsets.
        keep_characteristics: keep sex, age (90 years for all above 89), size, weight and the like.

    Raises:
        ImageError: the key is too short, or an attribute cannot be decoded, so that nothing can be said about it.
    """
    _check_key(key)
    with _decoding():
        flag = burned_in(dataset)
        cleaned = copy.deepcopy(dataset)
        identity = _identity(dataset)
        patient = pseudonym(identity, key)
        rules = _Rules(key, _shift(identity, key), CHARACTERISTICS if keep_characteristics else frozenset())
        rules.clean(cleaned)
        cleaned.PatientName = cleaned.PatientID = patient
        _declare(cleaned, keep_characteristics=keep_characteristics)
        _renew_meta(cleaned, dataset)
    return Deidentified(cleaned, patient, flag)


def _write(dataset: Dataset, path: Path) -> None:
    with _decoding():
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)


@contextmanager
def _decoding() -> Iterator[None]:
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


def burned_in(dataset: Dataset) -> BurnedIn:
    """Whether the pixels may show text, by what the object says of itself."""
    says = str(dataset.get("BurnedInAnnotation", "")).strip().upper()
    if says in {"YES", "NO"}:
        return "declared" if says == "YES" else "unlikely"
    kind = str(dataset.get("ImageType", "")).upper()
    captured = "ConversionType" in dataset or "SCREEN" in kind or "SECONDARY" in kind
    return "possible" if captured or str(dataset.get("Modality", "OT")).upper() in TEXT_PRONE else "unlikely"


@dataclass(frozen=True)
class _Rules:
    """What one patient's objects are cleaned by."""

    key: bytes
    shift: dt.timedelta
    kept: frozenset[int]

    def clean(self, dataset: Dataset) -> None:
        for tag in list(dataset.keys()):
            if self._is_unwanted(tag):
                del dataset[tag]
                continue
            if not self._treat(dataset[tag]):
                del dataset[tag]

    @staticmethod
    def _is_unwanted(tag: BaseTag) -> bool:
        repeating = tag.group & 0xFF00 in {0x5000, 0x6000}  # curves and overlays
        return tag.is_private or repeating or not dictionary_has_tag(tag)

    def _treat(self, element: DataElement) -> bool:
        """Change an element in place; whether it stays."""
        tag = int(element.tag)
        action = "K" if tag in self.kept else ACTIONS.get(tag, "K")
        if element.VR in {"DA", "DT"} and tag not in BIRTH:
            element.value = _each(element.value, self._shifted)
            return True
        if element.VR == "TM" and tag not in BIRTH:
            return True
        if action == "X":
            return False
        if action == "U":
            element.value = _each(element.value, self._uid)
        elif element.VR == "SQ":
            self._treat_sequence(element, action)
        elif action in {"Z", "X/Z"}:
            element.value = None
        elif action != "K":
            element.value = _DUMMIES.get(element.VR, "REMOVED")
        elif element.VR == "PN":
            element.value = "REMOVED"
        elif tag == 0x00101010:
            element.value = _top_coded(element.value)
        return True

    def _treat_sequence(self, element: DataElement, action: str) -> None:
        if action in {"K", "X/Z/U*"}:
            for item in element.value:
                self.clean(item)
        else:
            element.value = []

    def _uid(self, uid: str) -> str:
        """A UID under 2.25, from a UUID (PS3.5 B.2); those that the standard registers name no object and stay."""
        if not uid or uid.startswith(_WELL_KNOWN_UIDS):
            return uid
        return f"2.25.{uuid.UUID(bytes=_digest(self.key, 'uid', uid)[:16], version=4).int}"

    def _shifted(self, text: str) -> str:
        """A date or a date with time, moved; what cannot be understood becomes empty."""
        plain = str(text).strip()
        if plain[4:5] == ".":  # the form of ACR-NEMA, 1993.08.22
            plain = plain.replace(".", "", 2)
        given = min(8, len(plain))
        try:
            date = dt.date(int(plain[:4]), int(plain[4:6] or 1), int(plain[6:8] or 1)) - self.shift
        except (ValueError, OverflowError):
            return ""
        return f"{date.year:04d}{date:%m%d}"[:given] + plain[8:]


def _check_key(key: bytes) -> None:
    if len(key) < 16:
        raise ImageError(
            f"The key has {len(key)} bytes, and expected are at least 16, or pseudonyms could be found by trying. Make "
            "a new one, for example with 'openssl rand -hex 32', and keep it with the patients' data."
        )


def _digest(key: bytes, purpose: str, text: str) -> bytes:
    return hmac.new(key, f"{purpose}\0{text}".encode(), hashlib.sha256).digest()


def _identity(dataset: Dataset) -> str:
    patient = str(dataset.get("PatientID", "") or "").strip()
    if patient:
        return patient
    name, birth = (str(dataset.get(keyword, "") or "").strip() for keyword in ("PatientName", "PatientBirthDate"))
    study = str(dataset.get("StudyInstanceUID", "") or dataset.get("SOPInstanceUID", ""))
    return f"{name}\0{birth}" if name else f"study\0{study}"


def _shift(identity: str, key: bytes) -> dt.timedelta:
    """Into the past, by one day to ten years."""
    days = 1 + int.from_bytes(_digest(key, "dates", identity)[:8], "big") % _LONGEST_SHIFT
    return dt.timedelta(days=days)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if value is None or value == "":
        return value
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return change(str(value))
    return [change(str(one)) for one in value]


def _top_coded(age: Any) -> str:
    text = str(age or "")
    return "090Y" if text.endswith("Y") and text[:-1].isdecimal() and int(text[:-1]) > 89 else text


def _declare(dataset: Dataset, *, keep_characteristics: bool) -> None:
    """De-identification attributes of PS3.15 E.1.1 and the codes of CID 7050."""
    codes = [
        ("113100", "Basic Application Confidentiality Profile"),
        ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ]
    if keep_characteristics:
        codes.append(("113108", "Retain Patient Characteristics Option"))
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [f"Hounsfield {__version__}", "PS3.15 Annex E basic profile, modified dates"]
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    items = []
    for value, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.DeidentificationMethodCodeSequence = items


def _renew_meta(dataset: Dataset, original: Dataset) -> None:
    """A file header with nothing of the old one but the transfer syntax; the preamble can hide data too."""
    old = getattr(original, "file_meta", None) or Dataset()
    implicit = getattr(original, "original_encoding", (True, True))[0]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = old.get(
        "TransferSyntaxUID", ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    )
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
