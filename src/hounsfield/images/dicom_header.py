"""Typed access to the data elements of a DICOM data set, without converting the rest of it."""

from __future__ import annotations

import math
import struct
from collections.abc import Set
from functools import cache
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from hounsfield.errors import ImageError
from hounsfield.images.dicom_tags import PRIVATE, TAGS, described, private_places

# Compressed pixels end with a delimiter instead (PS3.5 section A.4).
UNDEFINED_LENGTH = 2**32 - 1
BINARY_FORMATS = {
    "FD": ("d", 8),
    "FL": ("f", 4),
    "US": ("H", 2),
    "SS": ("h", 2),
    "UL": ("I", 4),
    "SL": ("i", 4),
}


# Nothing stands here: private blocks begin at 0x10.
NOWHERE = 0x00190000


class UnreadableElementError(ImageError):
    """An element is there and its value is none that it may have; the message is a sentence about the element."""

    def __init__(self, keyword: str, expected: str) -> None:
        super().__init__(f"its {described(keyword)} is there and cannot be read: expected {expected}")


class Header:
    """Typed access to the elements of a data set; a missing or empty value is ``None`` or empty.

    A number that is there and cannot be read is never taken for a missing one: it raises ``UnreadableElementError``,
    to which ``dicom_file.refusing`` adds the name of the file. Decimal commas are read.

    Values are decoded from their bytes here because pydicom's general conversion would take longer than reading the
    pixels; what this fast way does not know is left to pydicom.
    """

    __slots__ = ("_elements", "_syntax", "content", "dataset")

    def __init__(self, dataset: Dataset, content: bytes = b"") -> None:
        self.dataset = dataset
        self.content = content
        self._syntax: UID | None = None
        # By plain integers, as in ``TAGS``; raw elements stay raw here when the data set converts them.
        self._elements: dict[int, Any] = dict(zip(map(int, dataset.keys()), dataset.values(), strict=True))

    def __contains__(self, keyword: str) -> bool:
        return self._tag(keyword) in self._elements

    @property
    def transfer_syntax(self) -> UID:
        """The one that the file names or, where it names none, the one that it was found to be written in."""
        if self._syntax is None:
            self._syntax = UID(self.dataset.file_meta.TransferSyntaxUID)
        return self._syntax

    def put(self, keyword: str, value: Any) -> None:
        """Give an element a value, which need not have been there."""
        setattr(self.dataset, keyword, value)
        self._elements[TAGS[keyword]] = self.dataset[TAGS[keyword]]

    def has_any(self, tags: Set[int]) -> bool:
        """Whether one of these elements is there."""
        return not tags.isdisjoint(self._elements)

    def raw(self, keyword: str) -> bytes | memoryview | None:
        """The bytes of a value as they stand in the file, or ``None``; long ones are a view of the file's content."""
        element = self._element(self._tag(keyword), keep_deferred=bool(self.content))
        if self.content and element is not None and element.value is None and element.length:
            if element.length == UNDEFINED_LENGTH:
                value = self.dataset[TAGS[keyword]].value
                return value if isinstance(value, bytes) else None
            return memoryview(self.content)[element.value_tell : element.value_tell + element.length]
        return element.value if element is not None and isinstance(element.value, bytes) else None

    def has_undefined_length(self, keyword: str) -> bool:
        """Whether the element ends with a delimiter, as compressed pixels do."""
        element = self._elements.get(TAGS[keyword])
        length = getattr(element, "length", None)
        return bool(length == UNDEFINED_LENGTH or getattr(element, "is_undefined_length", False))

    def value(self, keyword: str) -> Any:
        """A value as pydicom converts it, or ``None``."""
        tag = TAGS[keyword]
        return self.dataset[tag].value if tag in self._elements else None

    def text(self, keyword: str) -> str | None:
        """The whole value as text, several values joined by a backslash."""
        element = self._element(TAGS[keyword])
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
        """Every value of an element of numbers; empty where the element is.

        Raises:
            UnreadableElementError: one of them is no finite number.
        """
        element = self._element(self._tag(keyword))
        if element is None or element.value is None or element.value == "":
            return ()
        try:
            numbers = _numbers(self._parts(keyword, element))
        except (ValueError, TypeError, struct.error):
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            raise UnreadableElementError(keyword, "finite numbers")
        return numbers

    def vector(self, keyword: str, length: int) -> tuple[float, ...] | None:
        """As ``decimals`` for an element of a known number of values; ``None`` where it is empty.

        Raises:
            UnreadableElementError: also where there are fewer or more.
        """
        numbers = self.decimals(keyword)
        if numbers and len(numbers) != length:
            raise UnreadableElementError(keyword, f"{length} numbers")
        return numbers or None

    def decimal(self, keyword: str) -> float | None:
        """The first value of ``decimals``."""
        numbers = self.decimals(keyword)
        return numbers[0] if numbers else None

    def integer(self, keyword: str) -> int | None:
        """The value of a US, SS or IS element.

        Raises:
            UnreadableElementError: it is no whole number.
        """
        element = self._element(self._tag(keyword))
        if element is None:
            return None
        value = element.value
        if isinstance(value, bytes) and len(value) == 2 and _representation(keyword) == element.VR == "US":
            return int.from_bytes(value, "little" if element.is_little_endian else "big")
        number = self.decimal(keyword)
        if number is None:
            return None
        if not number.is_integer():
            raise UnreadableElementError(keyword, "a whole number")
        return int(number)

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence; empty where there is none."""
        tag = self._tag(keyword)
        if tag not in self._elements:
            return []
        value = self.dataset[tag].value
        return [Header(item) for item in value] if value and isinstance(value[0], Dataset) else []

    def item(self, keyword: str) -> Header | None:
        """The first item of a sequence."""
        items = self.items(keyword)
        return items[0] if items else None

    def _element(self, tag: int, *, keep_deferred: bool = False) -> Any:
        """An element, raw as it is in the file, or ``None``."""
        element = self._elements.get(tag)
        if element is not None and element.value is None and not keep_deferred:
            # Empty, or left in the file: pydicom knows.
            return self.dataset.get_item(tag)
        return element

    def _tag(self, keyword: str) -> int:
        """The number of an element; of a private one, that in the block that its creator has reserved in this file."""
        tag = TAGS.get(keyword)
        if tag is not None:
            return tag
        private = PRIVATE[keyword]
        for block, tag in private_places(keyword):
            creator = self._element(block)
            if creator is not None and _text_of(creator.value).startswith(private.creator):
                return tag
        return NOWHERE

    def _parts(self, keyword: str, element: Any) -> Any:
        value = element.value
        if not isinstance(value, bytes):
            return value if isinstance(value, MultiValue | list | tuple) else (value,)
        representation = _representation(keyword) if element.VR in {None, "UN"} else element.VR
        if representation in BINARY_FORMATS:
            code, size = BINARY_FORMATS[representation]
            order = "<" if getattr(element, "is_little_endian", True) else ">"
            return struct.unpack(f"{order}{len(value) // size}{code}", value)
        if b"_" in value:
            # Python takes "1_25" for 125.
            raise ValueError("a number with an underline")
        if representation in {"DS", "IS"}:
            text = value.strip(b" \x00")
            return text.split(b"\\") if text else ()
        value = self.dataset[self._tag(keyword)].value
        return value if isinstance(value, MultiValue | list | tuple) else (value,)


def _numbers(values: Any) -> tuple[float, ...]:
    try:
        return tuple(map(float, values))
    except ValueError:
        # Rare, and slower by far: decimal commas, and what pads a number.
        return tuple(map(_number, values))


def _number(value: Any) -> float:
    """A number, of a text also with a decimal comma."""
    if isinstance(value, bytes):
        value = value.strip(b" \x00")
        # Where a point stands as well, the comma separates thousands, or something else is meant.
        return float(value.replace(b",", b".") if b"." not in value else value)
    return float(value.replace(",", ".") if isinstance(value, str) and "." not in value else value)


@cache
def _representation(keyword: str) -> str:
    """How the dictionary stores an element, for files that do not say so."""
    return PRIVATE[keyword].representation if keyword in PRIVATE else dictionary_VR(TAGS[keyword])


def _text_of(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
