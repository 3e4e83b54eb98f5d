"""Names and colours of the values of a label map, kept in files beside the pixels.

NIfTI has an extension for them (code 30, Caret's, https://nifti.nimh.nih.gov/nifti-1/documentation/faq): XML with a
label table, as TotalSegmentator writes it. PNG has a palette for the colours and a text for the names.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

Labels = tuple[tuple[int, str], ...]

# Red, green and blue of the values from 1 on, repeated (the colour-blind safe set of Okabe and Ito, black set aside).
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
# Of Caret, in the list of NIfTI's extensions.
EXTENSION = 30
# No table of names is larger.
MAX_BYTES = 2**20


def colour_of(value: int) -> tuple[int, int, int]:
    """Red, green and blue of a value of a label map; black for the background."""
    return COLOURS[(value - 1) % len(COLOURS)] if value else (0, 0, 0)


def nifti_extension(labels: Sequence[tuple[int, str]]) -> bytes:
    """The extension that names the values of a label map, with its length and code, padded to 16 bytes."""
    rows = "".join(
        f'<Label Key="{value}" Red="{red / 255:.4f}" Green="{green / 255:.4f}" Blue="{blue / 255:.4f}" Alpha="1">'
        f"{escape(name)}</Label>"
        for value, name in labels
        for red, green, blue in [colour_of(value)]
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?><CaretExtension><Date><![CDATA[]]></Date>'
        f'<VolumeInformation Index="0"><LabelTable>{rows}</LabelTable><StudyMetaDataLinkSet></StudyMetaDataLinkSet>'
        "<VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation></CaretExtension>"
    ).encode()
    size = 8 + len(text) + (-(8 + len(text)) % 16)
    return struct.pack("<ii", size, EXTENSION) + text.ljust(size - 8, b"\0")


def labels_of_extensions(content: bytes, order: str = "<") -> Labels:
    """The names in the extensions behind a NIfTI header; empty where there are none that can be read.

    Args:
        content: from behind the four bytes that say that extensions follow, up to the voxels.
        order: ``<`` or ``>``, of the header's numbers.
    """
    position = 0
    while position + 8 <= len(content):
        size, code = struct.unpack_from(f"{order}ii", content, position)
        if size < 8 or size > len(content) - position:
            break
        # TotalSegmentator gives its table the code 0.
        if code in {0, EXTENSION} and b"<LabelTable>" in content[position : position + size]:
            return _of_xml(content[position + 8 : position + size].rstrip(b"\0"))
        position += size
    return ()


def _of_xml(text: bytes) -> Labels:
    if len(text) > MAX_BYTES or b"<!DOCTYPE" in text:
        return ()
    try:
        table = ET.fromstring(text).find(".//LabelTable")  # noqa: S314 - no document type, of bounded length
        found = {int(item.get("Key", "")): (item.text or "").strip() for item in table or ()}
    except (ET.ParseError, ValueError):
        return ()
    return tuple(sorted((value, name) for value, name in found.items() if value > 0 and name))


def text_of(labels: Sequence[tuple[int, str]]) -> str:
    """The names as a line of text."""
    return json.dumps({str(value): name for value, name in labels})


def labels_of_text(text: str) -> Labels:
    """The inverse of :func:`text_of`; empty for any other text."""
    try:
        return tuple(sorted((int(value), str(name)) for value, name in json.loads(text).items() if int(value) > 0))
    except (ValueError, AttributeError):
        return ()
