"""How large the pixels of a TIFF file are, and how many planes it describes, by those who state it in its description.

The resolution of the standard's own tags is one of printing unless the software that wrote them says otherwise.
"""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

from tifffile import TiffFile, TiffPage, TiffPageSeries

# Units of length -> millimetres: those of OME's UnitsLength that occur, and those that ImageJ writes.
MILLIMETRES = {
    "nm": 1e-6,
    "µm": 1e-3,
    "\u03bcm": 1e-3,
    "\\u00B5m": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "mm": 1.0,
    "cm": 10.0,
    "m": 1000.0,
    "in": 25.4,
    "inch": 25.4,
}
MICRONS_PER_PIXEL = re.compile(r"\|\s*MPP\s*=\s*([0-9.]+)")
CENTIMETRE = 3
# Of a number in a description; more of them only make it larger than anything.
MOST_DIGITS = 18

# Millimetres between slices, rows and columns, as far as they are stated.
Sizes = tuple[float | None, float | None, float | None]


def declared_planes(description: str, page_pixels: int) -> int:
    """How many planes a description of OME or ImageJ declares, or points to; 0 for others.

    Args:
        description: of the first page.
        page_pixels: of the largest page; a plane that is larger counts for as many as it would fill.
    """
    if description.rstrip().endswith("OME>"):
        elements = list(ET.fromstring(description).iter())  # noqa: S314 - expat limits how far entities may grow
        return max((_ome_planes(element, page_pixels) for element in elements), default=0)
    if description.startswith("ImageJ="):
        fields = dict(re.findall(r"^(\w+)=(.*)$", description, re.MULTILINE))
        axes = math.prod(_positive(fields.get(axis)) for axis in ("slices", "channels", "frames"))
        return max(axes, _positive(fields.get("images")))
    return 0


def _ome_planes(element: ET.Element, page_pixels: int) -> int:
    """The planes that an element of OME-XML declares: of an image, of a block of pages, or along an axis in an axis."""
    name = element.tag.rpartition("}")[2]
    if name == "Pixels":
        planes = math.prod(_positive(element.get(axis)) for axis in ("SizeZ", "SizeC", "SizeT"))
        plane = _positive(element.get("SizeX")) * _positive(element.get("SizeY"))
        return planes * max(1, plane // max(1, page_pixels))
    if name == "TiffData":
        return max(map(_positive, element.attrib.values()), default=0)
    if name.startswith("ModuloAlong") and "Start" in element.attrib:
        start, end, step = (float(element.get(key, "1")) for key in ("Start", "End", "Step"))
        return int(abs(end - start) / abs(step)) + 1
    return 0


def pixel_size(tiff: TiffFile, series: TiffPageSeries, level: TiffPageSeries, rank: int) -> tuple[float, ...] | None:
    """Millimetres from one sample to the next, or ``None`` where that is not stated for each axis.

    Args:
        tiff: the file.
        series: at full size.
        level: of the pyramid that is read.
        rank: 2 for (row, column), 3 for (slice, row, column).
    """
    page = series.keyframe
    sizes: Sizes | None
    if series.kind == "ome":
        sizes = _ome_size(tiff, series)
    elif series.kind == "imagej":
        sizes = _imagej_size(tiff, page)
    elif series.kind == "svs":
        found = MICRONS_PER_PIXEL.search(page.description)
        sizes = (None, float(found[1]) / 1000, float(found[1]) / 1000) if found else None
    elif series.kind == "ndpi" and page.tags.valueof("ResolutionUnit") == CENTIMETRE:
        rows, columns = _resolution(page)
        sizes = None, rows and rows * 10, columns and columns * 10
    else:
        sizes = None
    lengths = [] if sizes is None else list(sizes[-rank:])
    known = [length for length in lengths if length is not None and math.isfinite(length) and length > 0]
    if len(known) != rank:
        return None
    for axis, name in ((-2, "Y"), (-1, "X")):
        known[axis] *= series.shape[series.axes.index(name)] / level.shape[level.axes.index(name)]
    return tuple(known)


def _ome_size(tiff: TiffFile, series: TiffPageSeries) -> Sizes | None:
    images = _ome(tiff.pages.first.description)
    if len(images) != len(tiff.series):
        return None
    pixels = next(image for image, one in zip(images, tiff.series, strict=True) if one is series)
    lengths: list[float | None] = []
    for axis in "ZYX":
        text, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        lengths.append(float(text) * MILLIMETRES[unit] if text and unit in MILLIMETRES else None)
    return lengths[0], lengths[1], lengths[2]


def _imagej_size(tiff: TiffFile, page: TiffPage) -> Sizes | None:
    facts = tiff.imagej_metadata or {}
    unit = MILLIMETRES.get(str(facts.get("unit", "")))
    if unit is None:
        return None
    rows, columns = _resolution(page)
    depth = facts.get("spacing")
    return depth and abs(float(depth)) * unit, rows and rows * unit, columns and columns * unit


def _resolution(page: TiffPage) -> tuple[float | None, float | None]:
    """Units of length a pixel, along rows' and columns' axes."""
    lengths: list[float | None] = []
    for name in ("YResolution", "XResolution"):
        value = page.tags.valueof(name)
        lengths.append(value[1] / value[0] if isinstance(value, tuple) and len(value) == 2 and value[0] else None)
    return lengths[0], lengths[1]


def _ome(description: str) -> list[dict[str, str]]:
    """The attributes of each image's pixels in OME-XML, whatever its namespace."""
    root = ET.fromstring(description)  # noqa: S314 - expat limits how far entities may grow
    return [dict(element.attrib) for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]


def _positive(text: str | None) -> int:
    return max(1, int(text[:MOST_DIGITS])) if text is not None and text.strip().isdecimal() else 1
