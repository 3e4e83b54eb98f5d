"""The few elements that rules and lists need of a DICOM instance, read without its pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pydicom
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from hounsfield.version import __version__

# What rules and lists need of an image.
ATTRIBUTES = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "SeriesNumber",
    "ViewPosition",
    "ImageLaterality",
)
IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TAGS: list[Any] = [Tag(name) for name in (*IDENTIFIERS, *ATTRIBUTES, "SpecificCharacterSet")]
# Elements stand in ascending order (PS3.5, 7.1), so that nothing behind the last of these is needed.
_LAST = max(_TAGS)
# Bytes of a deflated data set within which these elements lie; how far all of it would inflate, nobody knows.
_INFLATED = 2**24
# PS3.10, 7.1: preamble and prefix, and the element with the length of the meta information behind it.
PREAMBLE = bytes(128) + b"DICM"
_GROUP_LENGTH = struct.Struct("<HH2sHI")
_LONG = frozenset({b"OB"})
# Of the writer of the meta information: a UID derived from a UUID (PS3.5, B.2), and a name of at most 16 characters.
IMPLEMENTATION_UID = "2.25.245389131033375076283139563693883022169"
IMPLEMENTATION = f"HOUNSFIELD_{__version__}"[:16]
# Implicit VR, little endian, in the data set; the second one is a private syntax of GE.
_IMPLICIT = frozenset({ImplicitVRLittleEndian, "1.2.840.113619.5.2"})


@dataclass(frozen=True)
class Header:
    """What is known of an instance before its pixels.

    Attributes:
        uid: SOPInstanceUID of the meta information, "" where it has none.
        transfer_syntax: of the data set.
        start: where the data set begins in the file.
        values: identifiers and attributes by keyword, "" where there is none.
    """

    uid: str
    transfer_syntax: str
    start: int
    values: Mapping[str, str]


def read_header(content: bytes) -> Header:
    """Read the header of a DICOM file.

    Raises:
        Exception: the file is damaged; pydicom raises many kinds.
    """
    start = _start(content)
    meta = pydicom.dcmread(BytesIO(content[:start] if start else content), stop_before_pixels=True, specific_tags=[])
    if not start:
        # Without the length of the meta information only the elements themselves tell where it ends.
        start = 132 + _meta_bytes(content)
    syntax = str(meta.file_meta.TransferSyntaxUID)
    uid = str(meta.file_meta.get("MediaStorageSOPInstanceUID", ""))
    return Header(uid, syntax, start, read_values(content, start, syntax))


def read_values(content: bytes, start: int, syntax: str) -> dict[str, str]:
    """Identifiers and attributes of the data set that begins somewhere in a file, "" where there is none.

    Raises:
        Exception: it is damaged; pydicom raises many kinds.
    """
    stream = BytesIO(content)
    stream.seek(start)
    if syntax == DeflatedExplicitVRLittleEndian:
        stream = BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(memoryview(content)[start:], _INFLATED))
    found = read_dataset(
        stream,
        is_implicit_VR=syntax in _IMPLICIT,
        is_little_endian=syntax != ExplicitVRBigEndian,
        stop_when=lambda tag, _vr, _length: tag > _LAST,
        specific_tags=_TAGS,
    )
    return {name: str(found.get(name, "")) for name in (*IDENTIFIERS, *ATTRIBUTES)}


def meta_information(sop_class: str, uid: str, syntax: str) -> bytes:
    """Preamble and meta information of a file for a data set that came without (PS3.10, 7.1)."""
    elements = b"".join(
        _element(number, representation, value)
        for number, representation, value in (
            (0x0001, b"OB", b"\0\1"),
            (0x0002, b"UI", sop_class.encode()),
            (0x0003, b"UI", uid.encode()),
            (0x0010, b"UI", syntax.encode()),
            (0x0012, b"UI", IMPLEMENTATION_UID.encode()),
            (0x0013, b"SH", IMPLEMENTATION.encode()),
        )
    )
    return PREAMBLE + _GROUP_LENGTH.pack(2, 0, b"UL", 4, len(elements)) + elements


def _element(number: int, representation: bytes, value: bytes) -> bytes:
    """One element of the meta information: explicit VR, little endian."""
    value += (b" " if representation == b"SH" else b"\0") * (len(value) % 2)
    if representation in _LONG:
        return struct.pack("<HH2sHI", 2, number, representation, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, representation, len(value)) + value


def _start(content: bytes) -> int:
    """Where the data set begins; 0 where the first element does not tell."""
    if content[128:132] != b"DICM" or len(content) < 144:
        return 0
    group, element, representation, size, length = _GROUP_LENGTH.unpack_from(content, 132)
    is_told = (group, element, representation, size) == (2, 0, b"UL", 4)
    return min(144 + length, len(content)) if is_told else 0


def _meta_bytes(content: bytes) -> int:
    """Bytes of the meta information, of which the first element does not tell them."""
    stream = BytesIO(memoryview(content)[132:])
    read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag.group > 2)
    return stream.tell()
