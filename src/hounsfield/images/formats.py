"""What the first bytes of a file say of its format."""

from __future__ import annotations

import zlib

DICOM_MAGIC = b"DICM"
DICOM_MAGIC_OFFSET = 128
# First groups of a DICOM data set without preamble: file meta, identification; the latter also in big endian.
BARE_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
# The first elements of a data set are short; a larger length means that these bytes are something else.
BARE_LENGTH = 256

# Classic and Big, of both byte orders.
TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# The signature box of a JP2 file, and the codestream by itself (ITU-T T.800, I.5.1 and A.4.1).
JPEG_2000_MAGICS = (b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51")

# (offset, bytes there) -> suffix of the format.
MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (DICOM_MAGIC_OFFSET, DICOM_MAGIC, ".dcm"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    *((0, magic, ".tif") for magic in TIFF_MAGICS),
    *((0, magic, ".jp2") for magic in JPEG_2000_MAGICS),
    (8, b"WEBPVP8", ".webp"),
    (0, b"\x93NUMPY", ".npy"),
    (344, b"n+1\x00", ".nii"),
    (4, b"n+2\x00", ".nii"),
    (344, b"ni1\x00", ".hdr"),
    (4, b"ni2\x00", ".hdr"),
    (0, b"NRRD000", ".nrrd"),
    (0, b"ObjectType", ".mha"),
)
SNIFFED_BYTES = 352


def sniffed_suffix(head: bytes) -> str | None:
    """The usual suffix of the format that a file's first ``SNIFFED_BYTES`` belong to."""
    if head.startswith(b"\x1f\x8b"):
        inner = sniffed_suffix(_first_inflated(head))
        return f"{inner}.gz" if inner in {".dcm", ".nii"} else None
    for offset, magic, suffix in MAGICS:
        if head.startswith(magic, offset):
            return suffix
    return ".dcm" if is_dicom(head) else None


def _first_inflated(head: bytes) -> bytes:
    """The first bytes of what is gzipped; empty where it is damaged."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS + 16).decompress(head, SNIFFED_BYTES)
    except zlib.error:
        return b""


def is_dicom(head: bytes) -> bool:
    """Whether the first bytes (at least 132 of them) begin a DICOM file, with the preamble or without it."""
    if head.startswith(DICOM_MAGIC, DICOM_MAGIC_OFFSET):
        return True
    if len(head) < 16 or head[:2] not in BARE_GROUPS:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") < BARE_LENGTH
