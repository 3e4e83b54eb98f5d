"""A data set as the dictionary has it: each element under its own value representation, with values that fit it.

What a file says of an element's representation is not believed: text under ``UN``, a sequence under ``OB`` or a name
under ``DA`` would otherwise pass whatever looks at kinds of values. Elements that the dictionary does not know, private
ones and the curves and overlays of repeating groups are left out, and so are values that break their representation.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field
from typing import Any

from pydicom.charset import convert_encodings, python_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

_DATE_TIME = r"\d{4}(\d\d(\d\d(\d\d(\d\d(\d\d(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?"
# PS3.5 table 6.2-1. Beyond it: dates and times of ACR-NEMA, a decimal comma, decimals longer than 16 characters, and
# whole numbers with a decimal point, all of which writers of numbers produce and nobody takes for text.
PATTERNS = {
    "AS": re.compile(r"\d{3}[DWMY]"),
    "CS": re.compile(r"[A-Z0-9_ ]{1,16}"),
    "DA": re.compile(r"\d{8}|\d{4}\.\d\d\.\d\d"),
    "DS": re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d{1,3})?"),
    "DT": re.compile(_DATE_TIME),
    "IS": re.compile(r"[+-]?\d{1,12}(\.0*)?"),
    "TM": re.compile(r"\d\d(:?\d\d(:?\d\d(\.\d{1,6})?)?)?"),
}
# Bytes per value of representations with a fixed length.
SIZES = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
LONG_LENGTHS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
UNDEFINED_LENGTH = 2**32 - 1
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
CHARACTER_SET = 0x00080005
DEEPEST = 30


@dataclass
class Conformant:
    """A data set by the dictionary, and the keywords of what did not fit it."""

    dataset: Dataset
    broken: set[str] = field(default_factory=set)


def conformant(dataset: Dataset) -> Conformant:
    """The elements of a data set that the dictionary knows, as it knows them; binary values are shared, not copied.

    Texts are decoded by the character set that is in force where they stand; names of unknown sets are dropped.
    """
    result = Conformant(Dataset())
    _Reader(dataset, ["iso8859"], result.broken, depth=0, signed=False).copy_to(result.dataset)
    return result


def is_repeating(tag: BaseTag) -> bool:
    """Whether a tag is that of a curve or an overlay (PS3.6: groups 50xx and 60xx)."""
    return tag.group & 0xFF00 in {0x5000, 0x6000}


class _Reader:
    """Reads the elements of one data set or item."""

    def __init__(self, dataset: Dataset, encodings: list[str], broken: set[str], *, depth: int, signed: bool) -> None:
        self._source = dataset
        self._broken = broken
        self._depth = depth
        names = self._character_sets()
        self._encodings = convert_encodings(list(names)) if names else encodings
        self._names = names
        self._signed = _is_signed(dataset, default=signed)

    def _character_sets(self) -> list[str]:
        if CHARACTER_SET not in self._source:
            return []
        value = self._source[CHARACTER_SET].value
        names = [value] if isinstance(value, str) else list(value or [])
        return [str(name) for name in names if name in python_encoding]

    def copy_to(self, target: Dataset) -> None:
        for tag in list(self._source.keys()):
            if tag.is_private or is_repeating(tag) or tag.element == 0 or not dictionary_has_tag(tag):
                continue
            if tag == CHARACTER_SET:
                if self._names:
                    target.add_new(tag, "CS", self._names)
                continue
            element = self._element(tag)
            if element is None:
                self._broken.add(keyword_of(tag))
            else:
                target.add(element)

    def _element(self, tag: BaseTag) -> DataElement | None:
        found = self._source.get_item(tag)
        vr = self._representation(dictionary_VR(tag), found)
        if vr == "SQ":
            return self._sequence(tag, found)
        value = found.value
        is_bytes = isinstance(found, RawDataElement) or isinstance(value, bytes)
        if vr in BINARY:
            return _binary(tag, vr, found) if is_bytes else None
        if vr in PATTERNS or vr == "UI":
            texts = (value or b"").decode("latin-1").split("\\") if is_bytes else _texts(value)
            return self._checked(tag, vr, texts)
        if is_bytes:
            if vr in TEXTS:  # what stands behind a zero, no program shows
                value = (value or b"").partition(b"\0")[0]
            little = found.VR == "UN" or getattr(found, "is_little_endian", True)
            return self._converted(RawDataElement(tag, vr, len(value or b""), value, 0, True, little))
        return DataElement(tag, vr, list(value) if isinstance(value, MultiValue) else value)

    def _representation(self, vr: str, found: Any) -> str:
        """One of the dictionary's representations: the file's if it is among them, else what its pixels say."""
        choices = vr.split(" or ")
        if len(choices) == 1 or found.VR in choices:
            return vr if len(choices) == 1 else str(found.VR)
        if "OW" in choices:
            return "OW"
        return "SS" if self._signed else "US"

    def _converted(self, raw: RawDataElement) -> DataElement | None:
        size = SIZES.get(raw.VR or "")
        if size is not None and (raw.length % size or not _fits(raw.length // size, dictionary_VM(raw.tag))):
            return None
        return convert_raw_data_element(raw, encoding=self._encodings)

    def _checked(self, tag: BaseTag, vr: str, texts: list[str]) -> DataElement:
        """Texts as the values of an element; those that do not fit its representation are emptied, and noted."""
        texts = [text.strip(" \0") for text in texts]
        pattern = PATTERNS.get(vr)
        fitting = [text if not text or pattern is None or pattern.fullmatch(text) else "" for text in texts]
        if fitting != texts:
            self._broken.add(keyword_of(tag))
        if vr == "DS":
            fitting = [text.replace(",", ".") for text in fitting]
        return DataElement(tag, vr, fitting if len(fitting) > 1 else fitting[0] or None)

    def _sequence(self, tag: BaseTag, found: Any) -> DataElement | None:
        items = found.value
        if isinstance(found, RawDataElement) or isinstance(items, bytes):
            items = self._parsed(found, items or b"")
        if items is None or self._depth > DEEPEST:
            return None
        cleaned = []
        for item in items:
            target = Dataset()
            _Reader(item, self._encodings, self._broken, depth=self._depth + 1, signed=self._signed).copy_to(target)
            cleaned.append(target)
        return DataElement(tag, "SQ", Sequence(cleaned))

    def _parsed(self, found: Any, content: bytes) -> Sequence | None:
        """The items in the bytes of a sequence: implicit under ``UN`` (PS3.5 section 6.2.2), else as the file is."""
        little = found.VR == "UN" or getattr(found, "is_little_endian", True)
        as_file = bool(getattr(found, "is_implicit_VR", True)) or found.VR == "UN"
        for implicit in (as_file, not as_file):
            if _is_sequence(content, implicit, "<" if little else ">"):
                return read_sequence(io.BytesIO(content), implicit, little, len(content), self._encodings)
        return None


def keyword_of(tag: BaseTag) -> str:
    """The keyword of a tag, or its number where it has none."""
    return keyword_for_tag(tag) or f"{tag.group:04X},{tag.element:04X}"


def _is_signed(dataset: Dataset, *, default: bool) -> bool:
    """Whether an item's own pixels have a sign, or else those of the object it is in (PS3.3 C.7.6.3.1.1)."""
    found = dataset.get_item("PixelRepresentation") if "PixelRepresentation" in dataset else None
    return default if found is None else found.value in {b"\1\0", b"\0\1", 1}


def _binary(tag: BaseTag, vr: str, found: Any) -> DataElement:
    undefined = getattr(found, "is_undefined_length", getattr(found, "length", 0) == UNDEFINED_LENGTH)
    vr = "OB" if undefined else vr
    return DataElement(tag, vr, found.value or b"", already_converted=True, is_undefined_length=undefined)


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, MultiValue | list | tuple) else [value]
    return ["" if one is None else str(one) for one in values]


def _fits(count: int, multiplicity: str) -> bool:
    """Whether a number of values agrees with a multiplicity of the dictionary, such as ``1``, ``2-n`` or ``1-3``."""
    if count == 0:
        return True
    low, _, high = multiplicity.partition("-")
    most = high or low
    return int(low) <= count and (most.endswith("n") or count <= int(most))


def _is_sequence(content: bytes, implicit: bool, order: str) -> bool:
    """Whether bytes are items from the first to the last, with elements in them that fill these exactly."""
    try:
        end = _skip_items(content, 0, len(content), implicit, order)
    except (struct.error, ValueError):
        return False
    return end == len(content)


def _tag_and_length(content: bytes, position: int, order: str) -> tuple[int, int]:
    group, element, length = struct.unpack_from(f"{order}HHI", content, position)
    return group << 16 | element, length


def _skip_items(content: bytes, position: int, end: int, implicit: bool, order: str) -> int:
    while position < end:
        tag, length = _tag_and_length(content, position, order)
        position += 8
        if tag == SEQUENCE_END:
            return position
        if tag != ITEM:
            raise ValueError("no item")
        stop = end if length == UNDEFINED_LENGTH else position + length
        position = _skip_elements(content, position, stop, implicit, order)
        if length != UNDEFINED_LENGTH and position != stop:
            raise ValueError("an item that its elements do not fill")
    return position


def _skip_elements(content: bytes, position: int, end: int, implicit: bool, order: str) -> int:
    last = -1
    while position < end:
        tag, length = _tag_and_length(content, position, order)
        if tag == ITEM_END:
            return position + 8
        if tag <= last or end > len(content):
            raise ValueError("elements out of order")
        last = tag
        position += 8
        if not implicit:
            vr = content[position - 4 : position - 2].decode("ascii", "replace")
            length = struct.unpack_from(f"{order}H", content, position - 2)[0]
            if not vr.isalpha() or not vr.isupper():
                raise ValueError("no value representation")
            if vr in LONG_LENGTHS:
                (length,) = struct.unpack_from(f"{order}I", content, position)
                position += 4
        position = (
            _skip_items(content, position, end, implicit, order) if length == UNDEFINED_LENGTH else position + length
        )
        if position > end:
            raise ValueError("a value beyond its item")
    return position
