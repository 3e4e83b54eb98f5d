"""What the headers of JPEG and JPEG 2000 pictures declare, read without decoding them."""

from __future__ import annotations

import struct

# Markers that start a frame and so carry its size (ITU-T T.81, table B.1), without DHT, JPG and DAC.
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length after them.
BARE_MARKERS = frozenset(range(0xD0, 0xD9)) | {0x01}
START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: SOC and SIZ (ITU-T T.800, A.4.1 and A.5.1)
END_OF_IMAGE = b"\xff\xd9"  # the same marker in all members of the family


def jpeg_size(content: bytes) -> tuple[int, int, int]:
    """(rows, columns, samples) of the frame header (ITU-T T.81, B.2.2), where the end of the image follows it.

    A preview inside the header has an end of its own, which is not taken for that of the image.

    Raises:
        ValueError: the picture has no end or no frame header.
        IndexError: it ends before its frame header.
        struct.error: it ends within its frame header.
    """
    position = 2
    while True:
        if content[position] != 0xFF:
            raise ValueError("its markers are out of place")
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in BARE_MARKERS:
            position += 2
        elif marker in FRAME_MARKERS:
            rows, columns, samples = struct.unpack_from(">HHB", content, position + 5)
            if content.rfind(END_OF_IMAGE) < position:
                raise ValueError("it ends before its end-of-image marker")
            return rows, columns, samples
        else:
            position += 2 + max(2, struct.unpack_from(">H", content, position + 2)[0])


def codestream_size(content: bytes) -> tuple[int, int, int]:
    """(rows, columns, samples) of a JPEG 2000 codestream (ITU-T T.800 A.5.1).

    Raises:
        ValueError: it is no codestream.
        struct.error: it ends within its header.
    """
    if not content.startswith(START_OF_CODESTREAM):
        raise ValueError("it holds no JPEG 2000 codestream")
    right, bottom, left, top = struct.unpack_from(">IIII", content, 8)
    (samples,) = struct.unpack_from(">H", content, 40)
    return bottom - top, right - left, samples
