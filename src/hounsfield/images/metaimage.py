"""MetaImage volumes: ``.mha``, and ``.mhd`` with its data file beside it.

The format is that of MetaIO's documentation. Its (x, y, z) index is (column, row, slice) and its coordinates are LPS,
as an ``Image``'s are; ``TransformMatrix`` lists the direction of each of its axes in turn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.images.image import Image, Metadata
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.images.orientation import Affine, affine_from_directions, is_usable
from hounsfield.images.text_volumes import (
    Voxels,
    beside,
    decode,
    header_lines,
    header_start,
    known_lengths,
    numbers,
    positive_integers,
    refuse,
)
from hounsfield.images.volumes import alike, chosen_volume

# ElementType (MetaIO's metaTypes.h) -> NumPy type.
TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long": "i4",
    "met_ulong": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
# DistanceUnits -> millimetres; the field is rare, and millimetres where it is missing.
UNITS = {"": 1.0, "?": 1.0, "mm": 1.0, "cm": 10.0, "um": 0.001}
TRUE = frozenset({"true", "t", "1", "y", "yes"})

Fields = dict[str, str]


def read_metaimage(path: Path, max_pixels: int = MAX_PIXELS, volume: int | None = None) -> Image:
    """Read a MetaImage volume. Values keep their stored type.

    Without ``ElementSpacing`` (or ``ElementSize``) the spacing is unknown, and so is the position in the patient; the
    latter also where the header has neither an offset nor a matrix.

    Args:
        path: the file.
        max_pixels: the largest number of values accepted, all volumes together; checked before memory is taken.
        volume: which volume of a 4D file, from 0; required where there are several.

    Raises:
        ImageError: the file is missing, damaged, truncated, too large, a vector field, or holds several volumes
            of which none was chosen.
    """
    fields, end = _header(path)
    sizes = positive_integers(fields.get("dimsize", ""), path)
    channels = positive_integers(fields.get("elementnumberofchannels", "1"), path)
    if len(sizes) not in {2, 3, 4} or len(channels) != 1 or (len(sizes) == 4 and channels != (1,)):
        refuse(path, f"has axes of the sizes {sizes} and {channels[0]} values a voxel", "Expected one volume.")
    voxels = _voxels(fields, (*channels, *sizes), end, path)
    if channels == (3,) and voxels.dtype.kind == "f":
        refuse(path, "holds three real numbers a voxel: a vector field", "Expected an image; a deformation is none.")
    number = sizes[3] if len(sizes) == 4 else (1 if channels[0] in {1, 3, 4} else channels[0])
    chosen = chosen_volume(alike(sizes[2::-1], number), volume, path)
    geometry = _geometry(fields, len(sizes), path)
    values = decode(voxels, path, max_pixels)
    return _image(values[chosen] if len(sizes) == 4 else values, chosen if len(sizes) < 4 else 0, geometry)


def _image(values: NDArray[Any], chosen: int, geometry: tuple[tuple[float, ...] | None, Affine | None]) -> Image:
    """One volume of (slices, rows, columns, values a voxel); nothing says of a fourth value that it is transparency."""
    several = values.shape[-1] in {3, 4}
    bits = values.dtype.itemsize * 8 if values.dtype.kind in "iu" else None
    spacing, affine = geometry
    return Image(
        pixels=values if several else values[..., chosen, np.newaxis],
        spacing=spacing,
        affine=affine,
        metadata=Metadata(bits=bits),
    )


def _header(path: Path) -> tuple[Fields, int]:
    """The fields, names in lower case, and the byte after the header, which ends with the name of the data file."""
    fields: Fields = {}
    for line, position in header_lines(header_start(path)):
        name, found, value = line.partition("=")
        name = name.strip().lower()
        if found and not line.startswith("#"):
            fields[name] = value.strip()
        if found and name == "elementdatafile":
            return fields, position
    return refuse(path, "has no complete header", "Expected the text header of a MetaImage file.")


def _voxels(fields: Fields, sizes: tuple[int, ...], end: int, path: Path) -> Voxels:
    name = TYPES.get(fields.get("elementtype", "").lower())
    if name is None:
        refuse(
            path,
            f"stores values of the type '{fields.get('elementtype', '')}'",
            "Expected plain integers or floats; convert it first.",
        )
    big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "false")).lower() in TRUE
    local = fields["elementdatafile"].upper() == "LOCAL"
    compressed = fields.get("compresseddata", "").lower() in TRUE
    header_size = fields.get("headersize", "0")
    if not header_size.removeprefix("-").isdecimal() or int(header_size) < -1 or (compressed and int(header_size)):
        refuse(path, f"gives '{header_size}' as HeaderSize", "Expected a number of bytes, or -1; correct the header.")
    return Voxels(
        sizes=sizes,
        dtype=np.dtype(f"{'>' if big else '<'}{name}"),
        path=path if local else beside(path, fields["elementdatafile"]),
        offset=int(header_size) if int(header_size) > 0 else (end if local else 0),
        compressed=compressed,
        skip=None if int(header_size) == -1 else 0,
        text=fields.get("binarydata", "true").lower() not in TRUE,
    )


def _geometry(fields: Fields, rank: int, path: Path) -> tuple[tuple[float, ...] | None, Affine | None]:
    """Spacing, and the affine of a volume, where the header holds them."""
    given = min(rank, 3)
    text = fields.get("elementspacing", fields.get("elementsize"))
    unit = UNITS.get(fields.get("distanceunits", "").lower())
    if unit is None:
        refuse(path, f"measures lengths in '{fields['distanceunits']}'", "Expected um, mm or cm; correct the header.")
    lengths = None if text is None else known_lengths(numbers(text, rank, "ElementSpacing", path)[:given] * unit, path)
    if lengths is None:
        return None, None
    spacing = tuple(float(length) for length in lengths[::-1])
    origin = _first(fields, ("offset", "position", "origin"))
    matrix = _first(fields, ("transformmatrix", "rotation", "orientation"))
    if given < 3 or (origin is None and matrix is None):
        return spacing, None
    position = np.zeros(3) if origin is None else numbers(origin, rank, "Offset", path)[:3] * unit
    directions = np.eye(3)
    if matrix is not None:
        directions = numbers(matrix, rank * rank, "TransformMatrix", path).reshape(rank, rank)[:3, :3].T
    affine = affine_from_directions(position, lengths, directions)
    if not is_usable(affine):
        refuse(path, f"gives the geometry {affine.tolist()}", "Expected an invertible matrix; correct the header.")
    return spacing, affine


def _first(fields: Fields, names: tuple[str, ...]) -> str | None:
    return next((fields[name] for name in names if name in fields), None)
