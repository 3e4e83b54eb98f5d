"""What stands for a patient's name, numbers, UIDs and dates: made from one secret key, the same way every time."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
import uuid

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from hounsfield.errors import ImageError

# Where numbers of the patient and of the object stand: IDs of group 0010, the accession number, and UIDs.
NUMBERS = frozenset({0x00080018, 0x00080050, 0x00100020, 0x00101000, 0x00101090, 0x0020000D, 0x0020000E})
LONGEST_SHIFT = 3650


def check_key(key: bytes) -> None:
    """Refuse a key that could be found by trying.

    Raises:
        ImageError: it has fewer than 16 bytes.
    """
    if len(key) < 16:
        raise ImageError(
            f"The key has {len(key)} bytes, and expected are at least 16, or pseudonyms could be found by trying. Make "
            "a new one, for example with 'openssl rand -hex 32', and keep it with the patients' data."
        )


def pseudonym(identity: str, key: bytes) -> str:
    """The name that one identity has under one key: ``"HF-"`` and 16 hexadecimal digits."""
    return f"HF-{_digest(key, 'patient', identity).hex()[:16].upper()}"


def identity_of(dataset: Dataset) -> str:
    """What tells a patient from others: PatientID, or else name and date of birth, or else the study."""
    patient = str(dataset.get("PatientID", "") or "").strip()
    if patient:
        return patient
    name, birth = (str(dataset.get(keyword, "") or "").strip() for keyword in ("PatientName", "PatientBirthDate"))
    study = str(dataset.get("StudyInstanceUID", "") or dataset.get("SOPInstanceUID", ""))
    return f"{name}\0{birth}" if name else f"study\0{study}"


def date_shift(identity: str, key: bytes) -> dt.timedelta:
    """How far the dates of an identity move into the past: one day to ten years."""
    days = 1 + int.from_bytes(_digest(key, "dates", identity)[:8], "big") % LONGEST_SHIFT
    return dt.timedelta(days=days)


def moved_date(text: str, shift: dt.timedelta) -> str:
    """A date or a date with time, moved; what is no date becomes empty."""
    if text[4:5] == ".":  # the form of ACR-NEMA, 1993.08.22
        text = text.replace(".", "", 2)
    zone = re.search(r"[+-]\d{4}$", text)
    given = min(8, zone.start() if zone else len(text))
    try:
        plain = text[:given]
        date = dt.date(int(plain[:4]), int(plain[4:6] or 1), int(plain[6:8] or 1)) - shift
    except (ValueError, OverflowError):
        return ""
    return f"{date.year:04d}{date:%m%d}"[:given] + text[given:]


def renewed_uid(uid: str, key: bytes) -> str:
    """A UID under 2.25, from a UUID (PS3.5 B.2); those that the standard registers name no object and stay."""
    if not uid or is_registered(uid):
        return uid
    return f"2.25.{uuid.UUID(bytes=_digest(key, 'uid', uid)[:16], version=4).int}"


def is_registered(uid: str) -> bool:
    """Whether the standard registers a UID (PS3.6 annex A), so that it names a kind of thing and no object."""
    return str(UID(uid).name) != uid


def private_words(dataset: Dataset) -> re.Pattern[str] | None:
    """What no text that is kept may hold: parts of names, the patient's numbers, and the object's dates and UIDs.

    Parts of names in Latin letters count from three letters on and as whole words; in other scripts, which set no
    spaces between words, from two on and wherever they stand.
    """
    words: set[str] = set()
    for element in dataset.iterall():
        if element.VR == "PN":
            words.update(word for text in values_of(element) for word in re.findall(r"[^\W\d_]{2,}", text))
        elif element.VR in {"DA", "DT"}:
            words.update(form for text in values_of(element) for form in _forms_of_date(text))
        elif int(element.tag) in NUMBERS:
            words.update(text for text in values_of(element) if len(text) > 3)
    whole = sorted((word for word in words if len(word) > 2 or not word.isascii()), key=len, reverse=True)
    if not whole:
        return None
    alternatives = "|".join(
        rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" if word.isascii() else re.escape(word) for word in whole
    )
    return re.compile(alternatives, re.IGNORECASE)


def _forms_of_date(text: str) -> list[str]:
    """The ways in which a whole date is written in texts."""
    digits = text.replace(".", "", 2) if text[4:5] == "." else text
    if not digits[:8].isdecimal() or len(digits) < 8:
        return []
    year, month, day = digits[:4], digits[4:6], digits[6:8]
    orders = ((year, month, day), (day, month, year), (month, day, year))
    return [mark.join(order) for order in orders for mark in ("", "-", ".", "/")]


def values_of(element: DataElement) -> list[str]:
    """The values of an element as texts; an empty one is one empty text."""
    value = element.value
    values = value if isinstance(value, MultiValue | list) else [value]
    return ["" if one is None else str(one) for one in values]


def _digest(key: bytes, purpose: str, text: str) -> bytes:
    return hmac.new(key, f"{purpose}\0{text}".encode(), hashlib.sha256).digest()
