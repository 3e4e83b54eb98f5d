"""Opening a DICOM file: what is one, what is refused before anything of it is believed, and one error boundary."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset, read_file_meta_info, read_partial
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hounsfield.errors import ImageError
from hounsfield.images.dicom_header import Header, UnreadableElementError
from hounsfield.images.dicom_layout import read_layout
from hounsfield.images.dicom_tags import SPECIFIC_TAGS
from hounsfield.images.files import GZIP_MAGIC, open_file, read_whole
from hounsfield.images.formats import DICOM_MAGIC, DICOM_MAGIC_OFFSET, is_dicom
from hounsfield.images.limits import SPARE_BYTES

# Values of more bytes are not copied out of the file's content.
LONG_VALUE = 2**14
RAW_DEFLATE = -zlib.MAX_WBITS
GZIP = zlib.MAX_WBITS + 16
META_GROUP = b"\x02\x00"
# Value representations whose length takes four bytes (PS3.5 section 7.1.2).
LONG_KINDS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
DEFLATED_MARK = DeflatedExplicitVRLittleEndian.encode()


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn whatever damaged input makes pydicom and its decoders raise into one ``ImageError``.

    pydicom's warnings are silenced here: it also logs each of them under its own name.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableElementError as error:
        raise ImageError(f"{path}: {error}. Correct the element, or export the file again from its source.") from error
    except ImageError:
        raise
    # Deliberately broad: on damaged input pydicom and the codecs raise dozens of kinds, RecursionError and
    # MemoryError among them. Their text stays out of the message because it may quote the file's values.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError(f"{path} cannot be read: {error.strerror}. Check the path and its rights.") from error
        raise ImageError(
            f"{path} is damaged or breaks the DICOM standard in a way that cannot be read ({type(error).__name__}): "
            "expected an intact DICOM image. Export it again from its source."
        ) from error


def open_dicom(path: Path, max_pixels: int) -> Header:
    """Parse a whole file, pixels included but not decoded.

    Raises:
        ImageError: the file is unreadable, too large for ``max_pixels``, or no DICOM.
    """
    with refusing(path):
        content, _ = read_content(path, max_pixels)
        # Positions in an inflated data set are not positions in the file, but they are positions in ``content``.
        dataset = read_partial(io.BytesIO(content), defer_size=LONG_VALUE, force=True, specific_tags=SPECIFIC_TAGS)
        return Header(_with_transfer_syntax(dataset), content)


def read_content(path: Path, max_pixels: int) -> tuple[bytes, UID | None]:
    """The bytes of a DICOM file, a gzipped file and a deflated data set inflated.

    Returns:
        The file's content, and the deflated transfer syntax where it had that. The content then says that its syntax
        is explicit little endian, which is what it became, so that nobody inflates it again.

    Raises:
        ImageError: the file is too large for ``max_pixels``, no DICOM, or inflates to more than its header explains.
    """
    content = read_whole(path, max_pixels)
    is_gzipped = content.startswith(GZIP_MAGIC)
    if is_gzipped:
        content = _inflated(content, path, max_pixels, GZIP)
    _check_kind(content, path)
    if not (_names_deflation(content) if is_gzipped else _is_deflated(content, path)):
        return content, None
    start = _meta_end(content)
    if DEFLATED_MARK not in content[:start]:
        raise ImageError(
            f"{path} is damaged: its meta information cannot be followed. Export it again from its source."
        )
    meta = content[:start].replace(DEFLATED_MARK, ExplicitVRLittleEndian.encode().ljust(len(DEFLATED_MARK), b"\0"))
    return meta + _inflated(content[start:], path, max_pixels, RAW_DEFLATE), DeflatedExplicitVRLittleEndian


def open_header(path: Path, max_pixels: int) -> Header:
    """Parse a file up to its pixels, which are left on the disk.

    Raises:
        ImageError: the file is unreadable or no DICOM.
    """
    with refusing(path), open_file(path) as stream:
        head = stream.read(2**12)
        if head.startswith(GZIP_MAGIC):
            return open_dicom(path, max_pixels)
        _check_kind(head, path)
        if DEFLATED_MARK in head and _is_deflated(head, path):
            return open_dicom(path, max_pixels)
        stream.seek(0)
        dataset = read_partial(stream, _is_pixel_element, force=True, specific_tags=SPECIFIC_TAGS)
        return Header(_with_transfer_syntax(dataset))


def _check_kind(content: bytes, path: Path) -> None:
    if not is_dicom(content[: DICOM_MAGIC_OFFSET + 4]):
        raise ImageError(
            f"{path} is no DICOM file: neither the mark 'DICM' nor a data set stands at its beginning. If it is of "
            "another format, give it that format's suffix."
        )


def _is_deflated(content: bytes, path: Path) -> bool:
    """Whether pydicom would inflate the data set, at once and whatever its size."""
    if not _names_deflation(content):
        return False
    return bool(read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian)


def _names_deflation(content: bytes) -> bool:
    """Whether the deflated syntax is named where a lenient parser could take it for the file's own."""
    return content.find(DEFLATED_MARK, 0, max(_meta_end(content), 2**16)) >= 0


def _meta_end(content: bytes) -> int:
    """Where the meta information ends: its elements are explicit, little-endian and of group 2 (PS3.10 section 7.1)."""
    position = DICOM_MAGIC_OFFSET + 4 if content.startswith(DICOM_MAGIC, DICOM_MAGIC_OFFSET) else 0
    while content[position : position + 2] == META_GROUP:
        if content[position + 4 : position + 6] in LONG_KINDS:
            position += 12 + int.from_bytes(content[position + 8 : position + 12], "little")
        else:
            position += 8 + int.from_bytes(content[position + 6 : position + 8], "little")
    return position


def inflate(deflated: bytes, path: Path, limit: int) -> bytes:
    """Inflate a raw deflate stream (RFC 1951), unless it grows beyond ``limit`` bytes."""
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = stream.decompress(deflated, limit + 1)
    if len(inflated) > limit:
        raise ImageError(
            f"{path} inflates to more than {limit} bytes, more than its header explains. Raise the limit with "
            "--max-pixels if the file is to be trusted."
        )
    if not stream.eof:
        raise ImageError(f"{path} is truncated: its deflated data has no end. Copy it again from its source.")
    return inflated


def _inflated(deflated: bytes, path: Path, max_pixels: int, kind: int) -> bytes:
    """Inflate a data set or a whole file up to what its rows, columns, frames and bits explain, and ``SPARE_BYTES``."""
    stream = zlib.decompressobj(kind)
    inflated = stream.decompress(deflated, SPARE_BYTES)
    if not stream.eof and len(inflated) == SPARE_BYTES:
        explained = _explained_bytes(inflated, path, max_pixels, is_file=kind == GZIP)
        rest = stream.decompress(stream.unconsumed_tail, explained + 1)
        if len(rest) > explained:
            raise ImageError(
                f"{path} inflates to more than {SPARE_BYTES + explained} bytes, and its header explains "
                f"{explained} of pixels. Export it again from its source."
            )
        inflated += rest
    if not stream.eof:
        raise ImageError(f"{path} is truncated: its deflated data has no end. Copy it again from its source.")
    return inflated


def _explained_bytes(beginning: bytes, path: Path, max_pixels: int, *, is_file: bool) -> int:
    """How many bytes of pixels the beginning of a file, or of an explicit little-endian data set, declares."""
    stream = io.BytesIO(beginning)
    if is_file:
        if _names_deflation(beginning):
            # A file that is inflated twice is none that anybody writes: the second time is left its share.
            return 0
        header = read_partial(stream, _is_pixel_element, force=True, specific_tags=SPECIFIC_TAGS)
    else:
        header = read_dataset(stream, False, True, stop_when=_is_pixel_element, specific_tags=SPECIFIC_TAGS)
    if stream.tell() >= len(beginning):
        raise ImageError(
            f"{path} inflates to more than {len(beginning)} bytes before its pixels, which no image needs. Export it "
            "again from its source."
        )
    layout = read_layout(Header(header), path, max_pixels)
    return layout.count * layout.bits_allocated // 8 + 1


def _is_pixel_element(tag: BaseTag, *_: object) -> bool:
    return int(tag) >> 16 == 0x7FE0


def _with_transfer_syntax(dataset: FileDataset) -> Dataset:
    """Name the transfer syntax that pydicom found out, where the file itself names none."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little_endian = dataset.original_encoding[:2]
        if is_implicit:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        else:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
    return dataset
