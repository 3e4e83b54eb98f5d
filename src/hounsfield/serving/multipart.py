"""The DICOM files in the body of a STOW-RS request, one after another as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import HTTPException
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

CUT = "The body is cut, or no multipart body."


class _Parts:
    """Takes in what a parser finds."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        self.is_whole = False
        self._content = bytearray()
        self._name = self._value = b""

    def begin(self) -> None:
        self._content = bytearray()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        name, value, self._name, self._value = self._name.lower(), self._value, b"", b""
        if name == b"content-type" and parse_options_header(value)[0] != b"application/dicom":
            raise HTTPException(415, "Expected parts of the type application/dicom.")

    def data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def end(self) -> None:
        self.done.append(bytes(self._content))

    def end_all(self) -> None:
        self.is_whole = True


async def read_parts(content_type: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The parts of a body of ``multipart/related``; no more than one of them is held.

    Args:
        content_type: of the request, with the boundary.
        chunks: of the body.

    Raises:
        HTTPException: 415 for another type, 400 for a body that is cut or malformed.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/related" or not options.get(b"boundary"):
        raise HTTPException(415, 'Expected multipart/related; type="application/dicom" with a boundary.')
    parts = _Parts()
    parser = MultipartParser(
        options[b"boundary"],
        {
            "on_part_begin": parts.begin,
            "on_part_data": parts.data,
            "on_part_end": parts.end,
            "on_end": parts.end_all,
            "on_header_field": parts.header_name,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
        },
    )
    try:
        async for chunk in chunks:
            parser.write(chunk)
            while parts.done:
                yield parts.done.pop(0)
        parser.finalize()
    except MultipartParseError as error:
        raise HTTPException(400, CUT) from error
    # The parser does not mind a body that ends before its last boundary.
    if not parts.is_whole:
        raise HTTPException(400, CUT)
