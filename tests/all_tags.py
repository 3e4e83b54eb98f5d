"""One DICOM object with a marked value under every tag of the dictionary, in every encoding that writers get wrong."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection

from pydicom.datadict import DicomDictionary
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
NUMBERS = {"AT": 4, "FD": 8, "FL": 4, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
# What makes the object an image of 4 × 4 pixels that can be read; it holds nothing of a patient.
IMAGE = {
    0x00080016: CTImageStorage.encode(), 0x00280002: struct.pack("<H", 1), 0x00280004: b"MONOCHROME2 ",
    0x00280008: b"1 ", 0x00280010: struct.pack("<H", 4), 0x00280011: struct.pack("<H", 4),
    0x00280100: struct.pack("<H", 16), 0x00280101: struct.pack("<H", 16), 0x00280102: struct.pack("<H", 15),
    0x00280103: struct.pack("<H", 0), 0x00080060: b"CT", 0x00280301: b"NO", 0x7FE00010: bytes(range(32)),
}  # fmt: skip
# Left out: other pixels than these, and what would make the image another kind of image.
ABSENT = {0x7FE00008, 0x7FE00009, 0x7FE00001, 0x7FE00002, 0x00080005, 0x00080064, 0x00281201, 0x00281202, 0x00281203}
BIRTH = ("19470713", "1947.07.13")


def mark(tag: int) -> str:
    """A text that stands nowhere else; capital letters and digits, as coded strings allow."""
    return f"QQ{tag:08X}ZZ"


def tags() -> list[int]:
    """Every tag that a data set can have; file meta information and network commands stand elsewhere."""
    return [
        tag for tag in sorted(DicomDictionary) if tag >> 16 not in {0, 2} and tag not in ABSENT and tag < 0xFFFE0000
    ]


def vr_of(tag: int) -> str:
    """The dictionary's value representation, the first where there are several."""
    return DicomDictionary[tag][0].split(" or ")[0].replace("NONE", "UN")


def value_of(tag: int, implicit: bool) -> bytes:
    """The marked value of a tag, in its own representation where that can hold a mark."""
    vr = vr_of(tag)
    if tag in IMAGE:
        return IMAGE[tag]
    if vr == "SQ":
        return item(nested(tag), implicit)
    if vr in NUMBERS:
        return bytes(NUMBERS[vr])
    texts = {"UI": f"1.2.99.{tag}", "DA": BIRTH[tag % 2], "DT": "19470713101010.5+0100", "TM": "101010.5", "DS": "1.5",
             "IS": "7", "AS": "047Y", "PN": f"{mark(tag)}^A"}  # fmt: skip
    return texts.get(vr, mark(tag)).encode()


def nested(tag: int) -> list[tuple[int, str, bytes]]:
    """Elements of an item: what must go wherever it stands, and what may stay."""
    name, text = f"{mark(tag)}^N".encode(), f"QC{tag:08X}CZ".encode()
    return [
        (0x00080070, "LO", f"QK{tag:08X}KZ".encode()), (0x00091001, "LO", text), (0x00100010, "PN", name),
        (0x00100030, "DA", b"19470713"), (0x00204000, "LT", text), (0x7FE00010, "OW", text),
    ]  # fmt: skip


def element(tag: int, vr: str, value: bytes, implicit: bool = False) -> bytes:
    value += b"\0" * (len(value) % 2) if vr in {"UI", "OB", "OW", "UN"} else b" " * (len(value) % 2)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if implicit:
        return head + struct.pack("<I", len(value)) + value
    if vr in LONG:
        return head + vr.encode() + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + vr.encode() + struct.pack("<H", len(value)) + value


def item(elements: list[tuple[int, str, bytes]], implicit: bool) -> bytes:
    content = b"".join(element(*one, implicit) for one in elements)
    return b"\xfe\xff\x00\xe0" + struct.pack("<I", len(content)) + content


def whole_file(
    vr_for: Callable[[int], str] = vr_of,
    *,
    implicit: bool = False,
    implicit_items: bool | None = None,
    left_out: Collection[int] = (),
) -> bytes:
    """A file of every tag, each under the representation that ``vr_for`` names, with items in an encoding of theirs."""
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta = element(0x00020010, "UI", syntax.encode()) + element(0x00020016, "AE", b"QQSOURCEZZ")
    meta = element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    inner = implicit if implicit_items is None else implicit_items
    parts = {tag: element(tag, vr_for(tag), value_of(tag, inner), implicit) for tag in tags() if tag not in left_out}
    hidden = ((0x00090010, "LO", b"QQOWNERZZ"), (0x00091001, "UN", b"QQPRIVATEZZ"), (0x60000022, "LO", b"QQOVERLAYZZ"),
              (0x50003000, "OW", b"QQCURVEZZ."), (0x00085555, "LO", b"QQUNKNOWNZZ"),
              (0x7FE10010, "OB", b"QQPASTZZ"))  # fmt: skip
    parts |= {tag: element(tag, vr, value, implicit) for tag, vr, value in hidden}
    return b"QQPREAMBLEZZ".ljust(128) + b"DICM" + meta + b"".join(parts[tag] for tag in sorted(parts))


def marks(content: bytes) -> set[int]:
    """The tags whose marks stand in a file."""
    found = re.findall(rb"QQ([0-9A-F]{8})ZZ|1\.2\.99\.(\d+)", content)
    return {int(text, 16) if text else int(uid) for text, uid in found} & set(tags())
